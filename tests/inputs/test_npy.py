"""Headers of .npy files: NumPy's own arrays come back bit for bit, everything else is a sentence."""

import io
import os
import pickle
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcam.errors import OnnxCamError, PictureError
from onnxcam.inputs.arrays import read_array
from onnxcam.inputs.images import read_picture
from onnxcam.inputs.npy import read_npy

DATA = bytes(range(64))


def npy(header: str | bytes, data: bytes = DATA, version: tuple[int, int] = (1, 0)) -> bytes:
    content = header.encode("latin-1") if isinstance(header, str) else header
    length = struct.pack("<H" if version == (1, 0) else "<I", len(content))
    return b"\x93NUMPY" + bytes(version) + length + content + data


def header(descr: Any = "<f4", fortran: Any = False, shape: Any = (4, 4)) -> str:
    return repr({"descr": descr, "fortran_order": fortran, "shape": shape}) + "\n"


def saved(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(file, array, version)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "|u1", "|i1", "<i2", ">u4", "<i8", "|b1"])
def test_arrays_of_numpy_come_back_bit_for_bit(dtype: str, version: tuple[int, int], tmp_path: Path) -> None:
    base = (np.random.default_rng(0).normal(size=(3, 5, 7)) * 50).astype(dtype)
    for array in (base, np.asfortranarray(base), base[:, ::2], base.transpose(2, 0, 1), base[0, 0, 0].reshape(())):
        data = saved(array, version)
        (tmp_path / "a.npy").write_bytes(data)
        for source in (data, tmp_path / "a.npy", io.BytesIO(data), str(tmp_path / "a.npy")):
            read = read_array(source)
            assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())
            assert read.flags.writeable


def test_headers_as_other_programs_write_them_are_read() -> None:
    expected = np.frombuffer(DATA, "<f4").reshape(4, 4)
    for text in (
        '{"shape":(4,4),"fortran_order":False,"descr":"<f4"}',
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 4L), }          \n",
        "  {'descr':'=f4','fortran_order':False,'shape':(4,4)}\n",
    ):
        assert np.array_equal(read_array(npy(text)), expected, equal_nan=True), text
    assert read_array(npy(header(), DATA + b"more")).shape == (4, 4)


