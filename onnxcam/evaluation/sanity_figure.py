"""The figure of a sanity check: the maps row by row, and how alike they stay, against the layers drawn again.

Needs matplotlib (the extra `plot`). It is used without pyplot, so nothing of the process changes.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.evaluation.sanity_report import FAILS_ABOVE, PASSES_BELOW, MethodSanity, Order, SanityReport, counted
from onnxcam.outputs.captions import shown_score
from onnxcam.outputs.figure import NO_TEXTS, figure_bytes
from onnxcam.outputs.overlay import heatmap
from onnxcam.types import Map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")
MOST_MAPS = 5
"""Maps of models with other weights in a row."""
WIDTH, HEADS, ROW, PLOT = 7.2, 0.4, 1.15, 2.5
"""Inches: of the figure, of the headings of the maps, of a row of these, and of the plot below."""
LONGEST_NAME = 22
"""Letters below the picture."""
DOTS = 150
"""Pixels an inch, of a PNG."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Colours that people who see few colours tell apart (Okabe and Ito)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def sanity_figure(report: SanityReport, suffix: str = ".png", texts: Mapping[str, str | None] = NO_TEXTS) -> bytes:
    """The figure as the bytes of a file of this kind: .png, .pdf or .svg. texts: as of figure_bytes().

    Raises OptionError for another kind, and where matplotlib is not installed.
    """
    if suffix not in SUFFIXES:
        raise OptionError(f"a figure is a {', '.join(SUFFIXES)} file, not {suffix or 'one without a suffix'}")
    return figure_bytes(_drawn(report), suffix, texts, DOTS)


def check_matplotlib() -> None:
    """Raises OptionError, with the way out, where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise OptionError("a figure needs matplotlib: pip install 'onnxcam[plot]'") from None


def _drawn(report: SanityReport) -> "Figure":
    check_matplotlib()
    from matplotlib.figure import Figure

    rows = [method for method in report.methods if method.maps]
    figure = Figure(figsize=(WIDTH, ROW * len(rows) + HEADS + PLOT), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=(ROW * len(rows) + HEADS, PLOT), squeeze=False)
    upper, lower = parts[0, 0], parts[1, 0]
    if rows:
        _maps(upper, report, rows)
    _plot(lower.subplots(), report)
    return figure


def _maps(figure: Any, report: SanityReport, rows: Sequence[MethodSanity]) -> None:
    """The rows of maps. figure: a SubFigure."""
    depths = [0, *_chosen(sorted({depth for row in rows for depth in row.maps} - {0}))]
    first = int(report.picture is not None)
    axes = figure.subplots(len(rows), len(depths) + first, squeeze=False)
    if first:
        target = rows[0].targets[0]
        axes[0, 0].imshow(report.picture, cmap="gray")
        axes[0, 0].set_title("picture", fontsize=7)
        if target is not None:
            shown = textwrap.shorten(target.name, LONGEST_NAME, placeholder="…")
            axes[0, 0].set_xlabel(f"{shown}\n{shown_score(target)}", fontsize=6.5, labelpad=2)
        for one in axes[1:, 0]:
            one.set_visible(False)
    for i, method in enumerate(rows):
        axes[i, first].set_ylabel(f"{method.method}\n{method.verdict.upper()}", fontsize=7)
        for j, depth in enumerate(depths, start=first):
            _map(axes[i, j], method.maps.get(depth))
            axes[i, j].set_title(_title(depth, report.options.order) if i == 0 else "", fontsize=7)
            axes[i, j].set_xlabel(_similarity(method, depth), fontsize=6.5, labelpad=2)
    for one in axes.flat:
        one.set_xticks([])
        one.set_yticks([])
        for spine in one.spines.values():
            spine.set_visible(False)


def _chosen(depths: Sequence[int]) -> list[int]:
    """A few of the depths, evenly, both ends included."""
    places = np.unique(np.linspace(0, len(depths) - 1, min(MOST_MAPS, len(depths))).round().astype(int))
    return [depths[i] for i in places]


def _title(depth: int, order: Order | str) -> str:
    if depth == 0:
        return "intact"
    if order is Order.INDEPENDENT:
        return f"layer {depth}\nredrawn"
    return f"{counted(depth, 'layer')}\nredrawn"


def _map(axes: "Axes", saliency_map: Map | None) -> None:
    if saliency_map is None:
        axes.text(0.5, 0.5, "no map", ha="center", va="center", fontsize=6.5, transform=axes.transAxes)
    elif saliency_map.ndim == 1:
        axes.plot(saliency_map, color="black", linewidth=0.6)
    else:
        while saliency_map.ndim > 2:  # the middle of a volume
            saliency_map = saliency_map[len(saliency_map) // 2]
        axes.imshow(heatmap(np.ascontiguousarray(saliency_map)))


def _similarity(method: MethodSanity, depth: int) -> str:
    """Spearman of the map that is shown, of the first picture and seed."""
    step = next((step for step in method.steps if step.depth == depth), None)
    value = step.spearman[0] if step is not None else None
    return "" if value is None else f"r = {_shown(value)}"


def _shown(value: float) -> str:
    """Two decimals, with a minus sign and not a hyphen, and none at zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")


