"""`onnxcam predict` prints the model's own answers: those of ONNX Runtime itself, without a map. And -v shows the log."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from command import write_photos
from doc_files import DETECTOR
from small_models import CLASSIFIER, filled
from typer.testing import CliRunner

from onnxcam import Explainer
from onnxcam.cli.main import app
from onnxcam.errors import OptionError, PictureError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(filled(CLASSIFIER), tmp_path / "tiny.onnx")
    write_photos(tmp_path, ["a.png", "b.png"])
    (tmp_path / "labels.txt").write_text("ant\nbee\ncat\ndog\nelk\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records(*words: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["predict", "tiny.onnx", *words, "--preset", "raw", "--json"])
    assert done.exit_code == 0, done.output
    return list(json.loads(done.stdout))


def own_scores(picture: str) -> np.ndarray:
    """The model's output for the picture, by ONNX Runtime alone."""
    session = onnxruntime.InferenceSession("tiny.onnx", providers=["CPUExecutionProvider"])
    with Explainer("tiny.onnx", preset="raw", providers=["cpu"]) as explainer:
        image = explainer.prepare(picture).image
    return np.asarray(session.run(None, {session.get_inputs()[0].name: image[None]})[0][0], np.float64)


def test_the_answers_are_those_of_the_runtime_in_their_order() -> None:
    for record, picture in zip(records("a.png", "b.png", "--labels", "labels.txt"), ("a.png", "b.png"), strict=True):
        scores = own_scores(picture)
        order = np.argsort(-scores, kind="stable")
        assert record["image"] == picture
        assert [one["index"] for one in record["answers"]] == order.tolist()
        assert [one["rank"] for one in record["answers"]] == [1, 2, 3, 4, 5]
        assert record["answers"][0]["label"] == ["ant", "bee", "cat", "dog", "elk"][order[0]]
        np.testing.assert_allclose([one["value"] for one in record["answers"]], scores[order], rtol=1e-5)
        exponents = np.exp(scores - scores.max())
        np.testing.assert_allclose(
            [one["probability"] for one in record["answers"]], (exponents / exponents.sum())[order], rtol=1e-5
        )


def test_top_says_how_many_and_more_than_there_are_is_all() -> None:
    assert [len(one["answers"]) for one in records("a.png", "--top", "2")] == [2]
    assert [len(one["answers"]) for one in records("a.png", "--top", "50")] == [5]


def test_an_answer_is_what_its_rank_explains() -> None:
    with Explainer("tiny.onnx", "grad-cam", preset="raw", providers=["cpu"]) as explainer:
        answers = explainer.predict("a.png", 3)
        assert answers == [explainer("a.png", f"rank{i}").target for i in (1, 2, 3)]
        with pytest.raises(OptionError, match="count is a number of answers"):
            explainer.predict("a.png", 0)


def test_preprocessing_that_is_assumed_is_said_beside_the_answers() -> None:
    assumed = CliRunner().invoke(app, ["predict", "tiny.onnx", "a.png"])
    assert "preprocessing assumed: imagenet" in assumed.stderr
    assert "preprocessing" not in assumed.stdout
    stated = CliRunner().invoke(app, ["predict", "tiny.onnx", "a.png", "--preset", "raw", "--json"])
    assert "preprocessing" not in stated.stderr
    assert json.loads(stated.stdout)[0]["preset"]["name"] == "raw"


def test_lines_for_a_reader_name_the_picture_and_the_class() -> None:
    done = CliRunner().invoke(app, ["predict", "tiny.onnx", "a.png", "--labels", "labels.txt", "--top", "1"])
    name, line = done.stdout.splitlines()
    assert name == "a.png"
    assert line.split()[0] == "1"
    assert line.split()[-1] in ("ant", "bee", "cat", "dog", "elk")


