"""A table of proposals has the classes that its layers say, however few proposals the test picture got."""

import numpy as np
import onnx
import pytest
from detectors import LISTS, detector, picture, run, tensor
from onnx.numpy_helper import from_array

from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError, ModelError
from onnxcam.network.dry_run import run_trace
from onnxcam.network.selection import refused_if_not_led_back
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.candidate_table import CANDIDATES
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.analysis.queries import Follow
from onnxcam.surgeon.graphs.candidates import BOXES, LABELS, PLACES, SCORES, SelectionGraphs, split_at_selection

FOREGROUND = 3
PROPOSALS = """
  objectness = ReduceMax <axes=[1], keepdims=1> (classes_first)
  proposed = NonMaxSuppression (sides, objectness, limit, whole, least_of_all)
  row = Gather <axis=1> (proposed, i2)
  s = Squeeze (sides, zero)  regions = Gather <axis=0> (s, row)
  l = Squeeze (logits, zero)  pooled = Gather <axis=0> (l, row)
"""
HEADS = {
    "softmax": "z = Gemm (pooled, w, bias)  pr = Softmax <axis=1> (z)  p1 = Slice (pr, one, far, one)",
    "sigmoid": "z = MatMul (pooled, w)  zb = Add (z, bias)  z1 = Slice (zb, one, far, one)  p1 = Sigmoid (z1)",
    "with an axis of one image": """z = Gemm (pooled, w, bias)  zu = Unsqueeze (z, zero)  pr = Softmax <axis=2> (zu)
      p0 = Squeeze (pr, zero)  p1 = Slice (p0, one, far, one)""",
    "reshaped before": """z = Gemm (pooled, w, bias)  zr = Reshape (z, image_first)  pr = Sigmoid (zr)
      p0 = Squeeze (pr, zero)  p1 = Slice (p0, one, far, one)""",
}
UNKNOWN = "z = Gemm (pooled, w, bias)  zs = Sum (z, bias)  pr = Sigmoid (zs)  p1 = Slice (pr, one, far, one)"
"""A head of which the axis of classes is not traced."""
SELECTIONS = {
    "flattened": """r4 = Unsqueeze (regions, one)  r3 = Tile (r4, by_foreground)  b = Reshape (r3, four_last)
      n = Reshape (p1, line)
      nb = Unsqueeze (b, zero)  nl = Unsqueeze (n, zero)  ns = Unsqueeze (nl, zero)
      kept = NonMaxSuppression (nb, ns, most, iou, least_of_all)
      k = Gather <axis=1> (kept, i2)
      boxes = Gather <axis=0> (b, k)  best = Gather <axis=0> (n, k)  labels = Mod (k, classes)""",
    "classes first": """t = Transpose <perm=[1,0]> (p1)  cf = Unsqueeze (t, zero)  rb = Unsqueeze (regions, zero)
      kept = NonMaxSuppression (rb, cf, most, iou, least_of_all)
      best = GatherND (cf, kept)  ib = Gather <axis=1> (kept, image_and_box)  boxes = GatherND (rb, ib)
      labels = Gather <axis=1> (kept, i1)""",
}


def proposing(head: str, selection: str, limit: int) -> onnx.ModelProto:
    """A detector that classifies at most `limit` proposals anew."""
    model = detector(f"{PROPOSALS}{HEADS[head]}\n{SELECTIONS[selection]}", outputs=LISTS)
    weights = {
        "w": np.random.default_rng(3).standard_normal((3, 1 + FOREGROUND)).astype(np.float32),
        "bias": np.array([0.1, -0.2, 0.3, 0.0], np.float32),
        "limit": np.array([limit]),
        "whole": np.array([1.0], np.float32),
        "least_of_all": np.array([0.0], np.float32),
        "far": np.array([99]),
        "image_first": np.array([1, -1, 1 + FOREGROUND]),
        "by_foreground": np.array([1, FOREGROUND, 1]),
        "four_last": np.array([-1, 4]),
        "line": np.array([-1]),
    }
    model.graph.initializer.extend(from_array(array, name) for name, array in weights.items())
    onnx.checker.check_model(model, full_check=True)
    return model


def split_after(head: str, selection: str, proposals: int) -> tuple[onnx.ModelProto, SelectionGraphs]:
    """The detector and its graphs, made from the shapes of a run with this many proposals."""
    traced, model = (ir.from_proto(proposing(head, selection, limit)) for limit in (proposals, 16))
    image = find_image(model)
    graphs = split_at_selection(model, run_trace(traced, image, (8, 8), {}).shapes, image.batch)
    assert graphs is not None
    return proposing(head, selection, 16), graphs


@pytest.mark.parametrize("proposals", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("head", HEADS)
def test_each_class_has_its_best_proposal_however_few_the_test_picture_got(
    head: str, selection: str, proposals: int
) -> None:
    model, graphs = split_after(head, selection, proposals)
    assert (graphs.follow, graphs.shape) == (Follow.BEST, (1, 1, FOREGROUND))
    x = picture(1)
    table = tensor(model, "p1", x)
    assert len(table) > FOREGROUND
    np.testing.assert_allclose(run(graphs.candidates, x)[CANDIDATES], table.max(axis=0)[None, None], rtol=1e-6)
    results = run(graphs.detections, x)
    assert len(results[SCORES]) == len(results[BOXES]) > FOREGROUND
    np.testing.assert_array_equal(results[PLACES] - 1, results[LABELS])


def test_an_axis_that_no_layer_tells_is_refused_after_a_run_with_one_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, "unknown", UNKNOWN)
    with pytest.raises(ModelError, match="which axis of 'p1' lists the classes is not known; explain the export"):
        split_after("unknown", "flattened", 1)


def test_a_table_that_does_not_run_on_a_picture_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The axis of classes was taken for that of two proposals."""
    monkeypatch.setitem(HEADS, "unknown", UNKNOWN)
    _, graphs = split_after("unknown", "flattened", 2)
    session = Session(ir.to_bytes(graphs.candidates), ("cpu",))
    with (
        pytest.raises(ModelError, match=r"^the detections in 'boxes' cannot be led back .* without selection"),
        refused_if_not_led_back("boxes"),
    ):
        session.run(session.outputs, {"x": picture(1)})


def test_what_fails_elsewhere_keeps_its_error() -> None:
    with pytest.raises(InferenceError, match="this explainer is closed"), refused_if_not_led_back("boxes"):
        raise InferenceError("this explainer is closed")
