"""ImageProbe: one image with its targets before one network, which is all that a method sees of a model.

It has the methods of methods.blocks.Probe: scores of masks, gradients, the tail. It turns them into runs of Network
(scorer.py) and GradientRunner (gradients.py), and counts the forward passes. `scores` and `score_gradients` do the same
for several probes of one network in shared batches.
"""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from onnxcam.network.gradients import GradientRunner
from onnxcam.network.packing import MaskRequest, group_by_extra_inputs, join_targets, select_targets
from onnxcam.network.scorer import Network
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.surgeon.graphs.tensor_names import Wrt
from onnxcam.types import (
    AnyMasks,
    Arrays,
    Features,
    FeaturesOnDevice,
    Floats,
    Image,
    Indices,
    Masks,
    PictureGradient,
    Progress,
    Score,
    Scores,
)

GradientRequest = tuple[Masks, Indices, Sequence[int] | None]
"""(maps (N,1,h,w), the index of each one's target (N,), pixels by which image and fill are rolled along each side)."""


@dataclass
class PassCount:
    """Samples that went through the network, and the progress that is reported of them.

    forwards: without a gradient. steps: with one. expected: in all, as far as the method knows. progress: called with
    (passes done, passes expected).
    """

    forwards: int = 0
    steps: int = 0
    expected: int = 0
    progress: Progress | None = None

    @property
    def passes(self) -> int:
        """Forwards and steps."""
        return self.forwards + self.steps

    def add_forwards(self, count: int) -> None:
        self.forwards += count
        self._report()

    def add_steps(self, count: int) -> None:
        self.steps += count
        self._report()

    def forward_progress(self) -> Progress:
        """A progress callback of one call, which counts the forwards that it hears of."""
        before = self.forwards
        return lambda done, _: self.add_forwards(before + done - self.forwards)

    def reset(self, forwards: int, steps: int) -> None:
        """Sets the counts back to earlier values, after a failed call."""
        self.forwards, self.steps = forwards, steps

    def finish(self) -> None:
        """Reports the end of a search, which may have stopped before the expected number of passes."""
        if self.passes < self.expected:
            self.expected = self.passes
            self._report()

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(self.passes, max(self.passes, self.expected))


@dataclass(eq=False)
class Computed:
    """What one method computed of an unmasked picture, for other methods of the same network. Threads may share it.

    saved: passes that were not made because their result was here. first: gradients that the forward pass of the
    picture gave, by their key; not to be changed.
    """

    saved: int = 0
    first: Mapping[Hashable, Floats] = field(default_factory=dict)
    _arrays: dict[Hashable, Floats] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def given(self, key: Hashable) -> Floats | None:
        """The gradient of that key, if the forward pass gave it, which saves a step."""
        with self._lock:
            gradient = self.first.get(key)
            self.saved += gradient is not None
            return gradient

    def get(self, key: Hashable, passes: int, compute: Callable[[], Floats]) -> Floats:
        """The array of that key, which compute() makes in so many passes if it is not there yet; not to be changed."""
        with self._lock:
            if key in self._arrays:
                self.saved += passes
            else:
                self._arrays[key] = compute()
                self._arrays[key].setflags(write=False)
            return self._arrays[key]


