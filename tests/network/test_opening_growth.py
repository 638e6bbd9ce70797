"""The work of an opening grows with the size of the file, not with its square."""

import sys
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.surgeon.loading import read_model

Nodes = list[onnx.NodeProto]
node = helper.make_node


def chain(count: int) -> Nodes:
    names = ["c", *(f"r{i}" for i in range(count - 1)), "f"]
    return [node("Relu", [a], [b]) for a, b in pairwise(names)]


def joined(count: int) -> Nodes:
    return [
        *(node("Relu", ["c"], [f"r{i}"]) for i in range(count)),
        node("Sum", [f"r{i}" for i in range(count)], ["f"]),
    ]


def repeated(count: int) -> Nodes:
    return [node("Relu", ["c"], ["r"]), node("Sum", ["r"] * count, ["f"])]


def split(count: int) -> Nodes:
    parts = [f"s{i}" for i in range(count)]
    return [node("Split", ["c"], parts, axis=1), node("Relu", ["s0"], ["f"])]


def branches(count: int) -> Nodes:
    names = ["c", *(f"r{i}" for i in range(count - 1)), "f"]
    nodes = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Greater", ["m", "m"], ["condition"])]
    for i, (a, b) in enumerate(pairwise(names)):
        then, other = (
            helper.make_graph(
                [node(op, [a], [f"{side}{i}"])], side, [], [helper.make_empty_tensor_value_info(f"{side}{i}")]
            )
            for op, side in (("Relu", "then"), ("Identity", "other"))
        )
        nodes.append(node("If", ["condition"], [b], then_branch=then, else_branch=other))
    return nodes


def called(count: int) -> Nodes:
    return [node("F", ["c"], ["f"], domain="local")]


KINDS: dict[str, Callable[[int], Nodes]] = {
    "a chain": chain,
    "a node of many inputs": joined,
    "a node of one input, many times": repeated,
    "a node of many outputs": split,
    "many branches": branches,
    "many functions that nothing calls": called,
    "many outputs": lambda count: [node("Relu", ["c"], ["f"])],
}


def model(kind: str, count: int) -> onnx.ModelProto:
    """A classifier of a fixed batch, which is rewritten, with this kind of nodes between its convolution and its head."""
    rng, channels = np.random.default_rng(0), count if kind == "a node of many outputs" else 4
    weights = {
        "k": rng.standard_normal((channels, 3, 3, 3)),
        "w": rng.standard_normal((1 if channels == count else 4, 5)),
    }
    nodes = [node("Conv", ["x", "k"], ["c"], strides=[2, 2]), *KINDS[kind](count)]
    nodes += [node("GlobalAveragePool", ["f"], ["p"]), node("Flatten", ["p"], ["z"]), node("MatMul", ["z", "w"], ["y"])]
    outputs = [f"o{i}" for i in range(count)] if kind == "many outputs" else []
    nodes += [node("Relu", ["y"], [name]) for name in outputs]
    functions = [
        helper.make_function("local", name, ["a"], ["b"], [node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)])
        for name in ("F", *(f"F{i}" for i in range(count)))
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", onnx.TensorProto.FLOAT, [1, 3, 12, 12])],
        [info(name, onnx.TensorProto.FLOAT, [1, 5]) for name in ("y", *outputs)],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    own = functions if kind == "many functions that nothing calls" else []
    return helper.make_model(graph, ir_version=9, opset_imports=imports, functions=own)


def calls_of_opening(proto: onnx.ModelProto) -> int:
    """Calls of Python functions, those of generators for each number included."""
    count = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    data = proto.SerializeToString()
    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        opened = open_model(read_model(data), OpenOptions(cache=False, providers=("cpu",), threads=1, output="y"))
    finally:
        sys.setprofile(before)
    opened.close()
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_file_is_no_more_than_twice_the_work(kind: str) -> None:
    calls_of_opening(model(kind, 2))  # what is imported and kept on the first use
    small, large = (calls_of_opening(model(kind, count)) for count in (100, 200))
    assert large < 2.02 * small
