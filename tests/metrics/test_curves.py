"""Deletion and insertion: hand-worked areas, naive loops over the file, and RISE's own evaluation."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from known_scores import SIDES, object_at, sum_scorer
from naive_curves import curve, rise_blur, rise_evaluation, softmax_of, trapezoid
from small_models import CLASSIFIER, PIXELS, filled, network_over

from onnxcam import Explainer, Region, Saliency
from onnxcam.errors import OptionError
from onnxcam.inputs.bundled import model, pictures
from onnxcam.metrics.curves import DELETION_PROTOCOLS, INSERTION_PROTOCOLS, default_step, deletion, insertion
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.scorer import Scorer

OBJECT = object_at([3, 4, 9])
PERFECT = (OBJECT > 0).astype(float)
PIXEL_COUNT = OBJECT.size
METRICS = {"deletion": deletion, "insertion": insertion}
Fill = Callable[[np.ndarray], np.ndarray]
FILLS: dict[str, Fill] = {
    "zero": np.zeros_like,
    "mean": lambda image: np.stack([np.full(channel.shape, channel.mean(), np.float32) for channel in image]),
    "blur-rise": rise_blur,
}


def gaussian(image: np.ndarray) -> np.ndarray:
    """Sigma 5, cut after 20 pixels; the image goes on mirrored at its outer pixels."""
    taps = np.exp(-(np.arange(-20, 21) ** 2) / 50)
    blurred = np.pad(image.astype(np.float64), ((0, 0), (20, 20), (20, 20)), mode="reflect")
    for axis in (1, 2):
        blurred = np.apply_along_axis(np.convolve, axis, blurred, taps / taps.sum(), mode="valid")
    return blurred.astype(np.float32)


def naive(score: Callable, image: np.ndarray, saliency: np.ndarray, name: str, protocol: str, step: int) -> float:
    return trapezoid(*curve(score, image, FILLS[protocol](image), saliency, step, name == "insertion"))


@pytest.mark.parametrize(
    ("metric", "saliency", "area"),
    [
        # 3 of 24 pixels hold the score, a third each, so along them the area is that of a triangle.
        (deletion, PERFECT, 3 / 24 / 2),
        (deletion, -PERFECT, 21 / 24 + 3 / 24 / 2),
        (insertion, PERFECT, 1 - 3 / 24 / 2),
        (insertion, -PERFECT, 3 / 24 / 2),
    ],
    ids=["deletion, perfect", "deletion, worst", "insertion, perfect", "insertion, worst"],
)
def test_the_area_of_a_perfect_and_of_the_worst_map(metric: Callable, saliency: np.ndarray, area: float) -> None:
    with sum_scorer(OBJECT, np.ones(SIDES)) as scorer:
        result = metric(scorer, saliency, protocol="zero", step=1)
    assert result.value == pytest.approx(area, abs=1e-6)
    assert (result.protocol, result.options, result.passes) == ("zero", {"step": 1}, 25)


def test_the_curve_holds_both_ends_and_the_area_is_over_the_true_fraction() -> None:
    # Steps of 5 and a last one of 4. All pixels weigh the same, so the score is what is left and the area is a half.
    ramp = np.arange(24.0).reshape(SIDES)
    with sum_scorer(np.full(SIDES, 1 / 24), np.ones(SIDES)) as scorer:
        gone, back = (metric(scorer, ramp, protocol="zero", step=5) for metric in (deletion, insertion))
    fractions = np.array([0, 5, 10, 15, 20, 24]) / 24
    np.testing.assert_allclose(gone.curve, np.stack([fractions, 1 - fractions], 1), atol=1e-6)
    np.testing.assert_allclose(back.curve, np.stack([fractions, fractions], 1), atol=1e-6)
    assert gone.value == pytest.approx(0.5, abs=1e-6)
    assert back.value == pytest.approx(0.5, abs=1e-6)


def test_ties_go_in_raster_order() -> None:
    two_levels = np.array([[0.2, 0.9, 0.2, 0.9]])
    with sum_scorer(np.array([[0.1, 0.2, 0.3, 0.4]]), np.ones((1, 4))) as scorer:
        # Pixels 1, 3, 0, 2 go.
        np.testing.assert_allclose(deletion(scorer, two_levels, step=1).curve[:, 1], [1, 0.8, 0.4, 0.3, 0], atol=1e-6)


def test_the_order_of_float64_maps_is_not_lost_to_rounding() -> None:
    close = np.array([[1.0, 1 + 1e-12, 1 + 2e-12]])
    with sum_scorer(np.array([[0.2, 0.3, 0.5]]), np.ones((1, 3))) as scorer:
        np.testing.assert_allclose(deletion(scorer, close, step=1).curve[:, 1], [1, 0.5, 0.2, 0], atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_constant_map_has_no_order(name: str) -> None:
    with sum_scorer(OBJECT, np.ones(SIDES)) as scorer:
        for constant in (0.0, 1.0, 0.3):
            result = METRICS[name](scorer, np.full(SIDES, constant))
            assert (result.value, result.curve, result.passes) == (None, None, 0)
            assert result.reason == "the map is constant, so its pixels have no order"


def test_a_picture_that_the_model_does_not_see_has_areas_of_zero() -> None:
    with sum_scorer(OBJECT, np.zeros(SIDES)) as scorer:
        for metric in METRICS.values():
            assert metric(scorer, PERFECT).value == 0


def test_the_blurs_start_from_the_blurred_image() -> None:
    image = np.random.default_rng(2).random((9, 13)).astype(np.float32)
    with sum_scorer(np.full((9, 13), 1 / 117), image) as scorer:
        start = insertion(scorer, image, protocol="blur-rise").curve[0, 1]
        assert start == pytest.approx(rise_blur(image[None]).mean(), abs=1e-6)
        gaussian = insertion(scorer, image, protocol="blur-gaussian")
        assert gaussian.options["sigma"] == 5
        assert gaussian.curve[0, 1] != pytest.approx(float(start), abs=1e-2)
        assert insertion(scorer, image).protocol == "blur-rise"
        assert deletion(scorer, image).protocol == "zero"


def test_the_default_step_is_1792_pixels_of_224x224() -> None:
    assert default_step(224 * 224) == 1792
    assert default_step(384 * 384) == 5266
    assert default_step(9) == 1
    with sum_scorer(OBJECT, np.ones(SIDES)) as scorer:
        assert deletion(scorer, PERFECT).options == {"step": 1}


def test_scores_that_are_not_finite_are_undefined() -> None:
    with sum_scorer(np.array([[1.0, 1.0, 1.0]]), np.array([[3e38, -3e38, 3e38]])) as scorer:
        result = deletion(scorer, np.array([[0.0, 1.0, 0.5]]), step=1)
    assert (result.value, result.reason) == (None, "the model's scores hold NaN or infinity")


@pytest.mark.parametrize("name", METRICS)
def test_what_does_not_fit_is_said(name: str) -> None:
    metric = METRICS[name]
    with sum_scorer(OBJECT, np.ones(SIDES)) as scorer:
        for step in (0, 25, 1.5, True):
            with pytest.raises(OptionError, match="step is a number of pixels from 1 to 24"):
                metric(scorer, PERFECT, step=step)
        with pytest.raises(OptionError, match="no protocol 'black'; known: "):
            metric(scorer, PERFECT, protocol="black")
        with pytest.raises(OptionError, match=r"shape \(24,\), and the model's input 4x6"):
            metric(scorer, PERFECT.ravel())
        with pytest.raises(OptionError, match="NaN"):
            metric(scorer, np.where(PERFECT > 0, np.inf, 0))
    with Explainer(filled(CLASSIFIER), "grad-cam", providers=["cpu"]) as explainer:
        two = explainer.scorer(np.zeros((3, 16, 12), np.float32), [0, 1])
        with pytest.raises(OptionError, match="one target, not of 2"):
            metric(two, np.eye(16, 12))


@pytest.fixture(scope="module")
def cat() -> tuple[Scorer, Saliency]:
    """The bundled model on a photograph: 224x224, the predicted class."""
    with Explainer(model(), "grad-cam", providers=["cpu"]) as explainer:
        yield explainer.scorer(pictures()["chelsea"]), explainer(pictures()["chelsea"])


@pytest.mark.parametrize(
    ("name", "protocol"),
    [(n, p) for n, known in (("deletion", DELETION_PROTOCOLS), ("insertion", INSERTION_PROTOCOLS)) for p in known],
)
def test_a_real_model_scores_as_a_loop_over_its_file(cat: tuple[Scorer, Saliency], name: str, protocol: str) -> None:
    scorer, saliency = cat
    fill = (FILLS | {"blur-gaussian": gaussian})[protocol](scorer.image)
    score = softmax_of(onnx.load(model()), saliency.target.index)
    expected = trapezoid(*curve(score, scorer.image, fill, saliency.map, 7000, name == "insertion"))
    result = METRICS[name](scorer, saliency.map, protocol=protocol, step=7000)
    assert result.value == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("name", "mode"), [("deletion", "del"), ("insertion", "ins")])
def test_rises_own_protocol_on_maps_without_ties(cat: tuple[Scorer, Saliency], name: str, mode: str) -> None:
    """RISE leaves the order of ties to an unstable sort, so the map's own ties are broken first, in raster order."""
    scorer, saliency = cat
    score = softmax_of(onnx.load(model()), saliency.target.index)
    protocol = "zero" if name == "deletion" else "blur-rise"
    untied = -np.argsort(np.argsort(-saliency.map, axis=None, kind="stable")).reshape(224, 224).astype(float)
    expected = rise_evaluation(score, scorer.image, untied, mode, 1792)
    for order in (untied, saliency.map):
        assert METRICS[name](scorer, order, protocol=protocol, step=1792).value == pytest.approx(expected, abs=1e-6)


