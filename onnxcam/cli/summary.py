"""Text that the commands print for a reader: an explanation, the shape of a tensor."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.cli.answers import answers_json, short_answers
from onnxcam.cli.printing import json_list, print_lines, shows_logs, wrapped, wrapped_lines

if TYPE_CHECKING:
    from onnxcam.metrics.measurement import Measurement
    from onnxcam.outputs.saliency import Channels, Provenance, Saliency, ScoredTarget


MARGIN = 16
"""Columns that the summary's first words take."""
SHOWN_SHARE = 0.005
"""A smaller share of the picture rounds to 0 %."""

Show = Callable[
    [
        "Sequence[Saliency]",
        Sequence[Mapping[str, Path]],
        "Sequence[Mapping[str, Measurement]]",
        "Sequence[ScoredTarget]",
    ],
    None,
]
"""Called with the maps of a picture, the files and the metrics of each map, and the model's best answers."""


@dataclass(frozen=True)
class Shows:
    """How a picture is shown that is the only one of its call, and how each of several is."""

    single: Show
    several: Show


@contextmanager
def printer(*, json: bool, quiet: bool) -> Iterator[Shows]:
    """Prints each picture's explanations as they come: records in a JSON list, or words, or nothing.

    Words are a summary of a single picture, and a line of each of several, unless -v asks for the summary of each.
    """
    if json:
        with json_list() as add:
            show = show_records(add)
            yield Shows(show, show)
    elif quiet:
        yield Shows(_show_nothing, _show_nothing)
    else:
        yield Shows(show_summary, show_summary if shows_logs() else show_lines())


def show_summary(
    saliencies: "Sequence[Saliency]",
    files: Sequence[Mapping[str, Path]],
    metrics: "Sequence[Mapping[str, Measurement]]",
    answers: "Sequence[ScoredTarget]",
) -> None:
    """Shows all that is known of each map."""
    print_lines(
        line
        for number, (one, paths, measured) in enumerate(zip(saliencies, files, metrics, strict=True))
        for line in summary(one, [*map(str, paths.values())], measured, answers if number == 0 else ())
    )


def show_lines() -> Show:
    """Shows a line of each picture, and every note once."""
    from onnxcam.cli.picture_lines import PictureLines

    lines = PictureLines()
    return lambda saliencies, files, metrics, answers: print_lines(lines.of(saliencies, files, metrics))


def _show_nothing(*_: object) -> None:
    pass


def show_records(add: Callable[[Sequence[Mapping[str, Any]]], None]) -> Show:
    """Shows explanations as records. add: prints some."""
    from onnxcam.outputs.record import record

    return lambda saliencies, files, metrics, answers: add(
        [
            {
                **record(one, paths.values(), metrics=measured),
                **({"answers": answers_json(answers)} if answers else {}),
            }
            for one, paths, measured in zip(saliencies, files, metrics, strict=True)
        ]
    )


def summary(
    saliency: "Saliency",
    outputs: Sequence[str],
    metrics: "Mapping[str, Measurement]",
    answers: "Sequence[ScoredTarget]" = (),
) -> list[str]:
    """The lines of one explanation: its files, target, layer, method and metrics, and where each choice came from.

    answers: the best classes, which the first map of a picture lists.
    """
    provenance = saliency.provenance
    options = ", ".join(f"{k} {v}" for k, v in provenance.options.items() if v is not None and k != "fill")
    lines = [_target_line(saliency)]
    if answers:
        lines.append(f"  best classes  {short_answers(answers)}")
    if saliency.target.box is not None:
        lines.append(
            f"  box           {', '.join(f'{side:.1f}' for side in saliency.target.box)} (left, top, right, bottom)"
        )
    if _has(provenance.method, "layer"):
        lines += _layer_lines(provenance)
    removed = f"removed pixels: {provenance.fill}" if _has(provenance.method, "fill") else ""
    how = "; ".join(filter(None, (options, removed)))
    lines += [
        f"  method        {provenance.method}{': ' if how else ''}{how}",
        f"  provider      {provenance.provider}",
        f"  preprocessing {_preprocessing(saliency)}",
    ]
    hidden = saliency.placement.hidden if saliency.placement is not None else 0.0
    if hidden >= SHOWN_SHARE:
        lines.append(f"  crop          hid {hidden:.0%} of the picture; --whole explains all of it")
    if provenance.channels is not None:
        lines.append(_channels_line(provenance.channels))
    if provenance.error is not None:
        lines.append(
            f"  error         {provenance.error:.2g} at most in 9 of 10 cases (root mean square, the map is 0 to 1)"
        )
    passes = provenance.forwards + provenance.steps
    steps = f", {provenance.steps} with a gradient" if provenance.steps else ""
    lines.append(
        f"  time          {provenance.seconds:.2f} s, {passes} forward pass{'es' if passes != 1 else ''}{steps}, "
        f"batch {provenance.batch}"
    )
    notes = [f"  note          {note}" for note in provenance.notes]
    return [
        f"{provenance.image} -> {', '.join(outputs)}{_assumed(saliency)}",
        *wrapped_lines(lines, MARGIN),
        *metric_lines(metrics),
        *wrapped_lines(notes, MARGIN),
    ]


