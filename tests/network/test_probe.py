"""What a method sees of a model: gradients against finite differences, counts, progress, rolls, shared batches."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import CLASSIFIER, PIXELS, SCALED_BY_BATCH, filled, network_over

from onnxcam import METHODS, Explainer, Fill, Method, mask, opti_cam, score_cam
from onnxcam.errors import InferenceError, ModelError, OptionError, UndefinedSaliency
from onnxcam.methods.maps import Outcome
from onnxcam.network.gradient_graphs import step_graph
from onnxcam.network.probe import ImageProbe, score_gradients
from onnxcam.surgeon import ir
from onnxcam.surgeon.graphs.score_gradient import Wrt
from onnxcam.types import BatchMode, MaskForm, NoteCode, Score

RNG = np.random.default_rng(6)
IMAGES = RNG.standard_normal((3, 3, 16, 12)).astype(np.float32)
MASKS = RNG.random((7, 1, 4, 3)).astype(np.float32)
ROTATED = Fill("rotated", lambda image, preset: np.ascontiguousarray(image[:, ::-1, ::-1]) * 0.5)
PIXEL_MASKS = MaskForm(cell=1, normalised=False)
SMOOTH = CLASSIFIER.replace("Relu", "Tanh")
"""Without kinks, so that differences in single precision measure its slopes."""
FIXED = SMOOTH.replace("[N,3", "[1,3").replace("[N,5", "[1,5")


class ProbeRecorder:
    """Records the probes that an explainer gives to its method."""

    def __init__(self, proto: onnx.ModelProto, *, fill: Fill | None = None, form: MaskForm | None = None, **options: Any) -> None:  # fmt: skip
        self.probes: list[ImageProbe] = []
        perturb = {"perturb": fill} if fill is not None else {}
        method = Method("recorder", "none", "none", self._record, form=form or MaskForm(), **perturb)
        self.explainer = Explainer(proto, method, providers=["cpu"], **options)

    def _record(self, probe: Any) -> list[Outcome]:
        self.probes.append(probe)
        return [Outcome(np.zeros(probe.size, np.float32), np.zeros(probe.size, np.float32))] * probe.targets

    def __call__(self, image: np.ndarray, *targets: int, progress: Any = None) -> ImageProbe:
        self.explainer.explain(image, targets or (2,), progress=progress)
        return self.probes[-1]


def slope(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, places: int, nudge: float) -> list[tuple[int, float]]:
    """(place, df/dx there) at some places, by central differences. f: (N,...) to (N,)."""
    slopes = []
    for i in np.random.default_rng(0).choice(x.size, places, replace=False):
        step = np.zeros(x.size, np.float32)
        step[i] = nudge
        both = np.stack([x + step.reshape(x.shape), x - step.reshape(x.shape)]).astype(np.float32)
        low = f(both).astype(np.float64)
        slopes.append((int(i), float(low[0] - low[1]) / (2 * nudge)))
    return slopes


def assert_agree(gradient: np.ndarray, measured: list[tuple[int, float]]) -> None:
    flat = gradient.reshape(-1)
    values = np.array([flat[i] for i, _ in measured])
    expected = np.array([s for _, s in measured])
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(values, expected, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("text", [SMOOTH, FIXED, network_over((16, 12), channels=3, batch="N").replace("Relu", "Tanh")])
@pytest.mark.parametrize("score", Score)
def test_the_gradient_of_the_masks_is_that_of_the_scores(text: str, score: Score) -> None:
    recorder = ProbeRecorder(filled(text), fill=ROTATED)
    probe = recorder(IMAGES[0], 1, 4)
    grid = probe.features.shape[1:]
    maps = RNG.random((5, 1, *grid)).astype(np.float32)
    indices = np.array([0, 1, 1, 0, 1])
    scores, gradient = probe.score_gradient(maps, indices, score)
    of_all_targets = probe.score(maps, score)
    np.testing.assert_allclose(scores, of_all_targets[np.arange(5), indices], rtol=1e-4, atol=1e-6)
    for k in range(5):
        assert_agree(gradient[k], slope(lambda m, k=k: probe.score(m, score)[:, indices[k]], maps[k], 10, 1e-3))


def test_the_gradient_of_the_features_is_that_of_the_tail() -> None:
    for text in (SMOOTH, FIXED):
        probe = ProbeRecorder(filled(text))(IMAGES[0], 3, 0)
        gradient = probe.feature_gradient()
        assert gradient.shape == (2, *probe.features.shape)
        for t in range(2):
            assert_agree(
                gradient[t],
                slope(lambda f, t=t, probe=probe: probe.tail(f, Score.LOGIT)[:, t], probe.features, 12, 1e-2),
            )


@pytest.mark.parametrize("text", [SMOOTH, FIXED])
def test_the_gradient_of_each_image_is_that_of_the_file_for_its_target(text: str) -> None:
    proto = filled(text)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    targets = (3, 0, 1)
    probe = ProbeRecorder(proto)(IMAGES[0], *targets)
    indices = np.array([2, 0, 1])
    logits, gradient = probe.image_gradient(IMAGES, indices)
    for n in range(3):

        def f(images: np.ndarray, n: int = n) -> np.ndarray:
            return np.concatenate([session.run(None, {"x": i[None]})[0] for i in images])[:, targets[indices[n]]]

        assert logits[n] == pytest.approx(f(IMAGES[n : n + 1])[0], rel=1e-4, abs=1e-5)
        assert_agree(gradient[n], slope(f, IMAGES[n], 20, 1e-2))


def test_the_gradient_of_an_image_has_its_channels_first() -> None:
    """A model that takes bytes with channels last."""
    proto = filled(PIXELS)
    image = RNG.integers(20, 230, (3, 16, 12)).astype(np.float32)
    probe = ProbeRecorder(proto, layer="c")(image, 1)
    _, gradient = probe.image_gradient(image[None], np.zeros(1, int))
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    # Kernels of 3 at steps of 4: pixel (4i+a-1, 4j+b-1) reads w[:,:,a,b], and a mean over 4x3 cells follows.
    by_tap = np.einsum("kcab,k->cab", weights["w"].astype(np.float64), weights["v"][:, 1]) / 12
    expected = np.zeros((3, 20, 16))
    for i in range(4):
        for j in range(3):
            expected[:, 4 * i : 4 * i + 3, 4 * j : 4 * j + 3] += by_tap
    np.testing.assert_allclose(gradient[0], expected[:, 1:17, 1:13], atol=1e-5)


@pytest.mark.parametrize("form", [MaskForm(), PIXEL_MASKS])
def test_a_shift_rolls_the_image_and_its_fill(form: MaskForm) -> None:
    """As a rolled image whose fill is rolled too."""
    rolled = Fill("rolled", lambda image, preset: np.roll(ROTATED.make(np.roll(image, (-3, 2), (1, 2)), preset), (3, -2), (1, 2)))  # fmt: skip
    maps = RNG.random((4, 1, *((4, 3) if form.normalised else (16, 12)))).astype(np.float32)
    indices = np.array([0, 1, 0, 1])
    by_shift = ProbeRecorder(filled(CLASSIFIER), fill=ROTATED, form=form)(IMAGES[0], 2, 3)
    by_hand = ProbeRecorder(filled(CLASSIFIER), fill=rolled, form=form)(np.roll(IMAGES[0], (3, -2), (1, 2)), 2, 3)
    rolled_scores, expected = by_shift.score_gradient(maps, indices, Score.LOGIT, (3, -2)), by_hand.score_gradient(maps, indices, Score.LOGIT)  # fmt: skip
    for one, other in zip(rolled_scores, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    unmoved = by_shift.score_gradient(maps, indices, Score.LOGIT)
    assert np.abs(unmoved[0] - rolled_scores[0]).max() > 1e-2
    for one, other in zip(by_shift.score_gradient(maps, indices, Score.LOGIT, (0, 0)), unmoved, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_gradients_of_several_images_in_shared_batches_are_those_of_each_alone(batch: int) -> None:
    recorder = ProbeRecorder(filled(CLASSIFIER), fill=ROTATED, batch=batch)
    probes = [recorder(IMAGES[0], 1, 4), recorder(IMAGES[1], 0), recorder(IMAGES[2], 3, 2, 1)]
    indices = [np.array([1, 0]), np.array([0, 0]), np.array([2, 0, 1])]
    maps = [MASKS[:2], MASKS[2:4], MASKS[4:]]
    shifts: list[Any] = [None, (2, -1), (0, 5)]
    joint = score_gradients(probes, list(zip(maps, indices, shifts, strict=True)), Score.LOGIT)
    for i, probe in enumerate(probes):
        for one, other in zip(joint[i], probe.score_gradient(maps[i], indices[i], Score.LOGIT, shifts[i]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert [p.count.steps for p in probes] == [4, 4, 6]


def test_images_that_change_each_other_are_run_one_by_one() -> None:
    """The export is fixed to two images and mixes them: each sample runs with a copy of itself."""
    recorder = ProbeRecorder(filled(SCALED_BY_BATCH))
    assert recorder.explainer.batching.mode is BatchMode.LOOPED
    probes = [recorder(IMAGES[0], 1), recorder(IMAGES[1] * 5, 1)]
    zeros = np.zeros(2, int)
    for probe in probes:
        scores, gradient = probe.score_gradient(MASKS[:2], zeros, Score.LOGIT)

        def alone(maps: np.ndarray, probe: ImageProbe = probe) -> np.ndarray:
            return np.concatenate([probe.score(m[None], Score.LOGIT)[:, 0] for m in maps])

        np.testing.assert_allclose(scores, alone(MASKS[:2]), rtol=1e-4)
        assert [(n.code, n.text) for n in probe.runner.notes] == [
            (NoteCode.SAMPLES_APART, "samples of a batch change each other's gradients, so each went alone")
        ]
        assert_agree(gradient[1], slope(alone, MASKS[1], 8, 1e-3))


def test_every_sample_is_counted_once() -> None:
    """The tail's first run needs the image's features in the model's layout, from a pass of their own."""
    recorder = ProbeRecorder(filled(CLASSIFIER), batch=2)
    probe = recorder(IMAGES[0], 1, 4)
    counts = []
    for run in (
        lambda: probe.score(MASKS, Score.LOGIT),
        lambda: probe.tail(np.repeat(probe.features[None], 5, 0), Score.LOGIT),
        lambda: probe.score_gradient(MASKS, np.zeros(7, int), Score.LOGIT),
        probe.feature_gradient,
        lambda: probe.image_gradient(IMAGES, np.zeros(3, int)),
    ):
        before = (probe.count.forwards, probe.count.steps)
        run()
        counts.append((probe.count.forwards - before[0], probe.count.steps - before[1]))
    assert counts == [(7, 0), (6, 0), (0, 7), (0, 2), (0, 3)]


