"""What a method is, what it sees, and the four blocks that a perturbation method is made of.

A Method is a value: a function from a Probe to one Outcome for each target, with its name, paper and options. A Probe
is one image before one opened network: its features, and the scores and gradients that the network gives for it.

A perturbation method is made of four blocks. explore: a generator yields masks and receives their scores, so that a
search can learn from them and a random one runs in constant memory. perturb: the graph that the probe runs blends the
fill in where a mask removes pixels. attribute: masks become scores. aggregate: masks and scores become a map. All
blocks here are frozen dataclasses that are called like functions, so that methods compare equal and pickle.
"""

import json
import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.limits import brief
from onnxcam.methods.equality import same
from onnxcam.methods.fills import ZERO, Fill
from onnxcam.methods.maps import Outcome, as_maps, rectified_sums, summed, weights_of
from onnxcam.methods.options import OptionValues
from onnxcam.types import (
    AnyMasks,
    Features,
    FeaturesOnDevice,
    Floats,
    Image,
    Indices,
    MaskForm,
    Masks,
    PictureGradient,
    Score,
    Scores,
)

VARIES = 8 * np.finfo(np.float32).eps
"""The share of its largest number above which the extent of a feature map is more than rounding."""


class Convention(StrEnum):
    """What makes a region matter."""

    CONSTRUCTIVE = "constructive"
    """Keeping it, with everything else removed, brings the score back."""
    DESTRUCTIVE = "destructive"
    """Removing it destroys the score."""


class Need(StrEnum):
    """What a method requires of a model beside its forward pass."""

    FEATURES = "features"
    """A feature tensor with the image's geometry."""
    TAIL = "tail"
    """A feature tensor that the score reads at every cell: the method changes it, or reads the gradient there."""
    GRADIENT = "gradient"
    """A gradient rule for every operator on the way."""


class Probe(Protocol):
    """One image before one network, with the targets that are explained: N samples, K masks or channels, T targets."""

    @property
    def image(self) -> Image:
        """(C,H,W) as the network takes it, with the colours first whatever the model's layout."""

    @property
    def fill(self) -> Image:
        """(C,H,W) the replacement for removed pixels."""

    @property
    def features(self) -> Features:
        """(K,h,w) feature maps of the image, as a NumPy array."""

    @property
    def device_features(self) -> FeaturesOnDevice | None:
        """The same maps on the network's device; None where the network runs on the host."""

    @property
    def size(self) -> tuple[int, ...]:
        """(H,W) of the image."""

    @property
    def targets(self) -> int:
        """T, the number of targets."""

    def expect(self, passes: int) -> None:
        """Announces how many samples the method will run in all, for the progress bar."""

    def original(self, score: Score) -> Floats:
        """(T,) scores of the unmasked image."""

    def score(self, masks: AnyMasks, score: Score) -> Scores:
        """(K,T) scores of the image seen through each mask; the graph prepares the masks as Method.form says."""

    @property
    def reduced(self) -> bool:
        """Whether score() computes in a lower precision than float32."""

    def score_in_float32(self, masks: AnyMasks, score: Score) -> Scores:
        """score() in float32, of a probe that computes in a lower precision."""

    def tail(self, features: Features, score: Score) -> Scores:
        """(N,T) scores of the network's tail with (N,K,h,w) in the place of the features."""

    def score_gradient(
        self, maps: Masks, targets: Indices, score: Score, shift: Sequence[int] | None = None
    ) -> tuple[Floats, Masks]:
        """(N,) scores of the image through each mask (N,1,h,w), and (N,1,h,w) d score / d mask.

        targets (N,): the target of each mask. shift: pixels along each side by which image and fill are rolled first.
        """

    def feature_gradient(self) -> Floats:
        """(T,K,h,w) d logit / d features on the unmasked image."""

    def image_gradient(self, images: Floats, targets: Indices, *, guided: bool = False) -> tuple[Floats, Floats]:
        """(N,) logits of the images (N,C,H,W), and (N,C,H,W) d logit / d image.

        targets (N,): the target of each image. guided: the gradient of guided backpropagation; raises UndefinedSaliency
        for a network without ReLU.
        """


Result = TypeVar("Result")
Search = Generator[AnyMasks, Scores, None]
ScoredMasks = Iterator[tuple[AnyMasks, Scores]]
Explorer = Callable[[Probe], Search]
"""Yields masks (K,1,h,w) and receives their scores (K,T)."""
Attributor = Callable[[Probe, AnyMasks], Scores]
"""Scores (K,T) of masks (K,1,h,w)."""


