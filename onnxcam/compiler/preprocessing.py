"""Moves the preprocessing into the file: it takes a picture of any size, and shows the map on it too.

take_pictures() puts a preset in front of a compiled model, which may be any graph with a map among its outputs. The
graph computes the pixels that inputs/preprocess.py computes (resizing.py), so one file gives the same map on every
host. Decoding a file, turning it upright by its EXIF orientation and laying transparent pixels over white stay with the
host.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir

from onnxcam.compiler.element_types import DOUBLE, FLOAT, INT64, OLDEST
from onnxcam.compiler.interface import BOX, MAP, PICTURE, PICTURE_MAP
from onnxcam.compiler.picture_sides import SharingBuilder, Side, inner, integer, ordinals, places, real, sides
from onnxcam.compiler.resizing import resized
from onnxcam.errors import CompileError
from onnxcam.inputs.loader import in_range
from onnxcam.inputs.preprocess import padding, pixel_table
from onnxcam.inputs.presets import LETTERBOXES, Preset
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.graphs.masked_score import as_input_type, tensor_named
from onnxcam.surgeon.ir import Model, Value, edit, in_order, new_input, opset, shape_with_names, tidy
from onnxcam.surgeon.passes.opset import raise_opset

LEVELS = 256
"""Values of a pixel. The one after them stands for the padding of a letterbox."""


def take_pictures(model: Model, image: ImageInput, size: Sequence[int], preset: Preset) -> Model:
    """A copy that takes a picture in place of the preprocessed image, as its preset prepares it.

    model: it has the output MAP, (N or T,H,W). image: its input that takes the image, float or integer, in any layout.
    size: (H,W) of the network's input.

    Input in place of the image's:
        PICTURE      (height,width,3) uint8, RGB, upright
    Further outputs, float32:
        BOX          (4,): left, top, right, bottom of the part that the network sees, in pixels of the picture; it
                     reaches beyond the picture where a letterbox pads it
        PICTURE_MAP  (N or T,height,width): the map on the picture, bilinear; 0 where the network does not see it

    Brings the opset to 18 where it is below 13. Raises CompileError for a network that takes no pictures, PresetError
    for a preset that does not fit it.
    """
    if len(size) != 2 or image.channels not in (1, 3) or image.frames is not None:
        raise CompileError(
            f"the model takes {image.channels} channels of {'x'.join(map(str, size))}, which no picture has; compile "
            f"it without --raw"
        )
    copy = edit(model) if opset(model) >= OLDEST else raise_opset(model)
    b = SharingBuilder(copy, "onnxcam/raw")
    picture = new_input(copy, PICTURE, onnx_ir.DataType.UINT8, ["height", "width", 3])
    rows, columns = sides(b, picture, preset, (size[0], size[1]))
    grey = image.channels == 1 or preset.color == "gray"
    pixels = resized(b, picture, rows, columns, preset.interpolation, grey=grey)
    numbers = _numbers(b, _with_bars(b, pixels, rows, columns, preset), preset, image)
    _replace_input(copy, b, image, numbers)
    publish(copy, b("Cast", _box(b, rows, columns), to=int(FLOAT), name=BOX), FLOAT, [4])
    _publish_on_picture(copy, b, rows, columns)
    return in_order(tidy(copy))


def _with_bars(b: Builder, pixels: Value, rows: Side, columns: Side, preset: Preset) -> Value:
    """The pixels as places in a table, int64: those of a letterbox's bars are LEVELS."""
    indices = b.cast(pixels, INT64)
    if preset.resize not in LETTERBOXES:
        return indices
    inside = [b("Equal", places(b, side), inner(b, side)) for side in (rows, columns)]
    both = b("And", b.unsqueeze(inside[0], [1]), inside[1])
    return b("Where", both, indices, integer(b, LEVELS))


