"""Benchmark of Score-CAM with a budget or a tolerance against the exact map, on real pictures.

    python tools/benchmarks/budget.py PICTURES --model FILE[:PRESET] ... --json budget.json

Every feature map of every picture is scored once. The method then runs as it is, its scores looked up in that table.
Measures for each model: the Pearson correlation with the exact map at budgets of 32, 64 and 128; the forward passes
that each tolerance takes; how often the reported bound holds; and the time of choosing masks and fitting, as a share of
the forward passes that are saved.
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
from table import Rows, row, save

from onnxcam import Explainer, score_cam
from onnxcam.errors import OnnxCamError
from onnxcam.inputs.bundled import model as embedded_model
from onnxcam.inputs.images import find_pictures
from onnxcam.methods.blocks import Method, Probe, live, run
from onnxcam.methods.estimate.rounds import SURE
from onnxcam.methods.maps import Outcome
from onnxcam.methods.score_cam import FAST
from onnxcam.types import Features, Floats, Masks, Score, Scores

BUDGETS = (32, 64, 128)
TOLERANCES = (0.01, 0.015, 0.02, 0.03, 0.04)
EMBEDDED = "embedded"
"""EfficientNet-Lite0, which comes with onnxcam."""
ANY_MODEL = {
    ("budget 128", "pearson mean"): ">= 0.999", ("bound held", "share"): ">= 0.9",
    (f"tolerance {FAST:g}", "cost"): "<= 0.1",
}  # fmt: skip
"""Bounds to reach, of (row, figure), for any model."""
LITE0 = ANY_MODEL | {
    ("budget 32", "pearson mean"): ">= 0.997", ("budget 32", "pearson worst"): ">= 0.99",
    ("budget 64", "pearson mean"): ">= 0.999", ("budget 64", "pearson worst"): ">= 0.995",
    ("budget 128", "pearson mean"): ">= 0.9997", ("budget 128", "pearson worst"): ">= 0.998",
    (f"tolerance {FAST:g}", "scored mean"): "<= 110", (f"tolerance {FAST:g}", "pearson mean"): ">= 0.999",
}  # fmt: skip
"""Bounds to reach for EfficientNet-Lite0."""
STAGES = ((1, 24), (24, 48), (48, 96), (96, 10**9))
"""Numbers of scored masks, from and below, between which the share of held bounds is counted."""


@dataclass(frozen=True, eq=False)
class Case:
    """One picture's live feature maps and their scores. It is a probe that looks its scores up.

    scores (K,T) of `features` (K,h,w); originals (T,) of the unmasked picture; seconds: the time of scoring all maps.
    """

    name: str
    features: Features
    size: tuple[int, ...]
    scores: Scores
    originals: Floats
    seconds: float
    _places: dict[bytes, int] = field(default_factory=dict)

    @property
    def device_features(self) -> None:
        """None: its maps are in NumPy."""

    @property
    def reduced(self) -> bool:
        """False: its scores are float32's."""
        return False

    @property
    def targets(self) -> int:
        return len(self.originals)

    def expect(self, passes: int) -> None:
        """Does nothing: no progress is shown."""

    def original(self, score: Score) -> Floats:
        return self.originals

    def score(self, masks: Masks, score: Score) -> Scores:
        if not self._places:
            self._places.update({mask.tobytes(): i for i, mask in enumerate(self.features)})
        return self.scores[[self._places[mask[0].tobytes()] for mask in masks]]


def scored_cases(
    explainer_of: Callable[[Method], Explainer], pictures: Sequence[Path], target: str, label: str
) -> list[Case]:
    """Scores all live maps of every picture. A picture that cannot be explained is named and skipped."""
    scored: list[Case] = []

    def score_all(probe: Probe) -> list[Outcome]:
        maps = probe.features[live(probe.features)]
        start = time.perf_counter()
        scores = probe.score(maps[:, None], Score.PROBABILITY)
        seconds = time.perf_counter() - start
        scored.append(Case(name, maps, probe.size, scores, probe.original(Score.PROBABILITY), seconds))
        return run(score_cam(), scored[-1])  # type: ignore[arg-type]

    method = Method(name="exact", paper="", cost="", explain=score_all, score=Score.PROBABILITY)
    with explainer_of(method) as explain:
        for picture in track(pictures, label, console=Console(stderr=True), transient=True):
            name = picture.name
            try:
                explain(picture, target)
            except OnnxCamError as error:
                print(f"{label}: {name} is skipped: {error}", file=sys.stderr)
    return scored


@dataclass(frozen=True)
class Round:
    """One round of choosing, scoring and fitting.

    scored: masks so far; pearson, rms: against the exact map; bound: the reported error; seconds: so far.
    """

    scored: int
    pearson: float
    rms: float
    bound: float
    seconds: float


def rounds_of(case: Case, method: Method) -> Iterator[Round]:
    """The rounds of the method on one picture."""
    exact = run(score_cam(), case)[0].map  # type: ignore[arg-type]
    assert method.stream is not None
    spent, start = 0.0, time.perf_counter()
    for outcome, *_ in method.stream(case):  # type: ignore[arg-type]
        spent += time.perf_counter() - start
        bound, channels = outcome.error or 0.0, outcome.channels or 0
        yield Round(channels, pearson(outcome.map, exact), rms(outcome.map, exact), bound, spent)
        start = time.perf_counter()


