"""Heavy arithmetic in float16, delicate arithmetic in float32: a pass for devices that are fast at half precision.

Inputs stay as they are; Casts stand where a tensor goes from one kind of operator to the other. What sums many
numbers, or whose result spans many powers of ten, stays in float32, and so does what reads nothing else and costs
little: the normalisation of the picture, the `+ epsilon` before a square root. Weights beyond float16's range are cut
off where they are bounds or stand for infinity; elsewhere they keep their operator in float32.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir

from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Value, edit
from onnxcam.surgeon.passes.opset import blank_weights

DELICATE = frozenset(
    """Softmax LogSoftmax Softplus LayerNormalization InstanceNormalization GroupNormalization RMSNormalization
    LpNormalization MeanVarianceNormalization LRN LpPool GlobalLpPool Exp Log Pow Sqrt Reciprocal Sin Cos Tan Erf CumSum
    CumProd Range Det EyeLike RandomNormal RandomUniform RandomNormalLike RandomUniformLike ConstantOfShape Einsum
    ReduceMean ReduceSum ReduceSumSquare ReduceL1 ReduceL2 ReduceProd ReduceLogSum ReduceLogSumExp QuantizeLinear
    DequantizeLinear DynamicQuantizeLinear Cast CastLike LSTM GRU RNN NonMaxSuppression RoiAlign GridSample""".split()
)
HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Attention"})
"""Worth half precision whatever they read."""
BOUNDED = frozenset({"Clip", "Min", "Max", "Where", "Add", "Sub", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"})
"""May read numbers beyond the range: bounds, or a mask's stand-in for infinity."""
ANY_TYPE = frozenset({"Cast", "Shape", "Size", "IsNaN", "IsInf"})
"""Read numbers of any type, so no Cast is needed before them."""
FLOAT_ONLY: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2), "Upsample": (1,)}
"""Operands that are float32 by the specification, whatever the others are."""
LARGEST = float(np.finfo(np.float16).max)
FLOAT, HALF = onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16


def in_half_precision(model: Model) -> Model:
    """The model with its float32 arithmetic in float16 where that is safe; tensors keep their names.

    Tensors of other types stay what they are, and so does the inside of loops and branches. Raises ModelError where the
    types cannot be told.
    """
    types = _types(model)
    copy = edit(model)
    copy.graph.sort()
    half = _halved(copy, types)
    b = Builder(copy, "onnxcam/half")
    for value in [v for v in copy.graph.initializers.values() if v.dtype == FLOAT]:
        _split_weight(copy, value, half)
    produced: dict[Value, onnx_ir.DataType] = {v: FLOAT for v in copy.graph.inputs if v.dtype == FLOAT}
    for node in [n for n in copy.graph if not str(n.name).startswith("onnxcam/half/")]:
        for value in node.outputs:
            if types.get(str(value.name)) == FLOAT:
                produced[value] = HALF if node in half else FLOAT
    for value, dtype in produced.items():
        if dtype == HALF:
            value.type = onnx_ir.TensorType(HALF)
        _cast_uses(b, value, dtype, half)
    copy.graph.sort()
    return copy


def _types(model: Model) -> Mapping[str, onnx_ir.DataType | None]:
    """The element type of every tensor that onnx can tell."""
    return ir.recorded_types(blank_weights(model) if ir.opset(model) >= 9 else model)  # ConstantOfShape: from 9 on


def _halved(model: Model, types: Mapping[str, onnx_ir.DataType | None]) -> set[Node]:
    """The nodes that compute in half precision; the graph is sorted."""
    found: set[Node] = set()
    for node in model.graph:
        if _has_subgraph(node) or not ir.is_standard(node) or node.op_type in DELICATE or node.op_type in ANY_TYPE:
            continue
        operands = [v for i, v in enumerate(node.inputs) if v is not None and i not in FLOAT_ONLY.get(node.op_type, ())]
        known = [v.dtype if v.const_value is not None else types.get(str(v.name)) for v in operands]
        outputs = [types.get(str(v.name)) for v in node.outputs if v.name]
        if FLOAT not in known or None in known or None in outputs or not _fits(node, operands):
            continue
        computed = [v for v, t in zip(operands, known, strict=True) if t == FLOAT and v.const_value is None]
        if node.op_type in HEAVY or any(v.producer() in found for v in computed):
            found.add(node)
    return found


def _fits(node: Node, operands: list[Value]) -> bool:
    """Whether float16 can hold the weights that the node reads."""
    if node.op_type in BOUNDED:
        return True
    arrays = [ir.constant(v) for v in operands if v.dtype == FLOAT and v.const_value is not None]
    return all(np.abs(a[np.isfinite(a)]).max(initial=0) <= LARGEST for a in arrays if a is not None)


def _has_subgraph(node: Node) -> bool:
    return any(a.type in (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS) for a in node.attributes.values())


def _reads_half(node: Node, index: int, half: set[Node]) -> bool:
    return node in half and index not in FLOAT_ONLY.get(node.op_type, ())


def _split_weight(model: Model, value: Value, half: set[Node]) -> None:
    """A float16 copy for those that compute in half; the original goes where no one else reads it."""
    uses = [u for u in value.uses() if _reads_half(u.node, u.idx, half)]
    array = ir.constant(value)
    if not uses or array is None:
        return
    name = f"{value.name}/onnxcam/half"
    finite = np.clip(array.astype(np.float32), -LARGEST, LARGEST)
    tensor = onnx_ir.tensor(np.where(np.isinf(array), array, finite).astype(np.float16), name=name)
    stored = onnx_ir.Value(name=name, type=onnx_ir.TensorType(HALF), shape=value.shape, const_value=tensor)
    model.graph.register_initializer(stored)
    for use in uses:
        use.node.replace_input_with(use.idx, stored)
    if not value.uses() and not value.is_graph_output():
        del model.graph.initializers[str(value.name)]


def _cast_uses(b: Builder, value: Value, dtype: onnx_ir.DataType, half: set[Node]) -> None:
    """Every reader of the value gets it in the type in which it computes."""
    other = FLOAT if dtype == HALF else HALF
    differing = [
        u
        for u in value.uses()
        if _reads_half(u.node, u.idx, half) != (dtype == HALF) and u.node.op_type not in ANY_TYPE
    ]
    if not differing:
        return
    cast = b.cast(value, other)
    for use in differing:
        use.node.replace_input_with(use.idx, cast)
