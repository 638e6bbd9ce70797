"""What methods are made of, and what they see.

A perturbation method is four blocks, as values: explore, perturb, attribute, aggregate. A generator carries the search:
it yields masks and receives what they scored, so that a method may learn from its answers and a random one runs in
constant memory. Every other method is a function of the probe. Where several pictures are explained at one time, what
their methods ask of their probes, in the thread they were called in, goes through the network together (together.py).
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, UndefinedSaliency, near
from onnxcam.methods.fills import ZERO, Fill
from onnxcam.methods.maps import Outcome, flat, summed, weighed, weights
from onnxcam.types import AnyMasks, Features, FeaturesOnDevice, Floats, Image, MaskForm, Masks, Rows, Score, Scores


class Convention(StrEnum):
    """What makes a region matter."""

    CONSTRUCTIVE = "constructive"
    """Keeping it, with everything else removed, brings the score back."""
    DESTRUCTIVE = "destructive"
    """Removing it destroys the score."""


class Need(StrEnum):
    """What a method asks of a model beside its forward pass."""

    FEATURES = "features"
    """A feature tensor with the picture's geometry."""
    TAIL = "tail"
    """A feature tensor that the score reads at every cell: the method changes it, or reads the gradient there."""
    GRADIENT = "gradient"
    """A gradient rule for every operator on the way."""


class Probe(Protocol):
    """One picture before one model, with the targets that are asked about."""

    @property
    def image(self) -> Image:
        """As the network takes it, but for the order of the axes."""

    @property
    def fill(self) -> Image:
        """What stands where a mask removes the picture, of the image's shape."""

    @property
    def features(self) -> Features: ...
    @property
    def held(self) -> FeaturesOnDevice | None:
        """The same where the network runs; None if that is where NumPy is."""

    @property
    def size(self) -> tuple[int, ...]: ...
    @property
    def targets(self) -> int:
        """How many targets are asked about."""

    def expect(self, passes: int) -> None:
        """Says how many rows will be run in all, for the progress that a person sees."""

    def original(self, score: Score) -> Floats:
        """(T,) of the unmasked picture."""

    def score(self, masks: AnyMasks, score: Score) -> Scores:
        """(K,T) of the picture seen through each mask, which the graph makes ready as the method's form says."""

    def tail(self, features: Features, score: Score) -> Scores:
        """(N,T) of what the network makes of these features (N,K,h,w) in the place of its own."""

    def score_gradient(
        self, maps: Masks, rows: Rows, score: Score, shift: Sequence[int] | None = None
    ) -> tuple[Floats, Masks]:
        """(N,) scores of the picture through each mask for its row's target, and (N,1,h,w) d score / d mask.

        shift: pixels along each side by which the picture is rolled first, its fill too.
        """

    def feature_gradient(self) -> Floats:
        """(T,K,h,w) d logit / d features on the unmasked picture."""

    def image_gradient(self, images: Floats, rows: Rows, *, guided: bool = False) -> tuple[Floats, Floats]:
        """(N,) logits of the images (N,C,H,W), and (N,C,H,W) d logit / d image.

        guided: as guided backpropagation changes it; raises UndefinedSaliency where there is no ReLU on the way.
        """


Choice = TypeVar("Choice", bound=StrEnum)


def choose(kind: type[Choice], value: str, what: str) -> Choice:
    """The enumeration's member of that name; raises OptionError that lists the near ones."""
    try:
        return kind(value)
    except ValueError:
        raise OptionError(f"no {what} is called {value!r}; {near(value, [str(k) for k in kind])}") from None


