"""Several pictures in one batch: each gets the maps that it gets alone, and an error of one leaves the others alone."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import OrtValue
from small_models import CLASSIFIER, SCALED_BY_BATCH, filled

from onnxcam import METHODS, Explainer, Fill, Method, Preset, ablation_cam, grad_cam, mask, opti_cam, rise, score_cam
from onnxcam.engine.devices import Device
from onnxcam.engine.options import EngineOptions
from onnxcam.errors import OnnxCamError, OptionError, OutOfMemory, PictureError
from onnxcam.explainer.lockstep import group_size
from onnxcam.explainer.pipeline import Explained
from onnxcam.explainer.prefetch import explain_each
from onnxcam.explainer.results import ForwardPass
from onnxcam.explainer.targets.region import Region
from onnxcam.methods.maps import Outcome
from onnxcam.network.device_scorer import DeviceScorer
from onnxcam.network.probe import scores
from onnxcam.network.scorer import Network
from onnxcam.types import BatchMode, Score

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
"""An extra input of its own for each picture."""


def opened(proto: onnx.ModelProto | None = None, method: Method | None = None, **options: Any) -> Explainer:
    arguments = {"preset": PLAIN, "providers": ["cpu"], **options}
    return Explainer(proto if proto is not None else filled(ALIVE), method, **arguments)


def explain_batch(
    explainer: Explainer, passes: Sequence[ForwardPass], targets: Any = (None,), **options: Any
) -> list[Explained]:
    return explainer._explain_batch(passes, [targets] * len(passes), **options)


def forward_passes(explainer: Explainer, targets: Any = (None,), count: int = 5) -> list[ForwardPass]:
    return [explainer._forward(photograph, targets) for photograph in PHOTOGRAPHS[:count]]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Masks of every scoring run from here on."""
    seen: list[int] = []
    run_in = Network._run_in

    def watched(self: Network, session: Any, feeds: Any, masks: Any, outputs: Any) -> Any:
        seen.append(len(masks))
        return run_in(self, session, feeds, masks, outputs)

    monkeypatch.setattr(Network, "_run_in", watched)
    return seen


@pytest.mark.parametrize("name", METHODS)
def test_pictures_together_get_the_maps_of_each_alone(name: str) -> None:
    with opened(filled(CLASSIFIER), METHODS[name](**OPTIONS.get(name, {})), batch=4) as explainer:
        together = explain_batch(explainer, forward_passes(explainer, (2, "top1")), (2, "top1"))
        assert sum(isinstance(explained, list) for explained in together) >= 3
        for explained, photograph in zip(together, PHOTOGRAPHS, strict=True):
            if isinstance(explained, OnnxCamError):
                with pytest.raises(type(explained), match=re.escape(str(explained))):
                    explainer.explain(photograph, (2, "top1"))
                continue
            for one, alone in zip(explained, explainer.explain(photograph, (2, "top1")), strict=True):
                np.testing.assert_allclose(one.map, alone.map, atol=2e-4)
                assert (one.target.index, one.provenance.forwards) == (alone.target.index, alone.provenance.forwards)
                assert one.provenance.steps == alone.provenance.steps


@pytest.mark.parametrize("options", [{"batch": 4}, {"batch": 3, "threads": 1}, {"batch": 1}, {}])
@pytest.mark.parametrize("method", [score_cam(), score_cam(fill=TURNED), score_cam(budget=5), rise(masks=17)])
def test_the_batch_size_does_not_change_the_maps_of_several_pictures(method: Method, options: dict[str, Any]) -> None:
    with opened(method=method, **options) as explainer:
        for saliency, photograph in zip(explainer.batch(PHOTOGRAPHS), PHOTOGRAPHS, strict=True):
            np.testing.assert_allclose(saliency.map, explainer(photograph).map, atol=1e-5)


def test_regions_share_runs_too() -> None:
    with opened(filled(SEGMENTER), batch=4) as explainer:
        regions = [Region(1, (0, 0, 30, 20)), Region(2, (10, 5, 30, 40))]
        together = explain_batch(explainer, forward_passes(explainer, regions), regions)
        for explained, photograph in zip(together, PHOTOGRAPHS, strict=True):
            assert isinstance(explained, list)
            for one, alone in zip(explained, explainer.explain(photograph, regions), strict=True):
                np.testing.assert_allclose(one.map, alone.map, atol=1e-5)


