"""Targets made ready: which number of the answer each name means, worked out by hand."""

import numpy as np
import pytest

from onnxcam import Box, Element, Region, Similarity
from onnxcam.errors import TargetError
from onnxcam.explainer.targets.box import suppressed
from onnxcam.explainer.targets.kind import HeadOutput
from onnxcam.explainer.targets.resolving import bind
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.graphs.masked_score import REFERENCES, REGIONS, TARGETS
from onnxcam.types import Placement

LABELS = ["cat", "dog", "bird"]


def seen(kind: Kind, shape: tuple[int, ...], values: np.ndarray, **more: object) -> HeadOutput:
    classes = {Kind.CLASSES: shape[-1], Kind.REGION: shape[1], Kind.BOXES: min(shape[1:]) - 4}.get(kind, values.size)
    logits = Logits("t", "out", "none", classes, "", kind, shape, first_class=4 if kind is Kind.BOXES else 0)
    rest = {"labels": None, "size": (8, 8), "placement": None, **more}
    return HeadOutput(logits, values.astype(np.float64), **rest)  # type: ignore[arg-type]


def test_classes_come_with_probability_and_logit() -> None:
    answer = seen(Kind.CLASSES, (1, 3), np.log([0.2, 0.5, 0.3]), labels=LABELS)
    feeds, scored = bind([None, "bird", 0], answer)
    assert feeds[TARGETS].tolist() == [1, 2, 0]
    assert [t.label for t in scored] == ["dog", "bird", "cat"]
    np.testing.assert_allclose([t.probability for t in scored], [0.5, 0.3, 0.2])


def test_an_element_is_found_by_its_place_and_negative_places_count_from_the_end() -> None:
    answer = seen(Kind.ELEMENTS, (1, 2, 5), np.arange(10.0))
    feeds, scored = bind([Element((1, 3)), Element((-1, -1))], answer)
    assert feeds[TARGETS].tolist() == [8, 9]
    assert [(t.name, t.logit, t.kind) for t in scored] == [
        ("out[1, 3]", 8.0, "elements"),
        ("out[-1, -1]", 9.0, "elements"),
    ]


@pytest.mark.parametrize("index", [(2, 0), (0,), (0, 0, 0), (0, 5), (-3, 0)])
def test_places_outside_an_output_are_refused(index: tuple[int, ...]) -> None:
    with pytest.raises(TargetError, match="not inside the output"):
        bind([Element(index)], seen(Kind.ELEMENTS, (1, 2, 5), np.arange(10.0)))


def test_no_place_means_the_only_number_of_an_output_and_else_none() -> None:
    with pytest.raises(TargetError, match="none is the best one; name one by its index, such as --index 0,0"):
        bind([Element(())], seen(Kind.ELEMENTS, (1, 2, 5), np.arange(10.0)))
    feeds, _ = bind([Element(())], seen(Kind.ELEMENTS, (1, 1), np.arange(1.0)))
    assert feeds[TARGETS].tolist() == [0]


BOXES = np.array(
    [
        # cx, cy, w, h, then the classes
        [10, 10, 10, 10, 0.1, 0.9, 0.0],
        [11, 10, 10, 10, 0.2, 0.8, 0.0],  # overlaps the first
        [50, 50, 10, 10, 0.7, 0.1, 0.0],
        [90, 10, 10, 10, 0.0, 0.1, 0.6],
        *[[200 + 20 * i, 0, 5, 5, 0, 0, 0] for i in range(6)],
    ]
)


def test_boxes_are_ranked_after_non_maximum_suppression() -> None:
    assert suppressed(BOXES[:4, :4], BOXES[:4, 4:].max(axis=1)) == [0, 2, 3]
    answer = seen(Kind.BOXES, (1, 7, 10), BOXES.T.reshape(-1), labels=LABELS)
    feeds, scored = bind([Box(), Box("rank2"), Box("top1", "dog"), Box(1), "bird"], answer)
    rows, columns = np.unravel_index(feeds[TARGETS], (7, 10))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(5, 0), (4, 2), (5, 0), (5, 1), (6, 3)]
    assert [t.logit for t in scored] == [0.9, 0.7, 0.9, 0.8, 0.6]
    assert scored[1].name == "cat in box 2"
    assert [(t.class_index, t.class_label, t.box_number) for t in scored[1:3]] == [(0, "cat", 2), (1, "dog", 0)]


