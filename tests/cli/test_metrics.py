"""Metrics on the command line: their list, and `explain --metrics` in the summary, the records and the files."""

import json
import re
import sys
from importlib.resources import files as files_of
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import files, onnxcam
from jsonschema import Draft202012Validator
from PIL import Image
from results import saliency
from rich.progress import Progress
from small_models import CLASSIFIER, SIAMESE, filled
from typer.testing import CliRunner

from onnxcam import METRICS, Explainer
from onnxcam.cli.main import app
from onnxcam.cli.summary import metric_lines, metric_value, summary
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.metric import Need

VALIDATOR = Draft202012Validator(json.loads(files_of("onnxcam.outputs").joinpath("record.schema.json").read_text()))
WITHOUT_BOX = [name for name, metric in METRICS.items() if Need.BOX not in metric.needs]
QUICK = ["explain", "tiny.onnx", "photo.png", "-m", "grad-cam"]


@pytest.fixture
def folder(classifier: onnx.ModelProto, tmp_path: Path) -> Path:
    """tiny.onnx, photo.png and other.png (40 high, 30 wide)."""
    onnx.save(classifier, tmp_path / "tiny.onnx")
    for seed, name in enumerate(("photo", "other")):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def output(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
    return done.stdout


def records(*words: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(output(*words, "--json"))
    for record in listed:
        VALIDATOR.validate(record)
    return listed


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_names_every_metric_with_its_protocols_needs_and_cost(folder: Path) -> None:
    listed = json.loads(output("metrics", "--json"))
    assert [metric["name"] for metric in listed] == list(METRICS)
    by_name = {metric["name"]: metric for metric in listed}
    assert by_name["deletion"]["better"] == "lower"
    assert by_name["deletion"]["protocols"][0] == "zero"
    assert by_name["average_drop"]["unit"] == "%"
    assert by_name["pointing_game"]["needs"] == ["box"]
    assert all(metric["source"] and metric["cost"] and metric["range"] and metric["title"] for metric in listed)
    page = output("metrics")
    assert all(f"\n{name.replace('_', '-')}\n  {METRICS[name].meaning[:40]}" in f"\n{page}" for name in METRICS)
    assert max(map(len, page.splitlines())) <= 80
    words = " ".join(page.split())
    assert all(text in words for metric in METRICS.values() for text in (metric.source, metric.cost, metric.meaning))


# --- the summary ------------------------------------------------------------------------------------------------------


def test_the_summary_has_a_line_of_each_metric_and_says_which_way_is_better(folder: Path) -> None:
    done = onnxcam(*QUICK, "--metrics", "deletion,deletion:mean,average-drop", cwd=folder, env={"PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    start = next(i for i, line in enumerate(done.stdout.splitlines()) if line.startswith("  metrics "))
    lines = [re.sub(r"\d+\.\d+", "X", line[16:]).split() for line in done.stdout.splitlines()[start:]]
    assert lines[:3] == [
        ["deletion", "X", "↓", "zero"], ["deletion", "X", "↓", "mean"], ["average-drop", "X", "%", "↓", "mult"],
    ]  # fmt: skip
    assert re.search(r"59 forward passes, \d+\.\d\d s\)$", done.stdout.splitlines()[start + 3])
    assert done.stderr == ""


def test_a_terminal_without_arrows_gets_signs_that_it_has(folder: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = onnxcam(*QUICK, "--metrics", "deletion,insertion", cwd=folder, env=environment)
    assert "\\u" not in done.stdout
    assert "(+ higher is better, - lower" in done.stdout


def test_the_columns_stand_below_each_other_and_an_undefined_metric_says_why() -> None:
    lines = metric_lines(
        {
            "average-drop:half": Measurement("average_drop", 0.5, "half", passes=1),
            "average_gain": Measurement("average_gain", None, "mult", "there is nothing to gain", passes=1),
            "deletion": Measurement("deletion", 0.25, "zero", passes=29),
            "sparseness": Measurement("sparseness", 0.00001),
        }
    )
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("  metrics       average-drop ")
    assert lines[1].split()[:3] == ["average-gain", "-", "undefined:"]
    assert lines[1].endswith("undefined: there is nothing to gain")
    assert [line.index("0.") + 4 for line in (lines[0],)] == [lines[2].index("0.2500") + 6]
    assert "1.0e-05" in lines[3]
    assert "31 forward passes" in lines[4]
    assert metric_lines({}) == []


def test_the_energy_stands_beside_what_a_map_of_ones_scores() -> None:
    energy = Measurement("energy_pointing_game", 0.8, options={"ratio": 2.4321, "box_share": 0.33})
    line, end = metric_lines({"energy-pointing-game": energy})
    assert line.endswith("2.43 x the box's share")
    assert len(line) <= 80
    assert end.strip().endswith("0 forward passes, 0.00 s)")


def test_a_doubtful_box_is_named_once_below_the_numbers() -> None:
    one, other = (Measurement(name, 1.0, note="the box is odd") for name in ("energy_pointing_game", "pointing_game"))
    lines = metric_lines({"energy-pointing-game": one, "pointing-game": other})
    assert [line.strip() for line in lines if "odd" in line] == ["note: the box is odd"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(12.928, "%", "12.93"), (0, "%", "0.00"), (100, "%", "100.00"), (0.22746, "", "0.2275"), (0, "", "0.0000"),
        (-0.0, "", "0.0000"),
     (1.5e-5, "", "1.5e-05"), (-0.25, "", "-0.2500")],
)  # fmt: skip
def test_values_have_few_digits_and_never_hide_a_small_number(value: float, unit: str, text: str) -> None:
    assert metric_value(value, unit) == text


def test_without_metrics_nothing_is_measured_and_nothing_is_said(folder: Path) -> None:
    assert "metrics" not in output(*QUICK)
    assert "metrics" not in records(*QUICK)[0]


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_record_and_the_json_file_hold_what_python_measures(folder: Path) -> None:
    names = ["deletion", "average-drop:half", "average-drop"]
    (record,) = records(*QUICK, "--metrics", ",".join(names), "--format", "json")
    assert list(record["metrics"]) == ["deletion", "average_drop:half", "average_drop"]
    written = json.loads((folder / record["outputs"][0]).read_text())
    VALIDATOR.validate(written)
    assert written["metrics"] == record["metrics"]
    with Explainer(folder / "tiny.onnx", "grad-cam", providers=["cpu"]) as explain:
        measured = explain.measure(explain(folder / "photo.png"), *names)
    for (name, one), values in zip(measured.items(), record["metrics"].values(), strict=True):
        assert values["value"] == pytest.approx(one.value, abs=1e-6), name
        assert (values["protocol"], values["reason"]) == (one.protocol, one.reason)
    curve = measured["deletion"].curve
    assert curve is not None
    np.testing.assert_allclose(record["metrics"]["deletion"]["curve"], curve, atol=1e-6)


def test_two_protocols_of_a_metric_are_two_fields(folder: Path) -> None:
    (record,) = records(*QUICK, "--metrics", "deletion:zero,deletion:mean")
    assert {key: one["protocol"] for key, one in record["metrics"].items()} == {
        "deletion:zero": "zero", "deletion:mean": "mean",
    }  # fmt: skip
    values = [one["value"] for one in record["metrics"].values()]
    assert values[0] != values[1]


def test_all_is_every_metric_that_needs_no_box_and_with_a_box_every_metric(folder: Path) -> None:
    (record,) = records(*QUICK, "--metrics", "all")
    assert list(record["metrics"]) == WITHOUT_BOX
    (record,) = records(*QUICK, "--metrics", "all", "--truth", "0,0,30,40", "--overwrite")
    assert list(record["metrics"]) == list(METRICS)
    assert record["metrics"]["energy_pointing_game"]["value"] == 1
    assert record["metrics"]["pointing_game"]["value"] == 1


def test_several_boxes_count_as_their_union(folder: Path) -> None:
    boxes = ["--truth", "0,0,15,40", "--truth", "15,0,30,40"]
    (record,) = records(*QUICK, "--metrics", "energy-pointing-game", *boxes)
    assert record["metrics"]["energy_pointing_game"]["value"] == pytest.approx(1)


def test_the_object_is_drawn_on_the_overlay(folder: Path) -> None:
    drawn = []
    for box in ((), ("--truth", "4,4,20,30")):
        output(
            *QUICK, "--metrics", "energy-pointing-game" if box else "sparseness", *box, "-o", "drawn.png", "--overwrite"
        )
        with Image.open("drawn.png") as file:
            drawn.append(np.asarray(file.convert("RGB")))
    changed = np.argwhere((drawn[0] != drawn[1]).any(axis=2)) / 6  # so many pixels for one of so small a picture
    np.testing.assert_allclose((*changed.min(axis=0), *changed.max(axis=0)), (4, 4, 30, 20), atol=1)


def test_every_target_of_every_picture_is_measured_for_itself(folder: Path) -> None:
    words = ["explain", "tiny.onnx", ".", "-m", "grad-cam", "--target", "top2", "--metrics", "average-drop"]
    listed = records(*words)
    assert [(Path(r["image"]).name, r["target"]["index"]) for r in listed] == [
        (name, index) for name in ("other.png", "photo.png") for index in top_two(folder / name)
    ]
    with Explainer(folder / "tiny.onnx", "grad-cam", providers=["cpu"]) as explain:
        for record in listed:
            saliency = explain(folder / record["image"], record["target"]["index"])
            expected = explain.measure(saliency, "average-drop")["average-drop"].value
            assert record["metrics"]["average_drop"]["value"] == pytest.approx(expected, abs=1e-4)


def top_two(photo: Path) -> list[int]:
    with Explainer(filled(CLASSIFIER), "grad-cam", providers=["cpu"]) as explain:
        return [saliency.target.index for saliency in explain.explain(photo, ["top1", "rank2"])]


def test_each_input_of_a_network_of_two_pictures_is_measured(folder: Path) -> None:
    onnx.save(filled(SIAMESE), folder / "siamese.onnx")
    words = ["explain", "siamese.onnx", "photo.png", "--input", "after=other.png", "-m", "grad-cam"]
    inputs = ["--image-input", "before", "--image-input", "after"]
    listed = records(*words, *inputs, "--metrics", "deletion")
    assert [record["image_input"] for record in listed] == ["before", "after"]
    values = [record["metrics"]["deletion"]["value"] for record in listed]
    assert values[0] != values[1]
    refused = CliRunner().invoke(app, [*words, *inputs, "--metrics", "pointing-game", "--truth", "1,1,9,9"])
    assert "one --image-input at a time" in str(refused.exception)


# --- what is refused, before any work ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics", "delition"], "no metric is called 'delition'; did you mean deletion"),
        (["--metrics", "deletion:grey"], "deletion has no protocol 'grey'; known: zero, mean"),
        (["--metrics", ","], "--metrics is empty"),
        (["--metrics", "pointing-game"], "needs the box of the object"),
        (["--metrics", "deletion", "--truth", "1,1,5,5"], "no metric reads it"),
        (["--truth", "1,1,5,5"], "name them with --metrics"),
        (["--metrics", "pointing-game", "--truth", "1,1,5"], "is not LEFT,TOP,RIGHT,BOTTOM"),
        (["--metrics", "pointing-game", "--truth", "5,1,1,5"], "holds no pixel"),
        (
            ["--metrics", "pointing-game", "--truth", "1,1,5,5", "other.png"],
            "and 2 are given; give each picture and its box in",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_model_is_opened(
    folder: Path, words: list[str], message: str
) -> None:
    (folder / "tiny.onnx").unlink()
    before = files(folder)
    outcome = CliRunner().invoke(app, ["explain", str(folder / "tiny.onnx"), *_paths(folder, ["photo.png", *words])])
    assert outcome.exit_code == 1
    assert message in str(outcome.exception)
    assert files(folder) == before


def _paths(folder: Path, words: list[str]) -> list[str]:
    return [str(folder / word) if word.endswith(".png") else word for word in words]


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_picture_that_cannot_be_measured_is_left_out_with_keep_going(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxcam.errors import InferenceError
    from onnxcam.explainer import measuring

    measure = measuring.measure_maps

    def failing(explainer: Explainer, picture: Path, *rest: Any, **named: Any) -> Any:
        if picture.name == "other.png":
            raise InferenceError("no")
        return measure(explainer, picture, *rest, **named)

    monkeypatch.setattr(measuring, "measure_maps", failing)
    words = _paths(folder, ["photo.png", "other.png"])
    shared = ["-m", "grad-cam", "--metrics", "deletion", "-o", f"{folder}/", "--quiet"]
    outcome = CliRunner().invoke(app, ["explain", str(folder / "tiny.onnx"), *words, *shared, "--keep-going"])
    assert "skipped 1 of 2 pictures:" in str(outcome.exception)
    assert "other.png: no" in str(outcome.exception)
    assert (folder / "photo.grad-cam.png").exists()
    assert not (folder / "other.grad-cam.png").exists()
    outcome = CliRunner().invoke(app, ["explain", str(folder / "tiny.onnx"), *words[::-1], *shared])
    assert "other.png: no; 0 of 2 pictures were written" in str(outcome.exception)


def test_the_progress_counts_the_metrics_and_ends_complete(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    completed: list[float] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    update = Progress.update
    monkeypatch.setattr(
        Progress,
        "update",
        lambda self, task, **values: (completed.append(values["completed"]), update(self, task, **values))[1],
    )
    from onnxcam.cli.explain import explain_pictures
    from onnxcam.cli.explain_options import ExplainArgs
    from onnxcam.cli.options import FileArgs, MeasuringArgs, MethodArgs

    explain_pictures(
        ExplainArgs(
            model=str(folder / "tiny.onnx"), images=_paths(folder, ["photo.png", "other.png"]),
            method=MethodArgs(method="grad-cam"), measuring=MeasuringArgs(metrics="deletion,insertion,sparseness"),
            files=FileArgs(out=f"{folder}/"), quiet=False,
        )
    )  # fmt: skip
    assert completed == sorted(completed)
    assert completed[-1] == pytest.approx(2)
    assert len([each for each in completed if 0 < each < 1]) > 10


def test_on_a_terminal_a_long_reason_is_broken_to_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    reason = "no pixel of the model's input has its centre in the box: it lies outside of what the model sees"
    lines = metric_lines({"pointing-game": Measurement("pointing_game", None, "15px", reason)})
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80
    starts = [len(line) - len(line.lstrip()) for line in lines[1:-1]]
    assert set(starts) == {lines[0].index("undefined")}
    assert " ".join(line.strip() for line in lines[:-1]).endswith(f"undefined: {reason}")


def test_the_lines_of_a_summary_fit_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "what enters GlobalAveragePool, where the grid is lost, after a long way through the layers of the model"
    explained = saliency(layer_reason=reason)
    whole = summary(explained, ["a.png"], {})
    assert any(reason in line for line in whole)  # in a pipe each is one line
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    broken = summary(explained, ["a.png"], {})
    assert max(map(len, broken[1:])) <= 60
    assert "".join("".join(broken).split()) == "".join("".join(whole).split())
