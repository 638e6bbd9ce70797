"""Deadlines: what is late is stopped, by one thread for all, which ends when nothing waits."""

import multiprocessing
import threading
import time

import pytest

from onnxcam.engine import deadlines
from onnxcam.engine.deadlines import Deadline


def test_a_late_block_is_stopped_and_a_quick_one_is_not() -> None:
    stopped = threading.Event()
    with Deadline(0.02, stopped.set) as late:
        assert stopped.wait(10)
    quick = Deadline(60, lambda: pytest.fail("stopped too early"))
    with quick:
        pass
    assert (late.passed, quick.passed) == (True, False)


def test_a_shorter_deadline_is_kept_while_a_longer_one_waits() -> None:
    stopped = threading.Event()
    with Deadline(600, lambda: None) as long, Deadline(0.02, stopped.set) as short:
        assert stopped.wait(10)
    assert (long.passed, short.passed) == (False, True)


def test_no_deadline_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "Thread", lambda **_: pytest.fail("a thread was started"))
    endless = Deadline(None, lambda: pytest.fail("stopped"))
    with endless:
        pass
    assert not endless.passed


def test_many_deadlines_share_one_thread_which_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_watch", deadlines._Watch())
    started: list[threading.Thread] = []
    monkeypatch.setattr(
        threading.Thread, "start", lambda t, start=threading.Thread.start: (started.append(t), start(t))
    )
    for _ in range(1000):
        with Deadline(600, lambda: None):
            pass
    assert len(started) == 1
    with Deadline(0.02, lambda: None):  # the thread looks at once, and again when this one has passed
        pass
    started[0].join(10)
    assert not started[0].is_alive()


def _stops_in_a_child(results: "multiprocessing.Queue[bool]") -> None:
    stopped = threading.Event()
    with Deadline(0.02, stopped.set):
        results.put(stopped.wait(10))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of newer versions of Python, on a fork beside threads
def test_a_forked_child_has_a_watch_of_its_own() -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with Deadline(600, lambda: None):
        child = context.Process(target=_stops_in_a_child, args=(results,))
        child.start()
    assert results.get(timeout=20)
    child.join(10)


def test_a_deadline_far_away_does_not_end_the_watch() -> None:
    stopped = threading.Event()
    with Deadline(1e12, lambda: None):
        time.sleep(0.05)  # the watch waits for it
        with Deadline(0.05, stopped.set):
            assert stopped.wait(5)