@pytest.mark.parametrize("name", METHODS)
def test_progress_rises_and_ends_at_the_total(name: str) -> None:
    options = {
        "opti-cam": {"max_iter": 6}, "mask": {"max_iter": 6, "cell": 4}, "smooth-grad": {"samples": 20}, "rise": {"masks": 70},
        "integrated-gradients": {"steps": 40},
    }  # fmt: skip
    reported: list[tuple[int, int]] = []
    with Explainer(filled(CLASSIFIER), METHODS[name](**options.get(name, {})), providers=["cpu"], batch=8) as explainer:
        explainer.explain(IMAGES[0], (1, 3), progress=lambda done, of: reported.append((done, of)))
    done, of = [d for d, _ in reported], [a for _, a in reported]
    assert done == sorted(set(done))
    assert len(set(of)) <= 1
    assert all(d == a for d, a in reported[-1:])


def test_progress_ends_at_the_total_where_a_search_stops_early() -> None:
    reported: list[tuple[int, int]] = []
    with Explainer(filled(CLASSIFIER), opti_cam(tolerance=1e6), providers=["cpu"]) as explainer:
        (saliency,) = explainer.explain(IMAGES[0], (1,), progress=lambda done, of: reported.append((done, of)))
    assert saliency.provenance.steps == 2
    assert reported[-1][0] == reported[-1][1]