@dataclass(frozen=True, eq=False)
class ImageProbe:
    """methods.blocks.Probe for one network.

    image, fill: (C,H,W). feeds: the image and its targets as the scoring graph takes them. feature_maps: of the image,
    on the host or on the device. originals: (T,) scores of the unmasked image. computed: arrays that other methods
    share; their passes count here too, so that the count is that of the method alone.
    """

    runner: GradientRunner
    image: Image
    fill: Image
    feeds: Arrays
    feature_maps: Features | FeaturesOnDevice
    originals: Mapping[Score, Floats]
    count: PassCount = field(default_factory=PassCount)
    computed: Computed = field(default_factory=Computed)

    @property
    def network(self) -> Network:
        return self.runner.opened.network

    @property
    def size(self) -> tuple[int, ...]:
        return self.network.size

    @property
    def targets(self) -> int:
        return len(self.originals[Score.LOGIT])

    def expect(self, passes: int) -> None:
        self.count.expected = passes

    def original(self, score: Score) -> Floats:
        return self.originals[score]

    @property
    def features(self) -> Features:
        return self.feature_maps if isinstance(self.feature_maps, np.ndarray) else self.feature_maps.host

    @property
    def device_features(self) -> FeaturesOnDevice | None:
        return None if isinstance(self.feature_maps, np.ndarray) else self.feature_maps

    @property
    def reduced(self) -> bool:
        return self.network.reduced

    def score(self, masks: AnyMasks, score: Score) -> Scores:
        return scores([self], [masks], score)[0]

    def score_in_float32(self, masks: AnyMasks, score: Score) -> Scores:
        assert isinstance(masks, np.ndarray), "a lower precision runs on the host"
        result = self.network.score_in_float32(self.feeds, np.asarray(masks, np.float32), score)
        self.count.expected += len(masks)
        self.count.add_forwards(len(masks))
        return result

    def tail(self, features: Features, score: Score) -> Scores:
        tensor = self.network.anatomy.features
        result = self.runner.tail(self.feeds, tensor.from_channels(features, self._raw_features), score)
        self.count.add_forwards(len(result))
        return result

    @cached_property
    def _raw_features(self) -> Floats:
        """The image's feature tensor in the model's own layout, from a forward pass of its own."""
        self.count.expected += 1
        self.count.add_forwards(1)
        return self.computed.get("features", 1, lambda: self.network.raw_features(self.feeds))

    def score_gradient(
        self, maps: Masks, targets: Indices, score: Score, shift: Sequence[int] | None = None
    ) -> tuple[Floats, Masks]:
        return score_gradients([self], [(maps, targets, shift)], score)[0]

    def feature_gradient(self) -> Floats:
        targets = select_targets(self.feeds, np.arange(self.targets))
        first = self._first_gradient(PictureGradient.FEATURES, targets)
        if first is not None:
            return first
        key = gradient_key(PictureGradient.FEATURES, targets)
        gradient = self.computed.get(key, self.targets, lambda: self._feature_gradient({**self.feeds, **targets}))
        self.count.add_steps(self.targets)
        return gradient

    def _first_gradient(self, gradient: PictureGradient, targets: Arrays) -> Floats | None:
        """The gradient for these targets, if the forward pass of the picture gave it; that pass counts as a step."""
        first = self.computed.given(gradient_key(gradient, targets))
        if first is not None:
            self.count.add_steps(1)
        return first

    def _feature_gradient(self, feeds: Arrays) -> Floats:
        masks = self.network.identity_masks(self.targets)
        _, gradient = self.runner.gradient(
            feeds, masks, Score.LOGIT, Wrt.FEATURES, check_feeds=self.feeds_for_target(0)
        )
        return self.network.anatomy.features.to_channels(gradient)

    def image_gradient(self, images: Floats, targets: Indices, *, guided: bool = False) -> tuple[Floats, Floats]:
        network, target_feeds = self.network, select_targets(self.feeds, targets)
        if len(images) == 1 and np.array_equal(images[0], self.image):
            first = self._first_gradient(PictureGradient.GUIDED if guided else PictureGradient.IMAGE, target_feeds)
            if first is not None:
                return self.original(Score.LOGIT)[targets], first
        feeds = {
            **self.feeds,
            **target_feeds,
            tensor_names.IMAGE: network.batch_to_model_layout(images),
        }
        logits, gradient = self.runner.gradient(
            feeds,
            network.identity_masks(len(targets)),
            Score.LOGIT,
            Wrt.IMAGE,
            check_feeds=self.feeds_for_target(int(targets[0])),
            guided=guided,
        )
        self.count.add_steps(len(targets))
        return logits, network.batch_from_model_layout(gradient)

    def feeds_for_target(self, target: int) -> Arrays:
        """Feeds of one sample: the unmasked image and one of the targets, by its index."""
        return {**self.feeds, **select_targets(self.feeds, np.asarray([target]))}

    def rolled_images(self, shift: Sequence[int] | None) -> dict[str, Floats]:
        """Image and fill in the model's layout, rolled by so many pixels along each side."""
        network, rolled = self.network, {}
        for name, image in ((tensor_names.IMAGE, self.image), (tensor_names.FILL, self.fill)):
            if name in self.feeds:
                axes = tuple(range(1, image.ndim))
                moved = image if shift is None or not any(shift) else np.roll(image, tuple(shift), axes)
                rolled[name] = network.to_model_layout(moved)
        return rolled


