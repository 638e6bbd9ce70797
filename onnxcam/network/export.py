"""The rewriting tool: an exported graph in, the same graph that also returns its feature tensor and takes any batch."""

from dataclasses import dataclass

import onnx

from onnxcam.errors import ModelError
from onnxcam.network.opening import BatchSupport, OpenOptions, open_model
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.analysis.axes import CHANNEL, Axis
from onnxcam.surgeon.loading import ModelSource, read_model
from onnxcam.surgeon.passes.expose_features import expose_features
from onnxcam.types import Note, NoteCode


@dataclass(frozen=True)
class Rewritten:
    """data: the file's bytes. notes: what has to be said about them."""

    data: bytes
    anatomy: Anatomy
    batching: BatchSupport
    notes: tuple[Note, ...]


def _is_channel(axis: Axis) -> bool:
    return axis == CHANNEL


def rewrite(source: ModelSource, options: OpenOptions | None = None) -> Rewritten:
    """A model that returns its feature tensor as one more output, under its own name; checked with onnx's checker.

    Inputs, outputs and their values stay. The batch is made dynamic where that can be done and was verified; a batch of
    one that the export had squeezed away is an axis again. Local functions are inlined, loops of a known length
    written out, weights listed as inputs become plain weights, external data comes inside. Raises OnnxCamError.
    """
    opened = open_model(read_model(source), options or OpenOptions())
    opened.network.close()
    features = opened.anatomy.features
    # With dynamic sides the grid that was seen is that of one size.
    dynamic = None in opened.anatomy.image.sides
    shape = [None if dynamic and not _is_channel(a) else d for a, d in zip(features.axes, features.shape, strict=True)]
    proto = ir.to_proto(expose_features(opened.model, features.tensor, tuple(shape), opened.anatomy.image.name))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise ModelError(f"the rewritten graph does not pass onnx's checker ({reason})") from None
    notes = (*opened.notes, *opened.anatomy.notes)
    if opened.batching.mode == "looped":
        text = "run this model with one picture at a time: more of them change each other's answers or do not run"
        notes += (Note(NoteCode.LOOPED, text),)
    return Rewritten(proto.SerializeToString(deterministic=True), opened.anatomy, opened.batching, notes)
