"""compile(): the file in onnxruntime against an Explainer, its interface, and what is refused."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from compiled_files import reopened, with_changed
from small_models import CLASSIFIER, PIXELS, SCALED_BY_BATCH, filled
from tiny import DENSE
from typer.testing import CliRunner

import onnxcam
from onnxcam.cli.main import app
from onnxcam.compiler.batch_methods import BATCH_METHODS
from onnxcam.compiler.checking import _are_ends, check_compiled
from onnxcam.compiler.compiled import Compiled, compile
from onnxcam.compiler.interface import PREDICTION
from onnxcam.compiler.metadata import read_compiled
from onnxcam.compiler.registry import COMPILABLE
from onnxcam.errors import CompileError, ModelError, OptionError, TargetError
from onnxcam.surgeon.loading import read_model
from onnxcam.surgeon.metadata import COMPILED

IMAGES = np.random.default_rng(3).standard_normal((3, 3, 16, 12)).astype(np.float32)
BATCHED = [name for name in BATCH_METHODS if name != "cam"]


def run(compiled: Compiled, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(compiled.bytes, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def targets(*classes: int) -> np.ndarray:
    return np.asarray(classes, np.int64)


@pytest.mark.parametrize("method", BATCHED)
@pytest.mark.parametrize("text", [CLASSIFIER, DENSE], ids=["pooled", "dense"])
def test_the_maps_of_a_batch_are_those_of_an_explainer(method: str, text: str) -> None:
    model = filled(text)
    results = run(compile(model, method), {"x": IMAGES, "target": targets(-1, 2, 4)})
    with onnxcam.Explainer(model, method, providers=["cpu"]) as explain:
        for i, target in enumerate((None, 2, 4)):
            saliency = explain(IMAGES[i], target)
            np.testing.assert_allclose(results["saliency_map"][i], saliency.map, atol=1e-6)
            assert results["saliency_target"][i] == saliency.target.index
            ends = (saliency.raw.min(), saliency.raw.max())
            np.testing.assert_allclose(results["saliency_range"][i], ends, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", BATCH_METHODS)
def test_several_targets_of_one_image_and_one_target_of_several(method: str) -> None:
    compiled = compile(filled(CLASSIFIER), method)
    alike = run(compiled, {"x": np.repeat(IMAGES[:1], 3, axis=0), "target": targets(-1, 2, 4)})
    shared = run(compiled, {"x": IMAGES[:1], "target": targets(-1, 2, 4)})
    assert shared["logits"].shape == (1, 5), "the model's own output has an entry for each image"
    np.testing.assert_allclose(shared["saliency_map"], alike["saliency_map"], atol=1e-6)
    assert shared["saliency_target"].tolist() == alike["saliency_target"].tolist()
    one = run(compiled, {"x": IMAGES, "target": targets(2)})
    each = run(compiled, {"x": IMAGES, "target": targets(2, 2, 2)})
    np.testing.assert_allclose(one["saliency_map"], each["saliency_map"], atol=1e-6)


def test_cam_is_the_explainers_and_refused_behind_a_bent_head() -> None:
    model = filled(CLASSIFIER)
    results = run(compile(model, "cam"), {"x": IMAGES, "target": targets(-1, 2, 4)})
    with onnxcam.Explainer(model, "cam", providers=["cpu"]) as explain:
        for i, target in enumerate((None, 2, 4)):
            np.testing.assert_allclose(results["saliency_map"][i], explain(IMAGES[i], target).map, atol=1e-6)
    with pytest.raises(CompileError, match="linear head"):
        compile(filled(DENSE), "cam")


def test_the_models_own_outputs_and_inputs_stay(classifier: onnx.ModelProto) -> None:
    compiled = compile(classifier)
    assert [t.name for t in compiled.interface.inputs] == ["x", "target"]
    assert [t.name for t in compiled.interface.outputs][:1] == ["logits"]
    session = onnxruntime.InferenceSession(classifier.SerializeToString(), providers=["CPUExecutionProvider"])
    results = run(compiled, {"x": IMAGES, "target": targets(-1, -1, -1)})
    np.testing.assert_allclose(results["logits"], session.run(None, {"x": IMAGES})[0], rtol=1e-5, atol=1e-6)
    assert results["saliency_target"].tolist() == results["logits"].argmax(1).tolist()


def test_a_baked_class_needs_no_input(classifier: onnx.ModelProto) -> None:
    compiled = compile(classifier, target=3)
    assert compiled.interface.target is None
    free, baked = compile(classifier), run(compiled, {"x": IMAGES})
    same = run(free, {"x": IMAGES, "target": targets(3, 3, 3)})
    assert baked["saliency_target"].tolist() == [3, 3, 3]
    np.testing.assert_array_equal(baked["saliency_map"], same["saliency_map"])


@pytest.mark.parametrize("method", ["grad-cam", "recipro-cam", "score-cam"])
def test_the_prediction_needs_no_input(method: str, classifier: onnx.ModelProto) -> None:
    compiled, free = compile(classifier, method, target="top1"), compile(classifier, method)
    assert [t.name for t in compiled.interface.inputs] == ["x"]
    assert compiled.record["target"] == -1
    for image in IMAGES:
        alone, fed = run(compiled, {"x": image[None]}), run(free, {"x": image[None], "target": targets(-1)})
        assert alone["saliency_target"].tolist() == [int(alone["logits"].argmax())]
        np.testing.assert_allclose(alone["saliency_map"], fed["saliency_map"], atol=1e-6)


def test_a_constant_map_is_zeros_and_its_range_says_so() -> None:
    dark = filled(CLASSIFIER)
    compiled = compile(dark)
    results = run(compiled, {"x": np.zeros((1, 3, 16, 12), np.float32), "target": targets(99)})
    assert not results["saliency_map"].any()
    assert results["saliency_range"][0, 0] == results["saliency_range"][0, 1]


def test_bytes_stay_bytes_at_the_input() -> None:
    model = filled(PIXELS)
    compiled = compile(model)
    assert compiled.interface.inputs[0].dtype == "uint8"
    pictures = np.random.default_rng(1).integers(0, 256, (2, 16, 12, 3)).astype(np.uint8)
    results = run(compiled, {"x": pictures, "target": targets(-1, 1)})
    with onnxcam.Explainer(model, "grad-cam", providers=["cpu"]) as explain:
        for i, target in enumerate((None, 1)):
            image = pictures[i].transpose(2, 0, 1).astype(np.float32)
            np.testing.assert_allclose(results["saliency_map"][i], explain(image, target).map, atol=1e-6)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("change", [{"scale": 0.01}, {"mean": (3.0,)}, {"std": (2.0,)}, {"color": "bgr"}], ids=str)
def test_a_changed_setting_of_the_preprocessing_counts_once(
    change: dict[str, Any], raw: bool, classifier: onnx.ModelProto
) -> None:
    """The image of noise, and arrays of the caller's, are compared as they are."""
    pictures = [] if raw else [IMAGES[0]]
    compiled = compile(
        classifier, raw=raw, preset="imagenet", adjust=lambda preset: replace(preset, **change), pictures=pictures
    )
    assert compiled.difference.map <= (1e-3 if raw else 1e-5)
    (name,) = change
    assert compiled.record["preset"][name] == json.loads(json.dumps(change[name]))