def gradient_key(gradient: PictureGradient, targets: Arrays) -> Hashable:
    """What a gradient of the unmasked picture is stored under. targets: the feeds of its targets."""
    return gradient, *((name, array.shape, array.tobytes()) for name, array in sorted(targets.items()))


def answer(
    runner: GradientRunner, feeds: Arrays, gradient: PictureGradient, target: int
) -> tuple[Features, npt.NDArray[np.float64], Computed] | None:
    """(feature maps (K,*grid), scored tensor (numbers,), the gradient) of the unmasked picture, in one run.

    target: a class, or PREDICTION. None where GradientRunner.answer() gives none. Raises what that raises, and
    UndefinedSaliency where the model's answer is NaN.
    """
    network, result = runner.opened.network, runner.answer(feeds, gradient, target)
    if result is None:
        return None
    features = network.anatomy.features
    values = network.checked_logits(feeds, result.logits)
    slope = (
        features.to_channels(result.gradient)
        if gradient is PictureGradient.FEATURES
        else network.batch_from_model_layout(result.gradient)
    )
    slope.setflags(write=False)
    key = gradient_key(gradient, {tensor_names.TARGETS: np.asarray([result.target], np.int64)})
    return features.to_channels(result.features)[0], values, Computed(first={key: slope})


def scores(probes: Sequence[ImageProbe], masks: Sequence[AnyMasks], score: Score) -> list[Scores]:
    """What each probe's score() returns, in shared batches. The probes are of one network."""
    requests = [MaskRequest(p.feeds, m, p.count.forward_progress()) for p, m in zip(probes, masks, strict=True)]
    before = [p.count.forwards for p in probes]
    results = probes[0].network.score_images(requests, score)
    assert all(p.count.forwards - b == len(m) for p, b, m in zip(probes, before, masks, strict=True))
    return results


def score_gradients(
    probes: Sequence[ImageProbe], requests: Sequence[GradientRequest], score: Score
) -> list[tuple[Floats, Masks]]:
    """What each probe's score_gradient() returns, in shared batches. The probes are of one network."""
    results: dict[int, tuple[Floats, Masks]] = {}
    for group in group_by_extra_inputs([p.feeds for p in probes]):
        joint = _joint_gradients([probes[i] for i in group], [requests[i] for i in group], score)
        results |= zip(group, joint, strict=True)
    return [results[i] for i in range(len(probes))]


def _joint_gradients(
    probes: Sequence[ImageProbe], requests: Sequence[GradientRequest], score: Score
) -> list[tuple[Floats, Masks]]:
    """Score gradients of several images that share the extra inputs of the first."""
    first = probes[0]
    maps, targets, shifts = zip(*requests, strict=True)
    target_feeds = [select_targets(p.feeds, t) for p, t in zip(probes, targets, strict=True)]
    images = [p.rolled_images(s) for p, s in zip(probes, shifts, strict=True)]
    feeds = {**first.feeds, **join_targets(target_feeds)}
    for name in images[0]:
        if len(probes) == 1:
            feeds[name] = images[0][name]
        else:
            feeds[name] = np.concatenate([np.repeat(i[name], len(t), 0) for i, t in zip(images, targets, strict=True)])
    ends = np.cumsum([len(t) for t in targets])[:-1]
    values, gradient = first.runner.gradient(
        feeds, np.concatenate(maps), score, Wrt.MAPS, check_feeds=first.feeds_for_target(int(targets[0][0]))
    )
    for probe, of_probe in zip(probes, targets, strict=True):
        probe.count.add_steps(len(of_probe))
    return list(zip(np.split(values, ends), np.split(gradient, ends), strict=True))