@dataclass(frozen=True)
class Method:
    """A method as a value. `onnxcam.method(m.name, **m.options)` makes the method `m` again.

    name: as `--method` takes it. paper: who proposed it, and where. needs: what it needs of a model.
    explain: one Outcome for each target of a probe. stream: the same with maps on the way, of which the last is the
    result. One of the two is needed; explain() prefers the first. cost: forward passes, for a reader. searches: the
    method needs gradients of masked scores, step by step; a precomputed step graph can serve it. smallest_batch: the
    least number of masks, or of samples of a step, that the method scores at one time, None if they always fill the
    network; where it is small, several images are explained together. begins_with: the gradient of the unmasked picture
    that the method reads, which the forward pass can give too. score: what is measured. perturb: the fill where
    a mask removes pixels. form: how the masks come. reducible: masked scores may be computed in a lower precision,
    since Outcome.error tells what that does to the map. options: every parameter of the function that made the method,
    with its value as a number, string, pair or None; enumerations and fills by their names. The method keeps a
    read-only copy.

    Raises OptionError for a method with neither explain nor stream, and for options that JSON cannot hold.
    """

    name: str
    paper: str
    cost: str
    explain: Callable[[Probe], list[Outcome]] | None = None
    stream: Callable[[Probe], Iterator[list[Outcome]]] | None = None
    needs: frozenset[Need] = frozenset({Need.FEATURES})
    searches: bool = False
    smallest_batch: int | None = None
    begins_with: PictureGradient | None = None
    score: Score = Score.PROBABILITY
    perturb: Fill = ZERO
    form: MaskForm = field(default_factory=MaskForm)
    reducible: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.name, self.paper, self.cost)):
            raise OptionError(f"name, paper and cost of a method are texts; those of {self.name!r} are not")
        if not isinstance(self.needs, frozenset | set) or not all(isinstance(need, Need) for need in self.needs):
            raise OptionError(f"needs of the method {self.name!r} is a set of onnxcam.methods.blocks.Need values")
        if self.explain is None and self.stream is None:
            raise OptionError(f"the method {self.name!r} has neither explain nor stream; give one of the two")
        try:
            json.dumps(dict(**self.options), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"the options of the method {self.name!r} cannot be recorded ({error}); "
                f"give numbers, strings, pairs or None"
            ) from error
        object.__setattr__(self, "options", OptionValues(self.options))

    def __reduce__(self) -> tuple[Callable[..., "Method"], tuple[Any, ...]]:
        """Pickles as name and options where these make the method again, else field by field."""
        if _made_by_name(self):
            return _by_name, (self.name, dict(self.options))
        values = tuple(getattr(self, f.name) for f in fields(self))
        try:
            pickle.dumps(values)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise pickle.PicklingError(
                f"the method {self.name!r} is made of functions that cannot be pickled ({error}); register it as an "
                f"entry point 'onnxcam.methods', or send its name and options and make it at the other end"
            ) from error
        return Method, values

    def __deepcopy__(self, memo: dict[int, Any]) -> "Method":
        """The method itself, which never changes."""
        return self


def _by_name(name: str, options: Mapping[str, Any]) -> Method:
    from onnxcam.methods.registry import method

    return method(name, **options)


def _made_by_name(method: Method) -> bool:
    """Whether name and options make an equal method."""
    try:
        again = _by_name(method.name, method.options)
    except OptionError:
        return False
    return same(again, method)


def run(method: Method, probe: Probe) -> list[Outcome]:
    """One Outcome for each target of the probe."""
    if method.explain is not None:
        return checked(method, probe, method.explain(probe))
    assert method.stream is not None
    return checked(method, probe, (deque(method.stream(probe), maxlen=1) or [None])[0])


def checked(method: Method, probe: Probe, outcomes: object) -> list[Outcome]:
    """What a method returned. Raises OptionError unless it is one Outcome a target, with maps of the input's size.

    Raises UndefinedSaliency for a map with NaN or infinity.
    """
    must = f"the method {method.name!r} must return a list with one Outcome for each of {probe.targets} targets"
    if not isinstance(outcomes, list) or not all(isinstance(outcome, Outcome) for outcome in outcomes):
        raise OptionError(f"{must}, not {brief(outcomes)}")
    if len(outcomes) != probe.targets:
        raise OptionError(f"{must}, not {len(outcomes)}")
    for outcome in outcomes:
        if np.shape(outcome.map) != tuple(probe.size):
            raise OptionError(
                f"the method {method.name!r} returned a map of the shape {np.shape(outcome.map)} for an image of "
                f"{tuple(probe.size)} pixels; onnxcam.methods.maps.rectified() enlarges a map of the features' size"
            )
        if not np.isfinite(outcome.map).all():
            raise UndefinedSaliency(f"the map of the method {method.name!r} holds NaN or infinity on this picture")
    return outcomes