NAMES_TAKEN = CLASSIFIER.replace("features", "saliency_map").replace("r1", "target").replace("logits", "saliency_range")


def test_names_of_the_model_that_collide_are_resolved() -> None:
    model = filled(NAMES_TAKEN)
    compiled = compile(model)
    assert (compiled.interface.map, compiled.interface.target) == ("saliency_map", "target")
    assert compiled.interface.range == "saliency_range_2", "the model's own output keeps its name"
    results = run(compiled, {"x": IMAGES, "target": targets(-1, -1, -1)})
    assert results["saliency_range"].shape == (3, 5)
    assert results["saliency_map"].shape == (3, 16, 12)


def test_the_metadata_tells_what_the_file_is(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    compiled = compile(classifier, onnxcam.grad_cam_plus_plus(epsilon=0.5), labels=list("abcde"))
    path = compiled.save(tmp_path / "compiled.onnx")
    proto = onnx.load(path)
    record = read_compiled({p.key: p.value for p in proto.metadata_props})
    assert record == json.loads(json.dumps(compiled.record))
    assert record["method"] == "grad-cam++"
    assert record["options"] == {"epsilon": 0.5}
    assert record["labels"] == list("abcde")
    assert (record["layer"], record["grid"]) == ("features", [4, 3])
    assert record["scores"] == {"output": "logits", "probabilities": "softmax"}
    assert record["interface"]["target"] == "target"
    assert COMPILED in {p.key for p in proto.metadata_props}


@pytest.mark.parametrize("options", [{}, {"target": "top1"}, {"target": 2}, {"raw": True}], ids=str)
def test_a_compiled_file_is_no_model_to_explain(
    classifier: onnx.ModelProto, tmp_path: Path, options: dict[str, Any]
) -> None:
    onnx.save(classifier, tmp_path / "net.onnx")
    path = compile(tmp_path / "net.onnx", **options).save(tmp_path / "compiled.onnx")
    sentence = r"compiled from net\.onnx by `onnxcam compile`; give that model"
    calls: list[Callable[[], object]] = [
        lambda: compile(path, **options),
        lambda: compile(path, inputs={"target": np.array([-1])}),
        lambda: onnxcam.Explainer(path),
    ]
    for call in calls:
        with pytest.raises(ModelError, match=sentence):
            call()
    for words in (["rewrite", path, "-o", tmp_path / "again.onnx"], ["compile", path, "--input", "target=-1"]):
        assert re.search(sentence, str(CliRunner().invoke(app, list(map(str, words))).exception))
    shown = CliRunner().invoke(app, ["inspect", str(path)])
    assert shown.exit_code == 0, shown.exception
    assert "grad-cam" in shown.output


def test_what_cannot_be_compiled_is_refused_with_what_can(classifier: onnx.ModelProto) -> None:
    with pytest.raises(CompileError, match="smooth-grad cannot be compiled; what can: grad-cam"):
        compile(classifier, "smooth-grad")
    with pytest.raises(TargetError, match="out of range"):
        compile(classifier, target=5)
    with pytest.raises(OptionError, match="rank2 cannot be baked in"):
        compile(classifier, target="rank2")
    with pytest.raises(OptionError, match="one layer"):
        compile(classifier, layer=["c1", "c2"])  # type: ignore[arg-type]


def test_a_model_of_a_fixed_batch_keeps_it() -> None:
    model = filled(SCALED_BY_BATCH)
    compiled = compile(model)
    assert [t.shape for t in compiled.interface.inputs] == [(2, 3, 16, 12), (2,)]
    results = run(compiled, {"x": np.repeat(IMAGES[:1], 2, axis=0), "target": targets(-1, 3)})
    with onnxcam.Explainer(model, "grad-cam", providers=["cpu"]) as explain:
        for i, target in enumerate((None, 3)):
            np.testing.assert_allclose(results["saliency_map"][i], explain(IMAGES[0], target).map, atol=1e-5)


def test_a_file_whose_images_change_each_other_is_refused(classifier: onnx.ModelProto) -> None:
    compiled = compile(classifier)
    proto = onnx.load_from_string(compiled.bytes)
    (node,) = (n for n in proto.graph.node if "saliency_map" in n.output)
    node.output[0] = "alone"
    mean = onnx.helper.make_node("ReduceMean", ["alone", "first"], ["mean"], keepdims=1)
    apart = onnx.helper.make_node("Sub", ["alone", "mean"], ["apart"])
    proto.graph.node.extend([mean, apart, onnx.helper.make_node("Add", ["alone", "apart"], ["saliency_map"])])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "first"))
    with onnxcam.Explainer(classifier, "grad-cam", providers=["cpu"]) as explain:
        arguments = (compiled.interface, explain, read_model(classifier), None, (), 1e-5)
        assert check_compiled(compiled.bytes, *arguments, reopen=reopened).map <= 1e-5
        with pytest.raises(CompileError, match="change each other"):
            check_compiled(proto.SerializeToString(), *arguments, reopen=reopened)


