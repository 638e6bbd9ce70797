"""Quantised feature tensors: their scale, the nodes that return them as real numbers, and what cannot be read.

No pass: locate() checks the feature tensor with it, expose_features() and graphs/ add the nodes.
"""

from onnxcam.errors import ModelError
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value, ancestors, constant

SCALE_AT = {
    "QuantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6, "QLinearAdd": 6, "QLinearMul": 6, "QLinearConcat": 0,
    "QLinearSigmoid": 3, "QLinearLeakyRelu": 3, "QLinearAveragePool": 3, "QLinearGlobalAveragePool": 3,
    "QLinearReduceMean": 3, "QLinearSoftmax": 3,
}  # fmt: skip
"""The input with the scale of the operator's output; the zero point is the next input."""
SAME_SCALE = frozenset(
    "MaxPool Transpose Reshape Flatten Squeeze Unsqueeze Slice Pad Clip Relu Identity Resize".split()
)
"""Operators whose output has the scale of their input."""
BLOCKED = "com.microsoft.nchwc"
"""The domain of operators on blocked memory, which onnxruntime's optimiser writes."""


def scale_of(value: Value) -> tuple[Value, Value | None] | None:
    """(scale, zero point) of a quantised tensor; None for a tensor that is not quantised."""
    node = value.producer()
    while node is not None and node.op_type in SAME_SCALE and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type not in SCALE_AT:
        return None
    at = SCALE_AT[node.op_type]
    scale = node.inputs[at] if at < len(node.inputs) else None
    zero = node.inputs[at + 1] if at + 1 < len(node.inputs) else None
    return (scale, zero) if scale is not None else None


def is_quantised(model: Model) -> bool:
    """Whether any node quantises or computes with integers of 8 bits."""
    integers = {*SCALE_AT, "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
    return any(node.op_type in integers for node in model.graph)


def check_dequantisable(value: Value) -> None:
    """Raises ModelError for a tensor of integers whose scale is not a single constant."""
    node, quantisation = value.producer(), scale_of(value)
    if node is not None and (node.op_type in ("ConvInteger", "MatMulInteger") or _is_dynamic(value)):
        raise ModelError(
            f"the feature tensor {value.name!r} holds integers without a scale ({node.op_type}); choose the tensor "
            f"after its scaling with --layer, or explain the float export"
        )
    if quantisation is not None:
        scale = constant(quantisation[0])
        if scale is None or scale.size != 1:
            raise ModelError(
                f"the feature tensor {value.name!r} is quantised with a scale that is not one constant; "
                f"explain the float or QDQ export"
            )


def _is_dynamic(value: Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type == "DynamicQuantizeLinear"


def dequantise(b: Builder, value: Value) -> Value:
    """The tensor as real numbers: itself, or scale * (value - zero point), for which a node is added."""
    quantisation = scale_of(value)
    if quantisation is None:
        return value
    scale, zero = quantisation
    return b("DequantizeLinear", value, scale, *([zero] if zero is not None else []))


def is_blocked(value: Value) -> bool:
    """Whether the tensor is in onnxruntime's blocked NCHWc memory, although its shape says NCHW."""
    for v in (value, *ancestors(value)):
        node = v.producer()
        if node is None or node.op_type == "ReorderOutput":
            return False
        if node.domain == BLOCKED:
            return True
    return False
