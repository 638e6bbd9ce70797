"""Notes on outputs whose meaning the graph does not settle: other heads, embeddings, quantities."""

import numpy as np
import pytest
from small_models import filled

from onnxcam import Explainer, Preset
from onnxcam.errors import ModelError
from onnxcam.types import NoteCode

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (16, 12, 3)).astype(np.uint8)
BODY = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
net (float[N,3,16,12] x) => ({outputs})
<float[6,3,3,3] w, float[6,5] v, float[6,3] q, float[6,64] e, float[6,1] u, float[1] far = {{{far}}}, float[5] m, float[5] s>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  g = GlobalAveragePool (f)
  p = Flatten (g)
  {end}
}}"""


def codes(outputs: str, end: str, far: float = 0.0, **options: object) -> dict[NoteCode, str]:
    model = filled(BODY.format(outputs=outputs, end=end, far=far))
    with Explainer(model, "score-cam", preset=PLAIN, **options) as explainer:  # type: ignore[arg-type]
        return {n.code: n.text for n in explainer(PHOTOGRAPH).provenance.notes}


def test_other_outputs_of_classes_are_named() -> None:
    kinds = "float[N,5] kind, int64[N] colour, float[N,5] likely"
    end = "kind = MatMul (p, v) likely = Softmax <axis=1> (kind) k = MatMul (p, q) colour = ArgMax <axis=1, keepdims=0> (k)"
    notes = codes(kinds, end)
    assert "'likely' is explained; the model has other outputs of classes: colour (--output NAME)" in notes.values()
    assert NoteCode.OTHER_HEADS not in codes("float[N,5] y", "y = MatMul (p, v)")


@pytest.mark.parametrize(
    ("outputs", "end", "classes"),
    [
        ("float[N,64] y", "y = MatMul (p, e)", 64),
        ("float[N,5] y", "a = MatMul (p, v) y = LayerNormalization <axis=1> (a, m, s)", 5),
    ],
)
def test_numbers_that_may_be_an_embedding_are_doubted_unless_labels_name_them(
    outputs: str, end: str, classes: int
) -> None:
    assert "--reference" in codes(outputs, end)[NoteCode.MAY_BE_EMBEDDING]
    assert NoteCode.MAY_BE_EMBEDDING not in codes(outputs, end, labels=[f"c{i}" for i in range(classes)])
    softmax = end.replace("y = ", "b = ") + " y = Softmax <axis=1> (b)"
    assert NoteCode.MAY_BE_EMBEDDING not in codes(outputs, softmax)


def test_classes_that_all_score_alike_are_said_to_be_no_answer() -> None:
    alike = codes("float[N,5] y", "z = Sub (p, p) y = MatMul (z, v)")
    assert alike[NoteCode.CLASSES_ALIKE].startswith("the model gives all 5 classes the same score, so it has no answer")
    assert NoteCode.CLASSES_ALIKE not in codes("float[N,5] y", "y = MatMul (p, v)")
    assert NoteCode.CLASSES_ALIKE not in codes("float[N,1] y", "y = MatMul (p, u)")


def test_a_single_number_far_from_a_logit_is_said_to_be_a_quantity() -> None:
    end = "a = MatMul (p, u) y = Add (a, far)"
    assert "probably" in codes("float[N,1] y", end, 40.0)[NoteCode.SINGLE_OUTPUT]
    assert "probably" not in codes("float[N,1] y", end, 1.0)[NoteCode.SINGLE_OUTPUT]


@pytest.mark.parametrize(("kind", "option"), [("boxes", "--box"), ("region", "--region"), ("sequence", "--timestep")])
@pytest.mark.parametrize("output", [None, "y"])
def test_a_target_of_another_kind_than_a_classifiers_is_refused_with_the_way_out(
    kind: str, option: str, output: str | None
) -> None:
    model = filled(BODY.format(outputs="float[N,5] y", end="y = MatMul (p, v)", far=0.0))
    with pytest.raises(ModelError, match=f"leave {option} out: the model gives one vector of classes"):
        Explainer(model, "score-cam", preset=PLAIN, kind=kind, output=output)
