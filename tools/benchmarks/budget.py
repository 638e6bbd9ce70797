"""Measure Score-CAM with a budget or a tolerance against the exact map, on real pictures.

    python tools/benchmark_budget.py PICTURES --model FILE[:PRESET] ... --json budget.json

Every feature map of every picture is scored once; then the method runs as it is, its scores looked up. For each model:
the Pearson correlation with the exact map at budgets of 32, 64 and 128; the forward passes that tolerances take; how
often the reported bound holds; and what choosing and fitting cost beside the forward passes that they save.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table
from table import Rows, keep, row

from onnxcam import Explainer, score_cam
from onnxcam.errors import OnnxCamError
from onnxcam.inputs.bundled import model as embedded_model
from onnxcam.inputs.images import find_pictures
from onnxcam.methods.blocks import Method, Probe, live, run
from onnxcam.methods.maps import Outcome
from onnxcam.methods.score_cam import FAST, SURE
from onnxcam.types import Features, Floats, Masks, Score, Scores

BUDGETS = (32, 64, 128)
TOLERANCES = (0.01, 0.015, 0.02, 0.03, 0.04)
EMBEDDED = "embedded"
"""EfficientNet-Lite0, which comes with onnxcam."""
OTHERS = {
    ("budget 128", "pearson mean"): ">= 0.999", ("bound held", "share"): ">= 0.9",
    (f"tolerance {FAST:g}", "cost"): "<= 0.1",
}  # fmt: skip
"""What is to be reached: of any model, and of EfficientNet-Lite0."""
LITE0 = OTHERS | {
    ("budget 32", "pearson mean"): ">= 0.997", ("budget 32", "pearson worst"): ">= 0.99",
    ("budget 64", "pearson mean"): ">= 0.999", ("budget 64", "pearson worst"): ">= 0.995",
    ("budget 128", "pearson mean"): ">= 0.9997", ("budget 128", "pearson worst"): ">= 0.998",
    (f"tolerance {FAST:g}", "scored mean"): "<= 110", (f"tolerance {FAST:g}", "pearson mean"): ">= 0.999",
}  # fmt: skip
STAGES = ((1, 24), (24, 48), (48, 96), (96, 10**9))
"""Numbers of scored masks between which coverage is counted."""


@dataclass(frozen=True, eq=False)
class Case:
    """One picture's live maps with their scores: a probe that answers from memory. seconds: of scoring them all."""

    name: str
    features: Features
    size: tuple[int, ...]
    found: Scores
    originals: Floats
    seconds: float
    _places: dict[bytes, int] = field(default_factory=dict)

    @property
    def held(self) -> None:
        """Its maps are in NumPy."""

    @property
    def targets(self) -> int:
        return len(self.originals)

    def expect(self, passes: int) -> None:
        """No progress is shown."""

    def original(self, score: Score) -> Floats:
        return self.originals

    def score(self, masks: Masks, score: Score) -> Scores:
        if not self._places:
            self._places.update({mask.tobytes(): i for i, mask in enumerate(self.features)})
        return self.found[[self._places[mask[0].tobytes()] for mask in masks]]


def cases(explainer_of: Callable[[Method], Explainer], pictures: Sequence[Path], target: str, label: str) -> list[Case]:
    """Every picture scored once, with all of its live maps."""
    kept: list[Case] = []

    def score_all(probe: Probe) -> list[Outcome]:
        maps = probe.features[live(probe.features)]
        start = time.perf_counter()
        scores = probe.score(maps[:, None], Score.PROBABILITY)
        seconds = time.perf_counter() - start
        kept.append(Case(name, maps, probe.size, scores, probe.original(Score.PROBABILITY), seconds))
        return run(score_cam(), kept[-1])  # type: ignore[arg-type]

    method = Method(name="exact", paper="", cost="", explain=score_all, score=Score.PROBABILITY)
    with explainer_of(method) as explain:
        for picture in track(pictures, label, console=Console(stderr=True), transient=True):
            name = picture.name
            try:
                explain(picture, target)
            except OnnxCamError as error:
                print(f"{label}: {name} is left out: {error}", file=sys.stderr)
    return kept


@dataclass(frozen=True)
class Step:
    """One round. pearson, off: against the exact map; error: the bound that was reported; seconds: spent so far."""

    scored: int
    pearson: float
    off: float
    error: float
    seconds: float


def steps(case: Case, method: Method) -> Iterator[Step]:
    exact = run(score_cam(), case)[0].map  # type: ignore[arg-type]
    assert method.stream is not None
    spent, start = 0.0, time.perf_counter()
    for outcome, *_ in method.stream(case):  # type: ignore[arg-type]
        spent += time.perf_counter() - start
        error, channels = outcome.error or 0.0, outcome.channels or 0
        yield Step(channels, pearson(outcome.map, exact), rms(outcome.map, exact), error, spent)
        start = time.perf_counter()


