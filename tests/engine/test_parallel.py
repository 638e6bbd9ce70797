import threading
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxcam.engine import parallel
from onnxcam.engine.parallel import ParallelRunner, RunLimits, RunPlan, candidates, default_plan, fastest
from onnxcam.engine.session import Session, may_leave_the_cpu
from onnxcam.errors import InferenceError, OptionError, OutOfMemory
from onnxcam.types import Floats, Masks

PICTURES = np.random.default_rng(0).standard_normal((300, 3, 16, 12)).astype(np.float32)


def logits(session: Session, chunk: Masks) -> Floats:
    return session.run(["logits"], {"x": chunk})[0]


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a measurement that is over soon."""
    monkeypatch.setattr(parallel, "available_threads", lambda: 4)
    monkeypatch.setattr(parallel, "SECONDS", 0.0)


@pytest.fixture
def opened(classifier: onnx.ModelProto, four_cores: None) -> Callable[..., ParallelRunner]:
    def make(
        threads: int | None = None,
        batch: int | None = None,
        fixed: int | None = None,
        known: RunPlan | None = None,
        keep: Callable[[RunPlan], None] | None = None,
    ) -> ParallelRunner:
        return ParallelRunner(
            classifier.SerializeToString, ["cpu"], RunLimits(threads, batch, fixed, 10**5), known, keep
        )

    return make


def test_every_core_has_a_run_of_its_own_as_far_as_memory_holds_them() -> None:
    assert default_plan(cores=4, room=100) == RunPlan(1, 4, 2)
    assert default_plan(cores=4, room=6) == RunPlan(1, 4, 1)
    assert default_plan(cores=4, room=2) == RunPlan(2, 2, 1)
    assert default_plan(cores=4, room=1) == RunPlan(4, 1, 1)
    assert default_plan(cores=1, room=100) == RunPlan(1, 1, 2)
    assert default_plan(cores=4, room=8, fixed=3) == RunPlan(2, 2, 3)
    assert all(default_plan(c, r).in_flight <= r for c in (1, 2, 7, 16) for r in (1, 2, 3, 20, 500))


def test_candidates_are_the_present_pace_larger_chunks_and_one_run_at_a_time() -> None:
    assert candidates(RunPlan(1, 4, 2), cores=4, room=100) == [RunPlan(1, 4, 2), RunPlan(1, 4, 4), RunPlan(4, 1, 8)]
    assert candidates(RunPlan(1, 4, 2), cores=4, room=8) == [RunPlan(1, 4, 2), RunPlan(4, 1, 8)]
    assert candidates(RunPlan(1, 4, 3), cores=4, room=100, fixed=3) == [RunPlan(1, 4, 3), RunPlan(4, 1, 3)]
    assert candidates(RunPlan(1, 1, 2), cores=1, room=100) == [RunPlan(1, 1, 2)]


def test_another_pace_is_taken_only_where_it_is_faster_by_more_than_noise() -> None:
    first, other = RunPlan(1, 2, 2), RunPlan(2, 1, 4)
    assert fastest({first: [9, 1, 2, 4], other: [9, 0.98, 1.94, 3.9]}) is first
    assert fastest({first: [9, 1, 2, 4], other: [9, 0.9, 1.8, 8]}) is other, "the rounds are compared one by one"
    assert fastest({first: [0, 1, 1, 1], other: [0, 2, 2, 2]}) is first
    assert fastest({first: [0, 1, 1, 1]}) is first


def test_the_pace_does_not_change_the_scores(opened: Callable[..., ParallelRunner]) -> None:
    expected = opened(threads=1, batch=1).map(logits, PICTURES[:37])
    for made in (
        opened(),
        opened(threads=3),
        opened(batch=7),
        opened(known=RunPlan(2, 2, 5)),
        opened(known=RunPlan(4, 1, 8)),
    ):
        np.testing.assert_allclose(made.map(logits, PICTURES[:37]), expected, 0, 1e-6 * np.abs(expected).max())


def test_what_a_person_asks_for_is_taken(opened: Callable[..., ParallelRunner]) -> None:
    assert opened().plan == RunPlan(1, 4, 2)
    assert opened(threads=3).plan == RunPlan(3, 1, 6)
    assert opened(batch=7).plan.batch == 7
    assert opened(threads=3, batch=7).plan == RunPlan(3, 1, 7)
    assert opened(fixed=3).plan == RunPlan(1, 4, 3)
    with pytest.raises(OptionError, match="1 or more"):
        opened(batch=0)


def test_a_known_pace_is_taken_unless_this_process_has_fewer_cores(opened: Callable[..., ParallelRunner]) -> None:
    assert opened(known=RunPlan(2, 2, 5)).plan == RunPlan(2, 2, 5)
    assert opened(known=RunPlan(2, 2, 5)).session.threads == 2
    assert opened(known=RunPlan(8, 1, 16)).plan == RunPlan(1, 4, 2)
    assert opened(threads=3, known=RunPlan(2, 2, 5)).plan == RunPlan(3, 1, 6)


def test_a_measurement_runs_the_work_itself_once_and_is_kept(
    opened: Callable[..., ParallelRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[RunPlan] = []
    seen: list[int] = []
    told: list[tuple[int, int]] = []
    made = opened(keep=kept.append)
    expected = opened(threads=1, batch=1).map(logits, PICTURES)
    lock = threading.Lock()

    def run(session: Session, chunk: Masks) -> Floats:
        with lock:
            seen.append(len(chunk))
        return logits(session, chunk)

    monkeypatch.setattr(parallel, "fastest", lambda times: list(times)[2])
    found = made.map(run, PICTURES, lambda done, every: told.append((done, every)))
    np.testing.assert_allclose(found, expected, 0, 1e-6 * np.abs(expected).max())
    assert sum(seen) == len(PICTURES)
    assert kept == [RunPlan(4, 1, 8)]
    assert made.plan == RunPlan(4, 1, 8)
    assert made.session.threads == 4
    assert told == sorted(told)
    assert told[-1] == (300, 300)
    made.map(run, PICTURES)
    assert len(kept) == 1, "measured once"


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 16), (0.02, 4 * 16), (60.0, 8 * 16)])
def test_slots_are_long_enough_to_tell_paces_apart(
    opened: Callable[..., ParallelRunner], monkeypatch: pytest.MonkeyPatch, seconds: float, expected: int
) -> None:
    """A slot of 5 ms first, then as many masks as fill the time that is asked for."""
    times = iter(np.arange(1000) * 0.005)
    monkeypatch.setattr(parallel.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(parallel, "SECONDS", seconds)
    made, compared = opened(keep=lambda plan: None), []
    monkeypatch.setattr(made, "_at", lambda session, plan, run, rows, told: (compared.append(len(rows)), rows)[1])
    rest = 5
    found = made.map(logits, np.arange(16 + 11 * expected + rest))
    assert compared == [16] + [expected] * 11 + [rest]
    assert found.tolist() == list(range(16 + 11 * expected + rest))


def test_little_work_is_not_measured(opened: Callable[..., ParallelRunner]) -> None:
    kept: list[RunPlan] = []
    made = opened(keep=kept.append)
    made.map(logits, PICTURES[:20])
    assert kept == []
    assert made.plan == RunPlan(1, 4, 2)
    for _ in range(20):
        made.map(logits, PICTURES[:20])
    assert len(kept) == 1, "many small requests make a large one"
    kept.clear()
    opened(threads=2, keep=kept.append).map(logits, PICTURES)
    assert kept == [], "a person who gave the threads is not asked"


def test_few_masks_are_shared_out_evenly(opened: Callable[..., ParallelRunner]) -> None:
    sizes: list[int] = []

    def run(session: Session, chunk: Masks) -> Floats:
        sizes.append(len(chunk))
        return logits(session, chunk)

    opened(known=RunPlan(1, 4, 8)).map(run, PICTURES[:8])
    assert sorted(sizes) == [2, 2, 2, 2]
    sizes.clear()
    opened(known=RunPlan(1, 4, 2)).map(run, PICTURES[:19])
    assert sorted(sizes, reverse=True) == [2] * 8 + [1] * 3, "no core is idle while another has two left"
    sizes.clear()
    opened(fixed=3).map(run, PICTURES[:7])
    assert sorted(sizes) == [1, 3, 3], "a graph of a fixed batch computes three whatever is asked"


def test_runs_beside_each_other_halve_the_batch_and_at_last_run_alone(opened: Callable[..., ParallelRunner]) -> None:
    lock, running, told = threading.Lock(), [0], []

    def run(session: Session, chunk: Masks) -> Floats:
        with lock:
            running[0] += len(chunk)
            full = running[0] > 1
        try:
            if full:
                raise OutOfMemory("too much at once")
            return logits(session, chunk)
        finally:
            with lock:
                running[0] -= len(chunk)

    made = opened(known=RunPlan(1, 4, 8))
    found = made.map(run, PICTURES[:32], lambda done, every: told.append((done, every)))
    np.testing.assert_allclose(found, logits(made.session, PICTURES[:32]), 0, 1e-5)
    assert told == sorted(told)
    assert told[-1] == (32, 32)


def test_one_mask_that_does_not_fit_alone_is_an_error(opened: Callable[..., ParallelRunner]) -> None:
    def run(session: Session, chunk: Masks) -> Floats:
        raise OutOfMemory("Failed to allocate 9 GB")

    with pytest.raises(OutOfMemory, match="one picture alone does not fit"):
        opened().map(run, PICTURES[:32])


def test_an_error_of_one_run_ends_the_others(opened: Callable[..., ParallelRunner]) -> None:
    begun: list[int] = []

    def run(session: Session, chunk: Masks) -> Floats:
        begun.append(len(chunk))
        raise InferenceError("no")

    with pytest.raises(InferenceError, match="no"):
        opened().map(run, PICTURES)
    assert len(begun) <= 8
    made = opened()
    made.close()
    with pytest.raises(InferenceError, match="closed"):
        made.map(logits, PICTURES)


def test_whether_the_cpu_is_all_there_is() -> None:
    assert not may_leave_the_cpu(["cpu"])
    assert may_leave_the_cpu(["cuda", "cpu"])
    assert may_leave_the_cpu(["openvino"])


def test_a_batch_that_did_not_fit_does_not_come_back_with_the_measurement(
    opened: Callable[..., ParallelRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "fastest", lambda times: list(times)[-1])
    kept: list[RunPlan] = []
    made = opened(keep=kept.append)
    made.shrink(1)
    for _ in range(20):
        made.map(logits, PICTURES)
    assert [plan.batch for plan in kept] == [1]
    assert made.plan.batch == 1


def test_a_measurement_that_another_thread_ends_is_no_error(opened: Callable[..., ParallelRunner]) -> None:
    made = opened(keep=lambda plan: None)

    def run(session: Session, chunk: Masks) -> Floats:
        made._trial = None  # as the thread does that ends it, or closes
        return logits(session, chunk)

    for _ in range(20):
        found = made.map(run, PICTURES)
    np.testing.assert_allclose(found, made.map(logits, PICTURES), atol=1e-6)
