"""Pillow's warning of large pictures reaches nobody, though the process's warnings stay as they are."""

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.inputs import unwarned
from onnxcam.inputs.images import read_picture

HIGH, WIDE = 24, 32
PIXELS = np.random.default_rng(0).integers(0, 40, (HIGH, WIDE), np.uint8)


def gif(canvas: tuple[int, int] = (WIDE, HIGH), disposal: int = 0, place: tuple[int, int] = (0, 0)) -> bytes:
    """Two frames; of the first how it is disposed of and where it lies."""
    file = io.BytesIO()
    frames = [Image.fromarray(np.roll(PIXELS, i, 1)).convert("P") for i in (0, 9)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=50, disposal=disposal)
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack("<HH", *canvas)
    at = data.index(b",", 13 + 3 * 2 ** (data[10] % 8 + 1))
    data[at + 1 : at + 5] = struct.pack("<HH", *place)
    return bytes(data)


@pytest.mark.parametrize("disposal", range(4))
@pytest.mark.parametrize(
    ("canvas", "place"), [((WIDE, HIGH), (0, 0)), ((5, 7), (0, 0)), ((40, 30), (3, 4)), ((9, 9), (7, 1))]
)
def test_the_first_frame_of_a_large_gif_is_that_of_pillow(
    canvas: tuple[int, int], place: tuple[int, int], disposal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = gif(canvas, disposal, place)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_picture(data), expected)
    monkeypatch.setattr(unwarned, "PILLOWS", 10)
    np.testing.assert_array_equal(read_picture(data), expected)


def test_a_frame_beyond_every_canvas_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwarned, "PILLOWS", 10)
    with pytest.raises(PictureError, match="outside of the picture"):
        read_picture(gif(place=(65_530, 0)))


CODE = """
import sys, warnings
from onnxcam import read_picture
before = list(warnings.filters)
for path in sys.argv[1:]:
    print(read_picture(path).shape)
assert warnings.filters == before
"""


@pytest.mark.slow
def test_no_warning_is_printed(tmp_path: Path) -> None:
    """In a process of its own, whose filters are Python's."""
    paths: dict[str, Any] = {"a.tif": None, "disposed.gif": gif((WIDE, HIGH), 2), "grown.gif": gif()}
    Image.new("1", (9_500, 9_500)).save(tmp_path / "a.tif")
    for name, data in paths.items():
        if data is None:
            continue
        content = bytearray(data)
        at = content.index(b",", 13 + 3 * 2 ** (content[10] % 8 + 1))
        if name == "disposed.gif":
            content[6:10] = struct.pack("<HH", 9_500, 9_500)
            content[at + 5 : at + 9] = struct.pack("<HH", 9_500, 9_500)
        else:
            content[at + 1 : at + 5] = struct.pack("<HH", 9_500 - WIDE, 9_500 - HIGH)
        (tmp_path / name).write_bytes(content)
    for name in paths:
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(tmp_path / name)], capture_output=True, text=True, check=False
        )
        assert "DecompressionBombWarning" not in done.stderr, name
        assert ("damaged" in done.stderr) == (name == "disposed.gif")
