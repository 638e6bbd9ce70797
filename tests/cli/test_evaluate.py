"""`onnxcam evaluate`: what it measures, that it goes on, and what it says where it cannot."""

import csv
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import files, write_photos
from PIL import Image
from typer.testing import CliRunner, Result

from onnxcam import Explainer
from onnxcam.cli.evaluation_progress import EvaluationBar
from onnxcam.cli.main import app
from onnxcam.errors import InferenceError, ModelsNotOpened, OnnxCamError
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.journal import Journal

NAMES = ("a/1.png", "a/2.png", "b/1.png")
WORDS = ("-m", "grad-cam,layer-cam", "--metrics", "average-drop,deletion,sparseness")
WRITTEN = {"journal.sqlite", "journal.sqlite-lock", "results.parquet", "summary.csv", "summary.json", "report.html"}


@pytest.fixture(autouse=True)
def folder(classifier: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiny.onnx, and photos/ with NAMES, in the working directory."""
    onnx.save(classifier, tmp_path / "tiny.onnx")
    write_photos(tmp_path / "photos", NAMES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def called(*words: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *words])


def evaluated(*words: str) -> list[str]:
    """The lines on standard output of a call that ends well."""
    done = called(*words)
    if isinstance(done.exception, OnnxCamError):
        raise done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout.splitlines()


def lines(folder: str = "results") -> list[dict[str, str]]:
    with open(f"{folder}/summary.csv", newline="") as file:
        return list(csv.DictReader(file))


def mean(method: str, metric: str, folder: str = "results") -> float:
    (line,) = (one for one in lines(folder) if one["method"] == method and one["metric"] == metric)
    return float(line["mean"])


def test_the_means_are_those_of_the_maps_measured_one_by_one() -> None:
    printed = evaluated("tiny.onnx", "photos", *WORDS)
    assert files(Path("results")) == WRITTEN
    for method in ("grad-cam", "layer-cam"):
        with Explainer("tiny.onnx", method, providers=["cpu"]) as explain:
            values: dict[str, list[float]] = {"average_drop": [], "deletion": [], "sparseness": []}
            for name in NAMES:
                measured = explain.measure(explain(f"photos/{name}"), "average-drop", "deletion", "sparseness")
                for metric, one in zip(values, measured.values(), strict=True):
                    assert one.value is not None
                    values[metric].append(one.value)
        for metric, numbers in values.items():
            assert mean(method, metric) == pytest.approx(np.mean(numbers), rel=1e-5, abs=1e-7)
    assert printed[0] == "tiny.onnx, 3 pictures, target: prediction"
    assert printed[1] == "  means; intervals need 6 pictures; differences to grad-cam"
    assert printed[-1].startswith("3 pictures, 36 rows, ")
    assert "  report   results/report.html" in printed


def test_a_second_call_measures_nothing_again_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated("tiny.onnx", "photos", *WORDS, "-q")
    before = lines()

    def opened(*arguments: object) -> None:
        raise AssertionError("the model is not opened")

    monkeypatch.setattr(Evaluator, "_open", opened)
    done = called("tiny.onnx", "photos", *WORDS)
    assert (done.exit_code, lines()) == (0, before)
    assert "journal  36 rows of earlier runs; what this run shares with them is not measured again" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("3 pictures, 36 rows, 3 measured before, ")


def test_a_folder_of_results_of_other_data_says_what_is_replaced() -> None:
    words = ("-m", "grad-cam", "--metrics", "sparseness", "--no-report")
    evaluated("tiny.onnx", "photos", *words)
    assert "replaced" not in called("tiny.onnx", "photos", "-m", "layer-cam", *words[2:]).stderr
    said = " ".join(called("tiny.onnx", "photos/a", *words).stderr.split())
    assert (
        "tables and report in results are of other data (photos), and are replaced; `onnxcam evaluate results --run 2`"
        in said
    )


def test_other_options_are_other_rows_beside_those_of_before() -> None:
    evaluated("tiny.onnx", "photos", *WORDS, "-q")
    first = mean("grad-cam", "deletion")
    evaluated("tiny.onnx", "photos", *WORDS, "--curve-step", "48", "--baselines", "none", "-q")
    assert {line["method"] for line in lines()} == {"grad-cam", "layer-cam"}, "the tables are of this run"
    assert mean("grad-cam", "deletion") != first
    evaluated("tiny.onnx", "photos", *WORDS, "-q")
    assert mean("grad-cam", "deletion") == first
    with Journal("results/journal.sqlite", read_only=True) as journal:
        assert journal.count() == 36 + 6, "only curves have a step, and the baselines were there"


def test_a_signal_stops_it_and_the_same_command_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    report = EvaluationBar.report

    def stopping(self: EvaluationBar, progress: Any) -> None:
        report(self, progress)
        if progress.done == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(EvaluationBar, "report", stopping)
        done = called("tiny.onnx", "photos", *WORDS)
    assert done.exit_code == 143
    assert done.stderr.splitlines()[-2:] == [
        "stopped: 2 of 3 pictures; run the same command to go on",
        "  onnxcam evaluate results  makes tables and report of these",
    ]
    assert files(Path("results")) == {"journal.sqlite", "journal.sqlite-lock"}
    assert evaluated("results")[0] == "tiny.onnx, 2 pictures, target: prediction"
    assert evaluated("tiny.onnx", "photos", *WORDS)[-1].startswith("3 pictures, 36 rows, 2 measured before, ")


def test_the_files_are_made_anew_without_the_model() -> None:
    evaluated("tiny.onnx", "photos", *WORDS, "-q")
    before = {name: Path("results", name).read_bytes() for name in ("summary.csv", "summary.json")}
    os.unlink("tiny.onnx")
    evaluated("results", "-o", "again/", "-q")
    assert files(Path("again")) == WRITTEN - {"journal.sqlite", "journal.sqlite-lock"}
    assert {name: Path("again", name).read_bytes() for name in before} == before
    assert "data:image/webp" in Path("again/report.html").read_text(), "the pictures are read where they were"
    shutil.move("photos", "elsewhere")
    done = called("results", "--against", "layer-cam")
    assert (done.exit_code, done.stderr.split(": ")[0]) == (0, "the report has no pictures")
    assert "differences to layer-cam" in done.stdout
    assert called("results", "-q").output == "the report has no pictures: " + done.stderr.split(": ", 1)[1]


def test_what_is_made_anew_has_the_compared_method_and_the_seed_of_the_run_unless_others_are_given() -> None:
    for i in range(10, 20):  # intervals of three pictures are the same with every seed
        noise = np.random.default_rng(i).integers(0, 256, (40, 30, 3)).astype(np.uint8)
        Image.fromarray(noise).save(f"photos/a/{i}.png")
    words = ("-m", "grad-cam,layer-cam", "--metrics", "sparseness")
    evaluated("tiny.onnx", "photos", *words, "--against", "layer-cam", "--seed", "7", "-q", "--no-report")
    before = {name: Path("results", name).read_bytes() for name in ("summary.csv", "summary.json")}
    assert json.loads(before["summary.json"])["against"] == "layer-cam"
    evaluated("results", "-q", "--no-report")
    assert {name: Path("results", name).read_bytes() for name in before} == before
    evaluated("results", "-q", "--no-report", "--seed", "0")
    assert Path("results/summary.csv").read_bytes() != before["summary.csv"], "other draws of the intervals"
    evaluated("results", "-q", "--no-report", "--against", "grad-cam")
    assert json.loads(Path("results/summary.json").read_text())["against"] == "grad-cam"


@pytest.mark.parametrize("spelling", ["Layer-CAM", "rise:masks=4", "RISE", "rise (masks 4)", "Rise:masks=04"])
def test_against_is_written_as_methods_are(spelling: str) -> None:
    words = ("-m", "grad-cam,layer-cam,rise:masks=4", "--metrics", "sparseness", "--no-report", "--against", spelling)
    evaluated("tiny.onnx", "photos", *words, "-q")
    expected = "layer-cam" if spelling.startswith("Layer") else 'rise {"masks":4}'
    assert json.loads(Path("results/summary.json").read_text())["against"] == expected
    evaluated("results", "--no-report", "--against", spelling, "-o", "again/", "-q")
    assert json.loads(Path("again/summary.json").read_text())["against"] == expected


def test_an_earlier_run_is_made_anew_where_the_last_has_no_rows_or_on_request() -> None:
    words = ("--metrics", "sparseness", "--no-report")
    evaluated("tiny.onnx", "photos", "-m", "grad-cam", *words)
    evaluated("tiny.onnx", "photos", "-m", "layer-cam", *words)
    unopened = called("tiny.onnx", "photos", "-m", "grad-cam", "--layer", "none-such", *words)
    assert isinstance(unopened.exception, OnnxCamError)
    done = called("results", "--no-report")
    assert done.stderr.startswith("run 3, the last, has no rows; this is run 2 of 2")
    assert {line["method"] for line in lines()} == {"layer-cam", "ones", "gaussian"}
    done = called("results", "--no-report", "--run", "1")
    assert (done.exit_code, done.stderr) == (0, "")
    assert {line["method"] for line in lines()} == {"grad-cam", "ones", "gaussian"}
    with pytest.raises(OnnxCamError, match="run 3 has no rows yet"):
        evaluated("results", "--run", "3")
    with pytest.raises(OnnxCamError, match="there is no run 4; the runs are 1 to 3"):
        evaluated("results", "--run", "4")
    with pytest.raises(OnnxCamError, match="--run is a run of a folder of results, which is given alone"):
        evaluated("tiny.onnx", "photos", "--run", "1")


def test_json_is_the_summary_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/onnxcam", "evaluate", "tiny.onnx", "my photos"])
    done = called("tiny.onnx", "photos", *WORDS, "--json", "--no-report")
    values = json.loads(done.stdout)
    assert done.exit_code == 0
    assert values["pictures"] == 3
    assert [Path(name).name for name in values.pop("files")] == ["results.parquet", "summary.json", "summary.csv"]
    assert json.loads(Path("results/summary.json").read_text()) == values
    assert not Path("results/report.html").exists()
    assert values["run"]["command"] == "onnxcam evaluate tiny.onnx 'my photos'"


def test_a_broken_picture_is_an_error_that_is_said_once_and_tried_again_on_request() -> None:
    good = Path("photos/a/2.png").read_bytes()
    Path("photos/a/2.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    printed = evaluated("tiny.onnx", "photos", *WORDS)
    assert printed[0] == "tiny.onnx, 3 pictures, 1 with errors, target: prediction"
    at = next(i for i, line in enumerate(printed) if line.startswith("  errors   a/2.png: "))
    assert printed[at + 1] == "           --retry computes them again"
    Path("photos/a/2.png").write_bytes(good)
    assert "with errors" not in evaluated("tiny.onnx", "photos", *WORDS)[0], "another content is another picture"


def test_nothing_but_broken_pictures_is_an_error() -> None:
    for name in NAMES:
        Path("photos", name).write_bytes(f"{name} is no picture".encode())
    with pytest.raises(InferenceError, match=r"measured; results/results\.parquet says why"):
        evaluated("tiny.onnx", "photos", *WORDS)


def test_maps_of_another_tool_are_measured_as_those_of_methods_are(folder: Path) -> None:
    with Explainer("tiny.onnx", "grad-cam", providers=["cpu"]) as explain:
        for name in NAMES:
            path = Path("theirs", name).with_suffix(".npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, explain(f"photos/{name}").map)
    evaluated("tiny.onnx", "photos", *WORDS, "--maps", "theirs", "--baselines", "none", "-q")
    for metric in ("average_drop", "deletion", "sparseness"):
        assert mean("theirs", metric) == pytest.approx(mean("grad-cam", metric), rel=1e-6)
    (line,) = (one for one in lines() if (one["method"], one["metric"]) == ("theirs", "deletion"))
    assert (line["n"], line["difference_n"], float(line["difference_mean"])) == ("3", "3", pytest.approx(0, abs=1e-6))
    evaluated("tiny.onnx", "photos", "--maps", "theirs", "--metrics", "sparseness", "-o", "alone/", "-q")
    assert {line["method"] for line in lines("alone")} == {"theirs", "ones", "gaussian"}, "no method is the default"


def test_boxes_bring_the_pointing_games_and_labels_are_explained_on_request() -> None:
    boxes = {
        "images": [{"id": i, "file_name": name, "height": 40, "width": 30} for i, name in enumerate(NAMES)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [2, 2, 20, 20]} for i in range(3)],
        "categories": [{"id": 1, "name": "thing"}],
    }
    Path("photos/boxes.json").write_text(json.dumps(boxes))
    evaluated("tiny.onnx", "photos/boxes.json", "--format", "coco", "-m", "grad-cam", "-q", "--no-report")
    games = {"energy_pointing_game", "pointing_game"}
    assert games < {line["metric"] for line in lines()}
    assert {line["format"] for line in [json.loads(Path("results/summary.json").read_text())["run"]]} == {"coco"}
    Path("labels.csv").write_text("a/1.png,1\na/2.png,2\nb/1.png,0\n")
    words = ("photos", "--format", "folder", "--data-labels", "labels.csv", "--target", "label", "-o", "of-labels/")
    evaluated("tiny.onnx", *words, "-m", "grad-cam", "--metrics", "sparseness", "-q", "--no-report")
    assert {line["method"]: line["n"] for line in lines("of-labels")} == {"grad-cam": "3", "ones": "3", "gaussian": "3"}
    with Journal("of-labels/journal.sqlite", read_only=True) as journal:
        assert {row.key.picture: row.target_index for row in journal.rows(method="grad-cam")} == {
            "a/1.png": 1, "a/2.png": 2, "b/1.png": 0,
        }  # fmt: skip


def test_several_models_samples_kept_maps_and_workers(folder: Path) -> None:
    model = onnx.load("tiny.onnx")
    model.doc_string = "another one"
    onnx.save(model, "other.onnx")
    words = (
        "-m",
        "grad-cam",
        "--metrics",
        "sparseness",
        "--sample",
        "2",
        "--seed",
        "1",
        "--keep-maps",
        "--workers",
        "2",
    )
    printed = evaluated("tiny.onnx", "other.onnx", "photos", *words)
    assert [line for line in printed if line.endswith("target: prediction")] == [
        "tiny.onnx, 2 pictures, target: prediction",
        "other.onnx, 2 pictures, target: prediction",
    ]
    maps = list(Path("results/maps").glob("*.npz"))
    assert len(maps) == 4
    assert all(np.load(path)["grad-cam"].shape == (16, 12) for path in maps)


def test_one_of_several_models_that_cannot_be_opened_is_named_after_the_tables_of_the_others() -> None:
    flat = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> flat (float[N, 3, 16, 12] image) => (float[N, 2] scores)
        <float[576, 2] weights> { rows = Flatten(image)  scores = MatMul(rows, weights) }"""
    )
    flat.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((576, 2), np.float32), "weights"))
    onnx.save(flat, "bad.onnx")
    flat.doc_string = "another one"
    onnx.save(flat, "worse.onnx")
    words = ("photos", "-m", "layer-cam", "--metrics", "sparseness")
    done = called("bad.onnx", "tiny.onnx", *words)
    assert isinstance(done.exception, ModelsNotOpened)
    assert str(done.exception).startswith("1 of 2 models cannot be opened, and nothing new was measured of these: bad")
    assert done.stdout.splitlines()[0] == "tiny.onnx, 3 pictures, target: prediction"
    assert {(line["model_name"], line["method"], line["n"]) for line in lines()} == {
        ("tiny.onnx", "layer-cam", "3"), ("tiny.onnx", "ones", "3"), ("tiny.onnx", "gaussian", "3"),
    }  # fmt: skip
    with pytest.raises(ModelsNotOpened, match=r"2 of 2 models cannot be opened.*bad.onnx: .*; worse.onnx: "):
        evaluated("bad.onnx", "worse.onnx", *words, "-o", "none/")


