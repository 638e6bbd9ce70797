"""Passes by onnx's own tools on the model as a whole: a newer opset, operators decomposed into simpler ones.

graphs/score_gradient.py uses both before it builds a gradient, because gradient rules are written for opset 18. The
tools would copy the heavy weights for nothing, so these passes take them out meanwhile. blank_weights() is for models
that are run only to learn their shapes: it replaces the heavy weights for good.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir
from onnx import inliner, version_converter

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.tracing import BLANK
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import MALFORMED, NUMERIC, Model, cause, edit, from_proto, in_order, opset, to_proto

LATEST = 18
"""The opset that gradients are written in, unless the model's is newer."""
HEAVY = 4096
"""Numbers of a weight above which it is set aside."""


def raise_opset(model: Model) -> Model:
    """Converts the model to opset LATEST, unless its opset is newer. Raises ModelError where onnx cannot convert it."""
    if opset(model) >= LATEST:
        return model

    def convert(proto: onnx.ModelProto) -> onnx.ModelProto:
        return version_converter.convert_version(proto, LATEST)

    return _apply_without_weights(model, convert, f"the model's opset {opset(model)} cannot be brought to {LATEST}")


def decompose_operators(model: Model, operators: Sequence[str]) -> Model:
    """Replaces these standard operators by the simpler ones that define them in ONNX. Raises ModelError."""
    names = [("", name) for name in operators]

    def inline(proto: onnx.ModelProto) -> onnx.ModelProto:
        return inliner.inline_selected_functions(proto, names, inline_schema_functions=True)

    return _apply_without_weights(model, inline, f"{', '.join(operators)} cannot be decomposed")


def _apply_without_weights(model: Model, change: Callable[[onnx.ModelProto], onnx.ModelProto], complaint: str) -> Model:
    """Applies a change of the ModelProto while heavy weights are inputs, which spares copying them.

    complaint begins the message of the ModelError for a change that fails.
    """
    light = edit(model)
    weights = {n: v.const_value for n, v in light.graph.initializers.items() if not v.is_graph_output()}
    heavy = {name: array for name, array in weights.items() if array is not None and array.size > HEAVY}
    for name in heavy:
        value = light.graph.initializers.pop(name)
        light.graph.inputs.append(onnx_ir.Value(name=name, type=value.type, shape=value.shape))
        onnx_ir.convenience.replace_all_uses_with(value, light.graph.inputs[-1])
    try:
        changed = from_proto(change(to_proto(light)))
    except (RuntimeError, onnx.shape_inference.InferenceError, *MALFORMED) as error:
        raise ModelError(f"{complaint} ({cause(error)})") from None
    for value in [v for v in changed.graph.inputs if v.name in heavy]:
        changed.graph.inputs.remove(value)
        value.const_value = heavy[str(value.name)]
        changed.graph.register_initializer(value)
    return in_order(changed)


def blank_weights(model: Model) -> Model:
    """Replaces heavy float weights by zeros that ConstantOfShape makes: for a run that only reports shapes."""
    copy = edit(model)
    b = Builder(copy, BLANK)
    for name, value in list(copy.graph.initializers.items()):
        array = value.const_value
        if array is None or array.size <= HEAVY or array.dtype not in NUMERIC[:3] or value.is_graph_output():
            continue  # shapes may depend on integers
        dtype = array.dtype.numpy()
        zeros = b(
            "ConstantOfShape", b.constant(array.shape.numpy(), np.int64), value=onnx_ir.tensor(np.zeros(1, dtype))
        )
        onnx_ir.convenience.replace_all_uses_with(value, zeros)
        del copy.graph.initializers[name]
    copy.graph.sort()
    return copy
