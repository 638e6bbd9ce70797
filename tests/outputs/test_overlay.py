"""The map lies where the model saw it, the photograph stays visible, and the caption touches nothing."""

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import OptionError, PictureError
from onnxcam.outputs import overlay
from onnxcam.types import Map, Picture, Placement

BLACK_WHITE = "gray"


def centre_crop(height: int, width: int, crop: float = 0.875) -> Placement:
    side = min(height, width) * crop
    left, top = (width - side) / 2, (height - side) / 2
    return Placement((height, width), (left, top, left + side, top + side))


def covering(height: int, width: int) -> Placement:
    return Placement((height, width), (0.0, 0.0, float(width), float(height)))


def hot(shape: tuple[int, int], row: int, column: int) -> Map:
    values = np.zeros(shape, np.float32)
    values[row, column] = 1
    return values


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> Map:
    coarse = np.random.default_rng(seed).random((5, 6), np.float32)
    values = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return (values - values.min()) / np.ptp(values)


def read_back(placement: Placement, saliency: Map) -> Map:
    """The map as drawn: opaque black to white on black gives 255 m sqrt(m)."""
    black = np.zeros((*placement.picture, 3), np.uint8)
    drawn = overlay.overlay(black, saliency, placement, colormap=BLACK_WHITE, alpha=1)
    return (drawn[..., 0] / 255) ** (2 / 3)


def inside(placement: Placement) -> np.ndarray:
    left, top, right, bottom = placement.box
    y, x = np.indices(placement.picture) + 0.5
    return (x > left) & (x < right) & (y > top) & (y < bottom)


@pytest.mark.parametrize("size", [(333, 500), (500, 333), (1024, 683), (240, 241)])
@pytest.mark.parametrize("cell", [(1, 1), (3, 5), (5, 2)])
def test_a_hot_cell_lights_up_at_its_own_place_in_the_original(size: tuple[int, int], cell: tuple[int, int]) -> None:
    placement = centre_crop(*size)
    drawn = np.where(inside(placement), read_back(placement, hot((7, 7), *cell)), 0)
    y, x = np.indices(size) + 0.5
    left, top, right, bottom = placement.box
    expected = top + (cell[0] + 0.5) * (bottom - top) / 7, left + (cell[1] + 0.5) * (right - left) / 7
    centre = (drawn * y).sum() / drawn.sum(), (drawn * x).sum() / drawn.sum()
    assert centre == pytest.approx(expected, abs=0.1)


def test_the_map_is_where_pillows_bilinear_affine_transform_puts_it() -> None:
    placement = centre_crop(300, 451)
    saliency = 0.3 + 0.7 * smooth(24, 32)  # near 0 the eight bits that are read back are too coarse
    left, top, right, bottom = placement.box
    across, down = 32 / (right - left), 24 / (bottom - top)
    oracle = Image.fromarray(saliency).transform(
        (451, 300),
        Image.Transform.AFFINE,
        (across, 0, -left * across, 0, down, -top * down),
        Image.Resampling.BILINEAR,
    )
    safe = inside(Placement((300, 451), (left + 6, top + 6, right - 6, bottom - 6)))
    np.testing.assert_allclose(read_back(placement, saliency)[safe], np.asarray(oracle)[safe], atol=0.006)


def test_the_last_half_cell_inside_the_box_is_not_faded() -> None:
    placement = centre_crop(300, 400)
    drawn = read_back(placement, np.ones((7, 7), np.float32))
    np.testing.assert_array_equal(drawn[inside(placement)], 1)


def test_nothing_of_the_map_is_drawn_outside_the_box() -> None:
    picture, placement = noise(301, 447), centre_crop(301, 447)
    drawn = [overlay.overlay(picture, np.full((7, 7), level, np.float32), placement) for level in (0, 0.5, 1)]
    out = ~inside(placement)
    np.testing.assert_array_equal(drawn[0][out], drawn[1][out])
    np.testing.assert_array_equal(drawn[0][out], drawn[2][out])


