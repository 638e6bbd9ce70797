"""Whether rows that share a run change each other, asked of a network before it is believed."""

import numpy as np

from onnxcam.errors import InferenceError, OutOfMemory
from onnxcam.network.scorer import Network
from onnxcam.surgeon.graphs import masked_score
from onnxcam.types import Arrays, Floats, Masks

TOLERANCE = 1e-4
"""Of the largest number: what another batch size may change in single precision; mixing pictures changes more."""
HALF_TOLERANCE = 2e-3
"""The same for a model that computes in half precision."""


def why_not_batched(network: Network, extra: Arrays, tolerance: float) -> str | None:
    """Three masks in one run against three runs: None if they agree, else what went wrong.

    An export may declare a dynamic batch and not keep it; a rewritten one is believed only after this.
    """
    feeds, masks = _noise(network, extra)
    outputs = [masked_score.LOGITS, masked_score.FEATURES]
    singles = [network.run(feeds, masks[i : i + 1], outputs) for i in range(3)]
    try:
        together = network.run(feeds, masks, outputs)
    except OutOfMemory:
        raise
    except InferenceError:
        return "more than one picture at once does not run"
    for i in range(len(outputs)):
        if not _agree(np.concatenate([single[i] for single in singles]), together[i], tolerance):
            return "pictures in one batch change each other's scores"
    return None


def rows_interact(network: Network, extra: Arrays, tolerance: float) -> bool:
    """Of a graph that is bound to a batch: two masks in one run against each with copies of itself."""
    if network.fixed is None or network.fixed == 1:
        return False
    feeds, masks = _noise(network, extra)
    (together,) = network.run(feeds, masks[np.minimum(np.arange(network.fixed), 1)], [masked_score.LOGITS])
    alone = [network.run(feeds, masks[i : i + 1], [masked_score.LOGITS])[0] for i in range(2)]
    return not _agree(np.concatenate(alone), together[:2], tolerance)


def _noise(network: Network, extra: Arrays) -> tuple[Arrays, Masks]:
    """A picture and three masks."""
    rng, image = np.random.default_rng(0), network.anatomy.image
    # A fill like the picture would make all three rows the same.
    pictures = rng.standard_normal((2, image.channels, *network.size)).astype(np.float32)
    if image.dtype == "uint8":
        pictures = np.clip(128 + 64 * pictures, 0, 255)
    return network.feeds(pictures[0], pictures[1], extra), rng.random((3, 1, *network.grid), np.float32)


def _agree(one: Floats, other: Floats, tolerance: float) -> bool:
    """To this share of the largest number."""
    reach = tolerance * float(np.abs(one[np.isfinite(one)]).max(initial=0))
    return one.shape == other.shape and np.allclose(one, other, 0, reach, equal_nan=True)
