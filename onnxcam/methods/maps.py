"""What a method gives: a map for each target, and how one is made of feature maps and their weights."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import UndefinedSaliency
from onnxcam.resampling import upsample
from onnxcam.types import AnyMasks, Features, Finish, Floats, Map, MasksOnDevice, Note, NoteCode, Scores

SAME = 1e-6
"""Of the largest score: what rounding may change."""
ALIKE = Note(
    NoteCode.SCORES_ALIKE, "every mask scores the same, so the map shows the feature maps and nothing of the target"
)


@dataclass(frozen=True)
class Outcome:
    """One target's answer: map (H,W) in [0,1], raw before rectifying and normalising, and what should be said about it.

    channels: how many feature maps were scored, by methods that score them; estimated: how many more have a score that
    was estimated from those; left: how many are still to come, of a map on the way; error: by how much the map may be
    off for what was estimated (see arrays.Provenance). finish: how the map follows from raw.
    """

    map: Map
    raw: Floats
    notes: tuple[Note, ...] = ()
    channels: int | None = None
    estimated: int = 0
    left: int = 0
    error: float | None = None
    finish: Finish = Finish.OWN


def weights(scores: Scores | npt.NDArray[np.float64], *, softmax: bool) -> npt.NDArray[np.float64]:
    """(K,T) of the maps; raises UndefinedSaliency on NaN."""
    found = scores.astype(np.float64)
    if not np.isfinite(found).all():
        raise UndefinedSaliency("the model's scores hold NaN or infinity on the masked pictures")
    if softmax:
        found = np.exp(found - found.max(axis=0))
        found /= found.sum(axis=0)
    return found


def combined(maps: Features | MasksOnDevice, weights: npt.NDArray[np.float64], size: tuple[int, ...]) -> list[Outcome]:
    """n(ReLU(up(sum_k a_k A_k))) of maps (K,*grid) for each column of weights (K,T), on a picture of `size` (*sides).

    Maps on a device are summed there. A note says where all weights are the same. Raises UndefinedSaliency where a map
    is constant or holds NaN.
    """
    return weighed(summed(maps, weights), weights, size)


def summed(maps: Features | MasksOnDevice, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.floating[Any]]:
    """(T,*grid): the sum of the maps times each column of weights (K,T)."""
    if not isinstance(maps, np.ndarray):
        return maps.summed(weights)
    return np.asarray(np.tensordot(weights.T, maps.astype(np.float64), 1))


def flat(masks: AnyMasks) -> Features | MasksOnDevice:
    """Masks (K,1,*grid) as maps (K,*grid)."""
    return masks[:, 0] if isinstance(masks, np.ndarray) else masks


def weighed(
    raw: npt.NDArray[np.floating[Any]], weights: npt.NDArray[np.float64], size: tuple[int, ...]
) -> list[Outcome]:
    """What combined() gives, of the sums (T,*grid) that summed() made."""
    same = np.ptp(weights, axis=0) <= SAME * np.abs(weights).max(axis=0)
    outcomes = [rectified(r, size, channels=len(weights)) for r in raw.astype(np.float32)]
    return [replace(o, notes=(*o.notes, ALIKE)) if alike else o for o, alike in zip(outcomes, same, strict=True)]


def rectified(raw: Floats, size: tuple[int, ...], *, coarse: bool = False, channels: int | None = None) -> Outcome:
    """n(ReLU(up(raw))); where ReLU leaves nothing, the un-rectified map as MUPPET does, and a note that says so.

    raw (*grid); size (*sides) of the picture, as many axes. coarse: ReLU comes before upsampling, as in Grad-CAM and
    its kin. channels: as Outcome has it. Raises UndefinedSaliency where the map is constant or holds NaN.
    """
    up = upsample(np.maximum(raw, 0) if coarse and raw.max() > 0 else raw, size)
    notes: tuple[Note, ...] = ()
    if up.max() > 0:
        up = np.maximum(up, 0)
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
