"""A pass that gives an input axes of size 1 that the analysis expects: a batch, or the one channel of a grey picture.

The graph itself goes on as it was: it reads the input without these axes. Outputs without a batch axis get one, too.
"""

from collections.abc import Sequence

import onnx_ir

from onnxcam.surgeon.analysis.axes import propagate
from onnxcam.surgeon.analysis.factors import BATCH, Axes
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.masked_score import rewire
from onnxcam.surgeon.ir import Model, Shape, edit
from onnxcam.surgeon.shape_inference import infer_shapes


def add_axes(model: Model, name: str, added: Sequence[int], letters: str, sides: Sequence[int]) -> Model:
    """A copy whose input `name` has axes of size 1 at the positions `added`; so have outputs that had no batch.

    letters: the new input's layout. sides: sizes of all of its axes, by which the outputs' shapes are inferred.
    """
    copy = edit(model)
    value = next(v for v in copy.graph.inputs if v.name == name)
    dims = list[int | str | onnx_ir.SymbolicDim](value.shape or ())
    for axis in added:
        dims.insert(axis, 1)
    value.shape = onnx_ir.Shape([d if isinstance(d, int | str) else d.value for d in dims])
    b = Builder(copy, "onnxcam/axes")
    rewire(value, b.squeeze(value, added))
    copy.graph.sort()
    if 0 in added:
        _batch_outputs(copy, b, name, letters, sides)
    return copy


def _batch_outputs(model: Model, b: Builder, name: str, letters: str, sides: Sequence[int]) -> None:
    """Puts an axis of size 1 before every output that has no batch axis, under the output's name."""
    shapes = infer_shapes(model, {name: sides})
    axes = propagate(model, shapes, {name: tuple(letters)})
    for i, output in enumerate(list(model.graph.outputs)):
        shape = shapes.get(str(output.name))
        if shape is None or _has_batch(axes.get(str(output.name)), shape) or output.producer() is None:
            continue
        added = b.unsqueeze(output, [0])
        added.name, output.name = output.name, f"{output.name}/unbatched"
        added.type, added.shape = output.type, onnx_ir.Shape([1, *shape])
        model.graph.outputs[i] = added
    model.graph.sort()


def _has_batch(axes: Axes | None, shape: Shape) -> bool:
    """Whether the first axis is the batch: by its meaning, else if it is of size 1 and not the only one."""
    if axes is not None and axes[:1] == (BATCH,):
        return True
    if axes is not None and axes[:1] != (None,):
        return False
    return len(shape) > 1 and shape[0] in (1, None)
