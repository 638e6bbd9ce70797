"""Frames: how a network of pictures takes several of them in time, and a batch axis that is time.

Networks of volumes treat depth, or time, as one more side. Others run a network of pictures over every frame: the
frames become its batch, and what follows joins them again. Then the axis of time is no side of the feature tensor
until passes/frame_axis.py makes it one.
"""

from onnxcam.errors import ModelError, NoSpatialFeatures
from onnxcam.surgeon.analysis.anatomy import Frames, ImageInput
from onnxcam.surgeon.analysis.entry import TRIAL_SIDES, Entry
from onnxcam.surgeon.analysis.factors import BATCH, Axes
from onnxcam.surgeon.ir import Model, Shape, Value, shape_of
from onnxcam.surgeon.shape_inference import infer_shapes

DEPTH = "D"
"""The letter of depth, and of time."""


def frames_of(entry: Entry | None, letters: str) -> Frames | None:
    """Where the frames of an input of this layout are in what a convolution of pictures reads; None without frames."""
    if entry is None or DEPTH not in letters or len(entry.sides) != 2:
        return None
    time = letters.index(DEPTH)
    if time in entry.batch:
        return Frames.IN_BATCH
    return Frames.IN_CHANNELS if time in entry.merged else Frames.APART


def check_frames(image: ImageInput) -> None:
    """Raises NoSpatialFeatures for frames whose feature maps are in no one tensor."""
    if image.frames is Frames.APART:
        raise NoSpatialFeatures(
            "every frame (or slice) goes through a branch of its own, so no tensor holds the feature maps of all; "
            "export the network with the frames folded into the batch"
        )
    if image.frames is Frames.IN_BATCH and (image.batch or 1) > 1:
        raise NoSpatialFeatures(
            f"the export is fixed to a batch of {image.batch} clips, whose frames share one axis; export the network "
            f"for one clip, or for any number of them"
        )


def seeds(layout: str, frames: Frames | None) -> Axes:
    """The axes of the image input as the analysis follows them: frames that become the batch are one."""
    if frames is None:
        return tuple(layout)
    if frames is Frames.IN_BATCH:
        return tuple({BATCH: None, DEPTH: BATCH}.get(letter, letter) for letter in layout)
    return tuple(None if letter == DEPTH else letter for letter in layout)


def batch_is_time(model: Model, value: Value) -> bool:
    """Whether the first axis of an input is time: whatever its length, each output has one result.

    Only outputs whose recorded shape says so are looked at, which are then inferred for two lengths.
    """
    shape = shape_of(value) or ()
    if shape[0] == 1 or not all(_has_one_result(shape_of(v), shape[0]) for v in model.graph.outputs):
        return False
    lengths = (shape[0],) if shape[0] is not None else TRIAL_SIDES[:2]
    rest = [d if d is not None else 224 for d in shape[1:]]
    try:
        inferred = [infer_shapes(model, {str(value.name): [n, *rest]}) for n in lengths]
    except ModelError:
        return False
    outputs = [[shapes.get(str(v.name)) for v in model.graph.outputs] for shapes in inferred]
    return outputs[0] == outputs[-1] and all(_has_one_result(s, lengths[0]) for s in outputs[0])


def _has_one_result(shape: Shape | None, batch: int | None) -> bool:
    """Whether an output of this shape has no entry for each of several pictures: (1,classes), or (classes)."""
    if not shape or None in shape:
        return False
    return shape[0] == 1 if len(shape) > 1 else shape[0] not in (1, batch)
