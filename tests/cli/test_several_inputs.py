"""`explain` of a network that takes two pictures."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import files, onnxcam_here
from PIL import Image
from small_models import SIAMESE, filled

from onnxcam.cli.explain_options import ExplainArgs
from onnxcam.cli.options import FileArgs, OpeningArgs
from onnxcam.cli.several_inputs import by_input
from onnxcam.errors import OptionError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """siamese.onnx, old.png and new.png."""
    onnx.save(filled(SIAMESE), tmp_path / "siamese.onnx")
    for seed, name in enumerate(("old", "new")):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def test_the_other_picture_is_a_file_and_the_first_input_is_explained(folder: Path) -> None:
    done = onnxcam_here("explain", "siamese.onnx", "old.png", "--input", "after=new.png", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["layer"]["tensor"] == "fa"
    assert record["image_input"] == "before"
    assert "other-pictures" in {note["code"] for note in record["notes"]}


def test_one_input_can_be_chosen(folder: Path) -> None:
    words = ("explain", "siamese.onnx", "new.png", "--image-input", "after", "--input", "before=old.png", "--json")
    done = onnxcam_here(*words, cwd=folder)
    (record,) = json.loads(done.stdout)
    assert (record["layer"]["tensor"], record["image_input"], record["image"]) == ("fb", "after", "new.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ((), ["new.after.grad-cam.png", "old.before.grad-cam.png"]),
        (("-o", "maps/"), ["maps/new.after.grad-cam.png", "maps/old.before.grad-cam.png"]),
        (("-o", "map.png"), ["map.after.png", "map.before.png"]),
        (("--target", "1,2"), [f"{p}.{i}-{t}.grad-cam.png" for p, i in (("new", "after"), ("old", "before")) for t in "12"]),
    ],
)  # fmt: skip
def test_each_input_gets_a_file_of_its_own(folder: Path, out: tuple[str, ...], expected: list[str]) -> None:
    before = files(folder)
    inputs = ("--image-input", "before", "--image-input", "after", "--input", "after=new.png")
    done = onnxcam_here("explain", "siamese.onnx", "old.png", *inputs, "-m", "grad-cam", "--json", *out, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sorted(set(files(folder)) - set(before)) == expected
    records = json.loads(done.stdout)
    assert [r["image"] for r in records] == ["old.png"] * (len(records) // 2) + ["new.png"] * (len(records) // 2)
    assert {r["layer"]["tensor"] for r in records} == {"fa", "fb"}


def test_both_orders_give_the_same_map_of_an_input(folder: Path) -> None:
    inputs = ("--image-input", "before", "--image-input", "after", "--input", "after=new.png")
    onnxcam_here("explain", "siamese.onnx", "old.png", *inputs, "--format", "npy", cwd=folder)
    alone = ("--image-input", "after", "--input", "before=old.png", "--format", "npy", "-o", "alone.npy")
    onnxcam_here("explain", "siamese.onnx", "new.png", *alone, cwd=folder)
    np.testing.assert_array_equal(np.load(folder / "new.after.score-cam.npy"), np.load(folder / "alone.npy"))


@pytest.mark.parametrize(
    ("images", "inputs"), [(["a.png"], []), (["a.png", "b.png"], ["after=c.png"]), (["a.png"], ["after=1", "before=2"])]
)
def test_it_must_be_clear_which_picture_belongs_to_which_input(images: list[str], inputs: list[str]) -> None:
    opening = OpeningArgs(image_input=["before", "after"], inputs=inputs)
    with pytest.raises(OptionError, match="belongs to the one of them without --input NAME=PICTURE"):
        by_input(ExplainArgs(model="m.onnx", images=images, opening=opening, files=FileArgs()))


def test_inspect_shows_the_chosen_input(folder: Path) -> None:
    done = onnxcam_here("inspect", "siamese.onnx", "--image-input", "after", "--json", cwd=folder)
    assert json.loads(done.stdout)["image"]["input"] == "after"
    twice = onnxcam_here("inspect", "siamese.onnx", "--image-input", "after", "--image-input", "before", cwd=folder)
    assert (twice.returncode, twice.stderr) == (1, "error: --image-input is given several times; name one input\n")