REFUSED = {
    "there is no data": (["tiny.onnx"], "give the data behind tiny.onnx: a folder, a manifest"),
    "there is no model": (["photos"], "one path alone is the folder of an earlier run.*MODEL.onnx and then the data"),
    "no such model": (["tiny.onx", "photos"], "tiny.onx: no such model file"),
    "a model twice": (["tiny.onnx", "tiny.onnx", "photos"], "the model tiny.onnx is given twice"),
    "no method": (["tiny.onnx", "photos", "-m", ""], "--method is empty"),
    "no such preset": (["tiny.onnx", "photos", "--preset", "imagenette"], "no preset is called 'imagenette'"),
    "two folders": (
        ["tiny.onnx", "photos/a", "photos"],
        "photos/a is a folder, not a model; models come first, then the",
    ),
    "pictures": (["tiny.onnx", "photos/a/1.png", "photos/a/2.png"], "photos/a/1.png is a picture, not a model"),
    "a pattern": (["tiny.onnx", "photos/*/*.png"], r"photos/\*/\*.png is a pattern; give the data as one word"),
    "results first": (
        ["results", "photos"],
        "results is the folder of an earlier run; give it alone, or as -o results",
    ),
    "results last": (
        ["tiny.onnx", "results"],
        "no picture .*; it is the folder of an earlier run: give it alone, or as -o",
    ),
    "no folder of maps": (["tiny.onnx", "photos", "--maps", "theirs"], "theirs: no such folder of maps"),
    "maps of others": (
        ["tiny.onnx", "photos", "--maps", "photos/a"],
        "photos/a: no map of a/1.png .*no picture here has",
    ),
    "a model is last": (["photos", "tiny.onnx"], "tiny.onnx is a model; give the data behind the models"),
    "no such data": (["tiny.onnx", "none"], "none: no such file or folder"),
    "unknown metric": (
        ["tiny.onnx", "photos", "--metrics", "delition"],
        "no metric is called 'delition'; did you mean",
    ),
    "boxes missing": (["tiny.onnx", "photos", "--metrics", "pointing-game"], "needs boxes .*, and the data has none"),
    "unknown method": (["tiny.onnx", "photos", "-m", "grad-kam"], "grad-kam"),
    "baseline": (["tiny.onnx", "photos", "--baselines", "twos"], "no baseline is called 'twos'.*did you mean ones"),
    "target": (["tiny.onnx", "photos", "--target", "cat"], "target.*prediction"),
    "workers": (["tiny.onnx", "photos", "--workers", "0"], "--workers is the number of pictures at a time, from 1"),
    "engine": (["tiny.onnx", "photos", "--engine", "rai"], "no engine is called 'rai'; did you mean ray"),
    "of ray": (["tiny.onnx", "photos", "--address", "auto"], "--address is of the engine ray; give --engine ray too"),
    "balanced": (["tiny.onnx", "photos", "--balanced"], "--balanced says how --sample N draws"),
    "sample": (["tiny.onnx", "photos", "--sample", "0"], "a whole number of pictures from 1 on"),
    "options": (["tiny.onnx", "photos", "--maps", "theirs", "--fast"], "an option of a method needs one"),
    "format": (["tiny.onnx", "photos", "--format", "kitti"], "no format of data is called 'kitti'"),
    "address": (["tiny.onnx", "https://example.com/set"], "nothing is fetched"),
    "made anew": (
        ["results", "-m", "grad-cam"],
        "which takes --out, .*--no-report, .* nothing else; to measure, give MODEL.onnx and the data before -o results",
    ),
    "no label": (
        ["tiny.onnx", "photos/a", "--target", "label"],
        r"the target is the data's label, but a \(read as folder\) has none of any picture; give --data-labels FILE",
    ),
    "option of another format": (
        ["tiny.onnx", "photos", "--pictures", "photos"],
        r"the format folder does not read --pictures \(images= in Python\); it reads --classes, --data-labels, --split",
    ),
    "not compared": (
        ["tiny.onnx", "photos", "-m", "grad-cam", "--against", "layer-cam"],
        "nothing that is measured is called 'layer-cam'.*; give one of: grad-cam, ones, gaussian",
    ),
    "one of two": (
        ["tiny.onnx", "photos", "-m", "rise:masks=3,rise:masks=4", "--against", "rise"],
        r"2 of what is measured are called 'rise'.*: rise \(masks 3\), rise \(masks 4\), ones, gaussian",
    ),
    "against": (
        ["results", "--against", "rise"],
        "nothing that is measured is called 'rise'.*; give one of: grad-cam, ones, gaussian",
    ),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_one_sentence(words: Sequence[str], message: str) -> None:
    if "results" in words:
        evaluated("tiny.onnx", "photos", "-m", "grad-cam", "--metrics", "sparseness", "--no-report", "-q")
    with pytest.raises(OnnxCamError, match=message):
        evaluated(*words)
    assert "results" in words or not Path("results").exists(), "nothing is begun"


def test_a_missing_package_is_said_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxcam.evaluation.report as report

    find: Callable[..., Any] = report.find_spec
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "jinja2" else find(name))
    with pytest.raises(OnnxCamError, match=r'report.html needs Jinja2, .*: pip install "onnxcam\[evaluate\]"'):
        evaluated("tiny.onnx", "photos", *WORDS)
    assert not Path("results").exists()
    evaluated("tiny.onnx", "photos", *WORDS, "--no-report", "-q")


def test_an_assumed_preprocessing_is_said_before_the_work_in_the_tables_and_in_the_files() -> None:
    doubt = "tiny.onnx: preprocessing assumed: imagenet; if that is wrong, so is every number: --preset"
    done = called("tiny.onnx", "photos", "-m", "layer-cam", "--metrics", "sparseness")
    assert doubt in " ".join(done.stderr.split())
    assert doubt in " ".join(done.stdout.split())
    assert doubt in Path("results/report.html").read_text()
    (opening,) = json.loads(Path("results/summary.json").read_text())["run"]["openings"].values()
    assert (opening["preprocessing"], opening["assumed"]) == ("imagenet", True)


def test_a_preprocessing_that_was_given_is_no_doubt() -> None:
    done = called("tiny.onnx", "photos", "-m", "layer-cam", "--metrics", "sparseness", "--preset", "inception")
    assert "assumed" not in done.output
    assert "assumed" not in Path("results/report.html").read_text()
    (opening,) = json.loads(Path("results/summary.json").read_text())["run"]["openings"].values()
    assert opening["preprocessing"].startswith("inception (")
