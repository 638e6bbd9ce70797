"""The Python example, which needs onnxruntime, NumPy and Pillow, and no onnxcam."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hosts import METHODS, PICTURE, TARGETS, host_case
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "python" / "explain.py"
UPRIGHT_BY = 6
"""EXIF's orientation of a picture that is turned by a quarter, clockwise, to be upright."""


@pytest.fixture(scope="module")
def example() -> dict[str, Callable[..., Any]]:
    return runpy.run_path(str(EXAMPLE))


@pytest.mark.parametrize("method", METHODS)
def test_the_map_is_the_product_s(method: str, example: dict[str, Callable[..., Any]]) -> None:
    case = host_case(method, raw=True)
    session = onnxruntime.InferenceSession(case.compiled.bytes, providers=["CPUExecutionProvider"])
    for number, target in enumerate(TARGETS):
        answer = example["explain"](session, PICTURE, target)
        case.check(number, answer["saliency_map"][0], int(answer["saliency_target"][0]), 1e-5)


def test_pictures_are_upright_and_over_white(example: dict[str, Callable[..., Any]], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT_BY
    Image.fromarray(np.rot90(PICTURE)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(example["read_picture"](tmp_path / "turned.png"), PICTURE)
    opacity = np.full(PICTURE.shape[:2], 255, np.uint8)
    opacity[:10] = 0
    Image.fromarray(np.dstack([PICTURE, opacity])).save(tmp_path / "half.png")
    expected = PICTURE.copy()
    expected[:10] = 255
    np.testing.assert_array_equal(example["read_picture"](tmp_path / "half.png"), expected)


def test_the_command_draws_the_map_without_onnxcam(tmp_path: Path) -> None:
    case = host_case("grad-cam", raw=True)
    case.compiled.save(tmp_path / "model.onnx")
    Image.fromarray(PICTURE).save(tmp_path / "photo.png")
    words = ["model.onnx", "photo.png", "overlay.png", "2"]
    script = f"""
import runpy, sys
sys.argv = ["explain.py", *{words}]
runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
assert not [name for name in sys.modules if name.split(".")[0] in ("onnxcam", "onnx", "onnx_ir", "cv2")]
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "class 2: overlay.png\n"
    session = onnxruntime.InferenceSession(case.compiled.bytes, providers=["CPUExecutionProvider"])
    (saliency,) = session.run(["saliency_picture"], {"picture": PICTURE, "target": np.array([2], np.int64)})[0]
    shown = np.asarray(Image.open(tmp_path / "overlay.png"), np.float32)
    assert shown.shape == PICTURE.shape
    top, least = (
        np.unravel_index(saliency.argmax(), saliency.shape),
        np.unravel_index(saliency.argmin(), saliency.shape),
    )
    for place, color in ((top, (255 * 0.5, 0, 0)), (least, (0, 0, 255 * 0.5))):
        painted = shown[place] - 0.5 * PICTURE[place]
        value = float(saliency[place])
        expected = 127.5 * np.clip([1.5 - abs(4 * value - c) for c in (3, 2, 1)], 0, 1)
        np.testing.assert_allclose(painted, expected, atol=0.51)
        assert np.argmax(painted) == np.argmax(color)


def test_a_file_without_raw_is_refused_in_a_sentence(example: dict[str, Callable[..., Any]]) -> None:
    session = onnxruntime.InferenceSession(
        host_case("grad-cam", raw=False).compiled.bytes, providers=["CPUExecutionProvider"]
    )
    with pytest.raises(SystemExit, match="compile the model with --raw"):
        example["explain"](session, PICTURE)
