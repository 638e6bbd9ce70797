"""The four blocks of a perturbation method, as values: explore, perturb, attribute, aggregate.

A generator carries the search: it yields masks and receives what they scored, so that a method may learn from its
answers and a random one runs in constant memory.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

import numpy as np

from onnxcam.arrays import Features, Floats, Map, Masks, Score, Scores
from onnxcam.errors import OptionError, UndefinedSaliency, near
from onnxcam.fills import ZERO, Fill
from onnxcam.resampling import upsample


class Convention(StrEnum):
    """What makes a region matter."""

    CONSTRUCTIVE = "constructive"
    """Keeping it, with everything else removed, brings the score back."""
    DESTRUCTIVE = "destructive"
    """Removing it destroys the score."""


class Probe(Protocol):
    """One picture before one model, with the targets that are asked about."""

    @property
    def features(self) -> Features: ...
    @property
    def size(self) -> tuple[int, ...]: ...
    def original(self, score: Score) -> Floats:
        """(T,) of the unmasked picture."""

    def score(self, masks: Masks, score: Score) -> Scores:
        """(K,T) of the picture seen through each mask, which is upsampled and normalised to [0,1] first."""


Choice = TypeVar("Choice", bound=StrEnum)


def choose(kind: type[Choice], value: str, what: str) -> Choice:
    """The enumeration's member of that name; raises OptionError that lists the near ones."""
    try:
        return kind(value)
    except ValueError:
        raise OptionError(f"no {what} is called {value!r}; {near(value, [str(k) for k in kind])}") from None


Search = Generator[Masks, Scores, None]
Explored = Iterator[tuple[Masks, Scores]]


@dataclass(frozen=True)
class Outcome:
    """One target's answer: map (H,W) in [0,1], raw (h,w) before upsampling, and what should be said about it."""

    map: Map
    raw: Floats
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """A method is data. options are recorded with every result, under the names that made it."""

    name: str
    paper: str
    explore: Callable[[Probe], Search]
    attribute: Callable[[Probe, Masks], Scores]
    aggregate: Callable[[Explored, Probe], list[Outcome]]
    score: Score
    perturb: Fill = ZERO
    options: Mapping[str, str] = field(default_factory=dict)


def run(method: Method, probe: Probe) -> tuple[list[Outcome], int]:
    """An outcome a target, and the number of masks that were scored."""
    scored = 0

    def explored() -> Explored:
        nonlocal scored
        search = method.explore(probe)
        try:
            masks = next(search)
            while True:
                scores = method.attribute(probe, masks)
                scored += len(masks)
                yield masks, scores
                masks = search.send(scores)
        except StopIteration:
            return

    return method.aggregate(explored(), probe), scored


def feature_maps() -> Callable[[Probe], Search]:
    """Explorer: every feature map that varies over space is a mask.

    A constant map has no normalised form; the authors' code skips it too. Constant means to float32's rounding.
    """

    def explore(probe: Probe) -> Search:
        maps = probe.features
        if not np.isfinite(maps).all():
            raise UndefinedSaliency("the feature maps hold NaN or infinity: the model overflows on this picture")
        space = tuple(range(1, maps.ndim))
        extent = np.ptp(maps, axis=space)
        live = extent > 8 * np.finfo(np.float32).eps * np.abs(maps).max(axis=space)
        if not live.any():
            raise UndefinedSaliency(
                f"all {len(maps)} feature maps are constant over space for this picture, so none can be a mask; "
                f"try another --layer"
            )
        yield maps[live][:, None]

    return explore


def class_score(score: Score, convention: Convention) -> Callable[[Probe, Masks], Scores]:
    """Attributor: the target's score through the mask, or how far the score falls when the mask is removed.

    1 - n(U) = n(-U), so the destructive mask of a map is the mask of its negative.
    """

    def attribute(probe: Probe, masks: Masks) -> Scores:
        if convention is Convention.DESTRUCTIVE:
            return probe.original(score)[None] - probe.score(-masks, score)
        return probe.score(masks, score)

    return attribute


def weighted_sum(*, softmax: bool = False) -> Callable[[Explored, Probe], list[Outcome]]:
    """Aggregator: n(ReLU(up(sum_k a_k A_k))), with a = s, or a = softmax over the masks of s.

    up is linear, so the maps are combined at (h,w) and resized once.
    """

    def aggregate(explored: Explored, probe: Probe) -> list[Outcome]:
        seen = list(explored)
        maps = np.concatenate([m for m, _ in seen])[:, 0].astype(np.float64)
        weights = np.concatenate([s for _, s in seen]).astype(np.float64)
        if not np.isfinite(weights).all():
            raise UndefinedSaliency("the model's scores hold NaN or infinity on the masked pictures")
        if softmax:
            weights = np.exp(weights - weights.max(axis=0))
            weights /= weights.sum(axis=0)
        raw = np.tensordot(weights.T, maps, 1).astype(np.float32)
        return [rectified(r, probe.size) for r in raw]

    return aggregate


def rectified(raw: Floats, size: tuple[int, ...]) -> Outcome:
    """n(ReLU(up(raw))); where ReLU leaves nothing, the un-rectified map as MUPPET does, and a note that says so."""
    up = upsample(raw, size)
    notes: tuple[str, ...] = ()
    if up.max() > 0:
        up = np.maximum(up, 0)
    else:
        notes = ("no region speaks for the target: ReLU leaves nothing, so the un-rectified map is shown",)
    low, high = float(up.min()), float(up.max())
    if not high > low:
        raise UndefinedSaliency("the map is constant: on this picture the method tells no region from another")
    return Outcome(np.asarray((up - low) / (high - low), np.float32), raw, notes)
