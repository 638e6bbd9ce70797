"""The pointing games: hand-worked boxes, every published slip as a test, and a naive loop over pixels."""

import math
from typing import Any

import numpy as np
import pytest

from onnxcam.errors import OptionError
from onnxcam.metrics.localisation import OUTSIDE, box_mask, box_on_input, energy_pointing_game, pointing_game
from onnxcam.types import Placement

SIZE = (6, 10)  # not square: a swap of the axes shows


def map_of(points: dict[tuple[int, int], float], size: tuple[int, int] = SIZE) -> np.ndarray:
    numbers = np.zeros(size, np.float32)
    for (row, column), value in points.items():
        numbers[row, column] = value
    return numbers


def naive_mask(boxes: list[tuple[float, ...]], size: tuple[int, int], placement: Placement | None) -> np.ndarray:
    """Pixel by pixel: where its centre lies on the picture, and whether that is in a box and on the picture."""
    mask = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = column + 0.5, row + 0.5
            if placement is not None:
                left, top, right, bottom = placement.box
                x = left + x * (right - left) / size[1]
                y = top + y * (bottom - top) / size[0]
                if not (0 <= x < placement.picture[1] and 0 <= y < placement.picture[0]):
                    continue
            mask[row, column] = any(b[0] <= x < b[2] and b[1] <= y < b[3] for b in boxes)
    return mask


def test_all_energy_in_the_box_is_1_and_none_is_0() -> None:
    numbers = map_of({(1, 7): 0.5, (2, 8): 1})
    inside = energy_pointing_game(numbers, (7, 1, 9, 3))
    assert inside.value == pytest.approx(1, abs=1e-12)
    assert inside.options["box_share"] == pytest.approx(4 / 60)
    assert inside.options["ratio"] == pytest.approx(15)
    assert energy_pointing_game(numbers, (0, 3, 10, 6)).value == 0


def test_the_share_is_the_sum_in_the_box_over_the_whole_sum() -> None:
    numbers = map_of({(0, 0): 1, (2, 3): 2, (5, 9): 5})
    assert energy_pointing_game(numbers, (3, 2, 4, 3)).value == pytest.approx(2 / 8, abs=1e-12)
    assert energy_pointing_game(1e-30 * numbers, (3, 2, 4, 3)).value == pytest.approx(2 / 8, abs=1e-6)


def test_a_map_of_ones_scores_the_boxs_share_and_the_ratio_1() -> None:
    result = energy_pointing_game(np.ones(SIZE), (1, 2, 4, 6))
    assert result.value == pytest.approx(12 / 60, abs=1e-12)
    assert result.options["ratio"] == pytest.approx(1, abs=1e-12)


def test_width_and_height_are_not_swapped_on_an_input_that_is_not_square() -> None:
    # Code that unpacks w, h = map.shape and indexes [x1:x2, y1:y2] finds nothing at column 8 of a map of 6 rows.
    numbers = map_of({(1, 8): 1})
    assert energy_pointing_game(numbers, (8, 1, 9, 2)).value == 1
    assert pointing_game(numbers, (8, 1, 9, 2), protocol="exact").value == 1
    assert energy_pointing_game(numbers, (1, 5, 2, 6)).value == 0


@pytest.mark.parametrize("box", [(3, 2, 3, 5), (3, 2, 3.4, 5), (20, 0, 30, 6), (-9, -9, 0, 0), (3.6, 2, 4.4, 5), []])
def test_a_box_without_a_pixel_is_undefined_and_no_hit(box: object) -> None:
    numbers = map_of({(2, 3): 1})
    for result in (energy_pointing_game(numbers, box), pointing_game(numbers, box)):
        assert (result.value, result.reason) == (None, OUTSIDE)


def test_a_box_that_the_crop_cut_off_is_undefined() -> None:
    placement = Placement((100, 200), (50, 0, 150, 100))
    numbers = map_of({(2, 3): 1}, (10, 10))
    assert energy_pointing_game(numbers, (0, 0, 50, 100), placement=placement).reason == OUTSIDE
    assert pointing_game(numbers, (150, 0, 200, 100), placement=placement).reason == OUTSIDE


def test_a_map_without_energy_is_undefined() -> None:
    assert "zero everywhere" in energy_pointing_game(np.zeros(SIZE), (0, 0, 3, 3)).reason
    assert energy_pointing_game(np.zeros(SIZE), (0, 0, 3, 3)).value is None


