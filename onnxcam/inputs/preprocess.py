"""Applies a preset to a picture: resizes, cuts, scales, and remembers where the result lies on the picture.

The way of an image: images.py reads a picture, `apply` makes the tensor that the network takes and its `Placement`, by
which overlay.py draws the map on the picture. Resampling is Pillow's, because torchvision, timm and Hugging Face's
image processors mean Pillow's filters.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import PictureError, PresetError
from onnxcam.inputs.opencv import opencv
from onnxcam.inputs.presets import LETTERBOXES, Preset
from onnxcam.types import Floats, Image, Picture, Placement

MOST_PIXELS = 178_956_970
"""Of a picture after it is resized, before its centre is cut out."""


def apply(picture: Picture, preset: Preset, size: tuple[int, int], channels: int) -> tuple[Image, Placement]:
    """The (C,H,W) float32 image that the network takes, and where it lies on the picture.

    size: (H,W). channels: C, 1 or 3. Resize rounds the longer side down and the centre crop rounds half to even, as
    torchvision does. For a size that is not square, 'shortest' scales until size / crop is covered in both directions,
    and rounds as timm does. A letterbox rounds and centres as Ultralytics does; in the corner it rounds down, as YOLOX
    does, and its placement reaches beyond the picture. Raises PresetError for other channels and for a mean or std of
    another length; PictureError for a picture so narrow that it would be resized to more than MOST_PIXELS.
    """
    if channels not in (1, 3):
        raise PresetError(
            f"the model takes {channels} channels, which no photograph has; pass a preprocessed (C,H,W) float array"
        )
    table = pixel_table(preset, channels)
    resized, corner = _fit(picture.shape[:2], size, preset)
    pixels = _resized(picture, resized, preset, grey=channels == 1 or preset.color == "gray")
    planes = [pixels] * channels if pixels.ndim == 2 else list(np.moveaxis(pixels, 2, 0))
    if preset.color == "bgr":
        planes.reverse()
    planes = [_cut(plane, corner, size) for plane in planes]
    image = np.empty((channels, *planes[0].shape), np.float32)
    for values, plane, result in zip(table, planes, image, strict=True):
        values.take(plane, out=result, mode="clip")  # a third of what indexing takes; no pixel is beyond the table
    if preset.resize in LETTERBOXES:
        image = _padded(image, corner, size, preset)
    return image, _placement(picture.shape[:2], resized, (-corner[0], -corner[1]), size)


def apply_bands(bands: npt.NDArray[Any], preset: Preset, size: tuple[int, int]) -> tuple[Image, Placement]:
    """Bands (C,height,width) of any range as the (C,H,W) float32 image, and where it lies on them.

    As apply() does it, but band by band, in float32, and without a change of colours: (value * scale - mean) / std.
    """
    mean, std = (_per_channel(v, len(bands), preset)[:, None, None] for v in (preset.mean, preset.std))
    resized, corner = _fit(bands.shape[1:], size, preset)
    planes = [_cut(_resized(band.astype(np.float32), resized, preset), corner, size) for band in bands]
    image = np.asarray((np.stack(planes) * np.float64(preset.scale) - mean) / std, np.float32)
    if preset.resize in LETTERBOXES:
        image = _padded(image, corner, size, preset)
    return image, _placement(bands.shape[1:], resized, (-corner[0], -corner[1]), size)


def _fit(picture: tuple[int, ...], size: tuple[int, int], preset: Preset) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (height, width) that a picture is resized to, and its (top, left) on the input: below 0 for what is cut."""
    resized = _resized_shape(picture, size, preset)
    if preset.resize in LETTERBOXES:
        return resized, _bars(resized, size, preset)
    return resized, (-round((resized[0] - size[0]) / 2), -round((resized[1] - size[1]) / 2))


