"""Benchmark of Score-CAM's speed on the CPU: against PyTorch tools, a plain onnxruntime loop and bare forward passes.

    pip install ".[bench]"
    python tools/benchmarks/speed.py --json speed.json

Measures exact Score-CAM and `--fast`, their peak memory, and the start of the command line. EfficientNet-Lite0 has its
ImageNet weights, ResNet-50 and VGG-16 have random ones. Every measurement is a process of its own (speed_workers.py)
that prints JSON. The tools take turns in every round, and a ratio is taken within its round. All start with the same
preprocessed picture and the same weights. With `--channels N` the peers score N channels and their time is multiplied
up to all channels, which the row's note says.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from speed_workers import LARGE, TOOLS, Case
from table import Rows, row, save, show

NETWORKS = {"efficientnet-lite0": ">= 22", "resnet50": ">= 2.5", "vgg16": ">= 1.7"}
"""The networks, with the bound to reach for: faster PyTorch tool / exact Score-CAM, in seconds."""
FAST = {"efficientnet-lite0": ">= 80", "resnet50": ">= 25", "vgg16": ">= 6"}
"""The bounds for: faster PyTorch tool / Score-CAM with `--fast`, in seconds."""
PEERS = ("pytorch-grad-cam", "torchcam", "plain")
FLOOR = 64
"""Forward passes that the floor is measured on. Its time is multiplied up to as many as onnxcam needed."""
START = """
import os, sys, time
from contextlib import contextmanager
import onnxcam.cli.explain as command
def first(done, every):
    print(time.time() - float(os.environ["BEGAN"]), flush=True)
    os._exit(0)
from onnxcam.cli.progress import ProgressBar
bar = ProgressBar(lambda group: [first] * len(group))
command.progress_bar = contextmanager(lambda images, quiet: (yield bar))
from onnxcam.cli.main import run
sys.argv = ["onnxcam", "explain", *sys.argv[1:]]
run()
"""


def measure(folder: Path, network: str, tool: str, count: int) -> dict[str, float]:
    """Runs the tool in a new process. Returns seconds, count (channels or passes) and megabytes (peak memory)."""
    worker = Path(__file__).with_name("speed_workers.py")
    command = [sys.executable, str(worker), str(folder), network, tool, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"ONNXCAM_CACHE": str(folder)})
    if done.returncode:
        raise SystemExit(f"{tool} on {network} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def score_cam_rows(folder: Path, network: str, rounds: int, channels: int | None) -> Rows:
    """The rows of one network."""
    total = Case(folder, network).about["channels"]
    share = min(channels, total) if channels is not None else total
    times: dict[str, list[float]] = {tool: [] for tool in TOOLS}
    peaks: dict[str, list[float]] = {tool: [] for tool in TOOLS}
    for i in range(rounds):
        live = few = 0  # channels that exact Score-CAM and --fast score
        for tool in TOOLS:
            count = share if tool in PEERS else FLOOR
            print(f"{network}, round {i + 1}: {tool}", file=sys.stderr)
            result = measure(folder, network, tool, count)
            live = int(result["count"]) if tool == "onnxcam" else live
            few = int(result["count"]) if tool == "fast" else few
            factor = live / result["count"] if tool == "floor" else total / result["count"] if tool in PEERS else 1
            times[tool].append(result["seconds"] * factor)
            peaks[tool].append(result["megabytes"])
    ours = times["onnxcam"]
    torch = [min(pair) for pair in zip(times["pytorch-grad-cam"], times["torchcam"], strict=True)]
    seconds = {tool: round(statistics.median(t), 2) for tool, t in times.items()}
    note = f"{live} live of {total} channels; medians in s: {seconds}"
    if share < total:
        note += f"; the peers' times are of {share} channels, multiplied by {total / share:.3g}"
    rows = [
        row(f"{network}: faster PyTorch tool / onnxcam", ratios(torch, ours), NETWORKS[network], note),
        row(
            f"{network}: faster PyTorch tool / onnxcam --fast",
            ratios(torch, times["fast"]),
            FAST[network],
            f"{few} scored",
        ),
        row(f"{network}: plain loop / onnxcam", ratios(times["plain"], ours), ">= 1.3", ""),
        row(f"{network}: onnxcam / bare forward passes", ratios(ours, times["floor"]), "<= 1.05", ""),
    ]
    peer_peaks = {tool: round(statistics.median(peaks[tool])) for tool in PEERS}
    reach = "<= 1000" if network == "resnet50" else ""
    return [*rows, row(f"{network}: peak memory of the process, MB", peaks["onnxcam"], reach, f"peers: {peer_peaks}")]


def start_rows(folder: Path, rounds: int) -> Rows:
    """Seconds from the start of `onnxcam explain` to its first scores, with a warm cache."""
    from onnxcam.inputs.bundled import pictures

    model = str(Case(folder, "efficientnet-lite0").path)
    words = [model, str(pictures()["chelsea"]), "--providers", "cpu", "--out", str(folder / "start.png")]
    seconds = []
    for _ in range(rounds + 1):
        env = os.environ | {"ONNXCAM_CACHE": str(folder), "BEGAN": str(time.time())}
        done = subprocess.run(
            [sys.executable, "-c", START, *words], stdout=subprocess.PIPE, text=True, env=env, check=True
        )
        seconds.append(float(done.stdout))
    return [
        row("start: onnxcam explain to the first score, s", seconds[1:], "<= 1.5", "EfficientNet-Lite0, warm cache")
    ]


def ratios(over: list[float], under: list[float]) -> list[float]:
    """over / under, round by round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["start", *NETWORKS], action="append", help="one part alone; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each part")
    parser.add_argument("--large-rounds", type=int, help="rounds of ResNet-50 and VGG-16; default: as --rounds")
    parser.add_argument("--channels", type=int, help="how many channels the peers score; default: all")
    parser.add_argument("--work", type=Path, default=Path("benchmark-speed"), help="folder of the exported networks")
    parser.add_argument("--json", type=Path, help="write the rows here, after each part")
    arguments = parser.parse_args()
    rows: Rows = []
    for part in ("start", *NETWORKS):
        if arguments.only is not None and part not in arguments.only:
            continue
        case = Case(arguments.work, part if part in NETWORKS else "efficientnet-lite0")
        if not (case.folder / "about.json").exists():
            case.make()
        rounds = arguments.large_rounds if part in LARGE and arguments.large_rounds else arguments.rounds
        rows += (
            start_rows(arguments.work, rounds)
            if part == "start"
            else score_cam_rows(arguments.work, part, rounds, arguments.channels)
        )
        save(rows, arguments.json)
    show(rows)


if __name__ == "__main__":
    main()
