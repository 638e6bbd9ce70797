"""What an explainer asks its networks about pictures: the first pass, what the targets come to, and the maps."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import MissingGradient, OnnxCamError, OptionError
from onnxcam.explainer.lockstep import run_lockstep
from onnxcam.explainer.results import BoundRequest, ExplainerInfo, ForwardResult, saliencies
from onnxcam.explainer.targets.scoring import HeadOutput, similarity, targets
from onnxcam.explainer.targets.values import Similarity, TargetLike
from onnxcam.inputs.choices import choose_inputs, fits
from onnxcam.inputs.loader import ImageLike, ModelInput, read_array
from onnxcam.methods import gradient_free
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.probe import Count, PictureProbe
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import Arrays, Progress, Score, Source


@dataclass(frozen=True, eq=False)
class Pipeline:
    """prepare: reads and preprocesses a picture; labels: the classes' names, if any are known."""

    origin: ExplainerInfo
    labels: Sequence[str] | None
    prepare: Callable[[ImageLike], ModelInput]

    def forward(
        self, network: GradientRunner, prepared: ModelInput, inputs: Mapping[str, npt.ArrayLike]
    ) -> ForwardResult:
        """Runs the picture once as it is."""
        start = time.perf_counter()
        fill = self.origin.method.perturb.make
        preset_known = prepared.placement is not None or self.origin.preset_origin.source is Source.GIVEN
        if self.origin.method.perturb.needs_preset and not preset_known:
            raise OptionError(
                "what black is after preprocessing is not known for this image; give the preset, or another fill"
            )
        replacement = fill(prepared.image, self.origin.preset) if fill is not None else None
        opened = network.opened
        extra = opened.extra(choose_inputs(inputs))
        feeds = opened.network.feeds(prepared.image, replacement, extra)
        if prepared.on_device is not None:
            opened.network.register_device_copy(prepared.image, prepared.on_device)
        features, values = opened.network.forward(feeds)
        stand_in = replacement if replacement is not None else np.zeros_like(prepared.image)
        seconds = time.perf_counter() - start
        return ForwardResult(network, prepared, np.asarray(stand_in, np.float32), feeds, features, values, seconds)

    def resolve(
        self, network: GradientRunner, answer: ForwardResult, wanted: Sequence[TargetLike], progress: Progress | None
    ) -> BoundRequest:
        """Raises OptionError or TargetError for targets that are none of this picture's, which is let go of then."""
        try:
            fed, found = self._targets(wanted, answer)
        except OnnxCamError:
            network.opened.network.release(answer.feeds)
            raise
        originals = {
            Score.LOGIT: np.asarray([t.logit for t in found], np.float32),
            Score.PROBABILITY: np.asarray([t.probability for t in found], np.float32),
        }
        feeds, count = {**answer.feeds, **fed}, Count(progress=progress)
        image = answer.prepared.image
        probe = PictureProbe(network, image, answer.fill, feeds, answer.features, originals, count)
        return BoundRequest(answer, found, probe)

    def explain(
        self,
        network: GradientRunner,
        answers: Sequence[ForwardResult],
        wanted: Sequence[TargetLike],
        progress: Sequence[Progress | None],
    ) -> list[list[Saliency] | OnnxCamError]:
        """One Saliency a target for each of the pictures, or what went wrong with it."""
        start = time.perf_counter()
        found: dict[int, list[Saliency] | OnnxCamError] = {}
        asked: dict[int, BoundRequest] = {}
        for k, (answer, told) in enumerate(zip(answers, progress, strict=True)):
            try:
                asked[k] = self.resolve(network, answer, wanted, told)
            except OnnxCamError as error:
                found[k] = error
        outcomes = run_lockstep(self.origin.method, [one.probe for one in asked.values()])
        for one in asked.values():
            network.opened.network.release(one.probe.feeds)
        spent, passes = time.perf_counter() - start, sum(one.probe.count.passes for one in asked.values())
        for (k, one), outcome in zip(asked.items(), outcomes, strict=True):
            if isinstance(outcome, MissingGradient):
                found[k] = MissingGradient(f"{outcome}; without gradients work: {', '.join(gradient_free())}")
            elif isinstance(outcome, OnnxCamError):
                found[k] = outcome
            else:
                own = spent * one.probe.count.passes / passes if passes else spent / len(asked)
                found[k] = saliencies(self.origin, outcome, one, one.answer.seconds + own)
        return [found[k] for k in range(len(answers))]

    def stream(
        self, network: GradientRunner, answer: ForwardResult, wanted: TargetLike, progress: Progress | None
    ) -> Iterator[Saliency]:
        """The map while it sharpens; of a method that shows none on the way, the last one."""
        if self.origin.method.stream is None:
            (found,) = self.explain(network, [answer], [wanted], [progress])
            if isinstance(found, OnnxCamError):
                raise found
            yield found[0]
            return
        start = time.perf_counter() - answer.seconds
        asked = self.resolve(network, answer, [wanted], progress)
        try:
            for outcomes in self.origin.method.stream(asked.probe):
                yield saliencies(self.origin, outcomes, asked, time.perf_counter() - start)[0]
            asked.probe.count.finish()
        finally:
            network.opened.network.release(asked.probe.feeds)

    def _targets(self, wanted: Sequence[TargetLike], answer: ForwardResult) -> tuple[Arrays, list[ScoredTarget]]:
        logits = answer.network.opened.anatomy.logits
        labels = self.labels if self.labels is not None and fits(self.labels, logits) else None
        seen = HeadOutput(logits, answer.values, labels, self.origin.size, answer.prepared.placement)
        if logits.kind is not Kind.EMBEDDING:
            return targets(wanted, seen)
        references = [t.reference if isinstance(t, Similarity) else None for t in wanted]
        names = [
            os.path.basename(os.fspath(r)) if isinstance(r, str | os.PathLike) else f"reference {i}"
            for i, r in enumerate(references)
        ]
        return similarity([self._reference(t, answer) for t in wanted], seen, names)

    def _reference(self, target: TargetLike, answer: ForwardResult) -> npt.NDArray[Any]:
        """The embedding that a target names, or that of the picture which it names."""
        if not isinstance(target, Similarity):
            raise OptionError("an embedding is explained by its similarity to a reference; give one (--reference)")
        given = target.reference
        if isinstance(given, str | os.PathLike) and os.fspath(given).lower().endswith(".npy"):
            given = read_array(given)
        if (
            isinstance(given, np.ndarray)
            and given.size == answer.network.opened.anatomy.logits.classes
            and given.ndim <= 2
        ):
            return given
        looked = self.forward(answer.network, self.prepare(given), {})
        answer.network.opened.network.release(looked.feeds)
        return looked.values
