"""What rounding alone may change: a map that moves with the weights' last places is not one that is wrong."""

import numpy as np
import onnx
import onnxruntime
import pytest
from compiled_files import with_moved_map
from onnx import numpy_helper
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam.compiler.checking import check_compiled
from onnxcam.compiler.compiled import compile
from onnxcam.compiler.rounding import rounded, with_rounded_weights
from onnxcam.errors import CompileError
from onnxcam.surgeon.loading import read_model

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


def difference(model: onnx.ModelProto, by: float) -> float:
    compiled = compile(model)
    with onnxcam.Explainer(model, "grad-cam", providers=["cpu"]) as explain:
        data = with_moved_map(compiled.bytes, by)
        return check_compiled(data, compiled.interface, explain, read_model(model), None, (), 1e-5).map


def test_a_map_that_follows_the_last_places_of_the_weights_may_differ_as_far() -> None:
    assert 5e-5 <= difference(deaf(), 6e-5) <= 2e-4


def test_a_map_that_does_not_may_not() -> None:
    with pytest.raises(CompileError, match="maps differ by 6"):
        difference(filled(CLASSIFIER), 6e-5)


def test_more_than_rounding_is_refused_there_too() -> None:
    with pytest.raises(CompileError, match=r"maps differ by 0\.0"):
        difference(deaf(), 5e-3)


def test_numbers_are_rounded_to_a_neighbour_and_zero_stays() -> None:
    numbers = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    numbers[3] = 0
    moved = rounded(numbers, np.random.default_rng(1))
    assert (np.abs(moved - numbers)[numbers != 0] == np.abs(np.nextafter(numbers, moved) - numbers)[numbers != 0]).all()
    assert 0.4 < np.mean(moved[numbers != 0] > numbers[numbers != 0]) < 0.6
    assert not moved[3].any()


@pytest.mark.parametrize("method", ["grad-cam", "rise"])
def test_the_models_weights_are_rounded_and_no_others(method: str) -> None:
    model = filled(CLASSIFIER)
    data = compile(model, method).bytes
    before, after = (onnx.load_from_string(d) for d in (data, with_rounded_weights(data, np.random.default_rng(0))))
    names = {weight.name for weight in model.graph.initializer}
    assert changed(before.graph, after.graph) == names
    onnxruntime.InferenceSession(after.SerializeToString(), providers=["CPUExecutionProvider"])


def changed(before: onnx.GraphProto, after: onnx.GraphProto) -> set[str]:
    """The names of weights that differ, those of bodies too."""
    pairs = zip(before.initializer, after.initializer, strict=True)
    names = {a.name for a, b in pairs if a.SerializeToString() != b.SerializeToString()}
    for one, other in zip(before.node, after.node, strict=True):
        for a, b in zip(one.attribute, other.attribute, strict=True):
            if a.type == onnx.AttributeProto.GRAPH:
                names |= changed(a.g, b.g)
    return names
