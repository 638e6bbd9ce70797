"""Steps back from a map of a single channel, such as a map of distances: a weighted sum of one map says nothing new."""

import math

from onnxcam.surgeon.analysis.frontier import Geometry, is_learned, most_derived
from onnxcam.surgeon.ir import Value, ancestors


def before_single_channel(value: Value, geometry: Geometry) -> Value:
    """The last tensor with several channels before a map of one channel; other values come back as they are."""
    if _channels(value, geometry) != 1:
        return value
    maps = [v for v in ancestors(value) if geometry.is_map(v) and (_channels(v, geometry) or 0) > 1 and is_learned(v)]
    return most_derived(maps) if maps else value


def _channels(value: Value, geometry: Geometry) -> int | None:
    """Entries beside batch and grid, where the tensor has the grid as axes."""
    shape, axes = geometry.shape(value), geometry.axes_of(value)
    if shape is None or not set(geometry.letters) <= set(axes) or len(axes) != len(shape):
        return None
    rest = [d for a, d in zip(axes[1:], shape[1:], strict=True) if a not in geometry.letters]
    return None if None in rest else math.prod(int(d or 0) for d in rest)
