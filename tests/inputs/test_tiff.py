"""A TIFF of which strips or tiles are missing is an error, by its pixels and by its bands; so is one of too many."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.inputs.clips import frames_of
from onnxcam.inputs.images import read_picture, size_of
from onnxcam.inputs.tiff import MOST_PARTS, tiff_damage, tiff_is_whole

PIXELS = np.random.default_rng(0).integers(1, 256, (64, 64), np.uint8)
RAW, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
PACKED: dict[int, Callable[[bytes], bytes]] = {
    RAW: bytes,
    DEFLATE: zlib.compress,
    PACKBITS: lambda data: b"".join(bytes((len(data[i : i + 128]) - 1,)) + data[i : i + 128] for i in range(0, len(data), 128)),
}  # fmt: skip
Fields = dict[int, list[int]]


def tiff(pages: list[Fields], data: bytes, order: str = "<", big: bool = False) -> bytes:
    """A TIFF of so many pages with fields of 32 or 64 bits, behind its data, which begin at 16."""
    form, wide, size = ("Q", 16, 8) if big else ("I", 4, 4)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    body, at = b"", 16 + len(data)
    for fields in pages:
        count, entries, outside = struct.pack(order + ("Q" if big else "H"), len(fields)), b"", b""
        behind = at + len(body) + len(count) + len(fields) * (12 + size - 4 + (4 if big else 0)) + size
        for tag, values in sorted(fields.items()):
            content = struct.pack(f"{order}{len(values)}{form}", *values)
            if len(content) > size:
                place, outside = struct.pack(order + form, behind + len(outside)), outside + content
            else:
                place = content.ljust(size, b"\0")
            entries += struct.pack(f"{order}HH{form}", tag, wide, len(values)) + place
        following = behind + len(outside) if fields is not pages[-1] else 0
        body += count + entries + struct.pack(order + form, following) + outside
    start = struct.pack(order + "HHQ", 8, 0, at) if big else struct.pack(order + "I", at) + bytes(8)
    return head + start + data + body


def striped(compression: int = RAW, rows: int = 16, planes: int = 1) -> tuple[Fields, bytes]:
    parts = [PACKED[compression](PIXELS[top : top + rows].tobytes()) for top in range(0, 64, rows)] * planes
    starts = (16 + np.cumsum([0, *map(len, parts)])[:-1]).tolist()
    fields = {
        256: [64],
        257: [64],
        258: [8],
        259: [compression],
        262: [1],
        273: starts,
        278: [rows],
        279: list(map(len, parts)),
    }
    colours = {258: [8] * planes, 262: [2], 277: [planes], 284: [2]} if planes > 1 else {}
    return {**fields, **colours}, b"".join(parts)


def tiled(compression: int = RAW) -> tuple[Fields, bytes]:
    squares = [PIXELS[y : y + 16, x : x + 16].tobytes() for y in range(0, 64, 16) for x in range(0, 64, 16)]
    parts = [PACKED[compression](square) for square in squares]
    starts = (16 + np.cumsum([0, *map(len, parts)])[:-1]).tolist()
    fields = {256: [64], 257: [64], 258: [8], 259: [compression], 262: [1], 322: [16], 323: [16], 324: starts}
    return {**fields, 325: list(map(len, parts))}, b"".join(parts)


MAKERS = {
    **{f"strips {kind}": (lambda kind=kind: striped(kind)) for kind in PACKED},
    **{f"tiles {kind}": (lambda kind=kind: tiled(kind)) for kind in PACKED},
    "planes": lambda: striped(planes=3), "planes, packed": lambda: striped(DEFLATE, planes=3),
}  # fmt: skip
CHANGES: dict[str, Callable[[list[int], list[int]], tuple[list[int], list[int]]]] = {
    "the first alone": lambda starts, sizes: (starts[:1], sizes[:1]),
    "all but the last": lambda starts, sizes: (starts[:-1], sizes[:-1]),
    "sizes of the first alone": lambda starts, sizes: (starts, sizes[:1]),
    "no size": lambda starts, sizes: (starts, [*sizes[:2], 0, *sizes[3:]]),
    "no place": lambda starts, sizes: ([*starts[:2], 0, *starts[3:]], sizes),
    "beyond the end": lambda starts, sizes: ([*starts[:2], 10**6, *starts[3:]], sizes),
    "a size beyond the end": lambda starts, sizes: ([*starts[:-1], 10**9], sizes),
}


def changed(name: str, change: str, order: str = "<", big: bool = False, twice: bool = False) -> bytes:
    fields, data = MAKERS[name]()
    starts, sizes = (273, 279) if 273 in fields else (324, 325)
    less, fewer = CHANGES[change](fields[starts], fields[sizes])
    last = {**fields, starts: less, sizes: fewer}
    return tiff([fields, last] if twice else [last], data, order, big)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_whole_ones_are_read_by_their_pixels_and_by_their_bands(name: str, order: str, big: bool) -> None:
    fields, data = MAKERS[name]()
    for bands in (None, (1,)):
        np.testing.assert_array_equal(read_picture(tiff([fields], data, order, big), bands=bands)[..., 0], PIXELS)


@pytest.mark.parametrize("bands", [None, (1,)])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", MAKERS)
def test_a_missing_strip_or_tile_is_an_error(name: str, change: str, bands: Any, capfd: Any) -> None:
    for order, big in (("<", False), (">", False), ("<", True), (">", True)):
        with pytest.raises(PictureError, match=r"without data: \d+ of \d+ strips or tiles"):
            read_picture(changed(name, change, order, big), bands=bands)
    assert capfd.readouterr().err == ""  # nor does libtiff print


def test_other_pages_count_where_they_are_read() -> None:
    data = changed("strips 1", "the first alone", twice=True)
    np.testing.assert_array_equal(read_picture(data)[..., 0], PIXELS)
    with pytest.raises(PictureError, match="without data: 3 of 4"):
        read_picture(data, bands=(1, 2, 2))
    with pytest.raises(PictureError, match="damaged or cut short"):
        frames_of(data, read_picture, 2)


def test_no_strips_and_no_sides_of_strips_and_a_field_twice_are_errors() -> None:
    fields, data = striped()
    without = {tag: values for tag, values in fields.items() if tag not in (273, 279)}
    for bands in (None, (1,)):
        for one, message in ((without, "neither strips nor tiles"), ({**fields, 278: [0]}, "no size")):
            with pytest.raises(PictureError, match=message):
                read_picture(tiff([one], data), bands=bands)
        content = bytearray(tiff([fields], data))
        at = content.index(struct.pack("<HH", 262, 4))
        content[at : at + 2] = struct.pack("<H", 259)
        with pytest.raises(PictureError, match="there twice"):
            read_picture(bytes(content), bands=bands)


def test_packed_data_that_cannot_fill_the_picture_are_an_error() -> None:
    for compression, ratio in ((LZW, 2731), (DEFLATE, 1032), (PACKBITS, 64)):
        side = 4000
        size = (side * side - 1) // ratio
        fields = {256: [side], 257: [side], 258: [8], 259: [compression], 262: [1], 273: [16], 278: [side], 279: [size]}
        with pytest.raises(PictureError, match="fewer bytes than its pixels need"):
            read_picture(tiff([fields], bytes(size)))
        assert tiff_damage(io.BytesIO(tiff([{**fields, 279: [size + 1]}], bytes(size + 1)))) == ""


@pytest.mark.parametrize("bands", [None, (1,)])
def test_very_many_strips_or_tiles_are_refused_at_once(bands: Any) -> None:
    many = MOST_PARTS + 1
    grey = {258: [8], 259: [1], 262: [1]}
    strips = tiff([{**grey, 256: [1], 257: [many], 273: [16] * many, 278: [1], 279: [1] * many}], b"a")
    tiles = tiff([{**grey, 256: [11_000], 257: [11_000], 322: [1], 323: [1], 324: [16] * 1000, 325: [1] * 1000}], b"a")
    for data in (strips, tiles):
        start = time.process_time()
        for take in (lambda one: read_picture(one, bands=bands), size_of):
            with pytest.raises(PictureError, match="more than 524,288 strips or tiles"):
                take(data)
        assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "name", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4", "zstd", "webp"]
)
def test_files_as_libtiff_writes_them_are_whole(name: str) -> None:
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "YCbCr"):
        for side in (1, 7, 64, 1000):
            image = Image.new("L", (side, side + 3), 255).convert(mode if mode not in ("I;16", "YCbCr") else "L")
            image = image.convert(mode)
            file = io.BytesIO()
            try:
                image.save(file, "TIFF", compression=None if name == "raw" else name)
            except (OSError, ValueError, KeyError):  # not of this mode
                continue
            assert tiff_damage(file) == ""
            assert tiff_is_whole(file, 1)


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate"])
def test_a_file_that_is_cut_off_anywhere_is_not_whole(compression: str | None) -> None:
    pages = [Image.fromarray(PIXELS[:8, :8].astype(np.float32) + n, "F") for n in range(3)]
    file = io.BytesIO()
    text = "a text that stands behind the directory"
    pages[0].save(
        file, "TIFF", save_all=True, append_images=pages[1:], compression=compression, tiffinfo={0x010E: text}
    )
    data = file.getvalue()
    assert tiff_is_whole(io.BytesIO(data), 3)
    assert not tiff_is_whole(io.BytesIO(data), 2), "it has more pages"
    whole = [end for end in range(len(data)) if tiff_is_whole(io.BytesIO(data[:end]), 3)]
    assert not any(data[end:].strip(b"\0") for end in whole), "but for the padding at its end"


def test_directories_that_lie_over_each_other_take_no_long_time() -> None:
    entries, pages = 4096, 2**14
    starts = [20 + 12 * page for page in range(pages)]
    data = bytearray(starts[-1] + 12 * entries + 16)
    data[:8] = b"II*\0" + struct.pack("<I", starts[0])
    for start, following in zip(starts, [*starts[1:], 0], strict=True):
        struct.pack_into("<H", data, start, entries)
        struct.pack_into("<I", data, start + 2 + 12 * entries, following)
    file = _Counted(bytes(data))
    assert not tiff_is_whole(file, 2**16)
    assert file.was_read < 2**26, "of 800 MB that they hold together"


class _Counted(io.BytesIO):
    """A file that counts the bytes that were read."""

    was_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.was_read += len(data)
        return data
