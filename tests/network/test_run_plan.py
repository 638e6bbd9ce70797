"""A run plan is measured once for a machine and a model, during an explanation, and read from the cache later."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxcam import Explainer, Preset, rise
from onnxcam.engine import parallel
from onnxcam.engine.parallel import RunPlan
from onnxcam.network import cache
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.surgeon.graphs.masked_score import TARGETS
from onnxcam.surgeon.loading import read_model
from onnxcam.types import Score

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path))
    monkeypatch.setattr(parallel, "available_threads", lambda: 2)
    monkeypatch.setattr(parallel, "MIN_SECONDS", 0.0)
    return tmp_path


def explained(model: onnx.ModelProto, threads: int | None = None) -> tuple[np.ndarray, RunPlan]:
    with Explainer(model, rise(masks=200), providers=["cpu"], preset=PLAIN, threads=threads) as explainer:
        saliency = explainer(PHOTOGRAPH)
        assert saliency.provenance.forwards == 201
        return saliency.map, explainer._heads.first.network._runner.plan


def test_the_first_explanation_measures_and_the_next_opening_reads_the_plan(
    classifier: onnx.ModelProto, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[list[RunPlan]] = []

    def last(times: dict[RunPlan, list[float]]) -> RunPlan:
        measured.append(list(times))
        return list(times)[-1]

    monkeypatch.setattr(parallel, "fastest", last)
    plain, plan = explained(classifier, threads=1)
    assert measured == []
    assert plan == RunPlan(1, 1, 2)
    first, plan = explained(classifier)
    assert measured == [[RunPlan(1, 2, 2), RunPlan(1, 2, 4), RunPlan(2, 1, 4)]]
    assert plan == RunPlan(2, 1, 4)
    again, plan = explained(classifier)
    assert len(measured) == 1
    assert plan == RunPlan(2, 1, 4)
    np.testing.assert_allclose(first, plain, 0, 1e-5)
    np.testing.assert_allclose(again, plain, 0, 1e-5)


def test_another_machine_measures_again(classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    monkeypatch.setattr(parallel, "fastest", lambda times: measured.append(1) or next(iter(times)))
    explained(classifier)
    monkeypatch.setattr(cache, "machine", lambda: "another, 2 cores")
    explained(classifier)
    assert len(measured) == 2


def test_without_a_cache_nothing_is_measured(classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", "off")
    monkeypatch.setattr(parallel, "fastest", lambda times: pytest.fail("measured"))
    assert explained(classifier)[1] == RunPlan(1, 2, 2)


def test_an_opening_without_the_cache_neither_reads_nor_writes_a_plan(
    classifier: onnx.ModelProto, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "fastest", lambda times: pytest.fail("measured"))
    monkeypatch.setattr(cache, "load_plan", lambda name: pytest.fail("read"))
    opened = open_model(read_model(classifier), OpenOptions(providers=("cpu",), cache=False))
    feeds = {**opened.network.feeds(np.zeros((3, 16, 12), np.float32), None, {}), TARGETS: np.zeros(1, np.int64)}
    assert opened.network.score(feeds, np.ones((200, 1, 4, 3), np.float32), Score.LOGIT).shape == (200, 1)
    opened.network.close()
    assert list(folder.iterdir()) == []
