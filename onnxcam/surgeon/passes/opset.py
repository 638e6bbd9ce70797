"""Changes of a whole model that onnx itself makes, and that heavy weights take no part in."""

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
"""The opset that gradients are written in, unless the model's own is newer."""
HEAVY = 4096
"""Numbers from which a weight is left out where only shapes count."""


def raise_opset(model: Model) -> Model:
    """The model in opset LATEST, or in its own where that is newer. Raises ModelError for what cannot be converted."""
    if opset(model) >= LATEST:
        return model

    def converted(proto: onnx.ModelProto) -> onnx.ModelProto:
        return version_converter.convert_version(proto, LATEST)

    return _without_weights(model, converted, f"the model's opset {opset(model)} cannot be brought to {LATEST}")


def write_out(model: Model, operators: Sequence[str]) -> Model:
    """The model with these standard operators replaced by the functions that define them."""
    names = [("", name) for name in operators]

    def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
        return inliner.inline_selected_functions(proto, names, inline_schema_functions=True)

    return _without_weights(model, inlined, f"{', '.join(operators)} cannot be written out")


def _without_weights(model: Model, change: Callable[[onnx.ModelProto], onnx.ModelProto], complaint: str) -> Model:
    """A change that onnx makes, without copying heavy weights back and forth: they stand as inputs meanwhile."""
    light = edit(model)
    held = {n: v.const_value for n, v in light.graph.initializers.items()}
    kept = {name: array for name, array in held.items() if array is not None and array.size > HEAVY}
    for name in kept:
        value = light.graph.initializers.pop(name)
        light.graph.inputs.append(onnx_ir.Value(name=name, type=value.type, shape=value.shape))
        onnx_ir.convenience.replace_all_uses_with(value, light.graph.inputs[-1])
    try:
        found = from_proto(change(to_proto(light)))
    except (RuntimeError, onnx.shape_inference.InferenceError, *MALFORMED) as error:
        raise ModelError(f"{complaint} ({cause(error)})") from None
    for value in [v for v in found.graph.inputs if v.name in kept]:
        found.graph.inputs.remove(value)
        value.const_value = kept[str(value.name)]
        found.graph.register_initializer(value)
    return in_order(found)


def blank_weights(model: Model) -> Model:
    """A copy with zeros for heavy weights, made when it runs: for a run that only asks for shapes."""
    copy = edit(model)
    b = Builder(copy, BLANK)
    for name, value in list(copy.graph.initializers.items()):
        array = value.const_value
        if array is None or array.size <= HEAVY or array.dtype not in NUMERIC[:3] or value.is_graph_output():
            continue  # whole numbers may be places, on which shapes depend
        dtype = array.dtype.numpy()
        zeros = b(
            "ConstantOfShape", b.constant(array.shape.numpy(), np.int64), value=onnx_ir.tensor(np.zeros(1, dtype))
        )
        onnx_ir.convenience.replace_all_uses_with(value, zeros)
        del copy.graph.initializers[name]
    copy.graph.sort()
    return copy
