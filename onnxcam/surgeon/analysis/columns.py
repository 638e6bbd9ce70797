"""Reads what the columns of a detector's table hold: the sides of boxes, an objectness, classes, and further numbers.

Further numbers are the coefficients of mask prototypes, keypoints or an angle. Columns of one kind come from the same
layers and pass the same activation, which dependence.py shows; names of classes in the metadata say their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.anatomy import Logits
from onnxcam.surgeon.analysis.dependence import MOVES, Bits, dependence, joined
from onnxcam.surgeon.analysis.detections import cells, prediction_layers
from onnxcam.surgeon.analysis.factors import CHANNEL
from onnxcam.surgeon.analysis.frontier import WEIGHTED, Geometry
from onnxcam.surgeon.ir import Model, Node, Value, ancestors, constant, find_value, integer, integers
from onnxcam.surgeon.metadata import literal
from onnxcam.types import Note, NoteCode

SIDES = 4
"""Columns of a box: centre x, centre y, width, height."""
_EXCLUSIVE = {"Sigmoid": False, "HardSigmoid": False, "Softmax": True}
"""Activations of scores, and whether the classes compete in it."""
ACTIVATIONS = frozenset(_EXCLUSIVE)
TRANSPARENT = MOVES | {"QuantizeLinear", "DequantizeLinear", "ScatterND"}


@dataclass(frozen=True)
class Columns:
    """What a table of boxes holds.

    boxes_first: whether the boxes are listed along its first axis. first, classes: the first class's column and the
    number of classes. objectness, sides: the column of the objectness and the first of the four sides, None where there
    is none. exclusive: whether the classes of a box compete in a softmax, None where they pass no activation.
    """

    boxes_first: bool
    first: int
    classes: int
    objectness: int | None = None
    sides: int | None = 0
    exclusive: bool | None = False


@dataclass(frozen=True)
class _Run:
    """Neighbouring columns of one kind. activation: the operator that they come from, if it is one. layers: bits."""

    start: int
    stop: int
    activation: str | None
    layers: int

    @property
    def width(self) -> int:
        return self.stop - self.start


def as_boxes(model: Model, table: Logits, geometry: Geometry) -> Logits:
    """Adds what the columns of a table of boxes hold; the sides may be in another output.

    What the graph does not show follows from the shape: the longer axis lists the boxes, and (N, boxes, columns) has an
    objectness. Raises ModelError where there is no room for classes.
    """
    output = find_value(model, table.output)
    rows, columns = table.shape[1:]
    sides = sides_output(model, table.output, (rows, columns), geometry)
    names, prototypes = class_names(model), _prototypes(model, geometry)
    if sides is not None:
        boxes_first = geometry.shape(sides)[1:] == (rows, SIDES)  # type: ignore[index]
        read = Columns(boxes_first, 0, columns if boxes_first else rows, sides=None, exclusive=_is_exclusive(output))
        reason = f"{table.reason}; its boxes are in {str(sides.name)!r}"
    else:
        traced = read_columns(output, geometry, names, prototypes) if output is not None else None
        read = traced if traced is not None else _by_shape(rows, columns, names)
        further = min(rows, columns) if traced is None else (columns if read.boxes_first else rows)
        further -= read.classes + SIDES + (read.objectness is not None)
        parts = [
            "4 sides" if read.sides is not None else "4 numbers before decoding",
            *(["an objectness"] if read.objectness is not None else []),
            f"{read.classes} classes",
        ]
        parts += [f"{further} further numbers"] if further > 0 else []
        reason = f"{table.reason}; {', '.join(parts[:-1])} and {parts[-1]} for each box"
    if read.classes < 1:
        raise ModelError(f"the output {table.output!r} of shape {list(table.shape)} has no room for boxes and classes")
    return replace(
        table, reason=reason, classes=read.classes, first_class=read.first, boxes_first=read.boxes_first,
        objectness=read.objectness, sides=read.sides, exclusive=read.exclusive,
        background=_dropped(output, read) if read.classes > 1 and sides is not None else None,
        sides_output=str(sides.name) if sides is not None else None,
    )  # fmt: skip


def raw_scales_note(model: Model, geometry: Geometry) -> tuple[Note, ...]:
    """A note where the outputs are maps with the same channels on grids of several sizes, as a raw detector gives."""
    maps = [v for v in model.graph.outputs if geometry.is_map(v)]
    if len({cells(v, geometry) for v in maps}) < 2 or len({_channels(v, geometry) for v in maps}) > 1:
        return ()
    text = (
        f"the outputs {', '.join(repr(v.name) for v in maps)} have the same channels on several grids: if they are a "
        f"detector's scales before decoding, the channels are no classes; export it with its decoding, or explain a "
        f"number with --output NAME --index C,Y,X"
    )
    return (Note(NoteCode.OTHER_SCALES, text),)


def is_beside_prototypes(model: Model, table: Value, maps: Sequence[Value], geometry: Geometry) -> bool:
    """Whether the last columns of a table are coefficients of these maps, which then are prototypes and no classes.

    Also where another output holds the sides of its boxes.
    """
    shape = geometry.shape(table) or ()
    if len(shape) != 3 or None in shape:
        return False
    if sides_output(model, str(table.name), (shape[1], shape[2]), geometry) is not None:
        return True
    read = read_columns(table, geometry, class_names(model), 0)
    if read is None:
        return False
    behind = int((shape[2] if read.boxes_first else shape[1]) or 0) - read.first - read.classes
    return behind in {_channels(v, geometry) for v in maps}


def prototype_note(model: Model, tensor: Value | None, geometry: Geometry) -> tuple[Note, ...]:
    """A note where a map of classes has as many channels as a table beside it has mask coefficients for a box."""
    if tensor is None or not geometry.is_map(tensor):
        return ()
    channels = _channels(tensor, geometry)
    for table in model.graph.outputs:
        shape = geometry.shape(table) or ()
        if len(shape) != 3 or None in shape:
            continue
        sides = sides_output(model, str(table.name), (shape[1], shape[2]), geometry)
        # Beside sides and scores, coefficients are a table of their own.
        apart = sides is not None and channels in shape[1:]
        if apart or (sides is None and is_beside_prototypes(model, table, [tensor], geometry)):
            text = (
                f"the {channels} channels are probably prototypes of masks and no classes, since {table.name!r} holds "
                f"{channels} coefficients for each box; explain a box (--output {table.name} --box top1)"
            )
            return (Note(NoteCode.PROTOTYPES, text),)
    return ()


def read_columns(table: Value, geometry: Geometry, names: int | None, prototypes: int) -> Columns | None:
    """What the columns of a table of boxes hold; None where the graph does not show it.

    names: the number of classes that the metadata names, if any. prototypes: the number of mask prototypes, or 0.
    """
    layers = prediction_layers([table], geometry)
    ends = leaves(table)
    by_layer = dependence([table], [n.outputs[0] for n in layers], geometry.shapes, geometry.fixed)
    by_leaf = dependence([table], ends, geometry.shapes, geometry.fixed)
    if by_layer is None or by_leaf is None:
        return None
    shape = by_layer[0].shape[1:]
    boxes_first = _lists_boxes_first(by_layer[0][0], layers, geometry)
    rows, leaf_rows = (bits[0][0] if boxes_first else bits[0][0].T for bits in (by_layer, by_leaf))
    runs = _runs(leaf_rows[0], rows[0], ends)
    width = shape[1] if boxes_first else shape[0]
    if width <= SIDES:
        return None
    anchors = len(rows) / max(sum({id(n.inputs[0]): _cells_of(n, geometry) for n in layers}.values()), 1)
    columns = _read(runs, width, names, prototypes)
    if columns is None:
        return None
    if columns.objectness is None and columns.sides == 0 and names is None and columns.classes > 1:
        score, side = leaf_rows[0, columns.first], leaf_rows[0, :SIDES]
        same_sigmoid = _reads(_of(ends, int(joined(side, (0,)))), _of(ends, int(score)))
        coupled = int(joined(rows[0, :SIDES], (0,))) == int(rows[0, columns.first])
        if same_sigmoid or (coupled and anchors > 1):
            columns = replace(columns, objectness=columns.first, first=columns.first + 1, classes=columns.classes - 1)
    if columns.exclusive is None and all(_is_bare(v) for v in _of(ends, int(joined(leaf_rows[0, :SIDES], (0,))))):
        columns = replace(columns, sides=None)  # what a layer predicts, before it is decoded
    return replace(columns, boxes_first=boxes_first)


def leaves(table: Value) -> list[Value]:
    """The tensors whose numbers the table shows as they are, at other places: what is moved and joined into it."""
    results: dict[int, Value] = {}
    seen: set[int] = set()
    ahead = [table]
    while ahead:
        value = ahead.pop()
        node = value.producer()
        if id(value) in seen or node is None:
            continue
        seen.add(id(value))
        if node.op_type in TRANSPARENT:
            every = node.op_type == "Concat"
            moved = node.inputs if every else node.inputs[:: 2 if node.op_type == "ScatterND" else len(node.inputs)]
            ahead.extend(v for v in moved if v is not None and constant(v) is None)
        else:
            results[id(value)] = value
    return list(results.values())


def sides_output(model: Model, table: str, shape: tuple[int | None, int | None], geometry: Geometry) -> Value | None:
    """The output that holds four sides for each row, or each column, of a table of this shape."""
    for value in model.graph.outputs:
        sides = (geometry.shape(value) or ())[1:]
        computed = value.const_value is None and value.producer() is not None
        if value.name != table and computed and sides in ((shape[0], SIDES), (SIDES, shape[1])):
            return value
    return None


def _is_exclusive(table: Value | None) -> bool | None:
    """Whether a softmax gives all scores of a table; None where they pass no activation."""
    producers = [v.producer() for v in leaves(table)] if table is not None else []
    operators = {node.op_type for node in producers if node is not None}
    return _EXCLUSIVE.get(operators.pop()) if len(operators) == 1 else None


def _dropped(table: Value | None, columns: Columns) -> int | None:
    """The first or the last class, where the graph goes on with all classes of the table but this one."""
    ahead = [table, *leaves(table)] if table is not None else []
    for value in ahead:
        for node in value.consumers():
            if node.op_type == "Softmax" and node.outputs[0] not in ahead:
                ahead.append(node.outputs[0])
            bounds = _kept(node, columns.classes)
            if bounds in ((1, columns.classes), (0, columns.classes - 1)):
                return 0 if bounds == (1, columns.classes) else columns.classes - 1
    return None


def _kept(node: Node, classes: int) -> tuple[int, int] | None:
    """(start, stop) of the entries that a Slice or a Gather keeps along the last axis."""
    if node.op_type == "Slice":
        starts, ends, axes = (integers(node, n, i) for i, n in enumerate(("starts", "ends", "axes"), 1))
        if starts is None or ends is None or len(starts) != 1 or axes is None or axes[0] not in (-1, 2):
            return None
        return starts[0] % classes, min(ends[0] + classes if ends[0] < 0 else ends[0], classes)
    if node.op_type == "Gather" and integer(node, "axis", 0) in (-1, 2):
        indices = constant(node.inputs[1])
        if indices is not None and indices.ndim == 1 and len(indices) and (np.diff(indices) == 1).all():
            return int(indices[0]), int(indices[-1]) + 1
    return None


def _by_shape(rows: int, columns: int, names: int | None) -> Columns:
    """The columns by the usual layouts: (N, 4 + classes, boxes) and (N, boxes, 5 + classes)."""
    boxes_first = rows > columns
    further = min(rows, columns) - SIDES
    has_objectness = boxes_first if names not in (further, further - 1) else names == further - 1
    first = SIDES + has_objectness
    return Columns(boxes_first, first, further - has_objectness, SIDES if has_objectness else None)


def _prototypes(model: Model, geometry: Geometry) -> int:
    """The channels of the output that holds prototypes of masks, (N, channels, H, W); 0 without."""
    maps = [v for v in model.graph.outputs if geometry.is_map(v)]
    return _channels(maps[0], geometry) if len(maps) == 1 else 0


def _channels(value: Value, geometry: Geometry) -> int:
    shape = geometry.shape(value) or ()
    return int(shape[geometry.axes_of(value).index(CHANNEL)] or 0)


def class_names(model: Model) -> int | None:
    """The number of classes that Ultralytics' metadata names, None without."""
    names = literal(model.metadata_props.get("names", ""))
    return len(names) if isinstance(names, dict | list) and names else None