IMAGE = np.random.default_rng(6).normal(size=(3, 16, 12)).astype(np.float32)
MAP = np.random.default_rng(7).random((16, 12)).astype(np.float32)
CASES = [(n, p) for n in METRICS for p in FILLS]


@pytest.mark.parametrize(("name", "protocol"), CASES)
@pytest.mark.parametrize("batch", ["N", "1", "3"])
def test_any_batch_and_a_side_that_is_no_square(name: str, protocol: str, batch: str) -> None:
    proto = filled(network_over((16, 12), channels=3, batch=batch))
    alone = filled(network_over((16, 12), channels=3, batch="N"))
    with Explainer(proto, "grad-cam", providers=["cpu"]) as explainer:
        result = METRICS[name](explainer.scorer(IMAGE, 2), MAP, protocol=protocol, step=37)
    assert result.value == pytest.approx(naive(softmax_of(alone, 2), IMAGE, MAP, name, protocol, 37), abs=1e-6)


@pytest.mark.parametrize(("name", "protocol"), CASES)
def test_bytes_channels_last_are_rounded_as_the_model_takes_them(name: str, protocol: str) -> None:
    picture = np.random.default_rng(8).integers(0, 256, (3, 16, 12)).astype(np.float32)
    inner = softmax_of(filled(PIXELS), 3, "NHWC", np.uint8)
    with Explainer(filled(PIXELS), "grad-cam", providers=["cpu"]) as explainer:
        result = METRICS[name](explainer.scorer(picture, 3), MAP, protocol=protocol, step=37)
    expected = naive(lambda image: inner(np.floor(image + 0.5)), picture, MAP, name, protocol, 37)
    assert result.value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("sides", [(40,), (3, 8, 10)], ids=["signal", "volume"])
