"""`-` is standard input where a file is read, and standard output behind -o, byte for byte."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import files, write_photos
from PIL import Image
from small_models import CLASSIFIER, filled
from terminal import on_terminal
from typer.testing import CliRunner

from onnxcam.cli.main import app

METHOD = ["-m", "grad-cam", "--preset", "raw"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipes")
    onnx.save(filled(CLASSIFIER), path / "tiny.onnx")
    write_photos(path, ["a.png", "b.png"])
    return path


def piped(folder: Path, *words: str, data: bytes = b"") -> tuple[bytes, str, int]:
    """(standard output, standard error, exit code)"""
    done = subprocess.run([sys.executable, "-m", "onnxcam", *words], cwd=folder, input=data, capture_output=True)
    return done.stdout, done.stderr.decode(), done.returncode


def test_a_picture_goes_in_and_its_map_comes_out_as_from_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(folder)
    picture = (folder / "a.png").read_bytes()
    words = ["explain", "tiny.onnx", "-", "-o", "-", "--format", "npy", *METHOD]
    out, err, code = piped(folder, *words, data=picture)
    assert code == 0, err
    assert "stdin -> " in err, "what is printed goes beside the bytes"
    assert files(folder) == before
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["explain", "tiny.onnx", "a.png", "-o", "map.npy", *METHOD])
    assert done.exit_code == 0, done.exception
    assert out == (folder / "map.npy").read_bytes()
    assert np.load(io.BytesIO(out)).shape == np.load(folder / "map.npy").shape


@pytest.mark.slow
def test_a_model_goes_in_and_the_rewritten_one_comes_out(folder: Path) -> None:
    out, err, code = piped(folder, "rewrite", "-", "-o", "-", data=(folder / "tiny.onnx").read_bytes())
    assert code == 0, err
    assert len(onnx.load_model_from_string(out).graph.output) == 2


@pytest.mark.slow
def test_without_o_the_files_are_named_by_stdin(folder: Path, tmp_path: Path) -> None:
    os.link(folder / "tiny.onnx", tmp_path / "tiny.onnx")
    _, err, code = piped(tmp_path, "explain", "tiny.onnx", "-", *METHOD, data=(folder / "a.png").read_bytes())
    assert code == 0, err
    assert files(tmp_path) == {"tiny.onnx", "stdin.grad-cam.png"}
    assert Image.open(tmp_path / "stdin.grad-cam.png").format == "PNG"


@pytest.mark.parametrize(
    ("words", "data", "message"),
    [
        (["explain", "tiny.onnx", "-"], b"", "standard input (-) is empty (0 bytes)"),
        (["explain", "-", "-"], b"x", "it is named twice"),
        (["explain", "tiny.onnx", "a.png", "-o", "-", "--json"], b"", "both write to standard output"),
        (["explain", "tiny.onnx", ".", "--watch", "-o", "-"], b"", "--watch those of many pictures; give -o a folder"),
        pytest.param(
            ["explain", "tiny.onnx", "a.png", "-o", "-", "--target", "top2", *METHOD],
            b"",
            "this command makes 2",
            marks=pytest.mark.slow,
        ),
        pytest.param(["explain", "tiny.onnx", "-"], b"no picture", "stdin: ", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_piped_is_said_and_writes_nothing(
    folder: Path, words: list[str], data: bytes, message: str
) -> None:
    out, err, code = piped(folder, *words, data=data)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    if "--json" not in words:
        assert out == b""


@pytest.mark.slow
def test_a_terminal_is_no_pipe(folder: Path) -> None:
    for words, message in (
        (["explain", "tiny.onnx", "-"], "standard input (-) is a terminal"),
        (["explain", "tiny.onnx", "a.png", "-o", "-"], "standard output is a terminal"),
    ):
        text, code = on_terminal([sys.executable, "-m", "onnxcam", *words], folder)
        assert code == 1
        assert message in text.decode()
