"""Finds outputs whose rows are other boxes for every image, since an operator chooses by the image what they list."""

from onnxcam.surgeon.analysis.frontier import WEIGHTED, Geometry
from onnxcam.surgeon.analysis.queries import operators
from onnxcam.surgeon.ir import Node, Value, ancestors, constant, integer

COUNTED = frozenset({"TopK", "NonZero", "Compress"})
"""Operators that choose as many entries as one axis of their result is long."""


def choosing_operator(output: Value, geometry: Geometry) -> str | None:
    """The operator that chooses, by the image, what an axis of the output lists; None where it lists fixed places.

    Non-maximum suppression anywhere before the output is one. TopK and others are where the axis of their choice
    leads to the output: a pooling of the largest numbers ends that axis before the classes.
    """
    nodes = {id(n): n for v in (output, *ancestors(output)) if (n := v.producer()) is not None}
    if any(name == "NonMaxSuppression" for node in nodes.values() for name in operators(node)):
        return "NonMaxSuppression"
    for node in nodes.values():
        data = node.inputs[0] if node.op_type in COUNTED else None
        if data is None or constant(data) is not None or data.name in geometry.fixed:
            continue
        count = _count(node, geometry)
        if count is not None and count > 1 and _leads_to(node, output, count, geometry):
            return node.op_type
    return None


def _count(node: Node, geometry: Geometry) -> int | None:
    """How many entries are chosen; None where it is unknown."""
    shape = geometry.shape(node.outputs[0])
    axis = integer(node, "axis", 0 if node.op_type == "Compress" else -1)
    return shape[axis] if shape and -len(shape) <= axis < len(shape) else None


def _joins_places(node: Node) -> bool:
    """Whether the node makes one number of many, so that an axis may end in it."""
    return (
        node.op_type in (*WEIGHTED, "Einsum")
        or node.op_type.startswith(("Reduce", "Global"))
        or node.op_type.endswith("Pool")
    )


def _leads_to(chosen: Node, output: Value, count: int, geometry: Geometry) -> bool:
    """Whether the axis of this length, or what it was joined or written into, leads from the choice to the output."""
    ahead, seen = [output], set[int]()
    while ahead:
        value = ahead.pop()
        node = value.producer()
        if node is chosen:
            return True
        if id(value) in seen or node is None:
            continue
        if _joins_places(node) and count not in (geometry.shape(value) or ()):
            continue  # the axis has ended
        seen.add(id(value))
        ahead.extend(v for v in node.inputs if v is not None)
    return False
