"""What batch methods are made of: rows, halves, tokens, standard operators, percentiles, eigenvectors, and places."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from small_models import CLASSIFIER, TRANSFORMER, filled

import onnxcam
from onnxcam.compiler.batch_methods import BATCH_METHODS
from onnxcam.compiler.compiled import compile
from onnxcam.compiler.feature_cams import _principal
from onnxcam.compiler.pixel_gradients import percentile
from onnxcam.compiler.way_places import plan_of
from onnxcam.errors import CompileError
from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder, empty_model, publish
from onnxcam.surgeon.ir import new_input

Array = np.ndarray
FAMILY = ("grad-cam", "grad-cam++", "layer-cam", "hires-cam", "xgrad-cam", "cam")
IMAGES = np.random.default_rng(3).standard_normal((2, 3, 16, 12)).astype(np.float32)


def outputs(data: bytes, feeds: dict[str, Array]) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def targets(*classes: int) -> Array:
    return np.asarray(classes, np.int64)


@pytest.mark.parametrize("method", FAMILY)
def test_the_reference_evaluator_gives_the_same_maps(method: str) -> None:
    compiled = compile(filled(CLASSIFIER), method)
    feeds = {"x": IMAGES, "target": targets(-1, 3)}
    proto = onnx.load_from_string(compiled.bytes)
    assert {o.domain for o in proto.opset_import} == {""}
    evaluator = ReferenceEvaluator(proto)
    reference = dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))
    for name, expected in outputs(compiled.bytes, feeds).items():
        np.testing.assert_allclose(reference[name], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam", "recipro-cam", "ablation-cam", "eigen-cam", "gradient"])
def test_a_model_of_tokens_gives_the_maps_of_an_explainer(method: str) -> None:
    model = filled(TRANSFORMER)
    images = np.random.default_rng(2).standard_normal((2, 3, 12, 12)).astype(np.float32)
    results = outputs(compile(model, method).bytes, {"x": images, "target": targets(-1, 1)})
    with onnxcam.Explainer(model, method, providers=["cpu"]) as explain:
        for i, target in enumerate((None, 1)):
            np.testing.assert_allclose(results["saliency_map"][i], explain(images[i], target).map, atol=2e-6)


def in_half() -> onnx.ModelProto:
    """The classifier with weights, inputs and outputs in half precision, wide enough that its weights are stored so."""
    text = CLASSIFIER.replace("float[", "float16[")
    proto = onnx.parser.parse_model(text)
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in filled(CLASSIFIER).graph.initializer}
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float16), name))
    for info in [v for v in proto.graph.value_info if v.name in weights]:
        proto.graph.value_info.remove(info)
    return proto


def stored_types(graph: onnx.GraphProto) -> dict[tuple[int, ...], int]:
    """The element type of each weight by its shape, those of bodies too."""
    types = {tuple(i.dims): i.data_type for i in graph.initializer}
    for attribute in (a for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH):
        types |= stored_types(attribute.g)
    return types


@pytest.mark.parametrize("method", ["grad-cam", "recipro-cam", "ablation-cam", "gradient", "integrated-gradients"])
def test_half_precision_stays_at_the_inputs_the_outputs_and_the_weights(method: str) -> None:
    model = in_half()
    compiled = compile(model, method)
    results = outputs(compiled.bytes, {"x": IMAGES.astype(np.float16), "target": targets(-1, 2)})
    assert results["logits"].dtype == np.float16
    assert stored_types(onnx.load_from_string(compiled.bytes).graph)[8, 6, 3, 3] == onnx.TensorProto.FLOAT16
    with onnxcam.Explainer(model, method, providers=["cpu"]) as explain:
        np.testing.assert_allclose(results["saliency_map"][1], explain(IMAGES[1], 2).map, atol=5e-3)


def small_graph(shape: list[int | str], dtype: int) -> tuple[ir.Model, Builder, ir.Value]:
    model = empty_model("small")
    return model, Builder(model, "b"), new_input(model, "x", dtype, shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [7, 100, 101, 192])
def test_the_percentile_is_numpys(count: int) -> None:
    import onnx_ir

    model, b, x = small_graph(["rows", count], onnx_ir.DataType.FLOAT)
    publish(model, percentile(b, x, count, 99.0), onnx_ir.DataType.FLOAT, ["rows", 1])
    numbers = np.random.default_rng(count).exponential(size=(3, count)).astype(np.float32)
    numbers[2] = 0
    numbers[2, 5] = 3
    (caps,) = outputs(ir.to_bytes(model), {"x": numbers}).values()
    expected = np.percentile(numbers[:2].astype(np.float64), 99, axis=1)
    np.testing.assert_allclose(caps[:2, 0], expected, rtol=1e-7)
    assert caps[2, 0] == (3 if np.percentile(numbers[2], 99) == 0 else np.float32(np.percentile(numbers[2], 99)))


def test_the_eigenvector_is_numpys_also_where_the_second_is_close() -> None:
    import onnx_ir

    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    close = (vectors * [1, 0.999, 0.5, 0.1, 0.01, 0]) @ vectors.T
    model, b, x = small_graph(["N", 6, 6], onnx_ir.DataType.DOUBLE)
    publish(model, _principal(b, x, 6), onnx_ir.DataType.DOUBLE, ["N", 6, 1])
    (found,) = outputs(ir.to_bytes(model), {"x": np.stack([close, np.zeros((6, 6))])}).values()
    assert abs(found[0, :, 0] @ vectors[:, 0]) == pytest.approx(1, abs=1e-9)
    assert not found[1].any()


@pytest.mark.parametrize("steps", [2, 3, 12, 50, 200])
def test_the_turns_run_as_many_places_as_the_method_and_the_image_first(steps: int) -> None:
    plan = plan_of(steps)
    assert plan.steps == steps
    assert plan.even[0, 0] == 1
    done = np.concatenate([[0], np.cumsum(plan.counts)[:-1]])
    chosen = plan.even[:, 0] > 1
    assert (plan.counts[chosen] <= done[chosen] - 1).all(), "a part has one middle"


@pytest.mark.parametrize("steps", [2, 12, 40])
@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_integrated_gradients_takes_the_steps_of_the_method(steps: int, fill: str) -> None:
    method, model = onnxcam.integrated_gradients(steps=steps, fill=fill), filled(CLASSIFIER)
    results = outputs(compile(model, method).bytes, {"x": IMAGES, "target": targets(-1, 2)})
    with onnxcam.Explainer(model, method, providers=["cpu"]) as explain:
        for i, target in enumerate((None, 2)):
            np.testing.assert_allclose(results["saliency_map"][i], explain(IMAGES[i], target).map, atol=1e-5)


def test_integrated_gradients_refuses_a_baseline_that_needs_the_picture() -> None:
    with pytest.raises(CompileError, match="not at blur"):
        compile(filled(CLASSIFIER), onnxcam.integrated_gradients(fill="blur"))


@pytest.mark.parametrize("method", BATCH_METHODS)
def test_no_image_or_no_target_gives_no_map(method: str) -> None:
    data = compile(filled(CLASSIFIER), method).bytes
    for images, classes in ((0, 1), (1, 0), (0, 0)):
        feeds = {"x": np.zeros((images, 3, 16, 12), np.float32), "target": np.zeros(classes, np.int64)}
        results = outputs(data, feeds)
        shapes = [results[name].shape for name in ("saliency_map", "saliency_target", "saliency_range", "logits")]
        assert shapes == [(0, 16, 12), (0,), (0, 2), (images, 5)]


@pytest.mark.parametrize("method", BATCH_METHODS)
def test_a_file_of_a_small_model_grows_by_little(method: str) -> None:
    model = filled(CLASSIFIER)
    assert len(compile(model, method).bytes) <= len(model.SerializeToString()) + 64 * 1024
