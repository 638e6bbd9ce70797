"""Joins the outputs of a detector that gives each scale apart into one table of boxes.

YOLOv5's raw export has an output (N, anchors, H, W, columns) for each scale, YOLOv4's (N, H, W, anchors, columns). Rows
of the table are in the order of the outputs; what the columns hold is read as in any other table (analysis/columns.py).
"""

import onnx_ir

from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.ir import NUMERIC, Model, Value, edit, shape_of, tidy
from onnxcam.types import Note, NoteCode

RAW_TABLE = "onnxcam/boxes_of_all_scales"
FEWEST = 5
"""Columns at least: four sides and a class."""
FLOATS = frozenset(NUMERIC) - {onnx_ir.DataType.UINT8}


def join_raw_scales(model: Model, image: ImageInput) -> tuple[Model, Note] | None:
    """A model with the table RAW_TABLE as its only output, and a note on it; None for a model of another kind.

    The model's outputs all have five axes, and the same number of columns along the last one.
    """
    outputs = [v for v in model.graph.outputs if v.const_value is None]
    shapes = [shape_of(v) or () for v in outputs]
    columns = {shape[-1] for shape in shapes if len(shape) == 5}
    if len(image.sides) != 2 or len(columns) != 1 or any(len(shape) != 5 for shape in shapes):
        return None
    (width,) = columns
    if width is None or width < FEWEST or any(v.dtype not in FLOATS for v in outputs):
        return None
    names = [str(v.name) for v in outputs]
    copy = edit(model)
    by_name: dict[str, Value] = {str(v.name): v for v in copy.graph.outputs}
    b = Builder(copy, "onnxcam/raw_table")
    rows = [b.reshape(by_name[name], [0, -1, width]) for name in names]
    table = b("Concat", *rows, axis=1, name=RAW_TABLE)
    copy.graph.outputs.clear()
    dtype = outputs[0].dtype
    assert dtype is not None
    publish(copy, table, dtype, ["N" if image.batch is None else image.batch, "boxes", width])
    text = (
        f"the outputs {', '.join(names)} are joined into one table, in which a box has {width} numbers, before it is "
        f"explained"
    )
    return tidy(copy), Note(NoteCode.READ_AS_BOXES, text)
