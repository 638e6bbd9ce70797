"""Reads the preset that travels with a model: its metadata, or a configuration beside it.

timm_config.py and nvinfer_config.py read the files of timm and of TAO, this module Hugging Face's. A
preprocessor_config.json leaves much to the class that reads it, so PROCESSORS holds the defaults of each class. What a
`Preset` cannot express is refused rather than guessed.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from onnxcam.errors import PresetError, near
from onnxcam.files import CONFIG, parse_json, read_text
from onnxcam.inputs.nvinfer_config import NAME as NVINFER
from onnxcam.inputs.nvinfer_config import from_nvinfer
from onnxcam.inputs.presets import LARGEST_SIDE, Preset
from onnxcam.inputs.sidecar import file_beside
from onnxcam.inputs.timm_config import from_timm, is_timm
from onnxcam.types import Origin, Source

METADATA_KEY = "onnxcam.preset"
INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which Hugging Face's `resample` uses."""


@dataclass(frozen=True)
class Processor:
    """What a Hugging Face image processor does where its configuration leaves it open.

    square: a bare number as size means both sides, else the shorter one. resample: Pillow's number of a filter. crops:
    it cuts out the centre. flips: it swaps red and blue. normalises: it subtracts a mean and divides by a deviation.
    """

    square: bool
    resample: int
    crops: bool
    flips: bool = False
    normalises: bool = True


PROCESSORS: Mapping[str, Processor] = {
    "ViT": Processor(square=True, resample=2, crops=False),
    "DINOv3ViT": Processor(square=True, resample=2, crops=False),
    "Pvt": Processor(square=True, resample=2, crops=False),
    "Siglip": Processor(square=True, resample=3, crops=False),
    "DeiT": Processor(square=True, resample=3, crops=True),
    "Beit": Processor(square=True, resample=3, crops=True),
    "EfficientNet": Processor(square=True, resample=0, crops=False),
    "CLIP": Processor(square=False, resample=3, crops=True),
    "Bit": Processor(square=False, resample=3, crops=True),
    "ConvNext": Processor(square=False, resample=2, crops=False),
    "MobileNetV1": Processor(square=False, resample=2, crops=True),
    "MobileNetV2": Processor(square=False, resample=2, crops=True),
    "MobileViT": Processor(square=False, resample=2, crops=True, flips=True, normalises=False),
}
"""Defaults by the class name without 'ImageProcessor', as in transformers 4.57. Other processors have other rules
(LeViT and PoolFormer scale their size) or are not for classifying, so a name that is not here is refused."""

_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order")
_HARMLESS = ("do_convert_rgb", "do_reduce_labels")


def find_preset(
    metadata: Mapping[str, str], model_path: Path | None, sides: Sequence[int | None] = ()
) -> tuple[Preset, Origin] | None:
    """The preset and where it came from: the file's metadata, else a configuration beside it, else None.

    Beside it lies a preprocessor_config.json (Hugging Face), a config.json of timm, or an nvinfer_config.txt (NVIDIA's
    TAO). sides: those of the model's input, by which timm's size is chosen. Raises PresetError for a damaged or
    unsupported one; the model's own preprocessing is never passed over in silence.
    """
    if METADATA_KEY in metadata:
        try:
            return Preset.from_json(parse_json(metadata[METADATA_KEY])), Origin(
                Source.METADATA, f"ONNX metadata {METADATA_KEY}"
            )
        except (ValueError, PresetError) as error:
            raise PresetError(
                f"the model's metadata {METADATA_KEY} is damaged ({_short(error)}); use --preset"
            ) from None
    for name, read in _READERS.items():
        path = file_beside(model_path, name)
        if path is None:
            continue
        text = _text(path)
        try:
            preset = read(text, sides) if text is not None else None
        except (ValueError, PresetError) as error:
            raise PresetError(
                f"{path}: cannot be used ({_short(error)}); choose the preprocessing with --preset"
            ) from None
        if preset is not None:
            return preset, Origin(Source.CONFIG_FILE, f"{path.name} beside the model")
    return None


def _short(error: Exception) -> str:
    """What is wrong with a file, without the whole of a value that fills it."""
    text = str(error)
    return text if len(text) <= 400 else f"{text[:400]}..."


def _text(path: Path) -> str | None:
    """The text of a file beside a model; None of a config.json that cannot be read, which may be anybody's."""
    try:
        return read_text(path, CONFIG)
    except PresetError as error:
        if path.name == "config.json":
            return None
        raise PresetError(f"{error}; or choose the preprocessing with --preset") from None


def _read_processor(text: str, sides: Sequence[int | None]) -> Preset:
    values = parse_json(text)
    if not isinstance(values, dict):
        raise PresetError("it is no JSON object")
    return from_timm(values, sides) if is_timm(values) else from_hugging_face(values)


def _read_config(text: str, sides: Sequence[int | None]) -> Preset | None:
    """The preset of timm's config.json; None of anybody else's, and of a damaged one, which may be anybody's."""
    try:
        values = parse_json(text)
    except ValueError:
        return None
    return from_timm(values, sides) if is_timm(values) else None


_READERS: Mapping[str, Callable[[str, Sequence[int | None]], Preset | None]] = {
    "preprocessor_config.json": _read_processor,
    "config.json": _read_config,
    NVINFER: lambda text, sides: from_nvinfer(text),
}
"""How each file beside a model is read, in the order in which they are looked for."""


def files_beside(model: Path) -> list[Path]:
    """The files beside a model that are read without being named: of its preprocessing and its labels."""
    files = (file_beside(model, name) for name in _READERS)
    return [path for path in files if path is not None]


