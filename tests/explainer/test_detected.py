"""Detections of a model with a selection inside are explained by their candidates' scores."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.helper
import onnxruntime
import pytest
from detectors import QUERIES, TAILS, detector, picture
from small_models import filled

from onnxcam import Box, Explainer
from onnxcam.errors import ModelError, TargetError
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.loading import read_model
from onnxcam.types import NoteCode, Score

PLAIN = detector("t = Identity (scores) s = Identity (sides)", outputs="float[1,16,3] t, float[1,16,4] s")


FLAT = (
    QUERIES.replace("best = ReduceMax <axes=[2], keepdims=0> (proposed)", "best = Flatten <axis=1> (proposed)")
    .replace("top, chosen = TopK (best, five)", "top, places = TopK (best, five)  chosen = Div (places, three)")
    .replace("int64[1] five = {5}", "int64[1] five = {5}, int64 three = {3}")
)
"""The same for the five best scores of all cells and classes, so that a cell may have several queries."""


def explainer(model: onnx.ModelProto, method: str = "score-cam", labels: Sequence[str] | None = None) -> Explainer:
    return Explainer(model, method, providers=["cpu"], preset="raw", cache=False, labels=labels)


def explain(model: onnx.ModelProto, target: Box | None, method: str = "score-cam") -> Saliency:
    with explainer(model, method) as e:
        (saliency,) = e.explain(picture()[0], target)
    return saliency


def outputs(model: onnx.ModelProto, *names: str, x: np.ndarray | None = None) -> list[np.ndarray]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        if name not in {o.name for o in model.graph.output}:
            copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(names), {"x": picture() if x is None else x})


@pytest.mark.parametrize("method", ["score-cam", "grad-cam"])
@pytest.mark.parametrize("tail", [t for t in TAILS if "probabilities of each" not in t])
def test_the_best_detection_has_the_map_of_its_row_in_the_export_without_selection(tail: str, method: str) -> None:
    (scores,) = outputs(PLAIN, "t")
    among = scores[0, :, 1:] if tail == "of each class" else scores[0]
    row, column = divmod(int(among.argmax()), among.shape[1])
    column += 3 - among.shape[1]
    expected = explain(PLAIN, Box(row, column), method)
    actual = explain(detector(tail), None, method)
    np.testing.assert_allclose(actual.raw, expected.raw, rtol=1e-5, atol=1e-7)
    assert actual.target.logit == pytest.approx(float(scores[0, row, column]))
    assert actual.target.name.startswith(f"class {column} in detection ")


def test_a_number_names_a_row_of_the_models_own_list() -> None:
    model = detector("suppressed by class")
    best, labels = outputs(model, "best", "labels")
    for i in (0, 2):
        target = explain(model, Box(i)).target
        assert target.logit == pytest.approx(float(best[i]))
        assert target.label == f"class {labels[i]} in detection {i}"
        assert (target.class_index, target.class_label, target.box_number) == (labels[i], None, i)


def test_a_class_means_its_best_detection() -> None:
    model = detector("suppressed by class")
    best, labels = outputs(model, "best", "labels")
    with explainer(model, labels=["bolt", "nut", "washer"]) as e:
        (saliency,) = e.explain(picture()[0], "nut")
    assert saliency.target.logit == pytest.approx(float(best[labels == 1].max()))
    assert saliency.target.name.startswith("nut in detection ")
    target = saliency.target
    assert (target.class_index, target.class_label) == (1, "nut")
    with explainer(model, "grad-cam") as e:
        again = e(picture()[0], Box(target.box_number, target.class_index)).target  # type: ignore[arg-type]
    assert again.index == target.index


def test_the_rank_of_a_class_is_that_of_its_best_detection() -> None:
    model = detector("suppressed by class")
    best, labels = outputs(model, "best", "labels")
    classes = sorted(set(labels.tolist()), key=lambda c: -best[labels == c].max())
    assert classes != sorted(classes)
    for rank, c in enumerate(classes, start=1):
        assert explain(model, Box("top1", f"rank{rank}")).target.logit == pytest.approx(float(best[labels == c].max()))


def test_a_label_that_begins_with_top_is_no_rank() -> None:
    model = detector("suppressed by class")
    with explainer(model, labels=["bolt", "top nut", "washer"]) as e:
        (saliency,) = e.explain(picture()[0], "top nut")
    assert saliency.target.name.startswith("top nut in detection ")


def test_the_target_of_a_result_is_the_same_candidate_on_another_picture() -> None:
    model = detector("suppressed by class")
    with explainer(model) as e:
        (first,) = e.explain(picture()[0])
        (again,) = e.explain(picture(5)[0], first.target)
    assert again.target.index == first.target.index
    assert first.target.output == "best"  # an output of the model, not of the graph that is made of it
    (scores,) = outputs(PLAIN, "t", x=picture(5))
    assert again.target.logit == pytest.approx(float(scores.reshape(-1)[first.target.index]))


def test_the_box_is_that_of_the_models_own_list() -> None:
    model = detector("suppressed by class")
    (boxes,) = outputs(model, "boxes")
    i = next(k for k, (left, top, right, bottom) in enumerate(boxes) if right > left and bottom > top)
    box = explain(model, Box(i)).target.box
    if np.abs(boxes).max() <= 2:  # fractions of the input
        boxes = boxes * 8
    assert box is None or np.allclose(box, boxes[i], atol=1e-4)


def test_nothing_detected_is_said() -> None:
    model = detector(
        TAILS["suppressed by class"][1].replace("least)", "never)"), outputs=TAILS["suppressed by class"][0]
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0.9999], np.float32), "never"))
    with pytest.raises(TargetError, match="nothing was detected on this picture"):
        explain(model, None)


def test_inputs_by_which_detections_are_chosen_and_which_are_not_given_are_noted() -> None:
    model = detector("suppressed by class")
    for weight in [w for w in model.graph.initializer if w.name in ("least", "most")]:
        model.graph.initializer.remove(weight)
        declared = onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        model.graph.input.append(declared)
    given = {"most": np.array([20])}
    with Explainer(model, "grad-cam", providers=["cpu"], preset="raw", cache=False, inputs=given) as e:
        blank = e.explain(picture()[0])[0]
        both = e.explain(picture()[0], inputs={"least": np.array([0.3])})[0]
    notes = [[n.text for n in s.provenance.notes if n.code is NoteCode.INPUTS_BLANK] for s in (blank, both)]
    assert [len(n) for n in notes] == [1, 0]
    assert "zeros stand for least," in notes[0][0]
    with (
        Explainer(model, "grad-cam", providers=["cpu"], preset="raw", cache=False) as e,
        pytest.raises(TargetError, match="zeros stand for most, least"),
    ):
        e.explain(picture()[0])


def test_a_class_that_is_not_detected_is_said_with_those_that_are() -> None:
    model = detector("of each class")
    with pytest.raises(TargetError, match=r"no 0 was detected on this picture; detected: class \d 0\.\d+"):
        explain(model, Box("top1", 0))


def test_a_row_beyond_the_list_is_refused() -> None:
    with pytest.raises(TargetError, match="none of the detections 0 to 4"):
        explain(detector("the best of all numbers"), Box(5))


def test_the_final_output_can_be_named() -> None:
    model = detector("the best of all numbers")
    expected = explain(model, None)
    named = explain(model, Box(output="boxes"))
    np.testing.assert_array_equal(named.map, expected.map)


def test_suppressed_boxes_whose_scores_are_lost_are_refused_with_what_to_export() -> None:
    nodes = """
      chosen = NonMaxSuppression (sides, classes_first, most, iou, least)
      a = GatherND (classes_first, chosen)  b = Exp (a)  best = Mul (a, b)
      ib = Gather <axis=1> (chosen, image_and_box)  boxes = GatherND (sides, ib)"""
    with pytest.raises(ModelError, match="explain the export without that step"):
        explain(detector(nodes, outputs="float[D,4] boxes, float[D] best"), None)


def test_a_query_is_followed_by_its_cell_through_masked_images() -> None:
    """Against a naive loop: the row whose TopK index is the cell, else a probability of nothing."""
    proto = filled(QUERIES, seed=3, check=False)
    x = picture(2)
    logits, chosen = outputs(proto, "logits", "chosen", x=x)
    query, column = divmod(int(logits[0].argmax()), 3)
    cell = int(chosen[0, query])
    opened = open_model(read_model(proto), OpenOptions(providers=("cpu",), cache=False))
    network, place = opened.network, cell * 3 + column
    feeds = {**network.feeds(x[0], None, {}), "onnxcam/targets": np.array([place])}
    masks = np.random.default_rng(4).random((40, 1, 4, 4), np.float32)
    scores = network.score(feeds, masks, Score.PROBABILITY)[:, 0]
    lost = 0
    for mask, score in zip(masks, scores, strict=True):
        masked = x * _enlarged(mask[0])
        logits, chosen = outputs(proto, "logits", "chosen", x=masked.astype(np.float32))
        (rows,) = np.nonzero(chosen[0] == cell)
        expected = 1 / (1 + np.exp(-logits[0, rows[0], column])) if len(rows) else 0.0
        lost += not len(rows)
        assert score == pytest.approx(expected, abs=1e-5)
    assert 0 < lost < len(masks)
    network.close()


def test_queries_that_are_the_best_numbers_of_all_cells_are_followed_too() -> None:
    proto, x = filled(FLAT, seed=3, check=False), picture(2)
    logits, chosen = outputs(proto, "logits", "chosen", x=x)
    query, column = divmod(int(logits[0].argmax()), 3)
    with explainer(proto, "grad-cam") as e:
        (saliency,) = e.explain(x[0])
    assert divmod(saliency.target.index, 3) == (int(chosen[0, query]), column)
    assert saliency.target.logit == pytest.approx(float(logits.max()), abs=1e-5)


def test_two_queries_of_one_cell_are_refused() -> None:
    proto = filled(FLAT, seed=3, check=False)
    (chosen,) = outputs(proto, "chosen", x=picture(6))
    cells, counts = np.unique(chosen[0], return_counts=True)
    assert counts.max() > 1
    query = int(np.flatnonzero(chosen[0] == cells[counts.argmax()])[0])
    with explainer(proto) as e, pytest.raises(TargetError, match="cell another query was chosen from too"):
        e.explain(picture(6)[0], Box(query))


def _enlarged(mask: np.ndarray) -> np.ndarray:
    """(4,4) to (8,8), half-pixel linear, then stretched to [0,1]."""
    from onnxcam.resampling import bilinear_matrix

    matrix = bilinear_matrix(4, 8)
    up = matrix @ mask @ matrix.T
    return (up - up.min()) / (up.max() - up.min())


def test_a_query_that_is_followed_is_noted_and_named_by_its_row() -> None:
    proto = filled(QUERIES, seed=3, check=False)
    with explainer(proto, "grad-cam") as e:
        best, third = e.explain(picture(2)[0], [None, Box(3)])
    assert NoteCode.FOLLOWED in {note.code for note in best.provenance.notes}
    logits = outputs(proto, "logits", x=picture(2))[0][0]
    assert best.target.logit == pytest.approx(float(logits.max()), abs=1e-5)
    assert third.target.logit == pytest.approx(float(logits[3].max()), abs=1e-5)
    assert third.target.name == f"class {logits[3].argmax()} in detection 3"
    assert third.target.probability == pytest.approx(1 / (1 + np.exp(-float(logits[3].max()))), abs=1e-5)


def test_the_map_of_a_query_is_the_one_that_its_cell_lies_on() -> None:
    saliency = explain(filled(QUERIES, seed=3, check=False), None, "grad-cam")
    assert saliency.provenance.features == (6, 4, 4)


TWO_TABLES = (
    QUERIES.replace("float[1,5,3] logits,", "float[1,5,3] logits, float[1,5,2] early,")
    .replace("float[6,4] wb,", "float[6,4] wb, float[6,2] wr,")
    .replace("logits = MatMul (hidden, wl)", "logits = MatMul (hidden, wl)  early = MatMul (hidden, wr)")
)


@pytest.mark.parametrize(("name", "first"), [("logits", "early"), ("early", "logits")])
def test_of_two_tables_the_named_one_is_explained_again(name: str, first: str) -> None:
    model = filled(TWO_TABLES, seed=3, check=False)
    with Explainer(model, "grad-cam", providers=["cpu"], preset="raw", cache=False, output=name) as e:
        (saliency,) = e.explain(picture()[0])
        e.explain(picture()[0], Box("top1", output=first))
        (again,) = e.explain(picture()[0], saliency.target)
    (logits,) = outputs(model, name)
    assert saliency.target.output == name
    assert saliency.target.logit == pytest.approx(float(logits.max()), rel=1e-4)
    assert again.target == saliency.target
    np.testing.assert_array_equal(again.map, saliency.map)
