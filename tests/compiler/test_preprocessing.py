"""The preprocessing inside a compiled file gives the numbers of inputs.preprocess, and the map lies on the picture."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnx_ir
import onnxruntime
import pytest
from command import onnxcam as onnxcam_command
from small_models import CLASSIFIER, PIXELS, SCALED_BY_BATCH, filled
from tiny import DENSE

import onnxcam
from onnxcam.compiler.compiled import Compiled, compile
from onnxcam.compiler.interface import BOX, MAP, PICTURE, PICTURE_MAP
from onnxcam.compiler.preprocessing import take_pictures
from onnxcam.compiler.registry import COMPILABLE
from onnxcam.errors import CompileError, OptionError, PresetError
from onnxcam.inputs.preprocess import apply
from onnxcam.inputs.presets import PRESETS, Preset, override
from onnxcam.outputs.overlay import on_picture
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.builder import Builder, empty_model, publish
from onnxcam.surgeon.ir import new_input, to_proto
from onnxcam.types import Floats, Picture, Placement

SHAPES = [
    (1, 1), (1, 9), (13, 1), (2, 3), (32, 24), (64, 48), (31, 45), (45, 31), (61, 97), (20, 300), (300, 20), (120, 160),
    (36, 27), (4100, 37), (41, 4203),
]  # fmt: skip
"""(height, width): of a pixel, of a line, tiny, of the input's size, portrait, landscape, narrow, and larger than 4000."""
SIZES = [(32, 24), (27, 35)]
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "cv2-linear")
RESIZES = ("shortest", "squash", "letterbox", "letterbox-corner")


def picture(shape: tuple[int, int], seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def echo(image: ImageInput, size: tuple[int, int]) -> onnx_ir.Model:
    """A model whose output `numbers` is its input, and whose map (N,H,W) is the first channel, from 0 to 1."""
    model = empty_model("echo")
    dtype = onnx_ir.DataType.from_numpy(np.dtype(image.dtype))
    shape = ["N" if letter == "N" else side for letter, side in zip(image.layout, image.shape(size), strict=True)]
    x, b = new_input(model, image.name, dtype, shape), Builder(model, "echo")
    publish(model, b("Identity", x, name="numbers"), dtype, shape)
    first = b("Gather", b.cast(x, onnx_ir.DataType.FLOAT), b.constant(0, np.int64), axis=image.layout.index("C"))
    rest = image.layout.replace("C", "")
    first = b("Transpose", first, perm=[rest.index(letter) for letter in "NHW"])
    low, high = (b.reduce(f"Reduce{end}", first, [0, 1, 2]) for end in ("Min", "Max"))
    span = b("Add", b("Sub", high, low), b.constant(1e-6, np.float32))
    publish(model, b("Div", b("Sub", first, low), span, name=MAP), onnx_ir.DataType.FLOAT, ["N", *size])
    return model


def with_picture(preset: Preset, size: tuple[int, int], **changes: object) -> onnx.ModelProto:
    image = ImageInput(**{"name": "x", "dtype": "float32", "layout": "NCHW", "channels": 3, **changes}, sides=size, batch=None)  # type: ignore[arg-type]  # fmt: skip
    proto = to_proto(take_pictures(echo(image, size), image, size, preset))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])


def run(opened: onnxruntime.InferenceSession, pixels: Picture) -> Mapping[str, np.ndarray]:
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, {PICTURE: pixels}), strict=True))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_the_loaders_numbers_to_the_bit(name: str, size: tuple[int, int]) -> None:
    opened = session(with_picture(PRESETS[name], size))
    for seed, shape in enumerate(SHAPES):
        pixels = picture(shape, seed)
        expected, placement = apply(pixels, PRESETS[name], size, 3)
        results = run(opened, pixels)
        np.testing.assert_array_equal(results["numbers"][0], expected, str(shape))
        np.testing.assert_allclose(results[BOX], placement.box, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_way_of_resizing_goes_with_every_filter(interpolation: str, resize: str) -> None:
    preset = override(PRESETS["imagenet"], interpolation=interpolation, resize=resize, padding=(1.0, 20.0, 255.0))
    opened = session(with_picture(preset, (33, 28)))
    for seed, shape in enumerate(SHAPES):
        pixels = picture(shape, seed)
        expected, _ = apply(pixels, preset, (33, 28), 3)
        np.testing.assert_array_equal(run(opened, pixels)["numbers"][0], expected, str(shape))


def test_pictures_of_any_shape_give_the_loaders_numbers() -> None:
    """Where Pillow resizes the rows first, where a letterbox rounds, where a crop is odd: hundreds of shapes."""
    random = np.random.default_rng(8)
    for name in ("imagenet", "timm", "unit", "ultralytics", "yolox"):
        opened = session(with_picture(PRESETS[name], (24, 24)))
        for seed in range(60):
            shape = tuple(int(side) for side in np.exp(random.uniform(0, np.log(250), 2)))
            pixels = picture((shape[0], shape[1]), seed)
            expected, _ = apply(pixels, PRESETS[name], (24, 24), 3)
            np.testing.assert_array_equal(run(opened, pixels)["numbers"][0], expected, f"{name} {shape}")


@pytest.mark.parametrize(("color", "channels"), [("gray", 3), ("gray", 1), ("rgb", 1), ("bgr", 1), ("bgr", 3)])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "cv2-linear"])
def test_grey_and_bgr_are_those_of_the_loader(color: str, channels: int, interpolation: str) -> None:
    mean = (10.0, 20.0, 30.0) if channels == 3 else (10.0,)
    preset = override(PRESETS["raw"], color=color, mean=mean, interpolation=interpolation)
    opened = session(with_picture(preset, (20, 30), channels=channels))
    for shape in ((61, 97), (97, 41), (9, 9)):
        expected, _ = apply(picture(shape), preset, (20, 30), channels)
        np.testing.assert_array_equal(run(opened, picture(shape))["numbers"][0], expected)


