"""Feed onnxcam damaged and hostile model files: each must give a typed error or a right answer, never anything else.

    pip install ".[cpu]"
    python tools/fuzz.py --count 2000 --json fuzz.json --keep /tmp/fuzz
    python tools/fuzz.py --first 123 --count 1 --keep /tmp/fuzz      # the case 123 alone, the same as in the long run

A case is a model, changed by bytes or by meaning; --seed and its index make it again. Each of explain, inspect and
rewrite runs on it in a process of its own with bounded time and memory. An answer is also compared with a plain
onnxruntime run of the same file. --models adds files (folders: *.onnx up to 400 kB, with their external weights).
Needs Linux. Exits 1 when there is a failure; --keep holds the files of each.
"""

import argparse
import faulthandler
import importlib
import json
import multiprocessing
import os
import pkgutil
import random
import re
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import onnx.parser
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

LARGEST_SEED, LARGEST_SIDE = 400_000, 128
"""Bytes and pixels a side of what is taken from a folder, so that it is explained in a second unchanged."""
WORKERS = 2
MOST_LINES, MOST_CHARACTERS = 3, 2000
"""Of an error's message; a little more than the 'one or two lines' that the style asks for."""
TOLERANCE = 1e-2
"""Of the largest number: mutated weights lose digits when the runtime fuses operators in another order."""
UNCHANGED = 50
"""Every so many cases the model stays as it is, and must be answered if it is a built-in one: a check of the tool."""

Files = dict[str, bytes]
"""A model and what lies beside it; the model is called MODEL."""
MODEL = "model.onnx"
Rng = random.Random


# --- models to start from ---------------------------------------------------------------------------------------------

TEXTS = {
    "cnn": """<ir_version: 8, opset_import: ["" : 17]>
        cnn (float[N,3,16,12] x) => (float[N,5] y)
        <float[6,3,3,3] w1, float[8,6,3,3] w2, float[5,8] w3, float[5] b3>
        { c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w1)
          r1 = Relu (c1)
          p1 = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r1)
          c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (p1, w2)
          r2 = Relu (c2)
          pooled = GlobalAveragePool (r2)
          flat = Flatten (pooled)
          z = Gemm <transB=1> (flat, w3, b3)
          y = Softmax <axis=1> (z) }""",
    "nhwc": """<ir_version: 8, opset_import: ["" : 13]>
        nhwc (float[N,16,12,3] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,5] w2, float[5] b2>
        { t = Transpose <perm=[0,3,1,2]> (x)
          c = Conv <kernel_shape=[3,3], auto_pad="SAME_UPPER", strides=[2,2]> (t, w1)
          r = Relu (c)
          b = Transpose <perm=[0,2,3,1]> (r)
          pooled = ReduceMean <axes=[1,2], keepdims=0> (b)
          m = MatMul (pooled, w2)
          y = Add (m, b2) }""",
    "dynamic": """<ir_version: 8, opset_import: ["" : 18]>
        dynamic (float[N,3,H,W] x) => (float[N,5] y)
        <float[4,3,5,5] w1, float[4,5] w2>
        { c = Conv <kernel_shape=[5,5], strides=[16,16]> (x, w1)
          r = Sigmoid (c)
          s = Shape (r)
          zero = Constant <value_ints=[0]> ()
          two = Constant <value_ints=[2]> ()
          nc = Slice (s, zero, two)
          rest = Constant <value_ints=[-1]> ()
          to = Concat <axis=0> (nc, rest)
          flat = Reshape (r, to)
          axes = Constant <value_ints=[2]> ()
          pooled = ReduceMean <keepdims=0> (flat, axes)
          y = MatMul (pooled, w2) }""",
    "tokens": """<ir_version: 8, opset_import: ["" : 17]>
        tokens (float[1,3,16,12] x) => (float[1,5] y)
        <float[8,3,4,4] w1, float[8] g, float[8] b, float[8,8] wq, float[8,8] wk, float[8,8] wv, float[5,8] w2>
        { c = Conv <kernel_shape=[4,4], strides=[4,4]> (x, w1)
          to = Constant <value_ints=[1,8,12]> ()
          f = Reshape (c, to)
          t = Transpose <perm=[0,2,1]> (f)
          n = LayerNormalization <axis=-1> (t, g, b)
          q = MatMul (n, wq)
          k = MatMul (n, wk)
          v = MatMul (n, wv)
          kt = Transpose <perm=[0,2,1]> (k)
          a = MatMul (q, kt)
          p = Softmax <axis=-1> (a)
          o = MatMul (p, v)
          h = Add (t, o)
          pooled = ReduceMean <axes=[1], keepdims=0> (h)
          y = Gemm <transB=1> (pooled, w2) }""",
    "if": """<ir_version: 8, opset_import: ["" : 17]>
        branches (float[N,3,16,12] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,5] w2>
        { c = Conv <kernel_shape=[3,3], strides=[3,3]> (x, w1)
          r = Relu (c)
          pooled = ReduceMean <axes=[2,3], keepdims=0> (r)
          total = ReduceSum <keepdims=0> (pooled)
          zero = Constant <value_float=0.0> ()
          positive = Greater (total, zero)
          z = If (positive) <then_branch = yes () => (float[N,5] u) { u = MatMul (pooled, w2) },
                             else_branch = no () => (float[N,5] v) { v0 = MatMul (pooled, w2)  v = Neg (v0) }>
          y = Softmax <axis=1> (z) }""",
    "loop": """<ir_version: 8, opset_import: ["" : 17]>
        repeated (float[N,3,16,12] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,8] w2, float[8,5] w3>
        { c = Conv <kernel_shape=[3,3], strides=[3,3]> (x, w1)
          r = Relu (c)
          pooled = ReduceMean <axes=[2,3], keepdims=0> (r)
          times = Constant <value_int=3> ()
          go = Cast <to=9> (times)
          h = Loop (times, go, pooled) <body = step (int64 i, bool on, float[N,8] s) => (bool on_, float[N,8] s_)
              { on_ = Identity (on)  m = MatMul (s, w2)  s_ = Tanh (m) }>
          y = MatMul (h, w3) }""",
    "function": """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        called (float[N,3,16,12] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,5] w2>
        { c = local.block (x, w1)
          pooled = ReduceMean <axes=[2,3], keepdims=0> (c)
          y = MatMul (pooled, w2) }
        <domain: "local", opset_import: ["" : 17]>
        block (a, w) => (b) { k = Conv <strides=[3,3]> (a, w)  b = LeakyRelu <alpha=0.1> (k) }""",
    "qdq": """<ir_version: 8, opset_import: ["" : 17]>
        quantised (float[N,3,16,12] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,5] w2, float s, float u>
        { zero = Constant <value_int=0> ()
          p = Cast <to=3> (zero)
          xq = QuantizeLinear (x, s, p)
          xd = DequantizeLinear (xq, s, p)
          wq = QuantizeLinear (w1, u, p)
          wd = DequantizeLinear (wq, u, p)
          c = Conv <strides=[2,2]> (xd, wd)
          r = Relu (c)
          rq = QuantizeLinear (r, s, p)
          rd = DequantizeLinear (rq, s, p)
          pooled = GlobalAveragePool (rd)
          flat = Flatten (pooled)
          y = MatMul (flat, w2) }""",
    "listed": """<ir_version: 3, opset_import: ["" : 9]>
        listed (float[2,1,16,12] x) => (float[2,1] y)
        <float[4,1,3,3] w1, float[4] b1, float[4,1] w2>
        { c = Conv <kernel_shape=[3,3], dilations=[2,2]> (x, w1, b1)
          k = LRN <size=3> (c)
          p = GlobalMaxPool (k)
          f = Squeeze <axes=[2,3]> (p)
          z = MatMul (f, w2)
          y = Sigmoid (z) }""",
}


