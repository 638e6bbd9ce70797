import threading
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxcam.engine import parallel
from onnxcam.engine.parallel import ParallelRunner, RunLimits, RunPlan, default_plan
from onnxcam.engine.session import Session, may_leave_the_cpu
from onnxcam.errors import InferenceError, OptionError, OutOfMemory
from onnxcam.types import Floats, Masks

IMAGES = np.random.default_rng(0).standard_normal((300, 3, 16, 12)).astype(np.float32)


def logits(session: Session, chunk: Masks) -> Floats:
    return session.run(["logits"], {"x": chunk})[0]


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four cores."""
    monkeypatch.setattr(parallel, "available_threads", lambda: 4)


@pytest.fixture
def opened(classifier: onnx.ModelProto, four_cores: None) -> Callable[..., ParallelRunner]:
    def make(
        threads: int | None = None,
        batch: int | None = None,
        fixed: int | None = None,
        plan: RunPlan | None = None,
    ) -> ParallelRunner:
        return ParallelRunner(classifier.SerializeToString, ["cpu"], RunLimits(threads, batch, fixed, 10**5), plan)

    return make


def test_every_core_has_a_run_of_its_own_as_far_as_memory_holds_them() -> None:
    assert default_plan(cores=4, capacity=100) == RunPlan(1, 4, 2)
    assert default_plan(cores=4, capacity=6) == RunPlan(1, 4, 1)
    assert default_plan(cores=4, capacity=2) == RunPlan(2, 2, 1)
    assert default_plan(cores=4, capacity=1) == RunPlan(4, 1, 1)
    assert default_plan(cores=1, capacity=100) == RunPlan(1, 1, 2)
    assert default_plan(cores=4, capacity=8, fixed=3) == RunPlan(2, 2, 3)
    assert all(default_plan(c, r).in_flight <= r for c in (1, 2, 7, 16) for r in (1, 2, 3, 20, 500))


def test_the_plan_does_not_change_the_scores(opened: Callable[..., ParallelRunner]) -> None:
    expected = opened(threads=1, batch=1).map(logits, IMAGES[:37])
    for runner in (
        opened(),
        opened(threads=3),
        opened(batch=7),
        opened(plan=RunPlan(2, 2, 5)),
        opened(plan=RunPlan(4, 1, 8)),
    ):
        np.testing.assert_allclose(runner.map(logits, IMAGES[:37]), expected, 0, 1e-6 * np.abs(expected).max())


def test_the_callers_threads_and_batch_are_taken(opened: Callable[..., ParallelRunner]) -> None:
    assert opened().plan == RunPlan(1, 4, 2)
    assert opened(threads=3).plan == RunPlan(3, 1, 6)
    assert opened(batch=7).plan.batch == 7
    assert opened(threads=3, batch=7).plan == RunPlan(3, 1, 7)
    assert opened(fixed=3).plan == RunPlan(1, 4, 3)
    with pytest.raises(OptionError, match="1 or more"):
        opened(batch=0)


def test_a_given_plan_is_taken_unless_this_process_has_fewer_cores(opened: Callable[..., ParallelRunner]) -> None:
    assert opened(plan=RunPlan(2, 2, 5)).plan == RunPlan(2, 2, 5)
    assert opened(plan=RunPlan(2, 2, 5)).session.threads == 2
    assert opened(plan=RunPlan(8, 1, 16)).plan == RunPlan(1, 4, 2)
    assert opened(threads=3, plan=RunPlan(2, 2, 5)).plan == RunPlan(3, 1, 6)


def test_few_masks_are_divided_evenly(opened: Callable[..., ParallelRunner]) -> None:
    sizes: list[int] = []

    def run(session: Session, chunk: Masks) -> Floats:
        sizes.append(len(chunk))
        return logits(session, chunk)

    opened(plan=RunPlan(1, 4, 8)).map(run, IMAGES[:8])
    assert sorted(sizes) == [2, 2, 2, 2]
    sizes.clear()
    opened(plan=RunPlan(1, 4, 2)).map(run, IMAGES[:19])
    assert sorted(sizes, reverse=True) == [2] * 8 + [1] * 3, "no core is idle while another has two to do"
    sizes.clear()
    opened(fixed=3).map(run, IMAGES[:7])
    assert sorted(sizes) == [1, 3, 3], "a graph with a fixed batch always computes three"


def test_runs_side_by_side_halve_the_batch_and_at_last_run_alone(opened: Callable[..., ParallelRunner]) -> None:
    lock, running, reported = threading.Lock(), [0], []

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

    runner = opened(plan=RunPlan(1, 4, 8))
    scores = runner.map(run, IMAGES[:32], lambda done, total: reported.append((done, total)))
    np.testing.assert_allclose(scores, logits(runner.session, IMAGES[:32]), 0, 1e-5)
    assert reported == sorted(reported)
    assert reported[-1] == (32, 32)


def test_one_mask_that_does_not_fit_alone_is_an_error(opened: Callable[..., ParallelRunner]) -> None:
    def run(session: Session, chunk: Masks) -> Floats:
        raise OutOfMemory("Failed to allocate 9 GB")

    with pytest.raises(OutOfMemory, match="one picture alone does not fit"):
        opened().map(run, IMAGES[:32])


def test_an_error_of_one_run_ends_the_others(opened: Callable[..., ParallelRunner]) -> None:
    started: list[int] = []

    def run(session: Session, chunk: Masks) -> Floats:
        started.append(len(chunk))
        raise InferenceError("no")

    with pytest.raises(InferenceError, match="no"):
        opened().map(run, IMAGES)
    assert len(started) <= 8
    runner = opened()
    runner.close()
    with pytest.raises(InferenceError, match="closed"):
        runner.map(logits, IMAGES)


def test_may_leave_the_cpu_unless_only_the_cpu_is_listed() -> None:
    assert not may_leave_the_cpu(["cpu"])
    assert may_leave_the_cpu(["cuda", "cpu"])
    assert may_leave_the_cpu(["openvino"])


def test_a_batch_that_did_not_fit_does_not_come_back(opened: Callable[..., ParallelRunner]) -> None:
    runner, sizes = opened(), list[int]()

    def run(session: Session, chunk: Masks) -> Floats:
        sizes.append(len(chunk))
        return logits(session, chunk)

    runner.shrink(1)
    runner.shrink(2)
    runner.map(run, IMAGES[:12])
    assert sizes == [1] * 12
