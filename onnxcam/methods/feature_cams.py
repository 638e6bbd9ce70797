"""Class activation maps without gradients that run only the network behind the feature maps, or nothing at all."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from onnxcam.errors import UndefinedSaliency
from onnxcam.methods.blocks import Method, Need, Probe, finite_features, live
from onnxcam.methods.maps import Outcome, rectified, stretched
from onnxcam.resampling import upsample
from onnxcam.types import Features, Floats, Note, NoteCode, Score, Scores

AT_ONCE = 64
"""Variants of the feature tensor that are made at a time, so that memory stays small."""
TAIL = frozenset({Need.FEATURES, Need.TAIL})
LINEAR = 1e-3
"""Of the logit's change, how far a head may be from linear to count as such."""


def ablation_cam() -> Method:
    """Ablation-CAM (Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360, equation 3).

    A channel's weight is the share of the logit that is lost when the channel is set to zero. The share is of the
    logit's absolute value, so that a negative logit does not turn the map round.
    """

    def explain(probe: Probe) -> list[Outcome]:
        maps = finite_features(probe)
        # A map of zeros changes nothing when it is set to zero.
        chosen = np.flatnonzero(maps.any(axis=tuple(range(1, maps.ndim))))
        probe.expect(1 + len(chosen))
        before = _tail(probe, maps[None])[0]
        scores = [_tail(probe, _without(maps, part)) for part in _parts(chosen)]
        lost = (before - np.concatenate(scores)) / np.maximum(np.abs(before), 1e-12)
        raw = np.tensordot(lost.T, maps[chosen].astype(np.float64), 1).astype(np.float32)
        return [rectified(r, probe.size, coarse=True, channels=len(chosen)) for r in raw]

    return Method(
        name="ablation-cam", paper="Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360",
        cost="one of the network's tail a feature map", explain=explain, score=Score.LOGIT,
        needs=TAIL,
    )  # fmt: skip


def _without(maps: Features, channels: npt.NDArray[np.int64]) -> Floats:
    found = np.repeat(maps[None], len(channels), axis=0)
    found[np.arange(len(channels)), channels] = 0
    return found


def _parts(numbers: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    return (numbers[i : i + AT_ONCE] for i in range(0, len(numbers), AT_ONCE))


def _tail(probe: Probe, features: Floats, score: Score = Score.LOGIT) -> Scores:
    found = probe.tail(features, score)
    if not np.isfinite(found).all():
        raise UndefinedSaliency("the model's scores hold NaN or infinity when its features are changed")
    return np.asarray(found, np.float64)


def recipro_cam() -> Method:
    """Recipro-CAM (Byun & Lee 2022, arXiv:2209.14074): the class probability when one cell of the features is left.

    The map's value at a cell is the score of the feature tensor with all other cells set to zero.
    """

    def explain(probe: Probe) -> list[Outcome]:
        maps = finite_features(probe)
        grid = maps.shape[1:]
        cells = np.arange(int(np.prod(grid)))
        probe.expect(len(cells))
        flat = maps.reshape(len(maps), -1)
        found = []
        for part in _parts(cells):
            alone = np.zeros((len(part), *flat.shape), np.float32)
            alone[np.arange(len(part)), :, part] = flat[:, part].T
            found.append(_tail(probe, alone.reshape(-1, *maps.shape), Score.PROBABILITY))
        raw = np.concatenate(found).T.reshape(-1, *grid).astype(np.float32)
        return [Outcome(stretched(upsample(r, probe.size)), r) for r in raw]

    return Method(
        name="recipro-cam", paper="Byun & Lee 2022, arXiv:2209.14074",
        cost="one of the network's tail a cell of the feature grid", explain=explain, score=Score.PROBABILITY,
        needs=TAIL,
    )  # fmt: skip


def eigen_cam() -> Method:
    """Eigen-CAM (Muhammad & Yeasin 2020, arXiv:2008.00299): the feature maps' first principal component.

    It knows no class. A component has no sign of its own: the one is taken that agrees with the mean of the maps.
    """

    def explain(probe: Probe) -> list[Outcome]:
        maps = finite_features(probe)
        if not live(maps).any():
            raise UndefinedSaliency("all feature maps are constant over space for this picture; try another --layer")
        table = maps.reshape(len(maps), -1).T.astype(np.float64)  # (cells, K)
        left, strength, _ = np.linalg.svd(table - table.mean(axis=0), full_matrices=False)
        component = left[:, 0] * strength[0]
        mean = table.mean(axis=1)
        if component @ (mean - mean.mean()) < 0:
            component = -component
        raw = component.reshape(maps.shape[1:]).astype(np.float32)
        text = "the map is of the picture, not of a class: Eigen-CAM gives every target the same one"
        outcome = rectified(raw, probe.size, coarse=True)
        return [Outcome(outcome.map, raw, (Note(NoteCode.CLASS_FREE, text), *outcome.notes))] * probe.targets

    return Method(
        name="eigen-cam", paper="Muhammad & Yeasin 2020, arXiv:2008.00299", cost="none", explain=explain,
        score=Score.LOGIT,
    )  # fmt: skip


def cam() -> Method:
    """CAM (Zhou et al. 2016, arXiv:1512.04150, equation 2), for a head that averages the features and is linear.

    A channel's weight is what the logit gains when the channel's mean grows by one, read off the head by running it on
    one channel of ones after another. Raises UndefinedSaliency where the head's answer is not the sum of these: then it
    is no linear layer over means, and Grad-CAM is the generalisation.
    """

    def explain(probe: Probe) -> list[Outcome]:
        maps = finite_features(probe)
        channels = np.arange(len(maps))
        probe.expect(2 + len(channels))
        nothing = _tail(probe, np.zeros((1, *maps.shape), np.float32))[0]
        gains = np.concatenate([_tail(probe, _ones(maps, part)) for part in _parts(channels)]) - nothing  # (K,T)
        means = maps.astype(np.float64).mean(axis=tuple(range(1, maps.ndim)))
        there = _tail(probe, maps[None])[0]
        expected = nothing + means @ gains
        reach = LINEAR * np.maximum(np.maximum(np.abs(there - nothing), np.abs(means) @ np.abs(gains)), 1e-6)
        if (np.abs(there - expected) > reach).any():
            raise UndefinedSaliency(
                "CAM needs global average pooling and a linear head behind the feature maps, which this model does not "
                "have (or, with 8-bit numbers, only roughly); use score-cam, or grad-cam, CAM's generalisation"
            )
        raw = np.tensordot(gains.T, maps.astype(np.float64), 1).astype(np.float32)
        return [rectified(r, probe.size, coarse=True) for r in raw]

    return Method(
        name="cam", paper="Zhou et al. 2016, arXiv:1512.04150", cost="one of the network's tail a feature map",
        explain=explain, score=Score.LOGIT, needs=TAIL,
    )  # fmt: skip


def _ones(maps: Features, channels: npt.NDArray[np.int64]) -> Floats:
    found = np.zeros((len(channels), *maps.shape), np.float32)
    found[np.arange(len(channels)), channels] = 1
    return found
