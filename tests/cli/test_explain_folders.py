"""`onnxcam explain` of folders: sub-folders, patterns in quotes, and runs that go on where one stopped."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import onnx
import pytest
from command import files, write_photos
from results import saliency
from typer.testing import CliRunner

from onnxcam.cli.explain_options import ExplainArgs
from onnxcam.cli.main import app
from onnxcam.cli.options import MethodArgs
from onnxcam.cli.picture_lines import PictureLines
from onnxcam.cli.pictures import list_pictures, picture_tree
from onnxcam.cli.resume import contents_of
from onnxcam.errors import OnnxCamError, OptionError, OutputError, PictureError, TargetError
from onnxcam.explainer import prefetch
from onnxcam.inputs.patterns import matching
from onnxcam.types import Note, NoteCode

NAMES = ("top.png", "cat/1.png", "cat/2.png", "dog/1.png", "dog/small/1.png")


@pytest.fixture
def photos(classifier: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiny.onnx, and photos/ with NAMES, each of other pixels; the working directory is their folder."""
    onnx.save(classifier, tmp_path / "tiny.onnx")
    write_photos(tmp_path / "photos", NAMES)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def explained(*words: str, code: int = 0) -> list[str]:
    """The lines on standard output of a call, whose method is Grad-CAM."""
    done = CliRunner().invoke(app, ["explain", "tiny.onnx", "-m", "grad-cam", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout.splitlines()


def written(lines: Sequence[str]) -> list[str]:
    return [line.split(" -> ")[0] for line in lines if " -> " in line]


def test_recursive_keeps_the_sub_folders_so_that_equal_names_stay_apart(photos: Path) -> None:
    lines = explained("photos", "--recursive", "-o", "maps/")
    assert files(Path("maps")) == {name.replace(".png", ".grad-cam.png") for name in NAMES}
    assert written(lines) == [f"photos/{name}" for name in sorted(NAMES, key=lambda n: PurePath(n).parts)]
    first, seconds, where = lines[-1].split(", ")
    assert (first, where) == ("5 pictures", "maps/")
    assert float(seconds.removesuffix(" s")) > 0


def test_a_file_in_whose_names_each_picture_has_its_own_is_not_named_as_if_it_were_there(photos: Path) -> None:
    assert explained("photos", "-r", "-o", "one.png")[-1].endswith(" s, in the working directory")
    Path("maps").mkdir()
    assert explained("photos", "-r", "-o", "maps/one.png")[-1].endswith(" s, maps/")
    assert not Path("maps/one.png").exists()


LINE = r"photos/{0}\.png -> maps/{0}\.grad-cam\.png \(class \d 0\.\d{{4}}{1}\)"


def test_a_folder_prints_a_line_of_each_picture_every_note_once_and_how_much_was_done(photos: Path) -> None:
    shutil.copy("photos/cat/1.png", "photos/one.png")
    first, note, second, last = explained("photos", "-o", "maps/", "--metrics", "sparseness")
    assert re.fullmatch(LINE.format("one", r", sparseness 0\.\d{4}"), first)
    assert note == "  note          preprocessing assumed: imagenet; if that is wrong, so is the map: --preset"
    assert re.fullmatch(LINE.format("top", r", sparseness 0\.\d{4}"), second)
    assert re.fullmatch(r"2 pictures, \d+\.\d s, maps/", last)
    (record, other) = json.loads("\n".join(explained("photos", "-o", "other/", "--json")))
    assert first.split("(")[1].startswith(f"class {record['target']['index']} {record['target']['probability']:.4f},")
    assert other["notes"] == record["notes"], "JSON keeps all"


def test_several_pictures_are_lines_too_and_a_single_one_keeps_its_summary(photos: Path) -> None:
    pictures = ["photos/top.png", "photos/cat/1.png"]
    assert [line[:6] for line in explained(*pictures, "--preset", "raw", "-o", "maps/")] == [
        "photos",
        "photos",
        "2 pict",
    ]
    lines = explained(*pictures, "--preset", "raw", "-o", "maps/", "-v")
    assert [line.split()[0] for line in lines].count("layer") == 2, "the whole summary of each with -v"
    assert lines[-1].startswith("2 pictures, ")
    single = explained(pictures[0], "--preset", "raw", "-o", "maps/")
    assert single[0] == "photos/top.png -> maps/top.grad-cam.png"
    assert "  layer         " in "\n".join(single)
    assert "1 picture" not in single[-1]


def test_a_single_picture_without_names_of_classes_says_how_to_give_them(photos: Path) -> None:
    Path("labels.txt").write_text("ant\nbee\ncat\ndog\nelk\n")
    without = explained("photos/top.png", "-o", "maps/")[1]
    assert re.match(r"  class         \d \(no names: --labels FILE\), probability \d", without)
    with_names = explained("photos/top.png", "-o", "named/", "--labels", "labels.txt")[1]
    assert re.match(r"  class         \d (ant|bee|cat|dog|elk), probability \d", with_names)


def test_targets_of_a_picture_share_its_line_and_a_repeated_note_is_a_code(photos: Path) -> None:
    words = ["photos/top.png", "photos/cat/1.png", "--target", "1", "--target", "2", "--preset", "raw", "-o", "maps/"]
    lines = explained(*words)
    first, second = (line for line in lines if " -> " in line)
    assert first.startswith("photos/top.png -> maps/top.1.grad-cam.png, maps/top.2.grad-cam.png (class 1 ")
    assert "; class 2 " in first
    assert second.startswith("photos/cat/1.png -> maps/1.1.grad-cam.png, maps/1.2.grad-cam.png (class 1 ")
    assert second.endswith("; low-score; nothing-positive)"), "the model gives these classes little, of both pictures"
    assert sum("the model gives class 1 only <0.1%" in line for line in lines) == 1


def test_a_note_is_said_once_and_named_by_its_code_on_the_lines_of_other_pictures() -> None:
    looped, low, lower = Note(NoteCode.LOOPED, "one"), Note(NoteCode.LOW_SCORE, "1 %"), Note(NoteCode.LOW_SCORE, "2 %")
    lines = PictureLines()
    said = [
        [*lines.of([saliency(image=f"{i}.jpg", notes=notes)], [{"png": Path(f"{i}.png")}], [{}])]
        for i, notes in enumerate([(looped,), (looped, low), (lower, looped), (looped,)])
    ]
    assert said == [
        ["0.jpg -> 0.png (tabby 0.2500)", "  note          one"],
        ["1.jpg -> 1.png (tabby 0.2500)", "  note          low-score: 1 %"],
        ["2.jpg -> 2.png (tabby 0.2500; low-score)"],
        ["3.jpg -> 3.png (tabby 0.2500)"],
    ]


def test_what_a_run_wrote_below_the_folder_is_not_explained_by_the_next(photos: Path) -> None:
    explained("photos", "-r", "-o", "photos/maps/", "-q")
    explained("photos", "-r", "-q", "-o", "photos/other.jpg.png")  # beside the pictures, under no method's name
    names = [
        str(image.relative_to("photos")) for image in picture_tree(["photos"], keep_going=False, recursive=True).images
    ]
    assert not [name for name in names if name.startswith("maps/")], "what onnxcam drew is left out"
    shutil.copy("photos/top.png", "photos/maps/cat/1.png")
    inside = picture_tree(["photos"], keep_going=False, recursive=True, out="photos/maps/").images
    assert not [image for image in inside if "maps" in image.parts], "and -o itself is not searched"
    assert Path("photos/maps/cat/1.png") in picture_tree(["photos"], keep_going=False, recursive=True).images


def test_several_folders_are_kept_below_what_they_have_in_common(photos: Path) -> None:
    assert [str(f) for f in picture_tree(["photos/cat", "photos/dog"], keep_going=False, recursive=True).folders.values()] == [
        "cat", "cat", "dog", "dog/small",
    ]  # fmt: skip
    flat = picture_tree(["photos/cat", "photos/dog", "photos/top.png"], keep_going=False)
    assert {str(folder) for folder in flat.folders.values()} == {"."}, "without --recursive all goes into one folder"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("photos/**/*.png", NAMES),
        ("photos/*/1.png", ("cat/1.png", "dog/1.png")),
        ("photos/[cd]*/[!1].png", ("cat/2.png",)),
        ("photos/*", ("top.png",)),
        ("photos/**/sm?ll/*", ("dog/small/1.png",)),
        ("{folder}/dog/**/*.png", ("dog/1.png", "dog/small/1.png")),
    ],
)
def test_a_pattern_in_quotes_names_what_the_shell_would(photos: Path, pattern: str, names: Sequence[str]) -> None:
    found = matching(pattern.format(folder=photos.absolute())).images
    assert {image.absolute() for image in found} == {photos.absolute() / name for name in names}
    assert list(found) == sorted(found, key=lambda path: path.parts)