def built_in() -> dict[str, Files]:
    """Small models of every kind of graph that onnxcam knows, each with weights of about unit gain."""
    found = {name: {MODEL: filled(text).SerializeToString()} for name, text in TEXTS.items()}
    listed = ModelProto.FromString(found["listed"][MODEL])  # before IR version 4 weights had to be inputs too
    for tensor in listed.graph.initializer:
        listed.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    found["listed"] = {MODEL: listed.SerializeToString()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        onnx.save(filled(TEXTS["cnn"]), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        found["external"] = {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}
    return found


def filled(text: str) -> ModelProto:
    """The parsed model; every tensor that is declared but not computed becomes a weight."""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    computed = {name for node in model.graph.node for name in node.output}
    for info in [v for v in model.graph.value_info if v.name not in computed]:
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) if shape else np.asarray(0.02)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), info.name))
        model.graph.value_info.remove(info)
    return model


def read_seeds(places: Sequence[Path]) -> dict[str, Files]:
    """Models from files and folders, with the weights that lie beside them."""
    found: dict[str, Files] = {}
    for place in places:
        paths = sorted(place.glob("*.onnx")) if place.is_dir() else [place]
        for path in paths:
            if place.is_dir() and path.stat().st_size > LARGEST_SEED:
                continue
            data = path.read_bytes()
            model = ModelProto.FromString(data)
            sides = [d.dim_value for v in model.graph.input for d in v.type.tensor_type.shape.dim[2:]]
            if place.is_dir() and max(sides, default=0) > LARGEST_SIDE and len(model.graph.node) > 1:
                continue
            found[path.stem] = {MODEL: data}
            for tensor in model.graph.initializer:
                for entry in tensor.external_data:
                    beside = path.parent / entry.value
                    if entry.key == "location" and beside.is_file():
                        found[path.stem][entry.value] = beside.read_bytes()
    return found


# --- mutations of the graph: change it in place and say what was done; None where there is nothing to change ----------

Structured = Callable[[Rng, ModelProto], str | None]
STRUCTURED: dict[str, Structured] = {}
RAW: dict[str, Callable[[Rng, bytes], tuple[bytes, str]]] = {}

INTEGERS = (
    -1, 0, 1, 2, 3, 7, 255, 1000, 2**16, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -2, -7, -(2**31), -(2**63),
)  # fmt: skip
FLOATS = (0.0, -1.0, 1e-45, 1e30, float("inf"), float("-inf"), float("nan"))
NAMES = ("", "nowhere", "x", "y", "a b", "../../x", "[red]x[/red]", "line\nbreak", "\x1b[31mred", "é中", "n" * 20_000)
DTYPES = (0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 17, 21, 22, 23, 99, -1)
"""TensorProto's numbers: undefined, float to string, bool, halves, complex, 8 and 4 bits, and two that do not exist."""
ATTRIBUTES = """axis axes perm kernel_shape strides pads dilations group to keepdims auto_pad mode ceil_mode epsilon
alpha transA value starts ends shape output_shape scales body then_branch nonsense""".split()


def structured(change: Structured) -> Structured:
    STRUCTURED[change.__name__] = change
    return change


def graphs(model: ModelProto) -> Iterator[Any]:
    """Everything that holds nodes: the graph, its inner graphs and the functions."""
    stack: list[Any] = [model.graph, *model.functions]
    while stack:
        holder = stack.pop()
        yield holder
        stack += [a.g for n in holder.node for a in n.attribute if a.HasField("g")]


def all_nodes(model: ModelProto) -> list[NodeProto]:
    return [node for holder in graphs(model) for node in holder.node]


def some_nodes(rng: Rng, model: ModelProto) -> Any:
    """The list of nodes of one graph, larger graphs more often; None if there is none."""
    holders = [holder.node for holder in graphs(model) for _ in holder.node]
    return rng.choice(holders) if holders else None