def pearson(a: Floats, b: Floats) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def rms(a: Floats, b: Floats) -> float:
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))


def measure(cases: Sequence[Case]) -> dict[str, Any]:
    """All figures of one model, by row and figure."""
    live_maps = [len(case.features) for case in cases]
    figures: dict[str, Any] = {"pictures": len(cases), "live maps": [min(live_maps), max(live_maps)]}
    for budget in BUDGETS:
        able = [case for case in cases if len(case.features) > budget]
        if able:
            last = [list(rounds_of(case, score_cam(budget=budget)))[-1] for case in able]
            figures[f"budget {budget}"] = summary(last) | {"cost": cost(able, last)}
    traces = [list(rounds_of(case, score_cam(tolerance=min(TOLERANCES)))) for case in cases]
    for tolerance in TOLERANCES:
        stopped = [next((s for s in trace if s.scored >= SURE and s.bound <= tolerance), trace[-1]) for trace in traces]
        figures[f"tolerance {tolerance:g}"] = summary(stopped) | {"cost": cost(cases, stopped)}
    bounded = [s for trace in traces for s in trace if s.bound > 0]
    for low, high in STAGES:
        inside = [s for s in bounded if low <= s.scored < high]
        if inside:
            figures[f"bound held, {low} masks on"] = {"share": share(inside), "cases": len(inside)}
    figures["bound held"] = {"share": share(bounded), "cases": len(bounded)}
    return figures


def share(rounds: Sequence[Round]) -> float:
    """The share of rounds whose error is within the reported bound."""
    return float(np.mean([s.rms <= s.bound for s in rounds]))


def summary(last: Sequence[Round]) -> dict[str, Any]:
    values: npt.NDArray[np.float64] = np.array([s.pearson for s in last])
    scored = [s.scored for s in last]
    return {
        "pearson mean": float(values.mean()), "pearson worst": float(values.min()),
        "scored mean": float(np.mean(scored)), "scored most": max(scored), "bound held": share(last),
    }  # fmt: skip


def cost(cases: Sequence[Case], last: Sequence[Round]) -> float:
    """Seconds of choosing and fitting over seconds of the forward passes that were saved; the median over pictures."""
    ratios = [
        final.seconds / (case.seconds * (1 - final.scored / len(case.features)))
        for case, final in zip(cases, last, strict=True)
        if final.scored < len(case.features)
    ]
    return float(np.median(ratios)) if ratios else 0.0


def opener(file: Path, preset: str | None) -> Callable[[Method], Explainer]:
    return lambda method: Explainer(file, method, preset=preset, providers=["cpu"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of pictures")
    parser.add_argument("--model", action="append", help="FILE, FILE:PRESET, or embedded (the default)")
    parser.add_argument("--target", default="top1", help="the class that is explained")
    parser.add_argument("--limit", type=int, help="use at most so many pictures")
    parser.add_argument("--json", type=Path, help="write the rows here, after each model")
    arguments = parser.parse_args()
    pictures = find_pictures(arguments.pictures)[: arguments.limit]
    figures: dict[str, Any] = {}
    rows: Rows = []
    for text in arguments.model or [EMBEDDED]:
        file, _, preset = text.partition(":")
        name = Path(file).name
        path = Path(str(embedded_model())) if file == EMBEDDED else Path(file)
        figures[name] = measure(scored_cases(opener(path, preset or None), pictures, arguments.target, name))
        rows += rows_of(name, figures[name], LITE0 if file == EMBEDDED else ANY_MODEL)
        save(rows, arguments.json)
    for name, values in figures.items():
        Console(width=130).print(page(name, values))


def rows_of(name: str, figures: dict[str, Any], reaches: Mapping[tuple[str, str], str]) -> Rows:
    """A row for every figure of a model, with its bound to reach."""
    note = f"{figures['pictures']} pictures, {figures['live maps'][0]} to {figures['live maps'][1]} live maps"
    return [
        row(f"{name}, {what}: {kind}", [value], reaches.get((what, kind), ""),
            f"{values['cases']} rounds" if "cases" in values else note)
        for what, values in figures.items() if isinstance(values, dict)
        for kind, value in values.items() if kind != "cases"
    ]  # fmt: skip


def page(name: str, figures: dict[str, Any]) -> Table:
    """The table of one model that is printed."""
    table = Table("what", "pearson mean", "worst", "scored mean", "most", "bound held", "cost / saved", title=name)
    for what, values in figures.items():
        if not isinstance(values, dict):
            table.add_row(what, str(values))
        elif "cases" in values:
            table.add_row(what, "", "", "", "", f"{values['share']:.2f}", f"({values['cases']} cases)")
        else:
            table.add_row(
                what, f"{values['pearson mean']:.5f}", f"{values['pearson worst']:.4f}", f"{values['scored mean']:.0f}",
                str(values["scored most"]), f"{values['bound held']:.2f}", f"{values['cost']:.3f}",
            )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
