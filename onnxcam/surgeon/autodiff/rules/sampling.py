"""Resizing and padding as matrices: both are linear along each axis, so the gradient is the transposed matrix.

Helpers of the rules for Resize and Pad in shape.py.
"""

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode

Matrix = npt.NDArray[np.float64]


def pad_matrix(size: int, before: int, after: int, mode: str) -> Matrix:
    """(before + size + after, size) zeros and ones: the input entry that each output entry repeats."""
    modes = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    kept = np.arange(size)[max(-before, 0) : size - max(-after, 0)]
    sources = np.pad(kept, (max(before, 0), max(after, 0)), mode=modes[mode])  # type: ignore[call-overload]
    return np.asarray(np.eye(size)[sources])


def resize_matrix(node: BackwardNode, old: int, new: int, scale: float) -> Matrix:
    """(new, old) weights of ONNX Resize along one axis, edges replicated. scale: as the model states it.

    Raises MissingGradient for anti-aliasing and crops.
    """
    where = node.text("coordinate_transformation_mode", "half_pixel")
    mode = node.text("mode", "nearest")
    if node.integer("antialias", 0) or where == "tf_crop_and_resize":
        raise node.refusal("resizes with anti-aliasing or a crop")
    at = _positions(np.arange(new), old, new, scale, where)
    if mode == "nearest":
        return np.asarray(
            np.eye(old)[np.clip(_rounded(at, node.text("nearest_mode", "round_prefer_floor")), 0, old - 1)]
        )
    low = np.floor(at).astype(int)
    share = at - low
    if mode == "linear":
        taps, weights = np.stack([low, low + 1], 1), np.stack([1 - share, share], 1)
    else:
        taps = low[:, None] + np.arange(-1, 3)
        weights = _cubic(share, node.number("cubic_coeff_a", -0.75))
        if node.integer("exclude_outside", 0):
            weights = np.where((taps >= 0) & (taps < old), weights, 0)
            weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], np.clip(taps, 0, old - 1)), weights)
    return matrix


def _positions(i: npt.NDArray[np.int64], old: int, new: int, scale: float, where: str) -> Matrix:
    """Coordinates of the output entries i on the input axis, by the operator's coordinate_transformation_mode."""
    if where == "asymmetric":
        return np.asarray(i / scale)
    if where == "align_corners":
        return np.asarray(i * (old - 1) / (new - 1) if new > 1 else i * 0.0)
    if where == "pytorch_half_pixel" and new <= 1:
        return np.asarray(i * 0.0)
    centre = (i + 0.5) / scale - 0.5
    if where == "half_pixel_symmetric":
        exact = new / (scale * old)
        return np.asarray(old / 2 * (1 - exact) + centre)
    return np.asarray(centre)


def _rounded(at: Matrix, how: str) -> npt.NDArray[np.int64]:
    if how in ("floor", "ceil"):
        return np.asarray(np.floor(at) if how == "floor" else np.ceil(at), np.int64)
    return np.asarray(np.ceil(at - 0.5) if how == "round_prefer_floor" else np.floor(at + 0.5), np.int64)


def _cubic(share: Matrix, a: float) -> Matrix:
    """(n, 4) weights of the neighbours at -1, 0, 1, 2 (Keys 1981). share: distances from neighbour 0."""

    def near(t: Matrix) -> Matrix:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Matrix) -> Matrix:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return np.stack([far(share + 1), near(share), near(1 - share), far(2 - share)], 1)
