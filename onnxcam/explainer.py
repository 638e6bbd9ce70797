"""The library's front door: open a model once, explain many pictures."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from onnxcam import embedded
from onnxcam.arrays import Channels, Image, Picture, Placement, Provenance, Saliency, Target
from onnxcam.discover import check_labels, find_labels, find_preset, read_labels
from onnxcam.engine.batching import Progress
from onnxcam.errors import ModelError, OptionError, PictureError, PresetError
from onnxcam.fills import BLACK
from onnxcam.methods.blocks import Method, Outcome, run
from onnxcam.methods.score_cam import score_cam
from onnxcam.pictures import read_picture
from onnxcam.preprocess import PRESETS, Preset, apply
from onnxcam.preprocess import preset as preset_named
from onnxcam.probe import Network, PictureProbe, probabilities
from onnxcam.surgeon import graph
from onnxcam.surgeon.anatomy import Anatomy
from onnxcam.surgeon.loading import ModelFile, ModelSource, read_model
from onnxcam.surgeon.locate import DEFAULT_SIZE, find_image, locate
from onnxcam.targets import TargetLike, resolve

Photograph = str | os.PathLike[str] | npt.NDArray[Any]
"""A path; an (height,width,3) or (height,width) uint8 array; or a preprocessed (C,H,W) float array."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture made ready: on the model's input, with its way back to the original."""

    image: Image
    placement: Placement | None
    name: str


