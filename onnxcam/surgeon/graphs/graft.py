"""Puts a graph that was made of a model into another graph of the same model: both share the weights."""

from collections.abc import Mapping

import onnx_ir

from onnxcam.surgeon.ir import Model, Value, constant, edit


def graft(
    model: Model, part: Model, inputs: Mapping[str, Value], prefix: str, around: Model | None = None
) -> dict[str, Value]:
    """Appends the nodes of `part` to `model`, and returns the tensors that were the outputs of `part`, by name.

    inputs: a tensor of `model` for each input of `part`. Names of nodes and tensors get the prefix: clones need names
    of their own. A weight that `model` has under the same name and with the same numbers is shared. around: the model
    that will hold `model` as the body of a Loop, whose weights are shared then. The opsets must be the same. Changes
    the model.
    """
    copy = edit(part)
    for value in list(copy.graph.inputs):
        onnx_ir.convenience.replace_all_uses_with(value, inputs[str(value.name)])
    outputs = {str(v.name): v for v in copy.graph.outputs}
    copy.graph.outputs.clear()  # first: a weight that is an output belongs to the graph until then
    for name, value in list(copy.graph.initializers.items()):
        del copy.graph.initializers[name]
        own = (around or model).graph.initializers.get(name)
        if own is not None and _same(own, value):
            onnx_ir.convenience.replace_all_uses_with(value, own)
            outputs = {n: own if v is value else v for n, v in outputs.items()}
            continue
        value.name = f"{prefix}/{name}"
        model.graph.register_initializer(value)
    nodes = list(copy.graph)
    copy.graph.remove(nodes)
    for node in nodes:
        node.name = f"{prefix}/{node.name}"
        for value in node.outputs:
            if value.name:
                value.name = f"{prefix}/{value.name}"
            value.shape = None  # what was recorded may be of another number of samples
        model.graph.append(node)
    return outputs


def _same(a: Value, b: Value) -> bool:
    """Whether two weights hold the same numbers; those of clones of one model are the same object."""
    if a.const_value is b.const_value:
        return True
    first, second = constant(a), constant(b)
    if first is None or second is None or first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool((first == second).all())
