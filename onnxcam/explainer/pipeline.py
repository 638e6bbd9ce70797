"""The way of one explanation: forward pass, targets resolved, method run, results made.

Explainer loads pictures and hands them to a Pipeline, which runs them through the model's heads (heads.py). Several
pictures share forward passes (lockstep.py); each gets the maps that it would get alone.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.errors import MissingGradient, OnnxCamError, OptionError, TargetError
from onnxcam.explainer.heads import Heads
from onnxcam.explainer.lockstep import run_lockstep
from onnxcam.explainer.results import BoundRequest, ExplainerInfo, ForwardPass, ForwardResult, Head, saliencies
from onnxcam.explainer.targets.background import background_notes
from onnxcam.explainer.targets.classes import class_before_running, class_names
from onnxcam.explainer.targets.kind import HeadOutput, TargetLike
from onnxcam.explainer.targets.notes import blank_notes, target_notes
from onnxcam.explainer.targets.resolving import bind
from onnxcam.inputs.choices import choose_inputs
from onnxcam.inputs.loader import ImageLike, ImageLoader, ModelInput
from onnxcam.logs import module_logger
from onnxcam.methods import gradient_free
from onnxcam.methods.blocks import checked
from onnxcam.methods.maps import Outcome
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.probe import Computed, ImageProbe, PassCount, answer
from onnxcam.network.selection import Detections, refused_if_not_led_back
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.types import Arrays, Features, FeaturesOnDevice, Image, Progress, Score, Source

if TYPE_CHECKING:
    from onnxcam.metrics.scorer import Scorer

logger = module_logger(__name__)
Explained = list[Saliency] | OnnxCamError
"""One Saliency per target of a picture, or what went wrong with the picture."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Explains loaded pictures with one method. labels: the classes' names, None if unknown."""

    info: ExplainerInfo
    labels: Sequence[str] | None
    loader: ImageLoader
    heads: Heads

    def forward(
        self,
        model_input: ModelInput,
        targets: Sequence[TargetLike],
        inputs: Mapping[str, npt.ArrayLike],
        earlier: Sequence[ForwardPass] = (),
        *,
        begins: bool = False,
    ) -> ForwardPass:
        """Runs the unmasked picture once through each head that the targets need. Raises OnnxCamError.

        A box is looked up in the answer of its output first, which says whose scale's head it needs. earlier: forward
        passes of the same picture for other methods, whose results serve again where the runner is the same. begins:
        the method follows, so the run gives the gradient that it begins with too, if it can.
        """
        known = {result.runner: result for each in earlier for result in each.results.values()}
        heads = [self.heads.head(target) for target in targets]
        results: dict[Head, ForwardResult] = {}
        try:
            for head in dict.fromkeys(heads):
                runner, of_head = self.heads.of(head), [t for h, t in zip(heads, targets, strict=True) if h == head]
                target = self._class_before_running(runner, of_head) if begins else None
                results[head] = self._forward_head(runner, model_input, inputs, known, target)
            heads = [self._own_head(results[head], head, target) for head, target in zip(heads, targets, strict=True)]
            for head in dict.fromkeys(heads):
                if head not in results:
                    runner = self.heads.of(head)
                    again = self._forward_head(runner, model_input, inputs, known)
                    results[head] = replace(again, forwards=again.forwards + (runner not in known))
        except OnnxCamError:
            ForwardPass(model_input, results, ()).release()
            raise
        for head in set(results) - set(heads):
            results.pop(head).release()
        return ForwardPass(model_input, results, tuple(heads))

    def answers(self, forward_pass: ForwardPass, count: int) -> list[ScoredTarget]:
        """The best targets of a picture that was run for the prediction; fewer where the model has no more."""
        (head,) = forward_pass.heads
        return _ranked(self._output(forward_pass.results[head]), count)

    def best_classes(self, forward_pass: ForwardPass, count: int) -> list[ScoredTarget]:
        """As answers(), of the first target's output; none of a model that is no classifier."""
        output = self._output(forward_pass.results[forward_pass.heads[0]])
        return _ranked(output, count) if output.logits.kind is Kind.CLASSES else []

    def _own_head(self, result: ForwardResult, head: Head, target: TargetLike) -> Head:
        """The head with the feature map of the target's scale. Raises TargetError for a box that is not there."""
        if not self.heads.has_scales(head):
            return head
        (scored,) = bind([target], self._output(result))[1]
        return self.heads.of_scale(head, scored)

    def explain(
        self,
        passes: Sequence[ForwardPass],
        targets: Sequence[Sequence[TargetLike]],
        progress: Sequence[Progress | None],
    ) -> list[Explained]:
        """One entry per picture. targets: those of each picture; progress: one callback per picture.

        Raises OptionError for a ForwardPass that was made for other targets or by another Explainer.
        """
        if callable(progress) or len(progress) != len(passes):
            raise OptionError(f"progress is a sequence of callbacks, one for each of the {len(passes)} pictures")
        heads = [_heads_of(each, [self.heads.head(t) for t in of]) for each, of in zip(passes, targets, strict=True)]
        maps: list[dict[int, Saliency]] = [{} for _ in passes]
        errors: dict[int, OnnxCamError] = {}
        for head in dict.fromkeys(head for each in heads for head in each):
            runner = self.heads.of(head)
            members = [k for k, each in enumerate(heads) if head in each and k not in errors]
            places = {k: [i for i, other in enumerate(heads[k]) if other == head] for k in members}
            explained = self._explain_head(
                runner,
                [_result_of(passes[k], head, runner) for k in members],
                [[targets[k][i] for i in places[k]] for k in members],
                [progress[k] for k in members],
            )
            for k, outcome in zip(members, explained, strict=True):
                if isinstance(outcome, OnnxCamError):
                    errors[k] = outcome
                else:
                    maps[k].update(zip(places[k], outcome, strict=True))
        for k in errors:
            passes[k].release()  # from the heads that it was not explained on
        return [errors[k] if k in errors else [each[i] for i in sorted(each)] for k, each in enumerate(maps)]

    def stream(
        self, forward_pass: ForwardPass, target: TargetLike, progress: Progress | None
    ) -> Generator[Saliency, None, None]:
        """Saliency results of increasing accuracy; of a method that cannot stream, the last one only."""
        (head,) = _heads_of(forward_pass, [self.heads.head(target)])
        runner, forward = self.heads.of(head), forward_pass.results[head]
        if self.info.method.stream is None:
            (explained,) = self._explain_head(runner, [forward], [[target]], [progress])
            if isinstance(explained, OnnxCamError):
                raise explained
            yield explained[0]
            return
        start = time.perf_counter() - forward.seconds
        request = self.resolve(forward, [target], progress)
        try:
            for outcomes in self.info.method.stream(request.probe):
                yield saliencies(
                    self.info, checked(self.info.method, request.probe, outcomes), request, time.perf_counter() - start
                )[0]
            request.probe.count.finish()
            _log_explained(self.info, request, time.perf_counter() - start)
        finally:
            forward.release()

    def resolve(self, forward: ForwardResult, targets: Sequence[TargetLike], progress: Progress | None) -> BoundRequest:
        """Binds a picture to its targets. Releases the picture and raises OnnxCamError for targets it does not have."""
        try:
            output = self._output(forward)
            target_feeds, bound = bind(targets, output)
        except OnnxCamError:
            forward.release()
            raise
        scored = [replace(target, output=forward.runner.opened.output) for target in bound]
        originals = {
            Score.LOGIT: np.asarray([t.logit for t in scored], np.float32),
            Score.PROBABILITY: np.asarray([t.probability for t in scored], np.float32),
        }
        feeds, count = {**forward.feeds, **target_feeds}, PassCount(progress=progress)
        image = forward.model_input.image
        probe = ImageProbe(
            forward.runner, image, forward.fill, feeds, forward.features, originals, count, forward.computed
        )
        notes = (*background_notes(targets, output), *blank_notes(forward.detections))
        return BoundRequest(forward, scored, probe, notes, target_notes(scored, output))

    def scorer(
        self,
        model_input: ModelInput,
        targets: Sequence[TargetLike],
        inputs: Mapping[str, npt.ArrayLike],
        score: Score,
        earlier: Sequence[ForwardPass] = (),
    ) -> "Scorer":
        """What scores the picture with parts of it changed, for targets of one output. Raises OnnxCamError.

        earlier: forward passes of the same picture, whose results serve again where the runner is the same.
        """
        from onnxcam.metrics.scorer import Scorer

        heads = dict.fromkeys(self.heads.head(target) for target in targets)
        if len(heads) > 1:
            raise OptionError("a Scorer scores targets of one output and one kind; make one for each")
        done = {result.runner: result for each in earlier for result in each.results.values()}
        forward = self._forward_head(self.heads.of(next(iter(heads))), model_input, inputs, done)
        request = self.resolve(forward, targets, None)
        forward.release()
        feeds = {n: a for n, a in request.probe.feeds.items() if n not in (tensor_names.IMAGE, tensor_names.FILL)}
        known = not model_input.is_prepared or self.info.preset_origin.source is Source.GIVEN
        return Scorer(
            forward.runner, feeds, model_input.image, request.targets, model_input.placement,
            self.info.preset if known else None, score,
        )  # fmt: skip

    def _forward_head(
        self,
        runner: GradientRunner,
        model_input: ModelInput,
        inputs: Mapping[str, npt.ArrayLike],
        known: Mapping[GradientRunner, ForwardResult] | None = None,
        target: int | None = None,
    ) -> ForwardResult:
        """Runs the picture, unless this runner did so for another method (known).

        target: the class, or PREDICTION, with whose gradient the method begins, in one run; None where it does not.
        """
        start = time.perf_counter()
        network, perturb = runner.opened.network, self.info.method.perturb
        preset_known = not model_input.is_prepared or self.info.preset_origin.source is Source.GIVEN
        if perturb.needs_preset and not preset_known:
            raise OptionError(
                "what black is after preprocessing is not known for this image; give the preset, or another fill"
            )
        replacement = perturb.replacement(model_input.image, self.info.preset)
        zero = np.broadcast_to(np.float32(0), model_input.image.shape)
        fill = np.asarray(replacement if replacement is not None else zero, np.float32)
        if known is not None and runner in known:
            return replace(_refilled(known[runner], fill), is_step=target is not None)
        feeds = network.feeds(model_input.image, replacement, runner.opened.extra(choose_inputs(inputs)))
        if model_input.on_device is not None:
            network.register_device_copy(model_input.image, model_input.on_device)
        with refused_if_not_led_back(runner.opened.output):
            features, values, computed = self._run_picture(runner, feeds, target)
            detections = runner.opened.detections(model_input.image, choose_inputs(inputs))
        seconds = time.perf_counter() - start
        forwards = 1 if detections is None else 2
        return ForwardResult(
            runner, model_input, fill, feeds, features, values, seconds, forwards, detections, computed,
            is_step=target is not None,
        )  # fmt: skip

    def _run_picture(
        self, runner: GradientRunner, feeds: Arrays, target: int | None
    ) -> tuple[Features | FeaturesOnDevice, npt.NDArray[np.float64], Computed]:
        """Features, scored tensor, and what the same run gave for the method."""
        gradient = self.info.method.begins_with
        both = answer(runner, feeds, gradient, target) if gradient is not None and target is not None else None
        return both if both is not None else (*runner.opened.network.forward(feeds), Computed())

    def _class_before_running(self, runner: GradientRunner, targets: Sequence[TargetLike]) -> int | None:
        """The class whose gradient can come with the picture's answer; None where the method or a target needs more."""
        if self.info.method.begins_with is None or len(targets) > 1 or not runner.answers_with_gradient:
            return None
        logits = runner.opened.anatomy.logits
        return class_before_running(targets[0], self._labels(logits, None), logits.classes)

    def _explain_head(
        self,
        runner: GradientRunner,
        forwards: Sequence[ForwardResult],
        targets: Sequence[Sequence[TargetLike]],
        progress: Sequence[Progress | None],
    ) -> list[Explained]:
        """Explains pictures before one head: resolve the targets, run the method, make the results."""
        start = time.perf_counter()
        explained: dict[int, Explained] = {}
        requests: dict[int, BoundRequest] = {}
        for k, (forward, each, callback) in enumerate(zip(forwards, targets, progress, strict=True)):
            try:
                requests[k] = self.resolve(forward, each, callback)
            except OnnxCamError as error:
                explained[k] = error
        try:
            outcomes = run_lockstep(self.info.method, [request.probe for request in requests.values()])
        finally:
            for request in requests.values():
                request.forward.release()
        results = self._results(list(requests.values()), outcomes, time.perf_counter() - start)
        explained.update(zip(requests, results, strict=True))
        return [explained[k] for k in range(len(forwards))]

    def _results(
        self,
        requests: Sequence[BoundRequest],
        outcomes: Sequence[list[Outcome] | OnnxCamError],
        seconds: float,
    ) -> list[Explained]:
        """The results of pictures that were explained in one batch, which share its seconds by their forward passes."""
        passes = sum(request.probe.count.passes for request in requests)
        results: list[Explained] = []
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, MissingGradient):
                methods = ", ".join(gradient_free())
                results.append(MissingGradient(f"{outcome}; without gradients work: {methods}"))
            elif isinstance(outcome, OnnxCamError):
                results.append(outcome)
            else:
                share = seconds * request.probe.count.passes / passes if passes else seconds / len(requests)
                took = request.forward.seconds + share
                results.append(saliencies(self.info, outcome, request, took))
                _log_explained(self.info, request, took)
        return results

    def _output(self, forward: ForwardResult) -> HeadOutput:
        """What the targets of a picture are resolved against."""

        def embed(reference: ImageLike) -> npt.NDArray[np.float64]:
            embedded = self._forward_head(forward.runner, self.loader.prepare(reference), {})
            embedded.release()
            return embedded.values

        anatomy = forward.runner.opened.anatomy
        logits, scales = anatomy.logits, anatomy.scales
        detections = forward.detections
        labels = self._labels(logits, detections)
        sides = partial(forward.runner.sides, forward.feeds) if logits.sides_output is not None else None
        placement, size = forward.model_input.placement, self.info.size
        turned = self.info.turned_boxes
        return HeadOutput(logits, forward.values, labels, size, placement, embed, detections, sides, turned, scales)

    def _labels(self, logits: Logits, detections: Detections | None) -> Sequence[str] | None:
        """The classes' names, if there are as many as the model has classes."""
        before = detections.first_class if detections is not None else None
        return class_names(self.labels, replace(logits, classes=logits.classes + before) if before else logits)


