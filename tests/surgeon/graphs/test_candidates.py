"""Detections are led back to the candidates whose scores they carry, whatever chose them."""

import numpy as np
import onnx
import onnx.helper
import onnx.parser
import pytest
from detectors import TAILS, detector, picture, run, tensor
from small_models import CLASSIFIER, filled

from onnxcam.errors import ModelError
from onnxcam.network.dry_run import run_trace
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.candidate_table import CANDIDATE_BOXES, CANDIDATES
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.analysis.queries import Follow
from onnxcam.surgeon.analysis.selection import may_choose
from onnxcam.surgeon.graphs.candidates import BOXES, LABELS, PLACES, SCORES, SelectionGraphs, split_at_selection


def split(model: onnx.ModelProto, size: tuple[int, int] = (8, 8)) -> SelectionGraphs | None:
    graph = ir.from_proto(model)
    image = find_image(graph)
    trace = run_trace(graph, image, size, {})
    return split_at_selection(graph, trace.shapes, image.batch)


@pytest.mark.parametrize("tail", TAILS)
def test_each_score_is_led_back_to_the_only_candidate_that_has_it(tail: str) -> None:
    model, x = detector(tail), picture()
    graphs = split(model)
    assert graphs is not None
    assert graphs.follow is Follow.ROW
    results = run(graphs.detections, x)
    places, scores = results[PLACES].reshape(-1), results[SCORES].reshape(-1)
    table = tensor(model, "scores", x)[0]  # (16,3)
    if "probabilities of each" in tail:
        table = table**2
    chosen = np.flatnonzero(places)
    assert len(chosen) >= 3
    for i in chosen:
        rows, columns = np.nonzero(np.abs(table - scores[i]) < 1e-6)
        assert [(int(r), int(c)) for r, c in zip(rows, columns, strict=True)] == [divmod(int(places[i]) - 1, 3)]


@pytest.mark.parametrize("tail", TAILS)
def test_the_table_holds_the_scores_before_the_selection(tail: str) -> None:
    model, x = detector(tail), picture(2)
    graphs = split(model)
    assert graphs is not None
    table = tensor(model, "scores", x)
    expected = table**2 if "probabilities of each" in tail else table
    np.testing.assert_allclose(run(graphs.candidates, x)[CANDIDATES], expected, rtol=1e-6)
    assert not {n.op_type for n in graphs.candidates.graph} & {"TopK", "NonMaxSuppression", "NonZero", "Compress"}


@pytest.mark.parametrize("tail", [t for t in TAILS if "two levels" not in t])
def test_the_boxes_of_the_candidates_are_those_of_the_detections(tail: str) -> None:
    model, x = detector(tail), picture()
    graphs = split(model)
    assert graphs is not None
    sides, results = run(graphs.candidates, x)[CANDIDATE_BOXES], run(graphs.detections, x)
    np.testing.assert_array_equal(sides, tensor(model, "sides", x))
    if BOXES in results:
        rows = (results[PLACES].reshape(-1) - 1) // 3
        np.testing.assert_array_equal(results[BOXES].reshape(-1, 4), sides[0][rows])


def test_labels_are_the_columns_of_the_table() -> None:
    results = run(split(detector("suppressed by class")).detections, picture())  # type: ignore[union-attr]
    np.testing.assert_array_equal(results[LABELS], (results[PLACES] - 1) % 3)


def test_numbers_that_are_no_scores_have_no_place() -> None:
    results = run(split(detector("padded to a fixed number")).detections, picture())  # type: ignore[union-attr]
    places = results[PLACES][0]
    assert not places[:, [0, 1, 2, 3, 5]].any()
    assert not places[-6:].any()
    assert places[:-6, 4].all()


def test_scores_that_are_computed_after_suppression_are_refused() -> None:
    nodes = """
      chosen = NonMaxSuppression (sides, classes_first, most, iou, least)
      a = GatherND (classes_first, chosen)  b = GatherND (logits, chosen)  best = Mul (a, b)
      ib = Gather <axis=1> (chosen, image_and_box)  boxes = GatherND (sides, ib)"""
    nodes = nodes.replace("GatherND (logits, chosen)", "Exp (a)")
    with pytest.raises(ModelError, match="cannot be led back to the candidates; explain the export without that step"):
        split(detector(nodes, outputs="float[D,4] boxes, float[D] best"))


def test_a_classifier_that_ranks_its_classes_chooses_no_boxes() -> None:
    text = CLASSIFIER.replace("(float[N,5] logits)", "(float[N,3] best, int64[N,3] which)").replace(
        "logits = Gemm <transB=1> (flat, w3, b3)",
        "logits = Gemm <transB=1> (flat, w3, b3)\n k = Constant <value_ints=[3]> ()\n best, which = TopK (logits, k)",
    )
    assert split(filled(text), (16, 12)) is None
    assert not may_choose(ir.from_proto(filled(CLASSIFIER)))


def test_a_table_without_selection_is_left_as_it_is() -> None:
    assert (
        split(detector("t = Identity (scores) s = Identity (sides)", outputs="float[1,16,3] t, float[1,16,4] s"))
        is None
    )


def test_an_axis_of_one_image_beside_boxes_without_it_hides_no_labels() -> None:
    nodes, signature = TAILS["suppressed by class"][1], "float[D,4] boxes, float[1,D] b1, int64[1,D] l1"
    nodes += " b1 = Unsqueeze (best, zero)  l1 = Unsqueeze (labels, zero)"
    graphs = split(detector(nodes, outputs=signature))
    assert graphs is not None
    results = run(graphs.detections, picture())
    np.testing.assert_array_equal(results[LABELS], (results[PLACES] - 1) % 3)


def test_what_only_a_branch_behind_the_candidates_reads_is_left_out() -> None:
    """As torchvision exports suppression: in a branch for the case that there is any box."""
    nodes = """
      top = ReduceMax <axes=[2], keepdims=0> (scores)  line = Squeeze (top, zero)  s = Squeeze (sides, zero)
      above = Greater (line, half)  where = NonZero (above)  k = Squeeze (where, zero)
      l1 = Gather <axis=0> (line, k)  s1 = Gather <axis=0> (s, k)
      n = Size (l1)  any = Greater (n, i0)
      keep = If (any) <
        then_branch = some () => (int64[E] kept) {
          lb = Unsqueeze (l1, two_axes)  sb = Unsqueeze (s1, zero)
          chosen = NonMaxSuppression (sb, lb, most, iou, least)
          picked = Gather <axis=1> (chosen, i2)  kept = Identity (picked) },
        else_branch = none_left () => (int64[E] nothing) { nothing = Identity (k) }>
      best = Gather <axis=0> (l1, keep)  boxes = Gather <axis=0> (s1, keep)"""
    model = detector(nodes, outputs="float[D,4] boxes, float[D] best")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 1]), "two_axes"))
    graphs = split(model)
    assert graphs is not None
    assert graphs.follow is Follow.ROW
    assert not {n.op_type for n in graphs.candidates.graph} & {"If", "NonZero", "Gather"}
    results = run(graphs.detections, picture())
    table = tensor(model, "scores", picture()).reshape(-1)
    np.testing.assert_array_equal(table[results[PLACES] - 1], results[SCORES])
