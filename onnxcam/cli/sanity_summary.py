"""What `onnxcam sanity` prints for a reader, in 80 columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.cli.printing import wrapped

if TYPE_CHECKING:
    from onnxcam.evaluation.sanity_report import SanityReport, Spread

MOST_PICTURES = 8
"""Pictures whose targets are printed."""
MARGIN = "  "
LEGEND = (
    "Spearman (mean, range) and HOG say how alike the maps are before and after; 1 is the same. Other pictures and "
    "classes: how alike the intact model's maps are of these, for comparison; high means much the same map for any."
)


def sanity_lines(report: "SanityReport", files: Sequence[Path]) -> list[str]:
    """The report: preprocessing, targets, a table of the methods, what it means, notes, files."""
    lines = [*_head(report), *_targets(report), *_table(report)]
    for method in report.methods:
        lines += wrapped(f"{MARGIN}{method.method}: ", method.reason)
    lines += [*wrapped(f"{MARGIN}legend: ", LEGEND), *wrapped(f"{MARGIN}rule: ", report.rule)]
    left_out = {reason: None for method in report.methods for reason in method.left_out if reason is not None}
    notes = [*_undefined(report), *report.notes, *(f"a picture is left out: {reason}" for reason in left_out)]
    for note in notes:
        lines += wrapped(f"{MARGIN}note: ", note)
    return [*lines, *(f"{MARGIN}-> {path}" for path in files)]


def _head(report: "SanityReport") -> list[str]:
    from onnxcam.evaluation.sanity_report import counted
    from onnxcam.types import Source

    options, models = report.options, len(report.methods[0].steps)
    seeds = ", ".join(map(str, options.seeds))
    lines = [
        report.model,
        f"{MARGIN}{counted(len(report.pictures), 'picture')}, {counted(report.layers, 'layer')}, "
        f"{counted(models, 'model')} with weights drawn again",
        f"{MARGIN}{options.order}, {options.redraw}, seed{'s' if len(options.seeds) > 1 else ''} {seeds}",
    ]
    preset, origin = report.preset, report.preset_origin
    if preset is None or origin is None:
        return lines
    if origin.source is Source.ASSUMED:
        text = f"{preset.name}; if that is wrong, so is every map: --preset"
        return [*lines[:1], *wrapped(f"{MARGIN}preprocessing assumed: ", text), *lines[1:]]
    shown = "none: arrays are taken as they are" if origin.source is Source.PREPARED else f"{preset.name} ({origin})"
    return [*lines, *wrapped(f"{MARGIN}preprocessing: ", shown)]


def _targets(report: "SanityReport") -> list[str]:
    """What is explained of each picture: by every method the same, where it has a map."""
    from onnxcam.outputs.captions import target_text

    lines = []
    for k, name in enumerate(report.pictures[:MOST_PICTURES]):
        target = next((each.targets[k] for each in report.methods if each.targets[k] is not None), None)
        lines.append(f"{MARGIN}{name}: {target_text(target) if target is not None else 'no map'}")
    more = len(report.pictures) - MOST_PICTURES
    return [*lines, f"{MARGIN}... and {more} more (--json has all)"] if more > 0 else lines


def _table(report: "SanityReport") -> list[str]:
    wide = max(len(method.method) for method in report.methods) + 1
    start = f"{MARGIN}{'':{wide}}{'':10}{'':23}{'':6}"
    lines = [
        f"{start}{'other':9}other",
        f"{MARGIN}{'method':{wide}}{'verdict':10}{'Spearman':23}{'HOG':6}{'pictures':9}classes",
    ]
    lines += [
        f"{MARGIN}{method.method:{wide}}{method.verdict:10}{_range(method.spearman):23}{_number(method.hog):6}"
        f"{_number(method.null):9}{_number(method.other_classes)}"
        for method in report.methods
    ]
    return lines


def _undefined(report: "SanityReport") -> list[str]:
    """How many similarities each method lacks."""
    spreads = {method.method: method.spearman for method in report.methods if method.spearman.undefined}
    return [
        f"{name}: {one.undefined} of {one.count + one.undefined} maps are undefined" for name, one in spreads.items()
    ]


def _number(spread: "Spread | None") -> str:
    return "-" if spread is None or spread.mean is None else f"{spread.mean + 0.0:.2f}"


def _range(spread: "Spread") -> str:
    if spread.mean is None:
        return "undefined"
    return f"{spread.mean:.2f} ({spread.lowest:.2f} to {spread.highest:.2f})"
