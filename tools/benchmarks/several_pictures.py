"""Measure what it saves to explain pictures together, their masks sharing forward passes, beside one after another.

    python tools/benchmark_together.py PICTURES --json together.json

A row a way of asking, on EfficientNet-Lite0 or `--model`: seconds one after another over seconds together, the pictures
read and looked at before. Every round has both, which take turns at going first. Masks a run are counted too.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.progress import track
from table import Row, Rows, keep, row, show

from onnxcam import Explainer, Method, rise, score_cam
from onnxcam.engine.session import Session
from onnxcam.errors import OnnxCamError
from onnxcam.explainer.prefetch import grouped
from onnxcam.explainer.results import ForwardPass
from onnxcam.inputs.bundled import model as embedded_model
from onnxcam.inputs.images import find_pictures
from onnxcam.methods.score_cam import FAST

CASES: dict[str, tuple[Method, dict[str, Any]]] = {
    "exact Score-CAM": (score_cam(), {}),
    "30 masks of RISE": (rise(masks=30), {}),
    "Score-CAM --fast": (score_cam(tolerance=FAST), {}),
    "Score-CAM --fast --batch 16": (score_cam(tolerance=FAST), {"batch": 16}),
    "Score-CAM --fast --batch 64": (score_cam(tolerance=FAST), {"batch": 64}),
}


class Runs:
    """Counts the runs of every session."""

    def __init__(self) -> None:
        self.count, self._own = 0, Session.run

    def __enter__(self) -> "Runs":
        counter, own = self, self._own

        def run(session: Session, *given: Any, **named: Any) -> Any:
            counter.count += 1
            return own(session, *given, **named)

        self._patch = patch.object(Session, "run", run)
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


def alone(explainer: Explainer, looked: Sequence[ForwardPass]) -> int:
    """Forward passes."""
    return sum(explainer.explain(one)[0].provenance.forwards for one in looked)


def together(explainer: Explainer, looked: Sequence[ForwardPass]) -> int:
    passes = 0
    for group in grouped(looked, explainer.together):
        for found in explainer.explain_batch(group):
            if isinstance(found, OnnxCamError):
                raise found
            passes += found[0].provenance.forwards
    return passes


def measured(name: str, model: Path, pictures: Sequence[Path], rounds: int) -> Row:
    method, options = CASES[name]
    ways = {"alone": alone, "together": together}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    sizes: dict[str, float] = {}
    with Explainer(model, method, providers=["cpu"], **options) as explainer:
        looked = [explainer.forward(picture) for picture in pictures]
        for way, ask in ways.items():  # the first round settles the pace, and counts
            with Runs() as runs:
                passes = ask(explainer, looked)
            sizes[way] = (passes - len(looked)) / runs.count
        for i in track(range(rounds), name, transient=True):
            for way in list(ways) if i % 2 else list(ways)[::-1]:
                start = time.perf_counter()
                ways[way](explainer, looked)
                seconds[way].append(time.perf_counter() - start)
        size = explainer.together
    found = [a / b for a, b in zip(seconds["alone"], seconds["together"], strict=True)]
    note = (
        f"{len(pictures)} pictures, {size} at one time; masks a run: {sizes['alone']:.1f} alone, "
        f"{sizes['together']:.1f} together"
    )
    return row(f"{name}: one after another / together, seconds", found, "", note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder of photographs")
    parser.add_argument("--model", type=Path, help="EfficientNet-Lite0 if not given")
    parser.add_argument("--count", type=int, default=8, help="of the folder's pictures")
    parser.add_argument("--only", choices=CASES, help="one case alone")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="keep the rows")
    given = parser.parse_args()
    model, pictures = given.model or Path(str(embedded_model())), find_pictures(given.pictures)[: given.count]
    rows: Rows = []
    for name in CASES:
        if given.only in (None, name):
            rows.append(measured(name, model, pictures, given.rounds))
            keep(rows, given.json)
    show(rows)


if __name__ == "__main__":
    main()