@pytest.mark.parametrize(
    ("output", "operator", "by", "message"),
    [
        ("saliency_map", "Mul", np.float32(0.9), "maps differ by"),
        ("saliency_range", "Mul", np.float32(1.01), "ends of the raw map"),
        ("saliency_range", "Add", np.float32([[0, 0.1]]), "ends of the raw map"),
        ("saliency_target", "Add", np.int64(1), "explains class"),
        ("saliency_map", "CumSum", np.int64(0), "targets of one run"),
        ("saliency_target", "CumSum", np.int64(0), "targets of one run"),
        ("logits", "Mul", np.float32(1.002), "changes the model's output"),
        ("logits", "CumSum", np.int64(0), "changes the model's output"),
    ],
    ids=str,
)
def test_a_file_with_another_answer_is_refused(
    output: str, operator: str, by: np.ndarray, message: str, classifier: onnx.ModelProto
) -> None:
    """CumSum spoils the second image or target alone."""
    compiled = compile(classifier)
    with onnxcam.Explainer(classifier, "grad-cam", providers=["cpu"]) as explain:
        check = partial(
            check_compiled, interface=compiled.interface, explainer=explain, file=read_model(classifier), target=None,
            pictures=(), tolerance=1e-5, reopen=reopened,
        )  # fmt: skip
        assert check(compiled.bytes).map <= 1e-5
        with pytest.raises(CompileError, match=message):
            check(with_changed(compiled.bytes, output, operator, by))