def replace(items: Any, new: Sequence[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in new]
    del items[:]
    items.extend(copies)


def one(rng: Rng, items: Sequence[Any]) -> Any:
    return rng.choice(items) if len(items) else None


@structured
def drop_node(rng: Rng, model: ModelProto) -> str | None:
    nodes = some_nodes(rng, model)
    return f"drops the node {nodes.pop(rng.randrange(len(nodes))).op_type}" if nodes else None


@structured
def duplicate_node(rng: Rng, model: ModelProto) -> str | None:
    nodes = some_nodes(rng, model)
    if not nodes:
        return None
    i, again = rng.randrange(len(nodes)), rng.randrange(len(nodes) + 1)
    replace(nodes, [*nodes[:again], nodes[i], *nodes[again:]])
    return f"repeats node {i} at {again}"


@structured
def shuffle_nodes(rng: Rng, model: ModelProto) -> str | None:
    nodes = some_nodes(rng, model)
    if not nodes:
        return None
    replace(nodes, rng.sample(list(nodes), len(nodes)))
    return "shuffles the nodes"


@structured
def rewire_input(rng: Rng, model: ModelProto) -> str | None:
    """To a name that is not there, to another tensor, or to a later one, which closes a cycle."""
    node = one(rng, [n for n in all_nodes(model) if n.input])
    if node is None:
        return None
    known = [name for n in all_nodes(model) for name in (*n.input, *n.output)]
    i, name = rng.randrange(len(node.input)), rng.choice([*known, *node.output, rng.choice(NAMES)])
    node.input[i] = name
    return f"input {i} of {node.op_type} becomes {name[:40]!r}"


@structured
def change_arity(rng: Rng, model: ModelProto) -> str | None:
    node = one(rng, all_nodes(model))
    if node is None:
        return None
    names = rng.choice([node.input, node.output])
    if names and rng.random() < 0.5:
        return f"{node.op_type} loses {names.pop()!r}"
    names.extend(rng.choice([["", "more"], ["more"], [*node.input]]))
    return f"{node.op_type} gets further inputs or outputs"


@structured
def rename_output(rng: Rng, model: ModelProto) -> str | None:
    node = one(rng, [n for n in all_nodes(model) if n.output])
    if node is None:
        return None
    known = [name for n in all_nodes(model) for name in (*n.input, *n.output)]
    node.output[rng.randrange(len(node.output))] = name = rng.choice([rng.choice(known), rng.choice(NAMES)])
    return f"an output of {node.op_type} becomes {name[:40]!r}"


@structured
def rename_everywhere(rng: Rng, model: ModelProto) -> str | None:
    """A tensor gets an odd name consistently, so that the model stays valid and the name is printed."""
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


@structured
def change_operator(rng: Rng, model: ModelProto) -> str | None:
    node = one(rng, all_nodes(model))
    if node is None:
        return None
    known = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})
    old, node.op_type = node.op_type, rng.choice([*known, *known, "", "NoSuchOperator"])
    return f"{old} becomes {node.op_type!r}"


@structured
def change_domain(rng: Rng, model: ModelProto) -> str | None:
    node = one(rng, all_nodes(model))
    if node is None:
        return None
    node.domain = rng.choice(["my.company", "com.microsoft", "ai.onnx.ml", "ai.onnx", "local", "\x1b[31m"])
    if rng.random() < 0.5:
        model.opset_import.append(helper.make_opsetid(node.domain, 1))
    return f"{node.op_type} moves to the domain {node.domain!r}"


@structured
def name_node(rng: Rng, model: ModelProto) -> str | None:
    node = one(rng, all_nodes(model))
    if node is None:
        return None
    node.name = rng.choice(NAMES)
    return f"{node.op_type} is called {node.name[:40]!r}"


@structured
def drop_attribute(rng: Rng, model: ModelProto) -> str | None:
    node = one(rng, [n for n in all_nodes(model) if n.attribute])
    if node is None:
        return None
    gone = node.attribute.pop(rng.randrange(len(node.attribute)))
    return f"{node.op_type} loses {gone.name}"


@structured
def alter_attribute(rng: Rng, model: ModelProto) -> str | None:
    node = one(rng, [n for n in all_nodes(model) if n.attribute])
    if node is None:
        return None
    found = rng.choice(list(node.attribute))
    found.i, found.f, found.s = rng.choice(INTEGERS), rng.choice(FLOATS), rng.choice([b"", b"\xff\xfe", b"VALID", b"x"])
    found.ints.extend([] if found.ints and rng.random() < 0.7 else [rng.choice(INTEGERS)])
    found.ints[rng.randrange(len(found.ints))] = rng.choice(INTEGERS)
    if len(found.ints) > 1 and rng.random() < 0.2:
        found.ints.pop()
    if rng.random() < 0.15:
        found.type = rng.randrange(15)
    return f"{node.op_type}.{found.name} becomes {found.i}, {found.f}, {found.s!r} or {list(found.ints)[:8]}"


@structured
def add_attribute(rng: Rng, model: ModelProto) -> str | None:
    node = one(rng, all_nodes(model))
    if node is None:
        return None
    values = [rng.choice(INTEGERS), rng.choice(FLOATS), [rng.choice(INTEGERS) for _ in range(rng.randrange(1, 5))], "x"]
    name, value = rng.choice(ATTRIBUTES), rng.choice(values)
    node.attribute.append(helper.make_attribute(name, value))
    return f"{node.op_type} gets {name}={value!r}"


@structured
def change_dims(rng: Rng, model: ModelProto) -> str | None:
    tensor = one(rng, model.graph.initializer)
    if tensor is None:
        return None
    how = rng.randrange(4)
    if how == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(INTEGERS)
    elif how == 1:
        tensor.dims.append(rng.choice((1, *INTEGERS)))
    elif how == 2 and tensor.dims:
        tensor.dims.pop()
    else:
        tensor.dims[:] = rng.sample(list(tensor.dims), len(tensor.dims))
    return f"the weight {tensor.name!r} has the shape {list(tensor.dims)}"


@structured
def resize_weight(rng: Rng, model: ModelProto) -> str | None:
    """A weight of another shape, data and all: the file is whole, but the operators no longer fit each other."""
    tensor = one(rng, [t for t in model.graph.initializer if t.data_type == 1 and not t.external_data])
    if tensor is None:
        return None
    dims = [rng.choice((d, d, 0, 1, 2, 5)) for d in tensor.dims] or [1]
    values = np.random.default_rng(rng.randrange(2**32)).standard_normal(dims).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return f"the weight {tensor.name!r} is one of shape {dims}"


@structured
def change_weight_type(rng: Rng, model: ModelProto) -> str | None:
    tensor = one(rng, model.graph.initializer)
    if tensor is None:
        return None
    tensor.data_type = rng.choice(DTYPES)
    return f"the weight {tensor.name!r} has the type {tensor.data_type}"


