"""Products of matrices."""

from onnxcam.surgeon.vmap.rules import rule
from onnxcam.surgeon.vmap.task import EXTRA, SAME, Operand, Results, Task

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


def _product(task: Task, left: int, right: int, flip_a: bool = False, flip_b: bool = False) -> Results:
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
    (a, b), place = _matrices(task, a, b, len(shape), 1 if flip_a else 2, 2 if flip_b else 1)
    value = task.keep(place, {left: a, right: b})[0][0]
    gone = [len(shape) - 2] * vectors[0] + [len(shape) - 1] * vectors[1]
    if not gone:
        return [(value, place)]
    if place in gone:
        value, place = task.front(value, place, len(shape)), EXTRA
        # The vectors' other axis, if any, has one entry and lies last.
        return [(value if len(gone) == 1 else task.reshape(value, [-1]), place)]
    out, place = list(task.shape), place - sum(g < place for g in gone)
    return [(task.reshape(value, [-1, *out] if place == EXTRA else [*out[:place], -1, *out[place + 1 :]]), place)]


def _as_matrix(task: Task, x: Operand, axis: int) -> Operand:
    """The vector as a row (axis 0) or a column (axis 1)."""
    shape = (1, *x.shape) if axis == 0 else (*x.shape, 1)
    if x.is_same:
        return Operand(task.b.unsqueeze(x.value, [axis]), shape, SAME)
    if axis == 0:
        return Operand(task.extra(x).value, shape, 0)
    return Operand(task.b.unsqueeze(task.extra(x).value, [2]), shape, EXTRA)


def _matrices(task: Task, a: Operand, b: Operand, rank: int, row: int, column: int) -> tuple[list[Operand], int]:
    """row, column: the axes of a and b, from the right, that the product keeps."""
    if b.is_same and a.batch == a.rank - row:
        return [a, b], rank - 2
    if a.is_same and b.batch == b.rank - column:
        return [a, b], rank - 1
    return task.align([a, b], 3, rank)


def _check_parameters(task: Task, *factors: int) -> None:
    if any(x is not None and not x.is_same for i, x in enumerate(task.inputs) if i not in factors):
        raise task.refusal("has a parameter that depends on the picture")


@rule("Gemm")
@rule("FusedGemm", foreign=True)
def gemm(task: Task) -> Results:
    return _gemm(task, 0, 1, 2)


@rule("QGemm", foreign=True)
def quantised_gemm(task: Task) -> Results:
    return _gemm(task, 0, 3, 6)


def _gemm(task: Task, left: int, right: int, bias: int) -> Results:
    """Two axes and no more: the pictures are rows, or columns where the weights come first."""
    _check_parameters(task, left, right, bias)
    a, b, c = task.operand(left), task.operand(right), task.optional(bias)
    if b.is_same:
        place = 0
        moved = {left: task.at(a, 1 if task.integer("transA", 0) else 0)}
    elif a.is_same:
        place = 1
        moved = {right: task.at(b, 0 if task.integer("transB", 0) else 1)}
    else:
        raise task.refusal("multiplies two matrices that both depend on the picture")
    if c is not None:
        moved[bias] = _bias(task, c, place)
    return task.keep(place, moved)


def _bias(task: Task, c: Operand, place: int) -> Operand:
    position = 2 - place
    if c.is_same:
        c = task.one_row(c, c.rank - position) if c.rank >= position else c
        if c.size(position) == 1:
            return c
    elif c.rank == 2 and c.shape[place] * task.fixed == task.shape[place]:
        return task.at(c, place)
    raise task.refusal("adds a matrix whose rows belong to one picture")


@rule("Einsum")
def einsum(task: Task) -> Results:
    """One letter more, for the pictures."""
    equation = task.node.attributes["equation"].as_string().replace(" ", "")
    terms, _, result = equation.partition("->")
    if "->" not in equation:
        letters = sorted(c for c in set(terms) if c.isalpha() and terms.count(c) == 1)
        result = ("..." if "..." in terms else "") + "".join(letters)
    new = next((c for c in NEW_LETTERS if c not in equation), None)
    if new is None:
        raise task.refusal("has used all letters")
    moved, written = {}, []
    for i, term in enumerate(terms.split(",")):
        x = task.operand(i)
        moved[i] = x if x.is_same else task.extra(x)
        written.append(term if x.is_same else new + term)
    return task.keep(EXTRA, moved, equation=f"{','.join(written)}->{new}{result}")