@pytest.mark.parametrize(("layout", "axes"), [("NHWC", (1, 2, 0)), ("NCWH", (0, 2, 1)), ("HWCN", (1, 2, 0))])
@pytest.mark.parametrize(("dtype", "name"), [("float16", "imagenet"), ("uint8", "raw"), ("float32", "timm")])
def test_the_numbers_have_the_inputs_layout_and_type(layout: str, axes: tuple[int, ...], dtype: str, name: str) -> None:
    proto = with_picture(PRESETS[name], (20, 30), layout=layout, dtype=dtype)
    numbers = run(session(proto), picture((61, 97)))["numbers"]
    expected, _ = apply(picture((61, 97)), PRESETS[name], (20, 30), 3)
    assert numbers.dtype == dtype
    one = numbers[..., 0] if layout == "HWCN" else numbers[0]
    np.testing.assert_array_equal(one, expected.transpose(axes).astype(dtype))


def test_a_host_without_float64_gives_the_same_pixels() -> None:
    lanczos = override(PRESETS["timm"], interpolation="lanczos")
    for exact in (*(PRESETS[name] for name in ("imagenet", "timm", "clip", "unit", "ultralytics")), lanczos):
        size = (48, 48)
        opened = session(in_single_precision(with_picture(exact, size)))
        for seed, shape in enumerate([(61, 97), (480, 640), (333, 500), (600, 130), (20, 30), (96, 128)]):
            expected, _ = apply(picture(shape, seed), exact, size, 3)
            np.testing.assert_array_equal(run(opened, picture(shape, seed))["numbers"][0], expected, str(shape))


