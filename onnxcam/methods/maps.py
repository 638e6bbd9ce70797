"""What a method returns: one Outcome for each target, and how its map is made of feature maps and weights.

The raw map on the feature grid is finished here: ReLU, resizing to the image, stretching to [0,1]."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import UndefinedSaliency
from onnxcam.products import product
from onnxcam.resampling import upsample
from onnxcam.types import AnyMasks, Doubles, Features, Finish, Floats, Map, MasksOnDevice, Note, NoteCode, Scores

SAME = 1e-6
"""The share of the largest score that rounding may change."""
ALIKE = Note(
    NoteCode.SCORES_ALIKE, "every mask scores the same, so the map shows the feature maps and nothing of the target"
)


@dataclass(frozen=True)
class Outcome:
    """The result for one target.

    map: (H,W) in [0,1]. raw: the map before rectifying and normalising. notes: what a reader of the map should know.
    channels: how many feature maps were scored, None for a method that scores none. estimated: how many more have a
    score that was estimated from those. left: how many are still to be scored, of a map on the way. error: a bound on
    how far the map may be off because of what was estimated (see Provenance.error). finish: how the map follows from
    raw.
    """

    map: Map
    raw: Floats
    notes: tuple[Note, ...] = ()
    channels: int | None = None
    estimated: int = 0
    left: int = 0
    error: float | None = None
    finish: Finish = Finish.OWN


def weights_of(scores: Scores | Doubles, *, softmax: bool) -> Doubles:
    """(K,T) weights: the scores (K,T), or their softmax over K. Raises UndefinedSaliency on NaN or infinity."""
    weights = scores.astype(np.float64)
    if not np.isfinite(weights).all():
        raise UndefinedSaliency("the model's scores hold NaN or infinity on the masked pictures")
    if softmax:
        weights = np.exp(weights - weights.max(axis=0))
        weights /= weights.sum(axis=0)
    return weights


def combined(maps: Features | MasksOnDevice, weights: Doubles, size: tuple[int, ...]) -> list[Outcome]:
    """n(ReLU(up(sum_k a_k A_k))) of maps (K,*grid) for each column of weights (K,T), enlarged to `size` (*sides).

    Maps on a device are summed there. A note says where all weights are the same. Raises UndefinedSaliency where a map
    is constant or holds NaN.
    """
    return rectified_sums(summed(maps, weights), weights, size)


def summed(maps: Features | MasksOnDevice, weights: Doubles) -> npt.NDArray[np.floating[Any]]:
    """(T,*grid): the sum of the maps (K,*grid) times each column of weights (K,T)."""
    if not isinstance(maps, np.ndarray):
        return maps.summed(weights)
    flat = maps.reshape(len(maps), math.prod(maps.shape[1:])).astype(np.float64)
    return product(weights.T, flat).reshape(-1, *maps.shape[1:])


def as_maps(masks: AnyMasks) -> Features | MasksOnDevice:
    """Masks (K,1,*grid) as maps (K,*grid)."""
    return masks[:, 0] if isinstance(masks, np.ndarray) else masks


def rectified_sums(sums: npt.NDArray[np.floating[Any]], weights: Doubles, size: tuple[int, ...]) -> list[Outcome]:
    """combined() from the sums (T,*grid) that summed() returned for these weights (K,T)."""
    same = np.ptp(weights, axis=0) <= SAME * np.abs(weights).max(axis=0)
    outcomes = [rectified(raw, size, channels=len(weights)) for raw in sums.astype(np.float32)]
    return [replace(o, notes=(*o.notes, ALIKE)) if alike else o for o, alike in zip(outcomes, same, strict=True)]


def rectified(raw: Floats, size: tuple[int, ...], *, coarse: bool = False, channels: int | None = None) -> Outcome:
    """n(ReLU(up(raw))); where ReLU leaves nothing, the un-rectified map as MUPPET does, and a note that says so.

    raw (*grid), size (*sides) of the image. coarse: ReLU comes before upsampling, as in Grad-CAM and its kin. channels:
    see Outcome. Raises UndefinedSaliency where the map is constant or holds NaN.
    """
    up = upsample(np.maximum(raw, 0) if coarse and raw.max() > 0 else raw, size)  # an array of its own
    notes: tuple[Note, ...] = ()
    if up.max() > 0:
        np.maximum(up, 0, out=up)
    else:
        text = "no region speaks for the target: ReLU leaves nothing, so the un-rectified map is shown"
        notes = (Note(NoteCode.NOTHING_POSITIVE, text),)
    return Outcome(stretched(up), raw, notes, channels, finish=Finish.COARSE if coarse else Finish.RECTIFIED)


def stretched(up: Floats) -> Map:
    """Min-max to [0,1]; raises UndefinedSaliency on a constant map or NaN."""
    low, high = float(up.min()), float(up.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UndefinedSaliency("the map holds NaN or infinity: the model overflows on this picture")
    if not high > low:
        raise UndefinedSaliency("the map is constant: on this picture the method tells no region from another")
    return np.asarray((up - low) / (high - low), np.float32)
