"""Benchmark of gradients of ONNX graphs, and of Opti-CAM with them, against PyTorch in the same run.

    pip install ".[cpu,torch]" && pip install --no-deps muppet-xai loguru
    python tools/benchmarks/gradients.py --pictures FOLDER --json gradients.json

Parts, each of which `--only` runs alone (they are in gradient_parts/):

    cost       a step (score and gradient) / a forward pass; a step in PyTorch eager / a step
    warm       Grad-CAM by an Explainer that is warm / one run of its graph
    building   seconds to build the gradient graph of an opened model
    search     a complete Opti-CAM: PyTorch eager / onnxcam; four pictures in one batch / one by one
    parity     the search against the same search in PyTorch: coefficients and score
    quality    how often Opti-CAM's mask scores higher than Score-CAM's
    precision  how far correct runs of the search drift apart, for values of Adam's epsilon
    muppet     Score-CAM and Opti-CAM of muppet-xai on the same weights; not measured if it is not installed

Times are medians of samples, the cases taking turns. On a shared machine a sample counts only if other processes took
next to nothing during it; the note says how much they took. Both sides have two threads. EfficientNet-Lite0 is the
embedded model where time counts, and its float32 original where numbers are compared. ResNet-50 and VGG-16 have random
weights.
"""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from gradient_parts.numbers import MOST_PICTURES, parity, quality
from gradient_parts.peer import muppet
from gradient_parts.precision import precision
from gradient_parts.speed import building, cost, search, warm
from gradient_parts.subjects import THREADS
from table import Rows, save, show

PARTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "cost": cost, "warm": warm, "building": building, "search": search, "parity": parity, "quality": quality,
    "precision": precision, "muppet": muppet,
}  # fmt: skip


def machine() -> dict[str, Any]:
    """The versions and the cores that the figures depend on."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "onnx": onnx.__version__}
    return {**versions, "onnxruntime": onnxruntime.__version__, "cores": os.cpu_count(), "threads": THREADS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5, help="quiet samples of each case; cost takes twice as many")
    parser.add_argument(
        "--patience", type=float, default=120, help="seconds to wait for quiet samples; then the quietest count"
    )
    parser.add_argument("--pictures", type=Path, help=f"folder of photographs; at most {MOST_PICTURES} are used")
    parser.add_argument(
        "--precision-pictures", type=int, default=5, help="pictures of the part precision, 5 minutes each"
    )
    parser.add_argument("--only", choices=list(PARTS), action="append", help="one part alone; may be repeated")
    parser.add_argument("--json", type=Path, help="write the rows here, after each part")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows: Rows = []
    for name, part in PARTS.items():
        if arguments.only is None or name in arguments.only:
            print(f"measuring: {name}", file=sys.stderr)
            rows += [{"part": name, **r} for r in part(arguments)]
            save({"machine": machine(), "rows": rows}, arguments.json)
    show(rows)


if __name__ == "__main__":
    main()
