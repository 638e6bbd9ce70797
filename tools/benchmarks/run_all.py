"""Runs the benchmarks, part by part, and keeps the rows of all of them in one file and one table.

    pip install ".[cpu,torch,peers]" torchcam && pip install --no-deps grad-cam ttach
    python tools/benchmarks/run_all.py --pictures FOLDER --json benchmark.json

Each part is a program beside this one, named after the part; run alone it has more options. The rows of a part are in
FILE when the part ends. A part that fails leaves a row that says why, and the next part starts. Parts that FILE holds
already and that are not measured again stay. On a shared machine absolute times mean little, so the compared tools take
turns. It takes about an hour and a half, most of it the PyTorch tools on VGG-16 and ResNet-50. Exits with 1 if a part
failed.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from table import Rows, row, save, show

from onnxcam.engine.session import Session
from onnxcam.errors import ProviderError
from onnxcam.inputs.bundled import model, pictures
from onnxcam.network.cache import machine
from onnxcam.versions import versions

BENCHMARKS = Path(__file__).parent
NEEDS_A_GPU = {
    "fp32: whole Score-CAM, scored pictures a second / bare inference": ">= 0.95",
    "fp32: pytorch-grad-cam / onnxcam, seconds": ">= 5",
    "fp16: pytorch-grad-cam / onnxcam, seconds": ">= 10",
    "fp32: Pearson with the CPU's map, worst": ">= 0.9999",
    "fp16: Pearson with the CPU's map, worst": ">= 0.999",
}
"""The rows of gpu.py that have a bound to reach. On a machine without a GPU they are listed as not measured."""
PEERS = ("torch", "grad-cam", "torchcam")
"""Packages whose versions the figures depend on, beside those that onnxcam reports itself."""


def commands(arguments: argparse.Namespace) -> Mapping[str, Sequence[str]]:
    """The command-line arguments of each part's program."""
    models = [word for file in ["embedded", *arguments.model] for word in ("--model", file)]
    rounds = ["--rounds", str(arguments.rounds)] if arguments.rounds is not None else []
    return {
        "basics": [*rounds, *(["--boxes", str(arguments.boxes)] if arguments.boxes is not None else [])],
        "budget": [str(arguments.pictures), *models],
        "several_pictures": [str(arguments.pictures), *rounds],
        "speed": [*rounds, "--work", str(arguments.work)],
        "metrics": ["--pictures", str(arguments.pictures), *rounds],
        "gpu": ["--repeats", str(arguments.rounds)] if arguments.rounds is not None else [],
    }


def run_part(part: str, words: Sequence[str], file: Path) -> tuple[Rows, str | None]:
    """The rows that the part's program wrote to the file, and why it failed or None. The file is removed."""
    file.unlink(missing_ok=True)
    command = [sys.executable, str(BENCHMARKS / f"{part}.py"), *words, "--json", str(file)]
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True, "errors": "replace"}
    last = ""
    with subprocess.Popen(command, **pipes) as program:
        assert program.stderr is not None
        for line in program.stderr:
            print(line, end="", file=sys.stderr)
            last = line.strip() or last
    rows = json.loads(file.read_text()) if file.exists() else []
    file.unlink(missing_ok=True)
    return rows, f"ended with {program.returncode}; its last line: {last}" if program.returncode else None


def why_no_gpu() -> str | None:
    """Why CUDA does not start here, or None if it does."""
    try:
        Session(model().read_bytes(), ["cuda"]).close()
    except ProviderError as error:
        return str(error)
    return None


def conditions() -> dict[str, Any]:
    """What the figures of a part depend on: the time, the machine and the versions."""
    installed = {d.name.lower(): d.version for d in distributions()}
    peers = {name: installed[name] for name in PEERS if name in installed}
    return {
        "when": datetime.now(UTC).isoformat(timespec="minutes"), "machine": machine(),
        "python": platform.python_version(), "versions": {**versions(), **peers},
    }  # fmt: skip


def earlier_parts(file: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The parts that the file holds. Ends the program with 2 at once if the file cannot be read or written."""
    try:
        parts = json.loads(file.read_text()) if file.exists() else {}
        if not isinstance(parts, dict) or not all(isinstance(p, dict) and "rows" in p for p in parts.values()):
            raise ValueError("it holds something else; choose another name")
        save(parts, file)
    except (OSError, ValueError) as error:
        parser.error(f"{file} cannot be used: {error}")
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="a folder of photographs; default: the two that are bundled")
    parser.add_argument("--model", action="append", default=[], help="FILE[:PRESET], another model for budget")
    parser.add_argument("--boxes", type=Path, help="folder of labelled photographs, as basics.py takes it")
    parser.add_argument("--rounds", type=int, help="rounds of every part; default: the part's own number")
    parser.add_argument("--work", type=Path, default=Path("benchmark-speed"), help="folder of the exported networks")
    names = "basics, budget, several_pictures, speed, metrics, gpu"
    parser.add_argument("--only", action="append", metavar="PART", help=f"one part alone, repeatable: {names}")
    parser.add_argument("--json", type=Path, default=Path("benchmark.json"), help="file that keeps the rows")
    arguments = parser.parse_args()
    arguments.pictures = arguments.pictures or next(iter(pictures().values())).parent
    words = commands(arguments)
    if unknown := set(arguments.only or ()) - set(words):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(words)}")
    results = earlier_parts(arguments.json, parser)
    failed = False
    for part in arguments.only or words:
        print(f"measuring: {part}", file=sys.stderr)
        start = conditions()
        if part == "gpu" and (reason := why_no_gpu()) is not None:
            rows = [row(what, [], reach, reason) for what, reach in NEEDS_A_GPU.items()]
        else:
            file = arguments.json.with_name(f"{arguments.json.stem}.{part}.json")
            rows, reason = run_part(part, words[part], file)
            if reason is not None:
                failed = True
                rows.append(row(f"the rest of {part}", [], "", reason))
        results[part] = {**start, "rows": rows}
        save(results, arguments.json)
    show([row for result in results.values() for row in result["rows"]])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
