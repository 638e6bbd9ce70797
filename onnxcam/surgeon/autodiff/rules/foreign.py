"""Gradient rules for operators of onnxruntime (domain com.microsoft), which its optimiser leaves in a saved model.

FusedConv, FusedMatMul, Gelu, BiasGelu, QuickGelu. Quantised ones (QLinearAdd, QGemm, ...) are in quantised.py.
"""

from onnxcam.surgeon.autodiff.rules.conv import conv
from onnxcam.surgeon.autodiff.rules.elementwise import gelu_slope, swish_gradient
from onnxcam.surgeon.autodiff.rules.linear import matrix_product
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value

MICROSOFT = "com.microsoft"


@gradient("FusedConv", since=(0,), domain=MICROSOFT)
def fused_conv(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """y = activation(conv(x, w) + b + z); z is input 3. The activation's derivative is computed from y."""
    node.only(0, 3)
    before = op.Mul(dy, _slope(op, node)) if "activation" in node.forward.attributes else dy
    added = before if 3 in node.active else None
    return (conv(op, node.for_input(0), before) if 0 in node.active else None), None, None, added  # type: ignore[return-value]


def _slope(op: Ops, node: BackwardNode) -> Value:
    """The derivative of the activation at y."""
    kind, y = node.text("activation", ""), node.y
    parameters = node.numbers("activation_params")
    if kind == "Relu":
        return op.indicator(op.Greater(y, op.number(0)))
    if kind == "Clip":
        low, high = parameters
        return op.indicator(op.And(op.Greater(y, op.number(low)), op.Less(y, op.number(high))))
    if kind == "LeakyRelu":
        return op.Where(op.Greater(y, op.number(0)), op.number(1), op.number(parameters[0] if parameters else 0.01))
    if kind == "Sigmoid":
        return op.Mul(y, op.Sub(op.number(1), y))
    if kind == "Tanh":
        return op.Sub(op.number(1), op.Mul(y, y))
    if kind == "HardSigmoid":
        inside = op.And(op.Greater(y, op.number(0)), op.Less(y, op.number(1)))
        return op.Mul(op.indicator(inside), op.number(parameters[0] if parameters else 0.2))
    raise node.refusal(f"has the activation {kind}")


@gradient("QuickGelu", since=(0,), domain=MICROSOFT)
def quick_gelu(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return swish_gradient(op, node, dy, node.number("alpha", 1.702))


@gradient("Gelu BiasGelu", since=(0,), domain=MICROSOFT, broadcasts=True)
def gelu(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """y = gelu(x), or gelu(x + bias)."""
    u = op.Add(node.x, node.inputs[1]) if node.op_type == "BiasGelu" else node.x
    return [op.Mul(dy, gelu_slope(op, u))] * len(node.inputs)


@gradient("FusedMatMul", since=(0,), domain=MICROSOFT)
def fused_matmul(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """y = alpha a' b', where ' swaps the last two axes if transA or transB is set."""
    if node.integer("transBatchA", 0) or node.integer("transBatchB", 0):
        raise node.refusal("transposes the batch axes of its operands")
    a, b = node.inputs
    if min(node.rank(a), node.rank(b)) < 2:
        raise node.refusal("multiplies by a vector")
    operands = [
        (op.swap_last_axes(x, node.rank(x)), _swapped(node.dims(x))) if node.integer(name, 0) else (x, node.dims(x))
        for x, name in ((a, "transA"), (b, "transB"))
    ]
    scaled = op.Mul(dy, op.number(node.number("alpha", 1.0)))
    by_operand = matrix_product(op, scaled, node.dims(node.y), operands[0], operands[1], node.active)
    return [
        op.swap_last_axes(g, node.rank(x)) if g is not None and node.integer(name, 0) else g
        for g, x, name in zip(by_operand, (a, b), ("transA", "transB"), strict=True)
    ]


def _swapped(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return (*shape[:-2], shape[-1], shape[-2])
