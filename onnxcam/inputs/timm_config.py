"""Reads the preset and the labels of timm's config.json beside a model.

timm writes it for the Hugging Face Hub (save_for_hf): preprocessing and labels stand in its pretrained_cfg, in the
oldest form at the top. processor_config.py looks for the file; labels.py asks for the names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from onnxcam.errors import PresetError
from onnxcam.inputs.presets import IMAGENET_MEAN, IMAGENET_STD, LARGEST_SIDE, Preset

MODES = {"center": "shortest", "squash": "squash", "border": "letterbox"}
"""timm's crop_mode -> resize of a Preset."""
CROP = 0.875
"""timm's DEFAULT_CROP_PCT."""


def is_timm(values: object) -> bool:
    """Whether the JSON of a config.json is timm's. That of transformers names `architectures`, in the plural."""
    return isinstance(values, dict) and (
        isinstance(values.get("pretrained_cfg"), dict) or {"architecture", "input_size", "mean"} <= set(values)
    )


def from_timm(values: Mapping[str, Any], sides: Sequence[int | None] = ()) -> Preset:
    """The preset of timm's evaluation transform. sides: those of the model's input, which choose between two sizes.

    A configuration may have a larger size and another crop for testing; they are taken where the model's input is fixed
    to that size. Raises PresetError for what a preset cannot express.
    """
    config = {k: v for k, v in _config(values).items() if v is not None}
    size, test = (_sides(config, key) for key in ("input_size", "test_input_size"))
    tests = test is not None and tuple(sides) == test and tuple(sides) != size
    crop = config.get("test_crop_pct" if tests and "test_crop_pct" in config else "crop_pct", CROP) or CROP
    mode = config.get("crop_mode", "center")
    interpolation = config.get("interpolation", "bicubic")
    if not isinstance(mode, str) or mode not in MODES:
        raise PresetError(f"crop_mode {mode!r} is not supported")
    if (
        not isinstance(crop, int | float)
        or isinstance(crop, bool)
        or not 0 < crop <= 1
        or (mode == "border" and crop < 1)
    ):
        raise PresetError(f"crop_pct {crop!r} with crop_mode {mode!r} is not supported")
    mean, std = _numbers(config, "mean", IMAGENET_MEAN), _numbers(config, "std", IMAGENET_STD)
    return Preset(
        name="timm-config",
        scale=1 / 255,
        mean=mean,
        std=std,
        resize=MODES[mode],  # type: ignore[arg-type]
        crop=float(crop),
        interpolation=interpolation,
        size=test if tests else size,
        padding=tuple(float(min(max(round(255 * m), 0), 255)) for m in mean) if mode == "border" else (114.0,),
    )


def timm_labels(values: Mapping[str, Any]) -> Any:
    """The names of the classes, with the description of each in its place where there is one; None without names."""
    sources = (values, _config(values))
    names = next((s["label_names"] for s in sources if s.get("label_names")), _config(values).get("labels"))
    descriptions: dict[str, str] = next(
        (s["label_descriptions"] for s in sources if isinstance(s.get("label_descriptions"), dict)), {}
    )
    if isinstance(names, dict):
        names = [names.get(str(i)) for i in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return [descriptions.get(name, name) for name in names]


def _config(values: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = values.get("pretrained_cfg")
    return inner if isinstance(inner, dict) else values


def _sides(config: Mapping[str, Any], key: str) -> tuple[int, int] | None:
    """(H,W) of a (C,H,W) size; None where the key is absent."""
    size = config.get(key)
    if size is None:
        return None
    sides = size[1:] if isinstance(size, list) and len(size) == 3 else ()
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides):
        raise PresetError(f"{key} {size!r} is not supported")
    return sides[0], sides[1]


def _numbers(config: Mapping[str, Any], key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    numbers = config.get(key, default)
    if (
        not isinstance(numbers, list | tuple)
        or not numbers
        or not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e30 for n in numbers)
    ):
        raise PresetError(f"{key} {numbers!r} is not supported")
    return tuple(numbers)
