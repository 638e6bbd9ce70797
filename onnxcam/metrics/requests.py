"""The metrics that a person requests by name, checked before anything runs."""

from collections.abc import Mapping, Sequence

from onnxcam.errors import OptionError
from onnxcam.metrics.arguments import typed
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.metric import Need
from onnxcam.metrics.registry import METRICS, metric_named

ALL = "all"
"""Stands for every metric whose needs are met."""


def requested(names: Sequence[str], *, has_box: bool) -> tuple[str, ...]:
    """The names as measure() takes them, each metric and protocol once; `all` becomes the names of the metrics.

    Of several names of one protocol, such as deletion and deletion:zero, the first stays. has_box: whether the object's
    box was given. Without one, `all` leaves out the metrics that need it. Raises OptionError for an unknown metric or
    protocol, for one that needs a box where there is none, and for a box that no metric reads.
    """
    if not names:
        raise OptionError("no metric is named; `all` stands for all of them")
    metrics: dict[tuple[str, str | None], str] = {}
    for name in names:
        if isinstance(name, str) and name == ALL:
            for each in METRICS.values():
                if has_box or Need.BOX not in each.needs:
                    metrics.setdefault(_key(each.name), each.name)
            continue
        metric, _ = metric_named(name)
        if Need.BOX in metric.needs and not has_box:
            raise OptionError(
                f"{name} needs the box of the object, as a person drew it (box=, or --truth LEFT,TOP,RIGHT,BOTTOM); "
                f"a detector's own box is its answer, not the truth"
            )
        metrics.setdefault(_key(name), name)
    if has_box and not any(Need.BOX in metric_named(name)[0].needs for name in metrics.values()):
        listed = ", ".join(typed(each.name) for each in METRICS.values() if Need.BOX in each.needs)
        raise OptionError(f"a box is given, and no metric reads it; those that do: {listed}")
    return tuple(metrics.values())


def under_every_name(names: Sequence[str], results: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """The results of requested(names), and again under every other name that was given for one of them."""
    by_key = {_key(name): one for name, one in results.items()}
    return {**results, **{name: by_key[_key(name)] for name in names if name != ALL}}


def _key(name: str) -> tuple[str, str | None]:
    """The metric and the protocol, which is the usual one where none is named."""
    metric, protocol = metric_named(name)
    return metric.name, protocol
