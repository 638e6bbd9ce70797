"""A pass that gives the feature tensor of a network over frames the axis of time as one more side of its grid.

Behind it the graph reads the tensor as it was. What is masked and drawn then is a volume: time, height and width.
"""

from dataclasses import replace

from onnxcam.errors import NoSpatialFeatures
from onnxcam.surgeon.analysis.anatomy import Anatomy, Frames
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.masked_score import rewire
from onnxcam.surgeon.ir import Model, Shapes, edit, find_value


def add_frame_axis(model: Model, anatomy: Anatomy, shapes: Shapes) -> tuple[Model, Anatomy, Shapes]:
    """The model with that feature tensor, its anatomy and shapes; unchanged where no picture is a frame.

    Raises NoSpatialFeatures where the feature tensor does not have one map for each frame.
    """
    image, features = anatomy.image, anatomy.features
    if image.frames not in (Frames.IN_BATCH, Frames.IN_CHANNELS):
        return model, anatomy, shapes
    joined = image.frames is Frames.IN_CHANNELS
    count = 1 if joined else image.sides_in(shapes[image.name])[0]
    if not joined and features.shape[0] != count:
        raise NoSpatialFeatures(
            f"{features.tensor!r} of shape {list(features.shape)} has no map for each of {count} frames; choose an "
            f"earlier tensor with --layer, from an export for one clip at a time"
        )
    copy = edit(model)
    value = find_value(copy, features.tensor)
    assert value is not None
    b = Builder(copy, "onnxcam/frames")
    sides = features.sides
    with_time = b.reshape(value, [-1, count, *sides])
    rewire(value, b.reshape(with_time, [-1, *sides]))
    back = next(v for u in with_time.uses() for v in u.node.outputs)
    with_time.name = f"{features.tensor}/frames"
    copy.graph.sort()
    separate = replace(
        features, tensor=str(with_time.name), shape=(1, count, *sides), axes=("N", "D", *features.axes[1:]),
        reason=f"{features.reason}; {'one map for all frames' if joined else 'a map of each frame'}",
    )  # fmt: skip
    added = {str(with_time.name): separate.shape, str(back.name): features.shape}
    return copy, replace(anatomy, features=separate), {**shapes, **added}
