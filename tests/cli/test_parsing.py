"""The text of options becomes targets, methods and inputs."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam import Box, Element, Region, Similarity
from onnxcam.cli.options import EngineArgs, TargetArgs
from onnxcam.cli.parsing import parse_inputs, parse_output, parse_path, parse_provider_words, parse_targets
from onnxcam.errors import OptionError
from onnxcam.explainer.targets.registry import TARGET_KINDS


def test_options_become_targets(tmp_path: Path) -> None:
    assert parse_targets(TargetArgs()).targets == ("top1",)
    assert parse_targets(TargetArgs(target=["3,rank2"])).targets == ("3", "rank2")
    elements = parse_targets(TargetArgs(index=["4,-1", "[0, 2]"]))
    assert (elements.targets, elements.kind) == ((Element((4, -1)), Element((0, 2))), "elements")
    assert parse_targets(TargetArgs(target=["cat", "dog"], box=["top1", "17"])).targets == (
        Box("top1", "cat"), Box("top1", "dog"), Box(17, "cat"), Box(17, "dog"),
    )  # fmt: skip
    assert parse_targets(TargetArgs(box=["7"])).targets == (Box(7, None),)
    assert parse_targets(TargetArgs(box=["top1,rank2", "5, 3"])).targets == (
        Box("top1"), Box("rank2"), Box(5), Box(3),
    )  # fmt: skip
    region = parse_targets(TargetArgs(target=["sky"], region="0,1.5,20,30")).targets[0]
    assert isinstance(region, Region)
    assert (region.label, region.where) == ("sky", (0.0, 1.5, 20.0, 30.0))
    embedding = parse_targets(TargetArgs(reference=["other.jpg"]))
    assert isinstance(embedding.targets[0], Similarity)
    assert (embedding.names, embedding.kind) == (("other",), "embedding")


@pytest.mark.parametrize(
    "args",
    [
        TargetArgs(index=["1"], box=["1"]),
        TargetArgs(target=["3"], index=["1"]),
        TargetArgs(target=["3"], reference=["a.npy"]),
        TargetArgs(index=["x"]),
    ],
)
def test_contradictions_are_refused(args: TargetArgs) -> None:
    with pytest.raises(OptionError):
        parse_targets(args)


def test_every_target_kind_has_its_option() -> None:
    options = {kind.option for kind in TARGET_KINDS.values() if kind.option is not None}
    assert options <= {option.name for option in fields(TargetArgs)}, "declare it in TargetArgs of cli/options.py"


@pytest.mark.parametrize("text", ["", "a", "1.5", "1;2", "1,,2", "9" * 30])
def test_nonsense_indices_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="whole numbers"):
        parse_targets(TargetArgs(index=[text]))


def test_a_region_may_be_a_mask(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 5:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    np.save(tmp_path / "mask.npy", mask)
    for name in ("mask.png", "mask.npy"):
        (region,) = parse_targets(TargetArgs(region=str(tmp_path / name))).targets
        assert isinstance(region, Region)
        assert region.label == "top1"
        np.testing.assert_array_equal(region.where, mask > 0)
    for text in ("1,2,3", "5,0,5,9", "nowhere.png", ""):
        with pytest.raises(OptionError, match="region"):
            parse_targets(TargetArgs(region=text))


def test_inputs_are_numbers_lists_and_files(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.arange(4))
    inputs = parse_inputs([f"meta={tmp_path / 'm.npy'}", "scale=0.5", "flags=1,0,true", "a=-2e3"])
    assert inputs["meta"].tolist() == [0, 1, 2, 3]
    assert (inputs["scale"], inputs["flags"].tolist(), inputs["a"]) == (0.5, [1, 0, 1], -2000)
    for texts in (["x"], ["=3"], ["x="], ["x=abc"], ["x=1", "x=2"], ["x=1,,2"]):
        with pytest.raises(OptionError):
            parse_inputs(texts)


@pytest.mark.parametrize("text", ["", "https://example.com/a.png", "\0", "folder/\ud800.png"])
def test_a_name_that_no_file_can_have_is_refused(text: str) -> None:
    for parse in (parse_path, parse_output):
        with pytest.raises(OptionError):
            parse(text)


def test_options_of_providers_go_to_their_providers() -> None:
    assert parse_provider_words(EngineArgs(providers="cuda,cpu")) == ["cuda", "cpu"]
    one = EngineArgs(providers="cuda,cpu", provider_option=["device_id=1", "name=a=b.c", "cuda.tunable=0"])
    assert parse_provider_words(one) == [("cuda", {"device_id": "1", "name": "a=b.c", "tunable": "0"}), "cpu"]
    two = EngineArgs(providers="tensorrt,cuda", provider_option=["cuda.device_id=1", "tensorrt.device_id=1"])
    assert parse_provider_words(two) == [("tensorrt", {"device_id": "1"}), ("cuda", {"device_id": "1"})]


@pytest.mark.parametrize("named", ["cuda", "CUDA", "CUDAExecutionProvider"])
@pytest.mark.parametrize("prefix", ["cuda", "Cuda", "CUDAExecutionProvider", "cudaexecutionprovider"])
def test_a_provider_is_the_same_however_its_name_is_written(named: str, prefix: str) -> None:
    args = EngineArgs(providers=f"{named},cpu", provider_option=[f"{prefix}.device_id=1"])
    assert parse_provider_words(args) == [(named, {"device_id": "1"}), "cpu"]


@pytest.mark.parametrize(
    ("providers", "options", "message"),
    [
        ("tensorrt,cuda", ["device_id=1"], "is of which provider.* write tensorrt.device_id=1"),
        ("cuda", ["openvino.device_type=CPU"], "is of none of --providers cuda"),
        ("cuda", ["device_id"], "is no option and value"),
        ("cuda", ["=1"], "is no option and value"),
        ("cuda", ["device_id=1", "cuda.device_id=1"], "device_id is given twice"),
    ],
)
def test_an_option_of_no_provider_is_refused(providers: str, options: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_provider_words(EngineArgs(providers=providers, provider_option=options))
