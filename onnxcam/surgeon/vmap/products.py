"""Batch rules for matrix products: MatMul, Gemm, Einsum, MatMulInteger, QLinearMatMul; of com.microsoft
MatMulIntegerToFloat, FusedMatMul, FusedGemm, QGemm.
"""

from onnxcam.surgeon.vmap.registry import rule
from onnxcam.surgeon.vmap.task import SHARED, STACKED, Operand, Results, Task

NEW_LETTERS = "ZYXWVUTSRQPONMLKJIHGFEDCBAzyxwvutsrqponmlkjihgfedcba"


@rule("MatMul MatMulInteger")
@rule("MatMulIntegerToFloat", foreign=True)
def matmul(task: Task) -> Results:
    return _product(task, 0, 1)


@rule("QLinearMatMul")
def quantised_matmul(task: Task) -> Results:
    return _product(task, 0, 3)


@rule("FusedMatMul FusedMatMulActivation TransposeMatMul", foreign=True)
def fused_matmul(task: Task) -> Results:
    if task.integer("transBatchA", 0) or task.integer("transBatchB", 0):
        raise task.refusal("transposes its batch axes")
    return _product(task, 0, 1, bool(task.integer("transA", 0)), bool(task.integer("transB", 0)))


def _product(task: Task, left: int, right: int, trans_a: bool = False, trans_b: bool = False) -> Results:
    """left, right: positions of the factors among the inputs. A vector counts as a matrix of one row or column."""
    _check_parameters(task, left, right)
    a, b = task.operand(left), task.operand(right)
    vectors = (a.rank == 1, b.rank == 1)
    if any(vectors) and task.node.op_type != "MatMul":
        raise task.refusal("multiplies a vector")
    shape = list(task.shape)
    if vectors[0]:
        a = _as_matrix(task, a, 0)
        shape.insert(len(shape) - (not vectors[1]), 1)
    if vectors[1]:
        b = _as_matrix(task, b, 1)
        shape.append(1)
    (a, b), batch = _matrices(task, a, b, len(shape), 1 if trans_a else 2, 2 if trans_b else 1)
    value = task.reuse(batch, {left: a, right: b})[0][0]
    dropped = [len(shape) - 2] * vectors[0] + [len(shape) - 1] * vectors[1]
    if not dropped:
        return [(value, batch)]
    if batch in dropped:
        value, batch = task.move_to_front(value, batch, len(shape)), STACKED
        # The axis that a second vector adds has one entry and lies last.
        return [(value if len(dropped) == 1 else task.reshape(value, [-1]), batch)]
    out, batch = list(task.shape), batch - sum(g < batch for g in dropped)
    return [(task.reshape(value, [-1, *out] if batch == STACKED else [*out[:batch], -1, *out[batch + 1 :]]), batch)]


def _as_matrix(task: Task, x: Operand, axis: int) -> Operand:
    """The vector as a row (axis 0) or a column (axis 1)."""
    shape = (1, *x.shape) if axis == 0 else (*x.shape, 1)
    if x.is_shared:
        return Operand(task.b.unsqueeze(x.value, [axis]), shape, SHARED)
    if axis == 0:
        return Operand(task.stacked(x).value, shape, 0)
    return Operand(task.b.unsqueeze(task.stacked(x).value, [2]), shape, STACKED)


def _matrices(task: Task, a: Operand, b: Operand, rank: int, row: int, column: int) -> tuple[list[Operand], int]:
    """The factors with their batches aligned, and the position of the product's batch.

    row, column: the axes of a and b, counted from the right, that the product keeps.
    """
    if b.is_shared and a.batch == a.rank - row:
        return [a, b], rank - 2
    if a.is_shared and b.batch == b.rank - column:
        return [a, b], rank - 1
    return task.align_broadcast([a, b], 3, rank)


def _check_parameters(task: Task, *factors: int) -> None:
    if any(x is not None and not x.is_shared for i, x in enumerate(task.inputs) if i not in factors):
        raise task.refusal("has a parameter that depends on the image")


@rule("Gemm")
@rule("FusedGemm", foreign=True)
def gemm(task: Task) -> Results:
    return _gemm(task, 0, 1, 2)


@rule("QGemm", foreign=True)
def quantised_gemm(task: Task) -> Results:
    return _gemm(task, 0, 3, 6)


def _gemm(task: Task, left: int, right: int, bias: int) -> Results:
    """The samples are rows of the matrix, or columns if the weights are the left factor."""
    _check_parameters(task, left, right, bias)
    a, b, c = task.operand(left), task.operand(right), task.optional(bias)
    if b.is_shared:
        batch = 0
        moved = {left: task.batch_at(a, 1 if task.integer("transA", 0) else 0)}
    elif a.is_shared:
        batch = 1
        moved = {right: task.batch_at(b, 0 if task.integer("transB", 0) else 1)}
    else:
        raise task.refusal("multiplies two matrices that both depend on the image")
    if c is not None:
        moved[bias] = _bias(task, c, batch)
    return task.reuse(batch, moved)


def _bias(task: Task, c: Operand, batch: int) -> Operand:
    position = 2 - batch
    if c.is_shared:
        c = task.one_sample(c, c.rank - position) if c.rank >= position else c
        if c.size_from_right(position) == 1:
            return c
    elif c.rank == 2 and c.shape[batch] * task.original_batch == task.shape[batch]:
        return task.batch_at(c, batch)
    raise task.refusal("adds a matrix whose rows belong to one sample")


@rule("Einsum")
def einsum(task: Task) -> Results:
    """The equation gets one more letter, for the batch axis."""
    equation = task.node.attributes["equation"].as_string().replace(" ", "")
    terms, _, result = equation.partition("->")
    if "->" not in equation:
        letters = sorted(c for c in set(terms) if c.isalpha() and terms.count(c) == 1)
        result = ("..." if "..." in terms else "") + "".join(letters)
    letter = next((c for c in NEW_LETTERS if c not in equation), None)
    if letter is None:
        raise task.refusal("uses every letter, so none is free for the batch axis")
    moved, new_terms = {}, []
    for i, term in enumerate(terms.split(",")):
        x = task.operand(i)
        moved[i] = x if x.is_shared else task.stacked(x)
        new_terms.append(term if x.is_shared else letter + term)
    return task.reuse(STACKED, moved, equation=f"{','.join(new_terms)}->{letter}{result}")