@structured
def change_weights(rng: Rng, model: ModelProto) -> str | None:
    tensor = one(rng, [t for t in model.graph.initializer if t.data_type == 1 and t.raw_data])
    if tensor is None:
        return None
    values = np.frombuffer(tensor.raw_data, np.float32).copy()
    some = slice(None) if rng.random() < 0.5 else rng.randrange(len(values))
    values[some] = value = rng.choice((*FLOATS, 3e38))
    tensor.raw_data = values.tobytes()
    return f"{'all' if isinstance(some, slice) else 'one'} of the weight {tensor.name!r} becomes {value}"


@structured
def change_constant(rng: Rng, model: ModelProto) -> str | None:
    """A whole number that the graph computes with: the target of a Reshape, axes, a trip count."""
    inner = [a.t for n in all_nodes(model) for a in n.attribute if a.HasField("t")]
    tensor = one(rng, [t for t in (*model.graph.initializer, *inner) if t.data_type == TensorProto.INT64])
    lists = [a for n in all_nodes(model) for a in n.attribute if a.name == "value_ints" and a.ints]
    if lists and (tensor is None or rng.random() < 0.5):
        chosen = rng.choice(lists).ints
        chosen[rng.randrange(len(chosen))] = rng.choice(INTEGERS)
        return f"a constant becomes {list(chosen)}"
    if tensor is None or not tensor.raw_data:
        return None
    values = np.frombuffer(tensor.raw_data, np.int64).copy()
    values[rng.randrange(len(values))] = rng.choice(INTEGERS)
    tensor.raw_data = values.tobytes()
    return f"the constant {tensor.name!r} becomes {values.tolist()[:8]}"


@structured
def damage_data(rng: Rng, model: ModelProto) -> str | None:
    tensor = one(rng, [t for t in model.graph.initializer if t.raw_data])
    if tensor is None:
        return None
    how = rng.randrange(4)
    if how == 0:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data))]
    elif how == 1:
        tensor.ClearField("raw_data")
    elif how == 2:
        tensor.float_data.extend([1.0, 2.0])
    else:
        tensor.ClearField("raw_data")
        tensor.string_data.extend([b"\xff\xfe", b""])
    return f"the weight {tensor.name!r} " + ("is cut short", "has no data", "has two kinds of data", "holds text")[how]


@structured
def drop_or_repeat_weight(rng: Rng, model: ModelProto) -> str | None:
    tensor = one(rng, model.graph.initializer)
    if tensor is None:
        return None
    name, how = tensor.name, rng.randrange(3)
    if how == 0:
        model.graph.initializer.remove(tensor)
    elif how == 1:
        model.graph.initializer.append(tensor)
    else:
        tensor.name = rng.choice(NAMES)
    return f"the weight {name!r} is " + ("dropped", "there twice", "renamed")[how]


@structured
def make_sparse(rng: Rng, model: ModelProto) -> str | None:
    tensor = one(rng, model.graph.initializer)
    if tensor is None:
        return None
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)
    sparse.dims.extend([rng.choice(INTEGERS), *tensor.dims])
    sparse.indices.CopyFrom(numpy_helper.from_array(np.asarray([rng.choice(INTEGERS)], np.int64), "i"))
    model.graph.initializer.remove(tensor)
    return f"the weight {tensor.name!r} is sparse, with nonsense for indices"


@structured
def change_input(rng: Rng, model: ModelProto) -> str | None:
    weights = {t.name for t in model.graph.initializer}
    value = one(rng, [v for v in model.graph.input if v.name not in weights])
    return change_value(rng, value, "input") if value is not None else None


@structured
def change_output(rng: Rng, model: ModelProto) -> str | None:
    value = one(rng, model.graph.output)
    return change_value(rng, value, "output") if value is not None else None


@structured
def change_recorded_shape(rng: Rng, model: ModelProto) -> str | None:
    names = [name for n in model.graph.node for name in n.output]
    if not names:
        return None
    dims = [rng.choice((*INTEGERS, None, "N")) for _ in range(rng.randrange(6))]
    value = helper.make_tensor_value_info(rng.choice(names), rng.choice(DTYPES[:-1]), dims)
    model.graph.value_info.append(value)
    return f"the shape of {value.name!r} is recorded as {dims}"


def change_value(rng: Rng, value: Any, what: str) -> str:
    """Rank, sides, element type, kind of type or name of a graph's input or output."""
    shape, how = value.type.tensor_type.shape, rng.randrange(8)
    if how <= 2 and shape.dim:
        dim = rng.choice(list(shape.dim))
        dim.dim_value = rng.choice(INTEGERS)
        return f"a side of the {what} {value.name!r} is {dim.dim_value}"
    if how == 3:
        del shape.dim[rng.randrange(len(shape.dim) + 1) :]
        return f"the {what} {value.name!r} has {len(shape.dim)} axes"
    if how == 4:
        shape.dim.add().dim_param = rng.choice(("N", "", "n" * 5000))
        return f"the {what} {value.name!r} has one more axis"
    if how == 5:
        value.type.tensor_type.elem_type = rng.choice(DTYPES)
        return f"the {what} {value.name!r} has the type {value.type.tensor_type.elem_type}"
    if how == 6:
        value.name = rng.choice(NAMES)
        return f"the {what} is called {value.name[:40]!r}"
    return change_kind(rng, value, what)


def change_kind(rng: Rng, value: Any, what: str) -> str:
    how = rng.choice(("no type", "no shape", "sequence", "map", "optional", "sparse"))
    if how == "no shape":
        value.type.tensor_type.ClearField("shape")
        return f"the {what} {value.name!r} has no shape"
    value.ClearField("type")
    if how == "sequence":
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif how == "map":
        value.type.map_type.key_type = 8
    elif how == "optional":
        value.type.optional_type.elem_type.tensor_type.elem_type = 1
    elif how == "sparse":
        value.type.sparse_tensor_type.elem_type = 1
    return f"the {what} {value.name!r} has the type: {how}"


@structured
def drop_or_add_value(rng: Rng, model: ModelProto) -> str | None:
    values = rng.choice([model.graph.input, model.graph.output])
    how = rng.randrange(4)
    if how == 0 and values:
        return f"{values.pop(rng.randrange(len(values))).name!r} is no input or output any more"
    if how == 1:
        del values[:]
        return "all inputs or all outputs are gone"
    if how == 2 and values:
        values.append(values[0])
        return f"{values[0].name!r} is listed twice"
    known = [name for n in model.graph.node for name in (*n.input, *n.output)] or ["x"]
    values.append(helper.make_tensor_value_info(rng.choice(known), 1, rng.choice(([1, 3, 8, 8], None, ["N", 5]))))
    return f"{values[-1].name!r} is one more input or output"


