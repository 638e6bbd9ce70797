"""Runs the benchmarks, part by part: a JSON file with all rows, a table, and a figure of time against quality.

    pip install ".[bench]"
    python tools/benchmarks/run_all.py

Each part is a program beside this one, named after the part; run alone it has more options. The rows of a part are in
the file (benchmark.json, or --json) when the part ends, with the machine, the versions, and how much of the machine
other processes took. A part that fails leaves a row that says why, a part whose packages or hardware are missing a row
that says so, and the next part starts. Parts that the file holds already and that are not measured again stay. On a
shared machine absolute times mean little, so the compared tools take turns. A whole run takes about two hours, most of
it the PyTorch tools on VGG-16 and ResNet-50; `--only` takes parts, `--large-rounds 1 --channels 128` makes it shorter.
Exits with 1 if a part failed.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from conditions import conditions, others_share
from table import Row, Rows, row, save, show

from onnxcam.engine.session import Session
from onnxcam.errors import ProviderError
from onnxcam.inputs.bundled import model, pictures

BENCHMARKS = Path(__file__).parent
NEEDS_A_GPU = {
    "fp32: whole Score-CAM, scored pictures a second / bare inference": ">= 0.95",
    "fp32: pytorch-grad-cam / onnxcam, seconds": ">= 5",
    "fp16: pytorch-grad-cam / onnxcam, seconds": ">= 10",
    "fp32: Pearson with the CPU's map, worst": ">= 0.9999",
    "fp16: Pearson with the CPU's map, worst": ">= 0.999",
}
"""The rows of gpu.py that have a bound to reach. On a machine without a GPU they are listed as not measured."""
NEEDS = {
    "speed": ("torch", "pytorch_grad_cam", "torchcam", "efficientnet_lite_pytorch"),
    "gradients": ("torch", "efficientnet_lite_pytorch"),
    "gpu": ("torch",),
}
"""Modules without which a part measures nothing. methods and metrics have a row for each peer that is missing."""
GRADIENT_PARTS = ("cost", "warm", "building", "search", "parity", "quality", "muppet")
"""All but the one that takes five minutes a picture."""


def commands(arguments: argparse.Namespace) -> Mapping[str, Sequence[str]]:
    """The command-line arguments of each part's program. A new part has a line here, and its table in the docs."""
    models = [word for file in ["embedded", *arguments.model] for word in ("--model", file)]
    rounds = ["--rounds", str(arguments.rounds)] if arguments.rounds is not None else []
    channels = ["--channels", str(arguments.channels)] if arguments.channels is not None else []
    large = ["--large-rounds", str(arguments.large_rounds)] if arguments.large_rounds is not None else []
    pictures, work = ["--pictures", str(arguments.pictures)], ["--work", str(arguments.work)]
    samples = ["--samples", str(arguments.rounds), "--patience", "0"] if arguments.rounds is not None else []
    return {
        "methods": work,
        "basics": [*rounds, *(["--boxes", str(arguments.boxes)] if arguments.boxes is not None else [])],
        "first": rounds,
        "budget": [str(arguments.pictures), *models],
        "several_pictures": [str(arguments.pictures), *rounds],
        "speed": [*rounds, *large, *channels, *work],
        "start": rounds,
        "gradients": [*pictures, *samples, *(word for part in GRADIENT_PARTS for word in ("--only", part))],
        "metrics": [*pictures, *rounds],
        "journal": [],
        "evaluate": [*pictures, *rounds],
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
    rows = rows["rows"] if isinstance(rows, dict) else rows
    file.unlink(missing_ok=True)
    return rows, f"ended with {program.returncode}; its last line: {last}" if program.returncode else None


def why_no_gpu() -> str | None:
    """Why CUDA does not start here, or None if it does."""
    try:
        Session(model().read_bytes(), ["cuda"]).close()
    except ProviderError as error:
        return str(error)
    return None


def why_not(part: str) -> Rows:
    """Rows that say why a part cannot be measured here; none if it can."""
    missing = [name for name in NEEDS.get(part, ()) if find_spec(name) is None]
    if part == "gpu" and (reason := why_no_gpu()) is not None:
        return [row(what, [], reach, reason) for what, reach in NEEDS_A_GPU.items()]
    if missing:
        return [row(f"all of {part}", [], "", f'needs {", ".join(missing)}: pip install ".[bench]"')]
    return []


def measured(part: str, words: Sequence[str], file: Path) -> tuple[dict[str, Any], bool]:
    """The part's conditions and rows, and whether its program ran to its end."""
    start, share = conditions(), others_share()
    rows, reason = why_not(part), None
    if not rows:
        print(f"measuring: {part}", file=sys.stderr)
        rows, reason = run_part(part, words, file)
    if reason is not None:
        rows.append(row(f"the rest of {part}", [], "", reason))
    return {**start, "others": share(), "rows": rows}, reason is None


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
    parser.add_argument("--large-rounds", type=int, help="rounds of ResNet-50 and VGG-16, as speed.py takes it")
    parser.add_argument("--channels", type=int, help="how many channels the PyTorch tools score, as speed.py takes it")
    parser.add_argument("--work", type=Path, default=Path("benchmark-speed"), help="folder of the exported networks")
    parser.add_argument("--only", action="append", metavar="PART", help="one part alone; may be repeated")
    parser.add_argument("--json", type=Path, default=Path("benchmark.json"), help="file that keeps the rows")
    parser.add_argument("--figure", type=Path, default=Path("benchmark.png"), help="file of the figure")
    arguments = parser.parse_args()
    arguments.pictures = arguments.pictures or next(iter(pictures().values())).parent
    words = commands(arguments)
    if unknown := set(arguments.only or ()) - set(words):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(words)}")
    results = earlier_parts(arguments.json, parser)
    complete = True
    for part in arguments.only or words:
        file = arguments.json.with_name(f"{arguments.json.stem}.{part}.json")
        results[part], whole = measured(part, words[part], file)
        complete = complete and whole
        save(results, arguments.json)
    show([row for result in results.values() for row in result["rows"]])
    if "methods" in (arguments.only or words):
        draw_figure(results["methods"]["rows"], arguments.figure)
    return int(not complete)


def draw_figure(rows: Sequence[Row], file: Path) -> None:
    """Draws time against quality, if matplotlib is installed and anything was measured."""
    if find_spec("matplotlib") is None:
        print('no figure: it needs matplotlib: pip install ".[bench]"', file=sys.stderr)
    elif any(r["value"] is not None for r in rows):
        from figure import draw

        draw(list(rows), file)


if __name__ == "__main__":
    sys.exit(main())
