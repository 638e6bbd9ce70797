"""Measures methods and baselines on photographs, and prints the tables of docs/metrics.md.

    python tools/metric_tables.py PICTURES [--boxes FILE] [--model FILE] [--methods A,B] [--json FILE] [--markdown FILE]

Every method explains every picture for one class: that of the picture in the file of boxes, else the predicted one.
Each map is measured with the metrics below; so are two maps that know nothing of the model, the map of ones and a
centred Gaussian. A row of the JSON is one picture, method, metric and protocol. The tables hold means with 95 %
bootstrap intervals, and differences to the first method over the same pictures. The file of boxes has "images", a box
(left, top, right, bottom) in pixels and a class_index for each file's name. Rows that are in the JSON already are kept,
so that a run that was stopped goes on.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from onnxcam import Explainer
from onnxcam.evaluation.statistics import Estimate, mean_with_interval, paired_difference
from onnxcam.inputs.bundled import model as embedded_model
from onnxcam.inputs.images import find_pictures
from onnxcam.metrics.baselines import BASELINES
from onnxcam.metrics.registry import METRICS, measure, metric_named
from onnxcam.types import Image, Map

METHODS = ("score-cam", "grad-cam", "grad-cam++", "rise", "mask", "opti-cam")
SLIDES = (
    "average-drop:mult",
    "average-increase:mult",
    "average-gain:mult",
    "average-drop:half",
    "average-increase:half",
)
CURVES = ("insertion:blur-rise", "deletion:zero", "insertion:blur-gaussian", "deletion:blur-gaussian")
OTHERS = ("road", "faithfulness_correlation", "adcc", "sparseness")
BOXES = ("energy_pointing_game", "pointing_game:15px", "pointing_game:exact")
TABLES = {
    "Average drop, increase and gain": SLIDES,
    "Insertion and deletion": CURVES,
    "Imputation, correlation, complexity": OTHERS,
    "Where the object is": BOXES,
}
Row = dict[str, Any]


def main() -> None:
    arguments = _arguments()
    rows: list[Row] = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else []
    boxes = json.loads(arguments.boxes.read_text())["images"] if arguments.boxes else {}
    names = (*arguments.methods.split(","), *BASELINES)
    pictures = find_pictures(arguments.pictures)
    for name in names:
        finished = {row["picture"] for row in rows if row["method"] == name}
        left = [p for p in pictures if p.name not in finished]
        method = name if name not in BASELINES else "grad-cam"
        with Explainer(arguments.model or embedded_model(), method, providers=["cpu"]) as explainer:
            for picture in track(left, name, disable=arguments.quiet):
                rows += _measured(explainer, name, picture, boxes.get(picture.name))
                if arguments.json:
                    arguments.json.write_text(json.dumps(rows, indent=1))
    text = "\n".join(_tables(rows, names))
    if arguments.markdown:
        arguments.markdown.write_text(text + "\n")
    print(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures methods and baselines on photographs.")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--boxes", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--quiet", action="store_true")
    return parser.parse_args()


def _measured(explainer: Explainer, name: str, picture: Path, known: Mapping[str, Any] | None) -> Iterator[Row]:
    """The rows of one picture. known: the object's box and class, None if they are not known."""
    target = known["class_index"] if known is not None else None
    scorer = explainer.scorer(picture, [target])
    start = time.perf_counter()
    saliency_map = BASELINES[name](scorer.size) if name in BASELINES else explainer(picture, target).map
    seconds = time.perf_counter() - start

    def explain(image: Image) -> Map:
        return saliency_map if name in BASELINES else explainer(image, scorer.targets[0]).map

    for metric in (*SLIDES, *CURVES, *OTHERS, *(BOXES if known is not None else ())):
        box = tuple(known["box"]) if known is not None else None
        measured = measure(metric, saliency_map, scorer, box=box, placement=scorer.placement, explain=explain)
        yield {
            "picture": picture.name, "method": name, "target": scorer.targets[0].index,
            "target_is": "label" if known is not None else "prediction", "p": float(scorer.whole[0]),
            "metric": metric, "value": measured.value, "reason": measured.reason, "seconds": seconds,
            "options": dict(measured.options),
        }  # fmt: skip


def _tables(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """The Markdown tables: a mean and its interval, and below the difference to the first method."""
    for title, metrics in TABLES.items():
        yield f"**{title}**\n"
        yield "| method | " + " | ".join(f"{m} {_arrow(m)}" for m in metrics) + " |"
        yield "|---|" + "---|" * len(metrics)
        for name in names:
            yield f"| {name} | " + " | ".join(_cell(rows, name, names[0], metric) for metric in metrics) + " |"
        yield ""


def _cell(rows: Sequence[Row], name: str, first: str, metric: str) -> str:
    values, reference = _values(rows, name, metric), _values(rows, first, metric)
    defined = [v for v in values.values() if v is not None]
    estimate = mean_with_interval(defined)
    if estimate is None:
        return "undefined"
    text = _shown(estimate)
    undefined = len(values) - len(defined)
    text += f", {undefined} undefined" if undefined else ""
    if name == first:
        return text
    shared = sorted(values.keys() & reference.keys())
    pairs = [[np.nan if of[k] is None else of[k] for k in shared] for of in (values, reference)]
    difference = paired_difference(*pairs)
    if difference is None:
        return text
    clear = "" if difference.low <= 0 <= difference.high else "**"
    return f"{text}<br>{clear}{difference.mean:+.3g}{clear} ({difference.low:+.3g} to {difference.high:+.3g})"


def _shown(estimate: Estimate) -> str:
    return f"{estimate.mean:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def _values(rows: Sequence[Row], name: str, metric: str) -> dict[str, float | None]:
    return {row["picture"]: row["value"] for row in rows if row["method"] == name and row["metric"] == metric}


def _arrow(metric: str) -> str:
    return {"higher": "↑", "lower": "↓", "neither": ""}[METRICS[metric_named(metric)[0].name].better]


if __name__ == "__main__":
    main()
