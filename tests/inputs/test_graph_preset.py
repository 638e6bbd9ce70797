"""Presets of graphs that normalise by themselves: what remains to be done, and notes where more is done."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from normalising import PRELUDES, Prelude, normalising
from small_models import CLASSIFIER, filled

from onnxcam import Explainer, NoteCode, grad_cam
from onnxcam.inputs.choices import choose_preset
from onnxcam.inputs.graph_preset import preset_notes
from onnxcam.inputs.presets import PRESETS, Preset
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.loading import read_model
from onnxcam.types import Origin, Source

BY_NAME = {p.name: p for p in PRELUDES}
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GIVEN = Origin(Source.GIVEN, "given")


def chosen(proto: onnx.ModelProto, layout: str = "NCHW") -> tuple[Preset, Origin]:
    file = read_model(proto)
    return choose_preset(file, None, find_image(file.model, layout))


@pytest.mark.parametrize("prelude", PRELUDES, ids=lambda p: p.name)
@pytest.mark.parametrize("batch", ["1", "N"])
def test_what_the_graph_does_is_not_done_again(prelude: Prelude, batch: str) -> None:
    preset, origin = chosen(normalising(prelude, batch), prelude.layout)
    assert (preset.name.partition("+")[0], preset.color) == (prelude.remains, prelude.color)
    assert origin.source is Source.MODEL
    assert origin.text.startswith("the graph itself ")


def test_the_map_of_a_graph_that_normalises_is_that_of_the_network_alone() -> None:
    prelude = BY_NAME["torch, opset 13"]
    proto = normalising(prelude)
    alone = onnx.ModelProto()
    alone.CopyFrom(proto)
    del alone.graph.node[:3]
    alone.graph.node[0].input[0] = "x"
    whole = Preset("whole", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize="squash", crop=1.0)
    with Explainer(proto, grad_cam()) as inside, Explainer(alone, grad_cam(), preset=whole) as outside:
        one, other = inside(PICTURE, 2), outside(PICTURE, 2)
    np.testing.assert_allclose(one.map, other.map, atol=1e-5)
    assert one.target.logit == pytest.approx(other.target.logit, abs=1e-4)
    assert one.provenance.preset.name == "raw"
    assert not codes(one)


@pytest.mark.parametrize("layout", ["3,6,8", "6,8,3"])
def test_a_graph_without_a_batch_axis_that_normalises_is_noticed_too(layout: str) -> None:
    """As torchvision exports its detectors: the picture (C,H,W) is normalised, then gets a batch axis."""
    mean, std = "{0.485, 0.456, 0.406}", "{0.229, 0.224, 0.225}"
    shape, turned = ("3,1,1", "Identity (d)") if layout == "3,6,8" else ("3", "Transpose <perm=[2,0,1]> (d)")
    proto = filled(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[{layout}] x) => (float[1,5] logits)
        <float[8,3,3,3] w, float[8,5] v, float[{shape}] mean = {mean}, float[{shape}] std = {std}, int64[1] zero = {{0}}>
        {{
          s = Sub (x, mean)  d = Div (s, std)  t = {turned}
          n = Unsqueeze (t, zero)
          c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (n, w)
          features = Relu (c)
          pooled = GlobalAveragePool (features)
          flat = Flatten (pooled)
          logits = MatMul (flat, v)
        }}"""
    )
    with Explainer(proto, grad_cam()) as explainer:
        assert explainer(PICTURE).provenance.preset.name == "unit"
    with Explainer(proto, grad_cam(), preset="imagenet") as explainer:
        assert NoteCode.NORMALISED_TWICE in codes(explainer(PICTURE))


@pytest.mark.parametrize("name", ["imagenet", "unit", "keras-tf"])
def test_a_preset_that_normalises_a_second_time_is_said_loudly(name: str) -> None:
    with Explainer(normalising(BY_NAME["torch, opset 13"]), grad_cam(), preset=name) as explainer:
        saliency = explainer(PICTURE, 2)
    (note,) = [n for n in saliency.provenance.notes if n.code is NoteCode.NORMALISED_TWICE]
    assert f"the preset {name} makes" in note.text
    assert note.text.endswith("use --preset raw")
    assert saliency.provenance.preset.name == name  # what the caller gives is done all the same