def _cut(plane: npt.NDArray[Any], corner: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[Any]:
    """The part of a plane that lies on the input."""
    top, left = (max(0, -edge) for edge in corner)
    return plane[top : top + size[0], left : left + size[1]]


def _resized(
    picture: npt.NDArray[Any], shape: tuple[int, int], preset: Preset, *, grey: bool = False
) -> npt.NDArray[Any]:
    """The picture at this (height, width): (height,width,3), or (height,width) if it is grey or a float32 band."""
    from PIL import Image as Pil

    photograph = Pil.fromarray(picture)
    if grey:
        photograph = photograph.convert("L")
    if (photograph.height, photograph.width) == shape:
        return np.asarray(photograph)
    if preset.interpolation == "cv2-linear":
        cv2 = opencv()
        return np.asarray(
            cv2.resize(np.asarray(photograph), shape[::-1], interpolation=cv2.INTER_LINEAR), picture.dtype
        )
    return np.asarray(photograph.resize(shape[::-1], Pil.Resampling[preset.interpolation.upper()]))


def _bars(resized: tuple[int, int], size: tuple[int, int], preset: Preset) -> tuple[int, int]:
    """(top, left) of the picture in the letterbox; of an odd rest, the smaller half is above and at the left."""
    if preset.resize == "letterbox-corner":
        return 0, 0
    return (size[0] - resized[0]) // 2, (size[1] - resized[1]) // 2


def _padded(image: Image, corner: tuple[int, int], size: tuple[int, int], preset: Preset) -> Image:
    """The image (C,h,w) at this corner (top, left) of an image (C,*size) of the preset's padding."""
    channels, height, width = image.shape
    canvas = np.empty((channels, *size), np.float32)
    canvas[:] = padding(preset, channels)[:, None, None]
    canvas[:, corner[0] : corner[0] + height, corner[1] : corner[1] + width] = image
    return canvas


def padding(preset: Preset, channels: int) -> Floats:
    """(C,) float32, what the bars of a letterbox become. Raises PresetError as pixel_table() does."""
    mean, std, bars = (_per_channel(v, channels, preset) for v in (preset.mean, preset.std, preset.padding))
    return np.asarray((bars * preset.scale - mean) / std, np.float32)


def black(preset: Preset, channels: int) -> Floats:
    """(C,) float32, what a black pixel becomes."""
    return pixel_table(preset, channels)[:, 0]


def pixel_table(preset: Preset, channels: int) -> Floats:
    """(C,256) float32, what each value of a pixel becomes. Raises PresetError for a mean or std of another length."""
    mean, std = (_per_channel(v, channels, preset)[:, None] for v in (preset.mean, preset.std))
    return np.asarray((np.arange(256) * preset.scale - mean) / std, np.float32)


def _per_channel(values: tuple[float, ...], channels: int, preset: Preset) -> npt.NDArray[np.float64]:
    if len(values) not in (1, channels):
        raise PresetError(
            f"preset {preset.name!r} has {len(values)} values per pixel, but the model takes {channels} channel(s); "
            f"give --mean and --std that fit"
        )
    return np.broadcast_to(np.asarray(values, np.float64), (channels,))


def _resized_shape(picture: tuple[int, ...], size: tuple[int, int], preset: Preset) -> tuple[int, int]:
    least = (before_crop(size[0], preset.crop), before_crop(size[1], preset.crop))
    height, width = picture
    if preset.resize in LETTERBOXES:
        ratio = min(size[0] / height, size[1] / width)
        rounded = round if preset.resize == "letterbox" else int
        resized = max(1, rounded(height * ratio)), max(1, rounded(width * ratio))
    elif preset.resize == "squash":
        resized = least
    elif least[0] == least[1]:
        short = min(height, width)
        resized = int(least[0] * height / short), int(least[1] * width / short)
    else:
        ratio = min(height / least[0], width / least[1])
        resized = max(least[0], round(height / ratio)), max(least[1], round(width / ratio))
    if resized[0] * resized[1] > MOST_PIXELS:
        raise PictureError(
            f"a picture of {width} x {height} pixels would be resized to {resized[1]} x {resized[0]} before its centre "
            f"is cut out, above {MOST_PIXELS:,} pixels; cut it to a less narrow shape, or raise --crop"
        )
    return resized


def before_crop(side: int, crop: float) -> int:
    """The pixels of a side of which the crop leaves `side`."""
    return max(side, int(min(side / crop, 1e9)))


def _placement(
    picture: tuple[int, ...], resized: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> Placement:
    down, across = picture[0] / resized[0], picture[1] / resized[1]
    top, left = corner
    box = (left * across, top * down, (left + size[1]) * across, (top + size[0]) * down)
    return Placement((picture[0], picture[1]), box)
