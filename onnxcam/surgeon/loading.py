"""Reads an ONNX model from a path, bytes or a ModelProto, checks it, and gives a ModelFile.

The first step of every command. A file that is damaged, is no ONNX model, or that onnxruntime cannot run raises a
ModelError with the reason. The checks beyond onnx's own are in validation.py.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from onnxcam.errors import ModelError, NoSpatialFeatures
from onnxcam.surgeon.ir import Model, cause, from_proto
from onnxcam.surgeon.validation import all_nodes, check_calls, check_loops, check_tensors, check_text
from onnxcam.surgeon.zip_map import MapOutput, map_outputs, without_maps

OLDEST_OPSET = 7
"""The oldest opset that onnxruntime promises to run, and the first with numpy-style broadcasting."""

PICTURE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
"""First bytes of picture files."""

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model that was read and checked.

    proto holds all weights, also those of external files. sha256 is of the file's bytes; fingerprint is of the file
    and its external weights. path is None for a model that came as bytes or as a ModelProto.
    """

    proto: onnx.ModelProto
    name: str
    sha256: str
    path: Path | None
    fingerprint: str

    @cached_property
    def model(self) -> Model:
        """The graph for analysis and passes, converted on the first use. Readers share it: edit() a copy to change it.

        Raises ModelError for a graph that cannot be read.
        """
        return from_proto(without_maps(self.proto))

    @cached_property
    def maps(self) -> Mapping[str, MapOutput]:
        """The outputs that are maps of labels to scores, by name; the graph has tensors in their place."""
        return map_outputs(self.proto)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's metadata_props, where exporters put presets and labels."""
        return {p.key: p.value for p in self.proto.metadata_props}

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return opset_of(self.proto)


ModelSource = str | os.PathLike[str] | bytes | onnx.ModelProto | ModelFile


def read_model(source: ModelSource) -> ModelFile:
    """Parses and checks a model; a ModelFile, which was read before, comes back as it is.

    External data is read from the model's own folder only. Raises ModelError for anything that is not a complete,
    valid ONNX model of an opset and of operator domains that onnxruntime has.
    """
    if isinstance(source, ModelFile):
        return source
    if isinstance(source, onnx.ModelProto):
        data = source.SerializeToString(deterministic=True)
        return _checked(source, "<ModelProto>", data, None)
    if isinstance(source, bytes):
        return _checked(_parse(source, "<bytes>"), "<bytes>", source, None)
    if not isinstance(source, str | os.PathLike):
        raise ModelError(f"a model is a path, bytes or a ModelProto, not {type(source).__name__}")
    path = Path(source)
    data = _read_bytes(path)
    return _checked(_parse(data, str(path)), str(path), data, path)


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the default operator set; 0 where the model imports none."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: cannot be read: it is a folder; give the .onnx file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # a null character, or half of a surrogate pair
        raise ModelError(f"{str(path)!r}: no such model file ({cause(error)})") from None


def _parse(data: bytes, name: str) -> onnx.ModelProto:
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


def _checked(proto: onnx.ModelProto, name: str, data: bytes, path: Path | None) -> ModelFile:
    check_text(proto, name)
    _check_inputs(proto, name)
    _check_operators(proto, name)
    digest, outside = hashlib.sha256(data), []  # outside: bytes of the external weights
    external = [t.name for t in _tensors(proto) if uses_external_data(t)]
    if external:
        proto = _with_external_data(proto, name, path)
        outside = [t.raw_data for t in _tensors(proto) if t.name in set(external)]
    check_tensors(_tensors(proto), name)
    check_calls(proto, name)
    check_loops(proto, name)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name}: not a valid ONNX model ({cause(error)})") from None
    return ModelFile(proto, name, digest.copy().hexdigest(), path, _fingerprint(digest, outside))


def _check_operators(proto: onnx.ModelProto, name: str) -> None:
    opset, newest = opset_of(proto), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(
            f"{name}: opset {opset} is newer than the installed onnx knows (up to {newest}); "
            f"upgrade onnx and onnxruntime, or export with an older opset"
        )
    functions = {(f.domain, f.name) for f in proto.functions}
    for node in all_nodes(proto.graph.node):
        if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in functions:
            raise ModelError(
                f"{name}: operator {node.op_type} of the unknown domain {node.domain!r} "
                f"(node {node.name!r}); export with standard ONNX operators"
            )
        if not node.op_type:
            raise ModelError(f"{name}: a node without an operator ({node.name!r}); the file is damaged")
    if 0 < opset < OLDEST_OPSET or (opset == 0 and not proto.functions):
        raise ModelError(
            f"{name}: opset {opset} is older than onnxruntime runs (from {OLDEST_OPSET}); export again, or "
            f"convert it with onnx.version_converter.convert_version(model, 17)"
        )


def _check_inputs(proto: onnx.ModelProto, name: str) -> None:
    """Refuses models of tables and text, whose map and sequence outputs no later step expects."""
    weights = {t.name for t in proto.graph.initializer}
    inputs = [v for v in proto.graph.input if v.name not in weights]
    types = {v.name: v.type.tensor_type for v in inputs}
    ranks = {name: len(t.shape.dim) if t.HasField("shape") else None for name, t in types.items()}
    if all(rank is not None and rank < 3 for rank in ranks.values()):
        shown = ", ".join(f"{n} with {r} axes" for n, r in ranks.items()) or "none"
        raise NoSpatialFeatures(
            f"{name}: the model takes no picture (its inputs: {shown}), so there is nothing to map; if a picture is "
            f"flattened before, export that with the model, as (N,C,H,W)"
        )


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the file holds: weights and attributes, of subgraphs and functions too."""
    graphs = [proto.graph]
    nodes = [n for f in proto.functions for n in f.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            graphs.extend([attribute.g] if attribute.HasField("g") else [])
            graphs.extend(attribute.graphs)


def _fingerprint(digest: "hashlib._Hash", outside: Sequence[bytes]) -> str:
    for raw in outside:
        digest.update(raw)
    return digest.hexdigest()


def _check_location(folder: Path, location: str, tensor: str, name: str) -> None:
    """Raises ModelError unless the weights' file is there and inside the folder, links followed."""
    shown = location if len(location) <= 100 else location[:100] + "..."
    try:
        file = folder / location
        inside, exists = file.resolve().is_relative_to(folder), file.is_file()
    except (OSError, ValueError):  # a name that no file can have
        inside, exists = True, False
    if not location or not inside:
        raise ModelError(f"{name}: the weights of {tensor!r} point outside the model's folder ({shown!r}); refused")
    if not exists:
        raise ModelError(f"{name}: its weights file {shown!r} is missing; put it beside the model")


def _with_external_data(proto: onnx.ModelProto, name: str, path: Path | None) -> onnx.ModelProto:
    """A copy whose tensors hold their bytes. Reads regular files inside the model's folder only."""
    if path is None:
        raise ModelError(f"{name}: the weights are in external files; give the model's path instead")
    loaded = onnx.ModelProto()
    loaded.CopyFrom(proto)
    folder = path.resolve().parent
    for tensor in _tensors(loaded):
        if not uses_external_data(tensor):
            continue
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        _check_location(folder, location, tensor.name, name)
        try:
            load_external_data_for_tensor(tensor, str(folder))
        except (onnx.checker.ValidationError, ValueError, OSError) as error:
            raise ModelError(f"{name}: the weights file {location!r} cannot be read ({cause(error)})") from None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return loaded
