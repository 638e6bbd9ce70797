"""What counts for an array: options are applied, doubtful numbers are noted, a stack of pictures is no picture."""

from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
from small_models import Make, network_over

from onnxcam import Explainer, NoteCode
from onnxcam.errors import PictureError, PresetError
from onnxcam.inputs.arrays import host_array
from onnxcam.inputs.choices import changed_fields
from onnxcam.inputs.presets import PRESETS, Preset, override
from onnxcam.outputs.captions import caption

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (16, 12, 3)).astype(np.uint8)
FLOATS = np.moveaxis(RGB, 2, 0) / np.float32(255)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISED = (FLOATS - np.float32(MEAN)[:, None, None]) / np.float32(STD)[:, None, None]


def explainer(model: onnx.ModelProto, **options: Any) -> Explainer:
    return Explainer(model, "grad-cam", providers=["cpu"], **options)


def codes(explain: Explainer, image: Any) -> list[NoteCode]:
    return [note.code for note in explain.prepare(image).notes]


@pytest.mark.parametrize("array", [FLOATS, FLOATS * 255, FLOATS[None], FLOATS.astype(np.float64)], ids=str)
def test_mean_and_std_are_applied_to_an_array_of_the_models_size(
    classifier: onnx.ModelProto, array: np.ndarray
) -> None:
    for adjust in (lambda preset: override(preset, mean=MEAN, std=STD, scale=1 / 255), normalised):
        with explainer(classifier, adjust=adjust) as explain:
            prepared = explain.prepare(array)
            np.testing.assert_allclose(prepared.image, NORMALISED, atol=1.01 / 255 / min(STD))
            assert NoteCode.ARRAY_SCALED in codes(explain, array)


def normalised(preset: Preset) -> Preset:
    return override(preset, mean=tuple(MEAN), std=STD)


def test_options_that_repeat_the_preset_count_too(classifier: onnx.ModelProto) -> None:
    """The assumed preset, imagenet, has the same numbers, and without options the array is taken as it is."""
    imagenet = PRESETS["imagenet"]
    assert changed_fields(imagenet, None) == frozenset()
    assert changed_fields(imagenet, lambda preset: preset) == frozenset()
    assert changed_fields(imagenet, lambda preset: override(preset, mean=MEAN)) == {"mean"}
    assert changed_fields(imagenet, lambda preset: override(preset, scale=2.0, color="rgb")) == {
        "name",
        "scale",
        "color",
    }
    with explainer(classifier) as explain:
        np.testing.assert_array_equal(explain.prepare(FLOATS).image, FLOATS)
        assert codes(explain, FLOATS) == [NoteCode.VALUE_RANGE]


def test_the_order_of_colours_is_applied(classifier: onnx.ModelProto) -> None:
    with explainer(classifier, preset="unit", adjust=lambda preset: override(preset, color="bgr")) as explain:
        np.testing.assert_allclose(explain.prepare(FLOATS).image, FLOATS[::-1], atol=1.01 / 255)
        np.testing.assert_allclose(explain.prepare(NORMALISED).image, NORMALISED[::-1], rtol=1e-6)


def test_of_numbers_that_are_no_pixels_the_options_are_computed_as_given(
    classifier: onnx.ModelProto, make: Make
) -> None:
    adjust = lambda preset: override(preset, scale=0.5, mean=(1.0, 2.0, 3.0))  # noqa: E731
    with explainer(classifier, adjust=adjust) as explain:
        expected = NORMALISED * 0.5 - np.float32([1, 2, 3])[:, None, None]
        np.testing.assert_allclose(explain.prepare(NORMALISED).image, expected, atol=1e-6)
        assert codes(explain, NORMALISED) == [NoteCode.ARRAY_SCALED]
    volume = make(network_over((4, 8, 8), channels=1, batch="N"))
    hounsfield = RNG.integers(-1000, 3000, (1, 4, 8, 8)).astype(np.int16)
    with explainer(volume, adjust=lambda preset: override(preset, scale=1e-3)) as explain:
        np.testing.assert_allclose(explain.prepare(hounsfield).image, hounsfield / 1000, rtol=1e-6)
    with explainer(volume, adjust=lambda preset: override(preset, scale=1 / 255), window=(-160, 240)) as explain:
        shares = np.clip((hounsfield + 160.0) / 400, 0, 1)
        np.testing.assert_allclose(explain.prepare(hounsfield).image, shares, atol=0.51 / 255)
    with explainer(volume) as explain:
        np.testing.assert_array_equal(explain.prepare(hounsfield).image, hounsfield)
        assert codes(explain, hounsfield) == [NoteCode.WHOLE_NUMBERS]
    two = lambda preset: override(preset, mean=(1.0, 2.0), std=(1.0, 1.0))  # noqa: E731
    with explainer(classifier, adjust=two) as explain, pytest.raises(PresetError):
        explain(NORMALISED)


