"""With --json, an error that ends a command is JSON on standard output; the line for people and the exit code stay."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from command import onnxcam, write_photos
from small_models import CLASSIFIER, filled

from onnxcam import errors
from onnxcam.cli.main import app, run

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
WRONG = {
    "explain": [("none.onnx", "photo.png"), ("tiny.onnx", "none.png"), ("tiny.onnx", "photo.png", "--target", "99")],
    "compare": [("tiny.onnx", "none.png"), ("tiny.onnx", "photo.png", "-m", "none")],
    "sanity": [("tiny.onnx", "photo.png", "other.png", "photo.png", "--order", "none")],
    "predict": [("tiny.onnx", "none.png"), ("tiny.onnx", "photo.png", "--top", "0"), ("tiny.onnx", "broken.png")],
    "inspect": [("none.onnx",), ("photo.png",)],
    "rewrite": [("none.onnx",), ("tiny.onnx", "-o", "tiny.onnx")],
    "compile": [("tiny.onnx", "-m", "none"), ("none.onnx",)],
    "evaluate": [("none/",), ("tiny.onnx", "none/")],
    "demo": [("-m", "none")],
}
"""Words of every command that opens something, which end in an OnnxCamError."""
FLAT = """<ir_version: 8, opset_import: ["" : 17]> flat (float[N, 3, 16, 12] image) => (float[N, 2] scores)
<float[576, 2] weights> { rows = Flatten(image)  scores = MatMul(rows, weights) }"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(filled(CLASSIFIER), tmp_path / "tiny.onnx")
    write_photos(tmp_path, ["photo.png", "other.png"])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """(exit code, the document on standard output, standard error)"""
    monkeypatch.setattr(sys, "argv", ["onnxcam", *words])
    code = 0
    try:
        run()
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, json.loads(out), err


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_of_every_command_is_one_json_document_and_a_line(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert any(p.name == "json" for p in COMMANDS[name].params)
    assert name in WRONG or name in ("methods", "metrics")  # which open nothing
    for words in WRONG.get(name, []):
        code, document, err = outcome((name, *words, "--json"), monkeypatch, capsys)
        assert code == 1
        error = document["error"]
        assert issubclass(getattr(errors, error["type"]), errors.OnnxCamError)
        assert f"error: {error['message']}" in err
    code, document, err = outcome((name, "--json", "--none"), monkeypatch, capsys)
    assert (code, document["error"]["type"]) == (2, "UsageError")
    assert f"error: {document['error']['message']}" in err


def test_an_error_after_some_pictures_is_the_last_element_of_their_list(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("explain", "tiny.onnx", "photo.png", "broken.png", "-m", "grad-cam", "--preset", "raw", "--json")
    code, (first, last), err = outcome(words, monkeypatch, capsys)
    assert (code, first["image"], last["error"]["type"]) == (1, "photo.png", "PictureError")
    assert last["error"]["message"] in err
    code, (first, last), err = outcome((*words, "--keep-going"), monkeypatch, capsys)
    assert (code, first["image"], last["error"]["type"]) == (1, "photo.png", "SkippedPictures")
    assert last["error"]["message"] == "skipped 1 of 2 pictures:"
    assert [line.partition(":")[0] for line in last["error"]["details"]] == ["broken.png"]


def test_evaluate_prints_its_tables_and_the_error_in_one_document(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = onnx.parser.parse_model(FLAT)
    flat.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((576, 2), np.float32), "weights"))
    onnx.save(flat, "wrong.onnx")
    words = ("evaluate", "tiny.onnx", "wrong.onnx", "photo.png", "-m", "grad-cam", "--metrics", "sparseness")
    code, document, err = outcome((*words, "--preset", "raw", "--no-report", "--json"), monkeypatch, capsys)
    assert code == 1
    assert document["error"]["type"] == "ModelsNotOpened"
    assert document["files"]
    assert document["error"]["message"] in err


def test_json_behind_two_dashes_is_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["onnxcam", "inspect", "--", "--json"])
    with pytest.raises(SystemExit, match="1"):
        run()
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_an_isolated_command_prints_the_error_once(folder: Path) -> None:
    done = onnxcam("inspect", "none.onnx", "--isolated", "--json", cwd=folder)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["type"] == "ModelError"
