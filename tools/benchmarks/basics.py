"""Benchmark of what every explanation should do: cheap extra targets, little memory, equal maps, pointing at objects.

    python tools/benchmarks/basics.py --json basics.json

Runs Score-CAM on the embedded EfficientNet-Lite0. Measures the time of five targets against one, the peak memory of one
process, and how far batch size and threads change a map. `--boxes FOLDER` adds the share of labelled photographs whose
maximum lies in the object's box (FOLDER/images/boxes.json and FOLDER/models/MODEL).
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from table import Rows, row, save, show

from onnxcam import Explainer, score_cam
from onnxcam.inputs.bundled import model, pictures
from onnxcam.inputs.images import read_picture

Picture = npt.NDArray[np.uint8]
PICTURE = pictures()["chelsea"]
MEMORY = """
from onnxcam import Explainer, score_cam
from onnxcam.inputs.bundled import model, pictures
with Explainer(model(), score_cam(), providers=["cpu"]) as explain:
    explain(pictures()["chelsea"])
from interleaving import peak
print(peak())
"""


def five_targets(rounds: int) -> Rows:
    """Seconds of five targets over seconds of one. Targets share the feature maps and every forward pass."""
    five = [f"rank{i}" for i in range(1, 6)]
    ratios = []
    with Explainer(model(), score_cam(), providers=["cpu"]) as explainer:
        explainer.explain(PICTURE, five)  # warms up
        for i in range(rounds):
            cases: dict[str, Callable[[], object]] = {
                "one": lambda: explainer(PICTURE), "five": lambda: explainer.explain(PICTURE, five),
            }  # fmt: skip
            seconds = {name: timed(cases[name]) for name in (list(cases) if i % 2 else list(cases)[::-1])}
            ratios.append(seconds["five"] / seconds["one"])
    return [row("five targets / one, seconds", ratios, "<= 1.1", "EfficientNet-Lite0")]


def timed(case: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    case()
    return time.perf_counter() - start


def memory() -> Rows:
    """Peak memory of three processes that make one explanation each."""
    command, folder = [sys.executable, "-c", MEMORY], Path(__file__).parent
    megabytes = [
        float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=folder).stdout)
        for _ in range(3)
    ]
    return [row("peak memory of one explanation, MB", megabytes, "<= 600", "EfficientNet-Lite0, the whole process")]


def agreement(folder: Path | None) -> Rows:
    """The largest difference between maps that should be equal, over batch sizes and over threads."""
    maps = {}
    for batch in (1, 7, 64):
        with Explainer(model(), score_cam(), providers=["cpu"], batch=batch) as explainer:
            maps[batch] = explainer(PICTURE).map
    worst = max(float(np.abs(maps[1] - maps[b]).max()) for b in (7, 64))
    rows = [row("batch 1, 7, 64: largest difference of a map", [worst], "<= 1e-5", "")]
    files = sorted((folder / "images").glob("*.jp*g")) if folder is not None else list(pictures().values())
    if not files:
        raise SystemExit(f"no photographs in {folder}")
    photographs = fifty([read_picture(p) for p in files])
    with Explainer(model(), score_cam(), providers=["cpu"], threads=1) as explainer:
        with ThreadPoolExecutor(8) as pool:
            in_parallel = list(pool.map(explainer, photographs))
        one_by_one = [explainer(p) for p in photographs]
    worst = max(float(np.abs(a.map - b.map).max()) for a, b in zip(one_by_one, in_parallel, strict=True))
    note = f"{len(files)} photographs and their mirror images, over and over"
    rows.append(row("8 threads, 50 pictures: largest difference of a map", [worst], "<= 0", note))
    return rows


def fifty(photographs: Sequence[Picture]) -> list[Picture]:
    """50 pictures: the photographs, then their mirror images, over and over."""
    repeated = (list(photographs) * 50)[:50]
    return [p if i < len(photographs) else np.ascontiguousarray(p[:, ::-1]) for i, p in enumerate(repeated)]


def pointing(folder: Path, name: str) -> Rows:
    """The share of labelled photographs whose map has its maximum inside a box of the labelled object."""
    boxes = json.loads((folder / "images" / "boxes.json").read_text())["images"]
    hits, missed = 0, []
    labelled = {k: v for k, v in boxes.items() if v["class_index"] is not None}
    with Explainer(folder / "models" / name, score_cam(), preset="efficientnet-lite", providers=["cpu"]) as explainer:
        for file, truth in labelled.items():
            saliency = explainer(folder / "images" / file, truth["class_index"])
            x, y = maximum_on_the_original(saliency)
            instances = [truth["box"], *truth["other_instances"]]
            inside = any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in instances)
            hits += inside
            missed += [] if inside else [file]
    note = f"{hits} of {len(labelled)}; missed: {', '.join(missed) or 'none'}"
    return [row(f"maximum inside the box, {name}", [hits / len(labelled)], ">= 0.75", note)]


def maximum_on_the_original(saliency: Any) -> tuple[float, float]:
    """The pixel (x, y) of the original under the map's maximum."""
    height, width = saliency.map.shape
    top_row, column = np.unravel_index(int(saliency.map.argmax()), saliency.map.shape)
    left, top, right, bottom = saliency.placement.box
    return left + (column + 0.5) * (right - left) / width, top + (top_row + 0.5) * (bottom - top) / height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of five targets against one")
    parser.add_argument("--boxes", type=Path, help="folder of labelled photographs: images/boxes.json and models/")
    parser.add_argument("--boxes-model", default="pt_efflite0_ts.onnx", help="file in models/")
    parser.add_argument("--only", choices=["memory", "targets", "agreement", "pointing"], help="one part alone")
    parser.add_argument("--json", type=Path, help="write the rows here, after each part")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[], Rows]] = {
        "memory": memory,
        "targets": lambda: five_targets(arguments.rounds),
        "agreement": lambda: agreement(arguments.boxes),
        "pointing": lambda: pointing(arguments.boxes, arguments.boxes_model) if arguments.boxes is not None else [],
    }
    rows: Rows = []
    for name, part in parts.items():
        if arguments.only in (None, name):
            print(f"measuring: {name}", file=sys.stderr)
            rows += part()
            save(rows, arguments.json)
    show(rows)


if __name__ == "__main__":
    main()
