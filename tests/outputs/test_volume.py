"""An array becomes a picture, the map lies over it, and a volume's slices are each with their part of it."""

import numpy as np
import pytest

from onnxcam.errors import OptionError
from onnxcam.outputs import overlay, typesetting
from onnxcam.outputs.volume import GAP, LONGEST, SHORT_SIDE, SIZE, SLICES, TILE, as_picture, contact_sheet, plane
from onnxcam.types import Floats, Map, Picture, Placement

LABEL = typesetting.line_height(SIZE)


def noise(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def hot(shape: tuple[int, ...], *at: int) -> Map:
    values = np.zeros(shape, np.float32)
    values[at] = 1
    return values


def tiles(sheet: Picture, across: int, down: int) -> list[Picture]:
    """Row by row; all are of one size, with a label above and gaps around."""
    height = (len(sheet) - LABEL - 2 * GAP) // down - LABEL - GAP
    width = (sheet.shape[1] - GAP) // across - GAP
    corners = [
        (GAP + r * (height + LABEL + GAP) + LABEL, GAP + c * (width + GAP)) for r in range(down) for c in range(across)
    ]
    return [sheet[top : top + height, left : left + width] for top, left in corners]


def label(tile_above: Picture, text: str) -> bool:
    ink = typesetting.line(text, SIZE, 1000).astype(np.float32)
    written = tile_above[: ink.shape[0], : ink.shape[1], 0]
    rest = tile_above[:, ink.shape[1] :]
    return bool((written == np.rint(255 + ink / 255 * (overlay.INK - 255))).all() and (rest == 255).all())


def test_three_channels_are_the_colours_on_one_common_scale() -> None:
    array = np.stack([np.zeros((10, 10)), np.full((10, 10), 1.0), np.full((10, 10), 2.0)]).astype(np.float32) * 40 - 7
    np.testing.assert_array_equal(as_picture(array), np.broadcast_to([0, 128, 255], (10, 10, 3)))


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_other_channels_are_the_grey_of_their_mean(channels: int) -> None:
    ramp = np.linspace(-5, 900, 101)
    weights = np.arange(channels) + 1.0
    array = np.broadcast_to((weights / weights.mean())[:, None, None] * ramp, (channels, 4, 101))
    picture = as_picture(array.astype(np.float32))
    expected = np.clip((np.arange(101) - 1) / 98, 0, 1) * 255  # the percentiles of 0..100 are 1 and 99
    np.testing.assert_allclose(picture, np.broadcast_to(expected[:, None], (4, 101, 3)), atol=0.51)


def test_outliers_do_not_darken_the_rest_and_a_few_bright_pixels_are_seen() -> None:
    ramp = np.tile(np.linspace(0, 1, 100, dtype=np.float32), (1, 100, 1))
    spoiled = ramp.copy()
    spoiled[0, 0, 0] = 1e30
    np.testing.assert_allclose(
        as_picture(spoiled)[1:], as_picture(ramp)[1:], atol=3
    )  # the 99th percentile is one value further
    sparse = np.zeros((1, 50, 50), np.float32)
    sparse[0, 3, 4] = 2
    assert as_picture(sparse)[3, 4].tolist() == [255] * 3
    assert as_picture(sparse).sum() == 3 * 255


def test_what_is_constant_is_grey_and_huge_values_do_not_overflow() -> None:
    assert (as_picture(np.full((2, 5, 5), -3, np.float32)) == 128).all()
    huge = np.array([[[-3e38, 3e38]]], np.float32)
    assert as_picture(huge)[0, :, 0].tolist() == [0, 255]


def test_a_plane_that_is_large_enough_is_the_overlay_on_its_picture() -> None:
    array, saliency = noise(3, 256, 300), np.random.default_rng(1).random((256, 300), np.float32)
    placement = Placement((256, 300), (0.0, 0.0, 300.0, 256.0))
    expected = overlay.overlay(as_picture(array), saliency, placement, colormap="magma", alpha=0.4)
    np.testing.assert_array_equal(plane(array, saliency, colormap="magma", alpha=0.4), expected)


@pytest.mark.parametrize(
    ("size", "zoom"),
    [((40, 60), 7), ((60, 40), 7), ((28, 28), 10), ((255, 900), 2), ((1, 1), 256), ((80, 3000), 1), ((1, 500), 4)],
)
def test_a_small_plane_is_enlarged_in_blocks(size: tuple[int, int], zoom: int) -> None:
    array = noise(1, *size)
    drawn = plane(array, np.zeros(size, np.float32), alpha=0)
    np.testing.assert_array_equal(drawn, as_picture(array).repeat(zoom, axis=0).repeat(zoom, axis=1))
    assert min(drawn.shape[:2]) >= SHORT_SIDE or max(drawn.shape[:2]) > LONGEST / 2


@pytest.mark.parametrize("at", [(0, 0), (9, 45), (39, 59)])
def test_the_map_lies_on_its_own_pixel_of_a_small_plane(at: tuple[int, int]) -> None:
    array = np.zeros((2, 40, 60), np.float32)
    array[:, at[0], at[1]] = 1
    saliency = hot((40, 60), *at)
    bright = plane(array, np.zeros((40, 60), np.float32), alpha=0)[..., 0] == 255
    array[:] = 0
    array[0, 20, 30] = -1e-9
    drawn = plane(array, saliency, colormap="turbo", alpha=1)
    red = overlay.colour_table("turbo")[255]
    pure = (np.abs(drawn - red) < 0.5).all(axis=2)
    assert pure.any()
    assert (bright & pure).sum() == pure.sum()


@pytest.mark.parametrize("salient", [0, 7, 11])
def test_the_brightest_tile_is_the_salient_slice(salient: int) -> None:
    array = np.full((1, 12, 48, 48), -1, np.float32)
    array[0, :, 0, 0] = np.linspace(0, 1, 12)
    saliency = np.zeros((12, 48, 48), np.float32)
    saliency[salient, 10:20, 30:40] = 1
    drawn = tiles(contact_sheet(array, saliency, colormap="gray", alpha=1), 4, 3)
    light = [int(tile.astype(int).sum()) for tile in drawn]
    assert int(np.argmax(light)) == salient
    tile = drawn[salient][..., 0].astype(float)
    tile[:6, :6] = 0
    y, x = np.indices(tile.shape) + 0.5
    zoom = len(tile) / 48
    assert zoom == 5
    assert ((tile * y).sum() / tile.sum(), (tile * x).sum() / tile.sum()) == pytest.approx(
        (15 * zoom, 35 * zoom), abs=0.1
    )


def test_each_tile_is_the_overlay_of_its_slice_on_one_scale_of_brightness() -> None:
    array, saliency = noise(3, 6, 30, 40), np.random.default_rng(2).random((6, 30, 40), np.float32)
    array[:, 2] *= 5
    pictures = as_picture(array)
    sheet = contact_sheet(array, saliency, colormap="jet", alpha=0.7)
    covering = Placement((30, 40), (0.0, 0.0, 40.0, 30.0))
    for i, tile in enumerate(tiles(sheet, 2, 3)):
        expected = overlay.overlay(pictures[i], saliency[i], covering, colormap="jet", alpha=0.7)
        np.testing.assert_array_equal(tile, expected)


@pytest.mark.parametrize(
    ("depth", "shown"),
    [
        (1, [0]),
        (16, list(range(16))),
        (31, list(range(0, 31, 2))),
        (61, list(range(0, 61, 4))),
        (17, [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16]),
    ],
)
def test_the_slices_shown_are_evenly_spaced_from_first_to_last_and_named(depth: int, shown: list[int]) -> None:
    array = np.arange(depth, dtype=np.float32)[None, :, None, None].repeat(32, 2).repeat(32, 3)
    side = 1 if depth == 1 else 4
    sheet = contact_sheet(array, np.zeros((depth, 32, 32), np.float32), alpha=0)
    drawn = tiles(sheet, side, side)
    assert len(drawn) == len(shown) <= SLICES
    expected = as_picture(array[:, shown])
    for i, (tile, index) in enumerate(zip(drawn, shown, strict=True)):
        assert (tile == expected[i, 0, 0]).all()
        top, left = GAP + i // side * (len(tile) + LABEL + GAP), GAP + i % side * (tile.shape[1] + GAP)
        assert label(sheet[top : top + LABEL, left : left + tile.shape[1]], str(index))


def test_the_sheet_says_how_many_slices_there_are() -> None:
    for depth, note in ((16, "frames or slices 0 to 15"), (60, "frames or slices 0 to 59, 16 of 60 shown")):
        sheet = contact_sheet(noise(1, depth, 32, 32), np.zeros((depth, 32, 32), np.float32))
        assert label(sheet[-GAP - LABEL : -GAP, GAP:], note)


@pytest.mark.parametrize(
    ("depth", "size", "across", "down"),
    [
        (2, (32, 32), 2, 1),
        (5, (32, 32), 3, 2),
        (8, (32, 32), 3, 3),
        (12, (32, 32), 4, 3),
        (16, (600, 512), 4, 4),
        (16, (2, 64), 1, 16),
        (4, (64, 2), 4, 1),
    ],
)
def test_the_slices_are_arranged_near_a_square(depth: int, size: tuple[int, int], across: int, down: int) -> None:
    height, width = size
    long = min(max(size), TILE) if max(size) >= 224 else -(-224 // max(size)) * max(size)
    tall, wide = round(height * long / max(size)), round(width * long / max(size))
    text = typesetting.line_height(max(SIZE, round(long / 22)))
    sheet = contact_sheet(noise(1, depth, *size), np.zeros((depth, *size), np.float32))
    assert sheet.shape == (down * (tall + text + GAP) + text + 2 * GAP, across * (wide + GAP) + GAP, 3)


def test_a_large_slice_is_reduced_with_the_map_in_its_place() -> None:
    saliency = np.zeros((1, 1000, 500), np.float32)
    saliency[0, 700:800, 100:200] = 1
    array = np.zeros((1, 1, 1000, 500), np.float32)
    array[0, 0, 0, 0] = 1  # else it is all mid-grey
    text = typesetting.line_height(round(TILE / 22))
    tile = contact_sheet(array, saliency, colormap="gray", alpha=1)[GAP + text :][:TILE, GAP:-GAP, 0].astype(float)
    assert tile.shape == (TILE, TILE // 2)
    tile[:3, :3] = 0
    y, x = np.indices(tile.shape) + 0.5
    centre = (tile * y).sum() / tile.sum(), (tile * x).sum() / tile.sum()
    assert centre == pytest.approx((0.75 * TILE, 0.15 * TILE), abs=0.3)


def test_without_an_array_the_heatmaps_stand_alone() -> None:
    flat, deep = (
        np.random.default_rng(3).random((50, 60), np.float32),
        np.random.default_rng(4).random((2, 56, 56), np.float32),
    )
    np.testing.assert_array_equal(plane(None, flat, colormap="hot"), overlay.heatmap(flat, "hot"))
    for tile, part in zip(tiles(contact_sheet(None, deep, colormap="hot"), 2, 1), deep, strict=True):
        np.testing.assert_array_equal(tile, overlay.heatmap(part, "hot"))


def test_what_does_not_fit_is_refused() -> None:
    for draw, shape in ((plane, (8, 9)), (contact_sheet, (4, 8, 9))):
        saliency = np.zeros(shape, np.float32)
        wrong = [
            noise(*shape),
            noise(0, *shape),
            noise(1, *shape[::-1]),
            noise(1, 1, *shape),
            noise(2, *shape) * np.inf,
        ]
        for array in wrong:
            with pytest.raises(ValueError, match="array"):
                draw(array, saliency)
        with pytest.raises(OptionError, match=r"\[0,1\]"):
            draw(noise(1, *shape), saliency - 0.5)
        with pytest.raises(OptionError, match="turbo"):
            draw(noise(1, *shape), saliency, colormap="trubo")
    with pytest.raises(ValueError, match="nothing to draw"):
        contact_sheet(None, np.zeros((0, 8, 9), np.float32))
