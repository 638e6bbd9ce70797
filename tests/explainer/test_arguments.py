"""Whatever people pass to an Explainer is taken, or refused by an OnnxCamError that says what to give."""

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_models import CLASSIFIER, filled

from onnxcam import BLACK, METHODS, PRESETS, Explainer, Preset, grad_cam, score_cam
from onnxcam.errors import LabelError, ModelError, OnnxCamError, OptionError, PictureError, PresetError
from onnxcam.explainer.arguments import RULES
from onnxcam.types import Source

PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
JUNK: list[Any] = [
    3, 0, -1, 1.5, True, "x", "", b"x", [], [1], ["x"], {1}, {"a": 1}, (), object(), np.zeros(3), np.zeros(()), type,
    [None], (1, 2), (0, 0), (-1, 4), ("a", "b"), float("nan"), 10**30, "\0", [[1], [1, 2]],
]  # fmt: skip
TAKEN = {"batch": [3, 10**30], "threads": [3], "adjust": [type], "image_input": ["x"]}
"""Values of JUNK that an argument takes."""
CALLED = {"name", "progress", "box", "seed"}
"""Arguments of explain() or measure(), not of Explainer."""


@pytest.fixture
def explainer(classifier: onnx.ModelProto) -> Iterator[Explainer]:
    with Explainer(classifier, grad_cam(), providers=["cpu"], preset="unit") as opened:
        yield opened


@pytest.mark.parametrize("name", ["model", "method", "step", "providers", *sorted(set(RULES) - CALLED)])
def test_every_argument_of_an_explainer_takes_junk_as_an_error(classifier: onnx.ModelProto, name: str) -> None:
    for value in JUNK:
        if any(value is taken for taken in TAKEN.get(name, [])) or (name in ("cache", "isolated") and value is True):
            continue
        arguments = {"model": classifier, "providers": ["cpu"], "preset": "unit", name: value}
        with pytest.raises(OnnxCamError) as caught:
            Explainer(**arguments)
        assert len(str(caught.value)) > 20, f"{name}={value!r}"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": 3}, OptionError, r"layer is 'auto', 'last-conv', the name .*, not 3 \(int\)"),
        ({"layer": None}, OptionError, "layer is"),
        ({"batch": "x"}, OptionError, r"batch is a whole number of masks from 1 on, not 'x'"),
        ({"batch": 0}, OptionError, "from 1 on, not 0"),
        ({"threads": 0}, OptionError, "threads is a whole number from 1 on, not 0"),
        ({"size": "224x224"}, OptionError, r"such as \(224, 224\)"),
        ({"size": (224, 0)}, OptionError, "whole numbers from 1 on"),
        ({"size": ()}, OptionError, "whole numbers from 1 on"),
        ({"size": []}, OptionError, "whole numbers from 1 on"),
        ({"size": np.array([], int)}, OptionError, "whole numbers from 1 on"),
        ({"preset": 3}, PresetError, "the name of one"),
        ({"adjust": "crop"}, PresetError, "a function that takes a Preset"),
        ({"adjust": lambda preset: None}, PresetError, "it returned None"),
        ({"labels": 5}, LabelError, "a list of class names"),
        ({"labels": [1, 2, 3, 4, 5]}, LabelError, "a list of class names"),
        ({"inputs": [1]}, OptionError, "by name"),
        ({"inputs": {"meta": [[1], [1, 2]]}}, OptionError, "array of numbers"),
        ({"engine": "half"}, OptionError, "EngineOptions"),
        ({"kind": 3}, OptionError, "'classes', 'region'"),
        ({"method": "gradcam"}, OptionError, "grad-cam"),
        ({"method": score_cam}, OptionError, r"score_cam\(\).*; call it"),
        ({"method": 3}, OptionError, "named as in 'grad-cam', not 3"),
        ({"model": "a\0b"}, ModelError, "no such model file"),
        ({"model": "a\ud800"}, ModelError, "no such model file"),
        ({"cache": None}, OptionError, "True or False"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_does(
    classifier: onnx.ModelProto, arguments: dict[str, Any], error: type[OnnxCamError], message: str
) -> None:
    with pytest.raises(error, match=message):
        Explainer(**{"model": classifier, "providers": ["cpu"], "preset": "unit", **arguments})


IMAGES: list[Any] = [
    None, 3, 1.5, True, b"x", [PHOTOGRAPH], (PHOTOGRAPH,), {"a": PHOTOGRAPH}, {1}, object(), "", "\0", "nowhere.png",
    Path("."), np.zeros(()), np.array("x"), np.array(None), np.array(["a"]), np.zeros(3),
    np.zeros((3, 16, 12), complex), np.zeros((3, 16, 12), "M8[s]"), np.zeros((3, 16, 12), object), iter([PHOTOGRAPH]),
]  # fmt: skip


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: repr(image)[:30])
def test_what_is_no_picture_is_a_picture_error_everywhere(explainer: Explainer, image: Any) -> None:
    calls = [
        lambda: explainer(image),
        lambda: explainer.batch([image]),
        lambda: explainer.prepare(image),
        lambda: explainer.explain_on_device(image),
        lambda: list(explainer.stream(image)),
    ]
    for call in calls:
        with pytest.raises(PictureError):
            call()


