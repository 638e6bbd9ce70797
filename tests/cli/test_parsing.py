"""The command line's words for targets and inputs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.cli.parsing import TargetArgs, parse_index, parse_inputs, parse_region, wanted
from onnxcam.errors import OptionError
from onnxcam.explainer.targets.values import Box, Element, Region, Similarity


def test_words_become_targets(tmp_path: Path) -> None:
    assert wanted(TargetArgs()).targets == ("top1",)
    assert wanted(TargetArgs(("3,top2",))).targets == ("3", "top2")
    found = wanted(TargetArgs(output="age", index=("4,-1", "[0, 2]")))
    assert (found.targets, found.kind) == ((Element((4, -1)), Element((0, 2))), "elements")
    assert wanted(TargetArgs(("cat", "dog"), box=("top1", "17"))).targets == (
        Box("top1", "cat"), Box("top1", "dog"), Box(17, "cat"), Box(17, "dog"),
    )  # fmt: skip
    assert wanted(TargetArgs(box=("7",))).targets == (Box(7, None),)
    region = wanted(TargetArgs(("sky",), region="0,1.5,20,30")).targets[0]
    assert isinstance(region, Region)
    assert (region.label, region.where) == ("sky", (0.0, 1.5, 20.0, 30.0))
    like = wanted(TargetArgs(reference=("other.jpg",)))
    assert isinstance(like.targets[0], Similarity)
    assert (like.names, like.kind) == (("other",), "embedding")


@pytest.mark.parametrize(
    "words",
    [TargetArgs(index=("1",), box=("1",)), TargetArgs(("3",), index=("1",)), TargetArgs(("3",), reference=("a.npy",)), TargetArgs(index=("x",))],
)  # fmt: skip
def test_contradictions_are_refused(words: TargetArgs) -> None:
    with pytest.raises(OptionError):
        wanted(words)


@pytest.mark.parametrize("text", ["", "a", "1.5", "1;2", "1,,2", "9" * 30])
def test_nonsense_indices_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="whole numbers"):
        parse_index(text)


def test_a_region_may_be_a_mask(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 5:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    np.save(tmp_path / "mask.npy", mask)
    for name in ("mask.png", "mask.npy"):
        np.testing.assert_array_equal(parse_region(str(tmp_path / name)), mask > 0)
    for text in ("1,2,3", "5,0,5,9", "nowhere.png", ""):
        with pytest.raises(OptionError, match="region"):
            parse_region(text)


def test_inputs_are_numbers_lists_and_files(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.arange(4))
    found = parse_inputs([f"meta={tmp_path / 'm.npy'}", "scale=0.5", "flags=1,0,true", "a=b=-2e3".replace("b=", "")])
    assert found["meta"].tolist() == [0, 1, 2, 3]
    assert (found["scale"], found["flags"].tolist(), found["a"]) == (0.5, [1, 0, 1], -2000)
    for given in (["x"], ["=3"], ["x="], ["x=abc"], ["x=1", "x=2"], ["x=1,,2"]):
        with pytest.raises(OptionError):
            parse_inputs(given)
