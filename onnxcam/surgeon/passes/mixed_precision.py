"""A pass for devices that are fast at half precision: heavy operators in float16, delicate ones in float32.

Inputs and outputs keep their types. A Cast stands where a tensor passes between the two groups. Operators that sum many
numbers or span many powers of ten stay in float32, and so do cheap ones that read only float32 tensors: the image's
normalisation, the `+ epsilon` before a square root. Weights beyond float16's range: those that are bounds of Clip, or
stand for infinity as in an attention mask, are clipped; an operator with any other stays in float32. network/scorer.py
applies the pass for EngineOptions(half=True).
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
"""Operators that gain from half precision whatever they read."""
BOUNDED = frozenset({"Clip", "Min", "Max", "Where", "Add", "Sub", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"})
"""Operators whose weights may be clipped to the range: bounds, or large numbers that stand for infinity."""
ANY_TYPE = frozenset({"Cast", "Shape", "Size", "IsNaN", "IsInf"})
"""Operators that read any type, so no Cast is needed before them."""
FLOAT_ONLY: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2), "Upsample": (1,)}
"""Positions of operands that the specification fixes to float32, by operator."""
LARGEST = float(np.finfo(np.float16).max)
FLOAT, HALF = onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16


def convert_to_mixed_precision(model: Model) -> Model:
    """Converts float32 arithmetic to float16 where that is safe. Tensors keep their names.

    Tensors of other types and the contents of loops and branches stay. Raises ModelError where the types of the graph
    cannot be inferred.
    """
    types = _types(model)
    copy = edit(model)
    copy.graph.sort()
    half = _half_nodes(copy, types)
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
    """The element type of every tensor, as far as onnx can infer it. Raises ModelError."""
    return ir.recorded_types(blank_weights(model) if ir.opset(model) >= 9 else model)  # ConstantOfShape: from 9 on


def _half_nodes(model: Model, types: Mapping[str, onnx_ir.DataType | None]) -> set[Node]:
    """The nodes that compute in half precision. The graph must be sorted."""
    half: set[Node] = set()
    for node in model.graph:
        if _has_subgraph(node) or not ir.is_standard(node) or node.op_type in DELICATE or node.op_type in ANY_TYPE:
            continue
        operands = [v for i, v in enumerate(node.inputs) if v is not None and i not in FLOAT_ONLY.get(node.op_type, ())]
        known = [v.dtype if v.const_value is not None else types.get(str(v.name)) for v in operands]
        outputs = [types.get(str(v.name)) for v in node.outputs if v.name]
        if FLOAT not in known or None in known or None in outputs or not _fits(node, operands):
            continue
        computed = [v for v, t in zip(operands, known, strict=True) if t == FLOAT and v.const_value is None]
        if node.op_type in HEAVY or any(v.producer() in half for v in computed):
            half.add(node)
    return half


def _fits(node: Node, operands: list[Value]) -> bool:
    """Whether float16 holds the weights that the node reads, or may clip them."""
    if node.op_type in BOUNDED:
        return True
    arrays = [ir.constant(v) for v in operands if v.dtype == FLOAT and v.const_value is not None]
    return all(np.abs(a[np.isfinite(a)]).max(initial=0) <= LARGEST for a in arrays if a is not None)


def _has_subgraph(node: Node) -> bool:
    return any(a.type in (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS) for a in node.attributes.values())


def _reads_half(node: Node, index: int, half: set[Node]) -> bool:
    """Whether the node takes its operand at this position in float16."""
    return node in half and index not in FLOAT_ONLY.get(node.op_type, ())


def _split_weight(model: Model, value: Value, half: set[Node]) -> None:
    """Gives the nodes in half precision a float16 copy of the weight; removes the original if nothing else reads it."""
    uses = [u for u in value.uses() if _reads_half(u.node, u.idx, half)]
    array = ir.constant(value)
    if not uses or array is None:
        return
    name = f"{value.name}/onnxcam/half"
    clipped = np.clip(array.astype(np.float32), -LARGEST, LARGEST)
    tensor = onnx_ir.tensor(np.where(np.isinf(array), array, clipped).astype(np.float16), name=name)
    stored = onnx_ir.Value(name=name, type=onnx_ir.TensorType(HALF), shape=value.shape, const_value=tensor)
    model.graph.register_initializer(stored)
    for use in uses:
        use.node.replace_input_with(use.idx, stored)
    if not value.uses() and not value.is_graph_output():
        del model.graph.initializers[str(value.name)]


def _cast_uses(b: Builder, value: Value, dtype: onnx_ir.DataType, half: set[Node]) -> None:
    """Puts a Cast between the value, of type `dtype`, and the readers that compute in the other type."""
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
