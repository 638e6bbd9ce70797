"""Fuses the maps of several layers: heads of its own explain each layer, and the mean of the maps is the result.

For ensembles, two streams and networks that pool several scales, where no single map holds all that the score reads.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OnnxCamError, OptionError, UndefinedSaliency
from onnxcam.explainer.pipeline import Explained, Pipeline
from onnxcam.explainer.results import ForwardPass
from onnxcam.explainer.shares import Shares
from onnxcam.explainer.targets.kind import TargetLike
from onnxcam.inputs.loader import ModelInput
from onnxcam.methods.maps import stretched
from onnxcam.metrics.scorer import Scorer
from onnxcam.outputs.saliency import Channels, FusedLayer, Provenance, Saliency, ScoredTarget
from onnxcam.types import Finish, Note, Progress, Score


@dataclass(frozen=True, eq=False)
class FusedPipeline:
    """Explains loaded pictures at several layers, with a Pipeline for each, and fuses the maps. Used like a Pipeline.

    layers: as the caller named them, for messages.
    """

    pipelines: tuple[Pipeline, ...]
    layers: tuple[str, ...]

    def forward(
        self,
        model_input: ModelInput,
        targets: Sequence[TargetLike],
        inputs: Mapping[str, npt.ArrayLike],
        earlier: Sequence[ForwardPass] = (),
        *,
        begins: bool = False,
    ) -> ForwardPass:
        """Runs the unmasked picture for each layer. earlier, begins: as Pipeline.forward(). Raises OnnxCamError."""
        before = [part for each in earlier for part in (each, *each.others)]
        passes: list[ForwardPass] = []
        try:
            for pipeline in self.pipelines:
                passes.append(pipeline.forward(model_input, targets, inputs, before, begins=begins))
        except OnnxCamError:
            for each in passes:
                each.release()
            raise
        return replace(passes[0], others=tuple(passes[1:]))

    def explain(
        self,
        passes: Sequence[ForwardPass],
        targets: Sequence[Sequence[TargetLike]],
        progress: Sequence[Progress | None],
    ) -> list[Explained]:
        """One entry per picture, as Pipeline.explain() returns them; an error of one layer is the picture's."""
        if callable(progress) or len(progress) != len(passes):
            raise OptionError(f"progress is a sequence of callbacks, one for each of the {len(passes)} pictures")
        parts = [self._parts(each) for each in passes]
        shares = [Shares(each, len(self.pipelines)) if each is not None else None for each in progress]
        maps: list[list[list[Saliency]]] = [[] for _ in passes]
        errors: dict[int, OnnxCamError] = {}
        for i, pipeline in enumerate(self.pipelines):
            members = [k for k in range(len(passes)) if k not in errors]
            callbacks = [share.part(i) if share is not None else None for share in (shares[k] for k in members)]
            explained = pipeline.explain([parts[k][i] for k in members], [targets[k] for k in members], callbacks)
            for k, outcome in zip(members, explained, strict=True):
                if isinstance(outcome, OnnxCamError):
                    errors[k] = _of_layer(outcome, self.layers[i])
                    for rest in parts[k][i + 1 :]:
                        rest.release()
                else:
                    maps[k].append(outcome)
        return [errors[k] if k in errors else _fused_targets(maps[k]) for k in range(len(passes))]

    def scorer(
        self,
        model_input: ModelInput,
        targets: Sequence[TargetLike],
        inputs: Mapping[str, npt.ArrayLike],
        score: Score,
        earlier: Sequence[ForwardPass] = (),
    ) -> Scorer:
        """As Pipeline.scorer(): what a changed picture scores does not depend on the layer."""
        return self.pipelines[0].scorer(model_input, targets, inputs, score, earlier)

    def answers(self, forward_pass: ForwardPass, count: int) -> list[ScoredTarget]:
        """As Pipeline.answers(): what the model says does not depend on the layer."""
        return self.pipelines[0].answers(forward_pass, count)

    def best_classes(self, forward_pass: ForwardPass, count: int) -> list[ScoredTarget]:
        """As Pipeline.best_classes()."""
        return self.pipelines[0].best_classes(forward_pass, count)

    def stream(self, forward_pass: ForwardPass, target: TargetLike, progress: Progress | None) -> Iterator[Saliency]:
        """Fused maps of increasing accuracy; the layers sharpen in turn, and one that is done keeps its last map."""
        shares = Shares(progress, len(self.pipelines)) if progress is not None else None
        with ExitStack() as stack:
            stack.callback(forward_pass.release)
            streams = []
            for i, (pipeline, part) in enumerate(zip(self.pipelines, self._parts(forward_pass), strict=True)):
                stream = pipeline.stream(part, target, shares.part(i) if shares is not None else None)
                streams.append(stack.enter_context(closing(stream)))
            latest: list[Saliency] = [next(stream) for stream in streams]
            sharper: list[Saliency | None] = [*latest]
            while any(sharper):
                latest = [new if new is not None else old for new, old in zip(sharper, latest, strict=True)]
                yield fused(latest)
                sharper = [next(stream, None) for stream in streams]

    def _parts(self, forward_pass: ForwardPass) -> tuple[ForwardPass, ...]:
        """The forward pass of each layer. Raises OptionError for one that was made by another explainer."""
        parts = (replace(forward_pass, others=()), *forward_pass.others)
        if len(parts) != len(self.pipelines):
            raise OptionError("the forward pass of this picture was made by another explainer")
        return parts


