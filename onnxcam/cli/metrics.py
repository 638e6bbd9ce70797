"""`onnxcam metrics`: list the metrics with which way is better, their protocols, needs, costs and papers."""

from typing import TYPE_CHECKING, Any

from onnxcam.cli.options import Json, command
from onnxcam.cli.printing import print_json, print_lines

if TYPE_CHECKING:
    from onnxcam.metrics.metric import Metric

NEEDS = {
    "scorer": "the model",
    "box": "the object's box (--truth)",
    "explain": "the method (for the masked picture)",
    "seed": "a seed (0)",
}
"""What a metric needs beside the map, for a reader."""


@command
def metrics(json: Json = False) -> None:
    """List the metrics that `onnxcam explain --metrics` takes: range, protocols, needs, forward passes, paper.

    The first protocol is the usual one; deletion:mean asks for another.
    """
    from onnxcam.metrics.registry import METRICS

    records = [description(metric) for metric in METRICS.values()]
    if json:
        print_json(records)
    else:
        print_lines(page(records))


def description(metric: "Metric") -> dict[str, Any]:
    """The JSON record of a metric."""
    return {
        "name": metric.name,
        "title": metric.title,
        "better": str(metric.better),
        "range": metric.range,
        "unit": metric.unit,
        "protocols": list(metric.protocols),
        "needs": sorted(map(str, metric.needs)),
        "cost": metric.cost,
        "source": metric.source,
    }


def page(records: list[dict[str, Any]]) -> list[str]:
    """The lines of the list for a reader, with names as they are typed."""
    lines = []
    for metric in records:
        better = f"{metric['better']} is better" if metric["better"] != "neither" else "neither way is better"
        lines += [
            metric["name"].replace("_", "-"),
            f"  {metric['source']}",
            f"  range      {metric['range']}, {better}",
            f"  protocols  {', '.join(metric['protocols']) or 'one, without a name'}",
            f"  needs      {', '.join(NEEDS[need] for need in metric['needs']) or 'nothing but the map'}",
            f"  cost       {metric['cost']}",
        ]
    return lines
