"""Outputs that are maps of labels to scores, as ZipMap makes them of a classifier's probabilities.

The graph's own type (onnx_ir) has no maps, and nothing in one can be scored. without_maps() puts the tensor that enters
the map in its place.
"""

from collections.abc import Mapping, Sequence

import onnx

from onnxcam.errors import ModelError
from onnxcam.surgeon.loading import MapOutput as MapOutput

DOMAIN = "ai.onnx.ml"


def map_outputs(proto: onnx.ModelProto) -> Mapping[str, MapOutput]:
    """The outputs that ZipMap makes, by name."""
    makers = {name: node for node in proto.graph.node if _is_zip(node) for name in node.output}
    zips = {v.name: makers[v.name] for v in proto.graph.output if v.name in makers}
    return {name: MapOutput(node.input[0], _labels(node)) for name, node in zips.items()}


def _is_zip(node: onnx.NodeProto) -> bool:
    return node.op_type == "ZipMap" and node.domain == DOMAIN and len(node.input) == 1 and len(node.output) == 1


def _labels(node: onnx.NodeProto) -> tuple[str, ...]:
    attributes = {a.name: a for a in node.attribute}
    if "classlabels_strings" in attributes:
        return tuple(text.decode(errors="replace") for text in attributes["classlabels_strings"].strings)
    return label_texts(attributes["classlabels_int64s"].ints if "classlabels_int64s" in attributes else ())


def label_texts(numbers: Sequence[int]) -> tuple[str, ...]:
    """Integers that label classes as text: 'label 7'. () where they only repeat the index."""
    return () if list(numbers) == list(range(len(numbers))) else tuple(f"label {n}" for n in numbers)


def without_maps(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with tensors in place of its map outputs, under the same names; the model itself if it has none.

    Maps of other operators are left out. Raises ModelError where no output remains.
    """
    if not any(map(_is_map, (*proto.graph.output, *proto.graph.value_info))):
        return proto
    zipped = map_outputs(proto)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    graph = copy.graph
    kept = [v for v in graph.output if v.name in zipped or not _is_map(v)]
    if not kept:
        names = ", ".join(v.name for v in proto.graph.output)
        raise ModelError(
            f"the outputs ({names}) are maps of labels, which hold no tensor; export the scores beside them"
        )
    for value in kept:
        if value.name in zipped:
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, None))
    outputs, infos = [*kept], [v for v in graph.value_info if not _is_map(v)]
    gone = {v.name for v in (*proto.graph.output, *proto.graph.value_info) if _is_map(v)}
    nodes = [n for n in graph.node if not gone & set(n.output)]
    nodes += [onnx.helper.make_node("Identity", [zipped[n].source], [n]) for n in zipped]
    for field, items in ((graph.output, outputs), (graph.value_info, infos), (graph.node, nodes)):
        stored = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(stored)
    return copy


def _is_map(value: onnx.ValueInfoProto) -> bool:
    kind = value.type
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    return bool(kind.WhichOneof("value") == "map_type")
