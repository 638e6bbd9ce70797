"""CAM, Ablation-CAM, Recipro-CAM and Eigen-CAM: class activation maps without gradients.

They run only the part of the network behind the feature maps, or nothing at all."""

from collections.abc import Iterator

import numpy as np

from onnxcam.errors import UndefinedSaliency
from onnxcam.methods.blocks import Method, Need, Probe, finite_features, live
from onnxcam.methods.maps import Outcome, rectified, stretched
from onnxcam.resampling import upsample
from onnxcam.types import Doubles, Features, Floats, Indices, Note, NoteCode, Score

AT_ONCE = 64
"""Variants of the feature tensor that are made at a time, so that memory stays small."""
TAIL = frozenset({Need.FEATURES, Need.TAIL})
LINEAR = 1e-3
"""The share of the logit's change by which a head may be off from linear and still count as linear."""


def ablation_cam() -> Method:
    """Ablation-CAM (Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360, equation 3).

    A channel's weight is the share of the logit that is lost when the channel is set to zero. The share is of the
    logit's absolute value, so that a negative logit does not turn the map round.
    """
    return Method(
        name="ablation-cam",
        paper="Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360",
        cost="one of the network's tail a feature map",
        explain=_ablation_maps,
        score=Score.LOGIT,
        needs=TAIL,
    )


def _ablation_maps(probe: Probe) -> list[Outcome]:
    maps = finite_features(probe)
    # A map of zeros changes nothing when it is set to zero.
    channels = np.flatnonzero(maps.any(axis=tuple(range(1, maps.ndim))))
    probe.expect(1 + len(channels))
    before = _tail(probe, maps[None])[0]
    scores = [_tail(probe, _without(maps, part)) for part in _parts(channels)]
    lost = (before - np.concatenate(scores)) / np.maximum(np.abs(before), 1e-12)
    raw = np.tensordot(lost.T, maps[channels].astype(np.float64), 1).astype(np.float32)
    return [rectified(r, probe.size, coarse=True, channels=len(channels)) for r in raw]


def _without(maps: Features, channels: Indices) -> Floats:
    """(N,K,h,w): the features with one of N channels set to zero in each."""
    variants = np.repeat(maps[None], len(channels), axis=0)
    variants[np.arange(len(channels)), channels] = 0
    return variants


def _parts(indices: Indices) -> Iterator[Indices]:
    return (indices[i : i + AT_ONCE] for i in range(0, len(indices), AT_ONCE))


def _tail(probe: Probe, features: Floats, score: Score = Score.LOGIT) -> Doubles:
    """(N,T) scores of the network's tail. Raises UndefinedSaliency where they hold NaN or infinity."""
    scores = probe.tail(features, score)
    if not np.isfinite(scores).all():
        raise UndefinedSaliency("the model's scores hold NaN or infinity when its features are changed")
    return np.asarray(scores, np.float64)


def recipro_cam() -> Method:
    """Recipro-CAM (Byun & Lee 2022, arXiv:2209.14074): the class probability when one cell of the features is left.

    The map's value at a cell is the score of the feature tensor with all other cells set to zero.
    """
    return Method(
        name="recipro-cam",
        paper="Byun & Lee 2022, arXiv:2209.14074",
        cost="one of the network's tail a cell of the feature grid",
        explain=_recipro_maps,
        score=Score.PROBABILITY,
        needs=TAIL,
    )


def _recipro_maps(probe: Probe) -> list[Outcome]:
    maps = finite_features(probe)
    grid = maps.shape[1:]
    cells = np.arange(int(np.prod(grid)))
    probe.expect(len(cells))
    flat = maps.reshape(len(maps), -1)
    scores = []
    for part in _parts(cells):
        alone = np.zeros((len(part), *flat.shape), np.float32)
        alone[np.arange(len(part)), :, part] = flat[:, part].T
        scores.append(_tail(probe, alone.reshape(-1, *maps.shape), Score.PROBABILITY))
    raw = np.concatenate(scores).T.reshape(-1, *grid).astype(np.float32)
    # Probabilities may differ in their last digits only; without what all have in common, resizing rounds less.
    return [Outcome(stretched(upsample(r - r.min(), probe.size)), r) for r in raw]


