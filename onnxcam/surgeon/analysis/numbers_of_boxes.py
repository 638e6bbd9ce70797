"""Finds to which box of a detector a number of an output belongs, so that it is explained by the map of that box.

The output is a table of boxes, or one of several that hold its columns, such as the sides beside the scores.
"""

from dataclasses import replace

from onnxcam.surgeon.analysis.anatomy import Kind, Logits, Scale
from onnxcam.surgeon.analysis.columns import class_names, read_columns, sides_output
from onnxcam.surgeon.analysis.frontier import Geometry
from onnxcam.surgeon.ir import Model, Value, find_value


def table_of_numbers(model: Model, logits: Logits, geometry: Geometry) -> Logits | None:
    """The table of boxes of which the numbers of an output are columns; None where they are none of a box.

    logits: of kind ELEMENTS. What is returned is what detections.table_scales() reads.
    """
    if len(logits.shape) != 3:
        return None
    for output in model.graph.outputs:
        shape = geometry.shape(output) or ()
        if len(shape) != 3 or None in shape:
            continue
        sides = sides_output(model, str(output.name), (shape[1], shape[2]), geometry)
        if sides is not None and logits.output in (output.name, sides.name):
            return _beside_sides(logits, output, sides, geometry)
    table = find_value(model, logits.output)
    read = read_columns(table, geometry, class_names(model), 0) if table is not None else None
    # Columns without decoded sides and without activation may be a map of classes, or tokens, seen as a table.
    if read is None or read.classes < 1 or (read.sides is None and read.exclusive is None):
        return None
    return replace(logits, kind=Kind.BOXES, classes=read.classes, first_class=read.first, boxes_first=read.boxes_first)


def _beside_sides(logits: Logits, scores: Value, sides: Value, geometry: Geometry) -> Logits:
    shape, of_sides = (tuple(int(d or 0) for d in geometry.shape(v) or ()) for v in (scores, sides))
    boxes_first = of_sides[1] == shape[1]
    return replace(
        logits, tensor=str(scores.name), output=str(scores.name), kind=Kind.BOXES, shape=shape, first_class=0,
        classes=shape[2 if boxes_first else 1], boxes_first=boxes_first, sides_output=str(sides.name),
    )  # fmt: skip


def by_place(scale: Scale, logits: Logits, table: Logits) -> Scale:
    """The scale with the places of its boxes' numbers in a flattened output in place of those of its boxes."""
    rows, columns = logits.shape[1:]
    boxes_first = table.boxes_first if rows == columns or table.boxes not in (rows, columns) else rows == table.boxes
    if boxes_first:
        return replace(scale, rows=tuple((start * columns, stop * columns) for start, stop in scale.rows))
    return replace(
        scale, rows=tuple((c * columns + start, c * columns + stop) for c in range(rows) for start, stop in scale.rows)
    )
