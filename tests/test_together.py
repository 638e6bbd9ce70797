"""Several pictures at one time: each gets what it would get alone, runs are shared, and one's trouble is its own."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import CLASSIFIER, filled

from onnxcam import METHODS, Explainer, Fill, Method, Preset, opti_cam, rise, score_cam
from onnxcam.answers import Looked
from onnxcam.arrays import Score
from onnxcam.engine.memory import Device
from onnxcam.engine.resident import Resident
from onnxcam.errors import MissingGradient, OnnxCamError, OutOfMemory, UndefinedSaliency
from onnxcam.methods.outcomes import Outcome
from onnxcam.network import Network
from onnxcam.probe import PictureProbe
from onnxcam.targets import Region
from onnxcam.together import company, run_together

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPHS = np.random.default_rng(3).integers(0, 256, (5, 40, 30, 3)).astype(np.uint8)
MASKS = np.random.default_rng(6).random((9, 1, 4, 3)).astype(np.float32)
TURNED = Fill("turned", lambda image, preset: np.ascontiguousarray(image[:, ::-1, ::-1]) * 0.5)
OPTIONS: dict[str, dict[str, Any]] = {
    "opti-cam": {"max_iter": 6}, "mask": {"max_iter": 12, "cell": 4, "convention": "constructive"}, "smooth-grad": {"samples": 5}, "rise": {"masks": 70},
    "integrated-gradients": {"steps": 5},
}  # fmt: skip
ALIVE = CLASSIFIER.replace("Relu", "Tanh")
"""Its 8 feature maps vary on every picture."""
SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,4,8,6] logits)
<float[6,3,3,3] w, float[4,6,1,1] v>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  logits = Conv <kernel_shape=[1,1]> (f, v)
}"""
SHIFTED = CLASSIFIER.replace("x) =>", "x, float[N,5] shift) =>").replace("logits = Gemm", "plain = Gemm").replace(
    "(flat, w3, b3)", "(flat, w3, b3)\n  logits = Add (plain, shift)"
)  # fmt: skip
"""A further input of its own for each picture."""


def opened(proto: onnx.ModelProto | None = None, method: Method | None = None, **options: Any) -> Explainer:
    given = {"preset": PLAIN, "providers": ["cpu"], **options}
    return Explainer(proto if proto is not None else filled(ALIVE), method, **given)