def test_the_last_masks_of_pictures_share_runs(runs: list[int]) -> None:
    """8 channels in runs of 3: 3 + 3 + 2 alone; five times 2 are 3 + 3 + 3 + 1 together."""
    with opened(batch=3) as explainer:
        ready = forward_passes(explainer)
        runs.clear()
        explain_batch(explainer, ready)
        assert runs == [3] * 13 + [1]
        runs.clear()
        for one in ready:
            explain_batch(explainer, [one])
        assert runs == [3, 3, 2] * 5


def test_a_few_masks_at_a_time_fill_the_runs_of_many_pictures(runs: list[int]) -> None:
    """Rounds of 5 and more of five pictures, in runs of up to 64."""
    with opened(method=score_cam(budget=5), batch=64) as explainer:
        ready = forward_passes(explainer)
        runs.clear()
        explain_batch(explainer, ready)
        assert runs == [25]


def test_pictures_whose_extra_inputs_differ_share_no_run(runs: list[int]) -> None:
    proto = filled(SHIFTED)
    with Explainer(proto, batch=3, preset=PLAIN, providers=["cpu"], inputs={"shift": np.zeros(5)}) as explainer:
        shifts = [np.full((1, 5), 0.1 * i, np.float32) * np.arange(5, dtype=np.float32) for i in range(3)]
        ready = [explainer._forward(p, [2], inputs={"shift": s}) for p, s in zip(PHOTOGRAPHS, shifts, strict=False)]
        runs.clear()
        together = explain_batch(explainer, ready, [2])
        assert runs == [3, 3, 2] * 3
        for explained, photograph, shift in zip(together, PHOTOGRAPHS, shifts, strict=False):
            assert isinstance(explained, list)
            alone = explainer.explain(photograph, [2], inputs={"shift": shift})[0]
            np.testing.assert_allclose(explained[0].map, alone.map, atol=1e-6)
            assert explained[0].score == pytest.approx(alone.score)


def test_gradients_of_pictures_whose_extra_inputs_differ_are_their_own() -> None:
    method = opti_cam(max_iter=4, score=Score.PROBABILITY)
    with Explainer(
        filled(SHIFTED), method, preset=PLAIN, providers=["cpu"], inputs={"shift": np.zeros(5)}
    ) as explainer:
        shifts = [np.full((1, 5), i, np.float32) * np.arange(5, dtype=np.float32) for i in range(3)]
        ready = [explainer._forward(p, [2], inputs={"shift": s}) for p, s in zip(PHOTOGRAPHS, shifts, strict=False)]
        for explained, photograph, shift in zip(
            explain_batch(explainer, ready, [2]), PHOTOGRAPHS, shifts, strict=False
        ):
            assert isinstance(explained, list)
            alone = explainer.explain(photograph, [2], inputs={"shift": shift})[0]
            np.testing.assert_allclose(explained[0].map, alone.map, atol=1e-5)


def test_a_bound_batch_mixes_no_pictures() -> None:
    """The export is bound to two pictures and mixes them: each has what it has alone."""
    with opened(filled(SCALED_BY_BATCH)) as explainer:
        assert explainer.batching.mode is BatchMode.LOOPED
        assert explainer._batch_hint == 1
        for explained, photograph in zip(explain_batch(explainer, forward_passes(explainer)), PHOTOGRAPHS, strict=True):
            assert isinstance(explained, list)
            np.testing.assert_array_equal(explained[0].map, explainer(photograph).map)


def on_device(explainer: Explainer, *, pad_to_batch: bool = False) -> Any:
    """The explainer's network, everything bound as on a GPU."""
    network = explainer._heads.first.network
    network._device_scorer = DeviceScorer(
        network._session, Device("cpu", 0), network.anatomy.features, pad_to_batch=pad_to_batch
    )
    return network