@pytest.mark.parametrize(
    ("ends", "right"),
    [([0.02034, 0.02072], True), ([0.020341, 0.020721], True), ([0.02072, 0.02034], False), ([0.0203, 0.0207], False)],
    ids=str,
)
def test_the_ends_of_a_flat_raw_map_far_from_zero_may_be_rounded(ends: list[float], right: bool) -> None:
    """A millionth is more than a thousandth of the extent, but 5e-5 of the numbers."""
    assert _are_ends(np.asarray(ends, np.float32), np.asarray([[0.02034, 0.02072]], np.float32), 1e-3) is right


def test_the_class_of_each_image_is_compared_where_the_prediction_is_baked_in(classifier: onnx.ModelProto) -> None:
    compiled = compile(classifier, target="top1")
    data = with_changed(compiled.bytes, "saliency_target", "CumSum", np.int64(0))
    with (
        onnxcam.Explainer(classifier, "grad-cam", providers=["cpu"]) as explain,
        pytest.raises(CompileError, match="images of one run"),
    ):
        check_compiled(data, compiled.interface, explain, read_model(classifier), PREDICTION, (), 1e-5, reopen=reopened)


@pytest.mark.parametrize("operator", ["Mul", "CumSum"])
def test_a_file_of_pictures_with_another_answer_is_refused(operator: str, classifier: onnx.ModelProto) -> None:
    compiled, by = compile(classifier, raw=True, preset="imagenet"), {"Mul": np.float32(1.01), "CumSum": np.int64(0)}
    output, message = {"Mul": ("saliency_range", "ends of"), "CumSum": ("saliency_map", "targets of one run")}[operator]
    with (
        onnxcam.Explainer(classifier, "grad-cam", preset="imagenet", providers=["cpu"]) as explain,
        pytest.raises(CompileError, match=message),
    ):
        check_compiled(
            with_changed(compiled.bytes, output, operator, by[operator]), compiled.interface, explain,
            read_model(classifier), None, (), 1e-3, reopen=reopened,
        )  # fmt: skip


COUNTED = CLASSIFIER.replace("  logits = ", """  sides = Shape <end=1> (x)
  count = Squeeze (sides)
  images = Range (none, count, one)
  rows = Unsqueeze (images, minus)
  starts = Mul (rows, width)
  places = Add (starts, columns)
  line = Reshape (flat, minus)
  each = Gather (line, places)
  logits = """).replace("(flat, w3, b3)", "(each, w3, b3)").replace("float[5] b3>", """float[5] b3, int64 none = {0},
 int64 one = {1}, int64[1] minus = {-1}, int64 width = {8}, int64[8] columns = {0,1,2,3,4,5,6,7}>""")  # fmt: skip
"""Reads each image's features at places that it counts from the number of images, as an export of as_strided does."""


@pytest.mark.parametrize("method", ["grad-cam", "gradient"])
def test_several_targets_of_one_image_where_the_model_counts_its_images(method: str) -> None:
    model = filled(COUNTED)
    compiled = compile(model, method)
    results = run(compiled, {"x": IMAGES[:1], "target": targets(-1, 2, 4)})
    assert results["logits"].shape == (1, 5)
    with onnxcam.Explainer(model, method, providers=["cpu"]) as explain:
        for i, target in enumerate((None, 2, 4)):
            np.testing.assert_allclose(results["saliency_map"][i], explain(IMAGES[0], target).map, atol=1e-6)


def test_every_compiled_method_is_a_method() -> None:
    assert set(COMPILABLE) <= set(onnxcam.METHODS)
