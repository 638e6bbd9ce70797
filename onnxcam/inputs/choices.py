"""Chooses what a model needs beside its file: the preset, the input's size, the labels, the extra inputs.

Each `choose_*` takes what the caller gave, if anything, else what travels with the model, else a usual value, and
returns its choice with an `Origin` that says which of these it was. The explainer calls them when it opens a model.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.inputs import bundled
from onnxcam.inputs.graph_preset import graph_preset, integer_preset, without_graphs_part
from onnxcam.inputs.labels import check_labels, find_labels, read_labels
from onnxcam.inputs.prepared import ARITHMETIC
from onnxcam.inputs.presets import PRESETS, Color, Preset, preset_named, whole
from onnxcam.inputs.processor_config import METADATA_KEY, find_preset
from onnxcam.inputs.ultralytics import Export, read_export
from onnxcam.logs import module_logger
from onnxcam.surgeon.analysis.anatomy import ImageInput, Kind, Logits
from onnxcam.surgeon.analysis.sides import resolve_size
from onnxcam.surgeon.loading import ModelFile, read_model
from onnxcam.types import Origin, Source

GIVEN = Origin(Source.GIVEN, "given")
CHOOSE = "choose with --preset"
logger = module_logger(__name__)


def choose_inputs(inputs: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
    """Values of the model's extra inputs as arrays, by name; raises OptionError for anything but numbers."""
    if not isinstance(inputs, Mapping):
        raise OptionError(f"extra inputs are a mapping by name, {{'meta': array}}, not {type(inputs).__name__}")
    try:
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
    except ValueError as error:  # lists of different lengths
        raise OptionError(f"an extra input is not an array of numbers: {error}") from None
    except MemoryError:
        raise OptionError("an extra input does not fit into memory; give a smaller array") from None
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise OptionError(f"the value of the input {name!r} is not a number or an array of numbers")
    return arrays


def choose_size(image: ImageInput, size: Sequence[int] | None, preset: Preset) -> tuple[tuple[int, ...] | None, Origin]:
    """The sides of the model's input, and where they came from; None leaves them to the model.

    size: the caller's, taken as it is. Sides that the model leaves open are the preset's, else DEFAULT_SIDE.
    """
    if size is not None:
        return tuple(size), GIVEN
    if None not in image.sides:
        return None, Origin(Source.MODEL, "the model's")
    if len(image.sides) == 2 and preset.size is not None:
        sides = tuple(fixed or usual for fixed, usual in zip(image.sides, preset.size, strict=True))
        return sides, Origin(Source.PRESET, "the preset's")
    if len(image.sides) == 2 or image.frames is not None:
        text = "assumed: the model takes any size; choose with --size"
        return resolve_size(image, None), Origin(Source.ASSUMED, text)
    return None, Origin(Source.MODEL, "the model's")


def choose_preset(file: ModelFile, preset: Preset | str | None, image: ImageInput) -> tuple[Preset, Origin]:
    """The preset and where it came from: the caller's, else what travels with the model, what the graph leaves to be
    done, else an assumed one.

    Raises PresetError for an unknown name, and for a damaged or unsupported preset beside the model.
    """
    if isinstance(preset, Preset):
        return preset, GIVEN
    if preset is not None:
        return preset_named(preset), GIVEN
    normalisations = file.normalisations(image)
    export = read_export(file.metadata)
    if export is not None and METADATA_KEY not in file.metadata:
        return without_graphs_part(_of_export(export, file, image), export.origin, normalisations, image)
    beside = find_preset(file.metadata, file.path, image.sides)
    if beside is not None:
        return without_graphs_part(*beside, normalisations, image)
    inside = graph_preset(normalisations, image)
    if inside is not None:
        return inside
    integers = integer_preset(image)
    if integers is not None:
        less = " less 128" if image.dtype == "int8" else ""
        return integers, Origin(Source.ASSUMED, f"assumed: the model takes raw {image.dtype} pixels{less}")
    if image.channels not in (1, 3) and len(image.sides) == 2:
        text = f"assumed for {image.channels} bands, whose numbers stay; choose with --scale, --mean and --std"
        return PRESETS["raw"], Origin(Source.ASSUMED, text)
    if image.channels == 1:
        text = "assumed for a grey picture: nothing beside the model says; choose with --preset"
        return PRESETS["unit"], Origin(Source.ASSUMED, text)
    if not file.classifies:
        text = "assumed, of the whole picture since no output is a class vector: nothing beside the model says; "
        return replace(whole(PRESETS["imagenet"]), name="imagenet+whole"), Origin(Source.ASSUMED, f"{text}{CHOOSE}")
    return PRESETS["imagenet"], Origin(Source.ASSUMED, f"assumed: nothing beside the model says; {CHOOSE}")


