"""What the targets feed a graph, a row for each."""

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.further import Arrays
from onnxcam.surgeon import masking


def rows_of(targets: Arrays, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """What the targets feed, one for each row."""
    axes = {masking.TARGETS: 0, masking.REGIONS: 1, masking.REFERENCES: 0}
    return {name: np.take(targets[name], rows, axes[name]) for name in axes if name in targets}
