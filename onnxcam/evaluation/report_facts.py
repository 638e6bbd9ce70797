"""What the report says of the run in words: how it was made, its errors, why values are missing, what was left out."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from onnxcam.evaluation.collection import Collection, Column, MethodRuns, State
from onnxcam.evaluation.run_record import RunRecord

LISTED = 200
"""Errors and left-out entries that are listed, at most."""


def run_facts(run: RunRecord, collection: Collection) -> list[tuple[str, str]]:
    """What was run, without what is unknown."""
    finished = run.finished or ("stopped before its end" if run.started else "")
    given = {name: value for name, value in run.options.items() if value not in (None, [], ()) and name != "pictures"}
    titles = {runs.method: runs.name for runs in collection.methods}
    if isinstance(given.get("methods"), list | tuple):
        given["methods"] = [titles.get(name, name) for name in given["methods"]]
    options = [(name.replace("_", " "), plain(value)) for name, value in given.items()]
    facts = [
        ("data", " · ".join(word for word in (run.data, run.format) if word)),
        ("pictures", f"{len(collection.pictures):,}"), ("rows", f"{collection.rows:,}"),
        ("preprocessing", _preprocessing(run, collection)), ("started", run.started),
        ("finished", finished), ("engine", run.engine), *options,
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
    ]  # fmt: skip
    return [(name, text) for name, text in facts if text]


def _preprocessing(run: RunRecord, collection: Collection) -> str:
    """What each model's pictures went through and where that came from; the models' names where there are several."""
    several = len(set(collection.setups.values())) > 1
    parts = []
    for setup, name in collection.setups.items():
        how = run.openings.get(setup.opening, {})
        if how.get("preprocessing"):
            doubt = ", assumed: nothing says that it is right" if how.get("assumed") else ""
            parts.append(f"{f'{name}: ' if several else ''}{how['preprocessing']}{doubt}")
    return "; ".join(dict.fromkeys(parts))


def plain(value: Any) -> str:
    """An option's value as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return json.dumps(value, ensure_ascii=False, default=str)


def lists_of(collection: Collection, run: RunRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    """Errors, reasons of undefined values, and what was left out; each with its heading, none that is empty."""
    lists = {
        ("error", "errors"): [*_errors(collection), *_errors_of_metrics(collection)],
        ("reason of undefined values", "reasons of undefined values"): _reasons(collection),
        ("entry of the data was left out", "entries of the data were left out"): list(run.skipped.items()),
    }
    return [(_heading(names, entries), entries[:LISTED]) for names, entries in lists.items() if entries]


def _errors(collection: Collection) -> list[tuple[str, str]]:
    """Pictures with their errors; one that every method of a model has is said once."""
    methods: dict[tuple[int, str], list[MethodRuns]] = {}
    for runs in collection.methods:
        for i, text in runs.errors.items():
            methods.setdefault((i, text), []).append(runs)
    listed = []
    for (i, text), those in methods.items():
        setups = {runs.setup for runs in those}
        everywhere = len(those) == sum(len(collection.methods_of(setup)) for setup in setups)
        names = "" if everywhere else ", ".join(dict.fromkeys(runs.name for runs in those)) + ": "
        listed.append((collection.pictures[i], f"{names}{text}"))
    return listed


def _errors_of_metrics(collection: Collection) -> list[tuple[str, str]]:
    """Pictures with the errors of their metrics; one that several metrics of a method have is said once."""
    measures: dict[tuple[int, str, str], list[str]] = {}
    for name, column in _named(collection):
        for i, text in column.reasons.items():
            if column.states[i] == State.ERROR:
                measures.setdefault((i, name, text), []).append(column.measure.name)
    ordered = sorted(measures.items(), key=lambda entry: entry[0][0])
    return [
        (collection.pictures[i], f"{name} · {', '.join(dict.fromkeys(those))}: {text}")
        for (i, name, text), those in ordered
    ]


def _named(collection: Collection) -> Iterator[tuple[str, Column]]:
    """Each column with the name of its method, behind that of its model where there are several."""
    models = collection.setups if len(collection.setups) > 1 else {}
    names = {
        (runs.setup, runs.method): f"{models[runs.setup]} · {runs.name}" if models else runs.name
        for runs in collection.methods
    }
    return ((names[column.setup, column.method], column) for column in collection.columns)


def _heading(names: tuple[str, str], entries: Sequence[tuple[str, str]]) -> str:
    """names: for one entry, and for several."""
    rest = f", of which {LISTED} are listed" if len(entries) > LISTED else ""
    return f"{len(entries):,} {names[len(entries) > 1]}{rest}"


def _reasons(collection: Collection) -> list[tuple[str, str]]:
    """Why values of each column are undefined, with how often."""
    listed = []
    for name, column in _named(collection):
        counts = Counter(text for i, text in column.reasons.items() if column.states[i] == State.UNDEFINED)
        where = f"{name} · {column.measure.name}"
        listed += [(where, f"{count:,} × {text}") for text, count in counts.items()]  # noqa: RUF001
    return listed
