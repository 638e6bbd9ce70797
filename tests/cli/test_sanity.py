"""`onnxcam sanity`: what it prints, what it writes, and what it refuses."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from small_models import CLASSIFIER, filled
from typer.testing import CliRunner

from onnxcam.cli.main import app
from onnxcam.cli.options import MethodArgs
from onnxcam.cli.parsing import build_methods, parse_integers
from onnxcam.cli.sanity_summary import sanity_lines
from onnxcam.errors import OnnxCamError, OptionError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and three pictures, in which the command runs; the cache is beside it."""
    onnx.save(filled(CLASSIFIER, 3), tmp_path / "net.onnx")
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 30, 3), np.uint8)).save(tmp_path / f"p{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "cache"))
    return tmp_path


PICTURES = ["p0.png", "p1.png", "p2.png"]
METHODS = ["--method", "gradient,grad-cam"]


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["sanity", "net.onnx", *words, "--overwrite"])
    if isinstance(result.exception, OnnxCamError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_folder_gets_the_figure_and_the_record_and_the_cache_nothing(folder: Path) -> None:
    text = run(*PICTURES, *METHODS, "--steps", "all", "-o", "out/")
    assert {path.name for path in (folder / "out").iterdir()} == {"net.sanity.png", "net.sanity.json"}
    assert not (folder / "cache").exists()
    record = json.loads((folder / "out/net.sanity.json").read_text())
    assert [method["method"] for method in record["methods"]] == ["gradient", "grad-cam"]
    assert all(f"{m['method']:9}{m['verdict']}" in text for m in record["methods"])
    assert "rule: mean Spearman" in text
    width, height = Image.open(folder / "out/net.sanity.png").size
    assert width > 1000
    assert height > 500


def test_json_is_all_that_is_printed_and_holds_the_verdict(folder: Path) -> None:
    record = json.loads(run(*PICTURES, *METHODS, "--seed", "0,1", "--order", "independent", "--redraw", "he", "--json"))
    assert record["verdict"] == "undecided"
    assert (record["order"], record["redraw"], record["seeds"]) == ("independent", "he", [0, 1])
    assert record["outputs"] == ["net.sanity.png"]
    assert (folder / "net.sanity.png").exists()


@pytest.mark.parametrize(
    ("name", "begins"), [("f.pdf", b"%PDF"), ("f.svg", b"<?xml"), ("f.json", b"{"), ("f.png", b"\x89PNG")]
)
def test_a_file_is_of_the_kind_that_its_name_says(folder: Path, name: str, begins: bytes) -> None:
    run(*PICTURES, *METHODS, "--steps", "1", "-o", name)
    assert (folder / name).read_bytes().startswith(begins)


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"] + ["matplotlib", "matplotlib.figure"]:
        monkeypatch.setitem(sys.modules, name, None)


def invoked(*words: str) -> Any:
    return CliRunner().invoke(app, ["sanity", "net.onnx", *words, "--overwrite"])


@pytest.mark.usefixtures("without_matplotlib")
@pytest.mark.parametrize(
    ("words", "written", "noted"),
    [
        (["--json"], [], False),
        ([], [], True),
        (["-o", "q.json"], ["q.json"], False),
        (["-o", "out/"], ["net.sanity.json"], True),
    ],
)
def test_without_matplotlib_the_numbers_still_come(
    folder: Path, words: list[str], written: list[str], noted: bool
) -> None:
    result = invoked(*PICTURES, *METHODS, *words)
    assert result.exit_code == 0, result.output
    assert ("no figure is drawn; a figure needs matplotlib: pip install 'onnxcam[plot]'" in result.stderr) is noted
    assert [path.name for path in folder.rglob("*") if path.name.startswith(("net.sanity", "q."))] == written


@pytest.mark.usefixtures("without_matplotlib")
def test_a_figure_that_is_named_needs_matplotlib_before_any_work(folder: Path) -> None:
    (folder / "net.onnx").unlink()
    with pytest.raises(OptionError, match="needs matplotlib"):
        run(*PICTURES, *METHODS, "-o", "q.png")


def test_what_decides_nothing_is_said_before_the_work(folder: Path) -> None:
    assert "undecided:\n  1 picture is fewer than 3" in invoked("p0.png", *METHODS).stderr
    assert (
        "unless the model has no more layers:\n  models at 2 layers"
        in invoked(*PICTURES, *METHODS, "--steps", "2").stderr
    )
    assert "undecided:\n  the rule is for the top-down" in invoked(*PICTURES, *METHODS, "--order", "independent").stderr
    assert invoked(*PICTURES, *METHODS, "--steps", "all").stderr == ""
    assert invoked("p0.png", *METHODS, "--quiet").stderr == ""


def test_the_summary_names_what_is_explained_and_fits_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[Any] = []
    monkeypatch.setattr(sys.modules["onnxcam.cli.sanity"], "sanity_lines", lambda *words: reports.append(words) or [])
    run("p0.png", "--method", "integrated-gradients,grad-cam", "--steps", "1", "-o", "q.json")
    target = json.loads((folder / "q.json").read_text())["methods"][0]["targets"][0]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = sanity_lines(*reports[0])
    assert max(map(len, lines)) <= 80
    assert lines[0] == "net.onnx"
    assert "  1 picture, 3 layers, 1 model with weights drawn again" in lines
    assert f"  p0.png: class {target['index']}: {target['probability']:.1%}" in lines
    words = " ".join(" ".join(lines).split())
    assert "legend: Spearman (mean, range)" in words
    assert "Other pictures and classes: how alike the intact model's maps are" in words
    head = next(line for line in lines if "Spearman " in line and "HOG" in line)
    row = next(line for line in lines if line.startswith("  grad-cam  "))
    assert row[head.index("HOG") :].split()[1] == "-", "one picture has no other pictures"


def test_preprocessing_that_is_assumed_is_said_first_and_recorded(folder: Path) -> None:
    lines = run(*PICTURES, *METHODS, "-o", "q.json").splitlines()
    assert lines[1].startswith("  preprocessing assumed: imagenet; if that is wrong")
    record = json.loads((folder / "q.json").read_text())
    assert (record["preset"]["name"], record["preset"]["origin"]["source"]) == ("imagenet", "assumed")
    lines = run(*PICTURES, *METHODS, "-o", "q.json", "--preset", "clip").splitlines()
    assert any(line.startswith("  preprocessing: clip (") for line in lines)
    assert not any("assumed" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["-o", "p0.png"], "is an input of this very call"),
        (["-o", "figure.gif"], "ends in .png, .pdf, .svg, .json"),
        (["--steps", "some"], "--steps"),
        (["--steps", "1,2"], "one number, or all"),
        (["--seed", "-1"], "--seed"),
        (["--order", "bottom-up"], "top-down"),
        (["--redraw", "zero"], "shuffle"),
        (["--target", "1,2"], "one target"),
        (["--step", "net.onnx"], "intact weights"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, words: list[str], problem: str) -> None:
    before = (folder / "p0.png").read_bytes()
    with pytest.raises(OnnxCamError) as raised:
        run(*PICTURES, *METHODS, *words)
    assert problem in str(raised.value)
    assert (folder / "p0.png").read_bytes() == before


def test_an_option_goes_to_the_methods_that_have_it() -> None:
    score_cam, grad_cam = build_methods(MethodArgs(method="score-cam, grad-cam", fast=True))
    assert (score_cam.options["tolerance"], grad_cam.name) == (0.02, "grad-cam")
    with pytest.raises(OptionError, match="none of gradient, grad-cam has an option 'budget'"):
        build_methods(MethodArgs(method="gradient,grad-cam", budget=3))
    with pytest.raises(OptionError, match="--fast is for score-cam"):
        build_methods(MethodArgs(method="gradient,grad-cam", fast=True))


def test_integers_are_read_with_commas() -> None:
    assert parse_integers("0, 7", "seed") == [0, 7]
    with pytest.raises(OptionError, match="--seed"):
        parse_integers("1.5", "seed")
