"""From a photograph to what the network computes on, and the way back.

Resampling is Pillow's, because torchvision, timm and Hugging Face's image processors mean Pillow's filters.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from onnxcam.arrays import Floats, Image, Picture, Placement
from onnxcam.errors import PresetError, near

Color = Literal["rgb", "bgr", "gray"]
Resize = Literal["shortest", "squash"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

WORDS: Mapping[str, tuple[str, ...]] = {
    "color": ("rgb", "bgr", "gray"),
    "resize": ("shortest", "squash"),
    "interpolation": ("nearest", "bilinear", "bicubic", "lanczos"),
}
LARGEST_SIDE = 16384
CUSTOM = "+custom"


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
        for field, known in WORDS.items():
            if getattr(self, field) not in known:
                raise PresetError(
                    f"{field} {getattr(self, field)!r} is unknown; {near(str(getattr(self, field)), known)}"
                )
        numbers = (self.scale, self.crop, *self.mean, *self.std)
        if not all(math.isfinite(n) for n in numbers) or 0 in self.std or self.scale == 0:
            raise PresetError(f"preset {self.name!r}: scale, mean and std must be finite, scale and std not 0")
        lengths = {len(self.mean), len(self.std)}
        if 0 in lengths or len(lengths - {1}) > 1:
            raise PresetError(
                f"preset {self.name!r}: mean and std have {len(self.mean)} and {len(self.std)} values; "
                f"give one each, or one a channel"
            )
        if not 0 < self.crop <= 1:
            raise PresetError(f"preset {self.name!r}: crop is a share above 0 up to 1, not {self.crop}")
        if self.size is not None:
            _check_size(self.size)

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
        try:
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return Preset(**given)
        except TypeError as error:
            raise PresetError(f"the preset is incomplete or of wrong types ({error})") from None


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
    not square, 'shortest' scales until size / crop is covered in both directions. Raises PresetError for channels
    other than 1 and 3, and for a mean or std of another length.
    """
    if channels not in (1, 3):
        raise PresetError(
            f"the model takes {channels} channels, which no photograph has; pass a preprocessed (C,H,W) float array"
        )
    from PIL import Image as Pil

    resized = _resized_shape(picture.shape[:2], size, preset)
    photograph = Pil.fromarray(picture)
    if channels == 1 or preset.color == "gray":
        photograph = photograph.convert("L")
    resampling = {
        "nearest": Pil.Resampling.NEAREST,
        "bilinear": Pil.Resampling.BILINEAR,
        "bicubic": Pil.Resampling.BICUBIC,
        "lanczos": Pil.Resampling.LANCZOS,
    }[preset.interpolation]
    if (photograph.height, photograph.width) != resized:
        photograph = photograph.resize(resized[::-1], resampling)
    top, left = (round((resized[i] - size[i]) / 2) for i in (0, 1))
    pixels = np.asarray(photograph)[top : top + size[0], left : left + size[1]].astype(np.float32)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], channels, axis=2)
    if preset.color == "bgr" and channels == 3:
        pixels = pixels[..., ::-1]
    image = _normalised(np.moveaxis(pixels, 2, 0), preset)
    return image, _placement(picture.shape[:2], resized, (top, left), size)


def black(preset: Preset, channels: int) -> Floats:
    """(C,) what a black pixel becomes."""
    return _normalised(np.zeros((channels, 1, 1), np.float32), preset)[:, 0, 0]


def _normalised(pixels: Floats, preset: Preset) -> Floats:
    mean, std = (_a_channel(v, len(pixels), preset)[:, None, None] for v in (preset.mean, preset.std))
    return np.ascontiguousarray((pixels * np.float32(preset.scale) - mean) / std, np.float32)


def _a_channel(values: tuple[float, ...], channels: int, preset: Preset) -> Floats:
    if len(values) not in (1, channels):
        raise PresetError(
            f"preset {preset.name!r} has {len(values)} values a pixel, but the model takes {channels} channel(s); "
            f"give --mean and --std that fit"
        )
    return np.broadcast_to(np.asarray(values, np.float32), (channels,))


def _resized_shape(picture: tuple[int, ...], size: tuple[int, int], preset: Preset) -> tuple[int, int]:
    wanted = (max(size[0], int(size[0] / preset.crop)), max(size[1], int(size[1] / preset.crop)))
    height, width = picture
    if preset.resize == "squash":
        return wanted
    if wanted[0] * width >= wanted[1] * height:  # the height is what must be covered
        return wanted[0], max(wanted[1], int(wanted[0] * width / height))
    return max(wanted[0], int(wanted[1] * height / width)), wanted[1]


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
    try:
        above, _, below = text.partition("/")
        number = float(above) / (float(below) if below else 1.0)
    except (ValueError, ZeroDivisionError):
        raise PresetError(f"{text!r} is not a number or a fraction such as 1/255") from None
    if not math.isfinite(number):
        raise PresetError(f"{text!r} is not a finite number")
    return number


def parse_size(text: str) -> tuple[int, int]:
    """'224' or '224x192', height first."""
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(p.strip().isdecimal() for p in parts):
        raise PresetError(f"size {text!r} is not a number of pixels such as 224, or 224x192 (height x width)")
    size = (int(parts[0]), int(parts[-1]))
    _check_size(size)
    return size


def parse_crop(text: str) -> float:
    """'0.875', or 'none' for 1."""
    crop = 1.0 if text.lower() == "none" else parse_scale(text)
    if not 0 < crop <= 1:
        raise PresetError(f"crop {text!r} is not a share above 0 up to 1, nor 'none'")
    return crop


def _check_size(size: tuple[int, ...]) -> None:
    if len(size) != 2 or not all(isinstance(s, int) and 1 <= s <= LARGEST_SIDE for s in size):
        raise PresetError(f"a size is two sides (height, width) of 1 to {LARGEST_SIDE} pixels, not {size}")
