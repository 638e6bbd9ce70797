"""`onnxcam compare`: which words make which figures, and what is refused before anything is opened."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from small_models import CLASSIFIER, filled
from typer.testing import CliRunner, Result

import onnxcam.outputs.record as record_module
from onnxcam.cli.main import app
from onnxcam.cli.options import MethodArgs
from onnxcam.cli.parsing import build_methods, split_labels
from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.outputs import figure as figure_module

SCHEMA = json.loads((Path(record_module.__file__).parent / "record.schema.json").read_text())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("one.onnx", "two.onnx")):
        onnx.save(filled(CLASSIFIER, seed), name)
    for seed, name in enumerate(("a.png", "b.png")):
        picture = np.random.default_rng(seed).integers(0, 256, (40, 30, 3)).astype(np.uint8)
        Image.fromarray(picture).save(name)
    return tmp_path


def compare(*words: str) -> Result:
    return CliRunner().invoke(
        app, ["compare", *words, "--providers", "cpu", "--crop", "none", "--batch", "8", "--overwrite"]
    )


def refused(*words: str) -> str:
    result = compare(*words)
    assert isinstance(result.exception, OnnxCamError), result.output
    return str(result.exception)


def test_each_picture_has_a_figure_by_default(folder: Path) -> None:
    result = compare("one.onnx", "a.png", "b.png", "-m", "grad-cam,score-cam", "--metrics", "deletion")
    assert result.exit_code == 0, result.output
    assert {p.name for p in folder.glob("*.compare.png")} == {"a.compare.png", "b.compare.png"}
    assert "a.png -> a.compare.png" in result.output
    assert "grad-cam" in result.output
    assert re.search(r"^    deletion +\S  zero +0\.\d{3} +0\.\d{3}$", result.output, re.MULTILINE), result.output


def test_metrics_are_named_as_they_are_typed_in_the_summary(folder: Path) -> None:
    result = compare("one.onnx", "a.png", "-m", "grad-cam", "--metrics", "average_drop:half-soft,all")
    for start in ("average-drop +. +half-soft", "average-drop +. +mult", "average-increase +. +mult", "sparseness "):
        assert re.search(rf"^    {start} ", result.output, re.MULTILINE), start
    assert "_" not in result.output
    assert max(map(len, result.output.splitlines()[1:-2])) <= 80


def test_a_table_that_is_wider_than_a_terminal_goes_on_below(folder: Path) -> None:
    methods = "grad-cam,layer-cam,grad-cam++,hires-cam,xgrad-cam,eigen-cam,score-cam:budget=3:variant=paper"
    table = compare("one.onnx", "a.png", "-m", methods, "--metrics", "average-drop").output.splitlines()
    lines = [line for line in table if "average-drop" in line]
    assert len(lines) == 2
    assert len(" ".join(lines).split("%")) == 8, "every method's number"
    assert all(len(line) <= 80 for line in table[1:-3])


def test_the_summary_says_what_is_assumed_and_each_note_once(folder: Path) -> None:
    words = ("one.onnx", "two.onnx", "a.png", "-m", "layer-cam,eigen-cam", "--target", "2")
    assert re.findall("^  note  .*", compare(*words).output, re.MULTILINE) == [
        "  note  preprocessing assumed: imagenet+custom; if that is wrong, so is the map: --preset",
        "  note  eigen-cam: the map is of the picture, not of a class: Eigen-CAM gives every target the same one",
    ]
    given = compare(*words, "--preset", "imagenet").output
    assert "assumed" not in given


def test_rows_of_different_classes_are_not_without_a_word(folder: Path) -> None:
    labels = folder / "labels.txt"
    labels.write_text("\n".join("abcde"))
    (record,) = json.loads(compare("one.onnx", "two.onnx", "a.png", "-m", "grad-cam", "--json").stdout)
    first, second = (one["target"]["index"] for one in record["maps"])
    assert first != second, "the test needs models that differ"
    assert [note["code"] for note in record["notes"]] == ["different-classes"]
    shown = compare("one.onnx", "two.onnx", "a.png", "-m", "grad-cam", "--labels", "labels.txt").output
    assert f"the models are explained for different classes ({'abcde'[first]}, {'abcde'[second]}); name one" in shown
    assert "different classes" not in compare("one.onnx", "two.onnx", "a.png", "-m", "grad-cam", "--target", "1").output
    assert "different classes" not in compare("one.onnx", "a.png", "-m", "grad-cam", "--target", "1,2").output


def test_a_method_without_a_number_has_a_dash_and_the_reason_below(folder: Path) -> None:
    shown = compare(
        "one.onnx", "a.png", "-m", "grad-cam", "--metrics", "energy-pointing-game", "--truth", "0,0,0.1,0.1"
    )
    assert re.search(r"energy-pointing-game +\S +-$", shown.output, re.MULTILINE), shown.output
    assert "energy-pointing-game of grad-cam  undefined: " in shown.output


def test_a_doubt_about_a_number_is_said_once(folder: Path) -> None:
    words = ("-m", "grad-cam,layer-cam", "--metrics", "energy-pointing-game", "--truth=-5,0,20,20")
    shown = compare("one.onnx", "a.png", *words).output
    assert shown.count("  note  the box reaches beyond the picture") == 1, shown


def test_a_box_for_several_pictures_is_refused_without_other_commands(folder: Path) -> None:
    reason = refused("one.onnx", "a.png", "b.png", "--metrics", "pointing-game", "--truth", "1,2,3,4")
    assert "one picture" in reason
    assert "explain" not in reason


def test_a_file_takes_all_pictures_as_rows_and_its_ending_says_the_format(folder: Path) -> None:
    for suffix in ("png", "pdf", "svg"):
        assert compare("one.onnx", "a.png", "b.png", "-m", "grad-cam,layer-cam", "-o", f"fig.{suffix}").exit_code == 0
    assert (folder / "fig.pdf").read_bytes().startswith(b"%PDF")
    (record,) = json.loads(compare("one.onnx", "a.png", "b.png", "-o", "fig.png", "--json").stdout)
    assert (record["axis"], record["rows"]) == ("pictures", ["a", "b"])


def test_json_holds_a_valid_record_of_every_map_and_nothing_else(folder: Path) -> None:
    words = ("-m", "grad-cam,eigen-cam", "--target", "1,3", "--metrics", "deletion,average-drop", "--curves")
    (record,) = json.loads(compare("one.onnx", "a.png", *words, "--json", "-o", "out/").stdout)
    assert len(record["maps"]) == 4
    for one in record["maps"]:
        Draft202012Validator(SCHEMA).validate(one)
        assert set(one["metrics"]) == {"deletion", "average_drop", "insertion"}, "curves need both"
    assert record["outputs"] == [str(Path("out/a.compare.png"))]
    assert compare("one.onnx", "a.png", "--quiet").output == ""


def test_models_and_pictures_are_told_apart_in_any_order(folder: Path) -> None:
    (folder / "one.onnx").rename("weights.bin")
    (folder / "a.png").rename("photo")
    (record,) = json.loads(compare("photo", "weights.bin", "two.onnx", "-m", "grad-cam", "--json").stdout)
    assert (record["axis"], record["rows"]) == ("models", ["weights", "two"])
    assert {one["model"]["name"] for one in record["maps"]} == {"weights.bin", "two.onnx"}


def test_layers_are_rows_here(folder: Path) -> None:
    (record,) = json.loads(compare("one.onnx", "a.png", "-m", "layer-cam", "--layer", "r1,features", "--json").stdout)
    assert (record["axis"], record["rows"]) == ("layers", ["r1", "features"])
    assert [one["layer"]["fused"] for one in record["maps"]] == [[], []]
    again = json.loads(compare("one.onnx", "a.png", "--layer", "r1", "--layer", "features", "--json").stdout)
    assert again[0]["rows"] == ["r1", "features"]


def test_several_models_and_pictures_make_a_figure_of_each_picture(folder: Path) -> None:
    records = json.loads(compare("one.onnx", "two.onnx", "a.png", "b.png", "-m", "grad-cam", "--json").stdout)
    assert [(one["axis"], one["rows"]) for one in records] == [("models", ["one", "two"])] * 2


def test_figures_of_an_earlier_call_are_no_pictures(folder: Path) -> None:
    assert compare("one.onnx", str(folder), "-m", "grad-cam").exit_code == 0
    records = json.loads(compare("one.onnx", str(folder), "-m", "grad-cam", "--json").stdout)
    assert len(records) == 2


def test_labels_may_hold_commas(folder: Path) -> None:
    labels = ["cat, tabby", "dog", "a", "b", "c"]
    (folder / "labels.txt").write_text("\n".join(labels))
    words = ("one.onnx", "a.png", "-m", "grad-cam", "--labels", "labels.txt", "--json")
    (both,) = json.loads(compare(*words, "--target", "cat, tabby", "--target", "dog,a").stdout)
    assert both["rows"] == ["cat, tabby", "dog", "a"]
    assert split_labels(["cat, tabby", "dog,rank2"], labels) == ["cat, tabby", "dog", "rank2"]


def test_methods_have_options_of_their_own() -> None:
    args = MethodArgs(method="score-cam:budget=5:variant=paper, Grad-CAM,rise:masks=9", fill="mean")
    score_cam, grad_cam, rise = build_methods(args)
    assert (score_cam.options["budget"], score_cam.options["variant"], score_cam.perturb.name) == (5, "paper", "mean")
    assert (grad_cam.name, rise.options["masks"], rise.perturb.name) == ("grad-cam", 9, "mean")
    own = build_methods(MethodArgs(method="score-cam:fill=black,score-cam", fill="mean"))
    assert [method.perturb.name for method in own] == ["black", "mean"]
    for text in ("", ",", "grad-cam:budget=3", "score-cam:budget", "grad-cat,score-cam"):
        with pytest.raises(OptionError):
            build_methods(MethodArgs(method=text))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["a.png", "b.png"], "no model"),
        (["one.onnx"], "no picture"),
        (["one.onnx", "none.png"], "no such file"),
        (["one.onnx", "a.png", "-m", "grad-cam,grad-cam"], "given twice"),
        (["one.onnx", "a.png", "-o", "figure.jpg"], ".png, .pdf, .svg"),
        (["one.onnx", "a.png", "-o", "a.png"], "overwritten"),
        (["one.onnx", "a.png", "--width", "0"], "inches"),
        (["one.onnx", "a.png", "--alpha", "2"], "alpha"),
        (["one.onnx", "a.png", "--step", "x.onnx"], "step graph"),
        (["one.onnx", "two.onnx", "a.png", "--layer", "r1,c1"], "not both"),
        (["one.onnx", "two.onnx", "a.png", "b.png", "-o", "f.png"], "end -o in /"),
        (["one.onnx", "two.onnx", "a.png", "--target", "1,2"], "one picture and one target"),
        (["one.onnx", "a.png", "--truth", "1,2,3,4"], "--metrics"),
        (["one.onnx", "a.png", "--metrics", "delete"], "no metric"),
    ],
)
def test_what_makes_no_figure_is_refused(folder: Path, words: list[str], reason: str) -> None:
    assert reason in refused(*words)
    assert not list(folder.glob("*.compare.png"))


def test_without_matplotlib_nothing_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_module, "find_spec", lambda name: None)
    assert 'pip install "onnxcam[plot]"' in refused("absent.onnx", "absent.png")
