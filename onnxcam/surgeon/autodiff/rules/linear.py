"""Gradient rules for matrix products: MatMul, Gemm, Einsum."""

from collections.abc import Container

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Shape, Value


@gradient("MatMul", since=(13,))
def matmul(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """dA = dY B^T, dB = A^T dY. A vector counts as a matrix of one row (left) or one column (right)."""
    a, b = node.inputs
    shape_a, shape_b, shape_y = node.dims(a), node.dims(b), node.dims(node.y)
    if len(shape_a) == 1:
        at = max(len(shape_y) - 1, 0)
        a, shape_a, dy, shape_y = op.unsqueeze(a, [0]), (1, *shape_a), op.unsqueeze(dy, [at]), _with(shape_y, -1)
    if len(shape_b) == 1:
        b, shape_b, dy, shape_y = op.unsqueeze(b, [1]), (*shape_b, 1), op.unsqueeze(dy, [-1]), (*shape_y, 1)
    by_a, by_b = matrix_product(op, dy, shape_y, (a, shape_a), (b, shape_b), node.active)
    return [
        op.Reshape(cotangent, op.Shape(operand)) if cotangent is not None and operand is not matrix else cotangent
        for cotangent, operand, matrix in ((by_a, node.inputs[0], a), (by_b, node.inputs[1], b))
    ]


Matrices = tuple[Value, Shape]
"""A stack of matrices and its shape."""


def matrix_product(
    op: Ops, dy: Value, shape_y: Shape, a: Matrices, b: Matrices, active: Container[int]
) -> tuple[Value | None, Value | None]:
    """dY B^T and A^T dY for Y = A B, of the shapes of A and B; None where not active. Stacks may be broadcast."""
    by_a = by_b = None
    if 0 in active:
        product = op.MatMul(dy, op.swap_last_axes(b[0], len(b[1])))
        by_a = op.sum_to(product, (*shape_y[:-1], a[1][-1]), a[1])
    if 1 in active:
        product = op.MatMul(op.swap_last_axes(a[0], len(a[1])), dy)
        by_b = op.sum_to(product, (*shape_y[:-2], b[1][-2], shape_y[-1]), b[1])
    return by_a, by_b


def _with(shape: tuple[int | None, ...], at: int) -> tuple[int | None, ...]:
    """The shape with an axis of size 1 inserted before entry `at` (negative, from the end); (1,) for a scalar."""
    return (*shape[:at], 1, *shape[at:]) if shape else (1,)


@gradient("Gemm", since=(13,))
def gemm(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Y = alpha A' B' + beta C, where ' transposes if transA or transB is set."""
    a, b = node.inputs[:2]
    trans_a, trans_b = node.integer("transA", 0), node.integer("transB", 0)
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    by_a = by_b = by_c = None
    if 0 in node.active:
        by_a = (
            op.Gemm(b, dy, transA=trans_b, transB=1, alpha=alpha)
            if trans_a
            else op.Gemm(dy, b, transB=1 - trans_b, alpha=alpha)
        )
    if 1 in node.active:
        by_b = (
            op.Gemm(dy, a, transA=1, transB=trans_a, alpha=alpha)
            if trans_b
            else op.Gemm(a, dy, transA=1 - trans_a, alpha=alpha)
        )
    if 2 in node.active:
        c = node.inputs[2]
        by_c = op.sum_to(op.Mul(dy, op.number(beta)), node.dims(node.y), node.dims(c))
    return by_a, by_b, by_c


@gradient("Einsum", since=(12, 28))
def einsum(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """The cotangent of an operand is the product of dy and the other operands, summed to the operand's letters."""
    equation = node.text("equation", "").replace(" ", "")
    operands, arrow, right = equation.partition("->")
    terms = operands.split(",")
    if "." in equation or not arrow or any(len(set(t)) < len(t) for t in (*terms, right)):
        raise node.refusal(f"has an equation of a form that the rule does not cover ({equation})")
    cotangents: list[Value | None] = []
    for i, term in enumerate(terms):
        others = [j for j in range(len(terms)) if j != i]
        elsewhere = set(right).union(*(terms[j] for j in others))
        if i not in node.active:
            cotangents.append(None)
            continue
        # A letter that stands nowhere else was summed over: its axis is restored by broadcasting.
        kept = "".join(c for c in term if c in elsewhere)
        product = op.Einsum(
            dy, *(node.inputs[j] for j in others), equation=",".join([right, *(terms[j] for j in others)]) + "->" + kept
        )
        summed = [k for k, c in enumerate(term) if c not in elsewhere]
        cotangents.append(op.Expand(op.unsqueeze(product, summed), op.Shape(node.inputs[i])) if summed else product)
    return cotangents