def _fused_targets(maps: Sequence[Sequence[Saliency]]) -> Explained:
    """The fused map of each target, or the error. maps: of each layer, one per target."""
    try:
        return [fused(of_target) for of_target in zip(*maps, strict=True)]
    except UndefinedSaliency as error:
        return error


def fused(saliencies: Sequence[Saliency]) -> Saliency:
    """One explanation whose raw map is the mean of the maps, each of which is in [0,1] on the model's input.

    The mean is stretched to [0,1]. Raises UndefinedSaliency where the mean is constant.
    """
    first = saliencies[0]
    mean = np.asarray(np.mean([s.map for s in saliencies], axis=0, dtype=np.float64), np.float32)
    provenances = [s.provenance for s in saliencies]
    extent = float(mean.max() - mean.min())
    return replace(
        first,
        map=stretched(mean),
        raw=mean,
        finish=Finish.OWN,
        provenance=_joined(provenances, extent),
    )


def _joined(provenances: Sequence[Provenance], extent: float) -> Provenance:
    """The provenance of a fused map. extent: of the mean of the maps, by which an error grows when it is stretched."""
    # By the triangle inequality the root mean square error of a mean of maps is at most the mean of their errors.
    errors = [p.error for p in provenances if p.error is not None]
    counts = [p.channels for p in provenances if p.channels is not None]
    return replace(
        provenances[0],
        layers=tuple(FusedLayer(p.layer, p.layer_reason, p.features) for p in provenances),
        channels=_summed(counts) if len(counts) == len(provenances) else None,
        forwards=sum(p.forwards for p in provenances),
        steps=sum(p.steps for p in provenances),
        seconds=sum(p.seconds for p in provenances),
        notes=_distinct([note for p in provenances for note in p.notes]),
        error=sum(errors) / len(provenances) / extent if errors and extent > 0 else None,
    )


def _summed(counts: Sequence[Channels]) -> Channels:
    names = ("total", "scored", "estimated", "pending")
    return Channels(*(sum(getattr(count, name) for count in counts) for name in names))


def _distinct(notes: Sequence[Note]) -> tuple[Note, ...]:
    return tuple(dict.fromkeys(notes))


def _of_layer(error: OnnxCamError, layer: str) -> OnnxCamError:
    """The error with the layer whose map is undefined; other errors are those of every layer."""
    return UndefinedSaliency(f"layer {layer!r}: {error}") if isinstance(error, UndefinedSaliency) else error