def test_outside_the_box_the_picture_is_grey_and_darker_beyond_a_white_line() -> None:
    picture, placement = np.full((300, 500, 3), (200, 120, 40), np.uint8), centre_crop(300, 500)
    drawn = overlay.overlay(picture, np.zeros((7, 7), np.float32), placement)
    out = drawn[~inside(placement)].astype(int)
    line = (out == 255).all(axis=1)
    perimeter = 4 * 0.875 * 300
    assert perimeter < line.sum() < perimeter * 1.1
    assert np.ptp(out, axis=1).max() == 0
    assert out[~line].max() < 0.8 * (0.299 * 200 + 0.587 * 120 + 0.114 * 40)


def test_the_identity_placement_draws_the_very_map_and_no_line() -> None:
    saliency = smooth(230, 310)
    expected = np.sqrt(saliency) * np.rint(saliency * 255)
    drawn = overlay.overlay(
        np.zeros((230, 310, 3), np.uint8), saliency, covering(230, 310), colormap=BLACK_WHITE, alpha=1
    )
    np.testing.assert_allclose(drawn, np.repeat(expected[..., None], 3, axis=2), atol=0.51)


def test_a_box_that_reaches_beyond_a_padded_picture_is_cut_at_the_picture() -> None:
    letterboxed = Placement((240, 480), (0.0, -120.0, 480.0, 360.0))
    drawn = read_back(letterboxed, hot((4, 4), 1, 2))
    peak = np.unravel_index(drawn.argmax(), drawn.shape)
    assert peak == pytest.approx((1.5 * 120 - 120, 2.5 * 120), abs=1)


def test_a_picture_outside_of_which_the_box_lies_is_all_unseen() -> None:
    drawn = overlay.overlay(
        noise(240, 240), np.ones((7, 7), np.float32), Placement((240, 240), (300.0, 0.0, 400.0, 100.0))
    )
    assert np.ptp(drawn, axis=2).max() == 0


def test_alpha_zero_leaves_what_the_model_saw_untouched() -> None:
    picture, placement = noise(260, 400), centre_crop(260, 400)
    drawn = overlay.overlay(picture, smooth(7, 7), placement, alpha=0)
    np.testing.assert_array_equal(drawn[inside(placement)], picture[inside(placement)])


@pytest.mark.parametrize("name", overlay.COLORMAPS)
def test_alpha_one_is_the_pure_colour_where_the_map_is_one(name: str) -> None:
    drawn = overlay.overlay(noise(230, 230), np.ones((7, 7), np.float32), covering(230, 230), colormap=name, alpha=1)
    np.testing.assert_array_equal(drawn, overlay.heatmap(np.ones((230, 230), np.float32), name))


@pytest.mark.parametrize("name", overlay.COLORMAPS)
def test_a_map_of_zero_keeps_light_and_dark_whatever_the_colours(name: str) -> None:
    picture = noise(230, 240)
    drawn = overlay.overlay(picture, np.zeros((7, 7), np.float32), covering(230, 240), colormap=name)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(drawn @ luma, picture @ luma, atol=1)