def test_the_callers_own_means_are_no_second_normalisation_where_they_fit() -> None:
    proto = normalising(BY_NAME["only mean and deviation"])
    fits = Preset("fits", 1 / 256, (0.0,), (1.0,))
    assert not notes(proto, fits)
    assert notes(proto, PRESETS["raw"]) == [NoteCode.NORMALISED_TWICE]


def test_a_preprocessed_array_for_a_graph_that_normalises_is_doubted() -> None:
    with Explainer(normalising(BY_NAME["torch, opset 13"]), grad_cam()) as explainer:
        normalised = np.random.default_rng(0).standard_normal((3, 6, 8)).astype(np.float32)
        pixels = np.moveaxis(PICTURE, 2, 0).astype(np.float32)
        assert NoteCode.NORMALISED_TWICE in codes(explainer(normalised, 2))
        assert not codes(explainer(pixels, 2))
        with_zero_to_one = explainer(pixels / 255, 2)
        assert NoteCode.NORMALISED_TWICE in codes(with_zero_to_one)


def test_a_network_without_arithmetic_keeps_its_preset_and_says_nothing() -> None:
    preset, origin = chosen(filled(CLASSIFIER))
    assert (preset, origin.source) == (PRESETS["imagenet"], Source.ASSUMED)
    assert not notes(filled(CLASSIFIER), PRESETS["imagenet"], Origin(Source.ASSUMED, ""))


def test_arithmetic_that_no_usual_preprocessing_explains_is_doubted() -> None:
    odd = Prelude("odd", "a = Mul (x, k)  n = Add (a, o)", "float k = {-7.5}, float o = {1000.0}")
    preset, origin = chosen(normalising(odd))
    assert (preset.name, origin.source) == ("imagenet", Source.ASSUMED)
    assert notes(normalising(odd), preset, origin) == [NoteCode.NORMALISATION_UNCLEAR]


def test_swapped_colours_without_means_are_doubted() -> None:
    swapped = Prelude(
        "swapped", "a = Gather <axis=1> (x, i)  n = Div (a, d)", "int64[3] i = {2, 1, 0}, float d = {255.0}"
    )
    preset, origin = chosen(normalising(swapped))
    assert (preset.name, preset.color) == ("raw", "rgb")
    assert notes(normalising(swapped), preset, origin) == [NoteCode.NORMALISATION_UNCLEAR]


@pytest.mark.parametrize(
    ("step", "zero", "kind", "expected"),
    [
        (4.758 / 255, 114, "uint8", "imagenet"),
        (1 / 255, 0, "uint8", "unit"),
        (1.0, 0, "uint8", "raw"),
        (2 / 255, 128, "uint8", "keras-tf"),
        (2.64 / 127, 0, "int8", "imagenet"),
        (1 / 255, -128, "int8", "unit"),
        (151.06 / 127, 0, "int8", "keras-caffe"),
    ],
)
def test_the_range_of_a_quantised_input_tells_the_preset(step: float, zero: int, kind: str, expected: str) -> None:
    preset, origin = chosen(quantised(step, zero, kind))
    assert preset.name == expected
    assert origin.source is Source.ASSUMED
    assert "quantises its input" in origin.text


def test_a_symmetric_range_of_one_may_be_two_presets_and_tells_none() -> None:
    _, origin = chosen(quantised(1 / 127, 0, "int8"))
    assert "quantises" not in origin.text


def test_a_preset_that_the_quantised_input_cannot_hold_is_doubted() -> None:
    zero_to_one = quantised(1 / 255, 0, "uint8")
    assert notes(zero_to_one, PRESETS["imagenet"]) == [NoteCode.INPUT_RANGE]
    assert notes(quantised(1.0, 0, "uint8"), PRESETS["imagenet"]) == [NoteCode.INPUT_RANGE]
    assert not notes(zero_to_one, PRESETS["unit"])


