"""What the targets feed a graph, a row for each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.graphs import masked_score
from onnxcam.types import Arrays

AXES = {masked_score.TARGETS: 0, masked_score.REGIONS: 1, masked_score.REFERENCES: 0}
"""Along which the targets stand in what feeds them."""


def rows_of(targets: Arrays, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """What the targets feed, one for each row."""
    return {name: np.take(targets[name], rows, axis) for name, axis in AXES.items() if name in targets}


def rows_together(fed: Sequence[Arrays]) -> dict[str, npt.NDArray[Any]]:
    """What several of rows_of() give, all of one network, one behind the other."""
    return {name: np.concatenate([f[name] for f in fed], AXES[name]) for name in fed[0]}
