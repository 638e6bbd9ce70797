"""Arrays and pictures become the model's input; those that do not fit are refused with the shape that does."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from onnxcam.errors import PictureError
from onnxcam.inputs.choices import GIVEN, choose_size
from onnxcam.inputs.loader import ImageLoader, read_array
from onnxcam.inputs.presets import PRESETS
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.types import Source

RNG = np.random.default_rng(0)


def loader(layout: str, channels: int, sides: tuple[int, ...], dtype: str = "float32") -> ImageLoader:
    return ImageLoader(ImageInput("x", dtype, layout, channels, sides, None), sides, PRESETS["imagenet"])


@pytest.mark.parametrize(("layout", "sides"), [("NCW", (9,)), ("NHWC", (5, 7)), ("NCHW", (5, 7)), ("NCDHW", (4, 5, 7))])
def test_an_array_is_taken_in_either_order_with_or_without_a_batch(layout: str, sides: tuple[int, ...]) -> None:
    images, canonical = loader(layout, 2, sides), RNG.standard_normal((2, *sides)).astype(np.float32)
    np.testing.assert_array_equal(images.prepare(canonical).image, canonical)
    np.testing.assert_array_equal(images.prepare(canonical[None]).image, canonical)
    if layout == "NHWC":
        np.testing.assert_array_equal(images.prepare(np.moveaxis(canonical, 0, -1)).image, canonical)


def test_one_channel_may_be_left_out() -> None:
    signal = RNG.standard_normal(9)
    np.testing.assert_allclose(loader("NCW", 1, (9,)).prepare(signal).image, signal[None], rtol=1e-6)


def test_whole_numbers_are_numbers() -> None:
    volume = RNG.integers(0, 4000, (1, 3, 4, 5)).astype(np.int16)
    np.testing.assert_array_equal(loader("NCDHW", 1, (3, 4, 5)).prepare(volume).image, volume)


def test_an_npy_file_is_read_by_its_suffix(tmp_path: Path) -> None:
    array = RNG.standard_normal((2, 9)).astype(np.float32)
    np.save(tmp_path / "signal.npy", array)
    loaded = loader("NCW", 2, (9,)).prepare(tmp_path / "signal.npy")
    np.testing.assert_array_equal(loaded.image, array)
    assert loaded.name.endswith("signal.npy")
    assert loaded.placement is None


def test_bytes_in_an_npy_file_are_a_photograph_for_a_colour_model(tmp_path: Path) -> None:
    np.save(tmp_path / "photo.npy", RNG.integers(0, 255, (20, 30, 3), np.uint8))
    loaded = loader("NCHW", 3, (5, 7)).prepare(tmp_path / "photo.npy")
    assert loaded.placement is not None
    assert loaded.placement.picture == (20, 30)


@pytest.mark.parametrize("shape", [(2, 10), (3, 9), (9,), (2, 2, 9), (2, 9, 1)])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PictureError, match=r"\(2, 9\) \(C,W\)"):
        loader("NCW", 2, (9,)).prepare(np.zeros(shape, np.float32))


def test_a_photograph_for_a_signal_model_is_refused() -> None:
    with pytest.raises(PictureError, match=r"no pictures but arrays of shape \(2, 9\)"):
        loader("NCW", 2, (9,)).prepare(np.zeros((20, 30, 3), np.uint8))


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    for name, content in (("a", b""), ("b", b"\x93NUMPY\x01\x00"), ("c", b"text"), ("d", b"PK\x03\x04")):
        (tmp_path / f"{name}.npy").write_bytes(content)
        with pytest.raises(PictureError, match=r"npy"):
            read_array(tmp_path / f"{name}.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "words.npy", np.array(["a"]))
    np.save(tmp_path / "nothing.npy", np.zeros(0))
    for name in ("objects", "words", "nothing", "missing"):
        with pytest.raises(PictureError):
            read_array(tmp_path / f"{name}.npy")


def test_sizes_come_from_the_user_the_model_or_the_preset() -> None:
    dynamic = ImageInput("x", "float32", "NCHW", 3, (None, None), None)
    assert choose_size(dynamic, (64, 32), PRESETS["imagenet"]) == ((64, 32), GIVEN)
    sides, origin = choose_size(dynamic, None, PRESETS["imagenet"])
    assert sides is not None
    assert origin.source in (Source.PRESET, Source.ASSUMED)
    assert choose_size(ImageInput("x", "float32", "NCHW", 3, (8, 6), None), None, PRESETS["raw"])[0] is None


def test_a_host_array_is_taken_for_a_network_on_a_gpu_as_its_numbers() -> None:
    network_input = ImageInput("x", "float32", "NCHW", 3, (4, 5), None)
    on_second_gpu = ImageLoader(network_input, (4, 5), PRESETS["imagenet"], provider="cuda", device_index=1)
    numbers = RNG.standard_normal((3, 4, 5)).astype(np.float32)
    prepared = on_second_gpu.prepare(onnxruntime.OrtValue.ortvalue_from_numpy(numbers))
    np.testing.assert_array_equal(prepared.image, numbers)
    assert prepared.on_device is None
