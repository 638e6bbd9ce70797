"""The fuzzer: a bounded number of its cases, its mutations, and its judge against ends that must not pass."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the fuzzer forks and waits as Linux does")
sys.path.append(str(Path(__file__).parents[2] / "tools"))

from fuzzing import run as fuzzer  # noqa: E402
from fuzzing.comparison import agreement, both_sides  # noqa: E402
from fuzzing.mutations import STRUCTURED, Rng  # noqa: E402
from fuzzing.raw import RAW  # noqa: E402
from fuzzing.seeds import MODEL, built_in  # noqa: E402
from fuzzing.verdict import Limits, Verdict, judge, sandboxed  # noqa: E402

SECONDS = 1.0


def say(text: str, code: int) -> Callable[[], None]:
    def act() -> None:
        sys.stderr.write(text)
        raise SystemExit(code)

    return act


def typed_error() -> None:
    try:
        raise LookupError
    except LookupError:
        sys.stderr.write("error: no such thing\n")
        raise SystemExit(1) from None


def leave_a_file() -> None:
    Path("half.png").write_bytes(b"half")
    typed_error()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def raise_an_error() -> None:
    raise KeyError("nobody expects it")


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (raise_an_error, "traceback: KeyError"),
        (crash, "killed by SIGSEGV"),
        (os.abort, "killed by SIGABRT"),
        (lambda: time.sleep(60), "hang"),
        (lambda: bytearray(2**40), "traceback: MemoryError"),
        (leave_a_file, "files left behind"),
        (say("", 1), "exit 1 without a message"),
        (say("error: " + "x" * 3000, 1), "long message"),
        (say("error: a\nb\nc\nd\n", 1), "long message"),
        (say("error: \x1b[31mred\n", 1), "control characters in the message"),
        (say("error: usage", 2), "exit code 2"),
    ],
)
def test_the_judge_calls_what_must_not_happen_a_failure(action: Callable[[], None], kind: str, tmp_path: Path) -> None:
    verdict = judge(sandboxed(action, tmp_path, Limits(seconds=SECONDS)))
    assert verdict.outcome == "failure"
    assert verdict.kind.startswith(kind)


def test_a_process_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    start = time.monotonic()
    sandboxed(lambda: time.sleep(60), tmp_path, Limits(seconds=SECONDS))
    assert time.monotonic() - start < SECONDS + 5


def test_the_judge_lets_answers_and_typed_errors_pass(tmp_path: Path) -> None:
    limits = Limits(seconds=10)
    error = judge(sandboxed(typed_error, tmp_path, limits))
    assert (error.outcome, error.kind, error.noise) == ("error", "LookupError", "")
    answer = sandboxed(lambda: sys.stdout.write("{}"), tmp_path, limits)
    assert judge(answer) == Verdict("answer", "", "{}")
    assert judge(answer, lambda: "constant").kind == "wrong answer: constant"


def test_an_answer_that_differs_from_a_plain_run_is_wrong() -> None:
    numbers = np.array([1.0, -4.0, 2.5])
    record = {"target": {"index": 2, "value": 2.5, "probability": 0.9}, "logits": {"activation": "none"}}
    assert agreement(record, numbers, numbers) == "same"
    assert agreement(record, numbers, numbers, numbers + 1).startswith("differs: the rewritten")
    other = np.array([1.0, -4.0, 2.6])
    assert agreement(record, other, other).startswith("differs: value")
    assert agreement(record, numbers, -numbers).startswith("not comparable")


def test_the_sides_of_a_single_output_are_compared_as_two_classes() -> None:
    record = {"target": {"index": 0, "value": -2.5, "probability": 0.25}, "logits": {"activation": "none"}}
    logit, probability = np.array([2.5]), np.array([0.75])
    assert agreement(record, *[both_sides(logit, "none")] * 2) == "same"
    record["logits"]["activation"] = "sigmoid"
    assert agreement(record, *[both_sides(probability, "sigmoid")] * 2) == "same"
    assert agreement(record, *[both_sides(probability + 0.1, "sigmoid")] * 2).startswith("differs: probability")


@pytest.mark.parametrize("name", [*STRUCTURED, *RAW])
def test_every_mutation_changes_a_model_and_describes_the_change(name: str) -> None:
    changed = 0
    for files in built_in().values():
        data = files[MODEL]
        if name in RAW:
            new, change = RAW[name](Rng(1), data)
        else:
            model = ModelProto.FromString(data)
            change = STRUCTURED[name](Rng(1), model)
            new = model.SerializeToString()

        changed += change is not None and new != ModelProto.FromString(data).SerializeToString()
    assert changed


def test_seed_and_index_make_the_same_case_again() -> None:
    seeds = built_in()
    for index in range(60):
        assert fuzzer.make_case(seeds, 3, index) == fuzzer.make_case(built_in(), 3, index)
    assert fuzzer.make_case(seeds, 3, 1) != fuzzer.make_case(seeds, 4, 1)


@pytest.mark.slow
def test_damaged_models_give_a_typed_error_or_a_right_answer() -> None:
    results = list(fuzzer.run_all(built_in(), 0, range(60), Limits()))
    assert len(results) == 60
    failures = [f"case {r.index} {r.model} {r.changes}: {r.failures}" for r in results if r.failures]
    assert not failures, "\n".join(failures)
    assert sum(r.verdicts["explain"].outcome == "answer" for r in results) >= 5
