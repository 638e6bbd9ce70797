"""How a map is drawn, as one value: `Style`."""

from dataclasses import dataclass

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.limits import brief
from onnxcam.outputs.colours import COLORMAP, known

ALPHA = 0.6
THRESHOLD = 0.5
"""From which saliency on a pixel is in a mask, a box or an outline, unless it is given."""
LONG_SIDE = 224
"""Pixels on the longer side; a smaller picture is enlarged to at least as many."""


@dataclass(frozen=True)
class Style:
    """How a map is drawn. Raises OptionError for an unknown colormap, and for numbers out of their range.

    colormap: a name in COLORMAPS, or SIGNED. alpha: opacity where the map is 1, in [0,1]. caption: whether class,
    probability, method and the scale of colours stand under the picture. font: a font file or name for labels that the
    built-in typefaces lack. truth: boxes of the object, as a person drew them, in the pixels of a target's box; they
    are drawn on pictures. threshold: from which saliency on, 0 to 1, a pixel is in a mask, a box or an outline.
    max_size: pixels on the longer side of what is drawn, at most; a caption adds lines below. None for the picture's
    own size.
    """

    colormap: str = COLORMAP
    alpha: float = ALPHA
    caption: bool = False
    font: str | None = None
    truth: tuple[tuple[float, float, float, float], ...] = ()
    threshold: float = THRESHOLD
    max_size: int | None = None

    def __post_init__(self) -> None:
        known(self.colormap)
        check_alpha(self.alpha)
        check_bool("caption", self.caption)
        check_share("the threshold", self.threshold)
        size = self.max_size
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < LONG_SIDE):
            raise OptionError(
                f"the largest size is a whole number of pixels from {LONG_SIDE} on, not {brief(size)}: words on a "
                f"smaller picture cannot be read"
            )


def check_alpha(alpha: float) -> None:
    """Raises OptionError for a number outside [0,1]."""
    if not isinstance(alpha, int | float | np.integer | np.floating):
        raise OptionError(f"alpha is a number from 0 to 1, not a value of {type(alpha).__name__}")
    if not 0 <= alpha <= 1:  # NaN is neither
        raise OptionError(
            f"alpha is {brief(alpha)}; it lies between 0 (only the picture) and 1 (opaque where the map is 1)"
        )


def check_bool(name: str, value: object) -> None:
    """Raises OptionError for what is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} is True or False, not {brief(value)}")


def check_share(name: str, value: float) -> float:
    """The number. Raises OptionError for what is none from 0 to 1."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:
        raise OptionError(f"{name} is a number from 0 to 1, not {brief(value)}")
    return float(value)
