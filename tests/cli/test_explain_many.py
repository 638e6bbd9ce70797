"""`onnxcam explain` of many pictures: each is written when it is explained, and a run that stops keeps those."""

import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import files, onnxcam
from PIL import Image
from typer.testing import CliRunner

from onnxcam.cli.failures import Reported
from onnxcam.cli.main import app
from onnxcam.cli.pictures import list_pictures
from onnxcam.cli.stopping import stoppable
from onnxcam.errors import OutputError, PictureError
from onnxcam.outputs.formats import FORMATS, Writer
from onnxcam.outputs.paths import plan


@pytest.fixture
def folder(classifier: onnx.ModelProto, tmp_path: Path) -> Path:
    """tiny.onnx, and pictures/ with 1000 names of one picture."""
    onnx.save(classifier, tmp_path / "tiny.onnx")
    pixels = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(pixels).save(tmp_path / "pictures" / "0000.png")
    for i in range(1, 1000):
        os.link(tmp_path / "pictures" / "0000.png", tmp_path / "pictures" / f"{i:04}.png")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_and_counts_the_pictures_that_it_finished(folder: Path, number: int, code: int) -> None:
    command = [sys.executable, "-m", "onnxcam", "explain", "tiny.onnx", "pictures"]
    with open(folder / "records.json", "wb") as out:
        run = subprocess.Popen(
            [*command, "--json", "--format", "png,npy", "-o", "maps/"], cwd=folder, stdout=out, stderr=subprocess.PIPE
        )
    until = time.monotonic() + 120
    while not (folder / "records.json").stat().st_size and time.monotonic() < until:
        time.sleep(0.01)
    run.send_signal(number)
    _, message = run.communicate(timeout=60)
    assert run.returncode == code
    records = json.loads((folder / "records.json").read_text())
    assert 0 < len(records) < 1000
    verb = "was" if len(records) == 1 else "were"
    again = "--resume goes on with the others"
    assert message.decode() == f"stopped: {len(records)} of 1000 pictures {verb} written; {again}\n"
    written = sorted(f"maps/{path}" for path in files(folder / "maps"))
    assert written == sorted(path for record in records for path in record["outputs"]), "whole pictures, no leftovers"
    assert len(written) == 2 * len(records)


@pytest.mark.parametrize(
    ("signals", "code", "steps"),
    [([signal.SIGTERM], 143, ["written"]), ([signal.SIGINT], 130, ["written"]), ([signal.SIGINT] * 2, 130, [])],
)
def test_a_signal_waits_for_the_files_of_a_picture_and_a_second_one_does_not(
    signals: list[signal.Signals], code: int, steps: list[str]
) -> None:
    done: list[str] = []

    def run() -> None:
        with stoppable() as stop:
            with stop.deferred():
                for number in signals:
                    signal.raise_signal(number)
                done.append("written")
            done.append("next picture")

    with pytest.raises(SystemExit) as stopped:
        run()
    assert (done, stopped.value.code) == (steps, code)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many maps were alive whenever one was written."""
    counts: list[int] = []
    maps: list[Any] = []

    def write(saliency: Any, picture: Any, style: Any, metrics: Any) -> bytes:
        maps.append(weakref.ref(saliency))
        counts.append(sum(one() is not None for one in maps))
        return b"map"

    monkeypatch.setitem(FORMATS, "npy", Writer(".npy", write))  # type: ignore[arg-type]
    return counts


@pytest.mark.parametrize("words", [["--json"], ["--fast"], ["--quiet", "--keep-going"]], ids=" ".join)
def test_no_map_is_kept_once_it_is_written(
    folder: Path, alive: list[int], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    pictures = [f"pictures/{i:04}.png" for i in range(40)]
    done = CliRunner().invoke(app, ["explain", "tiny.onnx", *pictures, "-o", "maps/", "--format", "npy", *words])
    assert done.exit_code == 0, done.output
    assert len(alive) == 40
    assert max(alive[20:]) <= max(alive[:20]), f"it grows: {alive}"


def test_ten_thousand_pictures_are_listed_and_planned_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    for i in range(1, 10_000):
        os.link(tmp_path / "0.png", tmp_path / f"{i}.png")
    paths = [str(tmp_path / f"{i}.png") for i in range(10_000)]
    start = time.process_time()
    images, failures = list_pictures([*paths, str(tmp_path), *paths], keep_going=False)
    assert [str(image) for image in images] == paths
    assert not failures
    planned = plan(images, [["cat", "dog"]] * len(images), "score-cam", ["png", "npy"], f"{tmp_path}/maps/")
    assert len({path for files in planned for target in files for path in target.values()}) == 40_000
    assert time.process_time() - start < 10


def test_a_file_that_cannot_be_written_ends_the_run_and_says_what_was_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full: Iterator[bool] = iter([False, False, False, True, False, False])

    def write(saliency: Any, picture: Any, style: Any, metrics: Any) -> bytes:
        if next(full):
            raise OutputError("cannot write maps/0003.score-cam.npy: no space left; make room")
        return b"map"

    monkeypatch.setitem(FORMATS, "npy", Writer(".npy", write))  # type: ignore[arg-type]
    monkeypatch.chdir(folder)
    words = [f"pictures/000{i}.png" for i in range(6)] + [
        "-o",
        "maps/",
        "--format",
        "png,npy",
        "--json",
        "--keep-going",
    ]
    done = CliRunner().invoke(app, ["explain", "tiny.onnx", *words])
    assert isinstance(done.exception, Reported)
    assert isinstance(done.exception.error, OutputError)
    assert str(done.exception).startswith("pictures/0003.png: cannot write")
    assert str(done.exception).endswith("; 3 of 6 pictures were written")
    *records, last = json.loads(done.stdout)
    assert [record["image"] for record in records] == [f"pictures/000{i}.png" for i in range(3)]
    assert last["error"]["type"] == "OutputError"
    assert files(folder / "maps") == {f"000{i}.score-cam.{f}" for i in range(3) for f in ("png", "npy")}


def test_a_named_picture_is_explained_even_if_it_looks_like_an_overlay(tmp_path: Path) -> None:
    for name in ("a.png", "a.score-cam.png", "b.grad-cam.png"):
        (tmp_path / name).write_bytes(b"")
    listed = list_pictures([str(tmp_path), str(tmp_path / "b.grad-cam.png")], keep_going=False)[0]
    assert [path.name for path in listed] == ["a.png", "b.grad-cam.png"]
    with pytest.raises(PictureError, match="no such file"):
        list_pictures([str(tmp_path / "c.png")], keep_going=False)


def test_without_any_record_the_error_is_the_document(folder: Path) -> None:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"no picture")
    words: Sequence[str] = ["explain", "tiny.onnx", "a.png", "b.png", "--json"]
    done = onnxcam(*words, "--keep-going", cwd=folder)
    assert (done.returncode, json.loads(done.stdout)["error"]["type"]) == (1, "SkippedPictures")
    assert json.loads(onnxcam(*words, cwd=folder).stdout)["error"]["type"] == "PictureError"
    absent = onnxcam(*words, "--target", "99", "--keep-going", cwd=folder)
    assert json.loads(absent.stdout)["error"]["type"] == "TargetError"
