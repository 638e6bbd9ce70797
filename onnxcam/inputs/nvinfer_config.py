"""Reads the preset of an nvinfer_config.txt, which NVIDIA's TAO Toolkit writes beside the models that it exports.

It holds keys of DeepStream's nvinfer plugin, a line each. The network takes net-scale-factor * (pixel - offset), with
one offset per channel in the network's order.
"""

import re

from onnxcam.errors import PresetError
from onnxcam.inputs.presets import LARGEST_SIDE, Preset

NAME = "nvinfer_config.txt"
COLORS = {"0": "rgb", "1": "bgr", "2": "gray"}
"""nvinfer's model-color-format."""


def from_nvinfer(text: str) -> Preset:
    """The preset of the file's text. Raises PresetError for values that it cannot read."""
    values = _values(text)
    if not {"net-scale-factor", "offsets", "model-color-format"} & set(values):
        raise PresetError("it says nothing of net-scale-factor, offsets or model-color-format")
    color = values.get("model-color-format", "0")
    if color not in COLORS:
        raise PresetError(f"model-color-format {color!r} is not supported")
    factor = _number("net-scale-factor", values.get("net-scale-factor", "1"))
    if factor == 0:
        raise PresetError("net-scale-factor is 0")
    keeps_ratio = values.get("maintain-aspect-ratio", "0") == "1"
    centred = values.get("symmetric-padding", "0") == "1"
    return Preset(
        name="nvinfer_config",
        scale=1.0,
        mean=tuple(_number("offsets", part) for part in values.get("offsets", "0").split(";")),
        std=(1 / factor,),
        color=COLORS[color],  # type: ignore[arg-type]
        resize="squash" if not keeps_ratio else "letterbox" if centred else "letterbox-corner",
        crop=1.0,
        size=_size(values["infer-dims"]) if "infer-dims" in values else None,
        padding=(0.0,),
    )


def _values(text: str) -> dict[str, str]:
    """Each key and its value, without spaces around it and semicolons behind it."""
    parts = [line.partition("=") for line in text.split("\n")]
    entries = [(key.strip(" \t"), value.strip(" \t\r").rstrip(" \t\r;")) for key, equals, value in parts if equals]
    return {key: value for key, value in entries if re.fullmatch("[a-z][a-z0-9-]*", key)}


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PresetError(f"{key} {text!r} is not a number") from None


def _size(text: str) -> tuple[int, int] | None:
    """(H,W) of 'C;H;W'; None where the sides are dynamic."""
    parts = text.split(";")
    if len(parts) != 3 or not all(re.fullmatch(r"\s*-?[0-9]{1,6}\s*", part) for part in parts):
        raise PresetError(f"infer-dims {text!r} is not channels;height;width")
    height, width = int(parts[1]), int(parts[2])
    return (height, width) if 1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE else None