@pytest.mark.parametrize("pad_to_batch", [False, True])
def test_pictures_on_a_device_are_scored_each_alone(pad_to_batch: bool) -> None:
    """Several targets a picture, regions, and pictures that lie there already."""
    regions = [Region(1, (0, 0, 30, 20)), Region(2, (10, 5, 30, 40))]
    for proto, targets in ((filled(ALIVE), (2, "top1", 0)), (filled(SEGMENTER), regions)):
        with opened(proto, batch=3) as explainer:
            images = [np.array(explainer.prepare(p).image) for p in PHOTOGRAPHS]
            expected = [[explainer.explain(p, targets) for p in pictures] for pictures in (PHOTOGRAPHS, images)]
            assert explainer._batch_hint > 1
            on_device(explainer, pad_to_batch=pad_to_batch)
            assert explainer._batch_hint == 1
            there = [OrtValue.ortvalue_from_numpy(image) for image in images]
            for pictures, alone in zip((list(PHOTOGRAPHS), there), expected, strict=True):
                passes = [explainer._forward(picture, targets) for picture in pictures]
                for explained, each in zip(explain_batch(explainer, passes, targets), alone, strict=True):
                    assert isinstance(explained, list)
                    for one, other in zip(explained, each, strict=True):
                        np.testing.assert_allclose(one.map, other.map, atol=1e-5)


def test_masks_of_any_type_and_order_are_scored_as_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an explorer of somebody else yields: float64, slices, Fortran's order; alone and with others."""
    rng = np.random.default_rng(9)
    kinds = [rng.random((8, 1, 4, 3)), rng.random((16, 1, 4, 3)).astype(np.float32)[::2],
             np.asfortranarray(rng.random((8, 1, 4, 3)).astype(np.float32))]  # fmt: skip
    for masks in kinds:
        plain = np.ascontiguousarray(masks, np.float32)
        with opened(batch=3) as explainer:
            ready = [next(iter(one.results.values())) for one in forward_passes(explainer, count=3)]
            probes = [explainer._pipeline.resolve(a, [2, 0], None).probe for a in ready]
            expected = [probe.score(plain, Score.LOGIT) for probe in probes]
            np.testing.assert_array_equal(probes[0].score(masks, Score.LOGIT), expected[0])
            for graphs in (False, True):
                network = on_device(explainer)
                network._session.engine = EngineOptions(cuda_graph=graphs)
                network._device_scorer = DeviceScorer(network._session, Device("cpu", 0), network.anatomy.features)
                alone = [probe.score(masks, Score.LOGIT) for probe in probes]
                together = scores(probes, [masks] * 3, Score.LOGIT)
                for one, two, right in zip(alone, together, expected, strict=True):
                    np.testing.assert_allclose(one, right, rtol=1e-5)
                    np.testing.assert_allclose(two, right, rtol=1e-5)


def test_memory_that_runs_out_in_a_shared_run_halves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run_in = Network._run_in

    def small(self: Network, session: Any, feeds: Any, masks: Any, outputs: Any) -> Any:
        if len(masks) > 2:
            raise OutOfMemory("out of memory")
        return run_in(self, session, feeds, masks, outputs)

    with opened(batch=8, method=score_cam(budget=5)) as explainer:
        expected, ready = explainer.batch(PHOTOGRAPHS), forward_passes(explainer)
        monkeypatch.setattr(Network, "_run_in", small)
        for explained, alone in zip(explain_batch(explainer, ready), expected, strict=True):
            assert isinstance(explained, list)
            np.testing.assert_allclose(explained[0].map, alone.map, atol=1e-5)
        assert explainer._heads.first.network.batch <= 2


def test_progress_is_each_pictures_own_and_ends_at_its_total() -> None:
    reports: dict[int, list[tuple[int, int]]] = {i: [] for i in range(5)}
    with opened(batch=3) as explainer:
        ready = forward_passes(explainer)
        explain_batch(
            explainer, ready, progress=[lambda done, of, i=i: reports[i].append((done, of)) for i in range(5)]
        )
    for each in reports.values():
        assert each == [(3, 8), (6, 8), *each[2:]]
        assert each[-1] == (8, 8)


