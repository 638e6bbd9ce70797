"""SingleFlight: each value is made once, by one thread, and making one blocks nothing else."""

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_models import CLASSIFIER, filled

from onnxcam.errors import InferenceError
from onnxcam.network import gradient_graphs
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.network.single_flight import SingleFlight
from onnxcam.surgeon.graphs.score_gradient import Wrt
from onnxcam.surgeon.loading import read_model
from onnxcam.types import Score

DEADLINE = 60
"""Seconds after which a thread that waits for another gives up."""


class Gate:
    """A `make` that waits until it may go on, and counts its calls."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.entered, self.may_go, self.count, self.error = threading.Event(), threading.Event(), 0, error

    def __call__(self) -> list[int]:
        self.count += 1
        self.entered.set()
        assert self.may_go.wait(DEADLINE)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return [self.count]


def test_threads_that_need_one_value_get_the_same_and_others_go_on() -> None:
    gate, flight = Gate(), SingleFlight[str, list[int]](list.clear)
    with ThreadPoolExecutor(4) as pool:
        same = [pool.submit(flight.get, "a", gate) for _ in range(4)]
        assert gate.entered.wait(DEADLINE)
        assert flight.get("b", lambda: [7]) == [7]
        assert flight.values == ([7],)
        gate.may_go.set()
        first, *others = [future.result(DEADLINE) for future in same]
    assert gate.count == 1
    assert all(value is first for value in others)
    flight.add("c", first)
    assert flight.get("c", lambda: pytest.fail("made")) is first
    assert len(flight.values) == 2


def test_a_failure_reaches_those_that_wait_and_the_next_call_tries_again() -> None:
    gate, flight = Gate(InferenceError("no memory")), SingleFlight[str, list[int]](list.clear)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(flight.get, "a", gate)
        assert gate.entered.wait(DEADLINE)
        gate.may_go.set()
        with pytest.raises(InferenceError, match="no memory"):
            waiting.result(DEADLINE)
    assert flight.get("a", gate) == [2]


def test_an_interrupted_thread_leaves_the_value_to_those_that_wait() -> None:
    gate, flight = Gate(KeyboardInterrupt()), SingleFlight[str, list[int]](list.clear)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(flight.get, "a", gate) for _ in range(2)]
        assert gate.entered.wait(DEADLINE)
        gate.may_go.set()
        errors = [type(future.exception(DEADLINE)).__name__ for future in both]
    assert sorted(errors) == ["KeyboardInterrupt", "NoneType"]
    assert flight.values == ([2],)


def test_closing_waits_for_nothing_and_closes_what_is_still_made() -> None:
    gate, flight = Gate(), SingleFlight[str, list[int]](list.clear)
    open_value = flight.get("b", lambda: [7])
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(flight.get, "a", gate)
        assert gate.entered.wait(DEADLINE)
        flight.close()
        assert open_value == []
        gate.may_go.set()
        assert late.result(DEADLINE) == []
    with pytest.raises(InferenceError, match="closed"):
        flight.get("b", lambda: [7])


def test_building_one_gradient_blocks_no_other_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = GradientRunner(open_model(read_model(filled(CLASSIFIER)), OpenOptions(providers=("cpu",))))
    feeds = gradient_graphs.noise_feeds(runner.opened, 1)
    maps = np.asarray(feeds.pop("onnxcam/maps"), np.float32)
    gate, built = Gate(), gradient_graphs.step_graph

    def slow(*arguments: object, guided: bool = False, keep: Collection[str] = ()) -> object:
        if Wrt.IMAGE in arguments:
            gate()
        return built(*arguments, guided=guided, keep=keep)  # type: ignore[arg-type]

    monkeypatch.setattr(gradient_graphs, "step_graph", slow)

    def run(wrt: Wrt) -> object:
        return runner.gradient(feeds, maps, Score.LOGIT, wrt, check_feeds=feeds)

    with ThreadPoolExecutor(1) as pool:
        image = pool.submit(run, Wrt.IMAGE)
        assert gate.entered.wait(DEADLINE)
        run(Wrt.MAPS)
        runner.tail(feeds, runner.opened.network.raw_features(feeds), Score.LOGIT)
        assert runner.notes == ()
        runner.close()
        gate.may_go.set()
        assert "closed" in str(image.exception(DEADLINE))
    with pytest.raises(InferenceError, match="closed"):
        run(Wrt.MAPS)
