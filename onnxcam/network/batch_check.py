"""Checks that images in one batch do not change each other, by runs on noise.

`why_not_batched` compares three images in one run with each alone, for a network that should take any batch.
`samples_interact` asks of a network that is fixed to a batch whether its samples change each other. opening.py calls
both.
"""

import numpy as np

from onnxcam.errors import InferenceError, OutOfMemory, TimedOut
from onnxcam.network.scorer import Network
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.types import Arrays, Floats, Masks

TOLERANCE = 1e-4
"""Share of the largest number that another batch size may change in single precision; real mixing changes more."""
HALF_TOLERANCE = 2e-3
"""The same for a model that computes in half precision."""


def why_not_batched(network: Network, extra: Arrays, tolerance: float) -> str | None:
    """Compares three masks in one run with three runs. Returns None if they agree, else the reason against batches.

    An export may declare a dynamic batch and still mix its samples; a rewritten graph is used only after this check.
    """
    feeds, masks = _noise(network, extra)
    outputs = [tensor_names.LOGITS, tensor_names.FEATURES]
    singles = [network.run(feeds, masks[i : i + 1], outputs) for i in range(3)]
    try:
        joint = network.run(feeds, masks, outputs)
    except (OutOfMemory, TimedOut):
        raise
    except InferenceError:
        return "more than one picture at once does not run"
    for i in range(len(outputs)):
        if not _agree(np.concatenate([single[i] for single in singles]), joint[i], tolerance):
            return "pictures in one batch change each other's scores"
    return None


def samples_interact(network: Network, extra: Arrays, tolerance: float) -> bool:
    """Whether samples of a fixed batch change each other: two masks in one run, against each with copies of itself."""
    if network.fixed is None or network.fixed == 1:
        return False
    feeds, masks = _noise(network, extra)
    (joint,) = network.run(feeds, masks[np.minimum(np.arange(network.fixed), 1)], [tensor_names.LOGITS])
    alone = [network.run(feeds, masks[i : i + 1], [tensor_names.LOGITS])[0] for i in range(2)]
    return not _agree(np.concatenate(alone), joint[:2], tolerance)


def _noise(network: Network, extra: Arrays) -> tuple[Arrays, Masks]:
    """(feeds of an image of noise, three masks)."""
    rng, image = np.random.default_rng(0), network.anatomy.image
    # A fill equal to the image would make all three samples the same.
    images = rng.standard_normal((2, image.channels, *network.size)).astype(np.float32)
    if image.takes_integers:
        images = image.pixels_of(images).astype(np.float32)
    return network.feeds(images[0], images[1], extra), rng.random((3, 1, *network.grid), np.float32)


def _agree(one: Floats, other: Floats, tolerance: float) -> bool:
    """Whether the arrays differ by at most this share of the largest number."""
    limit = tolerance * float(np.abs(one[np.isfinite(one)]).max(initial=0))
    return one.shape == other.shape and np.allclose(one, other, 0, limit, equal_nan=True)
