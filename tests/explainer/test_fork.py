"""An Explainer that was used goes on in a forked child, as workers of a server that preloads its model do."""

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from detectors import detector, picture
from forked import in_fork

from onnxcam import Explainer, method, score_cam
from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError
from onnxcam.explainer.prefetch import explain_each
from onnxcam.methods.blocks import Method

X = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)
OTHER = X[:, ::-1].copy()
"""Two images of the classifier."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")


METHODS = (
    score_cam(),
    score_cam(tolerance=0.05),
    method("grad-cam"),
    method("ablation-cam"),
    method("opti-cam", max_iter=3),
    method("rise", masks=20),
    method("smooth-grad", samples=3),
)


@pytest.mark.parametrize("options", [{}, {"threads": 1}, {"threads": 2}, {"batch": 8}], ids=str)
@pytest.mark.parametrize("made", METHODS, ids=lambda made: f"{made.name} {made.options.get('tolerance', '')}")
def test_a_child_makes_the_parents_map_after_use_in_the_parent(
    classifier: onnx.ModelProto, made: Method, options: dict[str, Any]
) -> None:
    with Explainer(classifier, made, providers=["cpu"], **options) as explain:
        expected = explain(X).map
        assert np.array_equal(in_fork(lambda: explain(X).map), expected)
        assert np.array_equal(in_fork(lambda: in_fork(lambda: explain(X).map)), expected)  # a child's child
        assert np.array_equal(explain(X).map, expected)


@pytest.mark.parametrize("options", [{}, {"threads": 2}], ids=str)
def test_every_entry_point_goes_on_in_a_child(classifier: onnx.ModelProto, options: dict[str, Any]) -> None:
    pictures = [X, OTHER, X, OTHER]
    with Explainer(classifier, score_cam(tolerance=0.05), providers=["cpu"], **options) as explain:
        scorer = explain.scorer(X)
        entries = {
            "batch": lambda: [s.map for s in explain.batch(pictures)],
            "stream": lambda: [s.map for s in explain.stream(X)],
            "explain": lambda: [s.map for s in explain.explain(X, ["top1", "rank2"])],
            "on device": lambda: [s.map.numpy() for s in explain.explain_on_device(X)],
            "scorer": lambda: [explain.scorer(X).masks(np.ones((3, 4, 3))), scorer.masks(np.zeros((3, 4, 3)))],
            "measure": lambda: [explain.measure(explain(X), "average-drop", picture=X)["average-drop"].value],
            "with_method": lambda: [explain.with_method("grad-cam")(X).map],
        }
        for name, entry in entries.items():
            expected = entry()
            for actual in (in_fork(entry), entry()):
                assert all(map(np.array_equal, actual, expected)), name
            assert len(expected) > 0


def test_what_was_not_used_in_the_parent_is_opened_in_the_child(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, "grad-cam", providers=["cpu"]) as explain:
        in_child = in_fork(lambda: explain(X).map)
        assert np.array_equal(in_child, explain(X).map)


def test_a_selection_and_boxes_of_their_own_go_on_in_a_child() -> None:
    model = detector("suppressed by class")
    with Explainer(model, providers=["cpu"], preset="raw") as explain:
        expected = explain(picture()[0])
        actual = in_fork(lambda: explain(picture()[0]))
        assert np.array_equal(actual.map, expected.map)
        assert actual.target == expected.target


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"batch": 8}], ids=str)
def test_a_child_may_close_and_the_parent_goes_on(classifier: onnx.ModelProto, options: dict[str, Any]) -> None:
    def close() -> str:
        explain.close()
        with pytest.raises(InferenceError, match="closed") as raised:
            explain(X)
        return str(raised.value)

    with Explainer(classifier, "grad-cam", providers=["cpu"], **options) as explain:
        expected = explain(X).map
        assert "closed" in in_fork(close)
        assert np.array_equal(explain(X).map, expected)


def test_children_of_a_parent_in_the_middle_of_explanations_do_not_hang(classifier: onnx.ModelProto) -> None:
    """A lock, a run or an opening session of another thread at the moment of the fork."""
    with Explainer(classifier, score_cam(), providers=["cpu"]) as explain:
        expected, ended = explain(X).map, threading.Event()

        def work() -> None:
            while not ended.is_set():
                explain(X)
                explain.scorer(X).masks(np.ones((4, 4, 3)))

        others = [threading.Thread(target=work) for _ in range(3)]
        for other in others:
            other.start()
        try:
            for _ in range(15):
                assert np.array_equal(in_fork(lambda: explain(X).map), expected)
        finally:
            ended.set()
            for other in others:
                other.join()


def test_a_fork_within_a_progress_callback_leaves_both_processes_their_map(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, score_cam(), providers=["cpu"]) as explain:
        expected, in_children = explain(X).map, []

        def progress(done: int, total: int) -> None:
            in_children.append(in_fork(lambda: explain(X).map))

        (saliency,) = explain.explain(X, progress=progress)
        assert np.array_equal(saliency.map, expected)
        assert in_children
        assert all(np.array_equal(each, expected) for each in in_children)


def test_pictures_that_were_begun_before_a_fork_end_in_an_error_in_the_child(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, score_cam(), providers=["cpu"]) as explain:
        results = explain_each(explain, [(image, [None]) for image in (X, OTHER) * 20])
        next(results)

        def go_on() -> str:
            with pytest.raises(InferenceError, match="forked while pictures were explained") as raised:
                list(results)
            return str(raised.value)

        assert in_fork(go_on)
        assert len(list(results)) == 39


def test_a_device_that_does_not_survive_a_fork_is_a_typed_error(classifier: onnx.ModelProto) -> None:
    session = Session(classifier.SerializeToString(), ["cpu"], 1)
    session.provider = "cuda"
    with pytest.raises(InferenceError, match=r"provider cuda before the process forked.*spawn or forkserver"):
        in_fork(lambda: session.run(["logits"], {"x": X[None]}))
    in_fork(session.close)


SERVER = """
import os, signal, sys, threading
import numpy as np
from onnxcam import Explainer
x = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)
explain = Explainer("tiny.onnx", "grad-cam", providers=["cpu"], threads=2)
expected = explain(x).map
children = []
for worker in range(3):
    child = os.fork()
    if child == 0:
        assert np.array_equal(explain(x).map, expected)
        sys.exit(7)
    children.append(child)
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [7, 7, 7]
"""
"""A server that preloads its model and forks workers, each of which ends as a Python program does."""


def test_workers_of_a_preloading_server_explain_and_end(classifier_file: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SERVER], cwd=classifier_file.parent, timeout=60, capture_output=True)
    assert done.returncode == 0, done.stderr


def _explained(explain: Explainer) -> Any:
    return explain(X).map


def test_a_process_of_multiprocessing_goes_on(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, score_cam(), providers=["cpu"]) as explain:
        expected = explain(X).map
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        process = context.Process(target=lambda: queue.put(_explained(explain)))
        process.start()
        process.join(30)
        assert process.exitcode == 0
        assert np.array_equal(queue.get(), expected)