@pytest.mark.parametrize("images", [None, 3, object(), np.zeros(()), [3], {"a": 1}, b"xy", "nowhere.png"])
def test_a_batch_of_what_are_no_pictures_is_a_picture_error(explainer: Explainer, images: Any) -> None:
    with pytest.raises(PictureError):
        explainer.batch(images)


def test_a_batch_of_no_pictures_is_empty(explainer: Explainer) -> None:
    assert explainer.batch([]) == []
    with pytest.raises(OptionError, match="2 targets for 0 pictures"):
        explainer.batch([], [1, 2])
    for nothing in ([], (), np.array([], int)):
        assert explainer.batch([], nothing) == []
        with pytest.raises(OptionError, match="no target given"):
            explainer.batch([PHOTOGRAPH], nothing)


@pytest.mark.parametrize("picture", [PHOTOGRAPH, PHOTOGRAPH[..., 0]], ids=["colour", "grey"])
def test_one_picture_is_no_batch_of_its_rows(explainer: Explainer, picture: Any) -> None:
    with pytest.raises(PictureError, match=r"pass a list: \[picture\]"):
        explainer.batch(picture)
    assert len(explainer.batch([picture, picture])) == 2


def test_an_array_of_photographs_is_a_batch(explainer: Explainer) -> None:
    assert len(explainer.batch(np.stack([PHOTOGRAPH, PHOTOGRAPH]))) == 2


@pytest.mark.parametrize("size", [(2**63, 1), (2**31 + 1, 1), (2**31 - 1, 2**31 - 1), (2**63,), (2**20, 2**20)])
def test_a_size_that_no_array_has_is_refused(size: tuple[int, ...]) -> None:
    model = filled(CLASSIFIER.replace("16,12", "h,w"))
    with pytest.raises(PresetError, match="is too large: an input has at most 2147483648 places"):
        Explainer(model, providers=["cpu"], preset="unit", size=size)


@pytest.mark.parametrize("junk", [3, 0, "", [], np.zeros(3), {1}], ids=repr)
def test_names_inputs_and_callbacks_of_wrong_types_are_refused(explainer: Explainer, junk: Any) -> None:
    calls = [
        lambda: explainer.explain(PHOTOGRAPH, inputs=junk),
        lambda: explainer.explain(PHOTOGRAPH, progress=junk),
        lambda: list(explainer.stream(PHOTOGRAPH, progress=junk)),
    ]
    if not isinstance(junk, str):
        calls.append(lambda: explainer.explain(PHOTOGRAPH, name=junk))
    for call in calls:
        with pytest.raises(OptionError):
            call()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_may_be_named(classifier: onnx.ModelProto, name: str) -> None:
    with Explainer(classifier, name, providers=["cpu"], preset="unit") as explainer:
        expected = METHODS[name]()
        assert (explainer.method.name, explainer.method.options) == (expected.name, expected.options)


def test_the_cache_can_be_switched_off(
    classifier: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path))
    maps = []
    for cache in (False, True):
        with Explainer(classifier, providers=["cpu"], preset="unit", cache=cache) as explainer:
            maps.append(explainer(PHOTOGRAPH).map)
        assert any(tmp_path.rglob("*.json")) is cache
    np.testing.assert_array_equal(*maps)


def test_an_explainer_is_not_pickled_and_says_what_to_send(explainer: Explainer) -> None:
    for make_copy in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"send the model .* and the method"):
            make_copy(explainer)


def test_black_is_known_where_a_preset_was_given_even_if_it_was_then_adjusted(classifier: onnx.ModelProto) -> None:
    def crop(preset: Preset) -> Preset:
        from dataclasses import replace

        return replace(preset, crop=0.9)

    method, image = score_cam(fill=BLACK), np.zeros((3, 16, 12), np.float32) + PHOTOGRAPH[:16, :12, 0] / 255
    with Explainer(classifier, method, providers=["cpu"], preset="imagenet", adjust=crop) as explainer:
        assert explainer.preset_origin.source is Source.GIVEN
        assert "then single settings were changed" in str(explainer.preset_origin)
        assert explainer.preset.crop == 0.9
        assert explainer(image.astype(np.float32)).provenance.fill == "black"
    with (
        Explainer(classifier, method, providers=["cpu"], adjust=crop) as explainer,
        pytest.raises(OptionError, match="give the preset"),
    ):
        explainer(image.astype(np.float32))


def test_black_keeps_its_guard_when_it_is_pickled(classifier: onnx.ModelProto) -> None:
    image = np.random.default_rng(0).random((3, 16, 12)).astype(np.float32)
    black = pickle.loads(pickle.dumps(BLACK))
    for method in (score_cam(fill=black), pickle.loads(pickle.dumps(score_cam(fill=BLACK)))):
        assert method.perturb.needs_preset
        with Explainer(classifier, method, providers=["cpu"]) as explainer, pytest.raises(OptionError, match="black"):
            explainer(image)
        with Explainer(classifier, method, providers=["cpu"], preset=PRESETS["imagenet"]) as explainer:
            assert explainer(image).provenance.fill == "black"