def _read(runs: Sequence[_Run], width: int, names: int | None, prototypes: int) -> Columns | None:
    """The columns by their runs, without the question whether the first class is an objectness."""
    if runs[0].activation == "Softmax" and width - runs[0].width >= SIDES:
        return Columns(True, 0, runs[0].width, sides=runs[0].width, exclusive=True)
    later = [replace(run, start=max(run.start, SIDES)) for run in runs if run.stop > SIDES]
    active = [run for run in later if run.activation is not None]
    run = active[0] if active else later[0]
    following = later[later.index(run) + 1 :]
    objectness = None
    if run.start == SIDES and run.width == 1 and following and following[0].activation is not None:
        objectness, run = run.start, following[0]  # from a layer of its own, as in YOLOX
    elif run.start == SIDES and run.width == 1 and run.layers == 0 and following:
        objectness, run = run.start, following[0]  # a constant, as in YOLOv6
    elif run.start == SIDES + 1 and later[0].width == 1 and later[0].layers == 0:
        objectness = SIDES
    first, classes = run.start, run.width
    if run.stop == width and 0 < prototypes < classes and names is None:
        classes -= prototypes
    if names is not None and objectness is None and classes - prototypes * (run.stop == width) == names + 1:
        objectness, first = first, first + 1
    if names is not None and names < run.stop - first + 1:
        classes = names
    return Columns(True, first, classes, objectness, exclusive=_EXCLUSIVE.get(str(run.activation)))


