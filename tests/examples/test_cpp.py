"""The C++ examples: compiled, run on a PPM, and their map against the product's.

`pip install openvino` has the headers and the libraries of one; ORT_INCLUDE names the folder of ONNX Runtime's headers
for the other, which links the library of the wheel.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hosts import METHODS, PICTURE, TARGETS, host_case
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples" / "cpp"
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror")


def build(source: str, folder: Path, headers: Path, libraries: Path, library: str) -> Path:
    """The program, which finds the libraries in their folder."""
    program = folder / source.removesuffix(".cpp")
    words = ["g++", *FLAGS, "-isystem", headers, EXAMPLES / source, libraries / library, f"-Wl,-rpath,{libraries}"]
    done = subprocess.run([*map(str, words), "-o", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def openvino_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import openvino

    package = Path(openvino.__file__).parent
    (library,) = (package / "libs").glob("libopenvino.so.*")
    return build(
        "explain_openvino.cpp", tmp_path_factory.mktemp("ov"), package / "include", library.parent, library.name
    )


@pytest.fixture(scope="module")
def onnxruntime_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ort")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (folder / "libonnxruntime.so.1").symlink_to(library)  # the name by which the library calls itself
    return build("explain_ort.cpp", folder, Path(os.environ["ORT_INCLUDE"]), folder, "libonnxruntime.so.1")


def read_pfm(path: Path) -> np.ndarray:
    kind, sides, scale, data = path.read_bytes().split(b"\n", 3)
    assert (kind, scale) == (b"Pf", b"-1.0")
    width, height = map(int, sides.split())
    return np.frombuffer(data, "<f4").reshape(height, width)[::-1]


def check(program: Path, method: str, tolerance: float, folder: Path) -> None:
    """The program's map is the product's, and its overlay shows the map on the picture."""
    case = host_case(method, raw=True)
    case.compiled.save(folder / "model.onnx")
    Image.fromarray(PICTURE).save(folder / "photo.ppm")
    session = onnxruntime.InferenceSession(case.compiled.bytes, providers=["CPUExecutionProvider"])
    for number, target in enumerate(TARGETS):
        words = [program, "model.onnx", "photo.ppm", "overlay.ppm", str(target), "map.pfm"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        case.check(number, read_pfm(folder / "map.pfm"), int(done.stdout.removeprefix("class ")), tolerance)
        feeds = {"picture": PICTURE, "target": np.array([target], np.int64)}
        (saliency,) = session.run(["saliency_picture"], feeds)[0]
        colors = 255 * np.clip(1.5 - np.abs(4 * saliency[..., None] - [3, 2, 1]), 0, 1)
        shown = np.asarray(Image.open(folder / "overlay.ppm"), np.float32)
        np.testing.assert_allclose(shown, 0.5 * PICTURE + 0.5 * colors, atol=0.51 + 510 * tolerance)


def check_refusals(program: Path, folder: Path) -> None:
    """A file that is no picture, one that ends early, and one that is not there: a sentence, and exit code 1."""
    host_case("grad-cam", raw=True).compiled.save(folder / "model.onnx")
    (folder / "text.ppm").write_text("P3 1 1 255 0 0 0")
    (folder / "short.ppm").write_bytes(b"P6\n# a comment\n4 4\n255\n12345")
    for name, words in (("text", "is no PPM"), ("short", "ends too early"), ("absent", "is no PPM")):
        done = subprocess.run(
            [program, "model.onnx", f"{name}.ppm", "overlay.ppm"], cwd=folder, capture_output=True, text=True, timeout=300
        )  # fmt: skip
        assert done.returncode == 1
        assert words in done.stderr
    assert not (folder / "overlay.ppm").exists()


@pytest.mark.cpp
@pytest.mark.parametrize("method", METHODS)
def test_openvino_in_cpp_gives_the_product_s_map(method: str, openvino_program: Path, tmp_path: Path) -> None:
    check(openvino_program, method, 1e-4, tmp_path)


@pytest.mark.cpp
def test_openvino_in_cpp_refuses_what_is_no_picture(openvino_program: Path, tmp_path: Path) -> None:
    check_refusals(openvino_program, tmp_path)


@pytest.mark.ort_headers
@pytest.mark.parametrize("method", METHODS)
def test_onnxruntime_in_cpp_gives_the_product_s_map(method: str, onnxruntime_program: Path, tmp_path: Path) -> None:
    check(onnxruntime_program, method, 1e-5, tmp_path)


@pytest.mark.ort_headers
def test_onnxruntime_in_cpp_refuses_what_is_no_picture(onnxruntime_program: Path, tmp_path: Path) -> None:
    check_refusals(onnxruntime_program, tmp_path)