def test_numbers_of_a_picture_that_came_as_preprocessed_are_noted(classifier: onnx.ModelProto) -> None:
    for preset, array, noted in (
        ("imagenet", FLOATS, True),
        ("imagenet", FLOATS * 255, True),
        ("imagenet", NORMALISED, False),
        ("unit", FLOATS, False),
        ("unit", FLOATS * 255, True),
        ("raw", FLOATS * 255, False),
        ("raw", FLOATS, True),
        ("inception", FLOATS, True),
        ("inception", FLOATS * 2 - 1, False),
        ("keras-caffe", FLOATS * 255, True),
    ):
        with explainer(classifier, preset=preset) as explain:
            np.testing.assert_array_equal(explain.prepare(array).image, array)
            assert codes(explain, array) == [NoteCode.VALUE_RANGE] * noted, (preset, array.max())


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (np.nan, "holds NaN or infinity"),
        (np.inf, "holds NaN or infinity"),
        (-np.inf, "holds NaN or infinity"),
        (1e39, r"beyond 3\.4e38"),
        (-1e39, r"beyond 3\.4e38"),
    ],
)
def test_numbers_that_no_network_takes_are_refused_wherever_they_stand(
    classifier: onnx.ModelProto, number: float, message: str
) -> None:
    with explainer(classifier) as explain:
        for place in [(0, 0, 0), (1, 7, 5), (2, 15, 11)]:
            image = NORMALISED.astype(np.float64)
            image[place] = number
            with pytest.raises(PictureError, match=message):
                explain.prepare(image)
            if np.isfinite(number):
                continue
            with pytest.raises(PictureError, match=message):
                explain.prepare(image.astype(np.float32))


def test_whole_numbers_are_pixels_or_noted(classifier: onnx.ModelProto) -> None:
    first = np.moveaxis(RGB, 2, 0)
    with explainer(classifier, preset="unit") as explain:
        for dtype in (np.uint8, np.int16, np.int64, np.uint32):
            np.testing.assert_allclose(explain.prepare(first.astype(dtype)).image, FLOATS, rtol=1e-6)
            assert codes(explain, first.astype(dtype)) == ([] if dtype == np.uint8 else [NoteCode.WHOLE_NUMBERS])
        negative = first.astype(np.int16) - 128
        np.testing.assert_array_equal(explain.prepare(negative).image, negative)
        assert codes(explain, negative) == [NoteCode.WHOLE_NUMBERS]


def test_a_grey_models_bytes_are_pixels_whatever_their_axes(make: Make) -> None:
    grey = RGB[..., 0]
    with explainer(make(network_over((16, 12), channels=1, batch="N"))) as explain:
        for array in (grey, grey[None], grey[..., None], grey[None, None], grey > 255):
            expected = grey / np.float32(255) if array.dtype == np.uint8 else np.zeros((16, 12))
            np.testing.assert_allclose(explain.prepare(array).image[0], expected, rtol=1e-6)


def test_one_array_is_not_several_pictures(classifier: onnx.ModelProto) -> None:
    with explainer(classifier, preset="unit") as explain:
        for array in (RGB, np.moveaxis(RGB, 2, 0), FLOATS, NORMALISED):
            with pytest.raises(PictureError, match=r"not one of shape .*; pass a list: \[picture\]"):
                explain.batch(array)
        np.testing.assert_array_equal(explain.batch(np.stack([FLOATS] * 2), 1)[1].map, explain(FLOATS, 1).map)


