"""A network with a class token: after its last attention the patches are computed and not read."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from programs import tool
from small_models import TRANSFORMER, filled

from onnxcam import Explainer, NoteCode, grad_cam, recipro_cam, score_cam
from onnxcam.errors import UndefinedSaliency
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.dominators import dominators

IMAGE = np.random.default_rng(2).standard_normal((3, 12, 12)).astype(np.float32)


@pytest.fixture
def transformer() -> onnx.ModelProto:
    return filled(TRANSFORMER)


def test_dominators_are_the_tensors_on_every_path(transformer: onnx.ModelProto) -> None:
    names = dominators(ir.in_order(ir.from_proto(transformer)), "x", "logits")
    assert names == ["c", "flat", "patches", "tokens", "attended", "out", "chosen"]


def test_a_method_that_reads_the_gradient_takes_the_last_tensor_whose_patches_count(
    transformer: onnx.ModelProto,
) -> None:
    with Explainer(transformer, score_cam(), providers=["cpu"]) as explain:
        assert explain.anatomy.features.tensor == "out"
    for method in (grad_cam(), recipro_cam()):
        with Explainer(transformer, method, providers=["cpu"]) as explain:
            saliency = explain(IMAGE)
        assert saliency.provenance.layer == "tokens"
        assert "behind it only the class token is read" in saliency.provenance.layer_reason
        assert saliency.raw.shape == (3, 3)


def test_a_size_that_is_read_from_an_earlier_tensor_is_no_way_around_the_tokens() -> None:
    """As PiT's class token is cut off: by the number of cells of the map before the block."""
    text = TRANSFORMER.replace(
        "chosen = Gather <axis=1> (out, first)",
        """sizes = Shape (flat)
  cells = Gather <axis=0> (sizes, two)
  minus = Neg (cells)
  length = Unsqueeze (minus, zeros)
  cut = Slice (out, zeros, length, ones)
  chosen = Gather <axis=1> (cut, first)""",
    ).replace("first = {0}", "first = {0}, int64 two = {2}, int64[1] zeros = {0}, int64[1] ones = {1}")
    with Explainer(filled(text), grad_cam(), providers=["cpu"]) as explain:
        assert explain(IMAGE).provenance.layer == "tokens"


def test_a_layer_that_the_caller_names_is_used_unchanged(transformer: onnx.ModelProto) -> None:
    with (
        Explainer(transformer, grad_cam(), providers=["cpu"], layer="out") as explain,
        pytest.raises(UndefinedSaliency, match="zero at every feature"),
    ):
        explain(IMAGE)


def test_the_map_is_grad_cam_by_finite_differences_of_the_tokens(transformer: onnx.ModelProto) -> None:
    with Explainer(transformer, grad_cam(), providers=["cpu"]) as explain:
        saliency = explain(IMAGE)
    weights = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in transformer.graph.initializer}

    def logit(tokens: np.ndarray) -> float:
        scores = tokens @ weights["q"] @ tokens.T
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        attended = tokens + (e / e.sum(axis=1, keepdims=True)) @ tokens
        out = attended + np.maximum(attended @ weights["w"], 0)
        return float((out[0] @ weights["v"])[saliency.target.index])

    blocks = IMAGE.astype(np.float64).reshape(3, 3, 4, 3, 4).transpose(1, 3, 0, 2, 4).reshape(9, -1)
    tokens = np.concatenate([weights["token"][0], blocks @ weights["patch"].reshape(6, -1).T])
    slope = np.zeros((9, 6))
    for cell in range(9):
        for channel in range(6):
            nudge = np.zeros_like(tokens)
            nudge[1 + cell, channel] = 1e-5
            slope[cell, channel] = (logit(tokens + nudge) - logit(tokens - nudge)) / 2e-5
    expected = (tokens[1:] @ slope.mean(axis=0)).reshape(3, 3)
    np.testing.assert_allclose(saliency.raw, expected, rtol=1e-3, atol=1e-5)


def test_rule_coverage_counts_what_lacks_a_rule(
    transformer: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coverage = tool("rule_coverage")
    onnx.save(transformer, str(tmp_path / "vit.onnx"))
    onnx.save(
        filled(TRANSFORMER.replace("active = Relu (hidden)", "active = Det (hidden)"), check=False),
        str(tmp_path / "odd.onnx"),
    )
    assert coverage.main([str(tmp_path / "vit.onnx")]) == 0
    assert "complete: 1 of 1 = 100.0%" in capsys.readouterr().out
    assert coverage.main([str(tmp_path)]) == 0
    assert "odd.onnx: not opened" in capsys.readouterr().out


def two_streams() -> onnx.ModelProto:
    """Two transformers, of patches of 4 and of 6 pixels, whose logits are added; in each a residual sum comes first."""
    names = ("patch token q w v rows c flat patches tokens query keys similar weights mixed attended hidden active out"
             " chosen logits").split()  # fmt: skip
    words = TRANSFORMER[TRANSFORMER.index("  c = Conv") : TRANSFORMER.rindex("}")]
    words = words.replace("tokens = Concat <axis=1> (token, patches)", "start = Concat <axis=1> (token, patches)\n"
                          "  moved = MatMul (start, w)\n  tokens = Add (start, moved)")  # fmt: skip
    second = words.replace("4,4", "6,6")
    for name in [*names, "start", "moved"]:
        second = re.sub(rf"\b{name}\b", f"{name}2", second)
    first = re.sub(r"\blogits\b", "one", words)
    return filled(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        vit (float[1,3,12,12] x) => (float[1,5] logits)
        <float[6,3,4,4] patch, float[1,1,6] token, float[6,6] q, float[6,6] w, float[6,5] v, int64[3] rows = {{0, 6, 9}},
         float[6,3,6,6] patch2, float[1,1,6] token2, float[6,6] q2, float[6,6] w2, float[6,5] v2,
         int64[3] rows2 = {{0, 6, 4}}, int64 first = {{0}}>
        {{ {first} {second}
           logits = Add (one, logits2) }}"""
    )


def test_two_streams_with_class_tokens_each_have_a_last_tensor_whose_patches_count() -> None:
    with Explainer(two_streams(), grad_cam(), providers=["cpu"]) as explain:
        saliency = explain(IMAGE)
        names = [f.tensor for f in explain.anatomy.branches]
    assert names == ["tokens2", "tokens"]
    assert saliency.provenance.layer == "tokens2"
    (note,) = [n for n in saliency.provenance.notes if n.code is NoteCode.OTHER_BRANCHES]
    assert note.text.endswith("--layer tokens2 --layer tokens fuses the maps")
    with Explainer(two_streams(), grad_cam(), providers=["cpu"], layer=names) as explain:
        assert len(explain(IMAGE).provenance.layers) == 2
    with Explainer(two_streams(), score_cam(), providers=["cpu"]) as explain:
        assert [f.tensor for f in explain.anatomy.branches] == ["out2", "out"]


def test_streams_whose_patches_are_averaged_keep_their_last_tokens() -> None:
    proto = two_streams()
    for node in proto.graph.node:
        if node.op_type == "Gather":
            del node.input[1:]
            node.op_type = "ReduceMean"
            node.attribute[0].CopyFrom(onnx.helper.make_attribute("axes", [1]))
            node.attribute.append(onnx.helper.make_attribute("keepdims", 0))
    with Explainer(proto, grad_cam(), providers=["cpu"]) as explain:
        assert [f.tensor for f in explain.anatomy.branches] == ["out2", "out"]
        assert explain(IMAGE).provenance.layer == "out2"