def looked(explainer: Explainer, targets: Any = (None,), count: int = 5) -> list[Looked]:
    return [explainer.look(photograph, targets) for photograph in PHOTOGRAPHS[:count]]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Masks of every scoring run from here on."""
    seen: list[int] = []
    own = Network._run_in

    def watched(self: Network, session: Any, feeds: Any, masks: Any, outputs: Any) -> Any:
        seen.append(len(masks))
        return own(self, session, feeds, masks, outputs)

    monkeypatch.setattr(Network, "_run_in", watched)
    return seen


@pytest.mark.parametrize("name", METHODS)
def test_pictures_together_get_the_maps_of_each_alone(name: str) -> None:
    with opened(filled(CLASSIFIER), METHODS[name](**OPTIONS.get(name, {})), batch=4) as explainer:
        together = explainer.explain_together(looked(explainer, (2, "top1")), (2, "top1"))
        assert sum(isinstance(found, list) for found in together) >= 3
        for found, photograph in zip(together, PHOTOGRAPHS, strict=True):
            if isinstance(found, OnnxCamError):
                with pytest.raises(type(found), match=re.escape(str(found))):
                    explainer.explain(photograph, (2, "top1"))
                continue
            for one, alone in zip(found, explainer.explain(photograph, (2, "top1")), strict=True):
                np.testing.assert_allclose(one.map, alone.map, atol=2e-4)
                assert (one.target.index, one.provenance.forwards) == (alone.target.index, alone.provenance.forwards)
                assert one.provenance.steps == alone.provenance.steps


@pytest.mark.parametrize("options", [{"batch": 4}, {"batch": 3, "threads": 1}, {"batch": 1}, {}])
@pytest.mark.parametrize("method", [score_cam(), score_cam(fill=TURNED), score_cam(budget=5), rise(masks=17)])
def test_whatever_the_batch(method: Method, options: dict[str, Any]) -> None:
    with opened(method=method, **options) as explainer:
        for found, photograph in zip(explainer.batch(PHOTOGRAPHS), PHOTOGRAPHS, strict=True):
            np.testing.assert_allclose(found.map, explainer(photograph).map, atol=1e-5)


def test_regions_and_other_heads_share_too() -> None:
    with opened(filled(SEGMENTER), batch=4) as explainer:
        wanted = [Region(1, (0, 0, 30, 20)), Region(2, (10, 5, 30, 40))]
        together = explainer.explain_together(looked(explainer, wanted), wanted)
        for found, photograph in zip(together, PHOTOGRAPHS, strict=True):
            assert isinstance(found, list)
            for one, alone in zip(found, explainer.explain(photograph, wanted), strict=True):
                np.testing.assert_allclose(one.map, alone.map, atol=1e-5)


def test_what_is_left_over_shares_runs(runs: list[int]) -> None:
    """8 channels in runs of 3: 3 + 3 + 2 alone; five times 2 are 3 + 3 + 3 + 1 together."""
    with opened(batch=3) as explainer:
        ready = looked(explainer)
        runs.clear()
        explainer.explain_together(ready)
        assert runs == [3] * 13 + [1]
        runs.clear()
        for one in ready:
            explainer.explain(one)
        assert runs == [3, 3, 2] * 5


def test_a_few_masks_at_a_time_fill_the_runs_of_many_pictures(runs: list[int]) -> None:
    """Rounds of 5 and more of five pictures, in runs of up to 64."""
    with opened(method=score_cam(budget=5), batch=64) as explainer:
        ready = looked(explainer)
        runs.clear()
        explainer.explain_together(ready)
        assert runs == [25]


def test_pictures_whose_further_inputs_differ_do_not_share(runs: list[int]) -> None:
    proto = filled(SHIFTED)
    with Explainer(proto, batch=3, preset=PLAIN, providers=["cpu"], inputs={"shift": 0.0}) as explainer:
        shifts = [np.full((1, 5), 0.1 * i, np.float32) * np.arange(5, dtype=np.float32) for i in range(3)]
        ready = [explainer.look(p, [2], inputs={"shift": s}) for p, s in zip(PHOTOGRAPHS, shifts, strict=False)]
        runs.clear()
        together = explainer.explain_together(ready, [2])
        assert runs == [3, 3, 2] * 3
        for found, photograph, shift in zip(together, PHOTOGRAPHS, shifts, strict=False):
            assert isinstance(found, list)
            alone = explainer.explain(photograph, [2], inputs={"shift": shift})[0]
            np.testing.assert_allclose(found[0].map, alone.map, atol=1e-6)
            assert found[0].score == pytest.approx(alone.score)


def test_a_bound_batch_does_not_mix_pictures(runs: list[int]) -> None:
    with opened(filled(CLASSIFIER.replace("[N,", "[1,"))) as explainer:
        network = explainer._open(explainer._default).opened.network
        network.fixed = 4  # as a network whose batch could not be freed
        assert not network._mixes


def test_on_a_device_whole_runs_are_each_pictures_own_and_the_rest_is_shared(
    runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    own = Resident._part

    def watched(self: Resident, bind: Any, name: str, *rest: Any) -> None:
        if name == "onnxcam/maps":
            sizes.append(rest[-1])
        own(self, bind, name, *rest)

    with opened(batch=3) as explainer:
        expected = [explainer(p).map for p in PHOTOGRAPHS]
        network = explainer._open(explainer._default).opened.network
        network._resident = Resident(network._session, Device("cpu", 0))
        monkeypatch.setattr(Resident, "_part", watched)
        ready = looked(explainer)
        runs.clear()
        together = explainer.explain_together(ready)
        assert (sizes, runs) == ([3, 3] * 5, [3, 3, 3, 1])
        for found, map_ in zip(together, expected, strict=True):
            assert isinstance(found, list)
            np.testing.assert_allclose(found[0].map, map_, atol=1e-6)
        assert sum(len(held[0]) > 1 for held in network._resident._held.values()) == 0, "mixed runs are let go"


def test_a_device_that_keeps_its_shapes_scores_each_alone(runs: list[int]) -> None:
    with opened(batch=3) as explainer:
        expected = [explainer(p).map for p in PHOTOGRAPHS]
        network = explainer._open(explainer._default).opened.network
        network._resident = Resident(network._session, Device("cpu", 0), steady=True)
        ready = looked(explainer)
        runs.clear()
        for found, map_ in zip(explainer.explain_together(ready), expected, strict=True):
            assert isinstance(found, list)
            np.testing.assert_allclose(found[0].map, map_, atol=1e-6)
        assert not runs


def test_memory_that_runs_out_in_a_shared_run_halves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Network._run_in

    def small(self: Network, session: Any, feeds: Any, masks: Any, outputs: Any) -> Any:
        if len(masks) > 2:
            raise OutOfMemory("out of memory")
        return own(self, session, feeds, masks, outputs)

    with opened(batch=8, method=score_cam(budget=5)) as explainer:
        expected, ready = explainer.batch(PHOTOGRAPHS), looked(explainer)
        monkeypatch.setattr(Network, "_run_in", small)
        for found, alone in zip(explainer.explain_together(ready), expected, strict=True):
            assert isinstance(found, list)
            np.testing.assert_allclose(found[0].map, alone.map, atol=1e-5)
        assert explainer._open(explainer._default).opened.network.batch <= 2


def test_progress_is_each_pictures_own_and_ends_at_its_total() -> None:
    told: dict[int, list[tuple[int, int]]] = {i: [] for i in range(5)}
    with opened(batch=3) as explainer:
        ready = looked(explainer)
        explainer.explain_together(ready, progress=[lambda done, of, i=i: told[i].append((done, of)) for i in range(5)])
    for each in told.values():
        assert each == [(3, 8), (6, 8), *each[2:]]
        assert each[-1] == (8, 8)


class Script:
    """A method that asks as often as its picture's number says, and then ends as it says."""

    def __init__(self, probes: list[PictureProbe], lengths: tuple[int, ...], gradients: bool = False) -> None:
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
def probes() -> Iterator[list[PictureProbe]]:
    with opened() as explainer:
        network = explainer._open(explainer._default)
        answers = [next(iter(one.answers.values())) for one in looked(explainer)]
        yield [explainer._inquiry.ask(network, answer, [2], None).probe for answer in answers]


