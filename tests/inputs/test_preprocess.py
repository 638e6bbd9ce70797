"""Preprocessing gives the pixels of the reference pipelines, and says where each came from."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onnxcam.errors import PictureError, PresetError
from onnxcam.inputs.preprocess import apply, black
from onnxcam.inputs.presets import (
    LETTERBOXES,
    PRESETS,
    Preset,
    override,
    whole,
)
from onnxcam.types import Placement

PHOTOGRAPH = np.random.default_rng(5).integers(0, 256, (301, 451, 3)).astype(np.uint8)

EXPECTED = {
    # name: (scale, mean, std, filter, crop of 224 or None for squashing, channel order)
    "imagenet": (1 / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], "BILINEAR", 256, "rgb"),
    "timm": (1 / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], "BICUBIC", 256, "rgb"),
    "inception": (1 / 255, [0.5] * 3, [0.5] * 3, "BICUBIC", 256, "rgb"),
    "keras-tf": (1 / 127.5, [1.0] * 3, [1.0] * 3, "BILINEAR", None, "rgb"),
    "keras-caffe": (1.0, [103.939, 116.779, 123.68], [1.0] * 3, "BILINEAR", None, "bgr"),
    "efficientnet-lite": (1.0, [127.0] * 3, [128.0] * 3, "BICUBIC", 256, "rgb"),
    "clip": (
        1 / 255,
        [0.48145466, 0.4578275, 0.40821073],
        [0.26862954, 0.26130258, 0.27577711],
        "BICUBIC",
        224,
        "rgb",
    ),
    "unit": (1 / 255, [0.0] * 3, [1.0] * 3, "BILINEAR", None, "rgb"),
    "raw": (1.0, [0.0] * 3, [1.0] * 3, "BILINEAR", None, "rgb"),
}


def as_ultralytics_does(picture: np.ndarray, size: tuple[int, int], centre: bool = True) -> np.ndarray:
    """(H,W,3) bytes of the letterbox, written out from its definition: OpenCV resizes, OpenCV adds the border."""
    height, width = picture.shape[:2]
    ratio = min(size[0] / height, size[1] / width)
    wide, high = round(width * ratio), round(height * ratio)
    across, down = (size[1] - wide) / 2, (size[0] - high) / 2
    top, left = (round(down - 0.1), round(across - 0.1)) if centre else (0, 0)
    if (height, width) != (high, wide):
        picture = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_LINEAR)
    borders = (top, size[0] - high - top, left, size[1] - wide - left)
    return cv2.copyMakeBorder(picture, *borders, cv2.BORDER_CONSTANT, value=(114, 114, 114))


def as_yolox_does(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H,W,3) BGR: a grey canvas, with the resized picture in its upper left corner."""
    canvas = np.full((*size, 3), 114, np.uint8)
    ratio = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    wide, high = int(picture.shape[1] * ratio), int(picture.shape[0] * ratio)
    canvas[:high, :wide] = cv2.resize(picture[..., ::-1], (wide, high), interpolation=cv2.INTER_LINEAR)
    return canvas


OWN_PIPELINE = {
    "ultralytics": lambda picture, size: as_ultralytics_does(picture, size) / 255,
    "yolox": as_yolox_does,
}
"""Presets whose pipeline is a letterbox: a function (picture, size) -> (H,W,3)."""