def test_bands_of_rows_leave_no_seam() -> None:
    rows = 3 * overlay.BAND + 17
    drawn = read_back(covering(rows, 40), np.linspace(0, 1, 9, dtype=np.float32)[:, None].repeat(9, axis=1))
    steps = np.diff(drawn[overlay.BAND // 2 : -overlay.BAND // 2, 0])
    assert steps.min() >= 0
    assert steps.max() < 0.01


@pytest.mark.parametrize(("side", "zoom"), [(32, 7), (64, 4), (100, 3), (223, 2), (224, 1), (500, 1)])
def test_a_small_picture_is_enlarged_by_a_whole_factor_to_224(side: int, zoom: int) -> None:
    picture = noise(side, side // 2)
    drawn = overlay.overlay(picture, np.zeros((7, 7), np.float32), covering(side, side // 2), alpha=0)
    np.testing.assert_array_equal(drawn, picture.repeat(zoom, axis=0).repeat(zoom, axis=1))


def test_the_map_stays_smooth_on_an_enlarged_picture() -> None:
    ramp = np.linspace(0.3, 1, 8, dtype=np.float32)[None].repeat(8, axis=0)
    drawn = read_back(covering(32, 32), ramp)
    assert drawn.shape == (224, 224)
    x = (np.arange(224) + 0.5) / 28 - 0.5
    np.testing.assert_allclose(drawn[100], 0.3 + np.clip(x, 0, 7) / 10, atol=0.006)


def test_the_heatmap_has_the_colours_of_opencv() -> None:
    saliency = smooth(256, 300)
    bgr = cv2.applyColorMap(np.rint(saliency * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    np.testing.assert_array_equal(overlay.heatmap(saliency, "viridis"), bgr[..., ::-1])


def test_a_small_heatmap_is_enlarged() -> None:
    assert overlay.heatmap(hot((7, 14), 3, 3)).shape == (112, 224, 3)


@pytest.mark.parametrize("name", overlay.COLORMAPS)
def test_the_levels_of_every_colormap_differ(name: str) -> None:
    colours = overlay.heatmap(np.linspace(0, 1, 256, dtype=np.float32)[None], name)
    assert len(np.unique(colours[0], axis=0)) > 150
    assert np.abs(colours[0, 0].astype(int) - colours[0, -1]).sum() > 100


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), float("inf")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(OptionError, match="alpha"):
        overlay.overlay(noise(230, 230), smooth(7, 7), covering(230, 230), alpha=alpha)
    with pytest.raises(OptionError, match="alpha"):
        overlay.Style(alpha=alpha)


def test_without_a_placement_there_is_no_picture_to_draw_on() -> None:
    with pytest.raises(PictureError, match="came preprocessed, so the map has no place on a picture"):
        overlay.overlay(noise(230, 230), smooth(7, 7), None)


@pytest.mark.parametrize("junk", [None, "x", 3j, [1], {}, object()], ids=repr)
def test_values_of_other_types_are_refused_with_what_to_give(junk: Any) -> None:
    picture, saliency, placement = noise(230, 230), smooth(7, 7), covering(230, 230)
    for call, error, message in (
        (lambda: overlay.overlay(junk, saliency, placement), PictureError, "a picture file is a path|no such file"),
        (lambda: overlay.overlay(picture, junk, placement), OptionError, "a saliency map"),
        (lambda: overlay.overlay(picture, np.array([[junk]], object), placement), OptionError, "a saliency map"),
        (lambda: overlay.overlay(picture, saliency, junk), PictureError, "placement|no place"),
        (lambda: overlay.overlay(picture, saliency, placement, alpha=junk), OptionError, "alpha is a number"),
        (lambda: overlay.overlay(picture, saliency, placement, colormap=junk), OptionError, "colormap"),
        (lambda: overlay.heatmap(junk), OptionError, "a saliency map"),
        (lambda: overlay.Style(alpha=junk), OptionError, "alpha is a number"),
        (lambda: overlay.Style(colormap=junk), OptionError, "colormap"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_an_unknown_colormap_is_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="viridis"):
        overlay.heatmap(smooth(7, 7), "virdis")
    with pytest.raises(OptionError, match="turbo"):
        overlay.Style(colormap="trubo")


@pytest.mark.parametrize("value", [float("nan"), -0.01, 1.01, 40.0])
def test_a_map_outside_zero_to_one_is_refused(value: float) -> None:
    saliency = smooth(7, 7)
    saliency[3, 3] = value
    with pytest.raises(OptionError, match=r"\[0,1\]"):
        overlay.overlay(noise(230, 230), saliency, covering(230, 230))
    with pytest.raises(OptionError, match=r"\[0,1\]"):
        overlay.heatmap(saliency)


@pytest.mark.parametrize(
    "picture",
    [noise(230, 231), noise(231, 230)[..., 0], noise(230, 230)[:, :5, :2], -noise(230, 230).astype(np.float32)],
)
def test_another_picture_than_the_one_explained_is_refused(picture: Picture) -> None:
    with pytest.raises(PictureError, match="picture"):
        overlay.overlay(picture, smooth(7, 7), covering(230, 230))


def test_a_read_only_picture_and_map_can_be_drawn_and_stay_as_they_are() -> None:
    picture, saliency = noise(230, 240), smooth(7, 7)
    before = picture.copy()
    picture.setflags(write=False)
    saliency.setflags(write=False)
    overlay.overlay(picture, saliency, covering(230, 240))
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("size", [(224, 224), (50, 1000), (1000, 50), (1500, 2000), (7, 7)])
def test_a_caption_changes_no_pixel_of_the_picture_and_fits_below(size: tuple[int, int]) -> None:
    picture = noise(*size)
    drawn = overlay.caption(picture, "a very long label, " * 20, "99.1% · score-cam")
    np.testing.assert_array_equal(drawn[: size[0], : size[1]], picture)
    assert drawn.shape[1] == max(size[1], 224)
    strip = drawn[size[0] :]
    assert strip.shape[0] >= 2 * 13
    assert (strip[[0, -1]] == 255).all(), "the text is not cut off above or below"
    assert (strip[:, [0, -1]] == 255).all(), "nor at the sides"
    assert (strip < 60).all(axis=2).sum() > 100, "dark ink on white"


@pytest.mark.parametrize("name", overlay.COLORMAPS)
def test_the_caption_of_a_heatmap_shows_the_colours_from_end_to_end(name: str) -> None:
    strip = overlay.caption(noise(224, 224), "tabby", colormap=name)[224:].reshape(-1, 3)
    ends = overlay.heatmap(np.array([[0, 1]], np.float32), name)[0, [0, -1]]
    for colour in ends:
        assert (strip == colour).all(axis=1).sum() >= 5


def test_the_caption_of_an_overlay_shows_its_colours_as_opaque_as_they_are_there() -> None:
    strip = overlay.caption(noise(224, 224), "tabby", alpha=0.4)[224:].reshape(-1, 3)
    top = 0.6 * 128 + 0.4 * overlay.heatmap(np.ones((1, 1), np.float32))[0, 0]
    assert (np.abs(strip - top) < 1).all(axis=1).sum() >= 5
    assert (strip == 128).all(axis=1).sum() >= 5


def test_what_the_caption_says_is_what_differs() -> None:
    picture = noise(224, 224)
    one, two = (overlay.caption(picture, title, "99.1%") for title in ("tabby", "tiger cat"))
    rows = np.flatnonzero((one != two).any(axis=(1, 2)))
    assert rows.size
    assert rows[0] >= 224
    assert rows[-1] < 224 + one[224:].shape[0] / 2 + 3, "only the line of the title"


def test_a_style_is_a_value() -> None:
    assert overlay.Style() == overlay.Style(colormap=overlay.COLORMAP, alpha=overlay.ALPHA)
    with pytest.raises(dataclasses.FrozenInstanceError):
        overlay.Style().alpha = 1  # type: ignore[misc]


def test_a_caption_too_long_for_its_line_goes_on_below() -> None:
    """On a narrow picture the last words, that a preset is only assumed, would else be cut off."""
    narrow = noise(300, 80)
    short = overlay.caption(narrow, "tabby", "99.1% · score-cam")
    long = overlay.caption(narrow, "tabby", "99.1% · score-cam · imagenet assumed")
    added = len(long) - len(short)
    assert added > 0
    np.testing.assert_array_equal(long[: len(short) - 7], short[:-7])  # the edge below is 7 pixels or less
    assert (long[-added:] < 128).any(), "words are written in the new line"


def test_the_map_on_the_picture_is_the_one_that_is_drawn() -> None:
    saliency, placement = smooth(40, 50), centre_crop(301, 451)
    values = overlay.on_picture(saliency, placement)
    assert values.shape == (301, 451)
    assert values.dtype == np.float32
    drawn = read_back(placement, saliency)[inside(placement)]
    np.testing.assert_allclose(values[inside(placement)], drawn, atol=0.02)  # drawn in 256 colours
    assert not values[~inside(placement)].any()
