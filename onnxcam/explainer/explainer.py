"""The library's front door: an Explainer opens a model once and explains many pictures.

It loads pictures (inputs), runs them through a Pipeline (pipeline.py) and returns Saliency results (outputs).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.providers import ProviderSpec, parse_providers
from onnxcam.errors import OnnxCamError, OptionError, PictureError
from onnxcam.explainer.device_maps import DeviceSaliency, Finisher
from onnxcam.explainer.heads import Heads
from onnxcam.explainer.lockstep import group_size
from onnxcam.explainer.pipeline import Explained, Pipeline
from onnxcam.explainer.prefetch import explain_each
from onnxcam.explainer.results import ExplainerInfo, ForwardPass
from onnxcam.explainer.targets.kind import TargetLike, Targets
from onnxcam.explainer.targets.registry import is_sequence, target_list
from onnxcam.inputs.choices import choose_inputs, choose_labels, choose_preset, choose_size
from onnxcam.inputs.loader import ImageLike, ImageLoader, ModelInput
from onnxcam.inputs.presets import Preset
from onnxcam.methods.blocks import Method, Need
from onnxcam.methods.score_cam import score_cam
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
        self._heads = Heads(file, options, self.method, step, output, kind)
        first = self._heads.first
        self.anatomy, self.size, self.batching = first.anatomy, first.size, first.batching
        self.labels, self.labels_origin = choose_labels(file, labels, self.anatomy.logits)
        self.provider, self.batch_size = first.network.provider, first.network.batch
        self._loader = ImageLoader(image, self.size, self.preset, self.provider)
        self._finisher = Finisher(self.provider, threads)
        info = ExplainerInfo(
            file.name, file.sha256, self.preset, self.preset_origin, self.size, self.size_origin, self.method
        )
        self._pipeline = Pipeline(info, self.labels, self._loader, self._heads)

    def __call__(self, image: ImageLike, target: TargetLike = None) -> Saliency:
        """Explains one picture for one target; the target is the predicted class if None. Raises OnnxCamError."""
        return self.explain(image, [target])[0]

    def explain(
        self,
        image: ImageLike,
        targets: Targets | TargetLike = (None,),
        *,
        name: str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> list[Saliency]:
        """Explains one picture and returns one Saliency per target, in order.

        Targets of one output share the features and every forward pass. name: what the provenance calls the picture, if
        it is an array. inputs: values of the model's extra inputs for this picture. progress: called with (done, all)
        forward passes after the first; all is an expectation and may fall. Raises OnnxCamError.
        """
        requested = target_list(targets)
        forward = self._forward(image, requested, name=name, inputs=inputs)
        (explained,) = self._explain_batch([forward], [requested], progress=[progress])
        if isinstance(explained, OnnxCamError):
            raise explained
        return explained

    def batch(self, images: Iterable[ImageLike], targets: Targets | TargetLike = None) -> list[Saliency]:
        """Explains several pictures and returns one Saliency per picture, in order.

        images: paths or arrays, or one array with one more axis in front. targets: a list, a tuple or an array of
        integers holds one target per picture, of which there must be as many as pictures; anything else is one target
        for all pictures. While some pictures are scored the next ones are read, and forward passes that one picture
        would not fill are shared. Raises OnnxCamError for the first picture that cannot be explained, and OptionError
        if there are more or fewer targets than pictures.
        """
        pictures = [images] if isinstance(images, str | os.PathLike) else images
        with closing(explain_each(self, _with_targets(pictures, targets), keep_going=False)) as results:
            saliencies: list[Saliency] = []
            for result in results:
                if result.error is not None:
                    raise result.error
                saliencies += result.saliencies
            return saliencies

    def stream(
        self, image: ImageLike, target: TargetLike = None, *, progress: Progress | None = None
    ) -> Iterator[Saliency]:
        """Yields the map while it sharpens; the last Saliency is the one that a call returns.

        Score-CAM and RISE yield maps on the way, other methods the last one only. An exact Score-CAM adds the feature
        maps that vary most first; with a budget or a tolerance each result carries its error. Nothing is computed
        before it is requested, so leaving the loop early costs nothing more. Raises what explain() raises, once the
        first map is requested.
        """
        yield from self._pipeline.stream(self._forward(image, [target]), target, progress)

    def explain_on_device(
        self,
        image: ImageLike,
        targets: Targets | TargetLike = (None,),
        *,
        name: str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> list[DeviceSaliency]:
        """Explains like explain(), with maps that stay on the device of the network.

        Raises OptionError for a provider whose tensors cannot be bound.
        """
        # A method of its own, so that no argument's value changes a return type.
        saliencies = self.explain(image, targets, name=name, inputs=inputs, progress=progress)
        return [self._finisher.on_device(saliency) for saliency in saliencies]

    def prepare(self, image: ImageLike, name: str | None = None) -> ModelInput:
        """Reads and preprocesses one picture; .image is (C,H,W) float32 as the network takes it.

        Raises PictureError for a file or an array that fits neither a picture nor the model's input.
        """
        return self._loader.prepare(image, name)

    def close(self) -> None:
        """Frees the sessions; a later explanation raises InferenceError."""
        self._heads.close()
        self._finisher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _forward(
        self,
        image: ImageLike,
        targets: Sequence[TargetLike] = (None,),
        *,
        name: str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
    ) -> ForwardPass:
        """Loads a picture and runs it once, unmasked. A thread may do this ahead of the explanation."""
        return self._pipeline.forward(self._loader.prepare(image, name), targets, inputs or {})

    def _explain_batch(
        self,
        passes: Sequence[ForwardPass],
        targets: Sequence[Sequence[TargetLike]],
        *,
        progress: Sequence[Progress | None] | None = None,
    ) -> list[Explained]:
        """Explains pictures after their forward pass, each for its own targets: its results or its error, in order.

        Masks of different pictures share forward passes where those of one would not fill them. Scores are those of
        each picture alone, up to the rounding of another batch size.
        """
        return self._pipeline.explain(passes, targets, progress if progress is not None else [None] * len(passes))

    @property
    def _batch_hint(self) -> int:
        """The number of pictures that fill the network together; 1 where nothing is shared."""
        return group_size(self.method, self._heads.of(self._heads.default).opened.network)


def _with_targets(
    images: Iterable[ImageLike], targets: Targets | TargetLike
) -> Iterator[tuple[ImageLike, list[TargetLike]]]:
    """Pairs each picture with its target. Raises OptionError, before the first picture where their number is known."""
    if not isinstance(images, Iterable) or np.ndim(images if isinstance(images, np.ndarray) else [()]) == 0:
        raise PictureError(f"batch() takes a list of pictures or an array of them, not {type(images).__name__}")
    requested = target_list(targets)
    if not is_sequence(targets):
        return ((image, requested) for image in images)
    if isinstance(images, Sized) and len(images) != len(requested):
        raise _unpaired(len(requested), f"{len(images)} pictures")
    return _paired(images, requested)


def _paired(images: Iterable[ImageLike], targets: list[TargetLike]) -> Iterator[tuple[ImageLike, list[TargetLike]]]:
    count = 0
    for count, image in enumerate(images, start=1):
        if count > len(targets):
            raise _unpaired(len(targets), "more pictures")
        yield image, [targets[count - 1]]
    if count < len(targets):
        raise _unpaired(len(targets), f"{count} pictures")


def _unpaired(targets: int, pictures: str) -> OptionError:
    return OptionError(f"{targets} targets for {pictures}; give one target per picture, or one for all (not in a list)")
