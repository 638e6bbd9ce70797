"""Draws time against quality, of the rows that methods.py measured: every method of every tool on one picture.

    python tools/benchmarks/figure.py benchmark.json benchmark.png

Time is processor time, which other processes hardly change. The ground is white whatever surrounds the figure, so that
it is legible on a dark page too. Methods of one tool that draw the same map in about the same time share a label.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from table import Rows

LOOKS = {"onnxcam": ("#0b5cad", "o"), "pytorch-grad-cam": ("#b3400b", "s"), "TorchCAM": ("#3d7a1f", "^")}
"""Colour and marker of each tool; the marker tells them apart in grey too."""
PANELS = (
    ("pearson", "Pearson correlation\nwith exact Score-CAM"),
    ("difference", "insertion - deletion"),
)
ALIKE = 0.004, 1.6
"""A label is shared where qualities differ by less than this share of the panel, and times by less than this factor."""
GREY = "#444444"


@dataclass
class Point:
    """Where one label points: processor seconds, quality, and the methods that lie there."""

    tool: str
    seconds: float
    quality: float
    methods: list[str] = field(default_factory=list)


def difference(row: Mapping[str, Any]) -> float | None:
    """Insertion less deletion: higher is better."""
    both = row.get("insertion"), row.get("deletion")
    return None if None in both else both[0] - both[1]


def points(rows: Rows, panel: str) -> list[Point]:
    """The points of a panel, methods that lie together in one."""
    span = [q for row in rows if (q := quality(row, panel)) is not None]
    near = ALIKE[0] * (max(span) - min(span)) if span else 0.0
    gathered: list[Point] = []
    for row in sorted((r for r in rows if r["value"] is not None), key=lambda r: float(r["processor"])):
        value = quality(row, panel)
        if value is None:
            continue
        at = next(
            (p for p in gathered if p.tool == row["tool"] and abs(p.quality - value) <= near
             and row["processor"] <= ALIKE[1] * p.seconds), None,
        )  # fmt: skip
        if at is None:
            at = Point(row["tool"], row["processor"], value)
            gathered.append(at)
        at.methods.append(row["method"])
    return gathered


def quality(row: Mapping[str, Any], panel: str) -> float | None:
    return difference(row) if panel == "difference" else row.get(panel)


def draw(rows: Rows, file: Path) -> None:
    """Writes the figure; its format is the file's ending."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 12.5), layout="constrained", facecolor="white")
    axes = figure.subplots(len(PANELS), 1, sharex=True)
    gathered = [points(rows, panel) for panel, _ in PANELS]
    for axis, panel_points, (_, name) in zip(axes, gathered, PANELS, strict=True):
        draw_panel(axis, panel_points, name)
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.08), ncols=3, frameon=False, fontsize=12)
    axes[-1].set_xlabel("processor seconds a map, one thread (logarithmic)", fontsize=12, color=GREY)
    for axis, panel_points in zip(axes, gathered, strict=True):
        place_labels(figure, axis, panel_points)
    figure.savefig(file, dpi=110)


def draw_panel(axis: Any, gathered: Sequence[Point], name: str) -> None:
    """The markers of all tools, without labels."""
    for tool, (colour, marker) in LOOKS.items():
        own = [p for p in gathered if p.tool == tool]
        axis.plot([p.seconds for p in own], [p.quality for p in own], marker, color=colour, label=tool, markersize=7)
    axis.set_xscale("log")
    axis.margins(x=0.12, y=0.06)
    axis.set_ylabel(name, fontsize=12, color=GREY)
    axis.grid(alpha=0.25)
    axis.tick_params(colors=GREY, labelsize=11)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def offsets() -> Iterator[tuple[float, float]]:
    """Places of a label's middle left edge, in points from its marker, near ones first."""
    for distance in range(0, 400, 10):
        for sign in (1, -1):
            yield 8.0 + distance / 4, sign * distance
            yield -8.0 - distance / 4, sign * distance


def place_labels(figure: Any, axis: Any, gathered: Sequence[Point]) -> None:
    """Puts each label at the first place where it covers no marker and no other label, with a line to its point.

    Where there is no such place, the last one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    taken = [_around(axis.transData.transform((p.seconds, p.quality)), 5 * scale) for p in gathered]
    frame = axis.get_window_extent(renderer)
    for point in sorted(gathered, key=lambda p: -p.quality):
        colour = LOOKS[point.tool][0]
        x, y = axis.transData.transform((point.seconds, point.quality))
        label = axis.text(0, 0, ", ".join(point.methods), fontsize=10, color=colour, va="center")
        box = label.get_window_extent(renderer)
        for dx, dy in offsets():
            left = x + dx * scale - (box.width if dx < 0 else 0)
            place = (left - 1, y + dy * scale - box.height / 2, left + box.width + 1, y + dy * scale + box.height / 2)
            inside = (
                frame.x0 <= place[0] and place[2] <= frame.x1 + 60 and frame.y0 <= place[1] and place[3] <= frame.y1
            )
            if inside and not any(_overlap(place, other) for other in taken):
                break
        taken.append(place)
        at = axis.transData.inverted().transform((left, y + dy * scale))
        label.set_position(at)
        if abs(dy) > 5:
            end = axis.transData.inverted().transform((x + dx * scale, y + dy * scale))
            axis.plot([point.seconds, end[0]], [point.quality, end[1]], color=colour, linewidth=0.7, alpha=0.6)


Box = tuple[float, float, float, float]


def _around(centre: Sequence[float], radius: float) -> Box:
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="rows of methods.py, or a file of run_all.py")
    parser.add_argument("figure", type=Path, help=".png, .webp, .svg or .pdf")
    arguments = parser.parse_args()
    data = json.loads(arguments.json.read_text())
    draw(data["methods"]["rows"] if isinstance(data, dict) else data, arguments.figure)


if __name__ == "__main__":
    main()
