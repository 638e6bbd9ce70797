"""report.html: an evaluation as one file that a browser opens without anything else, and that asks nothing of anybody.

`write_report` makes it of the rows. Every number and curve is of all pictures; the gallery shows all of them, or a
sample. The page is a Jinja2 template in report_assets, which escapes what it is given; its script is allowed by its
hash alone, so that no name of a file or class can become code. Control codes, and what else misleads a reader, are
escaped as on a terminal. Jinja2 is of the extra `evaluate`.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.evaluation import report_figures
from onnxcam.evaluation.collection import Collection, State, collect
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.model_request import preprocessing_doubt
from onnxcam.evaluation.report_facts import lists_of, plain, run_facts
from onnxcam.evaluation.report_gallery import MapsOf, gallery, sampled
from onnxcam.evaluation.report_tables import ShownMeasure, ShownSetup, shown_setups
from onnxcam.evaluation.rows import Row
from onnxcam.evaluation.run_record import RunRecord
from onnxcam.evaluation.summary import Summary, summarise
from onnxcam.outputs.atomic import write_together
from onnxcam.outputs.overlay import COLORMAP, colour_table
from onnxcam.outputs.printable import printable

REPORT = "report.html"
ASSETS = Path(__file__).parent / "report_assets"
GALLERY = 200
"""Pictures in the gallery, at most, unless it is chosen."""


def check_jinja2() -> None:
    """Raises OptionError where Jinja2 is not installed."""
    if find_spec("jinja2") is None:
        raise OptionError(f'{REPORT} needs Jinja2, which is not installed: pip install "onnxcam[evaluate]"')


def write_report(
    rows: Iterable[Row] | Collection,
    path: Path | str,
    *,
    against: str | None = None,
    summary: Summary | None = None,
    run: RunRecord | None = None,
    items: Iterable[DataItem] = (),
    maps_of: MapsOf | None = None,
    most: int = GALLERY,
    seed: int = 0,
) -> None:
    """Writes the report atomically. rows: all of them, or a Collection with curves; they are read once.

    against: the method that the others are compared with, as summarise() takes it; or summary: what it gave. items:
    of the data set, for their files and groups. maps_of: gives the maps that were kept. most: pictures of the gallery;
    where there are more, three quarters are the worst, the best and those on which methods disagree, and the rest is
    drawn by the seed. A picture or maps that cannot be read have the reason in their place. Raises OptionError without
    Jinja2, and OutputError for a file that cannot be written.
    """
    check_jinja2()
    collection = rows if isinstance(rows, Collection) else collect(rows, curves=True)
    summary = summary if summary is not None else summarise(collection, against=against, seed=seed)
    html = report_html(collection, summary, run=run, items=items, maps_of=maps_of, most=most, seed=seed)
    write_together({path: html.encode("utf-8", "replace")})


def report_html(
    collection: Collection,
    summary: Summary,
    *,
    run: RunRecord | None = None,
    items: Iterable[DataItem] = (),
    maps_of: MapsOf | None = None,
    most: int = GALLERY,
    seed: int = 0,
) -> str:
    """The report as text; the arguments are those of write_report()."""
    by_key = {item.key: item for item in items}
    shown = sampled(collection, most, seed)
    pictures = gallery(collection, shown, by_key, maps_of)
    run = run or RunRecord()
    setups = shown_setups(collection, summary, {opening: plain(how) for opening, how in run.openings.items()})
    has_maps = any(result and result["maps"] for picture in pictures for result in picture["results"])
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    headline = _headline(collection)
    doubts = [
        preprocessing_doubt(name, run.openings[setup.opening]["preprocessing"])
        for setup, name in collection.setups.items()
        if run.openings.get(setup.opening, {}).get("assumed")
    ]
    context = {
        "doubts": list(dict.fromkeys(doubts)),
        "title": f"{headline} · onnxcam evaluation", "headline": headline, "sentence": _sentence(collection, setups),
        "setups": setups, "run": run, "compared": _compared(summary), "uncompared": _uncompared(summary),
        "size": _size(),
        "has_curves": any(panel.curves for setup in setups for panel in setup.panels),
        "gallery_note": _gallery_note(len(shown), len(collection.pictures), pictures),
        "maps_missing": bool(pictures) and not has_maps,
        "facts": run_facts(run, collection), "lists": lists_of(collection, run), "glossary": _glossary(setups),
        "style": _asset("report.css"), "script_hash": f"sha256-{digest}", "script": script,
        "data": _json({**_models(setups), "pictures": pictures}),
    }  # fmt: skip
    return _render(context)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _render(context: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: printable(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    page: str = environment.get_template("report.html.j2").render(context)
    return page


def _json(content: Mapping[str, Any]) -> str:
    """JSON that may stand in a page: no character in it ends a script, begins a comment, or misleads a reader."""
    text = json.dumps(_printable(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")


def _printable(value: Any) -> Any:
    """The plain value with every text in it printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {name: _printable(part) for name, part in value.items()}
    return [_printable(part) for part in value] if isinstance(value, list | tuple) else value


