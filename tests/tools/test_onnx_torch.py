"""The interpreter of ONNX graphs in PyTorch, against onnxruntime and the specification's examples."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from programs import tool
from small_models import Make
from zoo_records import MAPPED, name_of

from onnxcam.network.dry_run import noise
from onnxcam.network.extra_inputs import for_batch
from onnxcam.network.opening import OpenedModel, open_model
from onnxcam.surgeon import ir
from onnxcam.surgeon.loading import read_model
from onnxcam.types import BatchMode

pytestmark = pytest.mark.torch

TOLERANCE = 1e-4
"""Share of the largest number, for float32 over up to a hundred layers."""
COARSE = {"fp16_efflite0_keepio": 1e-3, "q_efflite0_dyn": 0.1, "q_efflite0_qdq_s8s8": 0.15}
"""Tolerances of half precision and of quantised models, where numbers at a tie go the other way and add up."""
FOREIGN = {"ort_resnet10n_extended": "com.microsoft.FusedConv", "q_efflite0_qop_u8s8": "com.microsoft.QLinearAdd"}
RECORDS = [r for r in MAPPED if name_of(r) != "caffe2_vgg19"]
"""vgg19: half a gigabyte of equal weights."""


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    pytest.importorskip("torch")
    return tool("torch_export/onnx_torch")


def by_runtime(model: onnx.ModelProto, feeds: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {o.name for o in copy.graph.output}
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(outputs, feeds)


def by_torch(
    runner: ModuleType, model: onnx.ModelProto, feeds: dict[str, np.ndarray], outputs: list[str], dtype: str = "float64"
) -> list[np.ndarray]:
    import torch

    module = runner.OnnxModule(model, getattr(torch, dtype))
    with torch.no_grad():
        values = module({name: torch.from_numpy(array) for name, array in feeds.items()}, outputs)
    return [v.numpy() for v in values]


def difference(values: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference as a share of the largest number; infinite if the shapes differ."""
    if values.shape != expected.shape:
        return float("inf")
    expected = expected.astype(np.float64)
    return float(np.abs(values - expected).max() / max(np.abs(expected).max(), 1e-30))


def opened_with_feeds(zoo: Path, record: dict[str, Any]) -> tuple[OpenedModel, onnx.ModelProto, dict[str, np.ndarray]]:
    path = zoo / record["file"]
    opened = open_model(read_model(path), tool("zoo_report").options_for(path, record))
    opened.network.close()
    image, batch = opened.anatomy.image, 1 if opened.batching.mode is BatchMode.LOOPED else 2
    feeds = {image.name: noise(image, image.shape(opened.size, batch))}
    return opened, ir.to_proto(opened.model), feeds | for_batch(opened.model, image, opened.inputs, batch)


@pytest.mark.parametrize("record", RECORDS or [None], ids=lambda r: name_of(r) if r else "zoo")
def test_exports_give_the_numbers_of_the_runtime(zoo: Path, runner: ModuleType, record: dict[str, Any]) -> None:
    opened, model, feeds = opened_with_feeds(zoo, record)
    outputs = list(dict.fromkeys([opened.anatomy.features.tensor, opened.anatomy.logits.tensor]))
    if name_of(record) in FOREIGN:
        with pytest.raises(NotImplementedError, match=FOREIGN[name_of(record)]):
            by_torch(runner, model, feeds, outputs)
        return
    expected = by_runtime(model, feeds, outputs)
    for dtype in ("float32", "float64"):
        for values, reference in zip(by_torch(runner, model, feeds, outputs, dtype), expected, strict=True):
            finite = np.isfinite(reference)
            np.testing.assert_array_equal(np.isfinite(values), finite)  # the weights of two classifiers are NaN
            tolerance = COARSE.get(name_of(record), TOLERANCE)
            assert not finite.any() or difference(values[finite], reference[finite]) <= tolerance


BEYOND = {
    "test_attention_23_boolmask_fullymasked_row_nan_robustness", "test_attention_causal_boolmask_nan_robustness",
    "test_dynamicquantizelinear", "test_dynamicquantizelinear_expanded", "test_reduce_max_empty_set",
    "test_reduce_max_empty_set_bool", "test_reduce_min_empty_set",
    "test_resize_downsample_scales_cubic_align_corners", "test_resize_downsample_scales_linear_align_corners",
}  # fmt: skip
"""Examples that differ: a tie in float32, maxima of nothing, rows without a key, and what onnxruntime does otherwise."""
SKIPPED = ("bf16", "bfloat16", "uint", "string")
"""Parts of names of examples whose element types no image has."""
WITHOUT_EXAMPLE = {"GlobalLpPool"}


