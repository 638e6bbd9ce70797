"""From a photograph to what the network computes on, and the way back.

Resampling is Pillow's, because torchvision, timm and Hugging Face's image processors mean Pillow's filters.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onnxcam.errors import PictureError, PresetError, near
from onnxcam.types import Floats, Image, Picture, Placement

Color = Literal["rgb", "bgr", "gray"]
Resize = Literal["shortest", "squash"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

WORDS: Mapping[str, tuple[str, ...]] = {
    "color": ("rgb", "bgr", "gray"),
    "resize": ("shortest", "squash"),
    "interpolation": ("nearest", "bilinear", "bicubic", "lanczos"),
}
LARGEST_SIDE = 16384
LARGEST_NUMBER = 3.4e38
"""What float32 holds."""
CUSTOM = "+custom"
_NUMBER = r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*"


@dataclass(frozen=True)
class Preset:
    """The network sees (pixel * scale - mean) / std, with pixels from 0 to 255.

    mean, std: one number, or one a channel, in the network's channel order. color: that order. resize: 'shortest'
    brings the shorter side to floor(size / crop) and cuts size out of the centre (torchvision, timm); 'squash' brings
    both sides there and ignores the aspect ratio. crop in (0,1], 1 cuts nothing of the shorter side. size: (H,W), used
    where the model does not fix its own. Raises PresetError on values that make no sense.
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

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise PresetError(f"a preset's name is text, not {self.name!r}")
        for field, known in WORDS.items():
            if getattr(self, field) not in known:
                raise PresetError(
                    f"{field} {getattr(self, field)!r} is unknown; {near(str(getattr(self, field)), known)}"
                )
        if not isinstance(self.mean, tuple) or not isinstance(self.std, tuple):
            raise PresetError(f"preset {self.name!r}: mean and std are each a list of numbers")
        lengths = {len(self.mean), len(self.std)}
        if 0 in lengths or len(lengths - {1}) > 1:
            raise PresetError(
                f"preset {self.name!r}: mean and std have {len(self.mean)} and {len(self.std)} values; "
                f"give one each, or one a channel"
            )
        self._check_numbers()
        if not 0 < self.crop <= 1:
            raise PresetError(f"preset {self.name!r}: crop is a share above 0 up to 1, not {self.crop}")
        if self.size is not None:
            _check_size(self.size)

    def _check_numbers(self) -> None:
        numbers = (self.scale, self.crop, *self.mean, *self.std)
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise PresetError(f"preset {self.name!r}: {number!r} stands where a number should")
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
        """The inverse of to_json; raises PresetError for anything else."""
        if not isinstance(values, dict):
            raise PresetError(f"a preset is a JSON object, not {type(values).__name__}")
        known = [f.name for f in fields(Preset)]
        for key in values:
            if key not in known:
                raise PresetError(f"a preset has no field {key!r}; {near(str(key), known)}")
        missing = [f.name for f in fields(Preset) if f.default is MISSING and f.name not in values]
        if missing:
            raise PresetError(f"the preset is incomplete: it lacks {', '.join(missing)}")
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Preset(**given)


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
    )
}
"""imagenet: torchvision. timm: its bicubic default. inception: mean and deviation one half. keras-tf, keras-caffe: the
modes of Keras' preprocess_input. efficientnet-lite: (x - 127) / 128. unit: 0 to 1. raw: 0 to 255 unchanged."""


def preset(name: str) -> Preset:
    """Look a preset up; raises PresetError that lists the near ones."""
    if name not in PRESETS:
        raise PresetError(f"no preset is called {name!r}; {near(name, PRESETS, most=9)}")
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
) -> Preset:
    """The preset with the given fields replaced; its name says so."""
    given = {
        "mean": mean,
        "std": std,
        "scale": scale,
        "size": size,
        "crop": crop,
        "color": color,
        "resize": resize,
        "interpolation": interpolation,
    }
    changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None and v != getattr(base, k)}
    if not changes:
        return base
    return replace(base, name=base.name.removesuffix(CUSTOM) + CUSTOM, **changes)


