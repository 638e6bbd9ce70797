"""Prepares a file's graph for the analysis: number types that onnxruntime computes in, and an input with all axes.

prepare_model() finds the input that takes the picture (analysis/images.py) and applies the passes that it needs. The
graph of most files stays as it is. network/first_opening.py calls it before everything else.
"""

from dataclasses import dataclass

import onnx_ir

from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.images import DEFAULT_SIDE, find_image, other_pictures
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.passes.added_axes import add_axes
from onnxcam.surgeon.passes.single_precision import convert_to_float32, is_double_network
from onnxcam.types import Note, NoteCode


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """A file's graph as all later steps expect it.

    image: the input that takes the picture. runnable: the file's graph with its own inputs and outputs, in types that
    onnxruntime computes in; None where that is the file itself. notes: what a reader of a result should know.
    """

    model: Model
    image: ImageInput
    runnable: Model | None = None
    notes: tuple[Note, ...] = ()


def prepare_model(model: Model, layout: str | None = None, name: str | None = None) -> PreparedModel:
    """The prepared graph. layout, name: of the input that takes the picture, as find_image() takes them; it raises."""
    runnable, notes = None, list[Note]()
    for dtype in (onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.DOUBLE):
        converted = _in_float32(runnable or model, dtype)
        if converted is not None:
            runnable = converted
            text = f"the model computes in {dtype.name.lower()}, which onnxruntime's CPU lacks; float32 is used instead"
            notes.append(Note(NoteCode.COMPUTED_IN_FLOAT32, text))
    model = runnable or model
    image = find_image(model, layout, name)
    others = other_pictures(model, image) if name is None else []
    if others:
        text = f"the map is of the input {image.name!r}; --image-input explains another one: {', '.join(others)}"
        notes.append(Note(NoteCode.OTHER_PICTURES, text))
    if image.added:
        sides = image.shape([side or DEFAULT_SIDE for side in image.sides], image.batch or 1)
        model = add_axes(model, image.name, image.added, image.layout, sides)
    return PreparedModel(model, image, runnable, tuple(notes))


def _in_float32(model: Model, dtype: onnx_ir.DataType) -> Model | None:
    """The graph with float32 in place of the type; None where there is no need."""
    if dtype == onnx_ir.DataType.DOUBLE and not is_double_network(model):
        return None
    return convert_to_float32(model, (dtype,))
