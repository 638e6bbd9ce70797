"""A long evaluation of a tiny model: what the journal costs a row, memory along the way, and how soon a rerun starts.

    python tools/benchmarks/journal.py [--pictures N] [--workers N] [--json FILE]

N small pictures, 3 methods and 8 metrics with a network of two convolutions, so that the journal's share is as large as
it gets. The journal's seconds are those of all its calls: hashes of files, plans, commits, and rows read back. The last
picture is missing at the first rerun, which ends when it begins to be computed; at the second rerun all is there, and
it ends with the last row. Memory is read from /proc, so this runs on Linux.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from PIL import Image
from table import Rows, row, save, show

from onnxcam.evaluation import evaluate as driver
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.journal import NAME, Journal
from onnxcam.evaluation.model_request import ModelRequest
from onnxcam.evaluation.pace import EvaluationProgress
from onnxcam.evaluation.rows import ItemResult, RowKey

TINY = """
<ir_version: 8, opset_import: ["" : 17]>
tiny (float[N,3,8,8] x) => (float[N,5] logits)
<float[4,3,3,3] w, float[4,4,3,3] v, float[5,4] u>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
  r = Relu (c)
  d = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r, v)
  features = Relu (d)
  pooled = GlobalAveragePool (features)
  flat = Flatten (pooled)
  logits = Gemm <transB=1> (flat, u)
}
"""
METHODS = ("grad-cam", "layer-cam", "eigen-cam")
METRICS = (
    "deletion", "deletion:mean", "insertion", "average-drop", "average-increase", "average-gain", "adcc", "sparseness",
)  # fmt: skip
STEP = 16
"""Pixels a step of the curves: four steps."""
CALLS = ("sha256", "plan", "add", "rows_at")
POINTS = 10
"""Readings of the memory, after a tenth of the pictures and so on."""


class TimedJournal(Journal):
    """Adds up the seconds of the calls by which a run uses it."""

    seconds = 0.0

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in CALLS:
            return value

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return value(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


class Begun(Exception):
    """A picture begins to be computed."""


class Stopping(Evaluator):
    """Computes nothing."""

    def evaluate(self, item: DataItem, picture_sha256: str, only: Collection[RowKey] | None = None) -> ItemResult:
        raise Begun


def tiny_model(path: Path) -> Path:
    model = onnx.parser.parse_model(TINY)
    generator = np.random.default_rng(0)
    for info in model.graph.value_info:  # where the parser leaves tensors without values
        array = generator.standard_normal([dim.dim_value for dim in info.type.tensor_type.shape.dim]).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    del model.graph.value_info[:]
    onnx.save(model, path)
    return path


def small_pictures(folder: Path, count: int) -> DataSet:
    """Noise of 16 x 16 pixels, whose files were written long ago."""
    generator, items = np.random.default_rng(1), []
    folder.mkdir()
    for i in range(count):
        path = folder / f"{i:06}.png"
        Image.fromarray(generator.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(path)
        os.utime(path, (1e9, 1e9))
        items.append(DataItem(path, path.name))
    return DataSet("noise", "folder", tuple(items))


def memory() -> float:
    """MB of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def evaluator(kind: type[Evaluator]) -> Iterator[None]:
    before = driver.Evaluator
    driver.Evaluator = kind
    try:
        yield
    finally:
        driver.Evaluator = before


def measure(count: int, workers: int, folder: Path) -> Rows:
    data = small_pictures(folder / "pictures", count)
    model = ModelRequest(tiny_model(folder / "tiny.onnx"), {"providers": ["cpu"], "threads": 1, "cache": False})
    options: dict[str, Any] = {"baselines": (), "step": STEP, "workers": workers}
    curve: list[float] = []

    def note_memory(progress: EvaluationProgress) -> None:
        if progress.picture and progress.done % max(1, count // POINTS) == 0:
            curve.append(memory())

    start = time.perf_counter()
    with TimedJournal(folder / "results" / NAME) as journal:
        first = replace(data, items=data.items[:-1])
        rows = driver.evaluate(model, first, METHODS, METRICS, store=journal, progress=note_memory, **options)
        stored = sum(1 for _ in rows)
        seconds = journal.seconds
    whole = time.perf_counter() - start
    size = (folder / "results" / NAME).stat().st_size

    start = time.perf_counter()
    with evaluator(Stopping), Journal(folder / "results" / NAME) as journal:
        try:
            next(driver.evaluate(model, data, METHODS, METRICS, store=journal, **options))
        except Begun:
            starts = time.perf_counter() - start
    start = time.perf_counter()
    again = sum(1 for _ in driver.evaluate(model, first, METHODS, METRICS, store=folder / "results", **options))
    walked = time.perf_counter() - start
    if again != stored:
        raise AssertionError(f"the rerun gave {again} rows, and {stored} are stored")
    each = f"{count:,} pictures, {len(METHODS)} methods x {len(METRICS)} metrics, {workers} workers"
    settled = curve[1:] or curve  # the first tenth fills caches
    memories = "MB: " + " ".join(f"{point:.0f}" for point in curve)
    return [
        row("journal, ms a row", [1e3 * seconds / stored], "<= 1", each),
        row("journal, share of the run", [seconds / whole], "", f"{whole / count * 1e3:.1f} ms a picture"),
        row("journal, bytes a row", [size / stored], "", f"{size / 1e6:.0f} MB"),
        row("rerun until the missing picture begins, s", [starts], "<= 2"),
        row("rerun of what is there, with all rows, s", [walked], "", f"{stored:,} rows"),
        row("memory at the end / after the second tenth", [settled[-1] / settled[0]], "<= 1.1", memories),
    ]  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.pictures, arguments.workers, Path(folder))
    show(rows)
    save(rows, arguments.json)


if __name__ == "__main__":
    main()