def _numbers(b: Builder, indices: Value, preset: Preset, image: ImageInput) -> Value:
    """The network's numbers, float32 in its layout with a batch of one, for pixels (3,H,W), or (1,H,W) of grey.

    Raises PresetError for numbers that an input of bytes does not hold.
    """
    table = np.concatenate([pixel_table(preset, image.channels), padding(preset, image.channels)[:, None]], axis=1)
    if preset.resize not in LETTERBOXES:
        table = table[:, :LEVELS]
    in_range(table, image)
    if preset.color == "bgr" and image.channels == 3:
        indices = b("Gather", indices, b.constant([2, 1, 0], np.int64), axis=0)
    first = np.arange(image.channels).reshape(-1, 1, 1) * table.shape[1]
    numbers = b("Gather", b.constant(table.reshape(-1), np.float32), b("Add", indices, b.constant(first, np.int64)))
    batch = b.unsqueeze(numbers, [0])
    order = ["NCHW".index(letter) for letter in image.layout]
    return batch if order == sorted(order) else b("Transpose", batch, perm=order)


def _replace_input(model: Model, b: Builder, image: ImageInput, numbers: Value) -> None:
    """Makes the network, its subgraphs included, read the numbers in place of its input, which leaves the graph.

    A network of a fixed batch gets as many copies.
    """
    old, inputs = tensor_named(model, image.name), model.graph.inputs
    batch = old.shape[image.layout.index("N")] if old.shape is not None else None
    if isinstance(batch, int) and batch > 1:
        repeats = [batch if letter == "N" else 1 for letter in image.layout]
        numbers = b("Tile", numbers, b.constant(repeats, np.int64))
    onnx_ir.convenience.replace_all_uses_with(old, as_input_type(b, numbers, old))
    picture = inputs.pop()
    inputs[inputs.index(old)] = picture
    for value in model.graph.outputs:
        if value.shape is not None and isinstance(batch, onnx_ir.SymbolicDim) and batch.value is not None:
            value.shape = onnx_ir.Shape([1 if side == batch else side for side in value.shape])


def _box(b: Builder, rows: Side, columns: Side) -> Value:
    """(4,) float64."""
    (top, bottom), (left, right) = _edges(b, rows), _edges(b, columns)
    return b("Concat", *(b.unsqueeze(edge, [0]) for edge in (left, top, right, bottom)), axis=0)


def _edges(b: Builder, side: Side) -> tuple[Value, Value]:
    """Where the network's input begins and ends on the picture, in pixels of the picture, float64 scalars."""
    pixel = b("Div", b.cast(side.source, DOUBLE), b.cast(side.resized, DOUBLE))
    begin = b.cast(b("Sub", integer(b, 0), side.corner), DOUBLE)
    return b("Mul", begin, pixel), b("Mul", b("Add", begin, real(b, side.size)), pixel)


def _publish_on_picture(model: Model, b: Builder, rows: Side, columns: Side) -> None:
    saliency = tensor_named(model, MAP)
    wide = _interpolated(b, saliency, columns, axis=2)
    drawn = _interpolated(b, wide, rows, axis=1)
    within = b("Clip", drawn, b.constant(0, np.float32), b.constant(1, np.float32), name=PICTURE_MAP)
    publish(model, within, FLOAT, [(shape_with_names(saliency) or ["maps"])[0], "height", "width"])


def _interpolated(b: Builder, maps: Value, side: Side, axis: int) -> Value:
    """Maps with one axis on the picture, linear between their pixels as outputs/overlay.py draws them.

    The outermost are repeated at the edges of the box; outside of the box all is 0.
    """
    start, stop = _edges(b, side)
    centres = b("Add", b.cast(ordinals(b, side.source), DOUBLE), real(b, 0.5))
    cells = b("Div", real(b, side.size), b("Sub", stop, start))
    at = b("Sub", b("Mul", b("Sub", centres, start), cells), real(b, 0.5))
    at = b("Min", b("Max", at, real(b, 0)), real(b, side.size - 1))
    low = b("Floor", at)
    first = b.cast(low, INT64)
    second = b("Min", b("Add", first, integer(b, 1)), integer(b, side.size - 1))
    inside = b.cast(b("And", b("Greater", centres, start), b("Less", centres, stop)), FLOAT)
    share = b("Mul", b.cast(b("Sub", at, low), FLOAT), inside)
    parts = []
    for index, weight in ((first, b("Sub", inside, share)), (second, share)):
        along = weight if axis == 2 else b.unsqueeze(weight, [1])
        parts.append(b("Mul", b("Gather", maps, index, axis=axis), along))
    return b("Add", *parts)
