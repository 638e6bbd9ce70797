"""Operators of onnxruntime's own domain, as its optimiser leaves them in a saved model."""

from onnxcam.surgeon.autodiff.rules.conv import conv
from onnxcam.surgeon.autodiff.rules.elementwise import slope_of_gelu, through_swish
from onnxcam.surgeon.autodiff.rules.linear import matrix_product
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value

MICROSOFT = "com.microsoft"


@gradient("FusedConv", since=(0,), domain=MICROSOFT)
def fused_conv(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """y = activation(conv(x, w) + b + z), z in the fourth place: the activation's slope is told from y."""
    step.only(0, 3)
    before = op.Mul(dy, _slope(op, step)) if "activation" in step.node.attributes else dy
    added = before if 3 in step.active else None
    return (conv(op, step.through(0), before) if 0 in step.active else None), None, None, added  # type: ignore[return-value]


def _slope(op: Ops, step: BackwardNode) -> Value:
    kind, y = step.text("activation", ""), step.y
    given = step.node.attributes.get("activation_params")
    parameters = list(given.as_floats()) if given is not None else []
    if kind == "Relu":
        return op.real(op.Greater(y, op.number(0)))
    if kind == "Clip":
        low, high = parameters
        return op.real(op.And(op.Greater(y, op.number(low)), op.Less(y, op.number(high))))
    if kind == "LeakyRelu":
        return op.Where(op.Greater(y, op.number(0)), op.number(1), op.number(parameters[0] if parameters else 0.01))
    if kind == "Sigmoid":
        return op.Mul(y, op.Sub(op.number(1), y))
    if kind == "Tanh":
        return op.Sub(op.number(1), op.Mul(y, y))
    if kind == "HardSigmoid":
        inside = op.And(op.Greater(y, op.number(0)), op.Less(y, op.number(1)))
        return op.Mul(op.real(inside), op.number(parameters[0] if parameters else 0.2))
    raise step.refusal(f"has the activation {kind}")


@gradient("QuickGelu", since=(0,), domain=MICROSOFT)
def quick_gelu(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return through_swish(op, step, dy, step.number("alpha", 1.702))


@gradient("Gelu BiasGelu", since=(0,), domain=MICROSOFT, broadcasts=True)
def gelu(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Of x + bias, or of x."""
    u = op.Add(step.x, step.inputs[1]) if step.node.op_type == "BiasGelu" else step.x
    return [op.Mul(dy, slope_of_gelu(op, u))] * len(step.inputs)


@gradient("FusedMatMul", since=(0,), domain=MICROSOFT)
def fused_matmul(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """y = alpha a' b', where ' may swap the last two axes."""
    if step.integer("transBatchA", 0) or step.integer("transBatchB", 0):
        raise step.refusal("moves the batch axes of its operands")
    a, b = step.inputs
    if min(step.rank(a), step.rank(b)) < 2:
        raise step.refusal("multiplies by a vector")
    turned = [
        (op.swapped(x, step.rank(x)), _swapped(step.dims(x))) if step.integer(name, 0) else (x, step.dims(x))
        for x, name in ((a, "transA"), (b, "transB"))
    ]
    scaled = op.Mul(dy, op.number(step.number("alpha", 1.0)))
    found = matrix_product(op, scaled, step.dims(step.y), turned[0], turned[1], step.active)
    return [
        op.swapped(g, step.rank(x)) if g is not None and step.integer(name, 0) else g
        for g, x, name in zip(found, (a, b), ("transA", "transB"), strict=True)
    ]


def _swapped(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return (*shape[:-2], shape[-1], shape[-2])
