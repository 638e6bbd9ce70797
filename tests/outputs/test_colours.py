"""Colours of maps: the default for overlays is the one that people who do not tell red from green confuse least."""

from dataclasses import replace

import numpy as np
import pytest
from results import saliency

from onnxcam.errors import OptionError
from onnxcam.outputs import colours
from onnxcam.outputs.drawing import signed
from onnxcam.outputs.overlay import Style, transparent
from onnxcam.outputs.style import ALPHA
from onnxcam.types import Doubles

SEEN = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
"""What eyes make of linear RGB (Machado, Oliveira and Fernandes 2009, severity 1)."""
GROUNDS = range(20, 240, 12)
"""Greys of the photograph under the map."""
FAR, ALIKE = 0.25, 8.0
"""Maps so far apart should look different; colours of so small a distance in CIELAB look alike in a picture."""


def lab(rgb: Doubles) -> Doubles:
    """CIELAB (D65) of linear RGB in [0,1]."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.moveaxis(rgb @ matrix.T / [0.9505, 1.0, 1.089], -1, 0)
    x, y, z = (np.where(v > 0.008856, np.cbrt(np.maximum(v, 0)), 7.787 * v + 16 / 116) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def confused(colormap: str, eyes: str) -> float:
    """The share of pairs of numbers, FAR apart, whose colours look alike over a grey photograph."""
    values = np.linspace(0, 1, 51, dtype=np.float32)
    far = np.abs(values[:, None] - values) >= FAR
    shares = []
    for grey in GROUNDS:
        ground = np.full((1, len(values), 3), grey, np.float32)
        drawn = colours.blend(ground, values[None], colours.colour_table(colormap), ALPHA)[0] / 255
        linear = np.where(drawn <= 0.04045, drawn / 12.92, ((drawn + 0.055) / 1.055) ** 2.4)
        places = lab(np.clip(linear @ SEEN[eyes].T, 0, 1))
        distances = np.linalg.norm(places[:, None] - places, axis=-1)
        shares.append((distances[far] < ALIKE).mean())
    return float(np.mean(shares))


@pytest.mark.parametrize("eyes", SEEN)
def test_the_default_is_hardly_confused_over_a_photograph(eyes: str) -> None:
    assert confused(colours.COLORMAP, eyes) < 0.015


@pytest.mark.parametrize("eyes", ["protanopia", "deuteranopia"])
@pytest.mark.parametrize("colormap", ["cividis", "viridis", "inferno", "magma", "gray"])
def test_maps_that_rise_in_lightness_alone_are_confused_more(colormap: str, eyes: str) -> None:
    assert confused(colormap, eyes) > 3 * confused(colours.COLORMAP, eyes)


def test_the_signed_colormap_has_white_in_its_middle_and_an_end_for_each_sign() -> None:
    table = colours.colour_table(colours.SIGNED)
    assert table.shape == (511, 3)
    assert colours.least(table) == -1
    low, middle, high = colours.colours(np.array([-1, 0, 1], np.float32), table)
    assert np.ptp(middle) == 0
    assert (low[2] > low[0] + 100, high[0] > high[2] + 100) == (True, True)
    np.testing.assert_array_equal(
        colours.colours(np.array([0, 1], np.float32), colours.colour_table("gray"))[:, 0], [0, 255]
    )


def test_the_signed_map_keeps_the_sign_of_the_raw_one() -> None:
    raw = np.array([[-4, 2], [0, 1]], np.float32)
    one = replace(saliency(placed=False), map=np.zeros((4, 4), np.float32), raw=raw)
    values = signed(one)
    assert values[0, 0] == -1
    assert values[0, 3] == 0.5
    assert values[3, 0] == 0
    np.testing.assert_allclose(values[0, 1], -1 + 0.25 * 1.5)  # a quarter of the way between the cells' centres
    drawn = one.overlay(np.zeros((3, 4, 4), np.float32), colormap=colours.SIGNED, alpha=1.0)
    assert drawn[0, 0].tolist() == list(colours.ENDS[0])


def test_single_pixels_that_stand_out_do_not_hide_the_others() -> None:
    raw = np.full((20, 20), 0.5, np.float32)
    raw[0, 0], raw[5, 5] = -100, -0.5
    values = signed(replace(saliency(placed=False), map=np.zeros((20, 20), np.float32), raw=raw))
    assert (values[0, 0], values[5, 5], values[9, 9]) == (-1, -1, 1)


def test_a_sign_is_shown_of_maps_of_height_and_width() -> None:
    line = replace(saliency(placed=False), map=np.zeros(9, np.float32), raw=np.zeros(3, np.float32))
    with pytest.raises(OptionError, match="take another colormap"):
        signed(line)
    with pytest.raises(OptionError, match="did you mean blue-orange"):
        Style("blue-oranje")


def test_a_transparent_heatmap_over_a_ground_is_the_overlay() -> None:
    """Over a grey picture, which the overlay does not mute, laying RGBA over it gives what the overlay shows."""
    one, grey = saliency(), np.full((240, 300, 3), 100, np.uint8)
    rgba = one.heatmap(colormap="viridis", alpha=0.7).astype(float)
    laid = grey + rgba[..., 3:] / 255 * (rgba[..., :3] - grey)
    seen = np.isfinite(one.on_picture())
    np.testing.assert_allclose(laid[seen], one.overlay(grey, colormap="viridis", alpha=0.7)[seen], atol=1.5)
    assert (rgba[~seen][:, 3] == 0).all()
    assert transparent(np.array([[0.0, np.nan]], np.float32))[..., 3].tolist() == [[0, 0]]
