"""Methods that run in lockstep: each gets the answers to its requests, and an error of one leaves the others alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_models import CLASSIFIER, filled

from onnxcam import Explainer, Method
from onnxcam.errors import InferenceError, OnnxCamError, UndefinedSaliency
from onnxcam.explainer.lockstep import run_lockstep
from onnxcam.methods.maps import Outcome
from onnxcam.network.probe import ImageProbe
from onnxcam.network.scorer import Network
from onnxcam.types import Score

PICTURES = np.random.default_rng(3).standard_normal((5, 3, 16, 12)).astype(np.float32)
MASKS = np.random.default_rng(6).random((9, 1, 4, 3)).astype(np.float32)


class Script:
    """A method that requests as many scores as its picture's number says, and then calls end()."""

    def __init__(self, probes: list[ImageProbe], lengths: tuple[int, ...], gradients: bool = False) -> None:
        self.number = {p.image.tobytes(): i for i, p in enumerate(probes)}
        self.lengths, self.gradients, self.ended = lengths, gradients, []  # type: ignore[var-annotated]
        self.end: Callable[[int], None] = lambda i: None

    def __call__(self, probe: Any) -> list[Outcome]:
        i, answers = self.number[probe.image.tobytes()], []
        try:
            for k in range(self.lengths[i]):
                mask = MASKS[k : k + 1]
                if self.gradients:
                    answers.append(float(probe.score_gradient(mask, np.zeros(1, int), Score.LOGIT)[0][0]))
                else:
                    answers.append(float(probe.score(mask, Score.LOGIT)[0, 0]))
            self.end(i)
        finally:
            self.ended.append(i)
        return [Outcome(np.zeros(probe.size, np.float32), np.asarray(answers, np.float32))]


@pytest.fixture
def probes() -> Iterator[list[ImageProbe]]:
    with Explainer(filled(CLASSIFIER.replace("Relu", "Tanh")), providers=["cpu"]) as explainer:
        forwards = [next(iter(explainer._forward(picture).results.values())) for picture in PICTURES]
        yield [explainer._pipeline.resolve(forward, [2], None).probe for forward in forwards]


LENGTHS = (2, 6, 0, 4, 4)


@pytest.mark.parametrize("gradients", [False, True])
def test_methods_of_different_lengths_get_their_own_answers_to_the_end(
    probes: list[ImageProbe], gradients: bool
) -> None:
    method = Method("script", "none", "none", Script(probes, LENGTHS, gradients))
    for outcomes, probe, length in zip(run_lockstep(method, probes), probes, LENGTHS, strict=True):
        assert isinstance(outcomes, list)
        expected = probe.score(MASKS[:length], Score.LOGIT)[:, 0] if length else np.zeros(0, np.float32)
        np.testing.assert_allclose(outcomes[0].raw, expected, rtol=1e-4)


def test_an_error_of_one_picture_leaves_the_others_alone(probes: list[ImageProbe]) -> None:
    script = Script(probes, LENGTHS)

    def end(i: int) -> None:
        if i in (0, 2):
            raise UndefinedSaliency(f"picture {i}")

    script.end = end
    results = run_lockstep(Method("script", "none", "none", script), probes)
    assert [str(f) if isinstance(f, OnnxCamError) else len(f) for f in results] == ["picture 0", 1, "picture 2", 1, 1]
    assert sorted(script.ended) == [0, 1, 2, 3, 4]


def test_a_shared_run_that_fails_is_repeated_picture_by_picture(
    probes: list[ImageProbe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails for one picture's numbers fails for it alone, and is counted once."""
    script = Script(probes, LENGTHS)
    original, broken = Network._run_in, np.asarray(probes[1].feeds["onnxcam/image"])

    def run_in(self: Network, session: Any, feeds: Any, masks: Any, outputs: Any) -> Any:
        if any(np.array_equal(image, broken[0]) for image in feeds["onnxcam/image"]):
            raise InferenceError("index out of range")
        return original(self, session, feeds, masks, outputs)

    monkeypatch.setattr(Network, "_run_in", run_in)
    results = run_lockstep(Method("script", "none", "none", script), probes)
    assert [str(f) if isinstance(f, OnnxCamError) else len(f) for f in results] == [1, "index out of range", 1, 1, 1]
    assert [p.count.forwards for p in probes] == [2, 0, 0, 4, 4]
    assert sorted(script.ended) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 5])
def test_a_picture_that_fails_reports_no_end(probes: list[ImageProbe], count: int) -> None:
    reports: list[tuple[int, int]] = []
    watched = [
        replace(p, count=replace(p.count, progress=lambda *report: reports.append(report))) for p in probes[:count]
    ]

    def fail(probe: Any) -> list[Outcome]:
        probe.expect(7)
        raise UndefinedSaliency("nothing")

    results = run_lockstep(Method("fails", "none", "none", fail), watched)
    assert all(isinstance(f, UndefinedSaliency) for f in results)
    assert reports == []


def test_what_a_caller_set_for_the_thread_holds_in_every_method(probes: list[ImageProbe]) -> None:
    def divides(probe: Any) -> list[Outcome]:
        probe.score(MASKS[:1], Score.LOGIT)
        return [Outcome(np.ones(probe.size, np.float32) / np.float32(0), np.zeros(1, np.float32))]

    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        run_lockstep(Method("divides", "none", "none", divides), probes)


def test_any_other_error_ends_all_and_leaves_nothing_behind(probes: list[ImageProbe]) -> None:
    script = Script(probes, LENGTHS)

    def end(i: int) -> None:
        if i == 0:
            raise KeyboardInterrupt

    script.end = end
    with pytest.raises(KeyboardInterrupt):
        run_lockstep(Method("script", "none", "none", script), probes)
    assert sorted(script.ended) == [0, 1, 2, 3, 4]


def test_a_callback_that_raises_ends_all(probes: list[ImageProbe]) -> None:
    def stop(done: int, of: int) -> None:
        raise RuntimeError("enough")

    script = Script(probes, LENGTHS)
    watched = [replace(p, count=replace(p.count, progress=stop)) for p in probes]
    with pytest.raises(RuntimeError, match="enough"):
        run_lockstep(Method("script", "none", "none", script), watched)
    assert sorted(script.ended) == [0, 1, 2, 3, 4]