def test_a_target_that_one_picture_lacks_is_its_own_error() -> None:
    """A class that is predicted nowhere in some of the pictures."""
    colours = np.random.default_rng(8).integers(0, 200, (5, 1, 1, 3)).astype(np.uint8)
    pictures = colours + PHOTOGRAPHS // 8
    with opened(filled(SEGMENTER, seed=1), batch=4) as explainer:
        ready = [explainer._forward(picture, [Region(0)]) for picture in pictures]
        predicted = [next(iter(one.results.values())).values.reshape(-1, 4).argmax(axis=1) for one in ready]
        lacks = [0 not in classes for classes in predicted]
        together = explain_batch(explainer, ready, [Region(0)])
        broken, *others = explain_each(explainer, [(p, [Region(0)]) for p in ("nowhere.png", *pictures)])
        assert isinstance(broken.error, PictureError)
        assert [isinstance(result.error, OnnxCamError) for result in others] == lacks
        assert 0 < sum(lacks) < 5, "the case is one"
        assert [isinstance(f, OnnxCamError) for f in together] == lacks
        for one, picture in zip(together, pictures, strict=True):
            if isinstance(one, list):
                np.testing.assert_allclose(one[0].map, explainer.explain(picture, [Region(0)])[0].map, atol=1e-5)


def test_several_threads_may_explain_pictures_together() -> None:
    with opened(batch=3, method=score_cam(budget=6)) as explainer:
        expected = [explainer(p).map for p in PHOTOGRAPHS]
        with ThreadPoolExecutor(4) as pool:
            for saliencies in pool.map(explainer.batch, [PHOTOGRAPHS] * 8):
                for one, map_ in zip(saliencies, expected, strict=True):
                    np.testing.assert_allclose(one.map, map_, atol=1e-5)


def test_one_path_is_one_picture() -> None:
    with opened() as explainer, pytest.raises(PictureError, match=r"nowhere\.png"):
        explainer.batch("nowhere.png")


@pytest.mark.parametrize("progress", [[None], print])
def test_progress_must_be_one_a_picture(progress: Any) -> None:
    with opened() as explainer, pytest.raises(OptionError, match="one for each of the 5 pictures"):
        explain_batch(explainer, forward_passes(explainer), progress=progress)


def test_a_broken_picture_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with opened() as explainer:
        pictures = [PHOTOGRAPHS[0], tmp_path / "broken.png", PHOTOGRAPHS[1]]
        first, broken, last = explain_each(explainer, [(picture, ["top1"]) for picture in pictures])
        assert isinstance(broken.error, PictureError)
        for result, photograph in ((first, PHOTOGRAPHS[0]), (last, PHOTOGRAPHS[1])):
            assert result.error is None
            np.testing.assert_array_equal(result.saliencies[0].map, explainer(photograph).map)


def test_the_time_is_shared_by_passes() -> None:
    def some_scores(probe: Any) -> list[Outcome]:
        count = 1 + int(abs(float(probe.image.sum()) * 1000)) % 9
        results = probe.score(MASKS[:count], Score.LOGIT)
        return [Outcome(np.ones(probe.size, np.float32), results[0])]

    with opened(method=Method("some-scores", "none", "none", some_scores)) as explainer:
        ready = forward_passes(explainer)
        provenances = [
            results[0].provenance for results in explain_batch(explainer, ready) if isinstance(results, list)
        ]
        spent = [
            m.seconds - next(iter(one.results.values())).seconds for m, one in zip(provenances, ready, strict=True)
        ]
        passes = [m.forwards - 1 for m in provenances]
        assert len(set(passes)) > 1
        np.testing.assert_allclose(np.divide(spent, sum(spent)), np.divide(passes, sum(passes)), rtol=1e-6)


@pytest.mark.parametrize(("method", "in_flight", "expected"), [
    (score_cam(), 1, 1), (score_cam(), 4, 2), (score_cam(), 64, 2), (score_cam(budget=32), 4, 2),
    (score_cam(budget=32), 16, 4), (score_cam(tolerance=0.02), 64, 8), (score_cam(tolerance=0.02), 10_000, 8),
    (rise(), 4, 2), (rise(), 128, 4), (grad_cam(), 64, 1), (ablation_cam(), 64, 1), (mask(), 1, 1), (opti_cam(), 4, 4),
    (opti_cam(), 64, 8), (opti_cam(nb_premises_at_startup=4), 64, 8), (opti_cam(nb_premises_at_startup=100), 64, 1),
])  # fmt: skip
def test_the_size_of_a_group_follows_the_method_and_the_network(method: Method, in_flight: int, expected: int) -> None:
    assert group_size(method, SimpleNamespace(in_flight=in_flight, can_pack=True, fixed=None)) == expected  # type: ignore[arg-type]
    assert group_size(method, SimpleNamespace(in_flight=in_flight, can_pack=False, fixed=2)) == 1  # type: ignore[arg-type]
