"""The heads of a model: each is opened once, when it is first needed, and blocks no other."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from small_models import CLASSIFIER, filled

from onnxcam import Element, Explainer, Preset
from onnxcam.errors import InferenceError, OnnxCamError
from onnxcam.explainer import heads

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
DEADLINE = 30


@pytest.fixture
def explainer() -> Any:
    with Explainer(filled(CLASSIFIER), providers=["cpu"], preset=PLAIN) as opened:
        yield opened


class Gate:
    """open_model() that waits until it may go on. fails: the errors that the next openings end in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.may_go, self.count, self.fails = threading.Event(), threading.Event(), 0, list[Exception]()
        self._open_model = heads.open_model
        monkeypatch.setattr(heads, "open_model", self)

    def __call__(self, *arguments: Any) -> Any:
        self.count += 1
        self.entered.set()
        assert self.may_go.wait(DEADLINE)
        if self.fails:
            raise self.fails.pop()
        return self._open_model(*arguments)


def test_other_heads_go_on_while_one_is_opened(explainer: Explainer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        element = pool.submit(explainer, PHOTOGRAPH, Element((2,)))
        assert gate.entered.wait(DEADLINE)
        assert explainer(PHOTOGRAPH, 2).target.index == 2, "the open head answers meanwhile"
        assert not element.done()
        gate.may_go.set()
        assert element.result(DEADLINE).target.kind == "elements"


def test_threads_that_need_the_same_head_open_it_once(explainer: Explainer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        elements = [pool.submit(explainer, PHOTOGRAPH, Element((2,))) for _ in range(4)]
        assert gate.entered.wait(DEADLINE)
        gate.may_go.set()
        maps = [element.result(DEADLINE).map for element in elements]
    assert gate.count == 1
    for map_ in maps:
        np.testing.assert_array_equal(map_, maps[0])


def test_a_head_that_did_not_open_is_tried_again(explainer: Explainer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    gate.may_go.set()
    gate.fails = [KeyError("a bug"), InferenceError("no memory")]
    with pytest.raises(InferenceError, match="no memory"):
        explainer(PHOTOGRAPH, Element((2,)))
    with pytest.raises(KeyError):
        explainer(PHOTOGRAPH, Element((2,)))
    assert explainer(PHOTOGRAPH, Element((2,))).target.index == 2
    assert gate.count == 3


def test_a_waiting_thread_opens_the_head_when_the_one_before_it_is_interrupted(
    explainer: Explainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    gate.fails = [KeyError("interrupted")]
    with ThreadPoolExecutor(2) as pool:
        elements = [pool.submit(explainer, PHOTOGRAPH, Element((2,))) for _ in range(2)]
        assert gate.entered.wait(DEADLINE)
        gate.may_go.set()
        errors = [element.exception(DEADLINE) for element in elements]
    assert sorted(type(error).__name__ for error in errors) == ["KeyError", "NoneType"]


def test_a_head_that_is_opened_while_the_explainer_closes_is_closed_too(
    explainer: Explainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        element = pool.submit(explainer, PHOTOGRAPH, Element((2,)))
        assert gate.entered.wait(DEADLINE)
        explainer.close()
        gate.may_go.set()
        assert isinstance(element.exception(DEADLINE), OnnxCamError)
        assert "closed" in str(element.exception())


def test_an_output_that_was_chosen_and_named_is_one_head(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, providers=["cpu"], preset=PLAIN) as explainer:
        table = explainer._heads
        chosen = table.of(table.head(Element((2,))))
        assert table.of(table.head(Element((2,), output=chosen.opened.anatomy.logits.output))) is chosen
