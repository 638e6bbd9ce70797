"""The shapes of a graph's tensors, as far as onnx infers them for given shapes of the inputs.

onnx's shape inference reads a ModelProto. infer_shapes() gives it one without weights that is made of the graph, and
reads the shapes from the one that comes back: neither is converted, and the graph is not copied.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import onnx
import onnx_ir
from onnx_ir import serde

from onnxcam.errors import ModelError
from onnxcam.limits import SAFE, Limits
from onnxcam.logs import module_logger
from onnxcam.surgeon.ir import (
    MALFORMED,
    Model,
    Node,
    Shape,
    Value,
    cause,
    constant,
    edit,
    fold_constants,
    is_standard,
    shape_of,
    values,
)

logger = module_logger(__name__)

MOST_FOLDED = 2**20
"""Numbers of a tensor that is computed while shapes are inferred."""
MOST_PROPAGATED = 2**18
"""Numbers of a vector that onnx may propagate."""
MOST_BYTES = 1000
"""Bytes of a weight whose numbers may be sizes; of a larger one onnx is told the shape only."""
ENLARGING = frozenset({"Expand", "Tile", "Range", "Pad", "OneHot", "Resize", "Upsample"})
"""Operators whose output may be of any size, whatever the sizes of their inputs."""


def infer_shapes(model: Model, inputs: Mapping[str, Sequence[int | None]], limits: Limits = SAFE) -> dict[str, Shape]:
    """Shapes of the tensors for these shapes of the inputs, as far as onnx can infer them.

    Raises ModelError, and TimedOut by the limits.

    Joins two results. Plain inference covers every tensor. Inference with constant folding also resolves the shape
    arithmetic of dynamic exports, but loses the tensors that it folds away; it is left out where the first finds all.
    """
    lengths = _inferred(model, inputs, propagate=False)
    limits.check()
    if all(None not in lengths.get(str(value.name), (None,)) for value in values(model)):
        return lengths
    resolved = _resolved(model, inputs, limits)
    limits.check()
    # onnx notes each number of a vector that it propagates, in 150 bytes each, also those that it does not know.
    known_lengths = (resolved or lengths).values()
    propagate = all(len(shape) != 1 or (shape[0] or 0) <= MOST_PROPAGATED for shape in known_lengths)
    shapes = _inferred(model, inputs, propagate=propagate)
    for name, shape in resolved.items():
        known = shapes.get(name)
        if known is None or (None in known and len(known) == len(shape)):
            shapes[name] = shape
    return shapes


def _inferred(model: Model, inputs: Mapping[str, Sequence[int | None]], *, propagate: bool) -> dict[str, Shape]:
    """Shapes by onnx's inference. propagate: whether numbers of shapes are followed through arithmetic."""
    try:
        proto = _without_weights(model, inputs)
    except (serde.SerdeError, *MALFORMED) as error:
        raise ModelError(f"the shapes contradict each other ({cause(error)})") from None
    try:
        # Strict mode stops at the first contradiction; a partial result is enough here.
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=propagate)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        logger.info("shapes: onnx could not infer any (%s)", cause(error))
        inferred = proto
    described = (*proto.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    shapes = {value.name: shape for value in described if (shape := _declared_shape(value.type)) is not None}
    return {name: shapes[name] for value in values(model) if (name := str(value.name)) in shapes}


def _declared_shape(kind: onnx.TypeProto) -> Shape | None:
    """The shape of a tensor, or of the elements of a sequence; None where none is declared."""
    field = kind.WhichOneof("value")
    while field in ("sequence_type", "optional_type"):
        kind = getattr(kind, field).elem_type
        field = kind.WhichOneof("value")
    if field is None or not getattr(kind, field).HasField("shape"):
        return None
    # Paddle writes -1 for a dynamic axis. A side without a number is 0 here.
    return tuple(side.dim_value if side.dim_value > 0 else None for side in getattr(kind, field).shape.dim)


def _without_weights(model: Model, inputs: Mapping[str, Sequence[int | None]]) -> onnx.ModelProto:
    """The graph with these input shapes, without large weights and the recorded shapes that onnx can infer again."""
    proto = onnx.ModelProto(ir_version=model.ir_version, graph=onnx.GraphProto(name=model.graph.name))
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    graph = proto.graph
    for value in model.graph.inputs:
        declared = graph.input.add()
        _describe(declared, value, keeps_shape=True)
        if str(value.name) in inputs:
            serde.serialize_shape_into(declared.type, onnx_ir.Shape(inputs[str(value.name)]))
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            _add_weight(graph, str(value.name), value.const_value)
    for node in model.graph:
        serde.serialize_node_into(graph.node.add(), node)
        for value in node.outputs:
            if value.name and value.type is not None and not value.is_graph_output():
                _describe(graph.value_info.add(), value, keeps_shape=not is_standard(node))
    for value in model.graph.outputs:
        maker = value.producer()
        _describe(graph.output.add(), value, keeps_shape=maker is None or not is_standard(maker))
    return proto


def _add_weight(graph: onnx.GraphProto, name: str, tensor: onnx_ir.TensorProtocol) -> None:
    """Adds a weight, or an input in the place of one whose numbers are no sizes."""
    is_large = tensor.dtype == onnx_ir.DataType.STRING or tensor.nbytes > MOST_BYTES
    if is_large:
        declared = graph.input.add(name=name).type.tensor_type
        declared.elem_type = tensor.dtype.value
        declared.shape.SetInParent()
        for side in tensor.shape.numpy():
            declared.shape.dim.add(dim_value=side)
    else:
        stored = graph.initializer.add()
        serde.serialize_tensor_into(stored, tensor)
        stored.name = name


def _describe(described: onnx.ValueInfoProto, value: Value, *, keeps_shape: bool) -> None:
    """Writes what the graph records of a tensor: its type, and its shape where onnx does not infer that again."""
    described.name = str(value.name)
    if value.type is not None:
        serde.serialize_type_into(described.type, value.type)
        if keeps_shape and value.shape is not None:
            serde.serialize_shape_into(described.type, value.shape)


def _resolved(model: Model, inputs: Mapping[str, Sequence[int | None]], limits: Limits) -> dict[str, Shape]:
    """The shapes of infer_shapes() with constant folding; none where the constants cannot be folded."""
    folded = _with_inputs(model, inputs)
    try:
        fold_constants(folded, partial(_fold_small, limits))
        return {str(v.name): shape for v in values(folded) if (shape := shape_of(v)) is not None}
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        logger.info("shapes: constants could not be folded (%s)", error)
        return {}


def _with_inputs(model: Model, inputs: Mapping[str, Sequence[int | None]]) -> Model:
    """A copy with these input shapes, without the recorded shapes that onnx can infer again."""
    copy = edit(model)
    for value in copy.graph.inputs:
        if value.name in inputs:
            value.shape = onnx_ir.Shape(inputs[str(value.name)])
    for node in copy.graph:
        if is_standard(node):
            for value in node.outputs:
                value.shape = None
    return copy


def _fold_small(limits: Limits, node: Node) -> bool | None:
    """Folds nothing that becomes large: the folder looks at the size of the inputs only. Asked for nodes of constants.

    ConstantOfShape too, which the folder skips for its size: pads that are computed at run time need it.
    """
    limits.check()
    if node.op_type == "ConstantOfShape":
        sides = constant(node.inputs[0])
        return sides is not None and math.prod(int(side) for side in sides.reshape(-1)) <= MOST_FOLDED
    shapes = [shape_of(value) for value in node.outputs]
    if all(shape is not None and None not in shape for shape in shapes):
        return None if sum(math.prod(d or 0 for d in shape or ()) for shape in shapes) <= MOST_FOLDED else False
    return False if node.op_type in ENLARGING else None
