"""Tensors that every path from the image to the score crosses, and the graph that scales their tokens.

network/class_token.py uses both: it scales the tokens of each such tensor to see whether the score reads every cell, or
a class token only.
"""

from collections.abc import Mapping

import onnx_ir

from onnxcam.surgeon.analysis.factors import Axes, extra_tokens
from onnxcam.surgeon.analysis.tracing import free_of_data
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value, ancestors, edit, find_value, new_input, tidy

TOKEN_SCALE = "onnxcam/token_scale/"
"""Prefix of the inputs (1,tokens,1) that scale the tokens of a tensor; the tensor's name follows."""


def dominators(model: Model, start: str, end: str) -> list[str]:
    """Names of the tensors that every path from `start` to `end` crosses, in order, without the two ends.

    The nodes must be sorted. A tensor is such a dominator if, right after the node that computes it, no other tensor
    that depends on the start is still to be read. What follows from shapes alone does not depend on it.
    """
    first, last = find_value(model, start), find_value(model, end)
    assert first is not None
    assert last is not None
    fixed = free_of_data(model)
    needed = {id(v) for v in (last, *ancestors(last)) if str(v.name) not in fixed}
    waiting = {id(first): _readers(first, needed)}
    names = []
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
            names.append(str(outputs[0].name))
    return names


def _readers(value: Value, needed: set[int]) -> int:
    """The number of needed nodes that read the value; none reads the end."""
    return len({id(u.node) for u in value.uses() if any(id(v) in needed for v in u.node.outputs)})


def add_token_scales(model: Model, tensors: Mapping[str, Axes], logits: str) -> Model:
    """A copy whose only output is `logits`, in which a new input scales the tokens of each tensor (name -> axes)."""
    copy = edit(model)
    b = Builder(copy, "onnxcam/token_scale")
    head = find_value(copy, logits)
    assert head is not None
    for name, axes in tensors.items():
        value = find_value(copy, name)
        assert value is not None
        shape: list[int | str] = ["tokens" if extra_tokens(a) is not None else 1 for a in axes]
        scale = new_input(copy, f"{TOKEN_SCALE}{name}", onnx_ir.DataType.FLOAT, shape)
        readers = list(value.uses())
        scaled = b("Mul", value, b("CastLike", scale, value))
        for use in readers:
            use.node.replace_input_with(use.idx, scaled)
    copy.graph.outputs.clear()
    head.shape = None
    copy.graph.outputs.append(head)
    return tidy(copy)
