"""Checks of what people pass to an Explainer: a value of a wrong type is an OnnxCamError that says what to give."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxcam.engine.options import EngineOptions
from onnxcam.errors import LabelError, OnnxCamError, OptionError, PresetError
from onnxcam.inputs.presets import Preset
from onnxcam.limits import Limits, brief, is_number, is_whole
from onnxcam.methods.blocks import Method
from onnxcam.methods.registry import method as method_named
from onnxcam.types import Origin

SHOWN = 60
"""Characters of a wrong value that a message shows."""


@dataclass(frozen=True)
class Rule:
    """What an argument may be.

    accepts: whether a value makes sense. expected: what does, for the message. error: which error is raised. optional:
    whether None is accepted too, for an argument that was not given.
    """

    accepts: Callable[[Any], bool]
    expected: str
    error: type[OnnxCamError] = OptionError
    optional: bool = True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_layer(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_text, value)))


def _is_count(value: Any) -> bool:
    return is_whole(value, 1)


def _is_seed(value: Any) -> bool:
    return is_whole(value, 0)


def _is_size(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.size > 0 and all(map(_is_count, value))
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_count, value))


def _is_labels(value: Any) -> bool:
    if isinstance(value, str | os.PathLike):
        return "\0" not in os.fspath(value)
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind == "U"
    return isinstance(value, Sequence) and all(isinstance(label, str) for label in value)


def _is_box(value: Any) -> bool:
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != 4:
        return False
    if not all(map(is_number, value)):
        return False
    return bool(value[0] <= value[2] and value[1] <= value[3])  # an empty one is measured as undefined


def _is_boxes(value: Any) -> bool:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return False
    several = isinstance(value, list | tuple | np.ndarray) and len(value) > 0
    return _is_box(value) or (several and all(map(_is_box, value)))


def box_list(value: Any) -> tuple[tuple[float, float, float, float], ...]:
    """The boxes of a checked `box`: one, several, or none."""
    if value is None:
        return ()
    return tuple((float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in ([value] if _is_box(value) else value))


RULES: Mapping[str, Rule] = {
    "preset": Rule(
        lambda value: isinstance(value, Preset | str), "a Preset or the name of one, such as 'imagenet'", PresetError
    ),
    "adjust": Rule(callable, "a function that takes a Preset and returns one", PresetError),
    "layer": Rule(_is_layer, "'auto', 'last-conv', the name of a tensor or a node, or a list of these", optional=False),
    "layout": Rule(_is_text, "the order of the axes of the model's input, such as 'NCHW'"),
    "image_input": Rule(_is_text, "the name of the input that takes the picture"),
    "size": Rule(_is_size, "the input's sides as whole numbers from 1 on, such as (224, 224) for (height, width)"),
    "output": Rule(_is_text, "the name of one of the model's outputs"),
    "kind": Rule(_is_text, "'classes', 'region', 'boxes', 'elements' or 'embedding'"),
    "inputs": Rule(lambda value: isinstance(value, Mapping), "the extra inputs by name, such as {'meta': array}"),
    "labels": Rule(_is_labels, "a list of class names, a file of them, or 'imagenet'", LabelError),
    "batch": Rule(_is_count, "a whole number of masks from 1 on"),
    "threads": Rule(_is_count, "a whole number from 1 on"),
    "engine": Rule(lambda value: isinstance(value, EngineOptions), "EngineOptions(...)"),
    "limits": Rule(lambda value: isinstance(value, Limits), "Limits(...)"),
    "cache": Rule(lambda value: isinstance(value, bool), "True or False", optional=False),
    "isolated": Rule(lambda value: isinstance(value, bool), "True or False", optional=False),
    "name": Rule(_is_text, "what the provenance calls the picture, as a text"),
    "box": Rule(
        _is_boxes,
        "(left, top, right, bottom) in pixels, left no further right than right and top no lower than bottom, "
        "or a list of such",
    ),
    "seed": Rule(_is_seed, "a whole number from 0 on", optional=False),
    "progress": Rule(callable, "a function that takes (done, all)"),
}
"""By the argument's name."""


def check_arguments(arguments: Mapping[str, object]) -> None:
    """Raises the rule's error for the first argument, by name, that is not accepted."""
    for name, value in arguments.items():
        rule = RULES[name]
        if value is None and rule.optional:
            continue
        if not rule.accepts(value):
            raise rule.error(f"{name} is {rule.expected}, not {shown(value)}")


def checked_method(method: Any) -> Method:
    """The method; a text is a method's name, None is Score-CAM. Raises OptionError."""
    if method is None:
        return method_named("score-cam")
    if isinstance(method, str):
        return method_named(method)
    if not isinstance(method, Method):
        hint = "; call it" if callable(method) and not isinstance(method, type) else ""
        raise OptionError(
            f"a method is made by a function such as score_cam(), or named as in 'grad-cam', not {shown(method)}{hint}"
        )
    return method


def shown(value: object) -> str:
    """A value as a message shows it: shortened, with its type."""
    text = brief(value)
    return f"{text if len(text) <= SHOWN else text[:SHOWN] + '...'} ({type(value).__name__})"


def adjusted(preset: Preset, origin: Origin, adjust: Callable[[Preset], Preset] | None) -> tuple[Preset, Origin]:
    """The preset after adjust(). Its origin stays what it was, with a text that says so."""
    adjusted = adjust(preset) if adjust is not None else preset
    if not isinstance(adjusted, Preset):
        raise PresetError(f"adjust is a function that takes a Preset and returns one; it returned {shown(adjusted)}")
    if adjusted == preset:
        return preset, origin
    return adjusted, replace(origin, text=f"{origin}; then single settings were changed")
