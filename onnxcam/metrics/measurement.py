"""The result of a metric: `Measurement`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxcam.types import Floats


@dataclass(frozen=True, eq=False)
class Measurement:
    """One metric of one map.

    metric: its name, such as 'average_drop'. value: None where the metric is undefined; reason says why then. protocol:
    which of the metric's protocols, None where it has one only. curve: (M,2) float32, the fraction of the pixels and
    the score there, of a metric that is the area under it. options: what makes the number again, such as the step and
    the seed. passes: forward passes that it took.
    """

    metric: str
    value: float | None
    protocol: str | None = None
    reason: str | None = None
    curve: Floats | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    passes: int = 0
