"""Preprocessing gives the pixels of the reference pipelines, and says where each came from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onnxcam.errors import PictureError, PresetError
from onnxcam.inputs.preprocess import apply, black
from onnxcam.inputs.presets import (
    PRESETS,
    Preset,
    override,
)

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
    np.testing.assert_allclose(image, as_torchvision_does(picture, name), atol=2e-5 * max(1, np.abs(image).max()))


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
    st.sampled_from(["shortest", "squash"]),
)
def test_the_placement_says_where_each_pixel_came_from(
    height: int, width: int, size: tuple[int, int], crop: float, resize: str
) -> None:
    """On a ramp whose value is the coordinate, the input's value is the coordinate that the box gives."""
    rules = Preset("test", 1.0, (0.0,), (1.0,), resize=resize, crop=crop, interpolation="bilinear")  # type: ignore[arg-type]
    for axis, length in ((0, height), (1, width)):
        step = 250 / length
        ramp = np.broadcast_to((np.arange(length) * step)[:, None], (length, width if axis == 0 else height))
        values = np.rint(ramp if axis == 0 else ramp.T).astype(np.uint8)
        image, placement = apply(np.repeat(values[..., None], 3, axis=2), rules, size, 3)
        assert image.shape == (3, *size)
        assert placement.picture == (height, width)
        left, top, right, bottom = placement.box
        start, stop = (top, bottom) if axis == 0 else (left, right)
        assert start >= -1e-9
        assert stop <= length + 1e-9
        at = start + (np.arange(size[axis]) + 0.5) * (stop - start) / size[axis] - 0.5
        line = image[0].mean(axis=1 - axis) / step
        inner = (at > 2 + (stop - start) / size[axis]) & (at < length - 3 - (stop - start) / size[axis])
        np.testing.assert_allclose(line[inner], at[inner], atol=0.15 + 1.2 / step)


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
