"""The shapes of the model's own outputs in its file, in a graph that was rewritten for any batch.

An export for one image may drop the batch axis (Squeeze, Reshape to fixed sides, a reduction to one number). The
rewritten graph puts an axis in front of such an output; here it gets the shape of the file again, and the graph takes
one image a run.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir

from onnxcam.network.opening import OpenedModel
from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value, shape_with_names
from onnxcam.surgeon.vmap.driver import BATCH
from onnxcam.types import BatchMode


def with_file_shapes(model: Model, opened: OpenedModel) -> Model:
    """Gives the model's own outputs the shapes that they have in the file, where those are of another rank or order.

    model: with the outputs of `opened.model`. It takes one image a run then. Changes the model and returns it.
    """
    shapes = _changed_shapes(opened)
    if not shapes:
        return model
    b = Builder(model, "onnxcam/compiled_shapes")
    for i, value in enumerate(list(model.graph.outputs)):
        if (shape := shapes.get(str(value.name))) is not None:
            model.graph.outputs[i] = _reshaped(b, value, shape)
    _take_one_image(model, opened)
    return ir.in_order(model)


def _changed_shapes(opened: OpenedModel) -> dict[str, tuple[int, ...]]:
    """The shape in the file of each output that has another one in the opened graph, for one image."""
    image = opened.anatomy.image
    if opened.batching.mode is not BatchMode.REWRITTEN or image.added or (image.batch or 1) != 1:
        return {}
    shapes = {}
    for value in opened.model.graph.outputs:
        of_file, here = opened.shapes.get(str(value.name)), shape_with_names(value)
        if of_file is None or here is None:
            continue
        sides = tuple(int(side or 0) for side in of_file)
        one = _of_one(here)
        if one != list(sides) and math.prod(sides) == math.prod(side for side in one if isinstance(side, int)) > 0:
            shapes[str(value.name)] = sides
    return shapes


def _reshaped(b: Builder, output: Value, shape: tuple[int, ...]) -> Value:
    """The output in this shape, under its name."""
    name = str(output.name)
    output.name = f"{name}/any_batch"
    kept = b("Reshape", output, b.constant(list(shape), np.int64))
    kept.name, kept.type, kept.shape = name, output.type, onnx_ir.Shape(shape)
    output.shape = None
    return kept


def _take_one_image(model: Model, opened: OpenedModel) -> None:
    """Declares a batch of one for the model's own inputs and outputs."""
    own = {str(value.name) for value in (*opened.model.graph.inputs, *opened.model.graph.outputs)}
    for value in (*model.graph.inputs, *model.graph.outputs):
        if str(value.name) in own and (sides := shape_with_names(value)) is not None:
            value.shape = onnx_ir.Shape(_of_one(sides))


def _of_one(sides: Sequence[int | str]) -> list[int | str]:
    return [1 if side == BATCH else side for side in sides]