def from_hugging_face(values: Mapping[str, Any]) -> Preset:
    """The preset of an image processor's configuration; raises PresetError for what a preset cannot express.

    Where the margins of a centre crop are odd, the cut is torchvision's, as in Hugging Face's fast processors; the slow
    ones may cut one pixel of the resized picture beside it.
    """
    values = {key: value for key, value in values.items() if value is not None}
    kind = _kind(values)
    rules = PROCESSORS.get(kind, Processor(False, 2, crops=False, normalises="image_mean" in values))
    for step, enabled in values.items():
        if step.startswith("do_") and enabled and step not in (*_STEPS, *_HARMLESS):
            raise PresetError(f"the step {step} is not supported")
    size, resize, crop = _hugging_face_geometry(values, kind)
    resample = values.get("resample", rules.resample)
    if type(resample) is not int or resample not in INTERPOLATIONS:
        raise PresetError(f"resample {resample!r} is not supported")
    scale, mean, std = _hugging_face_colours(values, kind, rules)
    return Preset(
        name="preprocessor_config",
        scale=scale,
        mean=mean,
        std=std,
        color="bgr" if _flag(values, "do_flip_channel_order", rules.flips) else "rgb",
        resize=resize,  # type: ignore[arg-type]
        crop=crop,
        interpolation=INTERPOLATIONS[resample],  # type: ignore[arg-type]
        size=size,
    )


def _kind(values: Mapping[str, Any]) -> str:
    """'ViT' of 'ViTImageProcessorFast'; '' where the configuration does not name its processor, as the oldest."""
    name = values.get("image_processor_type", values.get("feature_extractor_type", ""))
    kind = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", str(name))
    if kind and kind not in PROCESSORS:
        raise PresetError(f"the image processor {name} is not known; {near(kind, PROCESSORS)}")
    return kind or ("ConvNext" if "crop_pct" in values else "")


def _hugging_face_colours(
    values: Mapping[str, Any], kind: str, rules: Processor
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """(scale, mean, std) of a preset."""
    scale = _numbers(values, "rescale_factor", 1 / 255)[0] if _flag(values, "do_rescale", True) else 1.0
    normalises = _flag(values, "do_normalize", rules.normalises)
    mean = _numbers(values, "image_mean") if normalises else (0.0,)
    std = _numbers(values, "image_std") if normalises else (1.0,)
    if kind == "EfficientNet":  # can shift the rescaled pixels by one, and as a rule divides twice
        if _flag(values, "rescale_offset", False):
            mean = tuple(m + 1 for m in mean)
        if _flag(values, "include_top", True):
            twice = _numbers(values, "image_std")
            std = tuple(s * t for s, t in zip(std if normalises else std * len(twice), twice, strict=True))
    return scale, mean, std


def _hugging_face_geometry(values: Mapping[str, Any], kind: str) -> tuple[tuple[int, int], str, float]:
    """(size, resize, crop) of a preset; a configuration has several ways to say them."""
    if not _flag(values, "do_resize", True):
        raise PresetError("do_resize is false, but pictures of any size are to be explained")
    crops = _flag(values, "do_center_crop", PROCESSORS[kind].crops if kind else False)
    shape = _edges(values, "size", square=PROCESSORS[kind].square if kind else not crops)
    if kind == "ConvNext":  # below 384 pixels cut out of size / crop_pct, from there on squashed
        side = shape if isinstance(shape, int) else _refuse("size", shape)
        squashes = side >= 384
        return (side, side), *(("squash", 1.0) if squashes else ("shortest", _numbers(values, "crop_pct", 0.875)[0]))
    if not crops:
        return (shape, "squash", 1.0) if isinstance(shape, tuple) else _refuse("size without do_center_crop", shape)
    cut = _edges(values, "crop_size", square=True)
    if isinstance(cut, int) or (isinstance(shape, int) and cut[0] != cut[1]):
        return _refuse("crop_size", cut)
    full = (shape, shape) if isinstance(shape, int) else shape
    crop = _share(cut[0], full[0])
    if crop > 1 or [int(side / crop) for side in cut] != list(full):
        return _refuse(f"crop_size {cut} out of size", full)
    return cut, "shortest" if isinstance(shape, int) else "squash", crop


def _share(cut: int, full: int) -> float:
    """The crop for which floor(cut / crop) is full, whatever way the quotient was rounded."""
    crop = cut / full
    return crop if int(cut / crop) == full else math.nextafter(crop, 0)


def _refuse(what: str, value: object) -> NoReturn:
    raise PresetError(f"{what} {value!r} is not supported")


def _flag(values: Mapping[str, Any], key: str, default: bool) -> bool:
    value = values.get(key, default)
    return value if isinstance(value, bool) else _refuse(key, value)


def _edges(values: Mapping[str, Any], key: str, *, square: bool) -> tuple[int, int] | int:
    """(height, width), or the length of the shorter side alone."""
    value = values.get(key)
    edges = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else {"": value}
    sides = {k: side for k, side in edges.items() if type(side) is int and 1 <= side <= LARGEST_SIDE}
    if set(edges) == {"height", "width"} == set(sides):
        return sides["height"], sides["width"]
    if set(edges) == {"shortest_edge"} == set(sides):
        return sides["shortest_edge"]
    if set(edges) == {""} == set(sides):
        return (sides[""], sides[""]) if square else sides[""]
    return _refuse(key, value)


def _numbers(values: Mapping[str, Any], key: str, default: float | None = None) -> tuple[float, ...]:
    value = values.get(key, default)
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        return _refuse(key, value)
    return tuple(numbers)
