"""The library's front door: an Explainer opens a model once and explains many pictures.

It loads pictures with onnxcam.inputs, has pipeline.py run the steps, and returns Saliency results.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt

from onnxcam.engine.options import EngineOptions
from onnxcam.engine.providers import ProviderSpec
from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.explainer.arguments import adjusted, box_list, check_arguments, checked_method
from onnxcam.explainer.device_maps import DeviceSaliency, Finisher
from onnxcam.explainer.heads import Heads
from onnxcam.explainer.layers import check_layers, open_heads
from onnxcam.explainer.lockstep import group_size
from onnxcam.explainer.opening_arguments import OpeningArguments
from onnxcam.explainer.pairing import with_targets
from onnxcam.explainer.picture_inputs import InputReader
from onnxcam.explainer.pipeline import Explained, Pipeline
from onnxcam.explainer.prefetch import explain_each
from onnxcam.explainer.results import ExplainerInfo, ForwardPass
from onnxcam.explainer.targets.kind import TargetLike, Targets
from onnxcam.explainer.targets.resolving import each_target, one_target
from onnxcam.inputs.choices import (
    changed_fields,
    choose_kind,
    choose_labels,
    choose_preset,
    choose_size,
    log_preset,
    turns_boxes,
)
from onnxcam.inputs.graph_preset import ArrayNotes, preset_notes
from onnxcam.inputs.loader import ImageLike, ImageLoader, ModelInput
from onnxcam.inputs.presets import Preset
from onnxcam.limits import Limits, brief, is_whole
from onnxcam.methods.blocks import Method
from onnxcam.methods.options import choose
from onnxcam.network.opening import OpenedModel, OpenOptions
from onnxcam.network.warm import known_facts, store_facts
from onnxcam.outputs.explanations import Explanations
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.loading import ModelFile, ModelSource, read_model
from onnxcam.types import Origin, Progress, Score, Source

if TYPE_CHECKING:
    from onnxcam.explainer.fusion import FusedPipeline
    from onnxcam.explainer.isolation import Isolated
    from onnxcam.metrics.measurement import Measurement
    from onnxcam.metrics.scorer import Scorer


class Explainer:
    """One model and one method, opened once. Safe to use from several threads at once; it prints nothing.

    Attributes, all read-only: method; model_name (the file's) and model_sha256; model_fingerprint (SHA-256 of the file
    and its external weights); preset and preset_origin; size (H,W) of the model's input and size_origin; labels (None
    if unknown) and labels_origin; anatomy (what was read from the graph); batching (how several images go through the
    model); provider (short name); batch_size (masks a forward pass). Use it in a `with` statement, or call close().
    """

    def __init__(
        self,
        model: ModelSource,
        method: Method | str | None = None,
        *,
        step: ModelSource | None = None,
        providers: str | Sequence[ProviderSpec] = ("auto",),
        preset: Preset | str | None = None,
        adjust: Callable[[Preset], Preset] | None = None,
        layer: str | Sequence[str] = "auto",
        layout: str | None = None,
        image_input: str | None = None,
        size: Sequence[int] | None = None,
        window: Sequence[float] | None = None,
        bands: Sequence[int] | None = None,
        output: str | None = None,
        kind: Kind | str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        labels: Sequence[str] | str | os.PathLike[str] | None = None,
        batch: int | None = None,
        threads: int | None = None,
        engine: EngineOptions | None = None,
        limits: Limits | None = None,
        cache: bool = True,
        isolated: bool = False,
    ) -> None:
        """Opens the model. Raises OnnxCamError for whatever cannot be opened or makes no sense.

        model: a path, the file's bytes or a ModelProto. method: a Method such as score_cam(), or a name such as
        'grad-cam'; Score-CAM if None. step: a graph with the gradient of the masked score, as `onnxcam rewrite` and
        PyTorch's exporter can make it, for a method that searches with gradients; built from the model if None.

        What the picture becomes: preset is a Preset or the name of one; if None, the model's metadata or a
        preprocessor_config.json beside it, else 'imagenet', and the result says which. adjust changes whichever preset
        it is. size is (H,W) of the input, for models with dynamic sides. layout is the order of the input's axes, such
        as 'NHWC', where the graph does not say. window is (low, high), what becomes black and white of a deep picture.
        bands are the numbers, from 1, of the bands that are red, green and blue where a picture has many. image_input
        is the name of the input that takes the picture, for models that take several. inputs are values of the model's
        other inputs, by name; of one that takes a picture too, a path or an array, which is preprocessed in the same
        way.

        What is explained: output is the output's name, for models with several. kind says what is scored where the
        model and the targets leave a choice: 'classes', 'region', 'boxes', 'elements' or 'embedding'. layer is 'auto',
        'last-conv', a tensor or a node; of a list of these the maps are fused: their mean. labels are class names, a
        file of them, or 'imagenet'.

        How it runs: providers in order of preference, short names or onnxruntime's, or (name, options) as onnxruntime
        takes them; each must start, and 'auto' takes the best that does. batch is the number of masks a forward pass,
        chosen from the model and the memory if None; threads that of the processor's threads. engine says how a GPU
        computes and how much of its memory it takes; it is refused on a CPU. limits: how large a picture or a model may
        be, and how long a forward pass; the safe defaults of Limits if None. cache: whether what opening this model
        taught is kept in the user's cache folder and used next time. isolated: whether model and pictures are read and
        run in a process of their own, with limits, so that a stranger's file cannot end this one (docs/security.md).
        """
        arguments = OpeningArguments(
            model=model, method=method, step=step, providers=providers, preset=preset, adjust=adjust, layer=layer,
            layout=layout, image_input=image_input, size=size, window=window, bands=bands, output=output, kind=kind,
            inputs=inputs, labels=labels, batch=batch, threads=threads, engine=engine, limits=limits, cache=cache,
        )  # fmt: skip
        arguments.check()
        check_arguments({"isolated": isolated})
        self.method = checked_method(method)
        self._isolated: Isolated | None = None
        if isolated:
            self._isolate(arguments)
        else:
            self._open(arguments)

    def _open(self, arguments: OpeningArguments) -> None:
        """Opens the model in this process."""
        limits = arguments.effective_limits
        file = read_model(arguments.model, limits, known_facts(limits) if arguments.cache else None)
        self.model_name, self.model_sha256, self.model_fingerprint = file.name, file.sha256, file.fingerprint
        image = file.image(arguments.layout, arguments.image_input)
        chosen, origin = choose_preset(file, arguments.preset, image)
        self.preset, self.preset_origin = adjusted(chosen, origin, arguments.adjust)
        log_preset(file, self.preset, self.preset_origin)
        sides, self.size_origin = choose_size(image, arguments.size, self.preset)
        self._reader = InputReader(
            file, image, sides or image.sides, self.preset, arguments.preset, arguments.adjust, arguments.low_high,
            limits,
        )  # fmt: skip
        values, self._input_notes = self._reader.read(arguments.inputs if arguments.inputs is not None else {})
        options = arguments.open_options(sides, values, size_is_assumed=self.size_origin.source is not Source.GIVEN)
        with ExitStack() as opened:
            self._all_heads = self._open_heads(file, options, arguments)
            for heads in self._all_heads:
                opened.callback(heads.close)
            self._take_from_first_head(file, sides, arguments.labels)
            device = self._heads.first.network.device_index
            self._loader = ImageLoader(
                image, self.size, self.preset, self.provider, device, changed_fields(chosen, arguments.adjust),
                arguments.low_high, arguments.rgb_bands, limits,
            )  # fmt: skip
            self._finisher = Finisher(self.provider, arguments.threads, device)
            self._pipeline = self._new_pipeline()
            if arguments.cache:
                store_facts(file)
            opened.pop_all()

    def _open_heads(self, file: ModelFile, options: OpenOptions, arguments: OpeningArguments) -> tuple[Heads, ...]:
        """The heads of each layer that is explained."""
        step, output = arguments.step, arguments.output
        kind = arguments.kind if arguments.kind is not None else choose_kind(file, output)
        self._layers = check_layers(arguments.layer, self.method, has_step=step is not None)
        return open_heads(
            self._layers, lambda one: Heads(file, replace(options, layer=one), self.method, step, output, kind)
        )

    def _isolate(self, arguments: OpeningArguments) -> None:
        """Opens the model in a process of its own."""
        from onnxcam.explainer.isolation import Isolated

        self._isolated = Isolated(arguments.by_name(self.method), arguments.effective_limits)
        opened = self._isolated.opened
        self.model_name, self.model_sha256 = opened.model_name, opened.model_sha256
        self.model_fingerprint = opened.model_fingerprint
        self.preset, self.preset_origin = opened.preset, opened.preset_origin
        self.size, self.size_origin = opened.size, opened.size_origin
        self.labels, self.labels_origin = opened.labels, opened.labels_origin
        self.anatomy, self.batching = opened.anatomy, opened.batching
        self.provider, self.batch_size = opened.provider, opened.batch_size
        self._loader = ImageLoader(self.anatomy.image, self.size, self.preset, self.provider)

    def _take_from_first_head(
        self, file: ModelFile, sides: tuple[int, ...] | None, labels: Sequence[str] | str | os.PathLike[str] | None
    ) -> None:
        """What the opened model says of itself. sides: those that were chosen for it before it was opened."""
        self._heads = self._all_heads[0]
        first = self._heads.first
        self.anatomy, self.size, self.batching = first.anatomy, first.size, first.batching
        self._reader = replace(self._reader, size=self.size)  # another one may have been found by trying
        if sides not in (None, self.size):
            self.size_origin = Origin(Source.MODEL, "found by trying: the model does not take every size")
        self.labels, self.labels_origin = choose_labels(file, labels, self.anatomy.logits)
        self.provider, self.batch_size = first.network.provider, first.network.batch

    def _new_pipeline(self) -> "Pipeline | FusedPipeline":
        """The way of an explanation: one pipeline a layer, whose maps are fused if there are several."""
        file, image = self._reader.file, self._reader.image
        normalisations = file.normalisations(image)
        info = ExplainerInfo(
            file.name, file.sha256, self.preset, self.preset_origin, self.size, self.size_origin, self.method,
            preset_notes(normalisations, image, self.preset, self.preset_origin), ArrayNotes(normalisations, image),
            turns_boxes(file), self.labels is not None,
        )  # fmt: skip
        pipelines = tuple(Pipeline(info, self.labels, self._loader, heads) for heads in self._all_heads)
        if len(pipelines) == 1:
            return pipelines[0]
        from onnxcam.explainer.fusion import FusedPipeline

        return FusedPipeline(pipelines, self._layers)

    def with_method(self, method: Method | str) -> "Explainer":
        """An Explainer of the same model for another method, which shares this one's sessions where it can.

        Methods whose masks come in the same way, with a fill or without, share all of it; for another kind of mask the
        scoring graph is built anew, but the model is not read, traced or verified again. Maps are those of an Explainer
        of its own. Each of the two is closed by itself, in any order; the last one frees the shared sessions. An
        isolated one opens the model in one more process.
        onnxcam.explainer.together.explain_together() shares the forward pass of a picture too. Raises OptionError for a
        step graph, which serves one method, InferenceError when this one is closed, and what opening a model raises.
        """
        chosen = checked_method(method)
        if self._isolated is not None:
            return type(self)(**self._isolated.another(chosen), isolated=True)
        check_layers(self._layers, chosen, has_step=False)
        another = object.__new__(type(self))
        another.__dict__.update(self.__dict__)
        another.method = chosen
        with ExitStack() as opened:
            heads: list[Heads] = []
            for each in self._all_heads:
                heads.append(each.with_method(chosen))
                opened.callback(heads[-1].close)
            another._all_heads, another._heads = tuple(heads), heads[0]
            first = another._heads.first
            another.anatomy, another.batching, another.batch_size = first.anatomy, first.batching, first.network.batch
            another._finisher = Finisher(self.provider, first.options.threads, first.network.device_index)
            another._pipeline = another._new_pipeline()
            opened.pop_all()
        return another

    def __call__(self, image: ImageLike, target: TargetLike = None) -> Saliency:
        """Explains one picture for one target; the target is the predicted class if None. Raises OnnxCamError."""
        return self.explain(image, one_target(target))[0]

    def explain(
        self,
        image: ImageLike,
        targets: Targets | TargetLike = (None,),
        *,
        name: str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> Explanations:
        """Explains one picture and returns one Saliency per target, in order; 'top5' is five targets.

        Targets of one output share the features and every forward pass. name: what the provenance calls the picture, if
        it is an array. inputs: values of the model's extra inputs for this picture. progress: called with (done, all)
        forward passes after the first; all is an expectation and may fall. Raises OnnxCamError.
        """
        check_arguments({"progress": progress})
        requested = each_target(targets)
        if self._isolated is not None:
            check_arguments({"name": name, "inputs": inputs})
            options = {"name": name, "inputs": inputs}
            return Explanations(self._isolated.explain(image, requested, options, progress))
        # Load the picture and run it once; then resolve the targets, run the method and make the results.
        forward = self._forward(image, requested, name=name, inputs=inputs)
        (explained,) = self._explain_batch([forward], [requested], progress=[progress])
        if isinstance(explained, OnnxCamError):
            raise explained
        return Explanations(explained)

    def predict(
        self,
        image: ImageLike,
        count: int = 5,
        *,
        name: str | None = None,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
    ) -> list[ScoredTarget]:
        """The model's own answers for a picture, best first: what the targets 'rank1' to 'rankN' are. Makes no map.

        count: how many; fewer are returned where the model has no more. name, inputs: as explain() takes them. Raises
        OnnxCamError, OptionError for an isolated Explainer.
        """
        if not is_whole(count) or count < 1:
            raise OptionError(f"count is a number of answers from 1 on, not {brief(count)}")
        forward = self._forward(image, (None,), name=name, inputs=inputs, begins=False)
        try:
            return self._pipeline.answers(forward, int(count))
        finally:
            forward.release()

    def batch(self, images: Iterable[ImageLike], targets: Targets | TargetLike = None) -> Explanations:
        """Explains several pictures and returns one Saliency per picture, in order.

        images: paths or arrays, or one array with one more axis in front. targets: a list, a tuple or an array of
        integers holds one target per picture, of which there must be as many as pictures; anything else is one target
        for all pictures. While some pictures are scored the next ones are read, and forward passes that one picture
        would not fill are shared. Raises OnnxCamError for the first picture that cannot be explained, and OptionError
        if there are more or fewer targets than pictures.
        """
        pictures = self._loader.several(images)
        with closing(explain_each(self, with_targets(pictures, targets), keep_going=False)) as results:
            saliencies = Explanations()
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
        check_arguments({"progress": progress})
        if self._isolated is not None:
            yield from self._isolated.stream(image, target, progress)
            return
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
        self._refuse_isolated("explain_on_device()")
        # A method of its own, so that no argument's value changes a return type.
        saliencies = self.explain(image, targets, name=name, inputs=inputs, progress=progress)
        return [self._finisher.on_device(saliency) for saliency in saliencies]

    def scorer(
        self,
        image: ImageLike,
        targets: Targets | TargetLike = (None,),
        *,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        score: Score | str = Score.PROBABILITY,
    ) -> "Scorer":
        """What the model gives a picture's targets when parts of the picture are changed, for metrics.

        targets: of one output; None is the predicted class. inputs: values of the model's extra inputs for this
        picture. score: 'probability' or 'logit'. The Scorer is valid until this Explainer is closed. Raises
        OnnxCamError.
        """
        self._refuse_isolated("scorer()")
        model_input, values = self._read(image, None, inputs)
        return self._pipeline.scorer(model_input, each_target(targets), values, choose(Score, score, "score"))

    def measure(
        self,
        saliency: Saliency | npt.ArrayLike,
        *metrics: str,
        picture: ImageLike | None = None,
        target: TargetLike = None,
        box: Sequence[float] | Sequence[Sequence[float]] | None = None,
        step: int | None = None,
        seed: int = 0,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        progress: Progress | None = None,
    ) -> "dict[str, Measurement]":
        """Measures a map on this model, and returns a Measurement for each metric, by the name that was given.

        saliency: a Saliency, or a map (*size) of any tool on the model's input. metrics: names such as 'deletion',
        'average-drop' or 'average-drop:half', where the part behind the colon is the protocol; METRICS lists them. All
        that need no more than what is given if none is named. picture: what was explained; of a Saliency that was made
        of a file, that file if None. target: the map's own if None, of a bare map the predicted class. box: of the
        object as a person drew it, (left, top, right, bottom) in pixels of the upright picture, or of the model's input
        for an image that came preprocessed; a list for several objects. step: pixels a step of a curve. seed: of
        metrics that draw numbers. inputs: values of the model's extra inputs for this picture. progress: called with
        (done, all) forward passes.

        Raises OptionError for unknown names, for a picture that is not the one that was explained, and for a metric
        without the box that it needs; PictureError for a file that is gone; and what scorer() raises.
        """
        from onnxcam.explainer.measuring import USUAL_PASSES, Requests, measure_maps, picture_of, target_of
        from onnxcam.explainer.shares import Shares
        from onnxcam.metrics.requests import ALL, requested, under_every_name

        check_arguments({"progress": progress, "box": box, "seed": seed})
        names = requested(metrics or (ALL,), has_box=box is not None)
        shares = Shares(progress, len(names), USUAL_PASSES) if progress is not None else None
        (results,) = measure_maps(
            self,
            picture if picture is not None else picture_of(saliency),
            [(saliency, target if target is not None else target_of(saliency))],
            Requests(names, box_list(box), step, seed),
            inputs=inputs,
            parts=[shares.part(i) for i in range(len(names))] if shares is not None else None,
        )
        return under_every_name(metrics, results)

    def prepare(self, image: ImageLike, name: str | None = None) -> ModelInput:
        """Reads and preprocesses one picture; .image is (C,H,W) float32 as the network takes it.

        Raises PictureError for a file or an array that fits neither a picture nor the model's input.
        """
        check_arguments({"name": name})
        self._refuse_isolated("prepare()")
        return self._loader.prepare(image, name)

    def close(self) -> None:
        """Frees the sessions; a later explanation raises InferenceError."""
        if self._isolated is not None:
            self._isolated.close()
            return
        for heads in self._all_heads:
            heads.close()
        self._finisher.close()

    def _refuse_isolated(self, what: str) -> None:
        """Raises OptionError for what hands out parts of the opened model, which is in another process if isolated."""
        if self._isolated is not None:
            raise OptionError(
                f"{what} needs an Explainer without isolated=True, whose model is opened in this process; an isolated "
                f"one has explain(), batch(), stream(), measure() and with_method()"
            )

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "an Explainer holds open sessions and is not pickled; send the model (its path or bytes) and the method (a "
            "Method, or its name and options) instead, and open an Explainer there"
        )

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
        begins: bool = True,
    ) -> ForwardPass:
        """Loads a picture and runs it once, unmasked. A thread may do this ahead of the explanation.

        begins: whether an explanation follows.
        """
        model_input, values = self._read(image, name, inputs)
        return self._pipeline.forward(model_input, targets, values, begins=begins)

    def _read(
        self, image: ImageLike, name: str | None, inputs: Mapping[str, npt.ArrayLike] | None
    ) -> tuple[ModelInput, Mapping[str, npt.ArrayLike]]:
        """The picture as the network takes it, with notes on all inputs, and the values of the extra inputs."""
        self._refuse_isolated("this")
        check_arguments({"name": name, "inputs": inputs})
        model_input = self._loader.prepare(image, name)
        values, doubts = self._reader.read(inputs if inputs is not None else {})
        also = [note for notes in (self._input_notes | doubts).values() for note in notes]
        return (replace(model_input, notes=(*model_input.notes, *also)) if also else model_input), values

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
        return group_size(self.method, self._heads.first.network)


def opened_model(explainer: Explainer) -> OpenedModel:
    """The model as the Explainer opened it for targets that name no output; it is closed with the Explainer.

    Raises OptionError for an isolated one.
    """
    explainer._refuse_isolated("this")
    return explainer._heads.first


def explain_prepared(explainer: Explainer, image: ModelInput, targets: Sequence[TargetLike]) -> Explanations:
    """Explains an image as prepare() gave it; numbers that are preprocessed are not preprocessed again.

    Raises what explain() raises, and OptionError for an isolated Explainer.
    """
    explainer._refuse_isolated("this")
    forward = explainer._pipeline.forward(image, targets, {}, begins=True)
    (explained,) = explainer._explain_batch([forward], [targets])
    if isinstance(explained, OnnxCamError):
        raise explained
    return Explanations(explained)
