"""Every file of a call has its own name, and none of them is an input."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from timing import growth

from onnxcam.errors import OptionError, OutputError
from onnxcam.outputs.formats import FORMATS
from onnxcam.outputs.paths import check_inputs, plan, slug

ONE = [[""]]
TWO = [["281-tabby", "282-tiger cat"]]


def names(*arguments: object, **options: object) -> list[str]:
    planned = plan(*arguments, **options)  # type: ignore[arg-type]
    return [path.as_posix() for targets in planned for files in targets for path in files.values()]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()


CASES = {
    "by default": (["a/cat.jpg"], ONE, None, None, ["cat.score-cam.png"]),
    "two formats": (["cat.jpg"], ONE, ["npy", "json"], None, ["cat.score-cam.npy", "cat.score-cam.json"]),
    "a format twice": (["cat.jpg"], ONE, ["npy", "npy"], None, ["cat.score-cam.npy"]),
    "two targets": (
        ["cat.jpg"],
        TWO,
        None,
        None,
        ["cat.281-tabby.score-cam.png", "cat.282-tiger-cat.score-cam.png"],
    ),
    "two targets without a name": (
        ["cat.jpg"],
        [["", ""]],
        None,
        None,
        ["cat.1.score-cam.png", "cat.2.score-cam.png"],
    ),
    "two pictures": (["cat.jpg", "dog.jpg"], ONE * 2, None, None, ["cat.score-cam.png", "dog.score-cam.png"]),
    "a folder to make": (["cat.jpg"], ONE, None, "new/deep/", ["new/deep/cat.score-cam.png"]),
    "a folder there is": (["cat.jpg"], ONE, None, "there", ["there/cat.score-cam.png"]),
    "this folder": (["cat.jpg"], ONE, ["json"], ".", ["cat.score-cam.json"]),
    "a file": (["cat.jpg"], ONE, None, "x/out.png", ["x/out.png"]),
    "a file with a target": (["cat.jpg"], [["281-tabby"]], None, "out.png", ["out.png"]),
    "a file implies its format": (["cat.jpg"], ONE, None, "out.npy", ["out.npy"]),
    "a file in capitals": (["cat.jpg"], ONE, None, "OUT.JSON", ["OUT.JSON"]),
    "a file as the format says": (["cat.jpg"], ONE, ["png"], "out.png", ["out.png"]),
    "a file with a suffix that is no format": (["cat.jpg"], ONE, ["png"], "out.picture", ["out.picture"]),
    "a file without a suffix": (["cat.jpg"], ONE, ["png"], "out", ["out"]),
    "a file for two formats": (["cat.jpg"], ONE, ["png", "json"], "x/out.png", ["x/out.png", "x/out.json"]),
    "a file for two targets": (
        ["cat.jpg"],
        TWO,
        None,
        "out.png",
        ["out.281-tabby.png", "out.282-tiger-cat.png"],
    ),
    "a file for two pictures": (
        ["cat.jpg", "dog.jpg"],
        ONE * 2,
        None,
        "out.png",
        ["out.cat.png", "out.dog.png"],
    ),
    "a file for two pictures and targets": (
        ["cat.jpg", "dog.jpg"],
        TWO * 2,
        ["npy"],
        "out.npy",
        [
            "out.cat.281-tabby.npy",
            "out.cat.282-tiger-cat.npy",
            "out.dog.281-tabby.npy",
            "out.dog.282-tiger-cat.npy",
        ],
    ),
    "one stem, two suffixes": (
        ["a/img.jpg", "a/img.png"],
        ONE * 2,
        None,
        None,
        ["img-jpg.score-cam.png", "img-png.score-cam.png"],
    ),
    "one stem, three folders": (
        ["a/img.jpg", "b/img.jpg", "img.png"],
        ONE * 3,
        None,
        None,
        ["a-img.score-cam.png", "b-img.score-cam.png", "img.score-cam.png"],
    ),
    "one stem, folders alike": (
        ["a/x/img.jpg", "b/x/img.jpg"],
        ONE * 2,
        None,
        None,
        ["img.score-cam.png", "img-2.score-cam.png"],
    ),
    "one stem but for capitals": (
        ["a/Cat.jpg", "b/cat.jpg"],
        ONE * 2,
        None,
        None,
        ["a-Cat.score-cam.png", "b-cat.score-cam.png"],
    ),
    "the number is taken": (
        ["x/a/img.jpg", "y/a/img.jpg", "img-2.jpg"],
        ONE * 3,
        None,
        None,
        ["img.score-cam.png", "img-3.score-cam.png", "img-2.score-cam.png"],
    ),
    "two targets of one name": (
        ["cat.jpg"],
        [["crane", "Crane"]],
        None,
        None,
        ["cat.crane.score-cam.png", "cat.Crane-2.score-cam.png"],
    ),
    "a stem that reads like a target": (
        ["cat.jpg", "cat.dog.jpg"],
        [["dog", "cow"], [""]],
        None,
        None,
        ["cat.dog.score-cam.png", "cat.cow.score-cam.png", "cat.dog.score-cam-2.png"],
    ),
    "no picture": ([], [], None, None, []),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_names(case: tuple[list[str], list[list[str]], list[str] | None, str | None, list[str]]) -> None:
    images, targets, formats, output, expected = case
    assert names(images, targets, "score-cam", formats, output) == expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_two_names_are_one_file_where_capitals_and_accents_are_folded(
    case: tuple[list[str], list[list[str]], list[str] | None, str | None, list[str]],
) -> None:
    images, targets, formats, output, _ = case
    folded = [unicodedata.normalize("NFD", n).casefold() for n in names(images, targets, "m", formats, output)]
    assert len(set(folded)) == len(folded)


def test_an_accent_in_one_or_two_code_points_is_one_name() -> None:
    planned = names(["x/a/\u00e9.jpg", "y/a/e\u0301.jpg"], ONE * 2, "m", None, None)
    assert len({unicodedata.normalize("NFC", name) for name in planned}) == 2


@pytest.mark.parametrize("output", ["out.gif", "out.mask", "out", "out.PNGG", "x/out.bmp"])
def test_a_file_whose_suffix_is_no_format_lists_the_formats(output: str) -> None:
    with pytest.raises(OutputError) as caught:
        plan(["cat.jpg"], ONE, "m", None, output)
    assert all(writer.suffix in str(caught.value) for writer in FORMATS.values())


def test_a_file_named_as_another_format_than_asked_for_is_refused() -> None:
    with pytest.raises(OutputError, match=r"out\.png.*json"):
        plan(["cat.jpg"], ONE, "m", ["json"], "out.png")


def test_an_unknown_format_is_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="json"):
        plan(["cat.jpg"], ONE, "m", ["jsn"], None)


def test_an_output_that_is_an_input_is_refused() -> None:
    for name in ("cat.png", "model.json", "dog.jpg"):
        Path(name).write_bytes(b"")
    with pytest.raises(OutputError, match=r"cat\.png"):
        plan(["cat.png"], ONE, "m", None, "cat.png")
    with pytest.raises(OutputError, match=r"cat\.png"):
        plan(["dog.jpg"], ONE, "m", None, "there/../cat.png", protected=["cat.png"])
    with pytest.raises(OutputError, match=r"dog\.jpg"):
        plan([Path("dog.jpg").resolve()], ONE, "m", ["png"], "dog.jpg")
    with pytest.raises(OutputError, match=r"model\.json"):
        plan(["dog.jpg"], ONE, "m", None, "model.json", protected=["model.json"])


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "nvinfer_config.txt"])
def test_an_output_that_is_read_beside_the_model_is_refused(name: str) -> None:
    for folder in (Path("of/onnx"), Path("elsewhere")):
        folder.mkdir(parents=True)
    for model in ("of/onnx/model.onnx", "of/onnx/weights", "elsewhere/photo.png"):
        Path(model).write_bytes(b"")
    for place in ("of", "of/onnx", "elsewhere"):
        output = Path(place, name)
        check_inputs([output], ["of/onnx/model.onnx"])  # nothing is there, so nothing is overwritten
        output.write_text("{}")
        if place == "elsewhere":
            check_inputs([output], ["elsewhere/photo.png"])
            continue
        for model in ("of/onnx/model.onnx", "of/onnx/weights"):
            with pytest.raises(OutputError, match=f"{name} is an input"):
                check_inputs([output], [model])


@pytest.mark.parametrize("name", ["\0", "\ud800"])
def test_an_input_whose_name_no_file_can_have_is_no_output(name: str) -> None:
    check_inputs([Path("photo.png")], [name])


def test_an_output_that_is_a_link_to_an_input_is_refused() -> None:
    Path("cat.png").write_bytes(b"")
    os.link("cat.png", "hard.png")
    os.symlink("cat.png", "soft.png")
    for output in ("hard.png", "soft.png"):
        with pytest.raises(OutputError, match="input"):
            plan(["cat.png"], ONE, "m", None, output)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("281-tabby, tabby cat", "281-tabby-tabby-cat"),
        ("grad-cam++", "grad-cam++"),
        ('a/b\\c:d*e?f"g<h>i|j', "a-b-c-d-e-f-g-h-i-j"),
        ("St. Bernard's", "St-Bernard-s"),
        ("chien à tête", "chien-à-tête"),
        ("猫", "猫"),
        ("हिन्दी", "हिन्दी"),
        ("a\0b\nc\x7fd\u202ee", "a-b-c-d-e"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("../../etc/passwd", "etc-passwd"),
        ("🐱", "unnamed"),
        ("CON", "CON-"),
        ("lpt1", "lpt1-"),
        ("-rf", "rf"),
        (" . ", "unnamed"),
    ],
)
def test_slug(text: str, expected: str) -> None:
    assert slug(text) == expected


@pytest.mark.parametrize("text", ["x" * 500, "猫" * 500, "a " * 500, "é" * 500])
def test_a_slug_is_short_in_letters_and_bytes(text: str) -> None:
    assert 20 <= len(slug(text)) <= 60
    assert len(slug(text).encode()) <= 100
    assert slug(text)[-1] not in "- "


@pytest.mark.parametrize("letter", ["x", "猫"])
def test_a_long_picture_name_and_label_stay_within_what_a_file_system_takes(letter: str) -> None:
    image = letter * (250 // len(letter.encode())) + ".jpg"
    for name in names([image], [[letter * 300, "b"]], "score-cam", list(FORMATS), None):
        Path(name).write_bytes(b"")
        assert Path(name).exists()


def test_a_file_name_that_is_not_unicode_survives() -> None:
    image = os.fsdecode(b"caf\xe9.jpg")
    (name,) = names([image], ONE, "m", None, None)
    assert os.fsencode(name) == b"caf\xe9.m.png"


def test_ten_thousand_pictures_of_one_name_are_planned_at_once() -> None:
    images = [f"{i}/img.jpg" for i in range(5000)] * 2
    planned = names(images, ONE * 10_000, "m", None, None)
    assert len(set(planned)) == 10_000


NAMINGS: dict[str, Callable[[int], str]] = {
    "different": lambda i: f"p{i}.jpg",
    "all alike": lambda i: f"{i}/a/img.jpg",
    "numbers taken": lambda i: f"{i}/a/img.jpg" if i % 2 else f"img-{i}.jpg",
}


@pytest.mark.slow
@pytest.mark.parametrize("naming", NAMINGS)
def test_twice_as_many_pictures_take_about_twice_as_long_to_name(naming: str) -> None:
    images = [NAMINGS[naming](i) for i in range(10_000)]
    assert growth(lambda n: plan(images[:n], ONE * n, "m", ["png", "json"], "out/"), 10_000) < 3
    assert len(set(names(images, ONE * 10_000, "m", None, None))) == 10_000


def test_a_model_and_a_preset_stand_behind_the_picture_and_leave_room_for_it(tmp_path: Path) -> None:
    out = f"{tmp_path}/"
    (((files,),),) = [plan(["cat.jpg"], [["tabby"]], "cam", ["mask"], out, layer="c1", model="net.v2", preset="raw")]
    assert files["mask"].name == "cat.net-v2.raw.tabby.cam.c1.mask.png"
    long = ["x" * 300 + ".jpg"]
    (((files,),),) = [
        plan(long, [["t" * 300]], "integrated-gradients", ["side-by-side"], out, layer="l" * 90, model="m" * 300, preset="keras-caffe")
    ]  # fmt: skip
    assert len(files["side-by-side"].name) <= 255
    assert files["side-by-side"].name.startswith("x")
    (((files,),),) = [plan(long, [["t"]], "cam", ["png"], out, model="m" * 300)]
    assert files["png"].name == f"{'x' * 100}.{'m' * 60}.t.cam.png", "a short target leaves the model's bytes"
