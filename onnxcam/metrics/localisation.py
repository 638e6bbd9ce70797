"""Whether a map lies on the object: the energy pointing game and the pointing game, against boxes that a person drew.

A box is (left, top, right, bottom) with 0 at the outer edge of the first pixel. A pixel belongs to it by its centre:
left <= centre < right. With a Placement the box is in pixels of the upright picture, and it is led through resizing and
cropping to the model's input; without one it is in pixels of the map. Several boxes of one class count as their union.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.limits import brief
from onnxcam.metrics.arguments import finite_map, known_protocol
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.metric import Boxes
from onnxcam.types import Doubles, Indices, Placement

POINTING_PROTOCOLS = ("15px", "exact")
"""15px: a maximum within 15 pixels of the box hits too, as Zhang et al. play it. exact: only one in the box hits."""
TOLERANCE = 15.0
"""Pixels of the model's input, from the maximum's centre to the centre of the nearest pixel of the box."""
ROUNDED = 1.0
"""Pixels by which a box may reach beyond a picture without a word: some annotations count from 1."""
IN_PIXELS = "a box is in pixels, and these numbers, none above 1, look like shares of the picture's sides"
OUTSIDE = "no pixel of the model's input has its centre in the box: it lies outside of what the model sees, or is empty"


def energy_pointing_game(saliency_map: npt.ArrayLike, box: Boxes, *, placement: Placement | None = None) -> Measurement:
    """The sum of the map in the box over its whole sum, in [0,1]; higher is better (Score-CAM, arXiv:1910.01279).

    A map on a resized or cropped input does not know where it lies on the picture. For a box in pixels of the picture
    pass placement=saliency.placement (or scorer.placement); without it the box is in pixels of the map.

    saliency_map (H,W) on the model's input, not negative. box: (left, top, right, bottom) with 0 at the outer edge of
    the first pixel, or a list of such boxes, whose union counts. options: "box_share", the part of the input's pixels
    that lie in the box, which a map of ones scores; "ratio", the value divided by it. None where the map is zero
    everywhere or has negative numbers, and where no pixel lies in the box. Raises OptionError for a map that is not
    finite or not two-dimensional, and for a box that is not one.
    """
    numbers = _plane(saliency_map)
    inside = box_mask(box, numbers.shape, placement=placement)
    reason = None if inside.any() else _outside(box)
    if numbers.min() < 0:
        reason = "the map has negative numbers, and their energy is not defined; rectify it first"
    elif not numbers.any():
        reason = "the map is zero everywhere"
    if reason is not None:
        return Measurement("energy_pointing_game", None, reason=reason)
    numbers = numbers / numbers.max()
    value, share = float(numbers[inside].sum() / numbers.sum()), float(inside.mean())
    note = _doubt(box, numbers.shape, placement)
    return Measurement("energy_pointing_game", value, options={"ratio": value / share, "box_share": share}, note=note)


def pointing_game(
    saliency_map: npt.ArrayLike, box: Boxes, *, protocol: str = "15px", placement: Placement | None = None
) -> Measurement:
    """1 where the map's maximum lies in the box, else 0; higher is better (Zhang et al. 2016, arXiv:1608.00507).

    A map on a resized or cropped input does not know where it lies on the picture. For a box in pixels of the picture
    pass placement=saliency.placement (or scorer.placement); without it the box is in pixels of the map.

    protocol: '15px' counts a maximum within 15 pixels of the box too (of the model's input, from centre to centre),
    'exact' only one in the box. Where several pixels share the maximum: the part of them that hit, which is what one of
    them drawn at random would score. None for a constant map, which has no maximum, and where no pixel lies in the box.
    saliency_map, box and what it raises: as of energy_pointing_game(); the map may be negative.
    """
    known_protocol("pointing_game", protocol, POINTING_PROTOCOLS)
    numbers = _plane(saliency_map)
    rectangles = _pixel_rectangles(box, numbers.shape, placement)
    reason = None if len(rectangles) else _outside(box)
    if numbers.min() == numbers.max():
        reason = "the map is constant, so it has no maximum"
    if reason is not None:
        return Measurement("pointing_game", None, protocol, reason)
    maxima = np.argwhere(numbers == numbers.max())[:, None]
    first, last = rectangles[:, :2], rectangles[:, 2:] - 1
    beyond = np.maximum(np.maximum(first - maxima, maxima - last), 0)
    distance = np.sqrt((beyond**2).sum(axis=2)).min(axis=1)
    hits = distance <= (TOLERANCE if protocol == "15px" else 0)
    return Measurement("pointing_game", float(hits.mean()), protocol, note=_doubt(box, numbers.shape, placement))


def box_mask(box: Boxes, size: tuple[int, ...], *, placement: Placement | None = None) -> npt.NDArray[np.bool_]:
    """(H,W) which pixels of a model's input of this size lie in the box, or in one of the boxes; by their centres.

    A part of a box beyond the picture or the input is cut off. Raises OptionError for a box that is not one.
    """
    mask = np.zeros(size, np.bool_)
    for top, left, bottom, right in _pixel_rectangles(box, size, placement):
        mask[top:bottom, left:right] = True
    return mask


def box_on_input(box: Boxes, size: tuple[int, ...], placement: Placement | None = None) -> Doubles:
    """(n,4) left, top, right, bottom of n boxes in pixels of a model's input (H,W), clipped to it; may be empty.

    box: in pixels of the upright picture with a placement, else of the input. Raises OptionError for what is no box.
    """
    corners = _checked(box)
    height, width = size
    if placement is not None:
        if not isinstance(placement, Placement):
            raise OptionError(f"placement is that of a Saliency or a Scorer, or None, not {brief(placement)}")
        down, across = placement.picture
        corners = np.clip(corners, 0, [across, down, across, down])  # a padded input shows no object beyond it
        left, top, right, bottom = placement.box
        scale = np.array([width / (right - left), height / (bottom - top)] * 2)
        corners = (corners - [left, top, left, top]) * scale
    return np.asarray(np.clip(corners, 0, [width, height, width, height]))


def _checked(box: Boxes) -> Doubles:
    """(n,4) the corners; none of an empty list."""
    try:
        corners = np.asarray(box, np.float64)
    except (TypeError, ValueError, OverflowError):
        corners = np.full(1, np.nan)
    if corners.shape == (0,):
        return np.zeros((0, 4))
    if corners.shape[-1:] != (4,) or corners.ndim > 2 or not np.isfinite(corners).all():
        raise OptionError(f"a box is left, top, right, bottom in pixels, or a list of such boxes; not {brief(box)}")
    corners = corners.reshape(-1, 4)
    if (corners[:, :2] > corners[:, 2:]).any():
        raise OptionError(f"a box is left, top, right, bottom, with right not below left; not {brief(box)}")
    return corners


def _pixel_rectangles(box: Boxes, size: tuple[int, ...], placement: Placement | None) -> Indices:
    """(n,4) first row, first column, end of rows, end of columns of the boxes that hold a pixel's centre."""
    edges = np.ceil(box_on_input(box, size, placement) - 0.5).astype(np.int64)[:, [1, 0, 3, 2]]
    return np.asarray(edges[(edges[:, 2:] > edges[:, :2]).all(axis=1)])


def _outside(box: Boxes) -> str:
    """Why a box that holds no pixel has no value."""
    return f"{IN_PIXELS}: no pixel lies in the box" if _looks_relative(_checked(box)) else OUTSIDE


def _doubt(box: Boxes, size: tuple[int, ...], placement: Placement | None) -> str | None:
    """What is odd about a box that holds pixels: that it reaches beyond the picture, or is no box in pixels."""
    corners = _checked(box)
    if _looks_relative(corners):
        return IN_PIXELS
    height, width = placement.picture if placement is not None else size
    if (corners < -ROUNDED).any() or (corners > np.array([width, height] * 2) + ROUNDED).any():
        return f"the box reaches beyond the picture, {width} wide and {height} high; the part outside is left out"
    return None


def _looks_relative(corners: Doubles) -> bool:
    return bool(corners.size and corners.min() >= 0 and corners.max() <= 1)


def check_plane(shape: Sequence[int]) -> None:
    """Raises OptionError for the shape of a map that is none of height and width, such as that of a signal."""
    if len(shape) != 2:
        raise OptionError(
            f"a box lies on a picture, and this map has the shape {tuple(shape)}; "
            "the pointing games take maps of height and width only"
        )


def _plane(saliency_map: npt.ArrayLike) -> Doubles:
    numbers = finite_map(saliency_map)
    check_plane(numbers.shape)
    return numbers
