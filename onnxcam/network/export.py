"""Rewrites an exported graph so that it also returns its feature tensor and takes any batch; for the command `rewrite`.

It opens the model as an explanation does (opening.py), which verifies the rewritten graph against the file, and saves
the graph.
"""

from dataclasses import dataclass

import onnx

from onnxcam.errors import ModelError
from onnxcam.network.batch_support import BatchSupport
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.analysis.factors import CHANNEL, Axis
from onnxcam.surgeon.loading import ModelSource, read_model
from onnxcam.surgeon.metadata import INPUTS
from onnxcam.surgeon.passes.expose_features import expose_features
from onnxcam.types import BatchMode, Note, NoteCode


@dataclass(frozen=True)
class Rewritten:
    """data: the new file's bytes. notes: what a user of the file should know."""

    data: bytes
    anatomy: Anatomy
    batching: BatchSupport
    notes: tuple[Note, ...]


def _is_channel(axis: Axis) -> bool:
    return axis == CHANNEL


def rewrite(source: ModelSource, options: OpenOptions | None = None) -> Rewritten:
    """Returns the model with its feature tensor as one more output, under its own name, checked by onnx's checker.

    Inputs, outputs and their values stay. The batch becomes dynamic where that is possible and verified; a batch of one
    that the export squeezed away becomes an axis again. Local functions are inlined, loops of known length unrolled,
    weights that were inputs become constants, and external data moves into the file. The batch stays as exported where
    a detector's table had to be made for the explanation. Raises OnnxCamError.
    """
    options = options or OpenOptions()
    opened = open_model(read_model(source, options.limits), options)
    opened.close()
    features = opened.anatomy.features
    # With dynamic sides, the grid is known for one size only.
    dynamic = None in opened.anatomy.image.sides
    shape = [None if dynamic and not _is_channel(a) else d for a, d in zip(features.axes, features.shape, strict=True)]
    model = opened.exported if opened.exported is not None else opened.model
    if ir.find_value(model, features.tensor) is None:
        raise ModelError(
            f"the feature tensor {features.tensor!r} is no tensor of the file itself; choose another one with --layer"
        )
    proto = ir.to_proto(expose_features(model, features.tensor, tuple(shape), opened.anatomy.image.name))
    kept = [entry for entry in proto.metadata_props if entry.key != INPUTS]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ModelError(f"the rewritten graph does not pass onnx's checker ({ir.cause(error)})") from None
    notes = (*opened.notes, *opened.anatomy.notes)
    batching = opened.batching
    if opened.exported is not None:
        batching = BatchSupport(BatchMode.LOOPED, "as exported; only the table of boxes was checked in batches")
    if batching.mode is BatchMode.LOOPED:
        text = "run this model with one image at a time: several change each other's outputs or do not run"
        if opened.exported is not None:
            text = "run this model with the batch that it was exported for"
        notes += (Note(NoteCode.LOOPED, text),)
    return Rewritten(proto.SerializeToString(deterministic=True), opened.anatomy, batching, notes)
