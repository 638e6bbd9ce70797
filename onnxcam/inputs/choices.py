"""What is chosen before a model is opened: the preset, the size, the labels, the extra inputs, each with its origin."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.inputs import bundled
from onnxcam.inputs.labels import check_labels, find_labels, read_labels
from onnxcam.inputs.presets import PRESETS, Preset, preset_named
from onnxcam.inputs.processor_config import find_preset
from onnxcam.surgeon.analysis.anatomy import ImageInput, Kind, Logits
from onnxcam.surgeon.analysis.locate import DEFAULT_SIDE
from onnxcam.surgeon.loading import ModelFile, read_model
from onnxcam.types import Origin, Source

GIVEN = Origin(Source.GIVEN, "given")


def choose_inputs(given: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
    """Further inputs as arrays of numbers; raises OptionError."""
    if not isinstance(given, Mapping):
        raise OptionError(f"extra inputs are given by name, as {{'meta': array}}, not as {type(given).__name__}")
    try:
        found = {name: np.asarray(value) for name, value in given.items()}
    except ValueError as error:  # lists of different lengths
        raise OptionError(f"an extra input is not an array of numbers: {error}") from None
    for name, array in found.items():
        if array.dtype.kind not in "fiub":
            raise OptionError(f"the input {name!r} is not made of numbers")
    return found


def choose_size(image: ImageInput, size: Sequence[int] | None, preset: Preset) -> tuple[tuple[int, ...] | None, Origin]:
    """The sides to ask for and where they came from: what was asked for, the model's, the preset's for dynamic ones."""
    if size is not None:
        return tuple(size), GIVEN
    if None not in image.sides:
        return None, Origin(Source.MODEL, "the model's")
    if len(image.sides) == 2 and preset.size is not None:
        sides = tuple(own or wanted for own, wanted in zip(image.sides, preset.size, strict=True))
        return sides, Origin(Source.PRESET, "the preset's")
    if len(image.sides) == 2:
        text = "assumed: the model takes any size; choose with --size"
        return tuple(side or DEFAULT_SIDE for side in image.sides), Origin(Source.ASSUMED, text)
    return None, Origin(Source.MODEL, "the model's")


def choose_preset(file: ModelFile, preset: Preset | str | None, image: ImageInput) -> tuple[Preset, Origin]:
    """What was asked for, else what travels with the model, else a default; and which of these it is."""
    if isinstance(preset, Preset):
        return preset, GIVEN
    if preset is not None:
        return preset_named(preset), GIVEN
    found = find_preset(file.metadata, file.path)
    if found is not None:
        return found
    if image.dtype == "uint8":
        return PRESETS["raw"], Origin(Source.ASSUMED, "assumed: the model takes raw uint8 pixels")
    if image.channels == 1:
        text = "assumed for a grey picture: nothing beside the model says; choose with --preset"
        return PRESETS["unit"], Origin(Source.ASSUMED, text)
    return PRESETS["imagenet"], Origin(Source.ASSUMED, "assumed: nothing beside the model says; choose with --preset")


def choose_labels(
    file: ModelFile, labels: Sequence[str] | str | os.PathLike[str] | None, logits: Logits
) -> tuple[tuple[str, ...] | None, Origin]:
    """Labels that fit what is scored and where they came from, None where there are none; 'imagenet' is the usual list.

    Raises LabelError for labels of another length; those that travel with the model may be of another of its outputs.
    """
    if labels == "imagenet" and not Path("imagenet").exists():
        found = find_labels(read_model(bundled.model()).metadata, None)
        assert found is not None
        given, origin = found[0], Origin(Source.GIVEN, "imagenet")
    elif labels is not None:
        given = read_labels(Path(labels)) if isinstance(labels, str | os.PathLike) else list(labels)
        origin = Origin(Source.GIVEN, str(labels)) if isinstance(labels, str | os.PathLike) else GIVEN
    else:
        found = find_labels(file.metadata, file.path)
        if found is None or (logits.kind is not Kind.CLASSES and not fits(found[0], logits)):
            return None, Origin(Source.NONE, "none")
        given, origin = found
    if not fits(given, logits):
        check_labels(given, logits.classes, "ImageNet's label list" if labels == "imagenet" else origin.text)
    return tuple(given), origin


def fits(labels: Sequence[str], logits: Logits) -> bool:
    """One a class; a table of boxes may hold more numbers a box than classes."""
    if logits.kind is Kind.BOXES:
        return 0 < len(labels) <= logits.classes
    return logits.kind in (Kind.CLASSES, Kind.REGION) and len(labels) == logits.classes
