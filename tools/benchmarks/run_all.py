"""Every row of the benchmarks, in one table and one file.

    pip install ".[cpu,torch,peers]" torchcam && pip install --no-deps grad-cam ttach
    python tools/benchmark.py --pictures FOLDER --json benchmark.json

Each part is a program of its own, named after the part, that can be run alone and has more options. Its rows are in a
file beside FILE as soon as they are there, and in FILE when it ends; what fails is a row that says why, and the rest
goes on. Parts that FILE holds already and that are not measured anew stay. On a shared machine absolute times mean
little, so the tools take turns. It takes about an hour and a half, most of it the PyTorch tools on VGG-16 and
ResNet-50. Exits with 1 where a part failed.
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

from table import Rows, keep, row, show

from onnxcam.engine.session import Session
from onnxcam.errors import ProviderError
from onnxcam.inputs.bundled import model, pictures
from onnxcam.network.cache import machine
from onnxcam.versions import versions

TOOLS = Path(__file__).parent
PROGRAMS = {"together": "several_pictures"}
NEEDS_A_GPU = {
    "fp32: whole Score-CAM, scored pictures a second / bare inference": ">= 0.95",
    "fp32: pytorch-grad-cam / onnxcam, seconds": ">= 5",
    "fp16: pytorch-grad-cam / onnxcam, seconds": ">= 10",
    "fp32: Pearson with the CPU's map, worst": ">= 0.9999",
    "fp16: Pearson with the CPU's map, worst": ">= 0.999",
}
"""The rows of benchmark_cuda.py that have something to reach, for a machine without one."""
TOLD = ("torch", "grad-cam", "torchcam")
"""Whose versions the figures depend on, beside onnxcam's own."""


def commands(given: argparse.Namespace) -> Mapping[str, Sequence[str]]:
    """The arguments of each part's program."""
    models = [word for file in ["embedded", *given.model] for word in ("--model", file)]
    rounds = ["--rounds", str(given.rounds)] if given.rounds is not None else []
    return {
        "basics": [*rounds, *(["--boxes", str(given.boxes)] if given.boxes is not None else [])],
        "budget": [str(given.pictures), *models],
        "together": [str(given.pictures), *rounds],
        "speed": [*rounds, "--work", str(given.work)],
        "cuda": ["--repeats", str(given.rounds)] if given.rounds is not None else [],
    }


def measured(part: str, words: Sequence[str], file: Path) -> tuple[Rows, str | None]:
    """The rows that its program kept in the file, and why it failed, if it did."""
    file.unlink(missing_ok=True)
    command = [sys.executable, str(TOOLS / f"{PROGRAMS.get(part, part)}.py"), *words, "--json", str(file)]
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True, "errors": "replace"}
    last = ""
    with subprocess.Popen(command, **pipes) as program:
        assert program.stderr is not None
        for line in program.stderr:
            print(line, end="", file=sys.stderr)
            last = line.strip() or last
    rows = json.loads(file.read_text()) if file.exists() else []
    file.unlink(missing_ok=True)
    return rows, f"ended with {program.returncode}; it last said: {last}" if program.returncode else None


def why_no_gpu() -> str | None:
    """None where CUDA starts."""
    try:
        Session(model().read_bytes(), ["cuda"]).close()
    except ProviderError as error:
        return str(error)
    return None


def conditions() -> dict[str, Any]:
    """What the figures of a part depend on."""
    installed = {d.name.lower(): d.version for d in distributions()}
    peers = {name: installed[name] for name in TOLD if name in installed}
    return {
        "when": datetime.now(UTC).isoformat(timespec="minutes"), "machine": machine(),
        "python": platform.python_version(), "versions": {**versions(), **peers},
    }  # fmt: skip


def what_there_is(file: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The parts that the file holds; what cannot be read or written is known before an hour has gone."""
    try:
        kept = json.loads(file.read_text()) if file.exists() else {}
        if not isinstance(kept, dict) or not all(isinstance(p, dict) and "rows" in p for p in kept.values()):
            raise ValueError("it holds something else; choose another name")
        keep(kept, file)
    except (OSError, ValueError) as error:
        parser.error(f"{file} cannot be used: {error}")
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="a folder of photographs; the embedded two if none is given")
    parser.add_argument("--model", action="append", default=[], help="FILE[:PRESET], further models for the budgets")
    parser.add_argument("--boxes", type=Path, help="folder of labelled photographs, as benchmark_basics.py takes it")
    parser.add_argument("--rounds", type=int, help="of every part; each has its own number if it is not given")
    parser.add_argument("--work", type=Path, default=Path("benchmark-speed"), help="folder of the exported networks")
    parser.add_argument("--only", action="append", help="a part alone: basics, budget, together, speed, cuda")
    parser.add_argument("--json", type=Path, default=Path("benchmark.json"), help="where the rows are kept")
    given = parser.parse_args()
    given.pictures = given.pictures or next(iter(pictures().values())).parent
    parts = commands(given)
    if unknown := set(given.only or ()) - set(parts):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    kept = what_there_is(given.json, parser)
    failed = False
    for part in given.only or parts:
        print(f"measuring: {part}", file=sys.stderr)
        about = conditions()
        if part == "cuda" and (absent := why_no_gpu()) is not None:
            rows = [row(what, [], reach, absent) for what, reach in NEEDS_A_GPU.items()]
        else:
            rows, why = measured(part, parts[part], given.json.with_name(f"{given.json.stem}.{part}.json"))
            if why is not None:
                failed = True
                rows.append(row(f"the rest of {part}", [], "", why))
        kept[part] = {**about, "rows": rows}
        keep(kept, given.json)
    show([row for found in kept.values() for row in found["rows"]])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
