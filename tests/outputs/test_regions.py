"""Masks, boxes and outlines of maps that were worked out by hand, on pictures that were cropped and letterboxed."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from results import saliency

from onnxcam.errors import OptionError, PictureError
from onnxcam.outputs.outlines import Outline, contours
from onnxcam.outputs.saliency import Saliency
from onnxcam.types import Map, Placement


def of_map(values: Map, placement: Placement | None = None) -> Saliency:
    return replace(saliency(), map=values, raw=values, placement=placement)


def square() -> Map:
    """60 x 80, 1 in the rows 10 to 29 and the columns 20 to 49, 0.4 in a second square, else 0."""
    values = np.zeros((60, 80), np.float32)
    values[10:30, 20:50] = 1
    values[40:50, 60:70] = 0.4
    return values


COVERING = Placement((60, 80), (0.0, 0.0, 80.0, 60.0))
CROPPED = Placement((100, 300), (100.0, 0.0, 200.0, 100.0))
"""A centre crop of a wide picture, whose pixels are those of a map of 100 x 100."""
LETTERBOX = Placement((50, 100), (0.0, -25.0, 100.0, 75.0))
"""A picture in the middle of a square input of 100 x 100, with bars above and below."""


@pytest.mark.parametrize("placement", [None, COVERING])
def test_the_boxes_of_a_known_map_are_those_by_hand(placement: Placement | None) -> None:
    one = of_map(square(), placement)
    assert one.boxes() == [(20, 10, 50, 30)]
    assert one.boxes(0.3) == [(20, 10, 50, 30), (60, 40, 70, 50)]
    assert one.boxes(0.5) == one.boxes()
    assert of_map(np.zeros((4, 4), np.float32)).boxes() == []
    assert one.boxes(0) == [(0, 0, 80, 60)]


def test_a_region_says_how_much_of_the_map_it_holds() -> None:
    first, second = of_map(square()).regions(0.3)
    assert (first.pixels, first.peak, second.pixels) == (600, 1.0, 100)
    assert second.peak == pytest.approx(0.4)
    assert first.share == pytest.approx(600 / 640)
    assert second.share == pytest.approx(40 / 640)
    assert (first.mask == (square() == 1)).all()
    assert (second.mask == (square() == np.float32(0.4))).all()


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = values[1, 1] = values[3, 0] = 1
    one = of_map(values)
    assert sorted(one.boxes()) == [(0, 0, 2, 2), (0, 3, 1, 4)]


@pytest.mark.parametrize("top", [0.2, 0.5, 1.0, 0.001])
@pytest.mark.parametrize("placement", [None, COVERING, CROPPED])
def test_the_top_share_has_that_share_of_the_pixels_that_were_seen(top: float, placement: Placement | None) -> None:
    values = np.random.default_rng(2).random((100, 100) if placement is CROPPED else (60, 80), np.float32)
    one = of_map(values, placement)
    seen = np.isfinite(one.on_picture()) if placement is not None else np.ones(values.shape, bool)
    mask = one.mask(top=top)
    assert mask.sum() == round(top * seen.sum())
    assert not mask[~seen].any()
    if 0 < mask.sum() < seen.sum():
        shown = one.on_picture() if placement is not None else values
        assert shown[mask].min() >= shown[seen & ~mask].max()


def test_equal_pixels_are_taken_in_reading_order() -> None:
    mask = of_map(np.ones((4, 5), np.float32)).mask(top=0.3)
    assert np.flatnonzero(mask).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_mask_is_what_reaches_the_threshold() -> None:
    values = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, 101)
    assert of_map(values).mask(0.25).sum() == 76
    assert (of_map(values).mask() == (values >= 0.5)).all()
    volume = np.random.default_rng(1).random((3, 4, 5), np.float32)
    assert (of_map(volume).mask(0.7) == (volume >= np.float32(0.7))).all()
    assert of_map(np.array([0, 1, 0.5], np.float32)).mask().tolist() == [False, True, True]


@pytest.mark.parametrize("wrong", [-0.1, 1.5, math.nan, "0.5", True, None])
def test_a_threshold_is_a_number_from_0_to_1(wrong: Any) -> None:
    one = of_map(square())
    if wrong is not None:
        with pytest.raises(OptionError, match="threshold is a number from 0 to 1"):
            one.mask(wrong)
        with pytest.raises(OptionError, match="top is"):
            one.mask(top=wrong)
    with pytest.raises(OptionError, match="not both"):
        one.mask(0.5, top=0.2)
    with pytest.raises(OptionError, match="more than 0"):
        one.mask(top=0)


def test_boxes_are_of_maps_of_height_and_width() -> None:
    for values in (np.ones(9, np.float32), np.ones((2, 3, 4), np.float32)):
        for call in (of_map(values).boxes, of_map(values).contours):
            with pytest.raises(OptionError, match="height and width"):
                call()


def test_the_map_on_a_cropped_picture_is_nan_where_the_model_saw_nothing() -> None:
    values = np.random.default_rng(3).random((100, 100), np.float32)
    shown = of_map(values, CROPPED).on_picture()
    assert shown.shape == (100, 300)
    np.testing.assert_array_equal(shown[:, 100:200], values)
    assert np.isnan(shown[:, :100]).all()
    assert np.isnan(shown[:, 200:]).all()
    filled = of_map(values, CROPPED).on_picture(outside=0)
    assert (filled[:, :100] == 0).all()


def test_the_map_on_a_letterboxed_picture_is_its_part_without_the_bars() -> None:
    values = np.random.default_rng(3).random((100, 100), np.float32)
    np.testing.assert_array_equal(of_map(values, LETTERBOX).on_picture(), values[25:75])


@pytest.mark.parametrize(
    ("placement", "box"), [(CROPPED, (130, 40, 160, 70)), (LETTERBOX, (30, 15, 60, 45))], ids=["crop", "letterbox"]
)
def test_a_box_lies_where_the_object_is_on_the_picture(placement: Placement, box: Any) -> None:
    values = np.zeros((100, 100), np.float32)
    values[40:70, 30:60] = 1
    one = of_map(values, placement)
    assert one.boxes() == [box]
    left, top, right, bottom = box
    expected = np.zeros(placement.picture, bool)
    expected[top:bottom, left:right] = True
    assert (one.mask() == expected).all()
    assert (one.heatmap()[..., 3] > 0).sum() == expected.sum()


def test_a_map_without_a_picture_has_no_place_on_one() -> None:
    with pytest.raises(PictureError, match=r"preprocessed; take \.map"):
        of_map(square()).on_picture()
    clip = replace(of_map(np.ones((2, 3, 4), np.float32)), placement=COVERING)
    with pytest.raises(PictureError, match="of a clip"):
        clip.on_picture()


def area(outline: Outline) -> float:
    """The signed areas of the polygons added up: holes run the other way round."""
    total = 0.0
    for polygon in outline:
        x, y = np.array(polygon).T
        total += float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    return abs(total)


def test_the_contour_of_a_square_goes_along_the_edges_of_its_pixels() -> None:
    (polygon,) = of_map(square(), COVERING).contours()
    assert set(polygon) == {(20, 10), (50, 10), (50, 30), (20, 30)}
    first, second = of_map(square()).regions(0.3)
    assert first.outline == (polygon,)
    assert set(second.outline[0]) == {(60, 40), (70, 40), (70, 50), (60, 50)}
    (one,) = contours(np.array([[False, True]]))
    assert set(one) == {(1, 0), (2, 0), (2, 1), (1, 1)}


def test_an_outline_encloses_as_much_as_there_are_pixels() -> None:
    generator = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        for _ in range(10):
            mask = generator.random((20, 30)) < share
            assert area(contours(mask)) == mask.sum()