class Explainer:
    """One model and one method, opened once; safe to use from several threads at once, and silent."""

    def __init__(
        self,
        model: ModelSource,
        method: Method | None = None,
        *,
        providers: Sequence[str] = ("auto",),
        preset: Preset | str | None = None,
        adjust: Callable[[Preset], Preset] | None = None,
        layer: str = "auto",
        layout: str | None = None,
        size: tuple[int, int] | None = None,
        labels: Sequence[str] | str | os.PathLike[str] | None = None,
        batch: int | None = None,
        threads: int | None = None,
    ) -> None:
        """model: path, bytes or ModelProto. method: score_cam() if None.

        providers: short names in order, each of which must start; 'auto' takes the best that does. preset: a Preset or
        the name of one; if None, the model's metadata, a preprocessor_config.json beside it, or 'imagenet', and the
        result says which. adjust: changes that are laid over whichever preset it is. layer: 'auto', 'last-conv', a
        tensor or a node. size: (H,W) for models with dynamic sides. labels: class names, or a file of them, or
        'imagenet'. batch: masks a forward pass; chosen from the model and the memory if None. Raises OnnxCamError.
        """
        self.method = method if method is not None else score_cam()
        file = read_model(model)
        self.model_name, self.model_sha256 = file.name, file.sha256
        parsed = graph.from_proto(file.proto)
        chosen, self.preset_source = choose_preset(file, preset, parsed, layout)
        self.preset = adjust(chosen) if adjust is not None else chosen
        if self.preset != chosen:
            self.preset_source += "; then changed field by field"
        self.size, self.size_source = _input_size(parsed, layout, size, self.preset)
        self.anatomy = locate(parsed, layout=layout, size=self.size, layer=layer)
        _refuse_further_inputs(parsed, self.anatomy)
        self.labels, self.labels_source = choose_labels(file, labels, self.anatomy.logits.classes)
        self._network = Network(
            parsed,
            self.anatomy,
            self.size,
            with_fill=self.method.perturb.make is not None,
            providers=providers,
            threads=threads,
            batch=batch,
        )
        self.provider, self.masks_a_run = self._network.provider, self._network.batch

    def __call__(self, image: Photograph, target: TargetLike = None) -> Saliency:
        """Explain one picture; target is the prediction if None."""
        return self.explain(image, [target])[0]

    def batch(self, images: Iterable[Photograph], target: TargetLike = None) -> list[Saliency]:
        """One Saliency a picture: of a list, or of an array with one more axis in front."""
        if isinstance(images, str | os.PathLike):
            images = [images]
        return [self(image, target) for image in images]

    def explain(
        self,
        image: Photograph,
        targets: Sequence[TargetLike] = (None,),
        *,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> list[Saliency]:
        """One Saliency a target. All targets share the features and every forward pass.

        name: what the provenance calls the picture, if it is an array. progress: called with (done, all) passes.
        """
        if isinstance(targets, str):
            targets = [targets]
        if not targets:
            raise OptionError("no target given")
        start = time.perf_counter()
        prepared = self.prepare(image, name)
        fill = self.method.perturb.make
        if self.method.perturb is BLACK and prepared.placement is None and self.preset_source != "given":
            raise OptionError(
                "what black is after preprocessing is not known for this image; give the preset, or another fill"
            )
        replacement = fill(prepared.image, self.preset) if fill is not None else None
        features, logits = self._network.look(prepared.image, replacement)
        given = probabilities(logits, self.anatomy.logits.activation)
        wanted = tuple(resolve(t, logits, self.labels) for t in targets)
        probe = PictureProbe(self._network, prepared.image, replacement, features, logits, given, wanted, progress)
        outcomes, scored = run(self.method, probe)
        seconds = time.perf_counter() - start
        channels = Channels(len(features), scored)
        return [self._saliency(o, i, probe, prepared, channels, seconds) for i, o in enumerate(outcomes)]

    def prepare(self, image: Photograph, name: str | None = None) -> Prepared:
        """Read and preprocess; raises PictureError on an array that fits neither a picture nor the model's input."""
        if isinstance(image, str | os.PathLike):
            return self._from_picture(read_picture(image), name or os.fspath(image))
        if not isinstance(image, np.ndarray):
            raise PictureError(f"a picture is a path or an array, not {type(image).__name__}; try numpy.asarray(image)")
        label = name or f"<array {'x'.join(map(str, image.shape))}>"
        if image.dtype == np.uint8:
            if image.ndim == 2:
                image = np.repeat(image[..., None], 3, axis=2)
            if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise PictureError(f"a uint8 picture is (height, width, 3) RGB, not {image.shape}")
            return self._from_picture(image, label)
        expected = (self.anatomy.image.channels, *self.size)
        if not np.issubdtype(image.dtype, np.floating) or image.shape != expected:
            raise PictureError(
                f"{label}: a preprocessed image is a float array of shape {expected} (C,H,W), not {image.dtype} "
                f"{image.shape}; a picture is (height, width, 3) uint8"
            )
        if not np.isfinite(image).all():
            raise PictureError(f"{label}: the preprocessed image holds NaN or infinity")
        return Prepared(self._in_range(np.ascontiguousarray(image, np.float32)), None, label)

    def close(self) -> None:
        """Free the session; explaining afterwards is an error."""
        self._network.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _doubts(self, probe: PictureProbe) -> tuple[str, ...]:
        """What the numbers themselves say against what was read from the graph."""
        notes = [f"auto: {reason}" for reason in self._network.passed_over]
        if self.size_source.startswith("assumed"):
            notes.append(f"input size {self.size[0]}x{self.size[1]} (HxW) {self.size_source}")
        if self.anatomy.image.batch is None and self._network.batch_mode == "looped":
            notes.append(f"one mask a forward pass: {self._network.batch_reason}")
        z = probe.logits
        if self.anatomy.logits.activation == "none" and len(z) > 1 and z.min() >= 0 and abs(z.sum() - 1) < 1e-3:
            notes.append(
                "the outputs are probabilities already although no softmax was found in the graph: "
                "the probabilities shown are a softmax too much; use the paper variant, which scores the outputs"
            )
        return tuple(notes)

    def _from_picture(self, picture: Picture, name: str) -> Prepared:
        image, placement = apply(picture, self.preset, self.size, self.anatomy.image.channels)
        return Prepared(self._in_range(image), placement, name)

    def _in_range(self, image: Image) -> Image:
        """A model that takes uint8 pixels must not be given normalised ones: they would wrap around."""
        if self.anatomy.image.dtype == "uint8" and (image.min() < -0.5 or image.max() > 255.5 or image.max() <= 1):
            raise PresetError(
                f"the model takes pixels from 0 to 255, but the image is from {image.min():.3g} to {image.max():.3g}; "
                f"use --preset raw"
            )
        return image

    def _saliency(
        self,
        outcome: Outcome,
        i: int,
        probe: PictureProbe,
        prepared: Prepared,
        channels: Channels,
        seconds: float,
    ) -> Saliency:
        index = probe.targets[i]
        label = self.labels[index] if self.labels is not None else None
        target = Target(index, label, float(probe.probabilities[index]), float(probe.logits[index]))
        provenance = Provenance(
            versions=versions(),
            model=self.model_name,
            model_sha256=self.model_sha256,
            image=prepared.name,
            layer=self.anatomy.features.tensor,
            layer_reason=self.anatomy.features.reason,
            logits=self.anatomy.logits.tensor,
            activation=self.anatomy.logits.activation,
            preset=asdict(self.preset),
            preset_source=self.preset_source if prepared.placement is not None else "preprocessed by the caller",
            fill=self.method.perturb.name,
            method=self.method.name,
            options=dict(self.method.options),
            provider=self.provider,
            batch=self.masks_a_run,
            batch_mode=self._network.batch_mode,
            channels=channels,
            forwards=channels.scored + 1,
            seconds=seconds,
            notes=(*self._doubts(probe), *outcome.notes),
        )
        score = float(probe.original(self.method.score)[i])
        return Saliency(outcome.map, outcome.raw, target, score, prepared.placement, provenance)


def choose_preset(
    file: ModelFile, preset: Preset | str | None, model: graph.Model, layout: str | None
) -> tuple[Preset, str]:
    """What was asked for, else what travels with the model, else a default; and which of these it is."""
    if isinstance(preset, Preset):
        return preset, "given"
    if preset is not None:
        return preset_named(preset), "given"
    found = find_preset(file.metadata, file.path)
    if found is not None:
        return found
    image = find_image(model, layout)
    if image.dtype == "uint8":
        return PRESETS["raw"], "assumed: the model takes raw uint8 pixels"
    if image.channels == 1:
        return PRESETS["unit"], "assumed for a grey picture: nothing beside the model says; choose with --preset"
    return PRESETS["imagenet"], "assumed: nothing beside the model says; choose with --preset"


def choose_labels(
    file: ModelFile, labels: Sequence[str] | str | os.PathLike[str] | None, classes: int
) -> tuple[tuple[str, ...] | None, str]:
    """Labels of the right length and where they came from, None where there are none; 'imagenet' is the usual list."""
    if labels == "imagenet" and not Path("imagenet").exists():
        found = find_labels(read_model(embedded.model()).metadata, None)
        assert found is not None
        check_labels(found[0], classes, "ImageNet's label list")
        return tuple(found[0]), "imagenet"
    if labels is not None:
        given = read_labels(Path(labels)) if isinstance(labels, str | os.PathLike) else list(labels)
        source = str(labels) if isinstance(labels, str | os.PathLike) else "given"
        check_labels(given, classes, source)
        return tuple(given), source
    found = find_labels(file.metadata, file.path)
    if found is None:
        return None, "none"
    check_labels(found[0], classes, found[1])
    return tuple(found[0]), found[1]


def versions() -> dict[str, str]:
    """Of everything that a map's numbers depend on; a runtime build that is not installed is left out."""
    found = {}
    for name in ("onnxcam", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _input_size(
    model: graph.Model, layout: str | None, size: tuple[int, int] | None, preset: Preset
) -> tuple[tuple[int, int], str]:
    """(H,W) and where it came from: what was asked for, else the model's, else the preset's for dynamic sides."""
    if size is not None:
        return size, "given"
    image = find_image(model, layout)
    if image.height is not None and image.width is not None:
        return (image.height, image.width), "the model's"
    wanted = preset.size or (DEFAULT_SIZE, DEFAULT_SIZE)
    source = "the preset's" if preset.size is not None else "assumed: the model takes any size; choose with --size"
    return (image.height or wanted[0], image.width or wanted[1]), source


def _refuse_further_inputs(model: graph.Model, anatomy: Anatomy) -> None:
    further = [str(v.name) for v in model.graph.inputs if v.name != anatomy.image.name]
    if further:
        raise ModelError(f"the model needs further inputs besides the picture: {', '.join(further)}")
