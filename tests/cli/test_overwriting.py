"""No command replaces a file that another call wrote, unless --overwrite says so."""

import json
import os
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import files, write_photos
from PIL import Image
from typer.testing import CliRunner

from onnxcam.cli.main import app
from onnxcam.cli.overwriting import signed_model, without_places
from onnxcam.errors import OnnxCamError, OutputError
from onnxcam.outputs.completeness import is_written_map, made_of
from onnxcam.surgeon.metadata import INPUTS

LABELS = "ant\nbee\ncat\ndog\nelk\n"


@pytest.fixture
def folder(classifier: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiny.onnx, other.onnx, labels.txt, and photos/ with a.png and b.png; the working directory."""
    monkeypatch.chdir(tmp_path)
    onnx.save(classifier, "tiny.onnx")
    other = onnx.load("tiny.onnx")
    other.doc_string = "another file"
    onnx.save(other, "other.onnx")
    Path("labels.txt").write_text(LABELS)
    write_photos(tmp_path / "photos", ["a.png", "b.png"])
    return tmp_path


def call(*words: str) -> str:
    """Standard output of a call that succeeds."""
    done = CliRunner().invoke(app, words)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def explain(*words: str) -> str:
    return call("explain", "tiny.onnx", "photos/a.png", "-m", "grad-cam", *words)


def refused(*words: str) -> str:
    """The sentence of a call that changes nothing."""
    before = contents()
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, OutputError), error
    assert contents() == before
    return str(error)


def contents() -> dict[str, bytes]:
    return {name: Path(name).read_bytes() for name in files(Path())}


NAMES = {
    "the default": ([], "a.grad-cam.png"),
    "a target": (["--target", "cat", "--labels", "labels.txt"], "a.cat.grad-cam.png"),
    "an index": (["--target", "2"], "a.2.grad-cam.png"),
    "a rank": (["--target", "rank2"], "a.rank2.grad-cam.png"),
    "the usual layer": (["--layer", "auto"], "a.grad-cam.png"),
    "a layer": (["--layer", "last-conv"], "a.grad-cam.last-conv.png"),
    "target and layer": (["--target", "2", "--layer", "last-conv"], "a.2.grad-cam.last-conv.png"),
    "a name": (["--target", "2", "--layer", "last-conv", "-o", "map.png"], "map.png"),
}


@pytest.mark.parametrize(("words", "name"), NAMES.values(), ids=NAMES)
def test_a_name_holds_what_was_chosen(folder: Path, words: list[str], name: str) -> None:
    before = files(folder)
    explain(*words, "-q")
    assert files(folder) - before == {name}


def test_targets_and_layers_of_several_calls_stay_apart(folder: Path) -> None:
    before = files(folder)
    for words, _ in list(NAMES.values())[:-1]:
        if words != ["--layer", "auto"]:
            explain(*words, "-q")
    assert files(folder) - before == {name for _, name in NAMES.values()} - {"map.png"}


def test_the_same_call_replaces_its_files_and_one_that_only_measures_more_too(folder: Path) -> None:
    words = ["--format", "png,npy,json", "-q"]
    explain(*words)
    explain(*words)
    explain(*words, "--threads", "1", "--batch", "2")
    explain(*words, "--metrics", "sparseness")
    assert json.loads(Path("a.grad-cam.json").read_text())["metrics"]["sparseness"]["value"] is not None


OTHERS = {
    "an option": ["tiny.onnx", "photos/a.png", "--alpha", "0.3"],
    "a picture of the same name": ["tiny.onnx", "other/a.png"],
    "a layer's word": ["tiny.onnx", "photos/a.png", "--layer", "auto"],
}


@pytest.mark.parametrize("words", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("form", ["png", "json", "webp"])
def test_a_file_of_another_call_is_replaced_only_where_that_is_said(folder: Path, words: list[str], form: str) -> None:
    write_photos(folder / "other", ["b.png", "a.png"])
    command = ["explain", *words, "-m", "grad-cam", "--format", form]
    explain("--format", form, "-q")
    message = refused(*command)
    assert message.startswith(f"a.grad-cam.{form} is there, of another call")
    assert "--overwrite replaces it" in message
    assert "-o" in message
    before = Path(f"a.grad-cam.{form}").read_bytes()
    lines = call(*command, "--overwrite").splitlines()
    assert lines[-1].startswith("1 picture (1 replaced: made of another picture, model or options), ")
    assert Path(f"a.grad-cam.{form}").read_bytes() != before
    call(*command, "-q")


def test_what_does_not_say_what_it_was_made_of_is_not_replaced(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save("a.grad-cam.png")
    np.save("mine.npy", np.zeros((16, 12), np.float32))
    Path("mine.json").write_text("[]")
    command = ["explain", "tiny.onnx", "photos/a.png", "-m", "grad-cam"]
    assert refused(*command).startswith("a.grad-cam.png is there")
    assert refused(*command, "-o", "mine.npy").startswith("mine.npy is there")
    assert refused(*command, "-o", "mine.json").startswith("mine.json is there")
    os.symlink("mine.json", "link.json")
    assert refused(*command, "-o", "link.json").startswith("link.json is there")


def test_nothing_is_explained_before_the_only_picture_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explain("-q")
    monkeypatch.setattr("onnxcam.explainer.explainer.Explainer._forward", None)
    assert "--overwrite" in refused("explain", "tiny.onnx", "photos/a.png", "-m", "grad-cam", "--alpha", "0.3")


def test_each_picture_of_a_folder_is_refused_for_itself(folder: Path) -> None:
    command = ["explain", "tiny.onnx", "photos", "-m", "grad-cam", "-o", "maps/"]
    call("explain", "tiny.onnx", "photos/b.png", "-m", "grad-cam", "-o", "maps/", "--alpha", "0.3", "-q")
    before = Path("maps/b.grad-cam.png").read_bytes()
    error = CliRunner().invoke(app, command).exception
    assert str(error).startswith("photos/b.png: maps/b.grad-cam.png is there, of another call")
    assert str(error).endswith("; 1 of 2 pictures was written")
    error = CliRunner().invoke(app, [*command, "--keep-going"]).exception
    assert isinstance(error, OnnxCamError)
    assert str(error).splitlines()[0] == "skipped 1 of 2 pictures:"
    assert Path("maps/b.grad-cam.png").read_bytes() == before
    assert call(*command, "--overwrite").splitlines()[-1].startswith("2 pictures (1 replaced: ")
    assert call(*command, "--resume").splitlines()[-1].startswith("0 pictures, 2 complete before, ")


COMMANDS = {
    "compare": (["compare", "tiny.onnx", "photos/a.png", "-m", "grad-cam"], ["a.compare.png"], ["--alpha", "0.3"]),
    "compare, print": (["compare", "tiny.onnx", "photos", "-m", "cam", "-o", "x.pdf"], ["x.pdf"], ["--width", "5"]),
    "compare, lines": (["compare", "tiny.onnx", "photos", "-m", "cam", "-o", "x.svg"], ["x.svg"], ["--layer", "auto"]),
    "sanity": (
        ["sanity", "tiny.onnx", "photos/a.png", "-m", "grad-cam", "--steps", "1", "-o", "out/"],
        ["out/tiny.sanity.json", "out/tiny.sanity.png"],
        ["--seed", "1"],
    ),
    "rewrite": (["rewrite", "tiny.onnx"], ["tiny.cam.onnx"], ["--layer", "last-conv"]),
    "compile": (["compile", "tiny.onnx", "-m", "cam"], ["tiny.explained.onnx"], ["--target", "2"]),
    "triton": (
        ["compile", "tiny.onnx", "-m", "cam", "--triton", "r"],
        ["r/tiny-cam/1/model.onnx", "r/tiny-cam/config.pbtxt"],
        ["--target", "2"],
    ),
}


@pytest.mark.parametrize(
    ("words", "names", "change"),
    [pytest.param(*one, marks=pytest.mark.slow if "," in name else (), id=name) for name, one in COMMANDS.items()],
)
def test_every_command_replaces_the_files_of_the_same_call_alone(
    folder: Path, words: list[str], names: list[str], change: list[str]
) -> None:
    before = files(folder)
    call(*words, "-q")
    assert sorted(files(folder) - before) == names
    call(*words, "-q")
    assert refused(*words, *change).split(" is there, of another call")[0] in names
    call(*words, *change, "--overwrite", "-q")
    call(*words, *change, "-q")
    assert "--overwrite replaces it" in refused(*words)
    for name in names:
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[: len(whole) // 2])
        assert refused(*words, *change).startswith(f"{name} is there")
        Path(name).write_bytes(whole)


@pytest.mark.parametrize("command", ["compare", "rewrite"])
def test_other_content_under_the_same_name_is_another_call(folder: Path, command: str) -> None:
    words, (name,), _ = COMMANDS[command]
    call(*words, "-q")
    os.replace("photos/b.png" if command == "compare" else "other.onnx", words[2 if command == "compare" else 1])
    assert refused(*words).startswith(f"{name} is there")


def test_where_and_how_fast_it_runs_and_where_the_files_lie_make_no_other_call(folder: Path) -> None:
    call("compare", "tiny.onnx", "photos", "-m", "cam", "-o", "x.png", "-q")
    before = made_of([{"png": Path("x.png")}])
    os.rename("photos", "moved")
    words = ["--threads", "1", "--batch", "2", "--timeout", "60", "--json"]
    call("compare", str(folder / "tiny.onnx"), "moved", "-m", "cam", "-o", str(folder / "x.png"), *words)
    assert made_of([{"png": Path("x.png")}]) == before
    assert before[0].inputs_sha256 is not None


def test_a_figure_is_known_as_what_a_command_wrote(folder: Path) -> None:
    call(*COMMANDS["compare"][0], "-q")
    assert is_written_map(Path("a.compare.png"))
    assert not is_written_map(Path("photos/a.png"))


def test_where_a_file_lies_that_an_option_names_makes_no_other_call(folder: Path) -> None:
    os.mkdir("lists")
    for words in (["explain", "tiny.onnx", "photos/a.png", "-m", "grad-cam"], ["compile", "tiny.onnx", "-m", "cam"]):
        Path("labels.txt").write_text(LABELS)
        call(*words, "--labels", "labels.txt", "-q")
        call(*words, "--labels", str(folder / "labels.txt"), "-q")
        os.replace("labels.txt", "lists/labels.txt")
        call(*words, "--labels", "lists/labels.txt", "-q")
        Path("labels.txt").write_text(LABELS.upper())
        assert " is there, of another call" in refused(*words, "--labels", "labels.txt")


def test_only_files_lose_their_folders() -> None:
    files = {Path("a/l.txt"), Path("a/x.npy")}
    options = {"labels": "./a/l.txt", "input": ["x=a/x.npy", "y=a/y.npy"], "target": "a/b", "top": 5, "none": None}
    expected = {"labels": "l.txt", "input": ["x=x.npy", "y=a/y.npy"], "target": "a/b", "top": 5, "none": None}
    assert without_places(options, files) == expected


@pytest.mark.parametrize(
    ("words", "name", "work"),
    [
        (
            ["explain", "tiny.onnx", "photos/a.png", "-m", "cam"],
            "a.cam.png",
            "onnxcam.cli.measuring.Measuring.measured",
        ),
        (COMMANDS["compare"][0], "a.compare.png", "onnxcam.engine.session.Session.run"),
        (COMMANDS["sanity"][0], "out/tiny.sanity.png", "onnxcam.engine.session.Session.run"),
        (COMMANDS["rewrite"][0], "tiny.cam.onnx", "onnxcam.engine.session.Session.run"),
        (COMMANDS["compile"][0], "tiny.explained.onnx", "onnxcam.engine.session.Session.run"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("onnxcam") else None,
)
def test_a_file_that_another_writes_during_the_work_stays(
    folder: Path, words: list[str], name: str, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = pkgutil.resolve_name(work.replace(".Measuring", ":Measuring").replace(".Session", ":Session"))

    def beside_another(*values: Any, **named: Any) -> Any:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"another's")
        return function(*values, **named)

    monkeypatch.setattr(work, beside_another)
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, OutputError), error
    assert f"{name} is there, of another call" in str(error)
    assert Path(name).read_bytes() == b"another's"
    call(*words, "--overwrite", "-q")
    assert Path(name).read_bytes() != b"another's"


def test_a_written_model_says_once_what_it_was_made_of(folder: Path) -> None:
    call("rewrite", "tiny.onnx", "-o", "first.onnx", "-q")
    call("rewrite", "first.onnx", "-o", "second.onnx", "-q")
    call("compile", "first.onnx", "-m", "cam", "-o", "third.onnx", "-q")
    said = []
    for name in ("first.onnx", "second.onnx", "third.onnx"):
        model = onnx.load(name)
        onnx.checker.check_model(model, full_check=True)
        said += [entry.value for entry in model.metadata_props if entry.key == "onnxcam:inputs_sha256"]
    assert len({*said}) == len(said) == 3


def test_an_evaluation_replaces_its_tables_and_no_other_file(folder: Path) -> None:
    words = ["evaluate", "tiny.onnx", "photos", "-m", "cam", "--metrics", "sparseness", "--baselines", "none", "-q"]
    Path("results").mkdir()
    Path("results/summary.json").write_text('{"run": {}}')
    assert refused(*words).startswith("results/summary.json is there")
    call(*words, "--overwrite")
    call(*words)
    call(*words, "--seed", "1")
    call("evaluate", "results", "-o", "tables", "-q")
    call("evaluate", "results", "-o", "tables", "-q")
    Path("tables/summary.json").unlink()
    assert refused("evaluate", "results", "-o", "tables").startswith("tables/summary.csv is there")
    call("evaluate", "results", "-o", "tables", "--overwrite", "-q")


TWICE = [pytest.param(["--format", form], id=form) for form in ("png", "jpg", "pdf", "svg", "json", "npz", "tiff")]


def explained(model: str, *words: str) -> list[str]:
    """The files that a call with Grad-CAM says that it wrote."""
    lines = call("explain", model, "photos/a.png", "-m", "grad-cam", *words).splitlines()
    return [name for line in lines if " -> " in line for name in line.split(" -> ")[1].split(" (")[0].split(", ")]


@pytest.mark.parametrize("words", [*TWICE, pytest.param(["--format", "png,npy,json", "--alpha", "0.5"], id="several")])
def test_a_second_model_writes_beside_the_first_and_finds_its_files_again(folder: Path, words: list[str]) -> None:
    forms = words[1].split(",")
    plain, named = [f"a.grad-cam.{form}" for form in forms], [f"a.other.grad-cam.{form}" for form in forms]
    assert explained("tiny.onnx", *words) == plain
    first = [Path(name).read_bytes() for name in plain]
    for _ in range(2):
        assert explained("other.onnx", *words) == named
        assert [Path(name).read_bytes() for name in plain] == first
    assert explained("tiny.onnx", *words) == plain
    assert call("explain", "other.onnx", "photos/a.png", "-m", "grad-cam", *words, "--resume").startswith("0 pictures")


def test_all_formats_of_a_call_bear_the_model_where_one_is_taken(folder: Path) -> None:
    explained("tiny.onnx", "--format", "json")
    assert explained("other.onnx", "--format", "png,json") == ["a.other.grad-cam.png", "a.other.grad-cam.json"]
    assert explained("tiny.onnx", "--format", "png,json") == ["a.grad-cam.png", "a.grad-cam.json"]


def test_a_second_model_of_one_name_and_another_option_are_refused(folder: Path) -> None:
    Path("sub").mkdir()
    model = onnx.load("tiny.onnx")
    model.doc_string = "a third file"
    onnx.save(model, "sub/other.onnx")
    explained("tiny.onnx")
    explained("other.onnx")
    for model, words in (("sub/other.onnx", []), ("other.onnx", ["--alpha", "0.3"])):
        message = refused("explain", model, "photos/a.png", "-m", "grad-cam", *words)
        assert message.startswith("a.other.grad-cam.png is there, of another call")
    assert refused("explain", "tiny.onnx", "photos/a.png", "-m", "grad-cam", "--alpha", "0.3").startswith("a.grad-cam.")


def test_overwrite_replaces_the_file_that_was_refused(folder: Path) -> None:
    explained("tiny.onnx")
    assert explained("other.onnx", "--overwrite") == ["a.grad-cam.png"], "no file of the other model's name is there"
    assert explained("tiny.onnx") == ["a.tiny.grad-cam.png"]
    assert explained("tiny.onnx", "--alpha", "0.3", "--overwrite") == ["a.tiny.grad-cam.png"]
    assert explained("other.onnx") == ["a.grad-cam.png"]


def test_a_corrected_preset_is_written_beside_the_assumed_one(folder: Path) -> None:
    assert explained("tiny.onnx") == ["a.grad-cam.png"]
    for preset in ("keras-tf", "imagenet"):  # the second is what was assumed
        for _ in range(2):
            assert explained("tiny.onnx", "--preset", preset) == [f"a.{preset}.grad-cam.png"]
    assert explained("other.onnx", "--preset", "keras-tf") == ["a.other.grad-cam.png"]
    assert explained("other.onnx", "--preset", "imagenet") == ["a.other.imagenet.grad-cam.png"]
    words = ["explain", "tiny.onnx", "photos/a.png", "-m", "grad-cam"]
    assert refused(*words, "--preset", "keras-tf", "--alpha", "0.3").startswith("a.keras-tf.grad-cam.png is there")
    assert refused(*words, "--mean", "0.5").startswith("a.grad-cam.png is there")


def test_an_image_that_came_preprocessed_keeps_its_name(folder: Path) -> None:
    np.save("x.npy", np.random.default_rng(0).random((3, 16, 12), np.float32))
    for _ in range(2):
        before = files(folder)
        call("explain", "tiny.onnx", "x.npy", "-m", "grad-cam", "--preset", "keras-tf", "-q")
    assert files(folder) == before == {*before, "x.grad-cam.png"}


def test_a_name_that_is_said_holds_no_model(folder: Path) -> None:
    explained("tiny.onnx", "-o", "map.png")
    assert refused("explain", "other.onnx", "photos/a.png", "-m", "grad-cam", "-o", "map.png").startswith("map.png is")


def test_pictures_of_a_tree_bear_the_model_where_their_own_file_is_taken(folder: Path) -> None:
    write_photos(folder / "photos", ["sub/b.png"])
    words = ["photos", "-m", "grad-cam", "-r", "-o", "maps/", "-q"]
    call("explain", "tiny.onnx", "photos/sub/b.png", "-m", "grad-cam", "-o", "maps/sub/", "-q")
    for _ in range(2):
        call("explain", "other.onnx", *words)
        assert files(folder / "maps") == {
            "a.grad-cam.png", "b.grad-cam.png", "sub/b.grad-cam.png", "sub/b.other.grad-cam.png",
        }  # fmt: skip
        assert call("explain", "other.onnx", *words, "--resume") == ""


def test_a_picture_named_like_a_models_file_is_an_error_and_no_map_is_lost(folder: Path) -> None:
    write_photos(folder / "photos", ["a.other.png"])
    explained("tiny.onnx")
    assert refused("explain", "other.onnx", "photos", "-m", "grad-cam").startswith(
        "two files would have the name a.oth"
    )


@pytest.mark.slow
def test_an_isolated_call_says_the_same(folder: Path) -> None:
    explain("-q")
    words = ["explain", "tiny.onnx", "photos", "-m", "grad-cam", "--isolated"]
    explain("-q", "--isolated")
    assert refused(*words, "--alpha", "0.3").startswith("photos/a.png: a.grad-cam.png is there, of another call")
    assert call(*words, "--alpha", "0.3", "--overwrite").splitlines()[-1].startswith("2 pictures (1 replaced: ")


def test_a_signed_model_is_the_one_that_onnx_writes(classifier: onnx.ModelProto) -> None:
    digest = "0123456789abcdef" * 4
    data = signed_model(classifier.SerializeToString(), digest)
    entry = onnx.StringStringEntryProto(key=INPUTS, value=digest)
    assert data == classifier.SerializeToString() + onnx.ModelProto(metadata_props=[entry]).SerializeToString()
    again = onnx.load_from_string(data)
    assert {p.key: p.value for p in again.metadata_props} == {INPUTS: digest}
    assert again.graph == classifier.graph
