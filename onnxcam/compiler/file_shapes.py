"""The shapes of the model's own outputs in its file, in a graph that was rewritten for any batch.

An export for one image may drop the batch axis (Squeeze, Reshape to fixed sides, a reduction to one number). The
rewritten graph puts an axis in front of such an output; here it gets the shape of the file again, and the graph takes
one image a run. So does an export that declares any batch and has an output without one entry for each image.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir

from onnxcam.compiler.feeds import feeds_of
from onnxcam.engine.session import Session
from onnxcam.errors import CompileError, InferenceError, OutOfMemory, TimedOut
from onnxcam.network.batch_support import BatchSupport
from onnxcam.network.dry_run import noise, run_trace
from onnxcam.network.opened import Graphs, OpenedModel
from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value, shape_with_names
from onnxcam.surgeon.vmap.driver import BATCH, CannotBatch, free_batch
from onnxcam.types import BatchMode


def with_outputs_of_each(opened: OpenedModel) -> OpenedModel:
    """The opened model with a graph whose own outputs take any batch, where one of the file's does not.

    Such an export declares a batch that only its scores keep to. Raises CompileError where it cannot be rewritten.
    """
    if opened.batching.mode is not BatchMode.DYNAMIC or _follow_images(opened):
        return opened
    image, limits = opened.anatomy.image, opened.options.limits
    names = [image.name, *(name for name, batched in opened.network.extra.items() if batched)]
    try:
        trace = run_trace(opened.model, image, opened.size, opened.inputs, limits)
        graph = free_batch(opened.model, trace.shapes, trace.values, names, limits)
    except CannotBatch as error:
        raise CompileError(
            f"the model declares any batch, but an output of it does not have one entry for each image, and the graph "
            f"cannot be rewritten ({error}); export it with a batch of 1, or without that output"
        ) from None
    batching = BatchSupport(BatchMode.REWRITTEN, "an output has no entry for each image")
    graphs = Graphs(lambda: (graph, opened.exported))
    return replace(opened, graphs=graphs, batching=batching, shapes=trace.shapes, stored_as="")


def _follow_images(opened: OpenedModel) -> bool:
    """Whether each output has one entry for each image along one axis, or the same shape always, by two runs."""
    session = Session(ir.to_bytes(opened.model), ("cpu",), optimise=False, limits=opened.options.limits)
    image, names = opened.anatomy.image, list(session.outputs)
    try:
        one, two = (
            session.run(names, feeds_of(opened, image.cast(noise(image, image.shape(opened.size, n)))), pictures=n)
            for n in (1, 2)
        )
    except (OutOfMemory, TimedOut):
        raise
    except InferenceError:  # of two images: the model was run on one when it was opened
        return False
    finally:
        session.close()
    return all(map(_has_entry_of_each, one, two))


def _has_entry_of_each(one: object, two: object) -> bool:
    """What is no tensor, such as a sequence, counts as an entry of each."""
    if not (isinstance(one, np.ndarray) and isinstance(two, np.ndarray)):
        return True
    changed = [pair for pair in zip(one.shape, two.shape, strict=False) if pair[0] != pair[1]]
    return one.ndim == two.ndim and (not changed or changed == [(1, 2)])


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