def log_preset(file: ModelFile, preset: Preset, origin: Origin) -> None:
    """Logs which preprocessing a model gets and who says so: a warning where nothing does."""
    level = WARNING if origin.source is Source.ASSUMED else INFO
    logger.log(level, "preprocessing of %r: %s (%r)", file.name, preset.name, origin.text)


def changed_fields(preset: Preset, adjust: Callable[[Preset], Preset] | None) -> frozenset[str]:
    """The fields of a preset that the caller sets by adjust(), to the value that they had too.

    Of scale, mean, std and color that shows where another preset comes out with the same value.
    """
    if adjust is None:
        return frozenset()
    adjusted = adjust(preset)
    changed = {f.name for f in fields(Preset) if getattr(adjusted, f.name) != getattr(preset, f.name)}
    mean, std = tuple(m + 1 for m in preset.mean), tuple(2 * s for s in preset.std)
    color: Color = "bgr" if preset.color == "rgb" else "rgb"
    try:
        other = adjust(replace(preset, scale=2 * preset.scale, mean=mean, std=std, color=color))
    except OnnxCamError:
        return frozenset(changed)
    return frozenset(changed | {f for f in ARITHMETIC if getattr(other, f) == getattr(adjusted, f)})


def _of_export(export: Export, file: ModelFile, image: ImageInput) -> Preset:
    """Ultralytics' preprocessing, for the input that the model has."""
    preset = export.preset(classifies=file.gives_vectors)
    return replace(preset, scale=1.0) if image.dtype == "uint8" else preset


def choose_kind(file: ModelFile, output: str | None) -> Kind | None:
    """What is scored, as Ultralytics' metadata says; None leaves it to the model, as does an output that was named."""
    export = read_export(file.metadata)
    return export.kind if export is not None and output is None else None


def turns_boxes(file: ModelFile) -> bool:
    """Whether the last number of a box is its angle, as Ultralytics' metadata says of oriented boxes."""
    export = read_export(file.metadata)
    return export is not None and export.task == "obb"


def choose_labels(
    file: ModelFile, labels: Sequence[str] | str | os.PathLike[str] | None, logits: Logits
) -> tuple[tuple[str, ...] | None, Origin]:
    """Class names and where they came from; None where there are none, or none that fit what is scored.

    labels: a list, a file, or 'imagenet' for ImageNet's 1000 names. Raises LabelError for labels of another length than
    the classes. Labels that travel with the model may belong to another of its outputs, so they may not fit.
    """
    if labels == "imagenet" and not Path("imagenet").exists():
        imagenet = find_labels(read_model(bundled.model()).metadata, None)
        assert imagenet is not None
        names, origin = imagenet[0], Origin(Source.GIVEN, "imagenet")
    elif labels is not None:
        names = read_labels(Path(labels)) if isinstance(labels, str | os.PathLike) else list(labels)
        origin = Origin(Source.GIVEN, str(labels)) if isinstance(labels, str | os.PathLike) else GIVEN
    elif (stored := graph_labels(file, logits)) and fits(stored, logits):
        return stored, Origin(Source.MODEL, "the graph")
    else:
        beside = find_labels(file.metadata, file.path)
        if beside is None or (logits.kind is not Kind.CLASSES and not fits(beside[0], logits)):
            return None, Origin(Source.NONE, "none")
        names, origin = beside
    if not fits(names, logits):
        check_labels(names, logits.classes, "ImageNet's label list" if labels == "imagenet" else origin.text)
    return tuple(names), origin


def graph_labels(file: ModelFile, logits: Logits) -> tuple[str, ...]:
    """The names that the graph itself gives the classes of an output: ZipMap's, or those that it looks up."""
    stored = file.maps.get(logits.output)
    return logits.labels or (stored.labels if stored is not None else ())


def fits(labels: Sequence[str], logits: Logits) -> bool:
    """Whether there is one label per class; of boxes there may be fewer, as a table may hold more numbers per box."""
    if logits.kind is Kind.BOXES:
        return 0 < len(labels) <= logits.classes
    if logits.two_sided and len(labels) == 1:  # the name of the positive side
        return True
    return logits.kind in (Kind.CLASSES, Kind.REGION, Kind.SEQUENCE) and len(labels) == logits.classes