def test_advice_on_an_array_that_does_not_fit_works(classifier: onnx.ModelProto) -> None:
    with explainer(classifier, preset="imagenet") as explain:
        last = np.moveaxis(NORMALISED, 0, -1)
        with pytest.raises(PictureError, match=r"numpy.moveaxis\(image, -1, 0\) gives that"):
            explain(last)
        np.testing.assert_array_equal(explain.prepare(np.moveaxis(last, -1, 0)).image, NORMALISED)
        with pytest.raises(PictureError, match=r"\[0,1\], and these go from -.* to"):
            explain(np.pad(NORMALISED, ((0, 0), (4, 4), (0, 0))))


class OnGpu:
    """A tensor on a GPU, as CuPy and PyTorch offer ways to the host. way: the method that copies."""

    def __init__(self, way: str) -> None:
        setattr(self, way, partial(self._copy, way))

    @staticmethod
    def _copy(way: str) -> Any:
        return RGB if way == "get" else Host()

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("cannot copy")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


class Host:
    def __dlpack__(self, **_: Any) -> Any:
        return RGB.copy().__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


@pytest.mark.parametrize("way", ["get", "cpu"])
def test_a_librarys_own_way_to_the_host_is_taken(way: str) -> None:
    np.testing.assert_array_equal(host_array(OnGpu(way)), RGB)


@pytest.mark.torch
def test_torch_tensors_of_every_kind(classifier: onnx.ModelProto) -> None:
    import torch

    first = torch.from_numpy(np.moveaxis(RGB, 2, 0).copy())
    with explainer(classifier, preset="unit") as explain:
        expected = explain.prepare(RGB).image
        for tensor in (
            torch.from_numpy(RGB), first, first.permute(1, 2, 0), first.permute(1, 2, 0).contiguous(),
            first.float() / 255, (first.float() / 255).requires_grad_(), first[None].float() / 255,
            torch.from_numpy(RGB).float() / 255, torch.from_numpy(RGB).permute(2, 0, 1).float() / 255,
            first.to(torch.int64), first.to(memory_format=torch.contiguous_format),
        ):  # fmt: skip
            np.testing.assert_allclose(explain.prepare(tensor).image, expected, atol=1e-6)
        half = first.half() / 255
        for tensor in (half, half.permute(1, 2, 0)):
            np.testing.assert_allclose(explain.prepare(tensor).image, expected, atol=1.01 / 255)
        with pytest.raises(PictureError, match=r"tensor\.float"):
            explain(first.bfloat16() / 255)
        np.testing.assert_allclose(explain.prepare((first.bfloat16() / 255).float()).image, expected, atol=1e-2)
        normal = torch.from_numpy(NORMALISED)
        flipped = torch.from_numpy(np.ascontiguousarray(NORMALISED.T)).permute(2, 1, 0)
        np.testing.assert_array_equal(explain(flipped, 1).map, explain(normal, 1).map)


def test_a_tensor_that_was_not_normalised_is_said_in_the_caption_and_the_same_picture_is_not(
    classifier: onnx.ModelProto,
) -> None:
    with explainer(classifier, preset="imagenet") as explain:
        as_it_is, pixels = explain(FLOATS), explain(RGB)
        assert caption(as_it_is).detail.endswith("array perhaps not preprocessed")
        assert "perhaps" not in caption(pixels).detail
        by_options = explain(NORMALISED)
        assert "perhaps" not in caption(by_options).detail


@pytest.mark.parametrize("preset", ["imagenet", "inception", "unit", "raw", "keras-caffe"])
def test_what_prepare_gives_is_explained_as_the_picture_is(classifier: onnx.ModelProto, preset: str) -> None:
    """Also of a bright picture, whose preprocessed numbers might be those of a darker one."""
    bright = (RGB // 2 + 128).astype(np.uint8)
    with explainer(classifier, preset=preset) as explain:
        for picture in (RGB, bright):
            np.testing.assert_array_equal(explain(explain.prepare(picture).image).map, explain(picture).map)
