"""Presets: how a picture becomes the network's numbers, as values.

A `Preset` holds resizing, cropping, scale, mean and deviation. `PRESETS` has the common ones by name; to add one, add a
line there. `override` changes fields, and the `parse_*` functions read a field from the command line's text.
processor_config.py reads presets that travel with a model; preprocess.py applies a preset to a picture.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

from onnxcam.errors import PresetError, near

Color = Literal["rgb", "bgr", "gray"]
Resize = Literal["shortest", "squash", "letterbox", "letterbox-corner"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "cv2-linear"]

WORDS: Mapping[str, tuple[str, ...]] = {
    "color": ("rgb", "bgr", "gray"),
    "resize": ("shortest", "squash", "letterbox", "letterbox-corner"),
    "interpolation": ("nearest", "bilinear", "bicubic", "lanczos", "cv2-linear"),
}
LETTERBOXES = ("letterbox", "letterbox-corner")
"""The words of `resize` that show the whole picture in its aspect ratio, between bars of padding."""
LARGEST_SIDE = 16384
LARGEST_NUMBER = 3.4e38
"""What float32 holds."""
CUSTOM = "+custom"
_NUMBER = r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*"


@dataclass(frozen=True)
class Preset:
    """Preprocessing as a value: the network takes (pixel * scale - mean) / std, with pixels from 0 to 255.

    name: for people and records. mean, std: one number, or one per channel in the network's channel order; std and
    scale are not 0. color: the channel order, 'rgb', 'bgr' or 'gray'. resize: 'shortest' resizes the shorter side to
    floor(size / crop) and cuts size out of the centre (torchvision, timm); 'squash' resizes both sides to that and
    ignores the aspect ratio; 'letterbox' resizes until the whole picture fits, in the centre (Ultralytics), and
    'letterbox-corner' in the upper left corner (YOLOX, MMDetection), and pads the rest. crop: in (0,1]; 1 cuts nothing
    of the shorter side, and a letterbox has no other. interpolation: 'nearest', 'bilinear', 'bicubic' or 'lanczos', as
    Pillow has them, or 'cv2-linear', OpenCV's, which does not smooth a picture that shrinks. size: (H,W) in pixels,
    used where the model does not fix its input's size. padding: of a letterbox, the colour of the bars as pixels from
    0 to 255, one number or one per channel in the network's order. Raises PresetError for values that contradict each
    other, are not finite, or lead out of float32's range.
    """

    name: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: Color = "rgb"
    resize: Resize = "shortest"
    crop: float = 0.875
    interpolation: Interpolation = "bilinear"
    size: tuple[int, int] | None = None
    padding: tuple[float, ...] = (114.0,)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise PresetError(f"a preset's name is text, not {self.name!r}")
        for field, known in WORDS.items():
            word = getattr(self, field)
            if not isinstance(word, str):
                raise PresetError(f"{field} is one of {', '.join(known)}, not a value of {type(word).__name__}")
            if word not in known:
                raise PresetError(f"{field} {word!r} is unknown; {near(word, known)}")
        lists = (self.mean, self.std, self.padding)
        if not all(isinstance(values, tuple) for values in lists):
            raise PresetError(f"preset {self.name!r}: mean, std and padding are each a list of numbers")
        lengths = {len(values) for values in lists}
        if 0 in lengths or len(lengths - {1}) > 1:
            raise PresetError(
                f"preset {self.name!r}: mean, std and padding have {', '.join(str(len(v)) for v in lists)} values; "
                f"give one each, or one a channel"
            )
        self._check_numbers()
        if not 0 < self.crop <= 1:
            raise PresetError(f"preset {self.name!r}: crop is a share above 0 up to 1, not {self.crop}")
        if self.resize in LETTERBOXES and self.crop != 1:
            raise PresetError(f"preset {self.name!r}: a letterbox shows the whole picture, so its crop is 1 (none)")
        if self.size is not None:
            _check_size(self.size)

    def _check_numbers(self) -> None:
        numbers = (self.scale, self.crop, *self.mean, *self.std, *self.padding)
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise PresetError(f"preset {self.name!r}: {number!r} stands where a number should")
        if not all(0 <= value <= 255 for value in self.padding):
            raise PresetError(f"preset {self.name!r}: padding is a pixel from 0 to 255, not {self.padding}")
        if not all(abs(n) <= LARGEST_NUMBER for n in numbers) or 0 in self.std or self.scale == 0:
            raise PresetError(f"preset {self.name!r}: scale, mean and std must be finite, scale and std not 0")
        brightest = 255 * abs(self.scale) + max(abs(m) for m in self.mean)
        if brightest / min(abs(s) for s in self.std) > LARGEST_NUMBER:
            raise PresetError(f"preset {self.name!r}: (pixel * scale - mean) / std leaves the range of float32")

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they stand in ONNX metadata under 'onnxcam.preset'."""
        return asdict(self)

    @staticmethod
    def from_json(values: object) -> "Preset":
        """The inverse of to_json, also of a record's "preset", whose origin is ignored; raises PresetError."""
        if not isinstance(values, dict):
            raise PresetError(f"a preset is a JSON object, not {type(values).__name__}")
        values = {key: value for key, value in values.items() if key != "origin"}
        known = [f.name for f in fields(Preset)]
        for key in values:
            if key not in known:
                raise PresetError(f"a preset has no field {key!r}; {near(str(key), known)}")
        missing = [f.name for f in fields(Preset) if f.default is MISSING and f.name not in values]
        if missing:
            raise PresetError(f"the preset is incomplete: it lacks {', '.join(missing)}")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Preset(**arguments)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

