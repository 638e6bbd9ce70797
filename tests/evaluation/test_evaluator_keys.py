"""A row's key holds everything that changes its number, and nothing that does not."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from small_models import CLASSIFIER, filled

from onnxcam import METHODS, EngineOptions, Explainer, Limits, Preset, grad_cam, score_cam
from onnxcam.errors import OptionError
from onnxcam.evaluation.dataset import DataItem, LabelledBox
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.model_request import ModelIdentity, ModelRequest, identify
from onnxcam.evaluation.options import EvaluationOptions, method_key, metrics_for
from onnxcam.evaluation.row_keys import CURVES, missing, row_keys, without_map
from onnxcam.evaluation.rows import RowKey
from onnxcam.inputs.presets import PRESETS, override
from onnxcam.methods.registry import method
from onnxcam.metrics import curves
from onnxcam.metrics.registry import METRICS

IDENTITY = ModelIdentity("model", "opening", "{}", "tiny.onnx")
ITEM = DataItem(Path("p.png"), "p.png", "cat", (LabelledBox((0, 0, 5, 5), "cat"),))
PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)


@pytest.fixture(scope="module")
def model() -> bytes:
    return filled(CLASSIFIER).SerializeToString()


def keys(item: DataItem = ITEM, **options: Any) -> Sequence[RowKey]:
    options = {"methods": ["grad-cam"], "baselines": [], **options}
    return tuple(row_keys(IDENTITY, EvaluationOptions(**options), item, "sha"))


def opening(model: bytes | Path, **arguments: Any) -> str:
    return identify(ModelRequest(model, arguments)).opening


def test_a_key_says_what_is_measured_in_words_that_can_be_read_again() -> None:
    (key,) = keys(methods=[score_cam(budget=8)], metrics=["deletion:mean"], target="label", step=3)
    assert key == RowKey(
        "model",
        "opening",
        "p.png",
        "sha",
        'score-cam {"budget":8}',
        "label",
        "deletion",
        "mean",
        '{"label":"cat","step":3}',
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_method_with_its_defaults_is_its_name_alone(name: str) -> None:
    assert method_key(method(name)) == name


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"step": 9}, set(CURVES)),
        ({"seed": 9}, {"road", "faithfulness_correlation"}),
        ({"target": "label"}, set(METRICS)),
        ({"keep_maps": True}, set()),
        ({"baselines": ["ones"]}, set()),
    ],
)
def test_an_option_changes_the_keys_of_the_metrics_that_read_it(changes: dict[str, Any], changed: set[str]) -> None:
    before, after = keys(), keys(**changes)[: len(METRICS)]
    assert {a.metric for a, b in zip(before, after, strict=True) if a != b} == changed


def test_what_the_data_says_of_a_picture_changes_the_keys_that_depend_on_it() -> None:
    def differing(item: DataItem, **options: Any) -> set[str]:
        return {a.metric for a, b in zip(keys(**options), keys(item, **options), strict=True) if a != b}

    moved = replace(ITEM, boxes=(LabelledBox((0, 0, 5, 6), "cat"),))
    renamed = replace(ITEM, boxes=(LabelledBox((0, 0, 5, 5), "dog"),))
    boxes = {"energy_pointing_game", "pointing_game"}
    assert differing(moved) == differing(renamed) == boxes
    relabelled = replace(ITEM, label="dog")
    assert differing(relabelled) == set(), "the prediction does not depend on it"
    assert differing(relabelled, target="label") == set(METRICS)
    assert keys(target="label", classes={3: "cat"}) != keys(target="label", classes={4: "cat"})


def test_every_metric_with_a_step_is_known_to_have_one() -> None:
    assert {name for name in METRICS if "step" in signature(getattr(curves, name, keys)).parameters} == set(CURVES)


def test_the_row_without_a_map_stands_for_all_metrics_of_its_method() -> None:
    first, *others = keys(metrics=["road", "deletion", "pointing-game"], methods=["grad-cam", "rise"], target="label")
    stands = without_map(first)
    assert (stands.metric, stands.protocol, stands.options) == ("", "", '{"label":"cat"}')
    assert [key.method for key in missing([first, *others], {stands})] == ["rise"] * 3
    assert missing([first, *others], {first, others[1]}) == (others[0], *others[2:])


def test_threads_batch_and_cache_change_no_key_and_what_changes_numbers_does(model: bytes, tmp_path: Path) -> None:
    plain = opening(model)
    assert opening(model, threads=2, batch=3, cache=False, limits=Limits(seconds=5)) == plain
    assert opening(model, layer="auto", layout=None, labels=None, inputs={}, engine=EngineOptions()) == plain
    others = [
        {"preset": PLAIN}, {"preset": "clip"}, {"layer": "r1"}, {"layer": ["r1", "features"]}, {"labels": list("abcde")},
        {"labels": list("edcba")}, {"providers": ["cpu"]}, {"engine": EngineOptions(half=True)}, {"window": (0, 9)},
        {"engine": EngineOptions(precision="bf16")},
        {"limits": Limits(pixels=99)}, {"kind": "elements"}, {"adjust": partial(override, crop=0.5)}, {"output": "logits"},
        {"inputs": {"a": np.zeros(2)}}, {"inputs": {"a": np.ones(2)}}, {"inputs": {"b": np.ones(2)}}, {"bands": (1, 2, 3)},
    ]  # fmt: skip
    distinct = [plain, *(opening(model, **arguments) for arguments in others)]
    assert len(set(distinct)) == len(distinct)


def test_an_opening_is_described_by_what_was_chosen_not_by_how_it_was_written(model: bytes, tmp_path: Path) -> None:
    imagenet = PRESETS["imagenet"]
    assert opening(model, preset="imagenet") == opening(model) == opening(model, preset=replace(imagenet, name="mine"))
    assert opening(model, adjust=partial(override, crop=0.5)) == opening(model, preset=replace(imagenet, crop=0.5))
    assert (
        opening(model, providers="cpu") == opening(model, providers=["cpu"]) == opening(model, providers=[("cpu", {})])
    )
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    assert opening(model, labels=tmp_path / "names.txt") == opening(model, labels=list("abcde"))
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model)
    assert opening(path) == opening(model)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"size": 16, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}'
    )
    assert opening(path) != opening(model), "what lies beside the model is how it is opened"


def test_external_weights_belong_to_the_opening(tmp_path: Path) -> None:
    openings = []
    for seed in (0, 1):
        (tmp_path / "w").unlink(missing_ok=True)
        onnx.save(
            filled(CLASSIFIER, seed), tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
        )
        openings.append(identify(ModelRequest(tmp_path / "m.onnx")))
    assert openings[0].sha256 == openings[1].sha256, "the file itself is the same"
    assert openings[0].opening != openings[1].opening


def test_the_description_is_what_the_evaluator_opened(model: bytes) -> None:
    request = ModelRequest(model, {"preset": PLAIN, "providers": ["cpu"]}, name="mine")
    with Evaluator(request, EvaluationOptions(["grad-cam"])) as one, Explainer(model, preset=PLAIN) as alone:
        assert (one.identity.sha256, one.identity.name) == (alone.model_sha256, "mine")
        assert one.keys(ITEM, "sha")[0].opening == identify(request).opening


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"methods": ["gradcam"]}, "grad-cam"),
        ({"methods": [grad_cam(), "grad-cam"]}, "grad-cam is given twice"),
        ({"methods": "grad-cam"}, "methods is a list"),
        ({"metrics": ["deletoin"]}, "deletion"),
        ({"metrics": ["deletion:fog"]}, "no protocol"),
        ({"metrics": []}, "needs a metric"),
        ({"methods": [], "baselines": []}, "something to measure"),
        ({"baselines": ["one"]}, "ones"),
        ({"target": "lable"}, "label"),
        ({"step": 0}, "step is a whole number"),
        ({"seed": -1}, "a seed is"),
        ({"maps_folder": "some/ones", "baselines": ["ones"]}, "ones is the name of a baseline"),
    ],
)
def test_options_that_make_no_sense_say_what_does(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        EvaluationOptions(**{"methods": ["grad-cam"], **options})


@pytest.mark.parametrize(
    ("argument", "says"), [("method", "options of the evaluation"), ("isolated", "shares"), ("pereset", "preset")]
)
def test_a_request_takes_what_opens_a_model(argument: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        ModelRequest("m.onnx", {argument: None})


def test_all_metrics_are_those_that_the_data_allows() -> None:
    assert len(metrics_for(["all"], [ITEM])) == len(METRICS)
    boxless = metrics_for(["all"], [replace(ITEM, boxes=())])
    assert set(metrics_for(["all"], [ITEM])) - set(boxless) == {"energy_pointing_game", "pointing_game:15px"}
    with pytest.raises(OptionError, match="pointing-game:exact needs boxes"):
        metrics_for(["all", "pointing-game:exact"], [replace(ITEM, boxes=())])


def test_a_map_file_that_changes_gives_other_keys(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.mkdir()
    before = keys(maps_folder=tool)
    for value in (0, 9):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tool / "p.png")
        after = keys(maps_folder=tool)
        differing = {a.method for a, b in zip(before, after, strict=True) if a != b}
        assert differing == {"tool"}
        before = after
