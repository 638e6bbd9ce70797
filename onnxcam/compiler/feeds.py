"""Feeds of the model's own graph, of a float32 version of it, and of a compiled file's own inputs."""

import numpy as np
import numpy.typing as npt

from onnxcam.network.extra_inputs import for_batch
from onnxcam.network.opening import OpenedModel
from onnxcam.types import Arrays


def feeds_of(opened: OpenedModel, images: npt.NDArray[np.generic]) -> Arrays:
    """The inputs for images (count,...) in the model's layout, as they are; extra inputs are repeated as it needs."""
    image, count = opened.anatomy.image, len(images)
    batched = [name for name, each in opened.network.extra.items() if each]
    return {
        image.name: images,
        **for_batch(opened.model, image, opened.inputs, count),
        **{name: np.repeat(opened.inputs[name], count, axis=0) for name in batched},
    }
