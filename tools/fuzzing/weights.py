"""Mutations of weights and constants: their shape, type, data and external location."""

import math

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

from fuzzing.mutations import DTYPES, FLOATS, INTEGERS, NAMES, Rng, all_nodes, one, structured
from fuzzing.seeds import MODEL

LARGEST = 2**22
"""Numbers of a weight that is made anew."""


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
    """Replaces a weight by one of another shape. The file is valid, but its operators no longer fit each other."""
    tensor = one(rng, [t for t in model.graph.initializer if t.data_type == 1 and not t.external_data])
    if tensor is None:
        return None
    dims = [rng.choice((d, d, 0, 1, 2, 5)) for d in tensor.dims] or [1]
    if min(dims) < 0 or math.prod(dims) > LARGEST:  # sizes that an earlier change invented
        return None
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
    tensor = one(
        rng, [t for t in model.graph.initializer if t.data_type == 1 and t.raw_data and len(t.raw_data) % 4 == 0]
    )
    if tensor is None:
        return None
    values = np.frombuffer(tensor.raw_data, np.float32).copy()
    some = slice(None) if rng.random() < 0.5 else rng.randrange(len(values))
    values[some] = value = rng.choice((*FLOATS, 3e38))
    tensor.raw_data = values.tobytes()
    return f"{'all' if isinstance(some, slice) else 'one'} of the weight {tensor.name!r} becomes {value}"


@structured
def change_constant(rng: Rng, model: ModelProto) -> str | None:
    """Changes an integer that the graph computes with: the target of a Reshape, axes, a trip count."""
    inner = [a.t for n in all_nodes(model) for a in n.attribute if a.HasField("t")]
    tensor = one(rng, [t for t in (*model.graph.initializer, *inner) if t.data_type == TensorProto.INT64])
    lists = [a for n in all_nodes(model) for a in n.attribute if a.name == "value_ints" and a.ints]
    if lists and (tensor is None or rng.random() < 0.5):
        ints = rng.choice(lists).ints
        ints[rng.randrange(len(ints))] = rng.choice(INTEGERS)
        return f"a constant becomes {list(ints)}"
    if tensor is None or not tensor.raw_data or len(tensor.raw_data) % 8:
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
