"""Shapes of a model's outputs: which of them can be scored, and which are vectors of classes."""

import math

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.frontier import Geometry
from onnxcam.surgeon.ir import NUMERIC, Model, Shape, Value, shape_of

LARGEST_OUTPUT = 2**26
"""Numbers of an output for one image; a larger output cannot be scored."""


def is_vector(value: Value, geometry: Geometry) -> bool:
    """Whether the shape is (N, classes), with any axes of size 1, (N) of one class, or (classes) without batch axis."""
    shape = dims(value, geometry)
    if is_scalar(value, geometry):
        return is_scorable(value, geometry)
    wide = [d for d in (shape if len(shape) == 1 else shape[1:]) if d != 1]
    # A first axis of another size than the batch lists something else, such as points or proposals.
    if (
        geometry.batch is not None
        and shape[:1] not in ((None,), (geometry.batch,))
        and not (len(shape) == 1 and geometry.batch == 1)
    ):
        return False
    return is_scorable(value, geometry) and (len(wide) <= 1 or is_one_number(value, geometry))


def is_one_number(value: Value, geometry: Geometry) -> bool:
    """Whether the shape is (N), or () of one image: one number for each image, without an axis of classes."""
    shape = dims(value, geometry)
    return is_scalar(value, geometry) or (len(shape) == 1 and (shape[0] in (None, 1) or shape[0] == geometry.batch))


def is_scalar(value: Value, geometry: Geometry) -> bool:
    """Whether a run for one image showed a number without axes."""
    return geometry.shape(value) == () and geometry.batch == 1


def is_scorable(value: Value, geometry: Geometry) -> bool:
    """Whether the tensor holds numbers of a known shape. An inner tensor need not record its element type."""
    shape = dims(value, geometry)
    known = value.dtype in NUMERIC or (value.dtype is None and not value.is_graph_output())
    return known and None not in shape[1:] and 0 not in shape and (bool(shape) or is_scalar(value, geometry))


def dims(value: Value, geometry: Geometry) -> Shape:
    """The tensor's shape, as a run showed it or as the file records it; () where it is unknown."""
    return geometry.shape(value) or shape_of(value) or ()


def size(value: Value, geometry: Geometry) -> int:
    """Numbers for one image."""
    shape = dims(value, geometry)
    if is_one_number(value, geometry):
        return 1
    return math.prod(int(d or 0) for d in (shape[1:] if len(shape) > 1 else shape))


def image_shape(value: Value, geometry: Geometry) -> tuple[int, ...]:
    """The shape with its batch axis, 0 for an unknown size; (1,) for one number, whatever the batch."""
    return (1,) if is_one_number(value, geometry) else tuple(int(d or 0) for d in dims(value, geometry))


def checked_shape(value: Value, geometry: Geometry) -> tuple[int, ...]:
    """As image_shape(). Raises ModelError where nothing in the tensor can be scored."""
    if not is_scorable(value, geometry):
        raise ModelError(f"the output {value.name!r} holds no numbers of a known shape, so nothing in it can be scored")
    shape = image_shape(value, geometry)
    check_size(value, shape)
    return shape


def check_size(value: Value, shape: tuple[int, ...]) -> None:
    """Raises ModelError for a tensor that is too large to be scored."""
    if math.prod(shape) > LARGEST_OUTPUT:
        raise ModelError(f"the output {value.name!r} of shape {list(shape)} is too large to be scored")


def shown(outputs: list[Value], geometry: Geometry) -> str:
    """The outputs with their shapes, for a message."""
    return ", ".join(f"{v.name} {list(dims(v, geometry))}" for v in outputs)


def may_classify(model: Model) -> bool:
    """Whether an output may be a class vector, whose pictures are usually cropped.

    Pictures of detectors, segmenters and readers of text are not: what lies at the side counts as well.
    """
    if any(node.op_type in ("NonMaxSuppression", "RoiAlign") for node in model.graph):
        return False
    shapes = [shape_of(value) for value in model.graph.outputs]
    if any(shape is not None and len(shape) == 3 and shape[-1] == 4 for shape in shapes):
        return False
    return any(shape is None or sum(d != 1 for d in shape[1:]) <= 1 for shape in shapes)