@dataclass(frozen=True)
class FourBlocks(Generic[Result]):
    """A method's function from explore, attribute and aggregate; the fourth block, perturb, is in the probe's graph.

    Result: the outcomes, or a stream of them, as `aggregate` returns them.
    """

    explore: Explorer
    attribute: Attributor
    aggregate: Callable[[ScoredMasks, Probe], Result]

    def __call__(self, probe: Probe) -> Result:
        aggregate = self.aggregate
        if isinstance(aggregate, WeightedSum) and probe.reduced and not aggregate.scores_again(self.attribute):
            raise OptionError(
                "in a lower precision some masks are scored again in float32, which four blocks of one's own can have "
                "with attribute=ClassScore(score) and aggregate=WeightedSum(score=score) of the same score alone"
            )
        return self.aggregate(self._scored_masks(probe), probe)

    def _scored_masks(self, probe: Probe) -> ScoredMasks:
        search = self.explore(probe)
        try:
            masks = next(search)
            while True:
                scores = self.attribute(probe, masks)
                yield masks, scores
                masks = search.send(scores)
        except StopIteration:
            return


@dataclass(frozen=True)
class FeatureMaps:
    """Explorer: every feature map that varies over space is a mask.

    A constant map has no normalised form; the authors' code of Score-CAM skips it too. On a GPU the masks are
    MasksOnDevice. Raises UndefinedSaliency where all maps are constant, or hold NaN or infinity.
    """

    def __call__(self, probe: Probe) -> Search:
        masks = channel_masks(probe, live_channels(probe))
        probe.expect(len(masks))
        yield masks


@dataclass(frozen=True)
class ClassScore:
    """Attributor: the target's score through the mask; if destructive, how far the score falls without the masked part.

    1 - n(U) = n(-U), so the destructive mask of a map is the mask of its negative.
    """

    score: Score
    convention: Convention = Convention.CONSTRUCTIVE

    def __call__(self, probe: Probe, masks: AnyMasks) -> Scores:
        if self.convention is Convention.DESTRUCTIVE:
            return probe.original(self.score)[None] - probe.score(-masks, self.score)
        return probe.score(masks, self.score)


@dataclass(frozen=True)
class WeightedSum:
    """Aggregator: n(ReLU(up(sum_k a_k A_k))), with a = s, or a = softmax of s over the masks.

    up is linear, so the maps are combined at (h,w) and resized once. score: what the masks are scored by, for those of
    which a lower precision moves the map too far: they are scored again.
    """

    softmax: bool = False
    score: Score = Score.PROBABILITY

    def scores_again(self, attribute: Attributor) -> bool:
        """Whether masks that are scored again get the numbers that this attributor gives them, and weigh by them."""
        return not self.softmax and attribute == ClassScore(self.score)

    def __call__(self, scored: ScoredMasks, probe: Probe) -> list[Outcome]:
        masks, scores = zip(*scored, strict=True)
        if probe.reduced:
            from onnxcam.methods.estimate.rounding import exact_maps  # few methods and runs need it

            both = np.concatenate(masks)
            return exact_maps(probe, both[:, 0], both, np.concatenate(scores), self.score)
        all_weights = weights_of(np.concatenate(scores), softmax=self.softmax)
        parts = np.split(all_weights, np.cumsum([len(part) for part in masks])[:-1])
        raw = np.sum([summed(as_maps(m), w) for m, w in zip(masks, parts, strict=True)], axis=0)
        return rectified_sums(raw, all_weights, probe.size)


def finite_features(probe: Probe) -> Features:
    """(K,h,w) feature maps. Raises UndefinedSaliency where they hold NaN or infinity."""
    _check_finite(bool(np.isfinite(probe.features).all()))
    return probe.features


def _check_finite(finite: bool) -> None:
    if not finite:
        raise UndefinedSaliency("the feature maps hold NaN or infinity: the model overflows on this picture")


def live(maps: Features) -> npt.NDArray[np.bool_]:
    """(K,) whether each map varies over space, beyond the rounding of float32."""
    space = tuple(range(1, maps.ndim))
    return _varies(np.ptp(maps, axis=space), np.abs(maps).max(axis=space))


def _varies(extent: npt.NDArray[np.float32], peak: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return np.asarray(extent > VARIES * peak)


def live_channels(probe: Probe) -> Indices:
    """Indices of the feature maps that vary over space, computed on the device where the features are there.

    Raises UndefinedSaliency where none varies, or where they hold NaN or infinity.
    """
    if probe.device_features is None:
        varies = live(finite_features(probe))
    else:
        _check_finite(probe.device_features.finite)
        varies = _varies(probe.device_features.extent, probe.device_features.peak)
    if not varies.any():
        raise UndefinedSaliency(
            f"all {len(varies)} feature maps are constant over space for this picture, so none can be a mask; "
            f"try another --layer"
        )
    return np.flatnonzero(varies)


def channel_masks(probe: Probe, channels: Indices) -> AnyMasks:
    """(K,1,*grid) the feature maps of these channels as masks, on the network's device."""
    on_device = probe.device_features
    return probe.features[channels, None] if on_device is None else on_device.masks(channels)
