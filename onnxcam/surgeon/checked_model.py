"""Parses an ONNX model and checks it, before anything else is done with it.

loading.py calls it. The checks beyond onnx's own are in validation.py.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from onnxcam.errors import ModelError, NoSpatialFeatures
from onnxcam.limits import Limits
from onnxcam.surgeon.budgets import check_declared
from onnxcam.surgeon.external_data import with_external_data
from onnxcam.surgeon.ir import cause
from onnxcam.surgeon.opset_imports import one_version_each
from onnxcam.surgeon.sparse_weights import with_dense_weights
from onnxcam.surgeon.validation import (
    all_nodes,
    all_tensors,
    check_calls,
    check_loops,
    check_tensors,
    check_text,
)

OLDEST_OPSET = 7
"""The oldest opset that onnxruntime promises to run, and the first with numpy-style broadcasting."""

PICTURE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
"""First bytes of picture files."""

MOST_INPUTS, MOST_METADATA = 1000, 10_000
"""Inputs of a graph, and entries of metadata; models have dozens, and each takes its time in every step."""

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
KNOWN_DOMAINS = STANDARD_DOMAINS | frozenset({"ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the default operator set; 0 where the model imports none."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)


def parse(data: bytes, name: str) -> onnx.ModelProto:
    if not data:
        raise ModelError(f"{name}: the file is empty, not an ONNX model")
    if data[4:8] == b"ORTM":
        raise ModelError(
            f"{name}: an onnxruntime .ort file, whose graph cannot be rewritten; explain the .onnx file that it was "
            f"made from (python -m onnxruntime.tools.convert_onnx_models_to_ort leaves that in place)"
        )
    if data.startswith(PICTURE_SIGNATURES):
        raise ModelError(f"{name}: a picture, not an ONNX model; the model comes first, then the pictures")
    if data.startswith(b"version https://git-lfs"):
        raise ModelError(f"{name}: a Git LFS pointer, not the model; fetch it with `git lfs pull`")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelError(f"{name}: not an ONNX model, or a truncated one") from None
    if not proto.HasField("graph") or not proto.graph.node or not proto.graph.output:
        raise ModelError(f"{name}: not an ONNX model (it holds no graph), or a truncated one")
    return proto


def checked(
    proto: onnx.ModelProto, name: str, path: Path | None, limits: Limits
) -> tuple[onnx.ModelProto, Sequence[bytes]]:
    """(the model with all its weights, the bytes of its external weights). Raises as read_model() does."""
    limits = limits.begin(f"reading {name}")
    check_declared(proto, name, limits)
    check_text(proto, name)
    proto = one_version_each(proto, name)
    _check_inputs(proto, name)
    _check_operators(proto, name)
    outside: Sequence[bytes] = ()
    proto = _without_training(proto)
    tensors = list(all_tensors(proto))
    external = [i for i, t in enumerate(tensors) if uses_external_data(t)]
    if external:
        proto = with_external_data(proto, name, path, limits.memory)
        tensors = list(all_tensors(proto))
        outside = [tensors[i].raw_data for i in external]
    dense = with_dense_weights(proto, name)
    check_tensors(tensors if dense is proto else all_tensors(dense), name)
    proto = dense
    limits.check()
    check_calls(proto, name, limits)
    check_loops(proto, name)
    limits.check()
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name}: not a valid ONNX model ({cause(error)})") from None
    limits.check()
    return proto, outside


def _without_training(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without graphs of its training, which nothing here runs."""
    if not proto.training_info:
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.training_info[:]
    return copy


def _check_operators(proto: onnx.ModelProto, name: str) -> None:
    opset, newest = opset_of(proto), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(
            f"{name}: opset {opset} is newer than the installed onnx knows (up to {newest}); "
            f"upgrade onnx and onnxruntime, or export with an older opset"
        )
    functions = {(f.domain, f.name) for f in proto.functions}
    for domain, operator in sorted(functions):
        if domain in STANDARD_DOMAINS and onnx.defs.has(operator):
            raise ModelError(
                f"{name}: a local function takes the place of the standard operator {operator}, which runtimes read "
                f"differently; give it a domain of its own"
            )
    for node in all_nodes(proto.graph.node):
        if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in functions:
            raise ModelError(
                f"{name}: operator {node.op_type} of the unknown domain {node.domain!r} "
                f"(node {node.name!r}); export with standard ONNX operators"
            )
        if not node.op_type:
            raise ModelError(f"{name}: a node without an operator ({node.name!r}); the file is damaged")
    if opset == 0 and not proto.functions:
        raise ModelError(f"{name}: the model imports no version of the standard operators; export it again")
    if opset < OLDEST_OPSET and opset != 0:
        raise ModelError(
            f"{name}: opset {opset} is older than onnxruntime runs (from {OLDEST_OPSET}); export again, or "
            f"convert it with onnx.version_converter.convert_version(model, 17)"
        )


def _check_inputs(proto: onnx.ModelProto, name: str) -> None:
    """Refuses models of tables and text, whose map and sequence outputs no later step expects, and crowds of inputs."""
    weights = {t.name for t in proto.graph.initializer} | {s.values.name for s in proto.graph.sparse_initializer}
    inputs = [v for v in proto.graph.input if v.name not in weights]
    for count, most, what in (
        (len(inputs), MOST_INPUTS, "inputs"),
        (len(proto.metadata_props), MOST_METADATA, "entries of metadata"),
    ):
        if count > most:
            raise ModelError(f"{name}: {count:,} {what}, and no more than {most:,} are read; the file is damaged")
    types = {v.name: v.type.tensor_type for v in inputs}
    ranks = {name: len(t.shape.dim) if t.HasField("shape") else None for name, t in types.items()}
    if all(rank is not None and rank < 3 for rank in ranks.values()):
        shown = ", ".join(f"{n} with {r} axes" for n, r in ranks.items()) or "none"
        raise NoSpatialFeatures(
            f"{name}: the model takes no picture (its inputs: {shown}), so there is nothing to map; if a picture is "
            f"flattened before, export that with the model, as (N,C,H,W)"
        )