def examples(known: set[str]) -> Iterator[tuple[str, onnx.ModelProto, dict[str, np.ndarray], list[np.ndarray]]]:
    """The specification's examples of the known operators. All inputs but the first become constants, as shapes are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    for case in cases:
        inputs, outputs = (list(arrays) for arrays in case.data_sets[0])
        numbers = all(isinstance(a, np.ndarray | np.generic) for a in (*inputs, *outputs))
        if not numbers or not inputs or any(word in case.name for word in SKIPPED):
            continue
        if {n.op_type for n in case.model.graph.node} <= known:
            model, first = case.model, case.model.graph.input[0].name
            for info, array in list(zip(model.graph.input, inputs, strict=True))[1:]:
                model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), info.name))
            yield case.name, model, {first: np.array(inputs[0])}, [np.asarray(a) for a in outputs]


def test_every_operator_gives_the_numbers_of_an_example_of_the_specification(runner: ModuleType) -> None:
    """Walks the table of operators. A refused form must be refused with NotImplementedError."""
    wrong, right = set(), set()
    for name, model, feeds, expected in examples({*runner.OPERATORS, *runner.HOST, "Constant"}):
        try:
            values = by_torch(runner, model, feeds, [o.name for o in model.graph.output])
        except NotImplementedError:
            continue
        except (IndexError, TypeError):
            wrong.add(name)
            continue
        pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(values, expected, strict=True)]
        if all(a.shape == b.shape and np.allclose(a, b, 1e-3, 1e-5, equal_nan=True) for a, b in pairs):
            right |= {n.op_type for n in model.graph.node}
        else:
            wrong.add(name)
    assert wrong <= BEYOND
    assert set(runner.OPERATORS) - right <= WITHOUT_EXAMPLE


OLD = {
    "softmax over all axes": (9, "y = Softmax (x)", ""),
    "softmax from axis 2": (11, "y = Softmax <axis=2> (x)", ""),
    "bounds as attributes": (7, "y = Clip <min=-0.5, max=0.25> (x)", ""),
    "pads as attribute": (9, 'y = Pad <mode="reflect", pads=[0,0,1,2,0,0,3,1]> (x)', ""),
    "slice by attributes": (9, "y = Slice <axes=[2,3], starts=[1,-4], ends=[9,5]> (x)", ""),
    "split by attribute": (11, "a, y = Split <axis=1, split=[1,3]> (x)", ""),
    "squeeze by attribute": (11, "a = Unsqueeze <axes=[0,3]> (x) y = Squeeze <axes=[0]> (a)", ""),
    "top k by attribute": (9, "y, i = TopK <k=2, axis=1> (x)", ""),
    "sum over axes as attribute": (11, "y = ReduceSum <axes=[1,3], keepdims=0> (x)", ""),
    "upsample by input": (9, 'y = Upsample <mode="linear"> (x, s)', "float[4] s = {1.0, 1.0, 2.0, 2.0}"),
    "resize with scales second": (10, 'y = Resize <mode="nearest"> (x, s)', "float[4] s = {1.0, 1.0, 2.0, 3.0}"),
    "same padding": (11, 'y = MaxPool <kernel_shape=[3,2], strides=[2,2], auto_pad="SAME_LOWER"> (x)', ""),
    "windows over the edge": (
        11,
        "y = AveragePool <kernel_shape=[3,3], strides=[2,2], pads=[1,0,1,1], ceil_mode=1, count_include_pad=1> (x)",
        "",
    ),
    "transposed convolution to a size": (
        11,
        "y = ConvTranspose <strides=[2,2], output_shape=[12,15]> (x, w)",
        "float[4,1,3,2] w = {0,1,2,3,4,5,6,7,8,9,8,7,6,5,4,3,2,1,0,1,2,3,4,5}",
    ),
}


@pytest.mark.parametrize("form", OLD)
def test_forms_of_old_opsets_give_the_numbers_of_the_runtime(runner: ModuleType, form: str) -> None:
    opset, body, weights = OLD[form]
    weights = f"<{weights}>" if weights else ""
    text = f'<ir_version: 7, opset_import: ["" : {opset}]> g (float[2,4,6,7] x) => (float[] y) {weights} {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 4, 6, 7)).astype(np.float32)}
    assert difference(by_torch(runner, model, feeds, ["y"])[0], by_runtime(model, feeds, ["y"])[0]) <= 1e-6


def gradient(runner: ModuleType, make: Make, body: str, x: list[float], weights: str = "") -> list[float]:
    """The gradient of the sum of y by x, which has shape (1,1,len)."""
    import torch

    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,1,{len(x)}] x) => (float y) <{weights}> {{ v = {body} y = ReduceSum <keepdims=0> (v) }}"""
    module = runner.OnnxModule(make(text, check=False))
    point = torch.tensor([[x]], dtype=torch.float64, requires_grad=True)
    module({"x": point}, ["y"])[0].backward()
    return point.grad[0, 0].tolist()