def _runs(leaf: Bits, layer: Bits, ends: Sequence[Value]) -> list[_Run]:
    """The runs of columns of one row of the table, by the bits of its leaves and of the layers that predict it."""

    def kind(column: int) -> tuple[str | None, int, int]:
        producers = {v.producer() for v in _of(ends, int(leaf[column]))}
        operators = {node.op_type for node in producers if node is not None}
        (activation,) = operators if len(operators) == 1 and operators <= ACTIVATIONS else (None,)
        return activation, int(layer[column]), 0 if activation is not None else int(leaf[column])

    runs, start = [], 0
    for (activation, layers, _), columns in groupby(range(len(leaf)), key=kind):
        stop = start + len(list(columns))
        runs.append(_Run(start, stop, activation, layers))
        start = stop
    return runs


def _is_bare(value: Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type in WEIGHTED


def _of(values: Sequence[Value], bits: int) -> list[Value]:
    return [v for k, v in enumerate(values) if bits >> k & 1]


def _reads(values: Sequence[Value], sources: Sequence[Value]) -> bool:
    """Whether any of the values is computed from one of the sources."""
    ids = {id(v) for v in sources}
    return any(id(a) in ids for v in values for a in ancestors(v))


def _lists_boxes_first(bits: Bits, layers: Sequence[Node], geometry: Geometry) -> bool:
    """Whether the rows of a table (rows, columns) are boxes: the axis along which the maps' sizes change.

    Where the size never changes it is the axis whose length the cells of the map divide, else the longer one.
    """
    rows, columns = bits.shape
    sizes = [_cells_of(node, geometry) for node in layers]
    kinds = sorted(set(sizes))
    grids = np.zeros(bits.shape, np.int64)
    for k, size in enumerate(sizes):
        grids |= np.where(bits >> np.asarray(k, bits.dtype) & np.asarray(1, bits.dtype), 1 << kinds.index(size), 0)
    changes = [bool((grids != grids[:1]).any()), bool((grids != grids[:, :1]).any())]
    if changes[0] != changes[1]:
        return changes[0]
    divided = [len(kinds) == 1 and kinds[0] > 1 and side % kinds[0] == 0 for side in (rows, columns)]
    return divided[0] if divided[0] != divided[1] else rows > columns


def _cells_of(node: Node, geometry: Geometry) -> int:
    first = node.inputs[0]
    return cells(first, geometry) if first is not None else 0