def _ranked(output: HeadOutput, count: int) -> list[ScoredTarget]:
    """The best targets of an output, best first; fewer where there are no more."""
    answers = bind([None], output)[1]
    for rank in range(2, count + 1):
        try:
            answers += bind([f"rank{rank}"], output)[1]
        except TargetError:  # there is no such rank
            break
    return answers


def _log_explained(info: ExplainerInfo, request: BoundRequest, seconds: float) -> None:
    logger.debug(
        "explained %r by %s on %r: %d targets, %d forward passes, %.2f s",
        request.forward.model_input.name, info.method.name, info.model, len(request.targets),
        request.forward.forwards - request.forward.is_step + request.probe.count.passes, seconds,
    )  # fmt: skip


def _refilled(forward: ForwardResult, fill: Image) -> ForwardResult:
    """The forward pass of a picture for a method that fills what masks remove with another image."""
    feeds, network = dict(forward.feeds), forward.runner.opened.network
    if tensor_names.FILL in feeds:
        feeds[tensor_names.FILL] = network.to_model_layout(fill)
    return replace(forward, fill=fill, feeds=feeds)


def _heads_of(forward_pass: ForwardPass, heads: Sequence[Head]) -> tuple[Head, ...]:
    """The heads of a picture's targets. heads: the same, before the scales of their boxes were known."""
    if [head._replace(layer=None) for head in forward_pass.heads] != list(heads):
        raise OptionError("the forward pass of this picture was made for other targets")
    return forward_pass.heads


def _result_of(forward_pass: ForwardPass, head: Head, runner: GradientRunner) -> ForwardResult:
    if forward_pass.results[head].runner is not runner:
        raise OptionError("the forward pass of this picture was made by another explainer")
    return forward_pass.results[head]