def _plot(axes: "Axes", report: SanityReport) -> None:
    """Spearman against the layers, one line a method, with the range of the pictures, the null and the thresholds."""
    from matplotlib.ticker import MaxNLocator

    beside = max(report.layers - 1, 1) / 60  # so that no marker is cut at either end
    for i, method in enumerate(report.methods):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        depths, mean, lowest, highest = _curve(method)
        value = "undefined" if method.spearman.mean is None else f"mean {_shown(method.spearman.mean)}"
        label = f"{method.method}: {value}, {method.verdict}"
        axes.plot(depths, mean, color=colour, marker=marker, markersize=3, linewidth=1.2, label=label)
        axes.fill_between(depths, lowest, highest, color=colour, alpha=0.12, linewidth=0)
        if method.null.mean is not None:
            axes.axhline(method.null.mean, color=colour, linestyle=":", linewidth=1)
    for limit, text in ((PASSES_BELOW, "a mean below passes"), (FAILS_ABOVE, "a mean above fails")):
        axes.axhline(limit, color="0.4", linestyle="--", linewidth=0.8)
        axes.text(max(report.layers, 2) + beside, limit, f" {text}", fontsize=6.5, color="0.3", va="center")
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    several = _several(report)
    if several:
        axes.fill_between([], [], [], color="0.3", alpha=0.2, linewidth=0, label=f"range over {several}")
    if any(method.null.mean is not None for method in report.methods):
        axes.plot([], [], color="0.3", linestyle=":", linewidth=1, label="maps of other pictures (null)")
    independent = report.options.order is Order.INDEPENDENT
    axes.set_xlabel("layer redrawn, from the output" if independent else "layers redrawn, from the output", fontsize=8)
    axes.set_ylabel("Spearman with the intact map", fontsize=8)
    axes.set_xlim(1 - beside, max(report.layers, 2) + beside)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6.5, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _several(report: SanityReport) -> str:
    """Over what the shaded range is; nothing for one picture and one seed."""
    numbers = {"pictures": len(report.pictures), "seeds": len(report.options.seeds)}
    return " and ".join(name for name, number in numbers.items() if number > 1)


def _curve(method: MethodSanity) -> tuple[list[int], list[float], list[float], list[float]]:
    """(depths, mean, lowest, highest) of the similarity at each depth, over pictures and seeds; without undefined."""
    values: dict[int, list[float]] = {}
    for step in method.steps:
        values.setdefault(step.depth, []).extend(value for value in step.spearman if value is not None)
    known = {depth: numbers for depth, numbers in sorted(values.items()) if numbers}
    means = [float(np.mean(numbers)) for numbers in known.values()]
    return list(known), means, [min(v) for v in known.values()], [max(v) for v in known.values()]