def whole(value: int, name: str, least: int = 1, most: int = 10**7) -> int:
    """A whole number from `least` to `most`; raises OptionError."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value > most:
        raise OptionError(f"{name} must be at most {most}, not {value}")
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise OptionError(f"{name} must be a whole number from {least} on, not {value!r}")
    return int(value)


LARGEST = 1e6
"""Of an option that is a real number; beyond, float32 overflows somewhere."""


def positive(value: float, name: str, *, or_zero: bool = False) -> float:
    """A number above 0 and no larger than LARGEST; raises OptionError."""
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(value)
    if not good or value < 0 or (value == 0 and not or_zero):
        raise OptionError(f"{name} must be {'0 or more' if or_zero else 'above 0'}, not {value!r}")
    if value > LARGEST:
        raise OptionError(f"{name} must be at most {LARGEST:g}, not {value!r}")
    return float(value)


Answers = TypeVar("Answers")
Search = Generator[AnyMasks, Scores, None]
Explored = Iterator[tuple[AnyMasks, Scores]]


@dataclass(frozen=True)
class Method:
    """A method is data. options are recorded with every result, under the names that made it.

    explain: answers one picture. stream: the same with maps on the way, the last of which is the answer; beside explain
    it is for who wants to watch. One of the two is given. cost: forward passes, for a reader. searches: it asks for the
    gradients of masked scores, step by step, and a step graph serves it. asks: the least number of masks, or rows of a
    step, that it asks about at one time, None if they fill the network anyway; where they are few, several pictures are
    explained together. form: of its masks. score: what it measures. perturb: what stands where they remove the picture.
    """

    name: str
    paper: str
    cost: str
    explain: Callable[[Probe], list[Outcome]] | None = None
    stream: Callable[[Probe], Iterator[list[Outcome]]] | None = None
    needs: frozenset[Need] = frozenset({Need.FEATURES})
    searches: bool = False
    asks: int | None = None
    score: Score = Score.PROBABILITY
    perturb: Fill = ZERO
    form: MaskForm = field(default_factory=MaskForm)
    options: Mapping[str, str] = field(default_factory=dict)


def run(method: Method, probe: Probe) -> list[Outcome]:
    """An outcome a target."""
    if method.explain is not None:
        return method.explain(probe)
    assert method.stream is not None
    return deque(method.stream(probe), maxlen=1)[0]


def four_blocks(
    explore: Callable[[Probe], Search],
    attribute: Callable[[Probe, AnyMasks], Scores],
    aggregate: Callable[[Explored, Probe], Answers],
) -> Callable[[Probe], Answers]:
    """Three of the blocks joined; the fourth, perturb, is in the graph that the probe runs.

    Answers: the outcomes, or a stream of them.
    """

    def explain(probe: Probe) -> Answers:
        return aggregate(_explored(explore(probe), attribute, probe), probe)

    return explain


def _explored(search: Search, attribute: Callable[[Probe, AnyMasks], Scores], probe: Probe) -> Explored:
    try:
        masks = next(search)
        while True:
            scores = attribute(probe, masks)
            yield masks, scores
            masks = search.send(scores)
    except StopIteration:
        return


def finite_features(probe: Probe) -> Features:
    """Raises UndefinedSaliency where the network overflows."""
    _check_finite(bool(np.isfinite(probe.features).all()))
    return probe.features


def _check_finite(finite: bool) -> None:
    if not finite:
        raise UndefinedSaliency("the feature maps hold NaN or infinity: the model overflows on this picture")


def live(maps: Features) -> npt.NDArray[np.bool_]:
    """(K,) which maps vary over space; constant means to float32's rounding."""
    space = tuple(range(1, maps.ndim))
    return _varies(np.ptp(maps, axis=space), np.abs(maps).max(axis=space))


def _varies(extent: npt.NDArray[np.float32], peak: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return np.asarray(extent > 8 * np.finfo(np.float32).eps * peak)


def feature_maps() -> Callable[[Probe], Search]:
    """Explorer: every feature map that varies over space is a mask.

    A constant map has no normalised form; the authors' code skips it too. On a GPU the masks are MasksOnDevice.
    """

    def explore(probe: Probe) -> Search:
        masks = masks_of(probe, live_numbers(probe))
        probe.expect(len(masks))
        yield masks

    return explore


def live_numbers(probe: Probe) -> Rows:
    """Of the feature maps that vary over space, told where they lie; raises UndefinedSaliency where none does."""
    if probe.held is None:
        chosen = live(finite_features(probe))
    else:
        _check_finite(probe.held.finite)
        chosen = _varies(probe.held.extent, probe.held.peak)
    if not chosen.any():
        raise UndefinedSaliency(
            f"all {len(chosen)} feature maps are constant over space for this picture, so none can be a mask; "
            f"try another --layer"
        )
    return np.flatnonzero(chosen)


def masks_of(probe: Probe, numbers: Rows) -> AnyMasks:
    """(K,1,*grid), the feature maps of these numbers where the network runs."""
    return probe.features[numbers, None] if probe.held is None else probe.held.masks(numbers)


def class_score(score: Score, convention: Convention) -> Callable[[Probe, AnyMasks], Scores]:
    """Attributor: the target's score through the mask, or how far the score falls when the mask is removed.

    1 - n(U) = n(-U), so the destructive mask of a map is the mask of its negative.
    """

    def attribute(probe: Probe, masks: AnyMasks) -> Scores:
        if convention is Convention.DESTRUCTIVE:
            return probe.original(score)[None] - probe.score(-masks, score)
        return probe.score(masks, score)

    return attribute


def weighted_sum(*, softmax: bool = False) -> Callable[[Explored, Probe], list[Outcome]]:
    """Aggregator: n(ReLU(up(sum_k a_k A_k))), with a = s, or a = softmax over the masks of s.

    up is linear, so the maps are combined at (h,w) and resized once.
    """

    def aggregate(explored: Explored, probe: Probe) -> list[Outcome]:
        masks, scores = zip(*explored, strict=True)
        found = weights(np.concatenate(scores), softmax=softmax)
        parts = np.split(found, np.cumsum([len(part) for part in masks])[:-1])
        raw = np.sum([summed(flat(part), own) for part, own in zip(masks, parts, strict=True)], axis=0)
        return weighed(raw, found, probe.size)

    return aggregate