def apply(picture: Picture, preset: Preset, size: tuple[int, int], channels: int) -> tuple[Image, Placement]:
    """The (C,H,W) float32 image that the network sees, and where it lies on the picture.

    Resize rounds the longer side down and the centre crop rounds half to even, as torchvision does. For a size that is
    not square, 'shortest' scales until size / crop is covered in both directions, and rounds as timm does. Raises
    PresetError for channels other than 1 and 3 and for a mean or std of another length; PictureError for a picture so
    narrow that it would be resized to more than MAX_PIXELS.
    """
    if channels not in (1, 3):
        raise PresetError(
            f"the model takes {channels} channels, which no photograph has; pass a preprocessed (C,H,W) float array"
        )
    from PIL import Image as Pil

    table = _table(preset, channels)
    resized = _resized_shape(picture.shape[:2], size, preset)
    photograph = Pil.fromarray(picture)
    if channels == 1 or preset.color == "gray":
        photograph = photograph.convert("L")
    if (photograph.height, photograph.width) != resized:
        photograph = photograph.resize(resized[::-1], Pil.Resampling[preset.interpolation.upper()])
    top, left = (round((resized[i] - size[i]) / 2) for i in (0, 1))
    pixels = np.asarray(photograph)[top : top + size[0], left : left + size[1]]
    planes = [pixels] * channels if pixels.ndim == 2 else list(np.moveaxis(pixels, 2, 0))
    if preset.color == "bgr":
        planes.reverse()
    image = np.stack([values[plane] for values, plane in zip(table, planes, strict=True)])
    return image, _placement(picture.shape[:2], resized, (top, left), size)


def black(preset: Preset, channels: int) -> Floats:
    """(C,) what a black pixel becomes."""
    return _table(preset, channels)[:, 0]


def _table(preset: Preset, channels: int) -> Floats:
    """(C,256) what the network sees for each value of a pixel, rounded to float32 once."""
    mean, std = (_a_channel(v, channels, preset)[:, None] for v in (preset.mean, preset.std))
    return np.asarray((np.arange(256) * preset.scale - mean) / std, np.float32)


def _a_channel(values: tuple[float, ...], channels: int, preset: Preset) -> npt.NDArray[np.float64]:
    if len(values) not in (1, channels):
        raise PresetError(
            f"preset {preset.name!r} has {len(values)} values a pixel, but the model takes {channels} channel(s); "
            f"give --mean and --std that fit"
        )
    return np.broadcast_to(np.asarray(values, np.float64), (channels,))


def _resized_shape(picture: tuple[int, ...], size: tuple[int, int], preset: Preset) -> tuple[int, int]:
    from onnxcam.inputs.images import MAX_PIXELS

    wanted = (_before_crop(size[0], preset.crop), _before_crop(size[1], preset.crop))
    height, width = picture
    if preset.resize == "squash":
        resized = wanted
    elif wanted[0] == wanted[1]:
        short = min(height, width)
        resized = int(wanted[0] * height / short), int(wanted[1] * width / short)
    else:
        ratio = min(height / wanted[0], width / wanted[1])
        resized = max(wanted[0], round(height / ratio)), max(wanted[1], round(width / ratio))
    if resized[0] * resized[1] > MAX_PIXELS:
        raise PictureError(
            f"a picture of {width} x {height} pixels would be resized to {resized[1]} x {resized[0]} before its centre "
            f"is cut out, above {MAX_PIXELS:,} pixels; cut it to a less narrow shape, or raise --crop"
        )
    return resized


def _before_crop(side: int, crop: float) -> int:
    return max(side, int(min(side / crop, 1e9)))


def _placement(
    picture: tuple[int, ...], resized: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> Placement:
    down, across = picture[0] / resized[0], picture[1] / resized[1]
    top, left = corner
    box = (left * across, top * down, (left + size[1]) * across, (top + size[0]) * down)
    return Placement((picture[0], picture[1]), box)


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