LENGTHS = (2, 6, 0, 4, 4)


@pytest.mark.parametrize("gradients", [False, True])
def test_methods_of_different_lengths_get_their_own_answers_to_the_end(
    probes: list[PictureProbe], gradients: bool
) -> None:
    method = Method("script", "none", "none", Script(probes, LENGTHS, gradients))
    for found, probe, length in zip(run_together(method, probes), probes, LENGTHS, strict=True):
        assert isinstance(found, list)
        expected = probe.score(MASKS[:length], Score.LOGIT)[:, 0] if length else np.zeros(0, np.float32)
        np.testing.assert_allclose(found[0].raw, expected, rtol=1e-4)


def test_an_error_of_one_picture_leaves_the_others_alone(probes: list[PictureProbe]) -> None:
    script = Script(probes, LENGTHS)

    def end(i: int) -> None:
        if i in (0, 2):
            raise UndefinedSaliency(f"picture {i}")

    script.end = end
    found = run_together(Method("script", "none", "none", script), probes)
    assert [str(f) if isinstance(f, OnnxCamError) else len(f) for f in found] == ["picture 0", 1, "picture 2", 1, 1]
    assert sorted(script.ended) == [0, 1, 2, 3, 4]


def test_an_error_of_a_shared_run_is_everyones(probes: list[PictureProbe], monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(probes, LENGTHS)
    monkeypatch.setattr(Network, "_run_in", lambda *_: (_ for _ in ()).throw(UndefinedSaliency("no memory")))
    found = run_together(Method("script", "none", "none", script), probes)
    assert [isinstance(f, UndefinedSaliency) for f in found] == [True, True, False, True, True]
    assert sorted(script.ended) == [0, 1, 2, 3, 4]


def test_any_other_error_ends_all_and_leaves_nothing_behind(probes: list[PictureProbe]) -> None:
    script = Script(probes, LENGTHS)

    def end(i: int) -> None:
        if i == 0:
            raise KeyboardInterrupt

    script.end = end
    with pytest.raises(KeyboardInterrupt):
        run_together(Method("script", "none", "none", script), probes)
    assert sorted(script.ended) == [0, 1, 2, 3, 4]


def test_a_callback_that_raises_ends_all(probes: list[PictureProbe]) -> None:
    def stop(done: int, of: int) -> None:
        raise RuntimeError("enough")

    script = Script(probes, LENGTHS)
    told = [replace(p, count=replace(p.count, progress=stop)) for p in probes]
    with pytest.raises(RuntimeError, match="enough"):
        run_together(Method("script", "none", "none", script), told)
    assert sorted(script.ended) == [0, 1, 2, 3, 4]


def test_a_target_that_one_picture_lacks_is_its_own_error() -> None:
    with opened() as explainer:
        ready = looked(explainer, (2,))
        answers = explainer.explain_together(ready, (2,))
        assert all(isinstance(a, list) for a in answers)
        everyone = explainer.explain_together(ready, (99,))
        assert all(isinstance(a, OnnxCamError) and "99" in str(a) for a in everyone)


def test_a_missing_gradient_names_what_works_without() -> None:
    with opened(filled(CLASSIFIER.replace("r1 = Relu (c1)", "r1 = Hardmax (c1)")), opti_cam(max_iter=2)) as explainer:
        answers = explainer.explain_together(looked(explainer))
        for answer in answers:
            assert isinstance(answer, MissingGradient)
            assert "without gradients work" in str(answer)


def test_how_many_go_together() -> None:
    assert company(score_cam(), 1) == 1
    assert company(score_cam(), 4) == 2
    assert company(score_cam(), 64) == 16
    assert company(score_cam(), 10_000) == 16
    assert company(opti_cam(), 4) == 4