PRESETS: Mapping[str, Preset] = {
    p.name: p
    for p in (
        Preset("imagenet", 1 / 255, IMAGENET_MEAN, IMAGENET_STD),
        Preset("timm", 1 / 255, IMAGENET_MEAN, IMAGENET_STD, interpolation="bicubic"),
        Preset("inception", 1 / 255, (0.5,), (0.5,), interpolation="bicubic"),
        Preset("keras-tf", 1 / 127.5, (1.0,), (1.0,), resize="squash", crop=1.0),
        Preset("keras-caffe", 1.0, (103.939, 116.779, 123.68), (1.0,), color="bgr", resize="squash", crop=1.0),
        Preset("efficientnet-lite", 1.0, (127.0,), (128.0,), interpolation="bicubic"),
        Preset("clip", 1 / 255, CLIP_MEAN, CLIP_STD, crop=1.0, interpolation="bicubic"),
        Preset("unit", 1 / 255, (0.0,), (1.0,), resize="squash", crop=1.0),
        Preset("raw", 1.0, (0.0,), (1.0,), resize="squash", crop=1.0),
        Preset("ultralytics", 1 / 255, (0.0,), (1.0,), resize="letterbox", crop=1.0, interpolation="cv2-linear"),
        Preset(
            "yolox", 1.0, (0.0,), (1.0,), color="bgr", resize="letterbox-corner", crop=1.0, interpolation="cv2-linear"
        ),
    )
}
"""The presets that `--preset` and `Explainer(preset=...)` take, by name.

imagenet: torchvision. timm: its bicubic default. inception: mean and deviation one half. keras-tf, keras-caffe: the
modes of Keras' preprocess_input. efficientnet-lite: (x - 127) / 128. unit: 0 to 1. raw: 0 to 255 unchanged.
ultralytics: YOLOv5, v8, v11 and later: 0 to 1 in a letterbox. yolox: 0 to 255, BGR, padded at the right and below."""


def preset_named(name: str) -> Preset:
    """The preset of this name; raises PresetError that lists the near ones."""
    if name not in PRESETS:
        raise PresetError(f"no preset is called {name!r}; {near(name, PRESETS, most=11)}")
    return PRESETS[name]


def override(
    base: Preset,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    crop: float | None = None,
    color: str | None = None,
    resize: str | None = None,
    interpolation: str | None = None,
    padding: tuple[float, ...] | None = None,
) -> Preset:
    """The preset with the fields replaced that are not None; its name then ends in '+custom'.

    A letterbox cuts nothing, so with that as `resize` the preset's own crop becomes 1.
    """
    if resize in LETTERBOXES and crop is None:
        crop = 1.0
    replacements = {
        "mean": mean,
        "std": std,
        "scale": scale,
        "size": size,
        "crop": crop,
        "color": color,
        "resize": resize,
        "interpolation": interpolation,
        "padding": padding,
    }
    changes: dict[str, Any] = {k: v for k, v in replacements.items() if v is not None and v != getattr(base, k)}
    if not changes:
        return base
    return replace(base, name=base.name.removesuffix(CUSTOM) + CUSTOM, **changes)


def whole(preset: Preset) -> Preset:
    """The preset without a crop, so that the model sees the whole picture: squashed, or in the letterbox it has.

    `Explainer(model, adjust=whole)` explains whole pictures.
    """
    return override(preset, crop=1.0, resize=preset.resize if preset.resize in LETTERBOXES else "squash")


def parse_numbers(text: str) -> tuple[float, ...]:
    """'0.485,0.456,0.406' to three numbers; fractions such as 1/255 are numbers too."""
    return tuple(parse_scale(part) for part in text.split(","))


def parse_scale(text: str) -> float:
    """'0.0039' or '1/255'."""
    parts = re.fullmatch(f"{_NUMBER}(?:/{_NUMBER})?", text)
    below = float(parts[2] or 1) if parts else 0.0
    number = float(parts[1]) / below if parts and below else math.nan
    if not math.isfinite(number):
        raise PresetError(f"{text!r} is not a finite number such as 0.5, nor a fraction such as 1/255")
    return number


def parse_size(text: str) -> tuple[int, ...]:
    """'224' or '224x192', height first; '8x48x48' for a volume."""
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*([xX]\s*[0-9]{1,9}\s*){0,2}", text):
        raise PresetError(f"size {text!r} is not a number of pixels such as 224, or 224x192 (height x width)")
    sides = tuple(int(side) for side in re.split("[xX]", text))
    if not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise PresetError(f"a size is made of sides of 1 to {LARGEST_SIDE} pixels, not {text!r}")
    return sides


def parse_crop(text: str) -> float:
    """'0.875', or 'none' for 1."""
    crop = 1.0 if text.lower() == "none" else parse_scale(text)
    if not 0 < crop <= 1:
        raise PresetError(f"crop {text!r} is not a share above 0 up to 1, nor 'none'")
    return crop


def _check_size(size: object) -> None:
    sides = size if isinstance(size, tuple) and len(size) == 2 else (0,)
    if not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides):
        raise PresetError(f"a size is two sides (height, width) of 1 to {LARGEST_SIDE} pixels, not {size}")
