"""Measure gradients of ONNX graphs, and Opti-CAM on top of them, against PyTorch side by side in one run.

    pip install ".[cpu,torch]" && pip install --no-deps muppet-xai loguru
    python tools/benchmark_gradients.py --pictures FOLDER --json gradients.json

Parts, each alone with --only:

    cost       a step (score and gradient) / a forward pass; PyTorch eager / a step
    building   seconds that the gradient graph takes to build, the model already opened
    search     a whole Opti-CAM: PyTorch eager / onnxcam; four pictures in one batch / one by one
    parity     the search against the same one written in PyTorch: coefficients and score
    quality    how often Opti-CAM's mask scores higher than Score-CAM's
    precision  how far two correct runs of the search part, by Adam's epsilon
    muppet     Score-CAM and Opti-CAM of muppet-xai on the same weights; left out where it is not installed

Timings are medians of samples, the cases taking turns. On a shared machine only samples count in which other processes
took next to nothing; the note says how much it was. Both sides have two threads. EfficientNet-Lite0 is the embedded
model where time counts and its float32 original where numbers are compared; ResNet-50 and VGG-16 have random weights.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from benchmark import THREADS, Rows
from gradient_parts.numbers import MOST_PICTURES, parity, quality
from gradient_parts.peer import muppet
from gradient_parts.precision import precision
from gradient_parts.speed import building, cost, search
from rich.console import Console
from rich.table import Table

PARTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "cost": cost, "building": building, "search": search, "parity": parity, "quality": quality,
    "precision": precision, "muppet": muppet,
}  # fmt: skip


def machine() -> dict[str, Any]:
    versions = {"python": platform.python_version(), "torch": torch.__version__, "onnx": onnx.__version__}
    return {**versions, "onnxruntime": onnxruntime.__version__, "cores": os.cpu_count(), "threads": THREADS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5, help="quiet ones of a case; twice as many of a step")
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for them; then the quietest count")
    parser.add_argument("--pictures", type=Path, help=f"folder of photographs; at most {MOST_PICTURES} are taken")
    parser.add_argument("--precision-pictures", type=int, default=5, help="pictures for that part, 5 minutes each")
    parser.add_argument("--only", choices=list(PARTS), action="append", help="one part alone; may be repeated")
    parser.add_argument("--json", type=Path, help="keep the rows")
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows: Rows = []
    for name, part in PARTS.items():
        if given.only is None or name in given.only:
            print(f"measuring: {name}", file=sys.stderr)
            rows += [{"part": name, **r} for r in part(given)]
            if given.json is not None:
                given.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
    table = Table("what", "measured", "reach", "note")
    for r in rows:
        table.add_row(r["what"], f"{r['value']:.4g}", r["reach"], r["note"])
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