def test_negative_energy_is_undefined() -> None:
    result = energy_pointing_game(map_of({(0, 0): -1, (1, 1): 3}), (0, 0, 3, 3))
    assert result.value is None
    assert "negative" in result.reason


@pytest.mark.parametrize("level", [0, 0.3, 1, -2])
def test_a_constant_map_has_no_maximum(level: float) -> None:
    for protocol in ("15px", "exact"):
        result = pointing_game(np.full(SIZE, level), (0, 0, 10, 6), protocol=protocol)
        assert (result.value, result.reason) == (None, "the map is constant, so it has no maximum")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_with_nan_or_infinity_is_refused(bad: float) -> None:
    for metric in (energy_pointing_game, pointing_game):
        with pytest.raises(OptionError, match="NaN or infinity"):
            metric(map_of({(0, 0): bad}), (0, 0, 3, 3))


@pytest.mark.parametrize("shape", [(10,), (2, 6, 10)])
def test_maps_of_signals_and_volumes_have_no_box(shape: tuple[int, ...]) -> None:
    for metric in (energy_pointing_game, pointing_game):
        with pytest.raises(OptionError, match="take maps of height and width only"):
            metric(np.arange(np.prod(shape)).reshape(shape), (0, 0, 3, 3))


@pytest.mark.parametrize(
    "box", [(1, 2, 3), (5, 0, 1, 3), (0, 5, 3, 1), (0, 0, np.nan, 3), "person", None, [(0, 0, 1, 1), (0, 0, 1)]]
)
def test_what_is_no_box_is_refused(box: object) -> None:
    with pytest.raises(OptionError, match="a box is left, top, right, bottom"):
        energy_pointing_game(np.ones(SIZE), box)


def test_the_maximum_in_the_box_hits_and_elsewhere_misses() -> None:
    numbers = map_of({(20, 30): 1, (3, 3): 0.9}, (40, 60))
    assert pointing_game(numbers, (30, 20, 31, 21), protocol="exact").value == 1
    assert pointing_game(numbers, (0, 0, 10, 10), protocol="exact").value == 0
    assert pointing_game(numbers, (0, 0, 10, 10), protocol="15px").value == 0


def test_fifteen_pixels_are_euclidean_and_of_the_models_input() -> None:
    box = (0, 0, 10, 10)  # its last pixel is (9, 9)
    for (row, column), hits in {
        (9, 24): 1, (9, 25): 0, (24, 5): 1, (25, 5): 0,
        (18, 21): 1,  # 9 and 12 beyond: 15
        (19, 21): 0,  # 10 and 12 beyond: 15.6, although each side is within 15
    }.items():  # fmt: skip
        numbers = map_of({(row, column): 1}, (40, 60))
        assert pointing_game(numbers, box).value == hits, (row, column)
        assert pointing_game(numbers, box, protocol="exact").value == 0


def test_the_tolerance_is_the_distance_to_the_nearest_pixel_of_any_box() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        boxes = [(x, y, x + w, y + h) for x, y, w, h in rng.uniform(0, 25, (3, 4))]
        row, column = rng.integers(0, 50, 2)
        numbers = map_of({(row, column): 1}, (50, 50))
        nearest = min(math.dist((row, column), pixel) for pixel in np.argwhere(naive_mask(boxes, (50, 50), None)))
        assert pointing_game(numbers, boxes).value == (nearest <= 15)
        assert pointing_game(numbers, boxes, protocol="exact").value == (nearest == 0)


def test_tied_maxima_score_the_part_of_them_that_hits_in_any_order() -> None:
    numbers = map_of({(0, 0): 1, (2, 3): 1, (5, 9): 1, (2, 2): 0.5})
    assert pointing_game(numbers, (0, 0, 4, 4), protocol="exact").value == pytest.approx(2 / 3)
    assert pointing_game(numbers[::-1, ::-1], (6, 2, 10, 6), protocol="exact").value == pytest.approx(2 / 3)


def test_a_pixel_belongs_to_a_box_by_its_centre() -> None:
    def columns(left: float, right: float) -> list[int]:
        return np.flatnonzero(box_mask((left, 0, right, 1), (1, 6))[0]).tolist()

    assert columns(1, 3) == [1, 2]
    assert columns(1.4, 3.4) == [1, 2]
    assert columns(1.5, 3.5) == [1, 2], "the centre on the left edge is in, that on the right edge is the next box's"
    assert columns(1.6, 3.6) == [2, 3]


