"""Benchmark of time against quality: every method of onnxcam, pytorch-grad-cam and TorchCAM on one picture.

    pip install ".[bench]"
    python tools/benchmarks/methods.py --json methods.json --figure methods.png

The network is EfficientNet-Lite0 with its ImageNet weights, the picture `coffee`, the class `espresso`, of which the
network is sure. Every method has its default options, one thread and a process of its own (method_workers.py). Quality
is measured alike for all tools, on onnxcam's session: Pearson correlation with the exact map of Score-CAM, and the
areas under deletion and insertion. One picture says how a method behaves there, not which method is better. A method
that cannot run, or that takes many times as long as Score-CAM, is a row without a value.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from method_workers import NETWORK, Map
from speed_workers import Case
from table import Row, Rows, row, save, show

from onnxcam import METHODS, Explainer, Scorer
from onnxcam.metrics.curves import deletion, insertion

PICTURE = "coffee"
EXACT = ("onnxcam", "score-cam")
"""The first to run: all maps are compared with its map."""
PEERS = {
    "pytorch-grad-cam": (
        "pytorch_grad_cam", "GradCAM GradCAMPlusPlus LayerCAM HiResCAM XGradCAM GradCAMElementWise ShapleyCAM FinerCAM "
        "EigenCAM EigenGradCAM KPCA_CAM FEM AblationCAM ScoreCAM",
    ),
    "TorchCAM": (
        "torchcam", "CAM GradCAM GradCAMpp LayerCAM XGradCAM SmoothGradCAMpp ScoreCAM ISCAM SSCAM",
    ),
}  # fmt: skip
"""The module of each peer, and the classes that explain one convolution's output without further networks."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LONG = {("TorchCAM", "ISCAM"): 10, ("TorchCAM", "SSCAM"): 35}
"""Methods that score every channel so many times. They run with --long alone."""


def subjects() -> Iterator[tuple[str, str]]:
    """(tool, method), the exact Score-CAM first."""
    yield EXACT
    yield "onnxcam", "score-cam --fast"
    yield from (("onnxcam", name) for name in METHODS if name != EXACT[1])
    yield from ((tool, name) for tool, (_, names) in PEERS.items() for name in names.split())


def why_not(tool: str, method: str, long: bool) -> str | None:
    """Why this is not measured; None if it is."""
    if tool in PEERS and find_spec(PEERS[tool][0]) is None:
        return f"{tool} is not installed"
    if (tool, method) in LONG and not long:
        return f"takes {LONG[tool, method]} times as many forward passes as its Score-CAM; --long measures it"
    return None


def drawn_by(tool: str, method: str, folder: Path) -> tuple[Map | None, dict[str, Any], str]:
    """The map of a new process, what it took, and the last line of its errors if there is no map."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "map.npy"
        worker = Path(__file__).with_name("method_workers.py")
        command = [sys.executable, worker, folder, tool, method, file]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD)
        if done.returncode:
            return None, {}, done.stderr.strip().rpartition("\n")[2] or f"ended with {done.returncode}"
        return np.load(file), json.loads(done.stdout.splitlines()[-1]), ""


def quality(drawn: Map, exact: Map, scorer: Scorer) -> Mapping[str, float | None]:
    """Pearson correlation with the exact map, and the areas under both curves; None where one is undefined."""
    full = cv2.resize(drawn, exact.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return {
        "pearson": correlation(full, exact), "insertion": insertion(scorer, full).value,
        "deletion": deletion(scorer, full).value,
    }  # fmt: skip


def correlation(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float | None:
    if not one.std() or not other.std():
        return None
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def row_of(tool: str, method: str, times: Mapping[str, Any], numbers: Mapping[str, float | None], note: str) -> Row:
    """A row of seconds, with fields of its own: tool, method, first, processor (seconds) and the qualities."""
    if times:
        note = ", ".join(f"{name} {value:.3f}" for name, value in numbers.items() if value is not None)
    spent = statistics.median(times["processor"]) if times else None
    more = {"tool": tool, "method": method, "first": times.get("first"), "processor": spent}
    return {**row(f"{tool}: {method}, seconds a map", times.get("seconds", ()), "", note), **more, **numbers}


def measure(work: Path, long: bool) -> Iterator[Row]:
    """A row for each method."""
    folder = work / PICTURE
    case = Case(folder, NETWORK)
    if not (case.folder / "about.json").exists():
        case.make(PICTURE)
    exact = None
    with Explainer(case.path, providers=["cpu"], preset="imagenet") as explainer:
        scorer = explainer.scorer(case.image, case.about["target"])
        for tool, method in subjects():
            print(f"measuring: {tool}, {method}", file=sys.stderr)
            reason = why_not(tool, method, long)
            drawn, times, error = (None, {}, reason) if reason else drawn_by(tool, method, folder)
            if drawn is None:
                yield row_of(tool, method, {}, {}, error)
                continue
            exact = drawn if exact is None else exact
            yield row_of(tool, method, times, quality(drawn, exact, scorer), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="measure the methods that take many minutes too")
    parser.add_argument("--work", type=Path, default=Path("benchmark-speed"), help="folder of the exported networks")
    parser.add_argument("--json", type=Path, help="write the rows here, after each method")
    parser.add_argument("--figure", type=Path, help="draw time against quality here: .png, .webp, .svg or .pdf")
    arguments = parser.parse_args()
    rows: Rows = []
    for measured in measure(arguments.work, arguments.long):
        rows.append(measured)
        save(rows, arguments.json)
    show(rows)
    if arguments.figure is not None:
        from figure import draw

        draw(rows, arguments.figure)


if __name__ == "__main__":
    main()