def in_single_precision(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as runtimes compute it that turn float64 into float32."""
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.DOUBLE:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.DOUBLE:
                attribute.i = onnx.TensorProto.FLOAT
    return proto


@pytest.mark.parametrize("name", ["timm", "ultralytics"])
def test_the_graph_holds_standard_operators_only(name: str) -> None:
    proto = with_picture(PRESETS[name], (20, 30))
    pixels = picture((43, 61))
    opened, reference = session(proto), onnx.reference.ReferenceEvaluator(proto)
    for actual, expected in zip(reference.run(None, {PICTURE: pixels}), run(opened, pixels).values(), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def on_picture_by_hand(saliency: Floats, shape: tuple[int, int], box: tuple[float, ...]) -> Floats:
    """Pixel by pixel, from where its centre lies on the map."""
    left, top, right, bottom = box
    result = np.zeros(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            y, x = (i + 0.5 - top) / (bottom - top), (j + 0.5 - left) / (right - left)
            if 0 < y < 1 and 0 < x < 1:
                v = min(max(y * saliency.shape[0] - 0.5, 0), saliency.shape[0] - 1)
                u = min(max(x * saliency.shape[1] - 0.5, 0), saliency.shape[1] - 1)
                a, b = int(v), int(u)
                corners = saliency[a : a + 2, b : b + 2]
                weights_v = [1 - (v - a), v - a][: corners.shape[0]]
                weights_u = [1 - (u - b), u - b][: corners.shape[1]]
                result[i, j] = np.asarray(weights_v) @ corners @ np.asarray(weights_u)
    return result.astype(np.float32)


@pytest.mark.parametrize("name", ["imagenet", "unit", "ultralytics", "yolox"])
def test_the_map_lies_on_the_picture_where_overlays_draw_it(name: str) -> None:
    opened = session(with_picture(PRESETS[name], (20, 30)))
    for shape in ((43, 61), (61, 43), (7, 9), (20, 30)):
        results = run(opened, picture(shape))
        _, placement = apply(picture(shape), PRESETS[name], (20, 30), 3)
        by_hand = on_picture_by_hand(results[MAP][0], shape, placement.box)
        np.testing.assert_allclose(results[PICTURE_MAP][0], by_hand, atol=2e-6)
        np.testing.assert_allclose(on_picture(results[MAP][0], placement), by_hand, atol=2e-6)


def test_an_old_opset_is_raised() -> None:
    image = ImageInput("x", "float32", "NCHW", 3, (20, 30), None)
    old = echo(image, (20, 30))
    old.opset_imports[""] = 11
    for node in old.graph:
        if node.op_type.startswith("Reduce"):
            assert len(node.inputs) == 1, "opset 17 has the axes of this operator as opset 11 has them"
    results = run(session(to_proto(take_pictures(old, image, (20, 30), PRESETS["imagenet"]))), picture((43, 61)))
    expected, _ = apply(picture((43, 61)), PRESETS["imagenet"], (20, 30), 3)
    np.testing.assert_array_equal(results["numbers"][0], expected)


def answers(compiled: Compiled, pixels: Picture, *classes: int) -> Mapping[str, np.ndarray]:
    opened = onnxruntime.InferenceSession(compiled.bytes, providers=["CPUExecutionProvider"])
    names = [output.name for output in opened.get_outputs()]
    feeds = {"picture": pixels} if not classes else {"picture": pixels, "target": np.asarray(classes, np.int64)}
    return dict(zip(names, opened.run(names, feeds), strict=True))


@pytest.mark.parametrize("text", [CLASSIFIER, DENSE, PIXELS], ids=["pooled", "dense", "bytes"])
@pytest.mark.parametrize("shape", [(40, 61), (150, 33)])
def test_a_file_of_pictures_gives_an_explainers_maps(text: str, shape: tuple[int, int]) -> None:
    model, pixels = filled(text), picture(shape)
    compiled = compile(model, "grad-cam", raw=True)
    assert [t.name for t in compiled.interface.inputs] == ["picture", "target"]
    assert compiled.interface.image is None
    results = answers(compiled, pixels, -1, 2, 4)
    with onnxcam.Explainer(model, "grad-cam", providers=["cpu"]) as explain:
        for i, saliency in enumerate(explain.explain(pixels, [None, 2, 4])):
            np.testing.assert_allclose(results["saliency_map"][i], saliency.map, atol=1e-6)
            assert results["saliency_target"][i] == saliency.target.index
            assert saliency.placement is not None
            np.testing.assert_allclose(results["saliency_box"], saliency.placement.box, rtol=1e-6)
            drawn = on_picture(saliency.map, saliency.placement)
            np.testing.assert_allclose(results["saliency_picture"][i], drawn, atol=2e-6)


def test_the_preset_of_the_caller_is_inside_and_in_the_metadata() -> None:
    compiled = compile(filled(CLASSIFIER), target=1, raw=True, preset="keras-caffe")
    assert compiled.record["preset"]["name"] == "keras-caffe"
    with onnxcam.Explainer(filled(CLASSIFIER), "grad-cam", preset="keras-caffe", providers=["cpu"]) as explain:
        expected = explain(picture((40, 61)), 1).map
    np.testing.assert_allclose(answers(compiled, picture((40, 61)))["saliency_map"][0], expected, atol=1e-6)


def test_the_command_line_writes_a_file_that_takes_pictures(tmp_path: Path) -> None:
    onnx.save(filled(CLASSIFIER), tmp_path / "tiny.onnx")
    done = onnxcam_command("compile", "tiny.onnx", "--raw", "--preset", "timm", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["preset"]["name"] == "timm"
    assert record["interface"]["picture"] == "picture"
    assert record["interface"]["picture_map"] == "saliency_picture"
    shown = onnxcam_command("inspect", "tiny.explained.onnx", cwd=tmp_path).stdout
    assert "input       picture  height x width x 3 uint8" in shown


def test_a_fixed_batch_gets_copies_of_the_picture() -> None:
    compiled = compile(filled(SCALED_BY_BATCH), raw=True)
    results = answers(compiled, picture((40, 61)), -1, 3)
    assert results["saliency_map"].shape == (2, 16, 12)
    assert results["saliency_picture"].shape == (2, 40, 61)
    np.testing.assert_array_equal(results["logits"][0], results["logits"][1])


def test_what_takes_no_picture_is_refused() -> None:
    bands = filled(CLASSIFIER.replace("float[N,3,16,12]", "float[N,4,16,12]").replace("6,3,3,3", "6,4,3,3"))
    with pytest.raises(CompileError, match="takes 4 channels of 16x12, which no picture has; compile it without --raw"):
        compile(bands, raw=True)
    with pytest.raises(OptionError, match="compared on pictures"):
        compile(filled(CLASSIFIER), raw=True, pictures=[np.zeros((3, 16, 12), np.float32)])
    with pytest.raises(PresetError, match="use --preset raw"):
        compile(filled(PIXELS), raw=True, preset="imagenet")


@pytest.mark.parametrize("method", COMPILABLE)
def test_every_compiled_method_takes_pictures(method: str) -> None:
    """compile() compares the file with an Explainer on pictures; here the map on the picture is looked at too."""
    compiled = compile(filled(CLASSIFIER), method, raw=True)
    assert compiled.difference.pictures >= 2
    results = answers(compiled, picture((50, 70)), 3)
    assert results["saliency_map"].shape == (1, 16, 12)
    placed = Placement((50, 70), tuple(map(float, results["saliency_box"])))
    expected = on_picture(results["saliency_map"][0], placed)
    np.testing.assert_allclose(results["saliency_picture"][0], expected, atol=1e-5)