def as_torchvision_does(picture: np.ndarray, name: str) -> np.ndarray:
    """Resize the shorter side, cut 224 out of the centre, normalise: written out from torchvision's documentation."""
    assert name in EXPECTED, f"add the pipeline of the preset {name} to EXPECTED, from its own documentation"
    scale, mean, std, kind, short, order = EXPECTED[name]
    photograph = Image.fromarray(picture)
    filter_ = getattr(Image.Resampling, str(kind))
    if short is None:
        photograph = photograph.resize((224, 224), filter_)
    else:
        width, height = photograph.size
        size = (short, int(short * height / width)) if width < height else (int(short * width / height), short)
        photograph = photograph.resize(size, filter_)
        left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
        photograph = photograph.crop((left, top, left + 224, top + 224))
    pixels = np.asarray(photograph, np.float64)
    if order == "bgr":
        pixels = pixels[..., ::-1]
    return ((pixels * scale - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("turned", [False, True])
def test_every_preset_gives_the_reference_pipelines_pixels(name: str, turned: bool) -> None:
    picture = np.ascontiguousarray(PHOTOGRAPH.transpose(1, 0, 2)) if turned else PHOTOGRAPH
    image, _ = apply(picture, PRESETS[name], (224, 224), 3)
    assert image.dtype == np.float32
    if name in OWN_PIPELINE:
        expected = OWN_PIPELINE[name](picture, (224, 224)).transpose(2, 0, 1)
    else:
        expected = as_torchvision_does(picture, name)
    np.testing.assert_allclose(image, expected, atol=2e-5 * max(1, np.abs(image).max()))


@pytest.mark.parametrize("name", OWN_PIPELINE)
@pytest.mark.parametrize("shape", [(301, 451), (451, 301), (97, 98), (31, 640), (640, 31), (64, 64), (63, 65)])
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (97, 33)])
def test_letterboxes_of_any_shape_give_the_reference_pixels(
    name: str, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    picture = np.random.default_rng(7).integers(0, 256, (*shape, 3)).astype(np.uint8)
    image, _ = apply(picture, PRESETS[name], size, 3)
    np.testing.assert_allclose(image, OWN_PIPELINE[name](picture, size).transpose(2, 0, 1), rtol=1e-6)


@pytest.mark.parametrize("name", OWN_PIPELINE)
def test_a_picture_as_narrow_as_a_thread_keeps_a_line_in_its_letterbox(name: str) -> None:
    image, placement = apply(np.full((2, 900, 3), 255, np.uint8), PRESETS[name], (64, 64), 3)
    assert (image.max(axis=(0, 2)) == image.max()).sum() == 1
    assert placement.box[2] == 900


def test_a_letterbox_goes_with_any_scale_mean_padding_and_grey() -> None:
    """Every number is (pixel * scale - mean) / std, those of the bars too."""
    picture = np.full((10, 20, 3), 200, np.uint8)
    given = override(PRESETS["imagenet"], resize="letterbox", padding=(10.0, 20.0, 30.0))
    assert given.crop == 1.0
    image, placement = apply(picture, given, (20, 20), 3)
    for c, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        np.testing.assert_allclose(image[c, :5], ((c + 1) * 10 / 255 - mean) / std, rtol=1e-6)
        np.testing.assert_allclose(image[c, 5:15], (200 / 255 - mean) / std, rtol=1e-6)
        np.testing.assert_allclose(image[c, 15:], ((c + 1) * 10 / 255 - mean) / std, rtol=1e-6)
    assert placement == Placement((10, 20), (0.0, -5.0, 20.0, 15.0))
    grey, _ = apply(picture, override(PRESETS["unit"], resize="letterbox-corner", color="gray"), (20, 20), 1)
    np.testing.assert_allclose(grey[0, :10], 200 / 255, rtol=1e-6)
    np.testing.assert_allclose(grey[0, 10:], 114 / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("preset", "shape", "size", "box"),
    [  # by hand: the scale is 1/4, 100 x 50 of 100 x 100 are picture, so the bars are 100 pixels of it each
        (PRESETS["ultralytics"], (200, 400), (100, 100), (0, -100, 400, 300)),
        (PRESETS["yolox"], (200, 400), (100, 100), (0, 0, 400, 400)),
        (PRESETS["ultralytics"], (400, 200), (100, 100), (-100, 0, 300, 400)),
        # 3 x 10 in 8 x 8 becomes 2 x 8 (2.4 rounded), 3 rows above: a row is 1.5 pixels, a column 1.25
        (PRESETS["ultralytics"], (3, 10), (8, 8), (0, -4.5, 10, 7.5)),
        (override(PRESETS["imagenet"], crop=1.0), (200, 400), (100, 100), (100, 0, 300, 200)),
    ],
)
def test_placements_by_hand(
    preset: Preset, shape: tuple[int, int], size: tuple[int, int], box: tuple[float, ...]
) -> None:
    _, placement = apply(np.zeros((*shape, 3), np.uint8), preset, size, 3)
    assert placement.box == pytest.approx(box)


@pytest.mark.parametrize(
    ("preset", "hidden"),
    [  # of a picture of 200 x 400: the centre square, 7/8 of it squared, all of it, all of it
        (override(PRESETS["imagenet"], crop=1.0), 0.5),
        (PRESETS["imagenet"], 1 - 0.5 * 0.875**2),
        (whole(PRESETS["imagenet"]), 0.0),
        (PRESETS["ultralytics"], 0.0),
        (PRESETS["yolox"], 0.0),
    ],
)
def test_the_share_that_a_crop_hides_by_hand(preset: Preset, hidden: float) -> None:
    _, placement = apply(np.zeros((200, 400, 3), np.uint8), preset, (224, 224), 3)
    assert placement.hidden == pytest.approx(hidden, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "white", "dark"),
    [
        ("imagenet", (2.2489083, 2.4285715, 2.64), (-2.117904, -2.0357144, -1.8044444)),
        ("keras-tf", (1.0, 1.0, 1.0), (-1.0, -1.0, -1.0)),
        ("keras-caffe", (151.061, 138.221, 131.32), (-103.939, -116.779, -123.68)),
        ("efficientnet-lite", (1.0, 1.0, 1.0), (-0.9921875, -0.9921875, -0.9921875)),
        ("raw", (255.0, 255.0, 255.0), (0.0, 0.0, 0.0)),
    ],
)
def test_white_and_black_by_hand(name: str, white: tuple[float, ...], dark: tuple[float, ...]) -> None:
    for value, expected in ((255, white), (0, dark)):
        image, _ = apply(np.full((20, 20, 3), value, np.uint8), PRESETS[name], (8, 8), 3)
        np.testing.assert_allclose(image[:, 3, 3], expected, rtol=1e-5)
    np.testing.assert_allclose(black(PRESETS[name], 3), dark, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(9, 300),
    st.integers(9, 300),
    st.sampled_from([(32, 32), (48, 20), (17, 64)]),
    st.sampled_from([1.0, 0.875, 0.7]),
    st.sampled_from(["shortest", "squash", "letterbox", "letterbox-corner"]),
)
def test_the_placement_says_where_each_pixel_came_from(
    height: int, width: int, size: tuple[int, int], crop: float, resize: str
) -> None:
    """On a ramp whose value is the coordinate, the input's value is the coordinate that the box gives."""
    padded = resize in LETTERBOXES
    rules = Preset("test", 1.0, (0.0,), (1.0,), resize=resize, crop=1.0 if padded else crop)  # type: ignore[arg-type]
    for axis, length in ((0, height), (1, width)):
        step = 250 / length
        ramp = np.broadcast_to((np.arange(length) * step)[:, None], (length, width if axis == 0 else height))
        values = np.rint(ramp if axis == 0 else ramp.T).astype(np.uint8)
        image, placement = apply(np.repeat(values[..., None], 3, axis=2), rules, size, 3)
        assert image.shape == (3, *size)
        assert placement.picture == (height, width)
        left, top, right, bottom = placement.box
        start, stop = (top, bottom) if axis == 0 else (left, right)
        assert padded or start >= -1e-9
        assert padded or stop <= length + 1e-9
        at = start + (np.arange(size[axis]) + 0.5) * (stop - start) / size[axis] - 0.5
        line = (_seen(image[0], placement, 1 - axis) if padded else image[0]).mean(axis=1 - axis) / step
        inner = (at > 2 + (stop - start) / size[axis]) & (at < length - 3 - (stop - start) / size[axis])
        np.testing.assert_allclose(line[inner], at[inner], atol=0.15 + 1.2 / step)


