"""The fuzzer: its kept process and its judge against ends that must not pass, its mutations, and few of its cases."""

import os
import signal
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the fuzzer bounds its processes as Linux does")
sys.path.append(str(Path(__file__).parents[2] / "tools"))

from fuzzing import run as fuzzer  # noqa: E402
from fuzzing.comparison import agreement, both_sides  # noqa: E402
from fuzzing.containers import CONTAINERS, operate  # noqa: E402
from fuzzing.kept import Bounds, Files, Kept  # noqa: E402
from fuzzing.mutations import STRUCTURED, Rng  # noqa: E402
from fuzzing.picture_seeds import pictures  # noqa: E402
from fuzzing.raw import RAW  # noqa: E402
from fuzzing.seeds import MODEL, built_in  # noqa: E402
from fuzzing.shrink import shrunk  # noqa: E402
from fuzzing.subject import Case  # noqa: E402
from fuzzing.subjects import SUBJECTS  # noqa: E402
from fuzzing.verdict import Verdict, Wrong, fault_of_output, judged  # noqa: E402

from onnxcam.errors import LabelError  # noqa: E402


def behave(files: Files, folder: Path) -> Verdict:
    """Ends as the file says."""
    how = files["how"].decode()
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "hang":
        time.sleep(60)
    elif how == "memory":
        return Verdict("answer", str(len(np.ones(40 * 2**20, np.uint8))))
    elif how == "too much":
        return Verdict("answer", str(len(bytearray(2**40))))
    elif how == "bug":
        raise KeyError("nobody expects it")
    elif how == "wrong":
        raise Wrong("one and one are three", 3)
    elif how in ("error", "long error", "silent error"):
        raise LabelError({"error": "no such class", "long error": "a line\n" * 9, "silent error": " "}[how])
    return Verdict("answer", detail=str(os.getpid()))


@pytest.fixture(scope="module")
def kept():  # type: ignore[no-untyped-def]
    process = Kept(behave, Bounds(seconds=3, memory=2**34, peak=20 * 2**20))
    yield process
    process.remove()


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("crash", "killed by SIGSEGV"),
        ("hang", "hang"),
        ("memory", "takes more memory than it may"),
        ("too much", "traceback: MemoryError"),
        ("bug", "traceback: KeyError"),
        ("wrong", "wrong answer: one and one are three"),
        ("long error", "long message (LabelError)"),
        ("silent error", "an error without a message (LabelError)"),
    ],
)
def test_what_must_not_happen_is_a_failure_and_the_next_case_runs(kept: Kept, how: str, kind: str) -> None:
    verdict = kept.run({"how": how.encode()})
    assert (verdict.outcome, verdict.kind) == ("failure", kind)
    assert verdict.seconds < 20
    assert kept.run({"how": b"answer"}).outcome == "answer"


def test_cases_share_one_process_until_one_ends_it(kept: Kept) -> None:
    before = kept.run({"how": b"answer"}).detail
    assert kept.run({"how": b"error"}).kind == "LabelError"
    assert kept.run({"how": b"answer"}).detail == before
    kept.run({"how": b"crash"})
    assert kept.run({"how": b"answer"}).detail != before


@pytest.mark.parametrize(
    ("printed", "fault"),
    [
        ("error: no such thing\n", None),
        ("", "exit 1 without a message"),
        ("error: " + "x" * 3000, "long message"),
        ("error: a\nb\nc\nd\n", "long message"),
        ("error: \x1b[31mred\n", "control characters in the message"),
    ],
)
def test_the_command_line_prints_an_error_in_a_line_or_two(printed: str, fault: str | None) -> None:
    assert fault_of_output(printed) == fault


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


def test_the_parts_of_a_picture_put_together_are_the_file() -> None:
    files = pictures()
    with_parts = {name: c for name, data in files.items() for c in CONTAINERS if c.begins(data)}
    for name, container in with_parts.items():
        parts = container.split(files[name])
        assert parts
        assert container.join(parts) == files[name], name
    formats = {name.partition("-")[0] for name in with_parts}
    assert formats >= {"png", "jpeg", "gif", "tiff", "webp", "jp2"}
    assert operate(Rng(0), b"no picture", b"") is None


def test_a_failure_is_shrunk_to_what_it_needs() -> None:
    files = {"a": bytes(300) + b"bad" + bytes(500), "b": b"also"}
    assert shrunk(files, lambda files: b"bad" in files["a"], tries=10_000) == {"a": b"bad", "b": b""}


@pytest.mark.parametrize("kind", SUBJECTS)
def test_seed_and_index_make_the_same_case_again(kind: str) -> None:
    one = SUBJECTS[kind]
    seeds = one.seeds()
    for index in range(30):
        case = fuzzer.make_case(one, seeds, 3, index)
        assert isinstance(case, Case)
        assert case == fuzzer.make_case(one, seeds, 3, index)
    assert fuzzer.make_case(one, seeds, 3, 1) != fuzzer.make_case(one, seeds, 4, 1)


def test_every_seed_of_pictures_is_read_as_pillow_reads_it(tmp_path: Path) -> None:
    from fuzzing.pictures import check

    for name, data in pictures().items():
        verdict = judged(check, {"picture": data}, tmp_path)
        assert verdict.outcome == "answer" or name.startswith("bands"), (name, verdict)


def test_every_seed_of_data_sets_is_read(tmp_path: Path) -> None:
    one = SUBJECTS["data_sets"]
    for name, files in one.seeds().items():
        verdict = judged(one.check, files, tmp_path / name)
        assert verdict.outcome == "answer", (name, verdict)


def test_another_picture_than_pillows_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from fuzzing import pictures as subject

    file = BytesIO(pictures()["png-rgb"])
    with pytest.raises(Wrong, match="other pixels than Pillow's"):
        subject.compare(file.getvalue(), np.zeros((20, 24, 3), np.uint8))
    with pytest.raises(Wrong, match="Pillow refuses"):
        subject.compare(file.getvalue()[:60], np.zeros((20, 24, 3), np.uint8))


def test_few_damaged_inputs_of_each_kind_give_a_typed_error_or_a_right_answer() -> None:
    failures = []
    for kind, count in {"pictures": 60, "arrays": 60, "texts": 60, "data_sets": 60, "records": 5, "models": 8}.items():
        one = SUBJECTS[kind]
        results = list(fuzzer.run_all(one, one.seeds(), 0, range(count), time.monotonic() + 300))
        assert len(results) == count
        failures += [f"{r.kind} {r.index} {r.case.changes}: {r.verdict}" for r in results if r.failed]
    assert not failures, "\n".join(failures)
