"""The small corpus of what the fuzzer has met: each input ends in a typed error or in a right answer from now on."""

import os
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the fuzzer bounds its processes as Linux does")
sys.path.append(str(Path(__file__).parents[2] / "tools"))

from fuzzing.arrays import saved as npy  # noqa: E402
from fuzzing.containers import join_gif, join_jpeg, split_jpeg, split_tiff  # noqa: E402
from fuzzing.kept import Files, Kept  # noqa: E402
from fuzzing.picture_seeds import pictures  # noqa: E402
from fuzzing.seeds import MODEL, built_in  # noqa: E402
from fuzzing.subjects import SUBJECTS  # noqa: E402

from onnxcam import Explainer  # noqa: E402
from onnxcam.errors import ModelError  # noqa: E402
from onnxcam.limits import Limits  # noqa: E402
from onnxcam.surgeon import ir  # noqa: E402
from onnxcam.surgeon.analysis.images import find_image  # noqa: E402


def bands_without_rows() -> Files:
    """A TIFF of JPEG data whose directory has lost its number of rows."""
    return {"picture": join_gif([p for p in split_tiff(pictures()["tiff-jpeg"]) if p[1][:2] != b"\1\1"])}


def restart_interval_that_ends_early() -> Files:
    parts = split_jpeg(pictures()["jpeg-restarts"])
    longest = max((i for i, (kind, _) in enumerate(parts) if not kind), key=lambda i: len(parts[i][1]))
    parts[longest] = b"", parts[longest][1][:4]
    return {"picture": join_jpeg(parts)}


def second_orientation_behind_the_pixels() -> Files:
    """A PNG that is turned, and whose end has become an empty chunk of EXIF, which counts instead."""
    return {"picture": pictures()["png-turned"].replace(b"IEND", b"eXIf")}


def last_block_that_is_incomplete() -> Files:
    """A JPEG that lost ten bytes of its scan, which end within the last block: libjpeg fills that without grey."""
    data = pictures()["jpeg-turned"]
    return {"picture": data[:784] + data[793:]}


def third_page_that_is_damaged() -> Files:
    """A TIFF whose third page has no width. The first page is read, not the last one that is whole."""
    file = BytesIO()
    first = Image.frombytes("L", (24, 20), bytes(range(240)) * 2)
    first.save(file, "TIFF", save_all=True, append_images=[first.rotate(180)] * 2)
    data = bytearray(file.getvalue())
    at = int.from_bytes(data[4:8], "little")
    for _ in range(2):
        count = int.from_bytes(data[at : at + 2], "little")
        at = int.from_bytes(data[at + 2 + 12 * count : at + 6 + 12 * count], "little")
    data[at + 2 : at + 4] = b"\xff\xff"
    return {"picture": bytes(data)}


def mean_that_fills_the_screen() -> Files:
    return {"preprocessor_config.json": b'{"size": 224, "do_normalize": true, "image_mean": "' + b"[" * 3000 + b'"}'}


def tiff_of_five_bytes() -> Files:
    return {"picture": b"II*\0\x08"}


def npy_header_that_ends_in_a_byte_of_the_numbers() -> Files:
    """Python strips a vertical tab, NumPy does not: two bytes are lost, and all numbers were read shifted by them."""
    data = npy(np.arange(16 * 12 * 3, dtype="<u2").reshape(3, 16, 12))
    at = data.index(b"\n")
    return {"array.npy": data[: at - 1] + b"\n\x0b" + data[at + 3 :] + b"\0\0"}


def numbers_beyond_float32() -> Files:
    return {"array.npy": npy(np.full((3, 16, 12), 1e300))}


def long_number_in_a_header_of_version_3() -> Files:
    """Only Python 2 wrote 12L, and no version 3; NumPy refuses it there."""
    data = npy(np.zeros((16, 12, 3), np.uint8), (3, 0))
    return {"array.npy": data.replace(b"12, 3), } ", b"12L, 3), }")}


FINDINGS: dict[Callable[[], Files], str] = {
    last_block_that_is_incomplete: "pictures",
    tiff_of_five_bytes: "pictures",
    npy_header_that_ends_in_a_byte_of_the_numbers: "arrays", numbers_beyond_float32: "arrays",
    long_number_in_a_header_of_version_3: "arrays",
    bands_without_rows: "pictures", second_orientation_behind_the_pixels: "pictures", restart_interval_that_ends_early: "pictures",
    third_page_that_is_damaged: "pictures", mean_that_fills_the_screen: "texts",
}  # fmt: skip
"""What makes the files, and the kind that they are of."""


@pytest.fixture(scope="module")
def kept() -> Iterator[dict[str, Kept]]:
    processes = {kind: Kept(SUBJECTS[kind].check, SUBJECTS[kind].bounds) for kind in set(FINDINGS.values())}
    yield processes
    for process in processes.values():
        process.remove()


@pytest.mark.parametrize("make", FINDINGS, ids=lambda make: make.__name__)
def test_what_failed_once_is_a_typed_error_or_a_right_answer(make: Callable[[], Files], kept: dict[str, Kept]) -> None:
    verdict = kept[FINDINGS[make]].run(make())
    assert verdict.outcome != "failure", verdict


def test_an_input_above_the_limit_of_memory_is_refused_though_nothing_large_is_computed() -> None:
    with pytest.raises(ModelError, match="the input 'x' of shape"):
        Explainer(built_in()["dynamic"][MODEL], size=(224, 65536), cache=False, limits=Limits(memory=2**26))


def test_an_input_of_more_channels_than_can_be_counted_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2147483647,8,8] x) => (float[1,2147483647] y)
        { p = GlobalAveragePool (x)  y = Flatten (p) }"""
    with pytest.raises(ModelError, match="larger than any image"):
        find_image(ir.from_proto(onnx.parser.parse_model(text)), "NCHW")
