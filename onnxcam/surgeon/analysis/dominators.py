"""Tensors that everything passes through, and the graph that shows which of them the score reads at every cell."""

from collections.abc import Mapping

import onnx_ir

from onnxcam.surgeon.analysis.axes import Axes, Tokens
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value, ancestors, edit, find_value, new_input, tidy

KEEP = "onnxcam/keep/"
"""Begins the names of the inputs (1,tokens,1) that scale a tensor's tokens."""


def dominators(model: Model, start: str, end: str) -> list[str]:
    """Names of the tensors that every way from `start` to `end` leads through, in order; both ends left out.

    After a node that makes such a tensor, nothing else that depends on the start is still to be read.
    """
    first, last = find_value(model, start), find_value(model, end)
    assert first is not None
    assert last is not None
    needed = {id(v) for v in (last, *ancestors(last))}
    waiting = {id(first): _readers(first, needed)}
    found = []
    for node in model.graph:
        inputs = {id(v) for v in node.inputs if v is not None and id(v) in waiting}
        outputs = [v for v in node.outputs if id(v) in needed]
        if not inputs or not outputs:
            continue
        for key in inputs:
            waiting[key] -= 1
            if not waiting[key]:
                del waiting[key]
        waiting.update({id(v): _readers(v, needed) for v in outputs})
        if len(waiting) == 1 and outputs[0] is not last:
            found.append(str(outputs[0].name))
    return found


def _readers(value: Value, needed: set[int]) -> int:
    """How many needed nodes read it; the end itself is read by none, and stays."""
    return len({id(u.node) for u in value.uses() if any(id(v) in needed for v in u.node.outputs)})


def with_keeps(model: Model, tensors: Mapping[str, Axes], logits: str) -> Model:
    """The model whose only output is `logits`, each of these tensors (name: axes) scaled by an input of its own."""
    copy = edit(model)
    b = Builder(copy, "onnxcam/keep")
    head = find_value(copy, logits)
    assert head is not None
    for name, axes in tensors.items():
        value = find_value(copy, name)
        assert value is not None
        shape: list[int | str] = ["tokens" if isinstance(a, Tokens) else 1 for a in axes]
        keep = new_input(copy, f"{KEEP}{name}", onnx_ir.DataType.FLOAT, shape)
        readers = list(value.uses())
        scaled = b("Mul", value, b("CastLike", keep, value))
        for use in readers:
            use.node.replace_input_with(use.idx, scaled)
    copy.graph.outputs.clear()
    head.shape = None
    copy.graph.outputs.append(head)
    return tidy(copy)