def eigen_cam() -> Method:
    """Eigen-CAM (Muhammad & Yeasin 2020, arXiv:2008.00299): the feature maps' first principal component.

    It knows no class. A component has no sign of its own: the one is taken that agrees with the mean of the maps.
    """
    return Method(
        name="eigen-cam",
        paper="Muhammad & Yeasin 2020, arXiv:2008.00299",
        cost="none",
        explain=_principal_component,
        score=Score.LOGIT,
    )


def _principal_component(probe: Probe) -> list[Outcome]:
    maps = finite_features(probe)
    if not live(maps).any():
        raise UndefinedSaliency("all feature maps are constant over space for this picture; try another --layer")
    by_cell = maps.reshape(len(maps), -1).T.astype(np.float64)  # (cells, K)
    vectors, strengths, _ = np.linalg.svd(by_cell - by_cell.mean(axis=0), full_matrices=False)
    component = vectors[:, 0] * strengths[0]
    mean = by_cell.mean(axis=1)
    if component @ (mean - mean.mean()) < 0:
        component = -component
    raw = component.reshape(maps.shape[1:]).astype(np.float32)
    text = "the map is of the picture, not of a class: Eigen-CAM gives every target the same one"
    outcome = rectified(raw, probe.size, coarse=True)
    return [Outcome(outcome.map, raw, (Note(NoteCode.CLASS_FREE, text), *outcome.notes))] * probe.targets


def cam() -> Method:
    """CAM (Zhou et al. 2016, arXiv:1512.04150, equation 2), for a head that averages the features and is linear.

    A channel's weight is what the logit gains when the channel's mean grows by one; it is measured by running the head
    on ones in one channel and zeros elsewhere. Raises UndefinedSaliency where the head's logit is not the sum of these
    gains: then the head is no linear layer over means, and Grad-CAM is the generalisation.
    """
    return Method(
        name="cam",
        paper="Zhou et al. 2016, arXiv:1512.04150",
        cost="one of the network's tail a feature map",
        explain=_linear_head_maps,
        score=Score.LOGIT,
        needs=TAIL,
    )


def _linear_head_maps(probe: Probe) -> list[Outcome]:
    maps = finite_features(probe)
    channels = np.arange(len(maps))
    probe.expect(2 + len(channels))
    bias = _tail(probe, np.zeros((1, *maps.shape), np.float32))[0]
    gains = np.concatenate([_tail(probe, _ones(maps, part)) for part in _parts(channels)]) - bias  # (K,T)
    means = maps.astype(np.float64).mean(axis=tuple(range(1, maps.ndim)))
    logits = _tail(probe, maps[None])[0]
    expected = bias + means @ gains
    reach = LINEAR * np.maximum(np.maximum(np.abs(logits - bias), np.abs(means) @ np.abs(gains)), 1e-6)
    if (np.abs(logits - expected) > reach).any():
        raise UndefinedSaliency(
            "CAM needs global average pooling and a linear head behind the feature maps, which this model does not "
            "have (or, with 8-bit numbers, only roughly); use score-cam, or grad-cam, CAM's generalisation"
        )
    raw = np.tensordot(gains.T, maps.astype(np.float64), 1).astype(np.float32)
    return [rectified(r, probe.size, coarse=True) for r in raw]


def _ones(maps: Features, channels: Indices) -> Floats:
    """(N,K,h,w): zeros, with ones in one of N channels in each."""
    variants = np.zeros((len(channels), *maps.shape), np.float32)
    variants[np.arange(len(channels)), channels] = 1
    return variants
