"""Mutations of nodes: their order, wiring, operators and attributes."""

import functools
from collections.abc import Callable
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, helper

from fuzzing.mutations import FLOATS, INTEGERS, NAMES, Rng, Structured, all_nodes, one, replace, some_nodes, structured

ATTRIBUTES = """axis axes perm kernel_shape strides pads dilations group to keepdims auto_pad mode ceil_mode epsilon
alpha transA value starts ends shape output_shape scales body then_branch nonsense""".split()

OfNodes = Callable[[Rng, ModelProto, Any], str]
OfNode = Callable[[Rng, ModelProto, NodeProto], str]


def of_nodes(change: OfNodes) -> Structured:
    """Registers a mutation of the list of nodes of one graph that has any."""

    @functools.wraps(change)
    def mutation(rng: Rng, model: ModelProto) -> str | None:
        nodes = some_nodes(rng, model)
        return change(rng, model, nodes) if nodes else None

    return structured(mutation)


def of_node(has: str = "") -> Callable[[OfNode], Structured]:
    """Registers a mutation of one node. has: a field of NodeProto that must not be empty."""

    def registered(change: OfNode) -> Structured:
        @functools.wraps(change)
        def mutation(rng: Rng, model: ModelProto) -> str | None:
            node = one(rng, [n for n in all_nodes(model) if not has or getattr(n, has)])
            return change(rng, model, node) if node is not None else None

        return structured(mutation)

    return registered


def tensors(model: ModelProto) -> list[str]:
    """The names that the nodes read and write, as often as they occur."""
    return [name for n in all_nodes(model) for name in (*n.input, *n.output)]


@of_nodes
def drop_node(rng: Rng, model: ModelProto, nodes: Any) -> str:
    return f"drops the node {nodes.pop(rng.randrange(len(nodes))).op_type}"


@of_nodes
def duplicate_node(rng: Rng, model: ModelProto, nodes: Any) -> str:
    i, again = rng.randrange(len(nodes)), rng.randrange(len(nodes) + 1)
    replace(nodes, [*nodes[:again], nodes[i], *nodes[again:]])
    return f"repeats node {i} at {again}"


@of_nodes
def shuffle_nodes(rng: Rng, model: ModelProto, nodes: Any) -> str:
    replace(nodes, rng.sample(list(nodes), len(nodes)))
    return "shuffles the nodes"


@of_node(has="input")
def rewire_input(rng: Rng, model: ModelProto, node: NodeProto) -> str:
    """Connects an input to a name that does not exist, to another tensor, or to a later one, which closes a cycle."""
    i, name = rng.randrange(len(node.input)), rng.choice([*tensors(model), *node.output, rng.choice(NAMES)])
    node.input[i] = name
    return f"input {i} of {node.op_type} becomes {name[:40]!r}"


@of_node()
def change_arity(rng: Rng, model: ModelProto, node: NodeProto) -> str:
    names = rng.choice([node.input, node.output])
    if names and rng.random() < 0.5:
        return f"{node.op_type} loses {names.pop()!r}"
    names.extend(rng.choice([["", "more"], ["more"], [*node.input]]))
    return f"{node.op_type} gets extra inputs or outputs"


@of_node(has="output")
def rename_output(rng: Rng, model: ModelProto, node: NodeProto) -> str:
    name = rng.choice([rng.choice(tensors(model)), rng.choice(NAMES)])
    node.output[rng.randrange(len(node.output))] = name
    return f"an output of {node.op_type} becomes {name[:40]!r}"


@structured
def rename_everywhere(rng: Rng, model: ModelProto) -> str | None:
    """Gives a tensor an odd name everywhere, so that the model stays valid and the name is printed."""
    old = one(rng, [name for n in model.graph.node for name in n.output if name])
    if old is None:
        return None
    new = rng.choice(NAMES)
    for node in all_nodes(model):
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = new if name == old else name
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.value_info):
        value.name = new if value.name == old else value.name
    return f"{old!r} is called {new[:40]!r} everywhere"


@of_node()
def change_operator(rng: Rng, model: ModelProto, node: NodeProto) -> str:
    known = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})
    old, node.op_type = node.op_type, rng.choice([*known, *known, "", "NoSuchOperator"])
    return f"{old} becomes {node.op_type!r}"


@of_node()
def change_domain(rng: Rng, model: ModelProto, node: NodeProto) -> str:
    node.domain = rng.choice(["my.company", "com.microsoft", "ai.onnx.ml", "ai.onnx", "local", "\x1b[31m"])
    if rng.random() < 0.5:
        model.opset_import.append(helper.make_opsetid(node.domain, 1))
    return f"{node.op_type} moves to the domain {node.domain!r}"


@of_node()
def name_node(rng: Rng, model: ModelProto, node: NodeProto) -> str:
    node.name = rng.choice(NAMES)
    return f"{node.op_type} is called {node.name[:40]!r}"


@of_node(has="attribute")
def drop_attribute(rng: Rng, model: ModelProto, node: NodeProto) -> str:
    gone = node.attribute.pop(rng.randrange(len(node.attribute)))
    return f"{node.op_type} loses {gone.name}"


@of_node(has="attribute")
def alter_attribute(rng: Rng, model: ModelProto, node: NodeProto) -> str:
    attribute = rng.choice(list(node.attribute))
    attribute.i, attribute.f, attribute.s = (
        rng.choice(INTEGERS),
        rng.choice(FLOATS),
        rng.choice([b"", b"\xff\xfe", b"VALID", b"x"]),
    )
    attribute.ints.extend([] if attribute.ints and rng.random() < 0.7 else [rng.choice(INTEGERS)])
    attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(INTEGERS)
    if len(attribute.ints) > 1 and rng.random() < 0.2:
        attribute.ints.pop()
    if rng.random() < 0.15:
        attribute.type = rng.randrange(15)
    values = f"{attribute.i}, {attribute.f}, {attribute.s!r} or {list(attribute.ints)[:8]}"
    return f"{node.op_type}.{attribute.name} becomes {values}"


@of_node()
def add_attribute(rng: Rng, model: ModelProto, node: NodeProto) -> str:
    values = [rng.choice(INTEGERS), rng.choice(FLOATS), [rng.choice(INTEGERS) for _ in range(rng.randrange(1, 5))], "x"]
    name, value = rng.choice(ATTRIBUTES), rng.choice(values)
    node.attribute.append(helper.make_attribute(name, value))
    return f"{node.op_type} gets {name}={value!r}"