def _size() -> dict[str, int]:
    """Of a panel of curves, which the template and the script draw alike."""
    names = ("width", "height", "left", "bottom", "top", "right")
    return {name: getattr(report_figures, name.upper()) for name in names}


def _models(setups: Sequence[ShownSetup]) -> dict[str, Any]:
    """What the script knows of methods and measures, and the colours of maps."""
    models = [
        {
            "methods": [
                {"name": m.name, "baseline": m.baseline, "colour": m.colour, "dash": m.dash} for m in setup.methods
            ],
            "measures": [_measure(panel.measure) for panel in setup.panels],
        }
        for setup in setups
    ]
    colours = np.rint(colour_table(COLORMAP)).astype(np.uint8).tobytes()
    return {"models": models, "colours": base64.b64encode(colours).decode(), "size": _size()}


def _measure(measure: ShownMeasure) -> dict[str, Any]:
    names = ("title", "protocol", "options", "unit", "digits", "arrow")
    return {**{name: getattr(measure, name) for name in names}, "better": str(measure.better)}


def _headline(collection: Collection) -> str:
    names = list(dict.fromkeys(collection.setups.values()))
    return names[0] if len(names) == 1 else f"{len(names)} models" if names else "An evaluation"


def _sentence(collection: Collection, setups: Sequence[ShownSetup]) -> str:
    """How much was measured, in words."""
    if not setups:
        return ""
    methods = len({m.key for setup in setups for m in setup.methods if not m.baseline})
    baselines = len({m.key for setup in setups for m in setup.methods if m.baseline})
    measures = len({panel.measure.name for setup in setups for panel in setup.panels})
    what = _count(methods, "method") + (f" and {_count(baselines, 'baseline')}" if baselines else "")
    sentence = f"{what}, measured by {_count(measures, 'metric')} on {_count(len(collection.pictures), 'picture')}."
    undefined = sum(column.count(State.UNDEFINED) for column in collection.columns)
    values = sum(column.count(State.VALUE) for column in collection.columns)
    sentence += f" {_count(values, 'value')}; {undefined:,} undefined"
    errors = sum(column.count(State.ERROR) for column in collection.columns)
    failed = sum(len(runs.errors) for runs in collection.methods)
    parts = [f"{errors:,} without one for an error"] if errors else []
    parts += [f"{_count(failed, 'map')} failed with an error"] if failed else []
    return f"{sentence}; {'; '.join(parts)}." if parts else f"{sentence}, no errors."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _compared(summary: Summary) -> str:
    """The name of the method that differences are to; empty where there is nothing to compare."""
    names = {line.method: line.method_name for line in summary.methods}
    return names.get(summary.against, "") if len(names) > 1 and summary.against_has_values else ""


def _uncompared(summary: Summary) -> str:
    """The name of the method that differences would be to, if it had a value; empty where it has."""
    names = {line.method: line.method_name for line in summary.methods}
    return "" if summary.against_has_values else names.get(summary.against, "")


def _gallery_note(shown: int, count: int, pictures: Sequence[Mapping[str, Any]]) -> str:
    """What the gallery is a sample of, and what its marks mean."""
    marks = "A dot below each is a method's value."
    if any(result and result["agrees"] is False for picture in pictures for result in picture["results"]):
        marks += " A name in red is not the label of the data."
    if shown == count:
        return f"All pictures. {marks}"
    return (
        f"A sample of {shown:,} of the {count:,} pictures: three quarters are the worst and the best of each method by "
        "each metric and those on which the methods disagree most, the rest was drawn at random. Tables and curves are "
        f"of all pictures. {marks}"
    )


def _glossary(setups: Sequence[ShownSetup]) -> list[ShownMeasure]:
    measures = {panel.measure.name: panel.measure for setup in setups for panel in setup.panels}
    return [measure for measure in measures.values() if measure.meaning]
