"""`onnxcam metrics`: list the metrics with which way is better, their protocols, needs, costs and papers."""

import textwrap
from typing import TYPE_CHECKING, Any

from onnxcam.cli.groups import command
from onnxcam.cli.printing import print_json, print_lines
from onnxcam.cli.shared_options import Json

if TYPE_CHECKING:
    from onnxcam.metrics.metric import Metric

NEEDS = {
    "scorer": "the model",
    "box": "the object's box (--truth)",
    "explain": "the method (for the masked picture)",
    "seed": "a seed (0)",
}
"""What a metric needs beside the map, for a reader."""
COLUMNS = 80
"""Of a usual terminal."""


@command
def metrics(json: Json = False) -> None:
    """List the metrics that `onnxcam explain --metrics` takes: meaning, range, protocols, needs, cost, paper.

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
        "meaning": metric.meaning,
        "better": str(metric.better),
        "range": metric.range,
        "unit": metric.unit,
        "protocols": list(metric.protocols),
        "needs": sorted(map(str, metric.needs)),
        "cost": metric.cost,
        "source": metric.source,
    }


def page(records: list[dict[str, Any]]) -> list[str]:
    """The lines of the list for a reader, with names as they are typed, in 80 columns."""
    from onnxcam.metrics.arguments import typed

    lines = []
    for metric in records:
        better = f"{metric['better']} is better" if metric["better"] != "neither" else "neither way is better"
        lines += [
            typed(metric["name"]),
            *_field("", metric["meaning"]),
            *_field("range", f"{metric['range']}, {better}"),
            *_field("protocols", _protocols(metric["protocols"])),
            *_field("needs", ", ".join(NEEDS[need] for need in metric["needs"]) or "nothing but the map"),
            *_field("cost", metric["cost"]),
            *_field("paper", metric["source"]),
        ]
    return lines


def _protocols(names: list[str]) -> str:
    if not names:
        return "one, without a name"
    return ", ".join([f"{names[0]} (usual)", *names[1:]])


def _field(name: str, text: str) -> list[str]:
    """The text behind its name; what does not fit stands below it. Without a name, from the margin on."""
    start = f"  {name:11}" if name else "  "
    return textwrap.wrap(
        text, COLUMNS, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False
    )