def test_boxes_that_touch_share_no_pixel_and_leave_none_out() -> None:
    for edge in np.linspace(0, 6, 61):
        left, right = box_mask((0, 0, edge, 1), (1, 6)), box_mask((edge, 0, 6, 1), (1, 6))
        assert (left ^ right).all()


@pytest.mark.parametrize(
    "placement",
    [
        None,
        Placement((333, 500), (0, 0, 500, 333)),
        Placement((333, 500), (106.3, 22.5, 393.7, 310.5)),  # a centre crop
        Placement((333, 500), (0, -83.5, 500, 416.5)),  # a letterbox
        Placement((16, 20), (-3, -2, 30, 17)),
    ],
)
def test_boxes_reach_the_input_through_resize_crop_and_padding(placement: Placement | None) -> None:
    rng = np.random.default_rng(1)
    height, width = (24, 32) if placement is None else placement.picture
    for count in (1, 1, 1, 4):
        x, y = rng.uniform(-0.3 * width, width, (count, 2)), rng.uniform(-0.3 * height, height, (count, 2))
        boxes = [(min(a), min(b), max(a), max(b)) for a, b in zip(x, y, strict=True)]
        expected = naive_mask(boxes, (24, 32), placement)
        assert np.array_equal(box_mask(boxes, (24, 32), placement=placement), expected)
        if count == 1:
            assert np.array_equal(box_mask(boxes[0], (24, 32), placement=placement), expected)


def test_a_box_on_the_picture_in_pixels_of_the_input() -> None:
    # 200 wide, 100 high; the middle square fills an input of 50x50: half a pixel of the input a pixel of the picture.
    placement = Placement((100, 200), (50, 0, 150, 100))
    assert box_on_input((70, 20, 110, 60), (50, 50), placement).tolist() == [[10, 10, 30, 30]]
    assert box_on_input((0, 20, 400, 60), (50, 50), placement).tolist() == [[0, 10, 50, 30]]


def test_the_padding_of_a_letterbox_belongs_to_no_box() -> None:
    placement = Placement((50, 100), (0, -25, 100, 75))
    mask = box_mask((0, -500, 100, 500), (10, 10), placement=placement)
    assert np.flatnonzero(mask.any(axis=1)).tolist() == [2, 3, 4, 5, 6], "the picture lies between 2.5 and 7.5"


def test_boxes_that_overlap_count_once() -> None:
    result = energy_pointing_game(np.ones(SIZE), [(0, 0, 4, 6), (2, 0, 6, 6)])
    assert result.value == pytest.approx(36 / 60)
    assert result.options["box_share"] == pytest.approx(36 / 60)


def test_an_unknown_protocol_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="15px, exact"):
        pointing_game(np.ones(SIZE), (0, 0, 3, 3), protocol="7px")


@pytest.mark.parametrize("metric", [energy_pointing_game, pointing_game])
def test_a_box_beyond_the_picture_is_cut_off_with_a_note(metric: Any) -> None:
    saliency_map = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    placement = Placement((30, 40), (0, 0, 40, 30))
    whole = metric(saliency_map, (20, 0, 40, 30), placement=placement)
    beyond = metric(saliency_map, (20, 0, 60, 30), placement=placement)
    assert (whole.value, whole.note) == (beyond.value, None)
    assert "beyond the picture, 40 wide and 30 high" in beyond.note
    assert metric(saliency_map, (20, 0, 41, 30), placement=placement).note is None, "counted from 1"
    assert "4 wide and 3 high" in metric(saliency_map, (2, -2, 4, 3)).note
    assert "beyond" in metric(saliency_map, [(0, 0, 4, 4), (20, 0, 60, 30)], placement=placement).note


@pytest.mark.parametrize("metric", [energy_pointing_game, pointing_game])
def test_numbers_of_one_at_most_are_no_pixels(metric: Any) -> None:
    saliency_map = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    undefined = metric(saliency_map, (0.5, 0.1, 1.0, 0.4))
    assert undefined.value is None
    assert "a box is in pixels" in undefined.reason
    assert "a box is in pixels" in metric(saliency_map, (0.1, 0.2, 0.9, 1.0)).note
    assert metric(saliency_map, (0, 0, 2, 1)).note is None
    assert "outside of what the model sees" in metric(saliency_map, (1.6, 1.6, 2.4, 2.4)).reason