@pytest.mark.parametrize(("kind", "mean"), [("int8", 128.0), ("int32", 0.0), ("uint16", 0.0)])
def test_an_input_of_integers_takes_pixels_and_doubts_fractions(kind: str, mean: float) -> None:
    proto = normalising(Prelude("integers", "n = Cast <to=1> (x)", dtype=kind))
    preset, origin = chosen(proto)
    assert (preset.scale, preset.mean, preset.std) == (1.0, (mean,), (1.0,))
    assert origin.source is Source.ASSUMED
    assert not notes(proto, preset, origin)
    assert notes(proto, PRESETS["imagenet"]) == [NoteCode.INPUT_RANGE]


def test_a_picture_without_batch_axis_is_followed() -> None:
    proto = filled(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (uint8[32,48,3] x) => (float[1,5] logits)
        <float[8,3,3,3] w, float[8,5] v, int64[1] i = {0}, float d = {127.5}, float o = {1.0}>
        {
          y = Cast <to=1> (x)  a = Div (y, d)  b = Sub (a, o)  t = Transpose <perm=[2,0,1]> (b)  n = Unsqueeze (t, i)
          c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (n, w)
          g = GlobalAveragePool (c)
          p = Flatten (g)
          logits = MatMul (p, v)
        }"""
    )
    file = read_model(proto)
    preset, origin = choose_preset(file, None, find_image(file.model))
    assert (preset.name, origin.source) == ("raw", Source.MODEL)


def test_a_file_beside_the_model_says_the_whole_of_which_the_graph_does_a_part(tmp_path: Path) -> None:
    write_config(tmp_path, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    path = tmp_path / "m.onnx"
    for name, scale, source in (("torch, opset 13", 1.0, "raw"), ("only mean and deviation", 1 / 255, "unit")):
        onnx.save(normalising(BY_NAME[name]), path)
        file = read_model(path)
        image = find_image(file.model)
        preset, origin = choose_preset(file, None, image)
        assert (preset.scale, preset.mean, preset.std, preset.size) == (scale, (0.0,), (1.0,), (6, 6)), source
        assert origin.source is Source.CONFIG_FILE
        assert "without the part of the graph" in origin.text
        assert not preset_notes(file.normalisations(image), image, preset, origin)


def test_a_file_beside_the_model_that_contradicts_the_graph_is_doubted(tmp_path: Path) -> None:
    write_config(tmp_path, mean=[0.1, 0.2, 0.3], std=[0.7, 0.8, 0.9])
    path = tmp_path / "m.onnx"
    onnx.save(normalising(BY_NAME["torch, opset 13"]), path)
    file = read_model(path)
    image = find_image(file.model)
    preset, origin = choose_preset(file, None, image)
    assert preset.mean == (0.1, 0.2, 0.3)
    assert [n.code for n in preset_notes(file.normalisations(image), image, preset, origin)] == [
        NoteCode.NORMALISED_TWICE
    ]


def write_config(folder: Path, mean: list[float], std: list[float]) -> None:
    values = {"image_processor_type": "ViTImageProcessor", "image_mean": mean, "image_std": std, "size": 6}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))


def quantised(step: float, zero: int, kind: str) -> onnx.ModelProto:
    weights = f"float s = {{{step}}}, {kind} z = {{{zero}}}"
    return normalising(
        Prelude("quantised", "q = QuantizeLinear (x, s, z)  n = DequantizeLinear (q, s, z)", weights, opset=13)
    )


def notes(proto: onnx.ModelProto, preset: Preset, origin: Origin = GIVEN) -> list[NoteCode]:
    file = read_model(proto)
    image = file.image()
    return [n.code for n in preset_notes(file.normalisations(image), image, preset, origin)]


def codes(saliency: Saliency) -> set[NoteCode]:
    about = {NoteCode.NORMALISED_TWICE, NoteCode.NORMALISATION_UNCLEAR, NoteCode.INPUT_RANGE}
    return about & {n.code for n in saliency.provenance.notes}
