"""Mutations that would take for ever or take all memory: deep functions, huge tensors, endless loops."""

import numpy as np
import onnx.parser
from onnx import ModelProto, NodeProto, helper, numpy_helper

from fuzzing.mutations import Rng, replace, structured


@structured
def recurse_function(rng: Rng, model: ModelProto) -> str | None:
    """Adds functions that call each other in a ring, or each the next one twice: 2**depth nodes when inlined."""
    depth = rng.choice((1, 2, 3, 12, 24, 40))
    closed = rng.random() < 0.5
    for i in range(depth):
        after = f"f{(i + 1) % depth}" if closed or i + 1 < depth else None
        body = [
            helper.make_node(after or "Identity", [a], [b], domain="bomb" if after else "") for a, b in ("am", "mb")
        ]
        function = helper.make_function(
            "bomb", f"f{i}", ["a"], ["b"], body, [helper.make_opsetid("", 17), helper.make_opsetid("bomb", 1)]
        )
        model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("bomb", 1))
    return insert(rng, model, [helper.make_node("f0", ["IN"], ["OUT"], domain="bomb")]) and (
        f"{depth} functions that call " + ("each other in a ring" if closed else "the next one twice")
    )


@structured
def compute_something_huge(rng: Rng, model: ModelProto) -> str | None:
    """Adds a node whose result takes more memory than there is to a tensor of the network."""
    sides = rng.choice(([2**40], [2**17, 2**17], [30_000, 30_000], [2**62, 2], [-1], [2**31], [20_000, 20_000]))
    op = rng.choice(("ConstantOfShape", "Expand", "Tile", "Range"))
    shape = numpy_helper.from_array(np.asarray(sides, np.int64), "huge/shape")
    ones = numpy_helper.from_array(np.ones([1] * len(sides), np.float32), "huge/one")
    first, last, step = (numpy_helper.from_array(np.asarray(v, np.float32), f"huge/{v:g}") for v in (0, 2e12, 1))
    model.graph.initializer.extend([shape, ones, first, last, step])
    inputs = {"ConstantOfShape": [shape.name], "Range": [first.name, last.name, step.name]}
    nodes = [
        helper.make_node(op, inputs.get(op, [ones.name, shape.name]), ["huge/all"]),
        helper.make_node("ReduceMax", ["huge/all"], ["huge/max"], keepdims=0),
        helper.make_node("Add", ["IN", "huge/max"], ["OUT"]),
    ]
    return insert(rng, model, nodes) and f"adds {op} of {sides}"


@structured
def loop_for_ever(rng: Rng, model: ModelProto) -> str | None:
    times = rng.choice((2**62, 10**7, -1))
    text = """t (float x) => (float y) { y = Loop (, on, x) <body = b (int64 i, bool c, float s) => (bool d, float t)
        { d = Identity (c)  t = Identity (s) }> }"""
    loop = onnx.parser.parse_graph(text).node[0]
    loop.input[0], loop.input[1], loop.input[2], loop.output[0] = "ever/times", "ever/on", "IN", "OUT"
    for name in ("s", "t"):  # of any shape
        for value in (*loop.attribute[0].g.input, *loop.attribute[0].g.output):
            if value.name == name:
                value.type.tensor_type.ClearField("shape")
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(times, np.int64), "ever/times"))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "ever/on"))
    return insert(rng, model, [loop]) and f"adds a loop of {times} rounds"


def insert(rng: Rng, model: ModelProto, nodes: list[NodeProto]) -> str | None:
    """Inserts nodes between a tensor of the graph (IN) and a node that reads it (OUT). None if nothing reads one."""
    readers = [(i, j) for i, n in enumerate(model.graph.node) for j, name in enumerate(n.input) if name]
    if not readers:
        return None
    i, j = rng.choice(readers)
    for node in nodes:
        node.input[:] = [model.graph.node[i].input[j] if name == "IN" else name for name in node.input]
        node.output[:] = ["inserted" if name == "OUT" else name for name in node.output]
    model.graph.node[i].input[j] = "inserted"
    replace(model.graph.node, [*model.graph.node[:i], *nodes, *model.graph.node[i:]])
    return "inserted"
