"""One picture of an evaluation against separate calls for the same rows: seconds, processor seconds, forward passes.

    python tools/benchmarks/evaluate.py [--methods A,B] [--metrics A,B ...] [--pictures FOLDER] [--json FILE]

Separate calls are what the library offers without an evaluation: an Explainer for each method, opened once, then
explain() for every picture and measure() for every metric of its map. The Evaluator is opened once too. Opening is not
in the times. Both take turns, picture by picture, and which goes first alternates. Each --metrics is a set that is
measured by itself. Values are compared too: they are the same, up to the rounding of another batch.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from table import Row, Rows, row, save, show

from onnxcam import Explainer
from onnxcam.cli.options import MethodArgs
from onnxcam.cli.parsing import build_methods
from onnxcam.engine.session import Session
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.model_request import ModelRequest
from onnxcam.evaluation.options import EvaluationOptions
from onnxcam.inputs.bundled import model, pictures
from onnxcam.inputs.images import find_pictures

METHODS = "score-cam,grad-cam,layer-cam"
SETS = (
    "average-drop,deletion,insertion,faithfulness-correlation",
    "average-drop,average-increase,deletion,insertion",
    "average-drop,average-increase,average-gain,sparseness",
)
"""The first is the mixture that docs/metrics.md asks for: two curves, a drop and a correlation."""
Values = dict[tuple[str, str], float | None]


class Case:
    """A call for one picture, and how long it took each time."""

    def __init__(self, call: Callable[[Path], Values]) -> None:
        self.call = call
        self.seconds: list[float] = []
        self.processor: list[float] = []

    def run(self, picture: Path) -> Values:
        wall, processor = time.perf_counter(), time.process_time()
        values = self.call(picture)
        self.seconds.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)
        return values


@contextmanager
def counted_passes() -> Iterator[list[int]]:
    """Counts the pictures that go through sessions."""
    passes: list[int] = []
    run = Session.run

    def counting(self: Session, *arguments: Any, pictures: int = 1, **named: Any) -> Any:
        passes.append(pictures)
        return run(self, *arguments, pictures=pictures, **named)

    Session.run = counting  # type: ignore[method-assign]
    try:
        yield passes
    finally:
        Session.run = run  # type: ignore[method-assign]


def separate(explainers: Sequence[Explainer], metrics: Sequence[str]) -> Callable[[Path], Values]:
    """A map by each Explainer, then each metric of it."""

    def call(picture: Path) -> Values:
        values: Values = {}
        for explainer in explainers:
            (saliency,) = explainer.explain(picture)
            for metric in metrics:
                measured = explainer.measure(saliency, metric)[metric]
                values[explainer.method.name, measured.metric] = measured.value
        return values

    return call


def shared(evaluator: Evaluator) -> Callable[[Path], Values]:
    def call(picture: Path) -> Values:
        rows = evaluator.evaluate(DataItem(picture, picture.name), "").rows
        return {(r.key.method.partition(" ")[0], r.key.metric): r.value for r in rows}

    return call


def compared(arguments: argparse.Namespace, metrics: str, files: Sequence[Path]) -> Rows:
    """The rows of one set of metrics."""
    methods, names = build_methods(MethodArgs(method=arguments.methods)), metrics.split(",")
    opening = {"providers": arguments.providers.split(",")}
    path = arguments.model or model()
    with ExitStack() as opened:
        explainers = [opened.enter_context(Explainer(path, method, **opening)) for method in methods]
        options = EvaluationOptions(methods, names, baselines=())
        evaluator = opened.enter_context(Evaluator(ModelRequest(path, opening), options))
        one, other = Case(shared(evaluator)), Case(separate(explainers, names))
        worst = _difference(case_pair(one, other, files[0], 0))  # warms up
        passes = []
        for case in (one, other):
            with counted_passes() as runs:
                case.call(files[0])
            passes.append(sum(runs))
        one, other = Case(one.call), Case(other.call)
        for i in range(arguments.rounds):
            for file in files:
                worst = max(worst, _difference(case_pair(one, other, file, i)))
    what, note = f"evaluate / separate, {arguments.methods}; {metrics}", f"{len(files)} pictures, {Path(path).stem}"
    return [
        _ratio(f"{what}: seconds", one.seconds, other.seconds, "<= 0.8", note),
        _ratio(f"{what}: processor seconds", one.processor, other.processor, "", note),
        row(f"{what}: forward passes", [passes[0] / passes[1]], "", f"{passes[0]} / {passes[1]} of one picture"),
        row(f"{what}: largest difference of a value", [worst], "<= 1e-5", note),
    ]


def case_pair(one: Case, other: Case, file: Path, turn: int) -> tuple[Values, Values]:
    """The values of both for one picture; which goes first alternates."""
    if turn % 2:
        theirs = other.run(file)
        return one.run(file), theirs
    return one.run(file), other.run(file)


def _difference(values: tuple[Values, Values]) -> float:
    """The largest difference, of metrics in percent a hundredth. Raises SystemExit where only one is defined."""
    largest = 0.0
    for key in values[0].keys() | values[1].keys():
        a, b = (each.get(key) for each in values)
        if (a is None) != (b is None):
            raise SystemExit(f"{key}: {a} and {b}")
        if a is not None and b is not None:
            largest = max(largest, abs(a - b) / (100 if key[1].startswith("average") else 1))
    return largest


def _ratio(what: str, ones: Sequence[float], others: Sequence[float], reach: str, note: str) -> Row:
    seconds = f"; {sum(ones) / len(ones):.2f} / {sum(others) / len(others):.2f} s a picture"
    return row(what, [a / b for a, b in zip(ones, others, strict=True)], reach, note + seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS, help="with options as in score-cam:tolerance=0.02,grad-cam")
    parser.add_argument("--metrics", action="append", help="four metrics with commas; may be repeated")
    parser.add_argument("--pictures", type=Path, help="folder of photographs; default: the two that are bundled")
    parser.add_argument("--most", type=int, default=8, help="pictures at most")
    parser.add_argument("--model", type=Path, help="default: the embedded EfficientNet-Lite0")
    parser.add_argument("--providers", default="cpu")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all pictures")
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    files = find_pictures(arguments.pictures) if arguments.pictures else list(pictures().values())
    rows: Rows = []
    for metrics in arguments.metrics or SETS:
        rows += compared(arguments, metrics, files[: arguments.most])
        save(rows, arguments.json)
    show(rows)


if __name__ == "__main__":
    main()
