"""Damaged and forged records of the cache, and damaged graphs. The map must be, to the bit, the one without a cache.

A forged record has the checksum that its content asks for, as somebody would make it who knows the format. Records are
read where no graph is stored, so the graphs are taken away there.
"""

import copy
import functools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.kept import Bounds
from fuzzing.odd import INTEGERS
from fuzzing.odd import TEXTS as ODD
from fuzzing.raw import RAW
from fuzzing.seeds import MODEL, built_in
from fuzzing.subject import Case, Files, Rng, Subject, subject
from fuzzing.verdict import ANSWER, Verdict, Wrong

RECORD, GRAPH = ".json", ".graph"
"""Endings of the files of the cache."""
MODELS = ("cnn", "nhwc", "tokens", "dynamic")


def picture() -> Any:
    y, x = np.mgrid[:20, :24]
    return np.stack([9 * x, 11 * y, 120 + 60 * np.sin(x / 3) + 60 * (y > 10)], -1).clip(0, 255).astype(np.uint8)


def explained(data: bytes, folder: Path | None) -> Any:
    """The raw map and the map of the model's file, with the cache in the folder, or without a cache."""
    from onnxcam import Explainer

    before = os.environ.get("ONNXCAM_CACHE")
    os.environ["ONNXCAM_CACHE"] = str(folder) if folder is not None else "off"
    try:
        with Explainer(data, cache=folder is not None) as explainer:
            saliency = explainer.explain(picture())[0]
    finally:
        os.environ.pop("ONNXCAM_CACHE")
        os.environ |= {"ONNXCAM_CACHE": before} if before is not None else {}
    return np.concatenate([saliency.raw.ravel(), saliency.map.ravel(), [saliency.score]])


def seeds() -> dict[str, Files]:
    """The records and the graphs that an explanation writes, and the model."""
    models = built_in()
    made: dict[str, Files] = {}
    for name in MODELS:
        data = models[name][MODEL]
        with tempfile.TemporaryDirectory() as folder:
            explained(data, Path(folder))
            made[name] = {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}
        made[name][MODEL] = data
    return made


def make(rng: Rng, models: dict[str, Files]) -> Case:
    origin = rng.choice(sorted(models))
    files = dict(models[origin])
    if rng.random() < 0.02:
        return Case(origin, files, must_answer=True)
    graphs = rng.random() < 0.4
    if not graphs:
        files = {name: data for name, data in files.items() if not name.endswith(GRAPH)}
    name = rng.choice(sorted(name for name in files if name.endswith(GRAPH if graphs else RECORD)))
    if not graphs and rng.random() < 0.7:
        files[name], change = forged(rng, files[name], name)
    elif rng.random() < 0.2:
        other = models[rng.choice(sorted(models))]
        source = rng.choice(sorted(each for each in other if each.endswith(GRAPH if graphs else RECORD)))
        files[name], change = other[source], "is that of another model"
    else:
        files[name], change = RAW[rng.choice(sorted(set(RAW) - {"nest_deeply", "nest_types"}))](rng, files[name])
    return Case(origin, files, (f"{name[:8]} {change}",), must_answer=True)


def forged(rng: Rng, data: bytes, name: str) -> tuple[bytes, str]:
    """The record with other values, and the checksum of these if it is to be believed."""
    from onnxcam.network import cache

    values = json.loads(data)
    record = values["record"]
    before = copy.deepcopy(record)
    change = "is forged: " + forged_shapes(rng, record)
    if record == before:
        change = "is as it was"
    if rng.random() < 0.85:
        values["sha256"] = cache._checksum(name.removesuffix(RECORD), record)
    if rng.random() < 0.05:
        values[rng.choice(("format", "sha256", "record"))] = rng.choice((*INTEGERS, *ODD, None, [], {}))
    return json.dumps(values).encode("utf-8", "surrogatepass"), change


def forged_shapes(rng: Rng, record: dict[str, Any]) -> str:
    shapes = record["shapes"]
    how = rng.randrange(8)
    name = rng.choice(sorted(shapes)) if shapes else ""
    if how <= 2 and shapes.get(name):
        shape = shapes[name]
        shape[rng.randrange(len(shape))] = rng.choice((0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 2**31, *INTEGERS))
        return f"{name} {shape}"
    if how == 3 and name:
        shapes[name] = rng.choice(
            ([], [1], [1, 1, 1, 1], shapes[name][::-1], shapes[name] * 20, None, "x", [1.0], [True])
        )
        return f"{name} {str(shapes[name])[:60]}"
    if how == 4 and name:
        del shapes[name]
        return f"lacks {name}"
    if how == 5:
        shapes[rng.choice((*ODD, "x", "y", "c1", "r"))] = [rng.choice((1, 3, 5, 16))] * rng.randrange(5)
        return "has one more shape"
    if how == 6:
        record["mode"] = rng.choice(("dynamic", "rewritten", "fixed", "single", "one by one", "", 1, None, "DYNAMIC"))
        return f"mode {record['mode']!r}"
    record["reason"] = rng.choice((*ODD, "x" * 6000, None, 1, "why"))
    return "another reason"


@functools.cache
def reference(data: bytes) -> Any:
    return explained(data, None)


def check(files: Files, folder: Path) -> Verdict:
    place = folder / "cache"
    place.mkdir(mode=0o700)
    for name, data in files.items():
        if name != MODEL:
            (place / name).write_bytes(data)
    expected, numbers = reference(files[MODEL]), explained(files[MODEL], place)
    if numbers.shape != expected.shape or not np.array_equal(numbers, expected):
        difference = np.abs(numbers - expected).max() if numbers.shape == expected.shape else "another shape"
        raise Wrong("another map than without a cache", difference)
    left = [p.name for p in place.iterdir() if not p.name.endswith((RECORD, GRAPH))]
    if left:
        raise Wrong("leaves temporary files", left)
    return ANSWER


subject(Subject("records", seeds, make, check, Bounds(seconds=40, peak=2**29)))