def test_a_pattern_keeps_the_sub_folders_behind_its_first_wildcard(photos: Path) -> None:
    explained("photos/**/1.png", "-o", "maps/", "-q")
    assert files(Path("maps")) == {"cat/1.grad-cam.png", "dog/1.grad-cam.png", "dog/small/1.grad-cam.png"}


def test_a_file_whose_name_has_brackets_is_that_file(photos: Path) -> None:
    os.rename("photos/top.png", "photos/top[1].png")
    os.link("photos/cat/1.png", "photos/top1.png")
    assert written(explained("photos/top[1].png", "-o", "maps/")) == ["photos/top[1].png"]
    assert matching("photos/top[[]1].png").images == (Path("photos/top[1].png"),)


def test_hidden_files_and_other_kinds_are_left_out_of_a_pattern(photos: Path) -> None:
    (photos / ".hidden.png").write_bytes(b"")
    (photos / ".cache").mkdir()
    (photos / ".cache" / "3.png").write_bytes(b"")
    (photos / "notes.txt").write_text("no picture")
    assert matching("photos/*").images == (Path("photos/top.png"),)
    assert len(matching("photos/**/*.png").images) == len(NAMES)
    assert [path.name for path in matching("photos/.cache/*").images] == ["3.png"]
    assert [path.name for path in matching("photos/*.txt").images] == ["notes.txt"], "a suffix that is named counts"
    assert len(picture_tree(["photos"], keep_going=False, recursive=True).images) == len(NAMES)