def test_signals_and_volumes_are_measured_too(name: str, sides: tuple[int, ...]) -> None:
    rng = np.random.default_rng(9)
    image, saliency = rng.normal(size=(2, *sides)).astype(np.float32), rng.random(sides)
    proto = filled(network_over(sides, channels=2, batch="N"))
    layout = "NC" + {1: "W", 3: "DHW"}[len(sides)]
    with Explainer(proto, "grad-cam", providers=["cpu"]) as explainer:
        scorer = explainer.scorer(image, 1)
        for protocol in ("zero", "mean"):
            result = METRICS[name](scorer, saliency, protocol=protocol, step=17)
            expected = naive(softmax_of(proto, 1, layout), image, saliency, name, protocol, 17)
            assert result.value == pytest.approx(expected, abs=1e-6)
        for protocol in ("blur-rise", "blur-gaussian"):
            assert 0 < METRICS[name](scorer, saliency, protocol=protocol).value < 1


SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,4,8,6] logits)
<float[6,3,3,3] w1, float[4,6,1,1] w2>
{
  c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
  f = Relu (c1)
  logits = Conv (f, w2)
}"""


@pytest.mark.parametrize("name", METRICS)
def test_the_region_of_a_segmenter_is_scored_by_its_mean_probability(name: str) -> None:
    proto = filled(SEGMENTER)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

    def score(image: np.ndarray) -> float:
        logits = session.run(None, {"x": image[None]})[0][0].astype(np.float64)
        return float((np.exp(logits) / np.exp(logits).sum(0))[1][:, :3].mean())

    with Explainer(proto, "grad-cam", providers=["cpu"]) as explainer:
        scorer = explainer.scorer(IMAGE, Region(1, (0, 0, 6, 16)))
        result: Measurement = METRICS[name](scorer, MAP, protocol="zero", step=37)
    assert result.value == pytest.approx(naive(score, IMAGE, MAP, name, "zero", 37), abs=1e-6)
