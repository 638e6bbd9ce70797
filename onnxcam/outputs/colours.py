"""The colours of a map: colormaps by name, and how a number becomes a colour over a photograph.

turbo is the default because an overlay has to tell strong from weak over a photograph that has light and dark of its
own: it does so by hue and opacity, where the maps that rise in lightness alone (cividis, viridis, inferno, magma)
meet the greys of the photograph, for eyes that do not tell red from green most of all. Where a map stands alone, these
are the better choice. docs/outputs.md has the numbers, tests/outputs/test_colours.py computes them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, near
from onnxcam.inputs.opencv import opencv
from onnxcam.types import Floats, Map, Picture

COLORMAP = "turbo"
COLORMAPS: dict[str, str | None] = {
    "turbo": "COLORMAP_TURBO",
    "jet": "COLORMAP_JET",
    "viridis": "COLORMAP_VIRIDIS",
    "plasma": "COLORMAP_PLASMA",
    "inferno": "COLORMAP_INFERNO",
    "magma": "COLORMAP_MAGMA",
    "cividis": "COLORMAP_CIVIDIS",
    "hot": "COLORMAP_HOT",
    "gray": None,
}
"""Colormaps of a map from 0 to 1 by name, with their constants in OpenCV; None is black to white."""

SIGNED = "blue-orange"
"""The colormap of a map with a sign: -1 is blue, 0 white, 1 orange, which colour-blind people tell apart."""
ENDS = (0, 84, 204), (110, 160, 230), (247, 247, 247), (250, 170, 80), (214, 80, 0)
"""RGB of SIGNED at -1, -0.5, 0, 0.5 and 1."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
STEPS = 255
"""Steps of colour from 0 to 1."""


def colour_table(colormap: str) -> Floats:
    """The colormap as RGB, 0 to 255: (256,3) float32 from 0 to 1, of a signed one (511,3) from -1 to 1.

    Raises OptionError for an unknown one.
    """
    cv2 = opencv()
    constant, ramp = known(colormap), np.arange(STEPS + 1, dtype=np.uint8)[:, None]
    if colormap == SIGNED:
        at, stops = np.linspace(-1, 1, 2 * STEPS + 1), np.linspace(-1, 1, len(ENDS))
        return np.stack([np.interp(at, stops, channel) for channel in zip(*ENDS, strict=True)], 1).astype(np.float32)
    if constant is None:
        return np.repeat(ramp, 3, axis=1).astype(np.float32)
    table: npt.NDArray[Any] = cv2.applyColorMap(ramp, getattr(cv2, constant))[:, 0, ::-1]
    return table.astype(np.float32)


def least(table: Floats) -> int:
    """The number that the first colour of a table stands for: 0, or -1 of a signed one. The last stands for 1."""
    return 0 if len(table) == STEPS + 1 else -1


def colours(values: Map, table: Floats) -> Floats:
    """(...,3) the colour of each number, from least(table) to 1."""
    levels = np.rint(values * STEPS).astype(np.intp) - STEPS * least(table)
    return np.asarray(table[levels])


def opacity(values: Map, alpha: float) -> Floats:
    """How much of the photograph the colour of each number covers, in [0,1]; alpha: where the map is 1, or -1."""
    return np.asarray(alpha * np.sqrt(np.abs(values)))


def blend(photograph: Floats, values: Map, table: Floats, alpha: float) -> Picture:
    """The colours of values (h,w) over photograph (h,w,3), 0 to 255; alpha as in overlay."""
    return blend_grey(photograph, photograph @ LUMA, values, table, alpha)


def blend_grey(photograph: Floats, grey: Floats, values: Map, table: Floats, alpha: float) -> Picture:
    """As blend(), where grey (h,w), the photograph times LUMA, is known."""
    muted = photograph + alpha * (grey[..., None] - photograph)
    blended = muted + opacity(values, alpha)[..., None] * (colours(values, table) - muted)
    return np.asarray(np.rint(blended).astype(np.uint8))


def known(colormap: str) -> str | None:
    """The colormap's constant in OpenCV, None for one that is made here. Raises OptionError for an unknown one."""
    if not isinstance(colormap, str):
        raise OptionError(f"colormap is a name such as {COLORMAP!r}, not a value of {type(colormap).__name__}")
    if colormap != SIGNED and colormap not in COLORMAPS:
        raise OptionError(f"unknown colormap {colormap!r}; {near(colormap, [*COLORMAPS, SIGNED])}")
    return COLORMAPS.get(colormap)
