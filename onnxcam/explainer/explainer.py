"""The library's front door: open a model once, explain many pictures."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.providers import ProviderSpec, parse_providers
from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.explainer.device_maps import DeviceSaliency, Finisher
from onnxcam.explainer.heads import Heads
from onnxcam.explainer.lockstep import group_size
from onnxcam.explainer.pipeline import Pipeline
from onnxcam.explainer.prefetch import ahead, grouped
from onnxcam.explainer.results import ExplainerInfo, ForwardPass, ForwardResult, Head
from onnxcam.explainer.targets.values import Box, Element, Region, Similarity, TargetLike
from onnxcam.inputs.choices import choose_inputs, choose_labels, choose_preset, choose_size
from onnxcam.inputs.loader import ImageLike, ImageLoader, ModelInput
from onnxcam.inputs.presets import Preset
from onnxcam.methods.blocks import Method, Need
from onnxcam.methods.score_cam import score_cam
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.opening import OpenOptions
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.analysis.locate import find_image
from onnxcam.surgeon.loading import ModelSource, read_model
from onnxcam.types import Progress


class Explainer:
    """One model and one method, opened once; safe to use from several threads at once, and silent."""

    def __init__(
        self,
        model: ModelSource,
        method: Method | None = None,
        *,
        step: ModelSource | None = None,
        providers: str | Sequence[ProviderSpec] = ("auto",),
        preset: Preset | str | None = None,
        adjust: Callable[[Preset], Preset] | None = None,
        layer: str = "auto",
        layout: str | None = None,
        size: Sequence[int] | None = None,
        output: str | None = None,
        kind: Kind | str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        labels: Sequence[str] | str | os.PathLike[str] | None = None,
        batch: int | None = None,
        threads: int | None = None,
        engine: EngineOptions | None = None,
    ) -> None:
        """model: path, bytes or ModelProto. method: score_cam() if None. step: a graph with the gradient of the masked
        score, as tools/export_step.py makes it, for a method that searches with gradients; built if None.

        providers: in order of preference, short names or onnxruntime's, or (name, options) as onnxruntime takes them;
        each must start; 'auto' takes the best that does. preset: a Preset or
        the name of one; if None, the model's metadata, a preprocessor_config.json beside it, or 'imagenet', and the
        result says which. adjust: changes that are laid over whichever preset it is. layer: 'auto', 'last-conv', a
        tensor or a node. size: (H,W) for models with dynamic sides. output: the output that is explained, for models
        with several. kind: what is scored where the model or the targets leave a choice: 'classes', 'region', 'boxes',
        'elements', 'embedding'. inputs: values of the model's extra inputs, by name. labels: class names, or a file
        of them, or 'imagenet'. batch: masks a forward pass; chosen from the model and the memory if None. engine: how a
        GPU computes and how much of its memory it takes; refused on a CPU. Raises OnnxCamError.
        """
        self.method = method if method is not None else score_cam()
        if not isinstance(self.method, Method):
            raise OptionError(f"a method is made by a function such as score_cam(), not {method!r}")
        parse_providers(providers)
        file = read_model(model)
        self.model_name, self.model_sha256 = file.name, file.sha256
        image = find_image(file.model, layout)
        chosen, self.preset_origin = choose_preset(file, preset, image)
        self.preset = adjust(chosen) if adjust is not None else chosen
        if self.preset != chosen:
            text = f"{self.preset_origin}; then changed field by field"
            self.preset_origin = replace(self.preset_origin, text=text)
        sides, self.size_origin = choose_size(image, size, self.preset)
        options = OpenOptions(
            layout=layout, size=sides, layer=layer, inputs=choose_inputs(inputs or {}),
            providers=(providers,) if isinstance(providers, str) else tuple(providers),
            threads=threads, batch=batch, with_fill=self.method.perturb.make is not None, form=self.method.form,
            every_cell_counts=Need.TAIL in self.method.needs, engine=engine if engine is not None else PLAIN,
        )  # fmt: skip
        self._networks = Heads(file, options, self.method, step, output, kind)
        first = self._networks.first
        self.anatomy, self.size, self.batching = first.anatomy, first.size, first.batching
        self.labels, self.labels_origin = choose_labels(file, labels, self.anatomy.logits)
        self.provider, self.batch_size = first.network.provider, first.network.batch
        self._intake = ImageLoader(image, self.size, self.preset, self.provider)
        self._finisher = Finisher(self.provider, threads)
        origin = ExplainerInfo(
            file.name, file.sha256, self.preset, self.preset_origin, self.size, self.size_origin, self.method
        )
        self._pipeline = Pipeline(origin, self.labels, self._intake.prepare)

    def __call__(self, image: ImageLike | ForwardPass, target: TargetLike = None) -> Saliency:
        """Explain one picture; target is the prediction if None."""
        return self.explain(image, [target])[0]

    def batch(self, images: Iterable[ImageLike], target: TargetLike = None) -> list[Saliency]:
        """One Saliency a picture: of a list, or of an array with one more axis in front.

        The next pictures are read and looked at while the present ones are scored, as many as explain_batch() is
        best given.
        """
        if isinstance(images, str | os.PathLike):
            images = [images]
        found: list[Saliency] = []
        groups = grouped(images, self.together)
        with closing(ahead(groups, lambda group: [self.forward(image, [target]) for image in group])) as ready:
            for looked in ready:
                for answer in self.explain_batch(looked.result(), [target]):
                    if isinstance(answer, OnnxCamError):
                        raise answer
                    found += answer
        return found

    def explain(
        self,
        image: ImageLike | ForwardPass,
        targets: Sequence[TargetLike] = (None,),
        *,
        name: str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> list[Saliency]:
        """One Saliency a target. Targets of one output share the features and every forward pass.

        image: also what look() gave for targets of these kinds; name and inputs are then those of look(). name:
        what the provenance calls the picture, if it is an array. inputs: values of extra inputs that are this
        picture's own. progress: called with (done, all) passes after the first; all is what is expected, and may fall.
        """
        targets = _several(targets)
        looked = image if isinstance(image, ForwardPass) else self.forward(image, targets, name=name, inputs=inputs)
        (found,) = self.explain_batch([looked], targets, progress=[progress])
        if isinstance(found, OnnxCamError):
            raise found
        return found

    @property
    def together(self) -> int:
        """Pictures that explain_batch() is best given: as many as fill the network, 1 where nothing is shared."""
        return group_size(self.method, self._networks.of(self._networks.default).opened.network)

    def explain_batch(
        self,
        images: Sequence[ImageLike | ForwardPass],
        targets: Sequence[TargetLike] = (None,),
        *,
        progress: Sequence[Progress | None] | None = None,
    ) -> list[list[Saliency] | OnnxCamError]:
        """For each picture what explain() gives, or, in its place in the list, the error that explain() would raise.

        Masks of different pictures share forward passes where those of one would not fill them: `--fast` asks for a few
        at a time, and the last ones of an exact explanation are a few. Scores are those of each picture alone, but for
        the rounding of another batch; the provenance's seconds are a share of the whole time, by forward passes.
        images: also what look() gave; the others are all looked at before the first is scored. progress: one callback a
        picture. Raises OptionError for what was looked at for targets of another kind or output, or by another
        explainer.
        """
        targets = _several(targets)
        if isinstance(images, str | os.PathLike):
            images = [images]
        if progress is not None and (callable(progress) or len(progress) != len(images)):
            raise OptionError(f"progress is a sequence of callbacks, one for each of the {len(images)} pictures")
        told = list(progress) if progress is not None else [None] * len(images)
        heads = [self._networks.head(t) for t in targets]
        networks = {head: self._networks.of(head) for head in heads}
        looked, errors = self._looked(images, targets)
        found: list[dict[int, Saliency]] = [{} for _ in images]
        for head, network in networks.items():
            places = [i for i, own in enumerate(heads) if own == head]
            left = [k for k in looked if k not in errors]
            answers = [_answer(looked[k], head, network) for k in left]
            each = self._pipeline.explain(network, answers, [targets[i] for i in places], [told[k] for k in left])
            for k, explained in zip(left, each, strict=True):
                if isinstance(explained, OnnxCamError):
                    errors[k] = explained
                else:
                    found[k].update(zip(places, explained, strict=True))
        return [errors[k] if k in errors else [own[i] for i in range(len(targets))] for k, own in enumerate(found)]

    def _looked(
        self, images: Sequence[ImageLike | ForwardPass], targets: Sequence[TargetLike]
    ) -> tuple[dict[int, ForwardPass], dict[int, OnnxCamError]]:
        looked: dict[int, ForwardPass] = {}
        errors: dict[int, OnnxCamError] = {}
        for k, image in enumerate(images):
            try:
                looked[k] = image if isinstance(image, ForwardPass) else self.forward(image, targets)
            except OnnxCamError as error:
                errors[k] = error
        return looked, errors

    def stream(
        self, image: ImageLike, target: TargetLike = None, *, progress: Progress | None = None
    ) -> Iterator[Saliency]:
        """The map while it sharpens: one Saliency after another, the last of which is what the call gives.

        Raises what explain() does, once the first map is asked for.

        Score-CAM and RISE show their map on the way, the other methods only the last one. An exact Score-CAM adds the
        maps that vary most first; with a budget or a tolerance each carries its own error. Nothing is computed before
        it is asked for, so leaving the loop early spends nothing more.
        """
        head = self._networks.head(target)
        network, answer = self._networks.of(head), self.forward(image, [target]).answers[head]
        yield from self._pipeline.stream(network, answer, target, progress)

    def explain_on_device(
        self,
        image: ImageLike,
        targets: Sequence[TargetLike] = (None,),
        *,
        name: str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> list[DeviceSaliency]:
        """explain() with maps that stay where the network runs, for a service that goes on there.

        A method of its own, so that no argument's value changes a return type. Raises OptionError for a provider whose
        tensors cannot be bound.
        """
        found = self.explain(image, targets, name=name, inputs=inputs, progress=progress)
        return [self._finisher.on_device(saliency) for saliency in found]

    def forward(
        self,
        image: ImageLike,
        targets: Sequence[TargetLike] = (None,),
        *,
        name: str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
    ) -> ForwardPass:
        """What explain() begins with: read, preprocess, run the picture once as it is. A thread can do it ahead."""
        prepared = self.prepare(image, name)
        heads = dict.fromkeys(self._networks.head(t) for t in _several(targets))
        return ForwardPass(
            prepared, {head: self._pipeline.forward(self._networks.of(head), prepared, inputs or {}) for head in heads}
        )

    def prepare(self, image: ImageLike, name: str | None = None) -> ModelInput:
        """Read and preprocess; raises PictureError on an array that fits neither a picture nor the model's input."""
        return self._intake.prepare(image, name)

    def close(self) -> None:
        """Free the sessions; explaining afterwards is an error."""
        self._networks.close()
        self._finisher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _answer(looked: ForwardPass, head: Head, network: GradientRunner) -> ForwardResult:
    if head not in looked.answers:
        raise OptionError("the picture was looked at for other targets than it is to be explained for")
    if looked.answers[head].network is not network:
        raise OptionError("the picture was looked at by another explainer")
    return looked.answers[head]


def _several(targets: Sequence[TargetLike] | TargetLike) -> Sequence[TargetLike]:
    if isinstance(targets, str | int | np.integer | Element | Box | Region | Similarity):
        return [targets]
    if not targets:
        raise OptionError("no target given")
    return targets