def test_a_table_with_boxes_first_has_an_objectness_column() -> None:
    table = np.concatenate([BOXES[:, :4], np.ones((10, 1)), BOXES[:, 4:]], axis=1)
    logits = Logits("t", "out", "none", 3, "", Kind.BOXES, (1, 10, 8), first_class=5, boxes_first=True, objectness=4)
    feeds, scored = bind([Box("rank2")], HeadOutput(logits, table.reshape(-1), None, (8, 8), None))
    assert np.unravel_index(int(feeds[TARGETS][0]), (10, 8)) == (2, 5)
    assert scored[0].logit == 0.7


@pytest.mark.parametrize(
    ("box", "way_out"),
    [(10, "'rank1', 'rank2', ... for the best ones$"), ("-1", "for the best ones$"), ("bolt", "use --target bolt")],
)
def test_an_unknown_box_is_refused_with_what_names_one(box: int | str, way_out: str) -> None:
    with pytest.raises(TargetError, match=way_out):
        bind([Box(box)], seen(Kind.BOXES, (1, 7, 10), BOXES.T.reshape(-1)))


@pytest.mark.parametrize("box", ["top11", "best", 10, -1])
def test_boxes_that_are_not_there_are_refused(box: int | str) -> None:
    with pytest.raises(TargetError):
        bind([Box(box)], seen(Kind.BOXES, (1, 7, 10), BOXES.T.reshape(-1)))


CLASS_MAP = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 1], [2, 2, 2, 1]])


def segmented(**more: object) -> HeadOutput:
    """Logits of 1 for the class of CLASS_MAP and 0 for the others; values have the classes last, as the graph gives."""
    return seen(Kind.REGION, (1, 3, 4, 4), np.eye(3)[CLASS_MAP].reshape(-1), labels=LABELS, **more)


def test_a_class_is_scored_where_it_is_predicted() -> None:
    feeds, scored = bind([None, "cat", "rank3"], segmented())
    assert [t.label for t in scored] == ["dog", "cat", "cat"]  # 6, 4, 6 cells: dog before bird, both 6
    assert feeds[TARGETS].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(feeds[REGIONS][:, 1].reshape(4, 4), (CLASS_MAP == 0) / 4)
    assert scored[0].logit == pytest.approx(1)
    assert scored[0].probability == pytest.approx(np.e / (np.e + 2))


def test_a_region_in_pixels_of_the_picture_is_laid_over_the_class_map() -> None:
    # The network sees columns 100 to 180 of the picture, 80 pixels high: a cell is 20 by 20 pixels.
    placement = Placement((80, 300), (100.0, 0.0, 180.0, 80.0))
    feeds, _ = bind([Region("cat", (120.0, 0.0, 160.0, 40.0))], segmented(placement=placement))
    expected = np.zeros((4, 4))
    expected[:2, 1:3] = 1 / 4
    np.testing.assert_allclose(feeds[REGIONS][:, 0].reshape(4, 4), expected)
    mask = np.zeros((80, 300), bool)
    mask[:40, 120:160] = True
    as_mask, _ = bind([Region("cat", mask)], segmented(placement=placement))
    np.testing.assert_array_equal(as_mask[REGIONS], feeds[REGIONS])


def test_regions_without_cells_and_masks_of_another_size_are_refused() -> None:
    with pytest.raises(TargetError, match="no cell of what the model sees"):
        bind([Region("cat", (0.0, 0.0, 0.1, 0.1))], segmented())
    with pytest.raises(TargetError, match="shape"):
        bind([Region("cat", np.ones((3, 3), bool))], segmented())
    with pytest.raises(TargetError, match="predicted nowhere"):
        bind([Region("bird")], seen(Kind.REGION, (1, 3, 2, 2), np.eye(3)[[0, 0, 1, 1]].reshape(-1), labels=LABELS))


def test_similarity_is_the_cosine() -> None:
    answer = seen(Kind.EMBEDDING, (1, 2), np.array([3.0, 4.0]))
    feeds, scored = bind([Similarity(np.array([1.0, 0.0])), Similarity(np.array([[0.0, 5.0]]))], answer)
    np.testing.assert_allclose(feeds[REFERENCES], [[1, 0], [0, 1]])
    np.testing.assert_allclose([t.logit for t in scored], [0.6, 0.8])
    for reference in (np.zeros(2), np.ones(3), np.array([np.nan, 1])):
        with pytest.raises(TargetError):
            bind([Similarity(reference)], answer)