@structured
def change_versions(rng: Rng, model: ModelProto) -> str | None:
    how = rng.randrange(4)
    if how == 0:
        model.ir_version = rng.choice((0, -1, 1, 2, 3, 4, 13, 999, 2**62))
        return f"ir_version {model.ir_version}"
    if how == 1:
        model.ClearField(rng.choice(("ir_version", "opset_import")))
        return "no ir_version or no opset_import"
    if how == 2:
        model.opset_import.append(
            helper.make_opsetid(rng.choice(("", "ai.onnx", "local", "x.y")), rng.choice(INTEGERS))
        )
        return f"opset_import also says {model.opset_import[-1].domain!r} {model.opset_import[-1].version}"
    if not model.opset_import:
        return None
    version = rng.choice((0, -1, 1, 6, 7, 8, 10, 11, 13, 18, 21, 25, 26, 99, 2**40))
    model.opset_import[0].version = version
    return f"opset {version}"


@structured
def change_metadata(rng: Rng, model: ModelProto) -> str | None:
    values = ("", "{", "null", "[]", "5", '{"mean": [1e400]}', '{"size": [1, 99999999]}', "[" * 50_000, '["a", "a"]',
              '["\\ud800", "b", "c", "d", "e"]', "{0: 'a'}", "9" * 10_000, '{"std": [0, 0, 0]}', "\x00")  # fmt: skip
    key, value = rng.choice(("onnxcam.preset", "onnxcam.labels", "names", "imgsz", "task")), rng.choice(values)
    model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    return f"metadata {key} = {value[:40]!r}"


@structured
def move_weights_outside(rng: Rng, model: ModelProto) -> str | None:
    tensor = one(rng, model.graph.initializer)
    if tensor is None:
        return None
    places = ("../../etc/passwd", "/etc/passwd", "/dev/zero", ".", "", "weights.bin", MODEL, "a\x00b", "n" * 5000)
    sizes = ("-1", "0", "7", str(2**62), str(2**70), "1e400", "x", "")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    location = rng.choice(places)
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", rng.choice(sizes)), ("length", rng.choice(sizes))):
        if rng.random() < 0.8:
            tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    return f"the weight {tensor.name!r} lies at { {e.key: e.value[:40] for e in tensor.external_data} }"


@structured
def recurse_function(rng: Rng, model: ModelProto) -> str | None:
    """Functions that call themselves, each other, or twice the next one: 2**depth nodes when inlined."""
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
    """A node whose result takes more memory than there is, added to what flows through the network."""
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
    """Put nodes between a tensor of the graph (IN) and what reads it (OUT)."""
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


# --- mutations of the bytes -------------------------------------------------------------------------------------------


def raw(change: Callable[[Rng, bytes], tuple[bytes, str]]) -> Callable[[Rng, bytes], tuple[bytes, str]]:
    RAW[change.__name__] = change
    return change


@raw
def truncate(rng: Rng, data: bytes) -> tuple[bytes, str]:
    end = rng.randrange(len(data))
    return data[:end], f"is cut off after {end} of {len(data)} bytes"


@raw
def flip_bytes(rng: Rng, data: bytes) -> tuple[bytes, str]:
    changed, count = bytearray(data), rng.randrange(1, 21)
    # Most of a file is weights; what describes the graph is at the front as a rule.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 600)
    places = [rng.randrange(reach) for _ in range(count)]
    for place in places:
        changed[place] ^= rng.randrange(1, 256)
    return bytes(changed), f"has other bytes at {sorted(places)}"


@raw
def move_chunk(rng: Rng, data: bytes) -> tuple[bytes, str]:
    a, b = sorted(rng.sample(range(len(data) + 1), 2))
    b = min(b, a + rng.choice((1, 16, 500, len(data))))
    to, how = rng.randrange(len(data)), rng.randrange(3)
    if how == 0:
        return data[:a] + data[b:], f"lacks the bytes {a} to {b}"
    if how == 1:
        return data[:to] + data[a:b] + data[to:], f"repeats the bytes {a} to {b} at {to}"
    rest = data[:a] + data[b:]
    return rest[:to] + data[a:b] + rest[to:], f"has the bytes {a} to {b} moved to {to}"


@raw
def append_something(rng: Rng, data: bytes) -> tuple[bytes, str]:
    what = rng.randrange(3)
    if what == 0:
        return data + data, "is there twice"
    if what == 1:
        return data + bytes(1000), "ends in zeros"
    return data + bytes(rng.randrange(256) for _ in range(200)), "ends in noise"