def metric_lines(metrics: "Mapping[str, Measurement]") -> list[str]:
    """A line of each metric: name, value, which way is better, protocol; or why it has no value."""
    if not metrics:
        return []
    from onnxcam.metrics.metric import Better
    from onnxcam.metrics.registry import METRICS

    higher, lower = better_marks()
    marks = {Better.HIGHER: higher, Better.LOWER: lower, Better.NEITHER: " "}
    names = {name: name.partition(":")[0].replace("_", "-") for name in metrics}
    width = max(map(len, names.values()))
    lines = []
    for name, one in metrics.items():
        metric = METRICS[one.metric]
        if one.value is None:
            lines += wrapped(f"{names[name]:{width}}        -  ", f"undefined: {one.reason}", margin=MARGIN)
        else:
            value = f"{metric_value(one.value, metric.unit):>8} {metric.unit:1} {marks[metric.better]}"
            lines.append(f"{names[name]:{width}} {value}  {one.protocol or _beside(one)}".rstrip())
    for note in dict.fromkeys(one.note for one in metrics.values() if one.note is not None):
        lines += wrapped("note: ", note, margin=MARGIN)
    passes, seconds = sum(one.passes for one in metrics.values()), sum(one.seconds for one in metrics.values())
    lines.append(
        f"({marks[Better.HIGHER]} higher is better, {marks[Better.LOWER]} lower; {passes} forward "
        f"pass{'es' if passes != 1 else ''}, {seconds:.2f} s)"
    )
    return [f"{'  metrics' if i == 0 else '':{MARGIN}}{line}" for i, line in enumerate(lines)]


def _beside(one: "Measurement") -> str:
    """What stands beside the value of a metric without protocols: how often a map of ones it is."""
    ratio = one.options.get("ratio") if one.metric == "energy_pointing_game" else None
    return f"{ratio:.2f} x the box's share" if ratio is not None else ""


def better_marks() -> tuple[str, str]:
    """What stands for higher and for lower is better: arrows, or signs where standard output has none."""
    arrows = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"
    return arrows if _prints("".join(arrows)) else ("+", "-")


def metric_value(value: float, unit: str) -> str:
    """A metric's value without its unit: 12.93 of %, else 0.2275."""
    if unit:
        return f"{value:.2f}"
    # Four decimals, unless they would all be zero.
    return f"{value + 0.0:.4f}" if value == 0 or abs(value) >= 1e-4 else f"{value:.1e}"  # + 0.0: no minus at zero


def _prints(text: str) -> bool:
    """Whether standard output has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _layer_lines(provenance: "Provenance") -> list[str]:
    """A line of each layer, and one that says that their maps were fused."""
    if not provenance.layers:
        return [f"  layer         {provenance.layer} ({_maps(provenance.features)}): {provenance.layer_reason}"]
    lines = [f"  layer         {layer.tensor} ({_maps(layer.features)}): {layer.reason}" for layer in provenance.layers]
    return [*lines, f"                fused: the mean of the {len(lines)} maps"]


def shape_text(shape: Sequence[int | None] | None) -> str:
    """1x1280x7x7, with ? for a dimension that the graph leaves open."""
    return "x".join("?" if d is None else str(d) for d in shape) if shape is not None else "unknown shape"


def _maps(features: Sequence[int]) -> str:
    return f"{features[0]} maps of {shape_text(features[1:])}"


def _channels_line(channels: "Channels") -> str:
    estimated = f", {channels.estimated} estimated" if channels.estimated else ""
    return f"  channels      {channels.scored} scored{estimated}, {channels.skipped} skipped (constant over space)"


def _has(name: str, what: str) -> bool:
    """Whether a method reads a layer, or fills what it removes. An unknown method is taken to do both."""
    from onnxcam.methods import METHODS, defaults
    from onnxcam.methods.blocks import Need

    if name not in METHODS:
        return True
    return Need.FEATURES in METHODS[name]().needs if what == "layer" else "fill" in defaults(name)


def _assumed(saliency: "Saliency") -> str:
    """The end of the first line, where preprocessing_doubt() has something."""
    doubt = preprocessing_doubt(saliency)
    return f" ({doubt})" if doubt else ""


def preprocessing_doubt(saliency: "Saliency") -> str:
    """What to say where the preset is only assumed, or an array that came preprocessed is doubtful; '' elsewhere."""
    from onnxcam.outputs.captions import is_doubtful_array
    from onnxcam.types import Source

    provenance = saliency.provenance
    if is_doubtful_array(saliency):
        return "its numbers are those of a picture; if it is not preprocessed, the map is wrong: see the note"
    if provenance.preset_origin.source is not Source.ASSUMED:
        return ""
    return f"preprocessing assumed: {provenance.preset.name}; if that is wrong, so is the map: --preset"


def _preprocessing(saliency: "Saliency") -> str:
    from onnxcam.types import Source

    provenance = saliency.provenance
    if saliency.placement is None and provenance.preset_origin.source is Source.PREPARED:
        return "none: the array is taken as it is"
    return f"{provenance.preset.name} ({provenance.preset_origin})"


def _target_line(saliency: "Saliency") -> str:
    target, provenance = saliency.target, saliency.provenance
    label = f" {target.name}" if target.label is not None or target.side is not None else ""
    if provenance.activation == "probability":
        activation = "as the model returns it"
    elif provenance.activation != "none":
        activation = f"the model's {provenance.activation}"
    else:
        activation = "sigmoid of the logit" if target.side is not None else "softmax of the logits"
    # Four decimals, unless they would all be zero.
    shown = f"{target.probability:.4f}" if target.probability >= 1e-4 else f"{target.probability:.1e}"
    if target.kind == "classes":
        names = "" if label else " (no names: --labels FILE)"
        return f"  class         {target.index}{label}{names}, probability {shown} ({activation})"
    if target.kind == "sequence":
        mean = "" if isinstance(target.step, int) else "mean "
        where = "" if target.step is not None else f" where it is the best class, {target.index}"
        return f"  sequence      {target.name}{where}, {mean}probability {shown} ({activation})"
    if target.kind == "region" and target.is_probability:
        where = "over the region" if target.where is not None else "where it is predicted"
        return f"  class         {target.index}{label} {where}, mean probability {target.probability:.4f}"
    return f"  target        {target.name}, {target.logit:.6g}"