def test_derivatives_at_kinks_and_ties(runner: ModuleType, make: Make) -> None:
    bounds = "float lo = {-1.0}, float hi = {2.0}"
    assert gradient(runner, make, "Relu (x)", [-1, 0, 1]) == [0, 0, 1]
    assert gradient(runner, make, "Clip (x, lo, hi)", [-2, -1, 0, 2, 3], bounds) == [0, 0, 1, 0, 0]
    assert gradient(runner, make, "Clip (x, lo)", [-2, -1, 0], bounds) == [0, 0, 1]
    assert gradient(runner, make, "MaxPool <kernel_shape=[3]> (x)", [1, 2, 2]) == [0, 1, 0]
    assert gradient(runner, make, "ReduceMax (x)", [1, 2, 2]) == [0, 0.5, 0.5]
    assert gradient(runner, make, "Abs (x)", [-1, 0, 1]) == [-1, 0, 1]


def test_quantisation_passes_the_gradient_straight_through_where_it_does_not_saturate(
    runner: ModuleType, make: Make
) -> None:
    import torch

    weights = "float s = {0.5}, uint8 z = {10}"
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[5] x) => (float[5] y) <{weights}>
    {{ q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }}"""
    module = runner.OnnxModule(make(text, check=False))
    x = torch.tensor([-9, 0.2, 0.25, 0.75, 1000], dtype=torch.float64, requires_grad=True)
    (y,) = module({"x": x}, ["y"])
    y.sum().backward()
    assert y.tolist() == [-5, 0, 0, 1, 122.5]  # halves go to the even number, and 0 to 255 is all there is
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


SHAPED = """
<ir_version: 8, opset_import: ["" : 17]>
shaped (float[N,3,4,4] x) => (float[N,6] y)
<float[8,6] w, int64 zero = {0}, int64[1] first = {0}, int64[1] rest = {-1}, int64 six = {6}>
{
  s = Shape (x) n = Gather (s, zero) n1 = Unsqueeze (n, first) t = Concat <axis=0> (n1, rest)
  f = Reshape (x, t) p = Slice (f, first, eight, one) m = MatMul (p, w)
  six1 = Unsqueeze (six, first) full = Concat <axis=0> (n1, six1) c = ConstantOfShape (full)
  y = Add (m, c)
}
"""


def test_a_traced_module_keeps_the_batch_dynamic(runner: ModuleType, make: Make) -> None:
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    text = SHAPED.replace("int64 six", "int64[1] eight = {8}, int64[1] one = {1}, int64 six")
    module = runner.OnnxModule(make(text, check=False))
    tracer = make_fx(lambda x: module({"x": x}, ["y"])[0], tracing_mode="symbolic", _allow_non_fake_inputs=True)
    traced = tracer(torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(traced(x), module({"x": x}, ["y"])[0])


def test_inner_tensors_may_be_inputs_and_outputs(runner: ModuleType, classifier: onnx.ModelProto) -> None:
    import torch

    module, x = runner.OnnxModule(classifier), torch.ones(2, 3, 16, 12)
    features, logits = module({"x": x}, ["features", "logits"])
    assert torch.equal(module({"features": features}, ["logits"])[0], logits)


def test_an_unknown_operator_is_named(runner: ModuleType, make: Make) -> None:
    model = make(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) { [odd] y = Det (x) }', check=False
    )
    with pytest.raises(NotImplementedError, match="Det of opset 17"):
        by_torch(runner, model, {"x": np.zeros(4, np.float32)}, ["y"])