def test_a_step_graph_of_the_caller_is_used_and_gives_the_same_map() -> None:
    proto = filled(CLASSIFIER)
    with Explainer(proto, opti_cam(max_iter=5), providers=["cpu"]) as built:
        opened = built._heads.first
        step = ir.to_proto(step_graph(opened, Score.LOGIT, Wrt.MAPS))
        expected = built(IMAGES[0], 2)
    with Explainer(proto, opti_cam(max_iter=5), step=step, providers=["cpu"]) as explainer:
        np.testing.assert_allclose(explainer(IMAGES[0], 2).map, expected.map, atol=1e-5)
    other = filled(CLASSIFIER, seed=1)
    with Explainer(other, opti_cam(max_iter=5), step=step, providers=["cpu"]) as explainer, pytest.raises(
        ModelError, match="made of another model"
    ):  # fmt: skip
        explainer(IMAGES[0], 2)
    for method, message in ((score_cam(), "serves no purpose"), (mask(), "fills what a mask removes with zero")):
        with pytest.raises(OptionError, match=message):
            Explainer(proto, method, step=step, providers=["cpu"])


def test_gradients_from_several_threads_are_those_of_one() -> None:
    with Explainer(filled(CLASSIFIER), opti_cam(max_iter=5), providers=["cpu"]) as explainer:
        with ThreadPoolExecutor(4) as pool:
            several = list(pool.map(lambda i: explainer(IMAGES[i % 3], 2).map, range(8)))
        for i, saliency_map in enumerate(several):
            np.testing.assert_allclose(saliency_map, explainer(IMAGES[i % 3], 2).map, atol=1e-5)


def test_a_closed_explainer_gives_no_gradient() -> None:
    recorder = ProbeRecorder(filled(CLASSIFIER))
    probe = recorder(IMAGES[0], 2)
    recorder.explainer.close()
    for run in (probe.feature_gradient, lambda: probe.tail(probe.features[None], Score.LOGIT)):
        with pytest.raises(InferenceError, match="closed"):
            run()


def test_guided_gradients_are_refused_without_a_relu() -> None:
    probe = ProbeRecorder(filled(SMOOTH))(IMAGES[0])
    with pytest.raises(UndefinedSaliency, match="this model has none on the way"):
        probe.image_gradient(IMAGES[:1], np.zeros(1, int), guided=True)
