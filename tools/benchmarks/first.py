"""Benchmark of exact Score-CAM against as many bare forward passes: a process' first explanation, and later ones.

    python tools/benchmarks/first.py --json first.json

Every round is a process of its own. It opens an Explainer and explains a photograph, which is its first explanation;
then it runs the bare file as often as the explanation had forward passes, by the same run plan in a session that has
run before, and explains the photograph again, in turn. Ratios are taken within a round, of seconds and of processor
time. The model is the embedded EfficientNet-Lite0, or `--model` with its `--preset`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from interleaving import peak
from table import Rows, row, save, show

TURNS = 3
"""Bare passes and later explanations, in turn, of one process."""
FIRST, WARM = "<= 1.05", "<= 1.02"
UNITS = ("seconds", "processor time")
Cost = tuple[float, float]
"""Seconds, and seconds of processor time."""


def cost(case: Callable[[], object]) -> Cost:
    start = time.perf_counter(), time.process_time()
    case()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def worker(file: Path, preset: str | None) -> None:
    """Measures one process, and prints costs as JSON: first, warm and bare; opening, passes and peak memory."""
    from onnxcam import Explainer, Saliency, score_cam
    from onnxcam.engine.parallel import ParallelRunner, RunLimits, Session
    from onnxcam.explainer.explainer import opened_model
    from onnxcam.inputs.bundled import pictures

    picture, results = pictures()["chelsea"], list[Saliency]()
    start = time.perf_counter(), time.process_time()
    with Explainer(file, score_cam(), providers=["cpu"], preset=preset) as explain:
        opening = time.perf_counter() - start[0], time.process_time() - start[1]
        first = cost(lambda: results.append(explain(picture)))
        megabytes, passes = peak(), results[0].provenance.forwards
        plan, image = opened_model(explain).network.plan, explain.prepare(picture).image
        images = np.ascontiguousarray(np.repeat(image[None], plan.batch, axis=0))
        limits = RunLimits(
            threads=None, batch=None, fixed=None, bytes_per_image=opened_model(explain).anatomy.bytes_per_image
        )
        runner = ParallelRunner(file.read_bytes, ("cpu",), limits, plan)

        def forward(session: Session, chunk: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            return session.run([session.outputs[0]], {session.inputs[0]: images[: len(chunk)]})[0]

        def bare(count: int) -> object:
            return runner.map(forward, np.arange(count))

        bare(plan.in_flight)  # the first runs of its session
        costs = [(cost(lambda: bare(passes)), cost(lambda: explain(picture))) for _ in range(TURNS)]
        runner.close()
    bares, warms = zip(*costs, strict=True)
    print(
        json.dumps(
            {"opening": opening, "first": first, "bare": bares, "warm": warms, "passes": passes, "peak": megabytes}
        )
    )


def measure(model: Path, preset: str | None, rounds: int) -> Rows:
    """Rows of both ratios, in seconds and processor time, and of the peak memory up to the first map."""
    words = [sys.executable, __file__, "--worker", "--model", str(model), *(["--preset", preset] if preset else [])]
    results = []
    for _ in range(rounds):
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    rows: Rows = []
    for i, unit in enumerate(UNITS):
        bare = [statistics.median(b[i] for b in r["bare"]) for r in results]
        warm = [statistics.median(w[i] / b[i] for w, b in zip(r["warm"], r["bare"], strict=True)) for r in results]
        first = [r["first"][i] / b for r, b in zip(results, bare, strict=True)]
        note = f"{results[0]['passes']} passes, {statistics.median(bare):.3g} s bare"
        rows += [
            row(f"first explanation / bare passes, {unit}", first, FIRST, note),
            row(f"later explanation / bare passes, {unit}", warm, WARM, note),
        ]
    return [
        *rows,
        row("peak memory of opening and the first explanation, MB", [r["peak"] for r in results], "<= 600", ""),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: the embedded EfficientNet-Lite0")
    parser.add_argument("--preset", help="preprocessing of --model")
    parser.add_argument("--rounds", type=int, default=7, help="processes")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    from onnxcam.inputs.bundled import model as embedded_model

    model = arguments.model or Path(str(embedded_model()))
    if arguments.worker:
        worker(model, arguments.preset)
        return
    rows = measure(model, arguments.preset, arguments.rounds)
    save(rows, arguments.json)
    show(rows)


if __name__ == "__main__":
    main()
