"""Products of matrices."""

from collections.abc import Container

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Shape, Value


@gradient("MatMul", since=(13,))
def matmul(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """dA = dY B^T, dB = A^T dY; a vector is a matrix of one row (left) or one column (right)."""
    a, b = step.inputs
    shape_a, shape_b, shape_y = step.dims(a), step.dims(b), step.dims(step.y)
    if len(shape_a) == 1:
        at = max(len(shape_y) - 1, 0)
        a, shape_a, dy, shape_y = op.unsqueeze(a, [0]), (1, *shape_a), op.unsqueeze(dy, [at]), _with(shape_y, -1)
    if len(shape_b) == 1:
        b, shape_b, dy, shape_y = op.unsqueeze(b, [1]), (*shape_b, 1), op.unsqueeze(dy, [-1]), (*shape_y, 1)
    by_a, by_b = matrix_product(op, dy, shape_y, (a, shape_a), (b, shape_b), step.active)
    return [
        op.Reshape(found, op.Shape(given)) if found is not None and given is not used else found
        for found, given, used in ((by_a, step.inputs[0], a), (by_b, step.inputs[1], b))
    ]


Matrices = tuple[Value, Shape]
"""A stack of matrices and its shape."""


def matrix_product(
    op: Ops, dy: Value, shape_y: Shape, a: Matrices, b: Matrices, active: Container[int]
) -> tuple[Value | None, Value | None]:
    """Of Y = A B, stacks broadcast against each other: dY B^T and A^T dY, of the shapes of A and B."""
    by_a = by_b = None
    if 0 in active:
        spread = op.MatMul(dy, op.swapped(b[0], len(b[1])))
        by_a = op.sum_to(spread, (*shape_y[:-1], a[1][-1]), a[1])
    if 1 in active:
        spread = op.MatMul(op.swapped(a[0], len(a[1])), dy)
        by_b = op.sum_to(spread, (*shape_y[:-2], b[1][-2], shape_y[-1]), b[1])
    return by_a, by_b


def _with(shape: tuple[int | None, ...], at: int) -> tuple[int | None, ...]:
    """An axis of one more, before the entry `at` counted from the end (before all where there are none)."""
    return (*shape[:at], 1, *shape[at:]) if shape else (1,)


@gradient("Gemm", since=(13,))
def gemm(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Y = alpha A' B' + beta C, where ' may transpose."""
    a, b = step.inputs[:2]
    turn_a, turn_b = step.integer("transA", 0), step.integer("transB", 0)
    alpha, beta = step.number("alpha", 1.0), step.number("beta", 1.0)
    by_a = by_b = by_c = None
    if 0 in step.active:
        by_a = (
            op.Gemm(b, dy, transA=turn_b, transB=1, alpha=alpha)
            if turn_a
            else op.Gemm(dy, b, transB=1 - turn_b, alpha=alpha)
        )
    if 1 in step.active:
        by_b = (
            op.Gemm(dy, a, transA=1, transB=turn_a, alpha=alpha)
            if turn_b
            else op.Gemm(a, dy, transA=1 - turn_a, alpha=alpha)
        )
    if 2 in step.active:
        c = step.inputs[2]
        by_c = op.sum_to(op.Mul(dy, op.number(beta)), step.dims(step.y), step.dims(c))
    return by_a, by_b, by_c


@gradient("Einsum", since=(12, 28))
def einsum(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """The cotangent of an operand is the product of dy and the other operands, summed to the operand's own letters."""
    equation = step.text("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if "." in equation or not arrow or any(len(set(t)) < len(t) for t in (*terms, right)):
        raise step.refusal(f"has an equation of a form that no rule covers ({equation})")
    found: list[Value | None] = []
    for i, term in enumerate(terms):
        others = [j for j in range(len(terms)) if j != i]
        given = set(right).union(*(terms[j] for j in others))
        if i not in step.active:
            found.append(None)
            continue
        # A letter that stands nowhere else was summed over: it comes back by broadcasting.
        kept = "".join(c for c in term if c in given)
        product = op.Einsum(
            dy, *(step.inputs[j] for j in others), equation=",".join([right, *(terms[j] for j in others)]) + "->" + kept
        )
        lost = [k for k, c in enumerate(term) if c not in given]
        found.append(op.Expand(op.unsqueeze(product, lost), op.Shape(step.inputs[i])) if lost else product)
    return found
