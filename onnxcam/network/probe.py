"""A PictureProbe answers for one picture and its targets before one network: what a method sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from onnxcam.network.gradients import GradientRunner
from onnxcam.network.packing import MaskRequest, alike
from onnxcam.network.scorer import Network
from onnxcam.network.target_rows import rows_of, rows_together
from onnxcam.surgeon.graphs import masked_score
from onnxcam.surgeon.graphs.score_gradient import Wrt
from onnxcam.types import (
    AnyMasks,
    Arrays,
    Features,
    FeaturesOnDevice,
    Floats,
    Image,
    Masks,
    Progress,
    Rows,
    Score,
    Scores,
)


@dataclass
class Count:
    """Rows that went through the network: forwards, and steps, which came back with a gradient."""

    forwards: int = 0
    steps: int = 0
    expected: int = 0
    progress: Progress | None = None

    @property
    def passes(self) -> int:
        return self.forwards + self.steps

    def forward(self, rows: int) -> None:
        self.forwards += rows
        self._tell()

    def following(self) -> Progress:
        """Counts the forwards of one more question, as they are told of: done of all."""
        before = self.forwards
        return lambda done, _: self.forward(before + done - self.forwards)

    def step(self, rows: int) -> None:
        self.steps += rows
        self._tell()

    def again(self, forwards: int, steps: int) -> None:
        """Takes back what was counted since there were these many: it failed."""
        self.forwards, self.steps = forwards, steps

    def finish(self) -> None:
        """A search that stopped early needed no more rows than these."""
        if self.passes < self.expected:
            self.expected = self.passes
            self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.passes, max(self.passes, self.expected))


@dataclass(frozen=True, eq=False)
class PictureProbe:
    """methods.blocks.Probe for one network. feeds: the picture and its targets. seen: its feature maps.

    originals: of the unmasked picture.
    """

    differentiated: GradientRunner
    image: Image
    fill: Image
    feeds: Arrays
    seen: Features | FeaturesOnDevice
    originals: Mapping[Score, Floats]
    count: Count = field(default_factory=Count)

    @property
    def network(self) -> Network:
        return self.differentiated.opened.network

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
        return self.seen if isinstance(self.seen, np.ndarray) else self.seen.host

    @property
    def held(self) -> FeaturesOnDevice | None:
        return None if isinstance(self.seen, np.ndarray) else self.seen

    def score(self, masks: AnyMasks, score: Score) -> Scores:
        return scores([self], [masks], score)[0]

    def tail(self, features: Features, score: Score) -> Scores:
        tensor = self.network.anatomy.features
        given = tensor.from_channels(features, self._raw_features)
        found = self.differentiated.tail(self.feeds, given, score)
        self.count.forward(len(found))
        return found

    @cached_property
    def _raw_features(self) -> Floats:
        self.count.expected += 1
        self.count.forward(1)
        return self.network.raw_features(self.feeds)

    def score_gradient(
        self, maps: Masks, rows: Rows, score: Score, shift: Sequence[int] | None = None
    ) -> tuple[Floats, Masks]:
        return score_gradients([self], [(maps, rows, shift)], score)[0]

    def feature_gradient(self) -> Floats:
        rows = np.arange(self.targets)
        feeds = {**self.feeds, **rows_of(self.feeds, rows)}
        _, found = self.differentiated.gradient(
            feeds, self.network.identity_masks(len(rows)), Score.LOGIT, Wrt.FEATURES, whole=self.whole(0)
        )
        self.count.step(len(rows))
        return self.network.anatomy.features.to_channels(found)

    def image_gradient(self, images: Floats, rows: Rows, *, guided: bool = False) -> tuple[Floats, Floats]:
        network = self.network
        feeds = {**self.feeds, **rows_of(self.feeds, rows), masked_score.IMAGE: network.rows_out(images)}
        scores, found = self.differentiated.gradient(
            feeds,
            network.identity_masks(len(rows)),
            Score.LOGIT,
            Wrt.IMAGE,
            whole=self.whole(int(rows[0])),
            guided=guided,
        )
        self.count.step(len(rows))
        return scores, network.rows_in(found)

    def whole(self, target: int) -> Arrays:
        """One row: the picture as it is, and this target."""
        return {**self.feeds, **rows_of(self.feeds, np.asarray([target]))}

    def pictures(self, shift: Sequence[int] | None) -> dict[str, Floats]:
        """The picture and its fill as the network is fed them, rolled by so many pixels along each side."""
        network, found = self.network, {}
        for name, picture in ((masked_score.IMAGE, self.image), (masked_score.FILL, self.fill)):
            if name in self.feeds:
                axes = tuple(range(1, picture.ndim))
                rolled = picture if shift is None or not any(shift) else np.roll(picture, tuple(shift), axes)
                found[name] = network.to_model_layout(rolled)
        return found


def scores(probes: Sequence[PictureProbe], masks: Sequence[AnyMasks], score: Score) -> list[Scores]:
    """What each probe's score() gives, in runs that they share. The probes are of one network."""
    pictures = [MaskRequest(p.feeds, m, p.count.following()) for p, m in zip(probes, masks, strict=True)]
    before = [p.count.forwards for p in probes]
    found = probes[0].network.score_together(pictures, score)
    assert all(p.count.forwards - b == len(m) for p, b, m in zip(probes, before, masks, strict=True))
    return found


def score_gradients(
    probes: Sequence[PictureProbe], given: Sequence[tuple[Masks, Rows, Sequence[int] | None]], score: Score
) -> list[tuple[Floats, Masks]]:
    """What each probe's score_gradient() gives for (maps, rows, shift), in runs that they share, as scores() does."""
    found: dict[int, tuple[Floats, Masks]] = {}
    for group in alike([p.feeds for p in probes]):
        found |= zip(group, _joined([probes[i] for i in group], [given[i] for i in group], score), strict=True)
    return [found[i] for i in range(len(probes))]


def _joined(
    probes: Sequence[PictureProbe], given: Sequence[tuple[Masks, Rows, Sequence[int] | None]], score: Score
) -> list[tuple[Floats, Masks]]:
    """The same of pictures whose extra inputs are those of the first."""
    first = probes[0]
    maps, rows, shifts = zip(*given, strict=True)
    targets = [rows_of(p.feeds, r) for p, r in zip(probes, rows, strict=True)]
    pictures = [p.pictures(s) for p, s in zip(probes, shifts, strict=True)]
    feeds = {**first.feeds, **rows_together(targets)}
    for name in pictures[0]:
        if len(probes) == 1:
            feeds[name] = pictures[0][name]
        else:
            feeds[name] = np.concatenate([np.repeat(p[name], len(r), 0) for p, r in zip(pictures, rows, strict=True)])
    ends = np.cumsum([len(r) for r in rows])[:-1]
    told, gradient = first.differentiated.gradient(
        feeds, np.concatenate(maps), score, Wrt.MAPS, whole=first.whole(int(rows[0][0]))
    )
    for probe, own in zip(probes, rows, strict=True):
        probe.count.step(len(own))
    return list(zip(np.split(told, ends), np.split(gradient, ends), strict=True))
