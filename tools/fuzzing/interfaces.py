"""Mutations of what a model declares: inputs, outputs, recorded shapes, versions and metadata."""

from typing import Any

import onnx
from onnx import ModelProto, helper

from fuzzing.mutations import DTYPES, INTEGERS, NAMES, Rng, one, structured


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
    """Changes the rank, a side, the element type, the kind of type or the name of a graph's input or output."""
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