def _seen(image: np.ndarray, placement: Placement, axis: int) -> np.ndarray:
    """The image without the bars along one axis."""
    start, stop = (placement.box[i] for i in ((1, 3) if axis == 0 else (0, 2)))
    at = start + (np.arange(image.shape[axis]) + 0.5) * (stop - start) / image.shape[axis]
    return np.compress((at > 0) & (at < placement.picture[axis]), image, axis=axis)


@pytest.mark.parametrize(
    ("height", "width", "size", "crop", "resized"),
    [  # by hand: the shorter side becomes floor(224 / crop), the longer one its share rounded down
        (301, 451, (224, 224), 0.875, (256, 383)),
        (451, 301, (224, 224), 0.95, (352, 235)),
        (100, 100, (224, 224), 1.0, (224, 224)),
        # neither (128, 256) nor less is covered by anything smaller; timm rounds: 300 / (400 / 256) = 192
        (300, 400, (128, 256), 1.0, (192, 256)),
        (301, 200, (96, 64), 0.875, (110, 73)),  # 301 / (200 / 73) = 109.865
    ],
)
def test_resized_shapes_by_hand(
    height: int, width: int, size: tuple[int, int], crop: float, resized: tuple[int, int]
) -> None:
    _, placement = apply(np.zeros((height, width, 3), np.uint8), override(PRESETS["timm"], crop=crop), size, 3)
    left, top, right, bottom = placement.box
    assert (right - left) * resized[1] / width == pytest.approx(size[1], rel=1e-12)
    assert (bottom - top) * resized[0] / height == pytest.approx(size[0], rel=1e-12)
    assert left * resized[1] / width == pytest.approx(round((resized[1] - size[1]) / 2))
    assert top * resized[0] / height == pytest.approx(round((resized[0] - size[0]) / 2))


