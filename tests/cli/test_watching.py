"""`onnxcam explain --watch`: pictures as they come, whole ones alone, and an end by a signal that says what was done."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import onnx
import pytest
from command import files, write_photos
from PIL import Image
from typer.testing import CliRunner

from onnxcam.cli.main import app
from onnxcam.cli.watched_folder import PATIENCE, QUIET, Arrivals, OwnFiles, WatchedFolder
from onnxcam.errors import OnnxCamError, OptionError

# As `onnxcam`, with shorter waits, and a line for each model that is opened.
PROGRAM = """
import sys
from onnxcam.cli import printing, watched_folder
from onnxcam.explainer import explainer
watched_folder.QUIET, watched_folder.PATIENCE, watched_folder.POLL, watched_folder.GATHER = 0.3, 0.6, 50, 50
init = explainer.Explainer.__init__
def counted(self, *words, **named):
    printing.print_note("opened")
    init(self, *words, **named)
explainer.Explainer.__init__ = counted
sys.argv = ["onnxcam", "explain", "tiny.onnx", "in", "--watch", "-m", "grad-cam", "--preset", "raw", *{words!r}]
from onnxcam.cli.start import start
start()
"""


@pytest.fixture
def folder(classifier: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiny.onnx and in/ with two pictures, in the working directory."""
    onnx.save(classifier, tmp_path / "tiny.onnx")
    write_photos(tmp_path / "in", ["1.png", "2.png"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Watching:
    """A running command. records: what was printed on standard output so far, a line each."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended: {self.lines}"
        self.lines.append(line)
        return line

    def record(self) -> dict[str, Any]:
        """The next line, with --json."""
        record = json.loads(self.line())
        assert isinstance(record, dict)
        return record

    def stop(self, number: int) -> tuple[int, str, str]:
        """Exit code, and the rest of standard output and of standard error."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextmanager
def watching(*words: str) -> Iterator[Watching]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(words=words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    late = threading.Timer(90, process.kill)
    late.start()
    try:
        yield Watching(process)
    finally:
        late.cancel()
        process.kill()
        process.wait()


def test_pictures_are_explained_as_they_come_and_a_record_a_line_says_so(folder: Path) -> None:
    write_photos(folder / "elsewhere", ["moved.png"])
    with watching("-o", "maps/", "--json") as run:
        assert [run.record()["image"] for _ in range(2)] == ["in/1.png", "in/2.png"], "what is there comes first"
        os.rename("elsewhere/moved.png", "in/moved.png")
        record = run.record()
        assert (record["image"], record["outputs"]) == ("in/moved.png", ["maps/moved.grad-cam.png"])
        assert Path("maps/moved.grad-cam.png").is_file(), "the files are there before the line"
        code, out, err = run.stop(signal.SIGTERM)
    assert (code, out) == (128 + signal.SIGTERM, "")
    first, second, last = err.splitlines()
    assert {first, second} == {"opened", "watching in (Ctrl-C ends it)"}, "one model"
    assert last.startswith("3 pictures, ")
    assert last.endswith(" s, maps/")


@pytest.mark.slow
def test_renamed_broken_changed_and_slowly_written_pictures(folder: Path) -> None:
    whole = Path("in/1.png").read_bytes()
    with watching("-o", "maps/", "--json") as run:
        assert [run.record()["image"] for _ in range(2)] == ["in/1.png", "in/2.png"], "what is there comes first"
        os.rename("in/2.png", "in/renamed.png")
        assert run.record()["image"] == "in/renamed.png"
        Path("in/broken.png").write_bytes(whole[:200])
        skipped = run.record()
        assert (skipped["skipped"], skipped["error"]["type"]) == ("in/broken.png", "PictureError")
        assert skipped["error"]["message"].startswith("in/broken.png: ")
        Path("in/broken.png").write_bytes(whole)
        assert run.record()["image"] == "in/broken.png", "it is tried again when it changes"
        Image.open("in/1.png").save("in/1.bmp")
        assert run.record()["outputs"] == ["maps/1-bmp.grad-cam.png"], "no picture's files are replaced by another's"
        os.replace("in/renamed.png", "in/1.png")
        assert run.record()["outputs"] == ["maps/1.grad-cam.png"], "it keeps its name, so no map of the old one is left"
        write_slowly(Path("in/slow.png"), whole)
        slow = run.record()
        code, out, err = run.stop(signal.SIGTERM)
    assert (code, out) == (128 + signal.SIGTERM, "")
    _, _, line, last = err.splitlines()
    assert line.startswith("skipped in/broken.png: ")
    assert last.startswith("7 pictures (1 replaced: ")
    assert slow["map"]["sha256"] == record_of("slow")["map"]["sha256"], "once, the map of all of its pixels"
    expected = ("1", "1-bmp", "2", "renamed", "broken", "slow")
    assert files(Path("maps")) == {f"{name}.grad-cam.png" for name in expected}


def write_slowly(path: Path, content: bytes) -> None:
    """Writes a file in six pieces, for longer than a picture has to stay the same."""
    with path.open("wb") as file:
        for start in range(0, len(content), len(content) // 6):
            file.write(content[start : start + len(content) // 6])
            file.flush()
            threading.Event().wait(0.15)


def record_of(name: str) -> Any:
    words = ["explain", "tiny.onnx", f"in/{name}.png", "-m", "grad-cam", "--preset", "raw", "-o", "one.json", "-q"]
    assert CliRunner().invoke(app, words).exit_code == 0
    return json.loads(Path("one.json").read_text())


@pytest.mark.slow
def test_files_of_another_call_stay_and_those_of_the_run_are_replaced_when_a_picture_changes(folder: Path) -> None:
    words = [
        "explain",
        "tiny.onnx",
        "in/1.png",
        "-m",
        "grad-cam",
        "--preset",
        "raw",
        "-o",
        "maps/",
        "--alpha",
        "0.3",
        "-q",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    before = Path("maps/1.grad-cam.png").read_bytes()
    write_photos(folder / "elsewhere", ["a.png", "b.png", "c.png"])
    with watching("-o", "maps/", "--json") as run:
        lines = [run.record() for _ in range(2)]
        assert [line["error"]["type"] for line in lines if line.get("skipped") == "in/1.png"] == ["OutputError"]
        assert [line["image"] for line in lines if "image" in line] == ["in/2.png"]
        os.replace("elsewhere/c.png", "in/2.png")
        assert run.record()["image"] == "in/2.png", "its files are of this run"
        _, _, err = run.stop(signal.SIGINT)
    assert "maps/1.grad-cam.png is there, of another call" in err
    assert Path("maps/1.grad-cam.png").read_bytes() == before
    with watching("-o", "maps/", "--json", "--overwrite") as run:
        assert run.record()["image"] == "in/1.png", "the other is complete"
        run.stop(signal.SIGINT)
    assert Path("maps/1.grad-cam.png").read_bytes() != before


@pytest.mark.slow
def test_another_model_writes_beside_and_replaces_its_own_when_a_picture_changes(folder: Path) -> None:
    other = onnx.load("tiny.onnx")
    other.doc_string = "another file"
    onnx.save(other, "other.onnx")
    words = ["explain", "other.onnx", "in/1.png", "-m", "grad-cam", "-o", "maps/", "-q"]
    assert CliRunner().invoke(app, words).exit_code == 0
    before = Path("maps/1.grad-cam.png").read_bytes()
    write_photos(folder / "elsewhere", ["a.png", "b.png", "c.png"])
    with watching("-o", "maps/", "--json") as run:
        outputs = [run.record()["outputs"] for _ in range(2)]
        assert outputs == [["maps/1.tiny.grad-cam.png"], ["maps/2.grad-cam.png"]]
        os.replace("elsewhere/c.png", "in/1.png")
        assert run.record()["outputs"] == ["maps/1.tiny.grad-cam.png"]
        run.stop(signal.SIGINT)
    assert Path("maps/1.grad-cam.png").read_bytes() == before


@pytest.mark.slow
def test_what_it_writes_into_its_own_folder_is_no_picture_and_a_new_start_goes_on(folder: Path) -> None:
    words = ("-o", "in/", "--format", "png,jpg,heatmap", "-q")
    with watching(*words) as run:
        wait_for("in/2.grad-cam.jpg")
        assert run.stop(signal.SIGINT) == (130, "", "opened\n")
    before = {name: os.stat(folder / name).st_mtime_ns for name in files(folder)}
    with watching(*words[:-1]) as run:
        write_photos(folder / "in", ["3.png"])
        assert run.line().startswith("in/3.png -> in/3.grad-cam.png, in/3.grad-cam.jpg, ")
        code, out, err = run.stop(signal.SIGINT)
    assert code == 130
    assert out.splitlines()[-1].startswith("1 picture, 2 complete before, ")
    assert "skipped" not in err
    assert {name: os.stat(folder / name).st_mtime_ns for name in before} == before, "nothing was written again"
    assert len(files(folder / "in")) == 3 * 4


def wait_for(path: str) -> None:
    for _ in range(600):
        if Path(path).is_file():
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"{path} did not come")


@pytest.mark.slow
def test_recursive_takes_a_folder_that_is_moved_in_and_a_folder_that_is_gone_ends_the_run(folder: Path) -> None:
    shutil.rmtree("in")
    Path("in").mkdir()
    with watching("--recursive", "-o", "maps/") as run:
        assert run.process.stderr is not None
        assert run.process.stderr.readline() == "opened\n"
        assert run.process.stderr.readline() == "watching in (Ctrl-C ends it)\n"
        write_photos(folder / "new", ["a/1.png", "b/1.png"])
        os.rename("new", "in/new")
        lines = [*islice((line for line in iter(run.line, "") if " -> " in line), 2)]
        assert [line.split(" (")[0] for line in lines] == [
            f"in/new/{one}/1.png -> maps/new/{one}/1.grad-cam.png" for one in "ab"
        ]
        shutil.rmtree("in")
        _, err = run.process.communicate(timeout=60)
    assert run.process.returncode == 1
    assert "error: in: the folder is gone" in err


@pytest.mark.slow
def test_files_that_come_while_it_runs_are_not_its_own(folder: Path) -> None:
    long = "x" * 120
    with watching("-o", "maps/", "--json") as run:
        assert [run.record()["image"] for _ in range(2)] == ["in/1.png", "in/2.png"], "what is there comes first"
        Path("maps/mine.grad-cam.png").write_bytes(b"mine")
        os.symlink("nowhere.png", "maps/link.grad-cam.png")
        for name in ("mine", "link"):
            write_photos(folder / "in", [f"{name}.png"])
            assert run.record()["skipped"] == f"in/{name}.png"
        for name in (f"{long}1", "7-jpg", "7"):
            write_photos(folder / "in", [f"{name}.png"])
            assert run.record()["image"] == f"in/{name}.png"
        before = {name: Path("maps", name).read_bytes() for name in files(folder / "maps")}
        write_photos(folder / "elsewhere", ["other.png", f"{long}2.png", "7.jpg"])
        for name in (f"{long}2.png", "7.jpg"):  # their files have the names of another picture's
            os.rename(f"elsewhere/{name}", f"in/{name}")
            assert run.record()["skipped"] == f"in/{name}"
        run.stop(signal.SIGTERM)
    assert {name: Path("maps", name).read_bytes() for name in files(folder / "maps")} == before
    assert before["mine.grad-cam.png"] == b"mine"
    assert not Path("maps/nowhere.png").exists()


@pytest.mark.slow
def test_it_watches_on_after_a_name_that_is_no_text_and_where_another_folder_takes_the_place(folder: Path) -> None:
    with watching("-o", "maps/", "--json") as run:
        assert [run.record()["image"] for _ in range(2)] == ["in/1.png", "in/2.png"], "what is there comes first"
        os.rename(b"in/2.png", b"in/\xff.png")
        assert run.record()["outputs"] == ["maps/\udcff.grad-cam.png"]
        write_photos(folder / "in", ["after.png"])
        assert run.record()["image"] == "in/after.png", "it watches on, and explains each picture once"
        os.rename("in", "moved")
        os.mkdir("in")
        write_photos(folder / "in", ["new.png"])
        assert run.record()["image"] == "in/new.png"
        write_photos(folder / "in", ["_.png", "newer.png"])
        assert {run.record()["image"] for _ in range(2)} == {"in/_.png", "in/newer.png"}
        code, _, err = run.stop(signal.SIGTERM)
    assert (code, "skipped" in err) == (128 + signal.SIGTERM, False)


def test_a_file_is_known_as_own_until_another_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcam.cli.watched_folder.MOST_OWN", 2)
    file, record, own = tmp_path / "1.png", tmp_path / "1.json", OwnFiles()
    file.write_bytes(b"1")
    assert not own.are_all(Path("1"), [file, record])
    own.wrote(Path("1"), [file, record])
    assert own.are_all(Path("1"), [file, record])
    assert not own.are_all(Path("2"), [file, record])
    record.write_text("{}")
    assert not own.are_all(Path("1"), [file, record]), "it came later"
    record.unlink()
    file.write_bytes(b"12")
    assert not own.are_all(Path("1"), [file, record])
    own.wrote(Path("1"), [file])
    for image in ("2", "3"):
        own.wrote(Path(image), [])
    assert not own.are_all(Path("1"), [file]), "only the last ones are known"


def test_a_folder_that_cannot_be_watched_again_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []

    def watch(*_: Any, **__: Any) -> Iterator[set[tuple[int, str]]]:
        starts.append(1)
        if len(starts) == 1:
            yield set()
            yield {(1, f"{tmp_path}/1.png")}
        raise RuntimeError("no text")

    monkeypatch.setattr("watchfiles.watch", watch)
    write_photos(tmp_path, ["1.png"])
    with WatchedFolder.of(tmp_path, recursive=False, out=None).changes() as changes:
        assert [next(changes), next(changes)] == [[], [tmp_path / "1.png"]]
        with pytest.raises(OptionError, match=r"cannot be watched \(no text\)"):
            next(changes)
    assert 2 < len(starts) < 20


def test_a_picture_is_handed_out_when_it_does_not_change_any_more(tmp_path: Path) -> None:
    image, arrivals = tmp_path / "1.png", Arrivals()
    image.write_bytes(b"1")
    arrivals.changed(image, 0)
    assert arrivals.ready(QUIET * 0.9, 9) == []
    image.write_bytes(b"12")
    assert arrivals.ready(QUIET, 9) == [], "it grew, whether an event said so or not"
    assert arrivals.ready(QUIET * 1.9, 9) == []
    arrivals.changed(image, QUIET * 1.9)
    assert arrivals.ready(QUIET * 2, 9) == [image], "an event without a change does not count"
    assert arrivals.ready(100, 9) == []
    image.write_bytes(b"123")
    arrivals.changed(image, 200)
    image.unlink()
    assert arrivals.ready(300, 9) == []


def test_what_cannot_be_read_is_tried_once_more_and_again_when_it_changes(tmp_path: Path) -> None:
    image, arrivals = tmp_path / "1.png", Arrivals()
    image.write_bytes(b"1")
    assert not arrivals.unreadable(image, 0)
    assert arrivals.ready(PATIENCE * 0.9, 9) == []
    assert arrivals.ready(PATIENCE, 9) == [image]
    assert arrivals.unreadable(image, PATIENCE)
    assert arrivals.skipped == 1
    arrivals.changed(image, 100)
    assert arrivals.ready(200, 9) == [], "it is as it was"
    image.write_bytes(b"12")
    arrivals.changed(image, 200)
    assert arrivals.skipped == 0
    assert arrivals.ready(201, 9) == [image]
    assert not arrivals.unreadable(image, 201), "another content has its own two tries"
    assert arrivals.ready(201 + PATIENCE, 9) == [image]
    assert arrivals.unreadable(image, 201 + PATIENCE)
    image.chmod(0o600)
    arrivals.changed(image, 300)
    assert arrivals.ready(301, 9) == [image], "it may be allowed to be read now"


@pytest.mark.parametrize("refuse", [Arrivals.refused, lambda arrivals, image: arrivals.unreadable(image, 2)])
def test_what_changes_while_it_is_explained_in_vain_is_tried(
    tmp_path: Path, refuse: Callable[[Arrivals, Path], object]
) -> None:
    image, arrivals = tmp_path / "1.png", Arrivals()
    image.write_bytes(b"1")
    arrivals.changed(image, 0)
    assert arrivals.ready(1, 9) == [image]
    image.write_bytes(b"12")
    refuse(arrivals, image)
    arrivals.changed(image, 2)
    assert arrivals.ready(3, 9) == [image]


def test_pictures_of_a_folder_that_is_gone_do_not_wait(tmp_path: Path) -> None:
    arrivals = Arrivals()
    write_photos(tmp_path, ["a/1.png", "b/1.png", "b/2.png", "b/3.png"])
    for name in ("a/1.png", "b/1.png", "b/2.png", "b/3.png"):
        arrivals.changed(tmp_path / name, 0)
    arrivals.gone({tmp_path / "a"})
    assert arrivals.ready(10, 2) == [tmp_path / "b/1.png", tmp_path / "b/2.png"]
    assert arrivals.ready(10, 2) == [tmp_path / "b/3.png"]


def test_hidden_files_other_kinds_and_the_folder_of_the_output_are_left_out(tmp_path: Path) -> None:
    write_photos(
        tmp_path, ["10.png", "9.png", ".hidden.png", "9.grad-cam.png", "maps/1.png", "sub/1.png", ".cache/1.png"]
    )
    (tmp_path / "notes.txt").write_text("no picture")
    flat = WatchedFolder.of(tmp_path, recursive=False, out=None)
    assert [path.name for path in flat.listed()] == ["9.png", "10.png"]
    deep = WatchedFolder.of(tmp_path, recursive=True, out=str(tmp_path / "maps"))
    assert [str(path.relative_to(tmp_path)) for path in deep.listed()] == ["9.png", "10.png", "sub/1.png"]
    assert deep.below(tmp_path / ".cache") == deep.below(tmp_path / "maps/1.png") == []


def test_a_folder_that_goes_while_it_is_looked_at_holds_nothing(tmp_path: Path) -> None:
    write_photos(tmp_path, ["a/1.png"])
    folder = WatchedFolder.of(tmp_path, recursive=True, out=None)
    shutil.rmtree(tmp_path / "a")
    assert folder.below(tmp_path / "a") == []
    assert folder.with_namesakes([tmp_path / "a/1.png"]) == [tmp_path / "a/1.png"]


def test_pictures_that_differ_by_their_ending_alone_are_named_together(tmp_path: Path) -> None:
    write_photos(tmp_path, ["1.png", "1.JPG", "10.png", "a/1.png"])
    folder = WatchedFolder.of(tmp_path, recursive=True, out=None)
    assert folder.with_namesakes([tmp_path / "1.png"]) == [tmp_path / "1.png", tmp_path / "1.JPG"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in/1.png"], "in/1.png: no such folder; --watch takes one folder"),
        (["none"], "none: no such folder"),
        (["in", "in"], "and 2 paths are given"),
        (["in", "-o", "map.png"], "end a folder's name in /"),
        (["in", "--truth", "1,1,9,9", "--metrics", "pointing-game"], "--watch takes many"),
        (["in", "--format", "npy"], "--watch: an .npy does not say .*--format npy,json"),
        (["in", "--image-input", "x", "--image-input", "y"], "leave one --image-input"),
    ],
)
def test_what_cannot_be_watched_is_one_sentence(folder: Path, words: Sequence[str], message: str) -> None:
    done = CliRunner().invoke(app, ["explain", "tiny.onnx", *words, "--watch"])
    assert isinstance(done.exception, OnnxCamError)
    with pytest.raises(OptionError, match=message):
        raise done.exception


def test_without_watchfiles_the_error_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = CliRunner().invoke(app, ["explain", "tiny.onnx", "in", "--watch", "--json"])
    assert '--watch needs watchfiles, which is not installed: pip install "onnxcam[watch]"' in str(done.exception)
    assert json.loads(done.stdout)["error"]["type"] == "OptionError"
    assert done.stdout.count("\n") == 1
