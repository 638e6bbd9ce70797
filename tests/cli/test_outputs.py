"""Where commands write: a file's ending says its content, and nothing that is read is written over."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from small_models import CLASSIFIER, filled
from typer.testing import CliRunner

from onnxcam.cli.main import app
from onnxcam.errors import OnnxCamError
from onnxcam.outputs.formats import FORMATS

READ = ("net.onnx", "p.png", "q.npy", "labels.txt", "labels.json")
COMMANDS = {
    "explain": ["explain", "net.onnx", "p.png", "--crop", "none"],
    "compare": ["compare", "net.onnx", "p.png", "--crop", "none"],
    "sanity": ["sanity", "net.onnx", "p.png", "--crop", "none"],
    "rewrite": ["rewrite", "net.onnx"],
    "compile": ["compile", "net.onnx", "-q"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(filled(CLASSIFIER), "net.onnx")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 12, 3)).astype(np.uint8)).save("p.png")
    np.save("q.npy", np.zeros((3, 16, 12), np.float32))
    Path("labels.txt").write_text("a\nb\nc\nd\ne\n")
    Path("labels.json").write_text('["a", "b", "c", "d", "e"]')
    return tmp_path


def refused(command: str, *words: str) -> str:
    """The sentence of a call that writes nothing and leaves every file as it was."""
    before = {name: Path(name).read_bytes() for name in READ}
    names = set(os.listdir())
    error = CliRunner().invoke(app, [*COMMANDS[command], *words]).exception
    assert isinstance(error, OnnxCamError), (command, words, error)
    assert {name: Path(name).read_bytes() for name in READ} == before
    assert set(os.listdir()) == names
    return str(error)


@pytest.mark.parametrize(
    ("command", "endings"),
    [
        ("explain", ["x.onnx", "x.gif", "x.bmp", "x.txt", "x"]),
        ("compare", ["x.onnx", "x.jpg", "x.json", "x.npy", "x.txt", "x"]),
        ("sanity", ["x.onnx", "x.jpg", "x.npy", "x.txt", "x"]),
        ("rewrite", ["x.png", "x.jpg", "x.json", "x.npy", "x.ort", "x.pb", "x.txt", "x"]),
    ],
)
def test_no_command_writes_under_the_name_of_another_kind_of_file(
    folder: Path, command: str, endings: list[str]
) -> None:
    for name in endings:
        assert f"output '{name}'" in refused(command, "-o", name)


@pytest.mark.parametrize("name", ["x.onnx", "x.jpg", "x.npy", "x.json", "x.pdf", "x.pt"])
def test_a_named_format_is_not_written_under_the_ending_of_another(folder: Path, name: str) -> None:
    assert "in .png" in refused("explain", "-o", name, "--format", "png")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "a file name is empty"),
        ("s3://bucket/x.png", "nothing is sent"),
        ("https://host/x.onnx", "nothing is sent"),
    ],
)
def test_an_empty_name_and_an_address_are_no_output(folder: Path, command: str, output: str, reason: str) -> None:
    assert reason in refused(command, "-o", output)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_and_a_pipe_of_the_name_are_not_replaced(folder: Path, command: str) -> None:
    ending = ".onnx" if command in ("compile", "rewrite") else ".png"
    os.mkfifo(f"pipe{ending}")
    assert "it is not a regular file" in refused(command, "-o", f"pipe{ending}")
    Path(f"{'net.cam' if command == 'rewrite' else 'made'}{ending}").mkdir()
    os.symlink("/dev/null", f"null{ending}")
    assert "it is not a regular file" in refused(command, "-o", f"null{ending}")


@pytest.mark.parametrize(
    ("command", "words", "read"),
    [
        ("explain", ["--input", "mask=q.npy", "--format", "npy"], "q.npy"),
        ("explain", ["--reference", "q.npy"], "q.npy"),
        ("explain", ["--region", "q.npy", "--target", "1"], "q.npy"),
        ("explain", ["--labels", "labels.json"], "labels.json"),
        ("compare", ["--reference", "p.png"], "p.png"),
        ("sanity", ["--labels", "labels.json"], "labels.json"),
        ("rewrite", [], "net.onnx"),
    ],
)
def test_no_file_that_an_option_reads_is_written_over(folder: Path, command: str, words: list[str], read: str) -> None:
    if command == "compare":
        shutil.copy("p.png", "other.png")
        words, read = ["--reference", "other.png"], "other.png"
    assert "would be overwritten" in refused(command, *words, "-o", read)
    os.link(read, f"link{Path(read).suffix}")
    assert "would be overwritten" in refused(command, *words, "-o", f"link{Path(read).suffix}")


def external(weights: str) -> None:
    """A model in net.onnx that keeps its weights in a file of that name."""
    onnx.save(filled(CLASSIFIER), "net.onnx", save_as_external_data=True, location=weights, size_threshold=0)


@pytest.mark.parametrize(
    ("command", "weights", "words"),
    [
        ("compile", "weights.onnx", ["-o", "weights.onnx"]),
        ("compile", "net.explained.onnx", []),
        ("compile", "weights.onnx", ["-o", "./absent/../weights.onnx"]),
        ("rewrite", "weights.onnx", ["-o", "weights.onnx"]),
        ("rewrite", "net.cam.onnx", []),
        ("explain", "weights.png", ["-o", "weights.png"]),
        ("explain", "weights.npy", ["-o", "weights.npy"]),
        ("sanity", "weights.json", ["-o", "weights.json"]),
        ("compare", "weights.pdf", ["-o", "weights.pdf"]),
    ],
)
def test_the_weights_of_the_model_are_not_written_over(
    folder: Path, command: str, weights: str, words: list[str]
) -> None:
    external(weights)
    before = Path(weights).read_bytes()
    assert "would be overwritten" in refused(command, *words)
    assert Path(weights).read_bytes() == before


@pytest.mark.parametrize("name", ["weights.onnx", "w" * 130 + ".onnx"])
def test_a_link_to_the_weights_and_a_long_name_of_them_are_no_output(folder: Path, name: str) -> None:
    external(name)
    os.symlink(name, "link.onnx")
    os.link(name, "hard.onnx")
    for output in (name, "link.onnx", "hard.onnx"):
        assert "would be overwritten" in refused("compile", "-o", output)


def test_the_weights_in_the_folder_of_triton_are_not_written_over(folder: Path) -> None:
    Path("r/net-grad-cam/1").mkdir(parents=True)
    external("r/net-grad-cam/1/model.onnx")
    before = Path("r/net-grad-cam/1/model.onnx").read_bytes()
    assert "would be overwritten" in refused("compile", "--triton", "r")
    assert Path("r/net-grad-cam/1/model.onnx").read_bytes() == before


@pytest.mark.parametrize("command", ["compile", "rewrite"])
@pytest.mark.parametrize(
    "output", ["./absent/../net.onnx", "absent/./deep/../../net.onnx", ".//net.onnx", "net.onnx/", "net.onnx/."]
)
def test_no_spelling_of_the_model_is_an_output(folder: Path, command: str, output: str) -> None:
    assert "net.onnx" in refused(command, "-o", output)


@pytest.mark.parametrize("command", ["compile", "rewrite"])
def test_a_link_that_leads_to_the_model_through_an_absent_folder_is_no_output(folder: Path, command: str) -> None:
    os.symlink("absent/../net.onnx", "link.onnx")
    assert "would be overwritten" in refused(command, "-o", "link.onnx")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("png", "tiff") else pytest.mark.slow)
        for name in FORMATS
        if name != "npy"
    ],
)
def test_resume_knows_a_whole_file_of_every_format_and_a_cut_one(folder: Path, name: str) -> None:
    words = [*COMMANDS["explain"], "--format", name, "--max-size", "224", "--threshold", "0.4", "--resume", "--json"]
    first = CliRunner().invoke(app, words)
    assert first.exception is None
    (path,) = (Path(each) for each in json.loads(first.stdout)[0]["outputs"])
    written = path.read_bytes()
    assert json.loads(CliRunner().invoke(app, words).stdout) == [], "it was there"
    path.write_bytes(written[: len(written) // 2])
    assert "it does not say of which" in str(CliRunner().invoke(app, words).exception)
    words = [*words, "--overwrite"]
    assert len(json.loads(CliRunner().invoke(app, words).stdout)) == 1
    other = [word if word != "0.4" else "0.6" for word in words]
    assert len(json.loads(CliRunner().invoke(app, other).stdout)) == 1