def test_a_picture_too_narrow_to_resize_is_refused_before_it_is_tried() -> None:
    with pytest.raises(PictureError, match="1 x 20000 pixels would be resized to 256 x 5120000"):
        apply(np.zeros((20_000, 1, 3), np.uint8), PRESETS["imagenet"], (224, 224), 3)
    tiny = override(PRESETS["raw"], crop=5e-324)
    with pytest.raises(PictureError, match="raise --crop"):
        apply(np.zeros((8, 8, 3), np.uint8), tiny, (224, 224), 3)
    image, _ = apply(np.zeros((20_000, 1, 3), np.uint8), PRESETS["raw"], (224, 224), 3)
    assert not image.any()


def test_every_value_of_a_pixel_is_rounded_to_float32_once() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    image, _ = apply(ramp, override(PRESETS["imagenet"], crop=1.0), (16, 16), 3)
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        exact = [np.float32((value * (1 / 255) - mean) / std) for value in range(256)]
        np.testing.assert_array_equal(image[channel].ravel(), exact)


def test_grey_colour_gives_three_equal_planes() -> None:
    grey = override(PRESETS["raw"], color="gray")
    image, _ = apply(PHOTOGRAPH, grey, (32, 32), 3)
    one, _ = apply(PHOTOGRAPH, PRESETS["raw"], (32, 32), 1)
    np.testing.assert_array_equal(image, np.repeat(one, 3, axis=0))


def test_a_grey_model_sees_luminance() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[...] = (200, 100, 50)
    image, _ = apply(picture, PRESETS["raw"], (8, 8), 1)
    np.testing.assert_allclose(image, np.full((1, 8, 8), 0.299 * 200 + 0.587 * 100 + 0.114 * 50), atol=0.6)


def test_four_channels_ask_for_an_array() -> None:
    with pytest.raises(PresetError, match="preprocessed"):
        apply(PHOTOGRAPH, PRESETS["raw"], (8, 8), 4)


def test_values_for_another_number_of_channels_are_refused() -> None:
    with pytest.raises(PresetError, match="--mean and --std"):
        apply(PHOTOGRAPH, PRESETS["imagenet"], (8, 8), 1)