def test_drawings_of_any_name_and_format_are_no_pictures_of_a_folder(photos: Path) -> None:
    explained("photos/top.png", "-q", "-o", "photos/mine.png")
    explained("photos/top.png", "-q", "-o", "photos/", "--format", "jpg,webp,heatmap,mask,tiff")
    assert len(list(photos.glob("*.*"))) == 1 + 1 + 5
    assert list_pictures(["photos"], keep_going=False)[0] == [Path("photos/top.png")]
    assert list_pictures(["photos/mine.png"], keep_going=False)[0] == [Path("photos/mine.png")], "named by itself"


def test_a_command_without_recursive_names_the_pattern_alone(photos: Path) -> None:
    shutil.copytree("photos/cat", "outer/inner")
    with pytest.raises(PictureError, match=r"; 'outer/\*\*/\*' names those of its sub-folders$"):
        list_pictures(["outer"], keep_going=False)


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["photos/*.jpg"], PictureError, r"photos/\*\.jpg: no file has such a name"),
        (["photos/*/none/*"], PictureError, "no file has such a name"),
        (["empty", "--recursive"], PictureError, "no pictures in this folder and its sub-folders"),
        (["outer"], PictureError, r"; --recursive explains \(or 'outer/\*\*/\*' names\) those of its sub-folders"),
        (["empty"], PictureError, r"no pictures in this folder \([^;]*\)$"),
        (
            ["photos", "--resume", "--format", "npy"],
            OptionError,
            "--resume: an .npy does not say .*: --format npy,json",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(photos: Path, words: list[str], kind: type[OnnxCamError], message: str) -> None:
    Path("empty/inner").mkdir(parents=True)
    shutil.copytree("photos/cat", "outer/inner")
    with pytest.raises(OnnxCamError, match=message) as refused:
        explained(*words)
    assert isinstance(refused.value, kind)


def test_links_to_folders_are_followed_but_not_upwards(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "up").symlink_to(photos, target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    os.link(photos / "top.png", tmp_path / "elsewhere" / "9.png")
    (photos / "class").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    images = picture_tree(["photos"], keep_going=False, recursive=True).images
    assert sorted(image.relative_to("photos").as_posix() for image in images) == sorted([*NAMES, "class/9.png"])


def test_a_sub_folder_that_cannot_be_read_is_an_error(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refused(path: object) -> object:
        if str(path) == "photos/dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(OnnxCamError, match="photos/dog: permission denied"):
        picture_tree(["photos"], keep_going=False, recursive=True)
    listing = picture_tree(["photos", "photos/cat"], keep_going=True, recursive=True)
    assert [str(error) for error in listing.failures] == ["photos/dog: permission denied"]
    assert len(listing.images) == 2


def test_resume_leaves_out_what_is_complete_and_says_how_much(photos: Path) -> None:
    words = ["photos", "-r", "-o", "maps/", "--format", "png,npy,json"]
    explained(*words, "-q")
    before = {name: (Path("maps") / name).stat().st_mtime_ns for name in files(Path("maps"))}
    assert len(before) == 15
    assert explained(*words, "--resume")[-1].startswith("0 pictures, 5 complete before, ")
    assert {name: (Path("maps") / name).stat().st_mtime_ns for name in files(Path("maps"))} == before
    os.unlink("maps/cat/2.grad-cam.npy")
    lines = explained(*words, "--resume")
    assert written(lines) == ["photos/cat/2.png"]
    assert lines[-1].startswith("1 picture, 4 complete before, ")


CHANGES = {
    "another method's name in the same file": ["-m", "layer-cam"],
    "another target": ["--target", "1"],
    "preprocessing": ["--mean", "0.1,0.2,0.3"],
    "drawing": ["--colormap", "jet"],
    "metrics": ["--metrics", "sparseness"],
    "layer": ["--layer", "last-conv"],
    "limits": ["--max-pixels", "1M"],
}


@pytest.mark.parametrize("words", CHANGES.values(), ids=CHANGES)
def test_a_changed_option_is_not_taken_for_done(photos: Path, words: list[str]) -> None:
    start = ["photos/top.png", "photos/cat/1.png", "-o", "map.png", "--resume", "--overwrite"]  # whatever the method is
    explained(*start, "-q")
    assert len(written(explained(*start, *words))) == 2
    assert written(explained(*start, *words, "--threads", "1", "--batch", "2")) == [], "how it runs changes nothing"
    assert len(written(explained(*start))) == 2


def test_other_pixels_weights_and_damaged_files_are_not_taken_for_done(photos: Path) -> None:
    words = ["photos/top.png", "photos/cat/1.png", "-o", "maps/", "--resume", "--overwrite", "--format", "png,npy"]
    explained(*words, "-q")
    os.replace("photos/cat/2.png", "photos/cat/1.png")
    assert written(explained(*words)) == ["photos/cat/1.png"], "the picture has other pixels under its old name"
    data = Path("maps/top.grad-cam.png").read_bytes()
    Path("maps/top.grad-cam.png").write_bytes(data[: len(data) // 2])
    assert written(explained(*words)) == ["photos/top.png"], "a file that was cut off"
    np.save("maps/top.grad-cam.npy", np.zeros((16, 12), np.float32))
    assert written(explained(*words)) == ["photos/top.png"], "a map of something else beside the overlay"
    model = onnx.load("tiny.onnx")
    model.doc_string = "another file"
    onnx.save(model, "tiny.onnx")
    assert len(written(explained(*words))) == 2


def test_a_picture_or_a_model_that_changes_while_it_is_explained_is_explained_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["photos/top.png", "-o", "maps/", "--overwrite"]
    score = prefetch._explain_group

    def replaced(*arguments: Any) -> Any:  # the picture was read by now
        os.replace("photos/cat/1.png", "photos/top.png")
        return score(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(prefetch, "_explain_group", replaced)
        explained(*words)
    assert written(explained(*words, "--resume")) == ["photos/top.png"]

    def other_model(*arguments: Any) -> Any:
        model = onnx.load("tiny.onnx")
        model.doc_string = "another file"
        onnx.save(model, "tiny.onnx")
        return score(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(prefetch, "_explain_group", other_model)
        explained(*words)
    assert written(explained(*words, "--resume")) == ["photos/top.png"]


def test_another_version_of_onnxcam_is_not_taken_for_done(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained("photos/top.png", "-o", "maps/", "--resume")
    monkeypatch.setattr("onnxcam.versions.versions", lambda: {"onnxcam": "999.0"})
    assert written(explained("photos/top.png", "-o", "maps/", "--resume", "--overwrite")) == ["photos/top.png"]


def test_resume_says_what_it_left_out_and_what_it_replaced(photos: Path) -> None:
    words = ["photos/top.png", "photos/cat/1.png", "-o", "maps/"]
    assert explained(*words)[-1].startswith("2 pictures, ")
    (line,) = explained(*words, "--resume")
    assert line.startswith("0 pictures, 2 complete before, ")
    done = CliRunner().invoke(app, ["explain", "tiny.onnx", "-m", "grad-cam", *words, "--resume", "--json"])
    assert done.stdout.strip() == "[]"
    assert done.stderr.startswith("0 pictures, 2 complete before, ")
    changed = CliRunner().invoke(
        app, ["explain", "tiny.onnx", "-m", "grad-cam", *words, "--resume", "--colormap", "jet"]
    )
    assert isinstance(changed.exception, OutputError)
    assert "maps/top.grad-cam.png is there, of another call" in str(changed.exception)
    line = explained(*words, "--resume", "--colormap", "jet", "--overwrite")[-1]
    assert line.startswith("2 pictures (2 replaced: made of another picture, model or options), ")


@pytest.mark.parametrize(("complete", "offered"), [(0, False), (1, True), (2, False)])
def test_a_stopped_run_offers_resume_only_for_what_is_left(
    photos: Path, monkeypatch: pytest.MonkeyPatch, complete: int, offered: bool
) -> None:
    words = ["tiny.onnx", "photos/top.png", "photos/cat/1.png", "-m", "grad-cam", "-o", "maps/"]
    for picture in words[1 : 1 + complete]:
        explained(picture, "-o", "maps/", "-q")

    def stopped(*_: Any, **__: Any) -> None:
        raise SystemExit(130)

    monkeypatch.setattr(prefetch, "explain_each", stopped)
    done = CliRunner().invoke(app, ["explain", *words, "--resume"])
    assert done.exit_code == 130
    assert "stopped: 0 of 2 pictures were written" in done.stderr
    assert ("--resume goes on with the others" in done.stderr) is offered


def test_resume_tries_again_what_was_skipped(photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    done = CliRunner().invoke(
        app, ["explain", "tiny.onnx", "photos", "-m", "grad-cam", "-o", "maps/", "--keep-going", "--resume"]
    )
    assert isinstance(done.exception, PictureError)
    assert done.stdout.splitlines()[-1].startswith("1 picture, 1 skipped, ")
    os.replace("photos/cat/2.png", "photos/broken.png")
    assert written(explained("photos", "-o", "maps/", "--resume")) == ["photos/broken.png"]


def test_the_weights_beside_a_step_graph_count(photos: Path) -> None:
    onnx.save(
        onnx.load("tiny.onnx"), "step.onnx", save_as_external_data=True, location="step.bin", size_threshold=0,
    )  # fmt: skip
    args = ExplainArgs(model="tiny.onnx", images=["photos/top.png"], method=MethodArgs(step="step.onnx"))
    before = contents_of(args)
    assert before == contents_of(args)
    data = bytearray(Path("step.bin").read_bytes())
    data[0] ^= 1
    Path("step.bin").write_bytes(data)
    assert before != contents_of(args)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "cat"], "no labels are known for this model, so 'cat' names no class"),
        (["--target", "9"], "target 9 is out of range"),
        (["--target", "1", "--target", "rank7"], "rank7 does not exist: the model has 5 classes"),
        (["--target", "cta", "--labels", "labels.txt"], "no class is called 'cta'; did you mean cat"),
    ],
)
def test_a_class_that_the_model_has_not_is_said_once_before_any_picture_is_read(
    photos: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    (photos.parent / "labels.txt").write_text("ant\nbee\ncat\ndog\nelk\n")
    monkeypatch.setattr(prefetch, "explain_each", None)
    with pytest.raises(TargetError, match=message) as error:
        explained("photos", "-r", "-o", "maps/", "--keep-going", *words)
    assert not str(error.value).startswith("photos")
    assert not Path("maps").exists()
