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
    the seed. passes: forward passes that it took; seconds: how long they and the rest took, where Explainer.measure()
    measured. note: what to doubt about the value, in one sentence.
    """

    metric: str
    value: float | None
    protocol: str | None = None
    reason: str | None = None
    curve: Floats | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    passes: int = 0
    seconds: float = 0.0
    note: str | None = None

    @property
    def better(self) -> str | None:
        """Which values speak for a map: 'higher', 'lower' or 'neither'; None for a metric that METRICS lacks."""
        from onnxcam.metrics.registry import METRICS  # which imports this file

        return str(METRICS[self.metric].better) if self.metric in METRICS else None

    @property
    def unit(self) -> str:
        """Of the value: '%', or nothing."""
        from onnxcam.metrics.registry import METRICS

        return METRICS[self.metric].unit if self.metric in METRICS else ""
