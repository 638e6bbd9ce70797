"""Benchmark of the start: a whole `onnxcam explain --fast` in a process of its own, and what is least of it.

    python tools/benchmarks/start.py --rounds 9 --json start.json

Every round runs each case once, in turn, with the bytecode of all modules cached: `import onnxcam`; the first start of
a model, with an empty cache folder; a warm start, with what the first one stored; a warm Grad-CAM; and the floor, a
program that imports NumPy and onnxruntime, opens the file, reads the photograph and runs as many forward passes as
`--fast` takes, in pairs on every core. Seconds of the whole process, and its processor time. The model is the embedded
EfficientNet-Lite0, the picture the demo's cup.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from table import Rows, row, save, show

from onnxcam.inputs.bundled import model, pictures

FLOOR = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import onnxruntime as ort
from PIL import Image
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
picture = np.asarray(Image.open(sys.argv[2]).convert("RGB").resize((224, 224)), np.float32).transpose(2, 0, 1)
pair = np.stack([picture, picture]) / 128 - 1
name = session.get_inputs()[0].name
with ThreadPoolExecutor({len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}) as pool:
    list(pool.map(lambda _: session.run(None, {{name: pair}}), range(int(sys.argv[3]) // 2)))
"""
WARM, FIRST, IMPORT, GRADIENT = "warm start", "first start", "import onnxcam", "warm start, grad-cam"
REACH = {WARM: "<= 0.75", FIRST: "<= 1.1", IMPORT: "<= 0.1"}
"""Seconds of a quiet machine."""
NOTES = {
    WARM: "onnxcam explain --fast, the whole process", FIRST: "the same with an empty cache folder",
    IMPORT: "python -c 'import onnxcam'", GRADIENT: "onnxcam explain --method grad-cam",
    "floor": "NumPy, onnxruntime, open, read, as many forward passes as --fast takes",
}  # fmt: skip
Cost = tuple[float, float]
"""Seconds, and seconds of processor time."""


def cases(folder: Path) -> Mapping[str, Sequence[str]]:
    """The command of each case. folder: for what they write."""
    file, picture = str(model()), str(pictures()["coffee"])
    explain = [sys.executable, "-m", "onnxcam", "explain", file, picture, "--overwrite", "-o", str(folder / "map.png")]
    return {
        IMPORT: [sys.executable, "-c", "import onnxcam"],
        FIRST: [*explain, "--fast"],
        WARM: [*explain, "--fast"],
        GRADIENT: [*explain, "--method", "grad-cam"],
        "floor": [sys.executable, "-c", FLOOR, file, picture, str(forward_passes([*explain, "--fast", "--json"]))],
    }


def forward_passes(command: Sequence[str]) -> int:
    """How many an explanation takes. command: one that prints its record."""
    record = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return int(record[0]["passes"]["forward"]) + int(record[0]["passes"]["forward"]) % 2


def cost(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """What a process takes. Raises CalledProcessError where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=environment)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rounds: int, folder: Path) -> Rows:
    """Rows of the seconds and of the processor time of each case."""
    commands, cache = cases(folder), folder / "cache"
    environment = {**os.environ, "ONNXCAM_CACHE": str(cache), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for command in commands.values():  # writes bytecode and, for the warm starts, graphs
        cost(command, environment)
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for i in range(rounds):
        for name in list(commands) if i % 2 else list(commands)[::-1]:
            used = environment if name != FIRST else {**environment, "ONNXCAM_CACHE": str(folder / "empty")}
            shutil.rmtree(folder / "empty", ignore_errors=True)
            costs[name].append(cost(commands[name], used))
    rows: Rows = []
    for name, values in costs.items():
        seconds, processor = zip(*values, strict=True)
        rows += [
            row(f"{name}, seconds", seconds, REACH.get(name, ""), NOTES[name]),
            row(f"{name}, processor time", processor, "", NOTES[name]),
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.rounds, Path(folder))
    save(rows, arguments.json)
    show(rows)


if __name__ == "__main__":
    main()
