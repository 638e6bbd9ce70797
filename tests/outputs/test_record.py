"""The record is plain JSON that fits its schema, whatever was explained."""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from results import HASH, saliency
from small_models import CLASSIFIER, filled

from onnxcam import PRESETS, Box, Element, Explainer, Saliency, Similarity, grad_cam, rise, score_cam
from onnxcam.inputs.presets import Color, Interpolation, Preset, Resize
from onnxcam.methods import METHODS, method
from onnxcam.outputs.formats import FORMATS
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.record import SCHEMA, plain, record
from onnxcam.outputs.saliency import MASKED, Channels, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import Source

FILE: dict[str, Any] = json.loads(files("onnxcam.outputs").joinpath("record.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(FILE)

DETECTOR = """
<ir_version: 8, opset_import: ["" : 17]>
boxes (float[N,3,16,12] x) => (float[N,9,12] table)
<float[8,3,3,3] w, float[9,8,1,1] head, int64[3] shape = {0, 9, 12}>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  features = Relu (c)
  h = Conv (features, head)
  table = Reshape (h, shape)
}
"""
"""A table of 12 boxes: left, top, width, height, then five classes."""
PICTURE = np.random.default_rng(7).integers(0, 256, (40, 30, 3), np.uint8)
ARRAY = np.random.default_rng(8).standard_normal((3, 16, 12)).astype(np.float32)


def explained(kind: str) -> Saliency:
    """An explanation of each kind, by the library itself."""
    model: onnx.ModelProto = filled(DETECTOR if kind == "box" else CLASSIFIER)
    if kind == "box":
        with Explainer(model, grad_cam(), kind="boxes", providers=["cpu"]) as explainer:
            return explainer(PICTURE, Box("top1"))
    with Explainer(
        model,
        score_cam(budget=4) if kind == "estimated" else rise(masks=8) if kind == "pixels" else score_cam(),
        providers=["cpu"],
        preset=PRESETS["keras-tf"] if kind == "preset" else None,
        labels=["a", "b", "c", "d", "e"] if kind == "labels" else None,
    ) as explainer:
        if kind == "element":
            return explainer(PICTURE, Element((2,), "logits"))
        if kind == "embedding":
            return explainer(PICTURE, Similarity(PICTURE[::-1], "logits"))
        return explainer(ARRAY if kind == "preprocessed" else PICTURE)


@pytest.mark.parametrize(
    "kind", ["class", "labels", "box", "element", "embedding", "estimated", "preprocessed", "preset", "pixels"]
)
def test_the_record_of_every_kind_of_explanation_fits_the_schema(kind: str) -> None:
    one = explained(kind)
    for raw in (False, True):
        values = record(one, ["a.png"], raw=raw)
        assert json.loads(json.dumps(values, allow_nan=False)) == values
        VALIDATOR.validate(values)
        assert ("raw" in values["map"]) is raw
    VALIDATOR.validate(json.loads(FORMATS["json"].write(one, None, Style())))
    assert values["target"]["kind"] == {"box": "boxes", "element": "elements", "embedding": "embedding"}.get(
        kind, "classes"
    )
    assert (values["target"]["probability"] is None) is (kind in ("box", "element", "embedding"))
    assert (values["channels"] is None) is (kind in ("box", "pixels"))
    assert (values["map"]["placement"] is None) is (kind == "preprocessed")
    assert values["map"]["shape"] == values["size"]["sides"] == [16, 12]
    if kind == "estimated":
        assert values["channels"]["estimated"] > 0


def test_a_region_fits_the_schema_too() -> None:
    for where, expected in ((None, None), (MASKED, "mask"), ((0.0, 1.0, 2.5, 4.0), [0.0, 1.0, 2.5, 4.0])):
        one = replace(saliency(), target=ScoredTarget(3, None, 0.5, 1.5, "region", "out", where))
        VALIDATOR.validate(record(one))
        target = record(one)["target"]
        assert (target["probability"], target["output"], target["region"]) == (0.5, "out", expected)


VARIED: dict[str, dict[str, Any]] = {
    "score-cam": {"tolerance": 0.02, "fill": "blur(sigma=3)"},
    "opti-cam": {"bounds": (0.0, 1.0), "max_iter": 3, "seed": 7, "fill": "mean"},
    "rise": {"masks": 8, "probability": 0.25},
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_made_again_from_its_record(name: str) -> None:
    for options in ({}, VARIED.get(name, {})):
        original = method(name, **options)
        one = saliency(method=name, options=dict(original.options), fill=original.perturb.name)
        values = json.loads(json.dumps(record(one)))
        VALIDATOR.validate(values)
        assert method(values["method"]["name"], **values["method"]["options"]) == original


def objects(schema: object) -> Iterator[Mapping[str, Any]]:
    """Every part of a schema that describes an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def test_the_schema_is_valid_and_describes_every_field() -> None:
    Draft202012Validator.check_schema(FILE)
    assert FILE["properties"]["schema"]["const"] == SCHEMA
    assert FILE["$id"].endswith(f":{SCHEMA}")
    for part in objects(FILE):
        assert part["description"]
        if "properties" in part:
            assert part["additionalProperties"] is False
            assert all("description" in field or "$ref" in field for field in part["properties"].values())


def test_the_schema_lists_the_values_that_the_code_knows() -> None:
    fields = FILE["properties"]
    assert fields["target"]["properties"]["kind"]["enum"] == [str(kind) for kind in Kind]
    assert FILE["$defs"]["origin"]["properties"]["source"]["enum"] == [str(source) for source in Source]
    preset = fields["preset"]["properties"]
    for name, words in (("color", Color), ("resize", Resize), ("interpolation", Interpolation)):
        assert preset[name]["enum"] == list(get_args(words))
    assert set(preset) == {*PRESETS["raw"].to_json(), "origin"}


def test_the_example_in_the_documentation_fits_the_schema() -> None:
    page = (Path(__file__).parents[2] / "docs" / "record.md").read_text("utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert not list(VALIDATOR.iter_errors(json.loads(example)))


def test_an_unknown_field_or_a_missing_one_does_not_fit() -> None:
    values = record(saliency())
    for wrong in (values | {"more": 1}, {k: v for k, v in values.items() if k != "layer"}, values | {"schema": 2}):
        assert not VALIDATOR.is_valid(wrong)


LATER = {
    "": ("image_input", "caption", "provider_options"),
    "target": ("side", "box", "outline", "step", "class_index", "class_label", "box_number"),
    "layer": ("fused",),
    "preset": ("padding",),
    "map": ("hidden", "sha256"),
}
"""Fields that are written always, and that the first records of this schema's number did not have."""


def test_a_record_without_the_fields_that_were_added_later_still_fits() -> None:
    values = record(explained("class"))
    for part, names in LATER.items():
        for name in names:
            del (values[part] if part else values)[name]
    assert not list(VALIDATOR.iter_errors(values))


CAPTION = "25.0% · score-cam · map error 0.013"
HIDDEN = 1 - (269.5 - 30) * (240 - 0.5) / (240 * 300)


def test_the_record_names_every_choice_in_plain_json() -> None:
    one = saliency()
    values = record(one, [Path("cat.score-cam.png"), "x.npy"])
    VALIDATOR.validate(values)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values == {
        "schema": 1,
        "image": "cat.jpg",
        "image_input": None,
        "model": {"name": "net.onnx", "sha256": HASH},
        "target": {
            "index": 281,
            "label": "tabby",
            "kind": "classes",
            "probability": 0.25,
            "value": 3.5,
            "output": None,
            "region": None,
            "side": None,
            "box": None,
            "outline": [],
            "step": None,
            "class_index": 281,
            "class_label": "tabby",
            "box_number": None,
        },
        "score": 3.5,
        "caption": {"title": "tabby", "detail": CAPTION},
        "method": {
            "name": "score-cam",
            "options": {"score": "logit", "sigma": 0.5, "keep": True},
            "fill": "zero",
            "changed": [],
        },
        "layer": {
            "tensor": "/features/conv/Relu_output_0",
            "reason": "the last tensor with a grid",
            "shape": [320, 7, 8],
            "fused": [],
        },
        "logits": {"tensor": "logits", "activation": "softmax"},
        "preset": {
            "name": "torch",
            "scale": 1 / 255,
            "mean": [0.5, 0.25, 0.125],
            "std": [1.0],
            "color": "rgb",
            "resize": "shortest",
            "crop": 0.875,
            "interpolation": "bilinear",
            "size": [224, 224],
            "padding": [114.0],
            "origin": {"source": "metadata", "text": "ONNX metadata onnxcam.preset"},
        },
        "size": {"sides": [224, 230], "origin": {"source": "model", "text": "the model's"}},
        "provider": "cpu",
        "provider_options": {},
        "batch": {"size": 16, "mode": "dynamic"},
        "channels": {"total": 320, "scored": 40, "estimated": 260, "skipped": 20, "pending": 0},
        "error": 0.0125,
        "passes": {"forward": 301, "gradient": 0},
        "seconds": 1.25,
        "map": {
            "shape": [224, 230],
            "sha256": hashlib.sha256(one.map.astype("<f4").tobytes()).hexdigest(),
            "placement": {"picture": [240, 300], "box": [30.0, 0.5, 269.5, 240.0]},
            "hidden": HIDDEN,
        },
        "outputs": ["cat.score-cam.png", "x.npy"],
        "notes": [{"code": "looped", "text": "one"}, {"code": "partial", "text": "two"}],
        "versions": {"onnxcam": "0.1.0", "onnx": "1.23.2"},
    }


def test_what_a_map_was_made_of_is_in_its_record_and_its_png() -> None:
    one = saliency()
    one = replace(one, provenance=replace(one.provenance, inputs_sha256="12" * 32))
    values = record(one)
    VALIDATOR.validate(values)
    assert values["inputs_sha256"] == "12" * 32
    with Image.open(io.BytesIO(FORMATS["png"].write(one, None, Style()))) as png:
        assert png.info["onnxcam:inputs_sha256"] == "12" * 32
        assert png.info["onnxcam:map_sha256"] == values["map"]["sha256"]


def test_numbers_that_are_not_finite_become_null() -> None:
    one = saliency(options={"a": float("nan"), "b": [np.float32(np.inf)]})
    target = ScoredTarget(1, None, float("nan"), float("inf"))
    one = replace(one, score=float("nan"), raw=np.array([[np.nan, 1]], np.float32), target=target)
    values = record(one, raw=True)
    VALIDATOR.validate(values)
    assert values["score"] is values["target"]["probability"] is values["target"]["value"] is None
    assert values["map"]["raw"] == [[None, 1.0]]
    assert values["method"]["options"] == {"a": None, "b": [None]}


class Word(StrEnum):
    LOGIT = "logit"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.bool_(False), False),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        ((1, (2.5, None)), [1, [2.5, None]]),
        ({1: Path("a")}, {"1": "a"}),
        (
            Channels(3, 2),
            {"total": 3, "scored": 2, "estimated": 0, "pending": 0},
        ),
        (float("-inf"), None),
    ],
)
def test_values_become_plain(value: Any, expected: Any) -> None:
    assert plain(value) == expected


def test_an_enumeration_becomes_a_mere_string() -> None:
    assert type(plain(Word.LOGIT)) is str


def test_what_has_no_counterpart_in_json_is_a_bug_and_named() -> None:
    with pytest.raises(TypeError, match="object"):
        plain({"a": object()})


def test_the_preset_of_a_record_is_the_preset_again() -> None:
    one = saliency()
    values = json.loads(json.dumps(record(one)))["preset"]
    assert values["origin"]
    assert Preset.from_json(values) == one.provenance.preset
