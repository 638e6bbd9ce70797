"""What bfloat16 does to Score-CAM: agreement with float32, the bound, and processor time. Makes FACTOR of rounding.py.

    pip install ".[openvino]"
    python tools/benchmarks/bfloat16.py model.onnx pictures/*.jpg --json bfloat16.json

The pictures are explained in float32 and in bfloat16, both exactly, and with `--fast` in bfloat16. Those at even places
calibrate: the smallest factor whose bound holds in 9 of 10 of them is printed, for the masks in float32 that the
library chooses. Those at odd places test the factor of the library. A map of which all masks were scored in float32
has no bound.
Times are of the processor, in turns; those of the first picture, which warms up, do not count.
"""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from onnxcam import Explainer, Saliency, score_cam
from onnxcam.engine.options import EngineOptions
from onnxcam.methods.estimate.rounding import FACTOR
from onnxcam.methods.score_cam import FAST

BF16 = EngineOptions(precision="bf16")
SHARE = 0.9
"""Of pictures, in which the bound is to hold."""


def timed(explain: Explainer, picture: Path) -> tuple[Saliency, float]:
    """(the map of the predicted class, seconds of processor time)."""
    start = time.process_time()
    saliency = explain(picture)
    return saliency, time.process_time() - start


def deviation(one: Saliency, other: Saliency) -> float:
    """Root mean square of the difference of the maps in [0,1]."""
    return float(np.sqrt(np.square(one.map - other.map).mean()))


def measure(model: Path, pictures: Sequence[Path], *, with_cpu: bool) -> list[dict[str, Any]]:
    """A row for each picture: agreement, bounds and seconds."""
    rows = []
    with ExitStack() as stack:

        def opened(provider: str, tolerance: float | None = None, engine: EngineOptions | None = None) -> Explainer:
            method = score_cam(tolerance=tolerance)
            return stack.enter_context(Explainer(model, method, providers=[provider], engine=engine))

        explainers = {
            **({"cpu": opened("cpu")} if with_cpu else {}),
            "f32": opened("openvino"),
            "bf16": opened("openvino", engine=BF16),
            "fast f32": opened("openvino", FAST),
            "fast bf16": opened("openvino", FAST, BF16),
        }
        for place, picture in enumerate(pictures):
            results = {name: timed(explain, picture) for name, explain in explainers.items()}
            rows.append({"model": model.name, "picture": picture.name, "place": place, **compared(results)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def compared(results: dict[str, tuple[Saliency, float]]) -> dict[str, Any]:
    """The numbers of one picture. r, off: correlation and deviation of bfloat16's map from float32's, both exact."""
    maps = {name: saliency for name, (saliency, _) in results.items()}
    return {
        "r": float(np.corrcoef(maps["f32"].map.ravel(), maps["bf16"].map.ravel())[0, 1]),
        "off": deviation(maps["f32"], maps["bf16"]),
        "bound": maps["bf16"].provenance.error,
        "fast off": deviation(maps["f32"], maps["fast bf16"]),
        "fast bound": maps["fast bf16"].provenance.error,
        "fast f32 off": deviation(maps["f32"], maps["fast f32"]),
        "fast f32 bound": maps["fast f32"].provenance.error,
        "same scores": maps["f32"].target == maps["bf16"].target,
        "passes": {name: saliency.provenance.forwards for name, saliency in maps.items()},
        "seconds": {name: round(seconds, 3) for name, (_, seconds) in results.items()},
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Calibration by the rows at even places, test by the others; correlation and time by all."""
    calibrating, testing = ([row for row in rows if row["place"] % 2 == odd] for odd in (0, 1))
    factors = [FACTOR * row["off"] / row["bound"] for row in calibrating if row["bound"] is not None]

    def held(off: str, bound: str) -> float:
        return float(np.mean([row[off] <= row[bound] for row in testing if row[bound] is not None]))

    def ratio(one: str, other: str) -> float:
        return median(row["seconds"][one] / row["seconds"][other] for row in rows[1:])

    return {
        "pictures": len(rows),
        "r mean": float(np.mean([row["r"] for row in rows])),
        "r worst": float(np.min([row["r"] for row in rows])),
        "factor": float(np.quantile(factors, SHARE)) if factors else None,
        "passes in float32": median(
            (row["passes"]["bf16"] - row["passes"]["f32"]) / row["passes"]["f32"] for row in rows
        ),
        "held": held("off", "bound"),
        "fast held": held("fast off", "fast bound"),
        "fast f32 held": held("fast f32 off", "fast f32 bound"),
        "bf16 / f32": ratio("bf16", "f32"),
        **({"bf16 / cpu": ratio("bf16", "cpu")} if "cpu" in rows[0]["seconds"] else {}),
        "fast bf16 / fast f32": ratio("fast bf16", "fast f32"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure Score-CAM in bfloat16.")
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--cpu", action="store_true", help="also on the CPU's own provider")
    parser.add_argument("--json", type=Path, help="where all rows go")
    arguments = parser.parse_args()
    rows = measure(arguments.model, arguments.pictures, with_cpu=arguments.cpu)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
