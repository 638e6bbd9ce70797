"""What an explanation costs, in numbers that no other process changes: runs, sessions, graphs, memory, imports.

Times belong to tools/benchmarks. A change that makes a number smaller is welcome: write the new one into the table. One
that makes it larger needs a reason. One thread and eight masks a run, so that the numbers are those of any machine.
"""

import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnx_ir
import onnxruntime
import pytest

from onnxcam import Explainer, Method, method
from onnxcam.inputs.bundled import model, pictures
from onnxcam.surgeon import checked_model


class AtMost(int):
    """A bound where processors round differently, or libraries allocate differently."""


Expected = Mapping[str, Mapping[str, int]]
OPENING = {"files parsed": 1, "graphs read": 1, "graphs written": 1, "sessions": 2, "runs": 6}
COSTS: Mapping[str, tuple[Method, Expected]] = {
    "exact Score-CAM": (
        method("score-cam"),
        {"opening": OPENING, "first": {"passes": 454, "runs": 58, "MB": AtMost(5)}},
    ),
    "Score-CAM --fast": (
        method("score-cam", tolerance=0.02),
        {"opening": OPENING, "first": {"passes": AtMost(100), "runs": AtMost(19), "MB": AtMost(14)}},
    ),
    "Grad-CAM": (
        method("grad-cam"),
        {
            "opening": OPENING,
            "first": {"graphs read": 1, "graphs written": 3, "sessions": 2, "runs": 4, "MB": AtMost(50)},
            "second": {"runs": 1, "MB": AtMost(5)},
        },
    ),
    "64 masks of RISE": (
        method("rise", masks=64),
        {
            "opening": OPENING,
            "first": {"passes": 65, "runs": 9, "MB": AtMost(34)},
            "second": {"passes": 65, "runs": 9, "MB": AtMost(34)},
        },
    ),
}
"""Of the embedded EfficientNet-Lite0 and the photograph `chelsea`. What is not named is 0."""
COUNTED = {
    "files parsed": (checked_model, "parse"),
    "graphs read": (onnx_ir, "from_proto"),
    "graphs written": (onnx_ir, "to_proto"),
    "sessions": (onnxruntime.InferenceSession, "__init__"),
    "runs": (onnxruntime.InferenceSession, "run"),
    "runs on buffers": (onnxruntime.InferenceSession, "run_with_iobinding"),
}
"""Functions whose calls are counted. MB is the peak of what Python and NumPy allocate; passes are the record's."""
NOT_AT_IMPORT = "cv2 numpy onnx onnx_ir onnxruntime onnxscript PIL rich sympy typer"
NOT_TO_EXPLAIN = "jinja2 matplotlib onnxcam.compiler onnxcam.evaluation pandas pyarrow pydicom ray tifffile torch yaml"
EXPLAIN = """
import sys
from onnxcam import Explainer
from onnxcam.inputs.bundled import model, pictures
import onnxcam.cli.explain
with Explainer(model(), "grad-cam", providers=["cpu"], threads=1) as explain:
    explain(pictures()["chelsea"])
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The calls of the functions of COUNTED from here on."""
    counter: Counter[str] = Counter()

    def counting(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            counter[what] += 1
            return function(*arguments, **named)

        return call

    for what, (owner, name) in COUNTED.items():
        monkeypatch.setattr(owner, name, counting(what, getattr(owner, name)))
    return counter


@contextmanager
def peak_of(counter: Counter[str]) -> Iterator[None]:
    """Counts the peak of Python's memory, in whole MB, rounded up."""
    tracemalloc.start()
    try:
        yield
        counter["MB"] = -(-tracemalloc.get_traced_memory()[1] // 2**20)
    finally:
        tracemalloc.stop()


def check(stage: str, counted: Counter[str], expected: Mapping[str, int]) -> None:
    """Compares the counts of one stage, and says all that differ."""
    wrong = []
    for what in sorted({*counted, *expected}):
        number, bound = counted[what], expected.get(what, 0)
        if number > bound or (number != bound and not isinstance(bound, AtMost)):
            wrong.append(f"{what}: {number}, not {'at most ' if isinstance(bound, AtMost) else ''}{bound}")
    if wrong:
        pytest.fail(f"{stage}: {'; '.join(wrong)}")
    counted.clear()


@pytest.mark.parametrize("name", COSTS)
def test_an_explanation_costs_no_more_than_it_did(name: str, calls: Counter[str]) -> None:
    made, expected = COSTS[name]
    with Explainer(model(), made, providers=["cpu"], threads=1, batch=8) as explain:
        check("opening", calls, expected["opening"])
        for stage in [stage for stage in expected if stage != "opening"]:
            with peak_of(calls):
                saliency = explain(pictures()["chelsea"])
            calls["passes"] = saliency.provenance.forwards
            check(stage, calls, expected[stage])


def test_a_count_that_changed_is_named() -> None:
    counted = Counter({"runs": 9, "sessions": 2, "MB": 3, "passes": 0})
    with pytest.raises(
        pytest.fail.Exception, match=r"^first: MB: 3, not at most 2; runs: 9, not 8; sessions: 2, not 0$"
    ):
        check("first", counted, {"runs": 8, "MB": AtMost(2)})


@pytest.mark.parametrize(
    ("program", "names"), [("import onnxcam", NOT_AT_IMPORT), (EXPLAIN, NOT_TO_EXPLAIN)], ids=["import", "explain"]
)
def test_packages_that_are_not_needed_are_not_imported(program: str, names: str) -> None:
    command = [sys.executable, "-c", f"{program}\nimport json, sys; print(json.dumps(list(sys.modules)))"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert not modules & set(names.split())