def pearson(a: Floats, b: Floats) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def rms(a: Floats, b: Floats) -> float:
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))


def measure(found: Sequence[Case]) -> dict[str, Any]:
    """All figures of one model."""
    live_maps = [len(case.features) for case in found]
    figures: dict[str, Any] = {"pictures": len(found), "live maps": [min(live_maps), max(live_maps)]}
    for budget in BUDGETS:
        able = [case for case in found if len(case.features) > budget]
        if able:
            last = [list(steps(case, score_cam(budget=budget)))[-1] for case in able]
            figures[f"budget {budget}"] = summary(last) | {"cost": cost(able, last)}
    traces = [list(steps(case, score_cam(tolerance=min(TOLERANCES)))) for case in found]
    for tolerance in TOLERANCES:
        stopped = [next((s for s in trace if s.scored >= SURE and s.error <= tolerance), trace[-1]) for trace in traces]
        figures[f"tolerance {tolerance:g}"] = summary(stopped) | {"cost": cost(found, stopped)}
    everything = [s for trace in traces for s in trace if s.error > 0]
    for low, high in STAGES:
        inside = [s for s in everything if low <= s.scored < high]
        if inside:
            figures[f"bound held, {low} masks on"] = {"share": share(inside), "cases": len(inside)}
    figures["bound held"] = {"share": share(everything), "cases": len(everything)}
    return figures


def share(found: Sequence[Step]) -> float:
    return float(np.mean([s.off <= s.error for s in found]))


def summary(last: Sequence[Step]) -> dict[str, Any]:
    values: npt.NDArray[np.float64] = np.array([s.pearson for s in last])
    scored = [s.scored for s in last]
    return {
        "pearson mean": float(values.mean()), "pearson worst": float(values.min()),
        "scored mean": float(np.mean(scored)), "scored most": max(scored), "bound held": share(last),
    }  # fmt: skip


def cost(found: Sequence[Case], last: Sequence[Step]) -> float:
    """Seconds of choosing and fitting over seconds of the forward passes that were saved; the median picture's."""
    ratios = [
        step.seconds / (case.seconds * (1 - step.scored / len(case.features)))
        for case, step in zip(found, last, strict=True)
        if step.scored < len(case.features)
    ]
    return float(np.median(ratios)) if ratios else 0.0


def opener(file: Path, preset: str | None) -> Callable[[Method], Explainer]:
    return lambda method: Explainer(file, method, preset=preset, providers=["cpu"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of pictures")
    parser.add_argument("--model", action="append", help="FILE, FILE:PRESET or embedded, the default")
    parser.add_argument("--target", default="top1", help="the class that is explained")
    parser.add_argument("--limit", type=int, help="pictures, at most")
    parser.add_argument("--json", type=Path, help="keep the rows; written after each model")
    given = parser.parse_args()
    pictures = find_pictures(given.pictures)[: given.limit]
    figures: dict[str, Any] = {}
    rows: Rows = []
    for text in given.model or [EMBEDDED]:
        file, _, preset = text.partition(":")
        name = Path(file).name
        path = Path(str(embedded_model())) if file == EMBEDDED else Path(file)
        figures[name] = measure(cases(opener(path, preset or None), pictures, given.target, name))
        rows += rows_of(name, figures[name], LITE0 if file == EMBEDDED else OTHERS)
        keep(rows, given.json)
    for name, found in figures.items():
        Console(width=130).print(page(name, found))


def rows_of(name: str, figures: dict[str, Any], reaches: Mapping[tuple[str, str], str]) -> Rows:
    """Every figure, beside what is to be reached."""
    note = f"{figures['pictures']} pictures, {figures['live maps'][0]} to {figures['live maps'][1]} live maps"
    return [
        row(f"{name}, {what}: {kind}", [value], reaches.get((what, kind), ""),
            f"{found['cases']} rounds" if "cases" in found else note)
        for what, found in figures.items() if isinstance(found, dict)
        for kind, value in found.items() if kind != "cases"
    ]  # fmt: skip


def page(name: str, figures: dict[str, Any]) -> Table:
    table = Table("what", "pearson mean", "worst", "scored mean", "most", "bound held", "cost / saved", title=name)
    for what, found in figures.items():
        if not isinstance(found, dict):
            table.add_row(what, str(found))
        elif "cases" in found:
            table.add_row(what, "", "", "", "", f"{found['share']:.2f}", f"({found['cases']} cases)")
        else:
            table.add_row(
                what, f"{found['pearson mean']:.5f}", f"{found['pearson worst']:.4f}", f"{found['scored mean']:.0f}",
                str(found["scored most"]), f"{found['bound held']:.2f}", f"{found['cost']:.3f}",
            )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