def test_of_a_box_the_class_is_printed_and_its_number_is_no_probability(folder: Path) -> None:
    (folder / "few.txt").write_text("fork\nspoon\ntable\n")
    onnx.save(filled(DETECTOR, check=False), "boxes.onnx")
    words = ["predict", "boxes.onnx", "a.png", "--preset", "raw", "--labels", "few.txt", "--top", "1"]
    lines = CliRunner().invoke(app, words).stdout.splitlines()
    (record,) = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    (answer,) = record["answers"]
    with Explainer("boxes.onnx", "grad-cam", preset="raw", providers=["cpu"]) as explainer:
        image = explainer.prepare("a.png").image
    session = onnxruntime.InferenceSession("boxes.onnx", providers=["CPUExecutionProvider"])
    table = session.run(None, {session.get_inputs()[0].name: image[None]})[0][0]
    score = table[4 + answer["class_index"], answer["box_number"]]
    assert answer["class_label"] == ["fork", "spoon", "table"][answer["class_index"]]
    assert (answer["probability"], answer["kind"]) == (None, "boxes")
    assert answer["value"] == pytest.approx(float(score), rel=1e-5)
    assert answer["index"] == np.ravel_multi_index((4 + answer["class_index"], answer["box_number"]), table.shape)
    assert lines[1].split()[1:3] == [f"{score:.4f}", str(answer["class_index"])]


def test_a_broken_picture_is_named(folder: Path) -> None:
    (folder / "c.png").write_bytes(b"no picture")
    done = CliRunner().invoke(app, ["predict", "tiny.onnx", "a.png", "c.png"])
    assert isinstance(done.exception, PictureError)
    assert str(done.exception).startswith("c.png: ")


def test_verbose_says_on_standard_error_what_was_chosen_and_twice_each_picture() -> None:
    words = ["predict", "tiny.onnx", "a.png", "--preset", "raw", "--json"]
    silent, once, twice = (CliRunner().invoke(app, [*words, *more]) for more in ([], ["-v"], ["-vv"]))
    assert silent.stderr == ""
    assert "info: network.opening: opened " in once.stderr
    assert "debug: " not in once.stderr
    assert "debug: engine.session: " in twice.stderr
    assert json.loads(silent.stdout) == json.loads(once.stdout) == json.loads(twice.stdout)
    assert CliRunner().invoke(app, words).stderr == "", "the next command is silent again"


def test_answers_that_are_all_alike_are_said_to_be(folder: Path) -> None:
    model = onnx.load("tiny.onnx")
    for tensor in model.graph.initializer:  # no picture changes its answer, and no class has a bias of its own
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name))
    onnx.save(model, "dead.onnx")
    for model_file, said in (("dead.onnx", True), ("tiny.onnx", False)):
        done = CliRunner().invoke(app, ["predict", model_file, "a.png", "--preset", "raw"])
        assert (
            "a.png: the model gives these 5 classes the same score, so their order says nothing" in done.stderr
        ) is said
        assert "same score" not in done.stdout


def test_explain_says_the_five_best_classes_of_each_picture_once() -> None:
    words = ["explain", "tiny.onnx", "a.png", "b.png", "-m", "grad-cam", "--preset", "raw", "--labels", "labels.txt"]
    done = CliRunner().invoke(app, [*words, "--target", "top2", "-o", "maps/", "-v"])
    lines = [line for line in done.stdout.splitlines() if line.startswith("  best classes  ")]
    assert len(lines) == 2, done.output
    for line, record in zip(lines, records("a.png", "b.png", "--labels", "labels.txt"), strict=True):
        printed = [part.split(" ") for part in line.removeprefix("  best classes  ").split("; ")]
        assert [label for label, _ in printed] == [one["label"] for one in record["answers"]]
        expected = [one["probability"] for one in record["answers"]]
        np.testing.assert_allclose([float(number) for _, number in printed], expected, rtol=0.05, atol=5e-5)
    explained = json.loads(CliRunner().invoke(app, [*words, "-o", "others/", "--json"]).stdout)
    assert [one["answers"] for one in explained] == [
        one["answers"] for one in records("a.png", "b.png", "--labels", "labels.txt")
    ]


@pytest.mark.parametrize("words", [["--layer", "auto", "--layer", "last-conv"], ["--isolated"], ["--target", "3"]])
def test_the_best_classes_do_not_depend_on_how_and_what_is_explained(words: list[str]) -> None:
    (expected,) = records("a.png")
    done = CliRunner().invoke(
        app, ["explain", "tiny.onnx", "a.png", "-m", "grad-cam", "--preset", "raw", *words, "--json"]
    )
    assert done.exception is None
    (record,) = json.loads(done.stdout)
    assert [one["index"] for one in record["answers"]] == [one["index"] for one in expected["answers"]]


def test_an_element_of_an_output_has_no_best_classes() -> None:
    done = CliRunner().invoke(
        app, ["explain", "tiny.onnx", "a.png", "-m", "grad-cam", "--preset", "raw", "--index", "2"]
    )
    assert done.exception is None
    assert "best classes" not in done.stdout
