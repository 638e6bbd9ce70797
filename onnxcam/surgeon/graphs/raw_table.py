"""Joins the outputs of a detector that gives each scale apart into one table of boxes.

YOLOv5's raw export has an output (N, anchors, H, W, columns) for each scale, YOLOv4's (N, H, W, anchors, columns). Rows
of the table are in the order of the outputs; what the columns hold is read as in any other table (analysis/columns.py).
"""

from collections.abc import Sequence

import onnx_ir

from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.columns import class_names
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.ir import NUMERIC, Model, Shape, Value, edit, shape_of, tidy
from onnxcam.types import Note, NoteCode

RAW_TABLE = "onnxcam/boxes_of_all_scales"
FEWEST = 5
"""Columns at least: four sides and a class; and those before the classes, with an objectness."""
FLOATS = frozenset(NUMERIC) - {onnx_ir.DataType.UINT8}


def join_raw_scales(model: Model, image: ImageInput) -> tuple[Model, Note] | None:
    """A model with the table RAW_TABLE as its only output, and a note on it; None for a model of another kind.

    The model's outputs all have five axes, and the same number of columns along the last one; or they are maps
    (N, anchors * columns, H, W) and the metadata names the classes.
    """
    outputs = [v for v in model.graph.outputs if v.const_value is None]
    if len(image.sides) != 2 or not outputs or any(v.dtype not in FLOATS for v in outputs):
        return None
    shapes = [shape_of(v) or () for v in outputs]
    width = _columns(shapes, class_names(model))
    dtype = outputs[0].dtype
    if width is None or dtype is None:
        return None
    names = [str(v.name) for v in outputs]
    copy = edit(model)
    by_name: dict[str, Value] = {str(v.name): v for v in copy.graph.outputs}
    b = Builder(copy, "onnxcam/raw_table")
    rows = []
    for name, shape in zip(names, shapes, strict=True):
        value = by_name[name]
        if len(shape) == 4:
            anchors = int(shape[1] or 0) // width
            value = b("Transpose", b.reshape(value, [0, anchors, width, -1]), perm=[0, 1, 3, 2])
        rows.append(b.reshape(value, [0, -1, width]))
    table = b("Concat", *rows, axis=1, name=RAW_TABLE)
    copy.graph.outputs.clear()
    publish(copy, table, dtype, ["N" if image.batch is None else image.batch, "boxes", width])
    text = (
        f"the outputs {', '.join(names)} are joined into one table, in which a box has {width} numbers, before it is "
        f"explained"
    )
    return tidy(copy), Note(NoteCode.READ_AS_BOXES, text)


def _columns(shapes: Sequence[Shape], names: int | None) -> int | None:
    """The numbers of a box in outputs of these shapes; None where they are no scales of a detector."""
    if all(len(shape) == 5 for shape in shapes):
        (width, *others) = {shape[-1] for shape in shapes}
        return width if not others and width is not None and width >= FEWEST else None
    channels = {shape[1] if len(shape) == 4 else None for shape in shapes}
    (count, *others) = channels
    if others or count is None or names is None or len(shapes) < 2 or count % (names + FEWEST):
        return None
    return names + FEWEST
