"""Benchmark of several pictures whose masks share forward passes, against the same pictures one by one.

    python tools/benchmarks/several_pictures.py PICTURES --json several_pictures.json

Makes a row for each method and option, on EfficientNet-Lite0 or `--model`: seconds one by one over seconds in groups.
The pictures are read, and their first forward passes are run, before the time is taken. Every round measures both ways,
which take turns at going first. The row's note has the masks a run too.

The rows `threads` compare 2, 4 and 8 threads that share an Explainer with one thread: seconds, and processor time.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.progress import track
from table import Row, Rows, row, save, show

from onnxcam import Explainer, Method, rise, score_cam
from onnxcam.engine.session import Session
from onnxcam.errors import OnnxCamError
from onnxcam.explainer.prefetch import grouped
from onnxcam.explainer.results import ForwardPass
from onnxcam.inputs.bundled import model as embedded_model
from onnxcam.inputs.images import find_pictures
from onnxcam.methods.score_cam import FAST

CASES: dict[str, tuple[Method, dict[str, Any]]] = {
    "exact Score-CAM": (score_cam(), {}),
    "30 masks of RISE": (rise(masks=30), {}),
    "Score-CAM --fast": (score_cam(tolerance=FAST), {}),
    "Score-CAM --fast --batch 16": (score_cam(tolerance=FAST), {"batch": 16}),
    "Score-CAM --fast --batch 64": (score_cam(tolerance=FAST), {"batch": 64}),
}
THREADS = (2, 4, 8)


class RunCounter:
    """Counts the runs of every onnxruntime session while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "RunCounter":
        counter, original = self, Session.run

        def run(session: Session, *arguments: Any, **named: Any) -> Any:
            counter.count += 1
            return original(session, *arguments, **named)

        self._patch = patch.object(Session, "run", run)
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


def one_by_one(explainer: Explainer, forward_passes: Sequence[ForwardPass]) -> int:
    """Explains one picture after another. Returns the number of images that were run."""
    return sum(forwards_of(explainer, [one]) for one in forward_passes)


def in_groups(explainer: Explainer, forward_passes: Sequence[ForwardPass]) -> int:
    """Explains groups of pictures, whose masks share runs. Returns the number of images that were run."""
    return sum(forwards_of(explainer, group) for group in grouped(forward_passes, explainer._batch_hint))


def forwards_of(explainer: Explainer, group: Sequence[ForwardPass]) -> int:
    """Explains pictures in one batch. Returns the number of images that were run."""
    images = 0
    for saliencies in explainer._explain_batch(group, [(None,)] * len(group)):
        if isinstance(saliencies, OnnxCamError):
            raise saliencies
        images += saliencies[0].provenance.forwards
    return images


def measure(name: str, model: Path, pictures: Sequence[Path], rounds: int) -> Row:
    """The row of one case."""
    method, options = CASES[name]
    ways = {"one by one": one_by_one, "in groups": in_groups}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    sizes: dict[str, float] = {}
    with Explainer(model, method, providers=["cpu"], **options) as explainer:
        forward_passes = [explainer._forward(picture) for picture in pictures]
        for way, explain_all in ways.items():  # this first round warms up, and counts
            with RunCounter() as runs:
                images = explain_all(explainer, forward_passes)
            sizes[way] = (images - len(forward_passes)) / runs.count
        for i in track(range(rounds), name, transient=True):
            for way in list(ways) if i % 2 else list(ways)[::-1]:
                start = time.perf_counter()
                ways[way](explainer, forward_passes)
                seconds[way].append(time.perf_counter() - start)
        group_size = explainer._batch_hint
    ratios = [a / b for a, b in zip(seconds["one by one"], seconds["in groups"], strict=True)]
    masks = ", ".join(f"{size:.1f} {way}" for way, size in sizes.items())
    note = f"{len(pictures)} pictures in groups of {group_size}; masks a run: {masks}"
    return row(f"{name}: one by one / in groups, seconds", ratios, "", note)


def measure_threads(model: Path, pictures: Sequence[Path], rounds: int) -> Rows:
    """Rows of seconds and of processor time: in several threads over one after another, by `--fast`."""
    ratios: dict[int, list[tuple[float, float]]] = {threads: [] for threads in THREADS}
    with Explainer(model, score_cam(tolerance=FAST), providers=["cpu"]) as explainer:
        forward_passes = [explainer._forward(picture) for picture in pictures]

        def explain(one: ForwardPass) -> int:
            return forwards_of(explainer, [one])

        def timed(threads: int) -> tuple[float, float]:
            start = time.perf_counter(), time.process_time()
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(explain, forward_passes))
            return time.perf_counter() - start[0], time.process_time() - start[1]

        timed(1)  # warms up
        for _ in track(range(rounds), "threads", transient=True):
            alone = timed(1)
            for threads in THREADS:
                shared = timed(threads)
                ratios[threads].append((shared[0] / alone[0], shared[1] / alone[1]))
    units = ("seconds", "processor time")
    note = f"{len(pictures)} pictures, tolerance {FAST}"
    return [
        row(f"{threads} threads / one after another, {unit}", [pair[i] for pair in ratios[threads]], "", note)
        for threads in THREADS
        for i, unit in enumerate(units)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder of photographs")
    parser.add_argument("--model", type=Path, help="default: the embedded EfficientNet-Lite0")
    parser.add_argument("--count", type=int, default=8, help="how many of the folder's pictures")
    parser.add_argument("--only", choices=[*CASES, "threads"], help="one case alone")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each case")
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    model = arguments.model or Path(str(embedded_model()))
    pictures = find_pictures(arguments.pictures)[: arguments.count]
    rows: Rows = []
    for name in CASES:
        if arguments.only in (None, name):
            rows.append(measure(name, model, pictures, arguments.rounds))
            save(rows, arguments.json)
    if arguments.only in (None, "threads"):
        rows += measure_threads(model, pictures, arguments.rounds)
        save(rows, arguments.json)
    show(rows)


if __name__ == "__main__":
    main()