@raw
def spoil_text(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """Bytes that are not UTF-8 in place of a name, of the same length."""
    words = sorted({m.group() for m in re.finditer(rb"[A-Za-z_./][A-Za-z0-9_./]{2,}", data[:20_000])} | {b"x"})
    word = rng.choice(words)
    new = bytes(rng.choice((0xFF, 0xC0, 0x80)) for _ in word)
    everywhere = rng.random() < 0.7
    return data.replace(word, new, -1 if everywhere else 1), f"spells {word!r} as bytes that are not UTF-8"


@raw
def nest_deeply(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """If in If: protobuf takes a hundred levels, three of which go into each."""
    depth = rng.choice((5, 20, 28, 31, 32, 33, 34, 60, 200, 5000))
    inner = chunk(1, node_bytes("Identity", b"x", b"o")) + chunk(2, b"deep") + chunk(12, chunk(1, b"o"))
    for _ in range(depth):
        branches = b"".join(
            chunk(5, chunk(1, name) + chunk(6, inner if name[:1] == b"t" else LEAF) + b"\xa0\x01\x05")
            for name in (b"then_branch", b"else_branch")
        )
        node = node_bytes("If", b"c", b"o") + branches
        inner = chunk(1, node) + chunk(2, b"deep") + chunk(12, chunk(1, b"o"))
    return data + chunk(7, chunk(1, node.replace(b"\x0a\x01c", b"\x0a\x01x", 1))), f"ends in {depth} nested Ifs"


@raw
def nest_types(rng: Rng, data: bytes) -> tuple[bytes, str]:
    depth = rng.choice((3, 40, 48, 60, 5000))
    kind = chunk(1, b"\x08\x01")
    for _ in range(depth):
        kind = chunk(4, chunk(1, kind))
    return data + chunk(
        7, chunk(rng.choice((11, 12, 13)), chunk(1, b"deep") + chunk(2, kind))
    ), f"has {depth} nested types"


def chunk(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    size, length = b"", len(content)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    tag = number << 3 | 2
    assert tag < 128
    return bytes([tag]) + size + bytes([length]) + content


def node_bytes(op_type: str, *names: bytes) -> bytes:
    return chunk(1, names[0]) + chunk(2, names[1]) + chunk(4, op_type.encode())


LEAF = chunk(1, node_bytes("Identity", b"x", b"o")) + chunk(2, b"leaf") + chunk(12, chunk(1, b"o"))


# --- cases ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    index: int
    model: str
    files: Files = field(repr=False)
    changes: tuple[str, ...]


def make_case(seeds: dict[str, Files], seed: int, index: int) -> Case:
    """The same for the same seeds, seed and index, on every machine."""
    rng = Rng(f"{seed}/{index}")
    name = rng.choice(sorted(seeds))
    files = dict(seeds[name])
    changes: list[str] = []
    if index % UNCHANGED == 0:
        return Case(index, name, files, ())
    spoils_bytes = rng.random()
    if spoils_bytes > 0.2:
        model = ModelProto.FromString(files[MODEL])
        for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
            changes.append(change_structure(rng, model))
        files[MODEL] = model.SerializeToString()
    if spoils_bytes < 0.25 and files[MODEL]:
        which = rng.choice(sorted(RAW))
        target = rng.choice([*files, MODEL, MODEL])
        files[target], said = RAW[which](rng, files[target])
        changes.append(f"{which}: {target} {said}")
    return Case(index, name, files, tuple(changes))


def change_structure(rng: Rng, model: ModelProto) -> str:
    while True:
        name = rng.choice(sorted(STRUCTURED))
        said = STRUCTURED[name](rng, model)
        if said is not None:
            return f"{name}: {said}"


# --- running and judging ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """memory: of address space, in bytes, which also counts the stacks of the runtime's threads."""

    seconds: float = 20
    memory: int = 3 * 2**30


@dataclass(frozen=True)
class Ended:
    """How a process ended. error: the class of the typed error. left: files that were not there before."""

    code: int | None
    signal: int | None
    timed_out: bool
    out: str
    err: str
    error: str
    left: tuple[str, ...]
    seconds: float
    peak: int


@dataclass(frozen=True)
class Verdict:
    """outcome: answer, error or failure. kind: the error's class, or what is wrong; detail: what was printed.

    noise: what stands on standard error besides the message. It is counted, but no failure.
    """

    outcome: str
    kind: str
    detail: str = ""
    noise: str = ""


def sandboxed(action: Callable[[], object], folder: Path, limits: Limits) -> Ended:
    """Run the action in a forked process whose working directory is the folder, and wait for its end."""
    before, start = listing(folder), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        log = Path(name)
        pid = os.fork()
        if pid == 0:
            become(action, folder, log, limits)
        ended = os.pidfd_open(pid)
        timed_out = not select.select([ended], [], [], limits.seconds)[0]
        os.close(ended)
        if timed_out:
            os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        out, err, error = (
            (log / n).read_text(errors="replace") if (log / n).exists() else "" for n in ("out", "err", "error")
        )
    code = os.waitstatus_to_exitcode(status)
    return Ended(
        code if code >= 0 else None, -code if code < 0 else None, timed_out, out, err, error,
        tuple(sorted(listing(folder) - before)), time.monotonic() - start, usage.ru_maxrss * 1024,
    )  # fmt: skip


def become(action: Callable[[], object], folder: Path, log: Path, limits: Limits) -> NoReturn:
    """In the forked process: take the limits, the folder and files for the output; act; end as Python would."""
    code = 70
    faulthandler.disable()  # a test runner's would write to the terminal
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
        processor = int(limits.seconds * 4) + 1  # several threads; the clock on the wall is the other limit
        resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 2))
        for number, place, flags in ((0, "/dev/null", os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
            os.dup2(os.open(log / place, flags | os.O_CREAT), number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        os.chdir(folder)
        code = exit_code(action, log)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def exit_code(action: Callable[[], object], log: Path) -> int:
    """As the interpreter does it; the error that the command line turned into an exit is the exit's context."""
    try:
        action()
    except SystemExit as exit_:
        if exit_.__context__ is not None:
            (log / "error").write_text(type(exit_.__context__).__name__)
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # noqa: BLE001 - this is the last frame of the process
        traceback.print_exc()
        return 1
    return 0


def listing(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def judge(ended: Ended, answer: Callable[[], str | None] = lambda: None) -> Verdict:
    """A clean end is an answer if `answer` finds nothing wrong with it; a short message and exit 1 is an error."""
    said = (ended.err or ended.out)[-6000:]
    if ended.timed_out or ended.signal == signal.SIGXCPU:
        return Verdict("failure", "hang", said or f"killed after {ended.seconds:.0f} s")
    if ended.signal is not None:
        return Verdict("failure", f"killed by {signal.Signals(ended.signal).name}", said)
    if "Traceback" in ended.err + ended.out:
        logged = ended.code == 0 or ended.err.rpartition("\nerror: ")[1]  # by a library, before the command went on
        return Verdict("failure", f"{'logged ' if logged else ''}traceback: {where(ended.err)}", said)
    if ended.code == 0:
        wrong = answer()
        failed = wrong is not None
        return Verdict("failure" if failed else "answer", f"wrong answer: {wrong}" if failed else "", said, ended.err)
    if ended.code != 1:
        return Verdict("failure", f"exit code {ended.code}", said)
    if ended.left:
        return Verdict("failure", "files left behind", f"{', '.join(ended.left)}\n{said}")
    wrong = wrong_with_message(ended.err)
    if wrong is not None:
        return Verdict("failure", f"{wrong} ({ended.error})", said)
    return Verdict("error", ended.error or "?", said, ended.err.partition("error: ")[0])


def wrong_with_message(err: str) -> str | None:
    """None where it is 'error: ' with a line or two, which a terminal shows as they are."""
    lines = [line for line in err.splitlines() if line.strip()]
    if not any(line.startswith("error: ") for line in lines):
        return "exit 1 without a message"
    if len(lines) > MOST_LINES or len(err) > MOST_CHARACTERS:
        return "long message"
    return "control characters in the message" if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", err) else None


def where(trace: str) -> str:
    """The exception and the last frame in onnxcam: one bug has one of these."""
    frames = re.findall(r'File "[^"]*/(onnxcam/[^"]+)", line (\d+), in (\w+)', trace)
    raised = re.findall(r"^([A-Za-z_][\w.]*)(?:: .*)?$", trace, re.MULTILINE)
    kinds = [kind for kind in raised if kind not in ("error", "Traceback")]
    kind = kinds[-1] if kinds else "?"
    return f"{kind} at {frames[-1][0]}:{frames[-1][1]} ({frames[-1][2]})" if frames else kind


# --- what a user does -------------------------------------------------------------------------------------------------


def command(*words: str) -> Callable[[], None]:
    def act() -> None:
        from onnxcam.cli.main import run

        sys.argv = ["onnxcam", *words]
        run()

    return act


EXPLAIN = ("explain", MODEL, "picture.png", "--quiet", "--format", "png,npy,json", "-o", "out/")
COMMANDS = {
    "explain": EXPLAIN,
    "inspect": ("inspect", MODEL, "--json"),
    "rewrite": ("rewrite", MODEL, "-o", "rewritten.onnx"),
}


def wrong_with_explanation(folder: Path) -> str | None:
    """None where the map is finite, from 0 to 1 and not constant, and the record and the overlay can be read."""
    made = {p.suffix: p for p in (folder / "out").iterdir()} if (folder / "out").is_dir() else {}
    if set(made) != {".png", ".npy", ".json"}:
        return f"files {sorted(made)}"
    found = np.load(made[".npy"], allow_pickle=False)
    if not np.isfinite(found).all() or found.min() < 0 or found.max() > 1 or found.min() == found.max():
        return "the map is not finite, not within 0 to 1, or constant"
    strict_json(made[".json"].read_text())
    with Image.open(made[".png"]) as drawn:
        drawn.load()
    return None


def strict_json(text: str) -> Any:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def wrong_with(name: str, folder: Path, ended: Ended) -> str | None:
    try:
        if name == "explain":
            return wrong_with_explanation(folder)
        if name == "inspect":
            strict_json(ended.out)
        elif not (folder / "rewritten.onnx").is_file():
            return "no file was written"
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def compare(folder: Path) -> None:
    """In a process of its own: the record against a plain run of the file; prints 'same', 'differs ...' or why not.

    The preprocessing is the library's own, as is the choice of the output; the numbers are the runtime's.
    """
    import onnxruntime

    from onnxcam import Explainer

    record = json.loads(next((folder / "out").glob("*.json")).read_text())
    with Explainer(folder / MODEL, providers=["cpu"]) as explainer:
        anatomy, image = explainer.anatomy, explainer.prepare(folder / "picture.png").image
    plain = "NC" + "".join(letter for letter in anatomy.image.layout if letter not in "NC")
    fed = np.repeat(
        image[None].transpose([plain.index(a) for a in anatomy.image.layout]),
        anatomy.image.batch or 1,
        plain.index("N"),
    )
    fed = np.floor(np.clip(fed, 0, 255) + 0.5) if anatomy.image.dtype == "uint8" else fed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    feeds = {anatomy.image.name: fed.astype(anatomy.image.dtype)}
    answers = []
    for file in (MODEL, MODEL, "rewritten.onnx"):
        if (folder / file).is_file():
            session = onnxruntime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
            found = np.asarray(session.run([anatomy.logits.output], feeds)[0], np.float64)
            answers.append((found if found.ndim == 1 else found[:1]).ravel())  # some exports squeeze the batch away
    if record["target"]["kind"] == "region":
        answers = [of_region(a, anatomy.logits, record["target"]["index"]) for a in answers]
    print(agreement(record, *answers))


def of_region(numbers: Any, logits: Any, index: int) -> Any:
    """(classes,) the means over the places where class `index` is predicted."""
    table = np.moveaxis(numbers.reshape(logits.shape[1:]), logits.channel_axis - 1, -1).reshape(-1, logits.classes)
    return table[table.argmax(axis=1) == index].mean(axis=0)


def agreement(record: Any, numbers: Any, again: Any, rewritten: Any = None) -> str:
    """numbers: (classes,) of the output that the record is about; again: of a second run."""
    if not np.array_equal(numbers, again, equal_nan=True):
        return "not comparable: two plain runs differ"
    if rewritten is not None and not close(numbers, rewritten):
        return "differs: the rewritten model returns other numbers"
    index, activation = record["target"]["index"], record["provenance"]["activation"]
    key = "logit" if activation == "none" else "probability"
    wanted = np.exp(numbers) if activation == "log_softmax" else numbers
    if index >= len(wanted):
        return f"differs: class {index} of {len(wanted)}"
    expected = np.array(wanted)
    expected[index] = record["target"][key]
    return "same" if close(wanted, expected) else f"differs: {key} {record['target'][key]}, plainly {wanted[index]}"


def close(a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE * float(np.abs(a).max(initial=0)) + 1e-6, equal_nan=True))


def compared(folder: Path, limits: Limits) -> str:
    ended = sandboxed(lambda: compare(folder), folder, limits)
    if ended.code == 0:
        return ended.out.strip()
    last = ended.err.strip().splitlines()[-1:] or [f"ended with {ended.code or ended.signal}"]
    return f"not comparable: {last[0][:200]}"


@dataclass(frozen=True)
class Result:
    index: int
    model: str
    changes: tuple[str, ...]
    verdicts: dict[str, Verdict]
    comparison: str
    seconds: float
    peak: int

    @property
    def failures(self) -> dict[str, Verdict]:
        return {name: v for name, v in self.verdicts.items() if v.outcome == "failure"}


def run_case(case: Case, limits: Limits, keep: Path | None = None) -> Result:
    """What a user does with the file, in this order, in one folder."""
    verdicts: dict[str, Verdict] = {}
    seconds, peak, comparison = 0.0, 0, ""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for file, data in {**case.files, "picture.png": picture()}.items():
            (folder / file).write_bytes(data)
        for what, words in COMMANDS.items():
            ended = sandboxed(command(*words), folder, limits)
            verdicts[what] = judge(ended, lambda what=what, ended=ended: wrong_with(what, folder, ended))
            seconds, peak = max(seconds, ended.seconds), max(peak, ended.peak)
        if verdicts["explain"].outcome == "answer":
            comparison = compared(folder, limits)
            if comparison.startswith("differs"):
                verdicts["explain"] = Verdict("failure", "wrong answer: differs from a plain run", comparison)
    if not case.changes and case.model in TEXTS and verdicts["explain"].outcome != "answer":
        verdicts["explain"] = Verdict("failure", "the unchanged model is not explained", verdicts["explain"].detail)
    result = Result(case.index, case.model, case.changes, verdicts, comparison, seconds, peak)
    if keep is not None and result.failures:
        put_away(case, result, keep)
    return result


def picture() -> bytes:
    """48x40 pixels of a soft pattern with an edge."""
    y, x = np.mgrid[:40, :48]
    pixels = np.stack([5 * x, 6 * y, 120 + 60 * np.sin(x / 5) + 60 * (y > 20)], axis=-1).clip(0, 255).astype(np.uint8)
    with tempfile.SpooledTemporaryFile() as file:
        Image.fromarray(pixels).save(file, "PNG")
        file.seek(0)
        return file.read()


def put_away(case: Case, result: Result, keep: Path) -> None:
    folder = keep / f"{case.index:05d}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in case.files.items():
        (folder / file).write_bytes(data)
    (folder / "picture.png").write_bytes(picture())
    (folder / "case.json").write_text(json.dumps(asdict(result), indent=2) + "\n")


# --- many cases -------------------------------------------------------------------------------------------------------


def warm_up() -> None:
    """Once a worker: import what every case needs, but open no session, whose threads a fork would lose."""
    import onnxcam

    for module in pkgutil.walk_packages(onnxcam.__path__, "onnxcam."):
        importlib.import_module(module.name)
    importlib.import_module("onnxruntime")


def run_all(
    seeds: dict[str, Files], seed: int, indices: Sequence[int], limits: Limits, keep: Path | None = None
) -> Iterator[Result]:
    """As they come. The workers are fresh interpreters: they fork, so they must be free of threads and sessions."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context, initializer=start_worker, initargs=(seeds,)) as pool:
        waiting = [pool.submit(run_seeded, seed, index, limits, keep) for index in indices]
        for done in as_completed(waiting):
            yield done.result()


SEEDS: dict[str, Files] = {}
"""Of a worker, sent once."""


def start_worker(seeds: dict[str, Files]) -> None:
    SEEDS.update(seeds)
    warm_up()


def run_seeded(seed: int, index: int, limits: Limits, keep: Path | None) -> Result:
    return run_case(make_case(SEEDS, seed, index), limits, keep)


def summary(results: Sequence[Result], console: Console) -> None:
    table = Table("command", "answers", "errors by class", "failures")
    for name in COMMANDS:
        verdicts = [r.verdicts[name] for r in results]
        errors = Counter(v.kind for v in verdicts if v.outcome == "error").most_common()
        count = Counter(v.outcome for v in verdicts)
        table.add_row(name, str(count["answer"]), ", ".join(f"{k} {n}" for k, n in errors), str(count["failure"]))
    console.print(table)
    reasons = Counter(re.split(r"[:;]", r.comparison)[0] for r in results if r.comparison).most_common()
    console.print(f"answers against a plain run: {', '.join(f'{k} {n}' for k, n in reasons) or 'none'}")
    slowest, largest = max(r.seconds for r in results), max(r.peak for r in results)
    console.print(f"slowest command {slowest:.1f} s, largest {largest / 2**20:.0f} MB", highlight=False)
    failures = [(f"{v.kind}", name, r) for r in results for name, v in r.failures.items()]
    noises = [(shortened(v.noise), name, r) for r in results for name, v in r.verdicts.items() if v.noise]
    for title, found in (("failure", failures), ("noise on standard error (no failure)", noises)):
        if found:
            console.print(grouped(title, found))


def shortened(noise: str) -> str:
    return re.sub(r"\d+", "#", noise.strip().splitlines()[0])[:100] if noise.strip() else "an empty line"


def grouped(title: str, found: Sequence[tuple[str, str, Result]]) -> Table:
    """The most frequent first, each with its simplest case."""
    table = Table(title, "command", "times", "first case", "what was done")
    for (kind, name), times in Counter((kind, name) for kind, name, _ in found).most_common():
        first = min((r for k, n, r in found if (k, n) == (kind, name)), key=lambda r: len(r.changes))
        done = f"{first.model}: {'; '.join(first.changes) or 'nothing'}"
        table.add_row(escape(kind), name, str(times), str(first.index), escape(done[:300]))
    return table


def size(text: str) -> int:
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
    found = re.fullmatch(r"([\d.]+)([KMG]?)", text.upper())
    if found is None:
        raise argparse.ArgumentTypeError(f"not a size: {text!r}; e.g. 3G")
    return int(float(found[1]) * units[found[2]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="index of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, nargs="+", default=[], help="further models: files, or folders of them")
    parser.add_argument("--seconds", type=float, default=20, help="for one command")
    parser.add_argument("--memory", type=size, default=size("3G"), help="address space of one command")
    parser.add_argument("--json", type=Path, help="keep the results")
    parser.add_argument("--keep", type=Path, help="folder for the files of each failure")
    given = parser.parse_args()
    limits, seeds = Limits(given.seconds, given.memory), {**built_in(), **read_seeds(given.models)}
    indices = range(given.first, given.first + given.count)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: list[Result] = []
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{len(seeds)} models", total=len(indices))
        for result in run_all(seeds, given.seed, indices, limits, given.keep):
            results.append(result)
            failed = sum(bool(r.failures) for r in results)
            bar.update(task, advance=1, description=f"{len(seeds)} models, {failed} failures")
    results.sort(key=lambda r: r.index)
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    summary(results, Console(width=160))
    raise SystemExit(int(any(r.failures for r in results)))


if __name__ == "__main__":
    main()
