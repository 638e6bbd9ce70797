"""What rounding alone may change: a map that moves with the weights' last places is not one that is wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from compiled_files import reopened, with_moved_map, with_scaled_map
from onnx import numpy_helper
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam.compiler.checking import check_compiled
from onnxcam.compiler.compiled import compile
from onnxcam.compiler.rounding import rounded, with_rounded_weights
from onnxcam.errors import CompileError, InferenceError
from onnxcam.surgeon.loading import ModelFile, read_model

DEAF = CLASSIFIER.replace("float[5] b3", "float[5] b3, float[1,8,4,3] table, float[1] tiny").replace(
    "features = Relu (c2)", "faint = Mul (c2, tiny)\n  features = Add (table, faint)"
)
"""The features are a table whose numbers hardly differ, and the image vanishes in it."""


def deaf() -> onnx.ModelProto:
    model = filled(DEAF)
    table = 1 + 1e-3 * np.random.default_rng(1).random((1, 8, 4, 3))
    numbers = {"table": table, "tiny": np.full(1, 1e-25)}
    for weight in model.graph.initializer:
        if weight.name in numbers:
            weight.CopyFrom(numpy_helper.from_array(numbers[weight.name].astype(np.float32), weight.name))
    return model


def difference(model: onnx.ModelProto, by: float, reopen: Callable[[ModelFile], onnxcam.Explainer] = reopened) -> float:
    compiled = compile(model)
    with onnxcam.Explainer(model, "grad-cam", providers=["cpu"]) as explain:
        data = with_moved_map(compiled.bytes, by)
        file = read_model(model)
        return check_compiled(data, compiled.interface, explain, file, None, (), 1e-5, reopen=reopen).map


def test_a_map_that_follows_the_last_places_of_the_weights_may_differ_as_far() -> None:
    assert 5e-5 <= difference(deaf(), 6e-5) <= 2e-4


def test_a_map_that_does_not_may_not() -> None:
    with pytest.raises(CompileError, match="maps differ by 6"):
        difference(filled(CLASSIFIER), 6e-5)


def test_more_than_rounding_is_refused_there_too() -> None:
    with pytest.raises(CompileError, match=r"maps differ by 0\.0"):
        difference(deaf(), 5e-3)


def test_numbers_are_rounded_to_a_neighbour_and_whole_ones_stay() -> None:
    numbers = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    whole = np.array([0, 1, -7, 255, 1e9, np.finfo(np.float32).max, np.inf, -np.inf], np.float32)
    moved = rounded(numbers, np.random.default_rng(1))
    assert (np.abs(moved - numbers) == np.abs(np.nextafter(numbers, moved) - numbers)).all()
    assert 0.4 < np.mean(moved > numbers) < 0.6
    np.testing.assert_array_equal(rounded(whole, np.random.default_rng(1)), whole)


OPTIONS = """<ir_version: 8, opset_import: ["" : 17]>
classifier (float[N,3,16,12] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[8] b, float[5,8] v, float[4] scales, float[1,8,1,1] exponents, float least, float both>
{
  c = Conv <pads=[1,1,1,1]> (x, w, b)
  centre = ReduceMean <axes=[1]> (c)
  apart = Sub (c, centre)
  power = Pow (apart, exponents)
  bounded = Clip (power, least)
  wide = Resize <mode="nearest"> (bounded, , scales)
  several = Mul (wide, both)
  features = Relu (several)
  p = GlobalAveragePool (features)
  f = Flatten (p)
  vt = Transpose (v)
  logits = MatMul (f, vt)
}"""
"""Weights, and numbers that are none: of a Resize, a Pow, a Clip."""


def with_options() -> onnx.ModelProto:
    model = filled(OPTIONS, check=False)
    numbers = {"scales": [1, 1, 2, 2], "exponents": np.full((1, 8, 1, 1), 2), "least": -1, "both": 0.5}
    for tensor in model.graph.initializer:
        if tensor.name in numbers:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(numbers[tensor.name], np.float32), tensor.name))
    return model


def changed(before: onnx.GraphProto, after: onnx.GraphProto) -> set[str]:
    pairs = zip(before.initializer, after.initializer, strict=True)
    return {a.name for a, b in pairs if a.SerializeToString() != b.SerializeToString()}


def test_the_weights_of_products_and_sums_are_rounded_and_no_options() -> None:
    model = with_options()
    after = with_rounded_weights(model, np.random.default_rng(0))
    assert changed(model.graph, after.graph) == {"w", "b", "v"}


def test_what_is_an_option_elsewhere_too_stays() -> None:
    model = with_options()
    model.graph.node.append(onnx.helper.make_node("Add", ["exponents", "exponents"], ["twice"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("b", 1, [8]))
    after = with_rounded_weights(model, np.random.default_rng(0))
    assert changed(model.graph, after.graph) == {"w", "v"}


SIZED = """<ir_version: 8, opset_import: ["" : 17]>
classifier (float[N,3,16,12] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[8,8] left, float[8,8] right, float[5,8] v, float[2] factors, float[8] order, float[8] ones,
 int64[1] two = {2}, int64[1] four = {4}, int64[1] none = {0}>
{
  c = Conv <pads=[1,1,1,1]> (x, w)
  r = Relu (c)
  shape = Shape (r)
  batch = Slice (shape, none, two)
  sides = Slice (shape, two, four)
  lengths = Cast <to=1> (sides)
  longer = Mul (lengths, factors)
  sizes = Cast <to=7> (longer)
  whole = Concat <axis=0> (batch, sizes)
  wide = Resize <mode="linear"> (r, , , whole)
  same = Mul (order, ones)
  places = Cast <to=7> (same)
  turned = Gather <axis=1> (wide, places)
  features = Relu (turned)
  p = GlobalAveragePool (features)
  f = Flatten (p)
  both = MatMul (left, right)
  g = MatMul (f, both)
  logits = Gemm <transB=1> (g, v)
}"""
"""Products of sizes and of constants, which become whole numbers, and a weight that is itself a product."""


def sized() -> onnx.ModelProto:
    model = filled(SIZED, check=False)
    numbers = {"factors": [1.5, 2.5], "order": np.arange(8) / 0.7, "ones": np.full(8, 0.7)}
    for tensor in model.graph.initializer:
        if tensor.name in numbers:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(numbers[tensor.name], np.float32), tensor.name))
    return model


def test_factors_of_sizes_and_places_are_no_weights() -> None:
    model = sized()
    after = with_rounded_weights(model, np.random.default_rng(0))
    assert changed(model.graph, after.graph) == {"w", "left", "right", "v"}


def test_a_weight_in_the_body_of_a_loop_is_rounded_where_it_meets_the_image() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
net (float[N,4] x, int64 turns) => (float[N,4] y)
<float[4] outer = {0.1, 0.2, 0.3, 0.4}, bool go = {1}>
{
  length = Shape (x)
  y = Loop (turns, go, x) <body = once (int64 i, bool on, float[N,4] before) => (bool again, float[N,4] after)
    <float[4] inner = {0.1, 0.2, 0.3, 0.4}, float[4] scale = {0.1, 0.2, 0.3, 0.4}>
    { again = Identity (on)
      real = Cast <to=1> (length)
      first = Slice (real, none, one)
      longer = Mul (first, scale)
      size = ReduceMax (longer)
      sum = Add (before, inner)
      larger = Mul (sum, outer)
      after = Pow (larger, size) }>
}""")
    for name in ("none", "one"):
        model.graph.initializer.append(numpy_helper.from_array(np.int64([name == "one"]), name))
    after = with_rounded_weights(model, np.random.default_rng(0))
    assert changed(model.graph, after.graph) == {"outer"}
    bodies = [graph.node[1].attribute[0].g for graph in (model.graph, after.graph)]
    assert changed(bodies[0], bodies[1]) == {"inner"}


@pytest.mark.parametrize("make", [with_options, sized])
@pytest.mark.parametrize("by", [0.9999, 0.995, 0.9])
def test_a_wrong_map_of_a_model_with_such_options_is_refused(by: float, make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    compiled = compile(model)
    with (
        onnxcam.Explainer(model, "grad-cam", providers=["cpu"]) as explain,
        pytest.raises(CompileError, match="maps differ by"),
    ):
        check_compiled(
            with_scaled_map(compiled.bytes, by), compiled.interface, explain, read_model(model), None, (), 1e-5,
            reopen=reopened,
        )  # fmt: skip


def test_a_model_that_does_not_run_with_other_weights_allows_nothing() -> None:
    def broken(file: ModelFile) -> onnxcam.Explainer:
        raise InferenceError("onnxruntime could not run the model")

    with pytest.raises(CompileError, match="maps differ by"):
        difference(deaf(), 6e-5, broken)


def test_a_map_that_becomes_constant_is_no_movement() -> None:
    def blank(file: ModelFile) -> onnxcam.Explainer:
        model = onnx.ModelProto()
        model.CopyFrom(file.proto)
        for tensor in model.graph.initializer:
            if tensor.name == "table":
                tensor.CopyFrom(numpy_helper.from_array(np.ones((1, 8, 4, 3), np.float32), tensor.name))
        return reopened(file.with_proto(model))

    with pytest.raises(CompileError, match="maps differ by"):
        difference(deaf(), 6e-5, blank)


@pytest.mark.parametrize("raw", [False, True])
def test_a_file_that_takes_pictures_is_allowed_no_more(raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(data: bytes, *arguments: Any, **options: Any) -> Any:
        return check_compiled(with_scaled_map(data, 0.99), *arguments, **options)

    monkeypatch.setattr("onnxcam.compiler.building.check_compiled", scaled)
    with pytest.raises(CompileError, match="maps differ by"):
        compile(with_options(), raw=raw, target="top1", preset="imagenet")


def test_a_weight_that_a_node_fills_is_rounded_and_a_filled_exponent_is_not() -> None:
    model = with_options()
    for name, dims in (("b", [8]), ("exponents", [1, 8, 1, 1])):
        (old,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        model.graph.initializer.remove(old)
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(dims), f"{name}_shape"))
        value = numpy_helper.from_array(np.full(1, 1.5, np.float32))
        model.graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], value=value))
    after = with_rounded_weights(model, np.random.default_rng(0))
    exponents, bias = (numpy_helper.to_array(node.attribute[0].t)[0] for node in after.graph.node[:2])
    assert exponents == 1.5
    assert abs(bias - 1.5) == np.spacing(np.float32(1.5))