HEADERS: dict[str, str | bytes] = {
    "a huge side": header(shape=(10**400,)), "a side of 5000 digits": "{'descr':'<f4','fortran_order':False,'shape':(" + "9" * 5000 + ",)}",
    "a side that is a bool": header(shape=(True, 16)), "nested": "(" * 9000, "nested lists": "[" * 9000, "minus signs": "-" * 9000 + "1",
    "a negative side": header(shape=(-1, 4)), "two negative sides": header(shape=(-4, -4)), "more than there is": header(shape=(2**20, 2**12)),
    "an overflowing product": header(shape=(2**32, 2**32, 16)), "hidden by a zero": header(shape=(0, 2**62, 2**62)),
    "a side that is a float": header(shape=(4.0, 4)), "a list as shape": header(shape=[4, 4]), "a number as shape": header(shape=16),
    "too many axes": header(shape=(1,) * 65), "no shape": "{'descr': '<f4', 'fortran_order': False}", "another entry": "{'descr':'<f4','fortran_order':False,'shape':(4,4),'x':1}",
    "objects": header("|O"), "records": header([("a", "<f4"), ("b", "<i4")]), "nested records": header([("a", [("b", "<f4")])]), "a sub-array": header(("<f4", (4,))),
    "text": header("<U4"), "bytes": header("|S4"), "void": header("|V4"), "times": header("<M8[ns]"), "complex": header("<c8"), "f3": header("<f3"), "f0": header("<f0"), "f99": header("<f99"),
    "no type": header(None), "a class": header("float"), "a long name": header("<f4" * 500), "two types": header("<f4,<f4"), "a type with a shape": header("(4,)<f4"),
    "order as a number": header(fortran=1), "order as text": header(fortran="False"), "no dict": "3", "a set": "{1, 2}", "nothing": "", "a call": "__import__('os').system('x')",
    "a name": "{'descr': '<f4', 'fortran_order': False, 'shape': x}", "a null": header() + "\0", "bytes that are no text": b"\xff" * 40, "unclosed": "{'descr': '<f4", "a comment": "# x",
    "a backslash": "{'descr': '\\x3cf4', 'fortran_order': False, 'shape': (4,4)}",
    "a key twice": "{'descr':'<f4','descr':'|u1','fortran_order':False,'shape':(1,4,5)}", "line breaks": "\n" * 9000, "brackets": "()" * 4000, "dicts": "{" * 3000, "unary": "{'descr':'<f4','fortran_order':False,'shape':(--4,4)}", "a sum": "{'descr':'<f4','fortran_order':False,'shape':(1+3j,4)}",
}  # fmt: skip
"""Of each kind of damage the header's text."""


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("name", HEADERS)
def test_damaged_headers_are_sentences(name: str, version: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError) as caught:
            read_array(npy(HEADERS[name], version=version))
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"\x93NUMPY", b"\x93NUMPY\1\0", b"\x93NUMPY\1\0\xff\xff", npy(header(), version=(4, 0)), npy(header(), version=(0, 0)), npy(header(), version=(1, 9)), npy(header())[:-1],
     npy(header())[:60], b"PK\3\4" + bytes(60), b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(40), b"\x93NUMPY\2\0" + struct.pack("<I", 2**31) + bytes(40), bytes(200)],
)  # fmt: skip
def test_truncated_and_unknown_files_are_sentences(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    for source in (data, tmp_path / "a.npy"):
        with pytest.raises(PictureError):
            read_array(source)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "a.npy"
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    for data in (path.read_bytes(), pickle.dumps(Bomb())):
        path.write_bytes(data)
        with pytest.raises(PictureError):
            read_array(path)
    assert not (tmp_path / "executed").exists()


def test_an_npz_archive_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(PictureError, match=r"an \.npz archive of several arrays; save the one"):
        read_array(tmp_path / "a.npy")


def test_mutated_files_give_an_array_or_a_sentence() -> None:
    """Two thousand files with a few changed, lost or repeated bytes."""
    rng = np.random.default_rng(20)
    start = saved(np.arange(16, dtype=np.float32).reshape(4, 4))
    for _ in range(2000):
        data = bytearray(start)
        for _ in range(rng.integers(1, 5)):
            place = int(rng.integers(0, len(data))) if rng.random() < 0.3 else int(rng.integers(0, 80))
            action = rng.integers(0, 4)
            if action == 0:
                data[place] = int(rng.integers(0, 256))
            elif action == 1:
                del data[place : place + int(rng.integers(1, 9))]
            elif action == 2:
                data[place:place] = data[place : place + int(rng.integers(1, 40))]
            else:
                data[place : place + 1] = bytes(
                    rng.choice(list(b"(){}[]',:0123456789-<>fiub\n\\ "), 2).astype(np.uint8)
                )
        try:
            array = read_array(bytes(data)) if data else np.zeros(1)
        except OnnxCamError as error:
            assert "\n" not in str(error)
        else:
            assert array.dtype.kind in "fiub"


def bomb() -> bytes:
    """An .npz of a quarter of a megabyte, whose array has 256."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as array:
        np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (2**26,)})
        for _ in range(64):
            array.write(bytes(2**22))
    return file.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nesting": lambda: npy("(" * 9000), "minus signs": lambda: npy("-" * 9000 + "1"), "a zip bomb": bomb,
    "5000 digits": lambda: npy(HEADERS["a side of 5000 digits"]),
    "a warning": lambda: npy("{'descr':'<f4','fortran_order':False,'shape':(4,1if 1else 2)}"),
    "another warning": lambda: npy("{'descr':'<f4','fortran_order':False,'shape':(4,0x4for x in y)}"),
    "a third warning": lambda: npy("{'descr':'<f4','fortran_order':False,'shape':(4,1_0or 4)}"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_sentences_without_a_warning_by_every_way(name: str, tmp_path: Path) -> None:
    data = HOSTILE[name]()
    ways: list[Callable[[], object]] = [lambda: read_npy(io.BytesIO(data), "x"), lambda: read_picture(data)]
    for ending in (".npy", ".npz"):
        path = tmp_path / f"a{ending}"
        path.write_bytes(data)
        ways += [lambda path=path: read_array(path), lambda path=path: read_picture(str(path))]  # type: ignore[misc]
    for way in ways:
        start = time.process_time()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with pytest.raises(PictureError):
                way()
        assert [str(one.message) for one in said] == []
        assert time.process_time() - start < 1
