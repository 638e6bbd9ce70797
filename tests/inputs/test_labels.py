"""Class labels: where they are read from, what is refused, and the index of a label."""

import os
from pathlib import Path

import pytest

from onnxcam.errors import LabelError, TargetError
from onnxcam.inputs.labels import check_labels, find_class, find_labels, read_labels
from onnxcam.types import Origin, Source


def test_labels_from_metadata_ultralytics_and_hugging_face(tmp_path: Path) -> None:
    metadata = Origin(Source.METADATA, "ONNX metadata onnxcam.labels")
    assert find_labels({"onnxcam.labels": '["a", "b"]'}, None) == (["a", "b"], metadata)
    names = Origin(Source.METADATA, "ONNX metadata names")
    assert find_labels({"names": "{0: 'person', 1: 'bicycle'}"}, None) == (["person", "bicycle"], names)
    (tmp_path / "config.json").write_text('{"id2label": {"1": "b", "0": "a"}}')
    assert find_labels({}, tmp_path / "m.onnx") == (
        ["a", "b"],
        Origin(Source.CONFIG_FILE, "config.json beside the model"),
    )


@pytest.mark.parametrize(
    "names",
    [
        "__import__('os').system('true')",
        "{0: 'a', 2: 'b'}",
        "(",
        "[" * 5000,
        "{[]: 'a'}",
        "{0: 1}",
        "-" * 10**6,
        "",
        "{0: '" + "a" * 2**20 + "'}",
    ],
    ids=["call", "gap", "open", "deep", "unhashable", "number", "recursive", "nothing", "long"],
)
def test_names_that_are_no_plain_labels_are_passed_over(names: str) -> None:
    assert find_labels({"names": names}, None) is None


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"id2label": {"1": "a"}}', "\udcff", "1" * 5000])
def test_a_config_without_labels_is_passed_over(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_bytes(config.encode(errors="surrogateescape"))
    assert find_labels({}, tmp_path / "m.onnx") is None


def test_labels_cannot_command_the_terminal(tmp_path: Path) -> None:
    assert find_labels({"onnxcam.labels": r'["a\u001b[31m\nb", "\ud800c"]'}, None) == (
        ["a [31m b", "c"],
        Origin(Source.METADATA, "ONNX metadata onnxcam.labels"),
    )
    (tmp_path / "l.txt").write_bytes(b"\x1b]0;title\x07cat\n dog \n")
    assert read_labels(tmp_path / "l.txt") == ["]0;title cat", "dog"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "a\nb c\n\n"),
        ("l.txt", "\ufeffa\r\nb c\r\n"),
        ("l.json", '["a", "b c"]'),
        ("l.json", '{"1": "b c", "0": "a"}'),
    ],
)
def test_label_files_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_labels(tmp_path / name) == ["a", "b c"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("l.txt", b""),
        ("l.txt", b"\xff\xfe\x00"),
        ("l.json", b"{"),
        ("l.json", b'{"0": "a", "2": "b"}'),
        ("l.json", b"[1, 2]"),
    ],
)
def test_damaged_label_files_are_errors(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(LabelError, match=name):
        read_labels(tmp_path / name)


def test_missing_label_file_and_wrong_length() -> None:
    with pytest.raises(LabelError, match="no such file"):
        read_labels(Path("/nonexistent/labels.txt"))
    with pytest.raises(LabelError, match="x: 1 labels, but the model has 2 classes"):
        check_labels(["a"], 2, "x")


def test_a_pipe_or_a_model_is_no_label_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "model.onnx").write_bytes(b"a" * (2**24 + 1))
    for name, wrong in (
        ("pipe.txt", "not a regular file"),
        ("model.onnx", "more than a label file may have"),
        (".", "a folder"),
    ):
        with pytest.raises(LabelError, match=wrong):
            read_labels(tmp_path / name)


def test_a_class_is_found_by_its_name_whatever_its_case() -> None:
    labels = ["tabby_cat", "crane", "Crane", "crane"]
    assert find_class(labels, "Tabby cat") == 0
    assert find_class(labels, "Crane") == 2
    with pytest.raises(TargetError, match="names 2 classes: 1, 3"):
        find_class(labels, "crane")
    with pytest.raises(TargetError, match="did you mean tabby_cat"):
        find_class(labels, "taby cat")
    with pytest.raises(TargetError, match=r"names 50 classes: 0, 1, .*9, \.\.\.; give the index"):
        find_class(["same"] * 50, "Same")
