"""Sources of pictures that fail, lie or are long: open files, paths, memoryviews, and files that take long to read."""

import gzip
import io
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import OptionError, PictureError
from onnxcam.files import read_stream
from onnxcam.inputs.choices import choose_inputs
from onnxcam.inputs.clips import frames_of
from onnxcam.inputs.depth import PART, by_rows, windowed
from onnxcam.inputs.images import read, read_picture
from onnxcam.types import NoteCode

RNG = np.random.default_rng(0)
SMALL = RNG.integers(0, 256, (24, 32, 3), np.uint8)


def encoded(form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(SMALL).save(file, form)
    return file.getvalue()


def closed() -> io.BytesIO:
    file = io.BytesIO(encoded())
    file.close()
    return file


def released() -> memoryview:
    view = memoryview(encoded())
    view.release()
    return view


def cut_archive() -> gzip.GzipFile:
    return gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(encoded())[:-200]))


class Unseekable(io.BytesIO):
    def seek(self, *_: Any) -> int:
        raise OSError("cannot seek")


class NoPath:
    def __fspath__(self) -> Any:
        return 5


class BytesPath:
    def __init__(self, path: Path) -> None:
        self.path = bytes(path)

    def __fspath__(self) -> bytes:
        return self.path


@pytest.mark.parametrize("make", [closed, cut_archive, released, lambda: Unseekable(encoded()), NoPath])
def test_a_source_that_cannot_be_read_is_a_picture_error(make: Callable[[], Any]) -> None:
    with pytest.raises(PictureError):
        read_picture(make())


def test_a_file_that_is_open_for_writing_is_a_picture_error(tmp_path: Path) -> None:
    with (tmp_path / "new").open("wb") as file, pytest.raises(PictureError, match="cannot be read"):
        read_picture(file)


def test_a_path_of_bytes_and_a_memoryview_with_gaps_are_read(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded())
    gaps = memoryview(bytes(byte for pair in zip(encoded(), encoded(), strict=True) for byte in pair))[::2]
    for source in (BytesPath(path), gaps):
        np.testing.assert_array_equal(read_picture(source), SMALL)


def test_what_does_not_fit_into_memory_is_a_picture_error() -> None:
    class Large:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise MemoryError

    class Endless:
        def read(self, _: int) -> bytes:
            raise MemoryError

    for source in (Large(), Endless()):
        with pytest.raises(PictureError, match="does not fit into memory"):
            read_picture(source)


def test_an_extra_input_that_does_not_fit_into_memory_is_an_option_error() -> None:
    with pytest.raises(OptionError, match="does not fit into memory"):
        choose_inputs({"value": range(2**60)})


def test_a_window_that_no_float_holds_is_an_option_error_that_is_cut() -> None:
    with pytest.raises(OptionError) as error:
        read_picture(SMALL, window=(0, 10**4000))
    assert len(str(error.value)) < 300


def test_a_stream_is_not_held_twice() -> None:
    size = 2**25
    tracemalloc.start()
    content = read_stream(io.BytesIO(bytes(size)), 2 * size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert content == bytes(size)
    assert peak < 2.9 * size  # the stream itself is one of them, and a piece of 16 MiB half


@pytest.mark.parametrize("shape", [(2500, 1000, 3), (1, 2_500_000, 3), (3, 2500, 1000)])
def test_numbers_are_converted_part_by_part_to_the_same_bytes(shape: tuple[int, ...]) -> None:
    values = RNG.random(shape, np.float32)
    assert values.size > PART
    expected = np.rint(np.clip(values.astype(np.float64) * 255, 0, 255)).astype(np.uint8)
    np.testing.assert_array_equal(by_rows(values, lambda rows: np.rint(rows.astype(np.float64) * 255)), expected)
    np.testing.assert_array_equal(windowed(values, (0, 1)), np.rint(255 * np.clip(values.astype(np.float64), 0, 1)))


@pytest.mark.parametrize(
    ("array", "window"),
    [(np.zeros((4000, 4000), np.float32), None), (np.zeros((4000, 4000), np.uint16), (0, 9)),
     (np.zeros((4000, 4000), np.uint16), None)],
    ids=["floats", "window", "16 bits"],
)  # fmt: skip
def test_an_array_takes_little_more_memory_than_its_picture(array: Any, window: Any) -> None:
    tracemalloc.start()
    array.reshape(-1)[0] = 300 if array.dtype.kind == "u" else 1
    read_picture(array, window=window)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * array.size + 2**25  # the picture, channels and alpha, and a part


def pages(count: int, order: str = "<") -> bytes:
    """A TIFF of so many pages of 8 x 8, all of which show the same bytes."""
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: 64}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    size = len(entries) + 6
    ahead = [8 + (page + 1) * size for page in range(count - 1)] + [0]
    tables = b"".join(struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", at) for at in ahead)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8) + tables


@pytest.mark.parametrize("order", "<>")
def test_many_pages_are_not_counted_to_their_end(order: str) -> None:
    data = pages(20_000, order)
    start = time.process_time()
    notes = read(data).notes
    with pytest.raises(PictureError, match="frames"):
        frames_of(data, read_picture, 8)
    assert time.process_time() - start < 1
    assert [note.code for note in notes] == [NoteCode.FIRST_FRAME]
    assert "the first of more than 1000 frames or pages" in str(notes[0])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_pages_are_counted(count: int) -> None:
    texts = [str(note) for note in read(pages(count)).notes]
    assert [f"the first of {count} frames" in text for text in texts] == [True] * (count > 1)


def test_a_comment_without_end_in_a_pnm_is_damage_and_a_short_one_is_none() -> None:
    pixels = bytes(range(12))
    start = time.process_time()
    with pytest.raises(PictureError, match="its header does not end"):
        read_picture(b"P6\n#" + b"a" * 20_000_000 + b"\n2 2\n255\n" + pixels)
    assert time.process_time() - start < 1
    picture = read_picture(b"P6 # a comment\n2 # another\n2\n255\n" + pixels)
    np.testing.assert_array_equal(picture.reshape(-1), list(pixels))
