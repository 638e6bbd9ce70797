"""Class activation maps by gradients and by the network's tail: where they agree, their odd cases, their errors."""

from collections.abc import Callable

import numpy as np
import pytest
from small_models import CLASSIFIER
from tiny import DENSE, GRID, IMAGE, SIZE, TARGET, Array, Net, enlarge, explained, model, probe, relu, softmax, stretch

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods.blocks import Method, run
from onnxcam.methods.feature_cams import AT_ONCE, ablation_cam, cam, eigen_cam, recipro_cam
from onnxcam.methods.grad_cam import grad_cam, grad_cam_plus_plus, hires_cam, layer_cam, xgrad_cam
from onnxcam.types import Score

BY_GRADIENT = [grad_cam, grad_cam_plus_plus, layer_cam, hires_cam, xgrad_cam]
BY_TAIL = [ablation_cam, recipro_cam, cam]
MAPS = np.random.default_rng(2).random((5, *GRID)).astype(np.float32)
SLOPES = np.random.default_rng(3).standard_normal((5, *GRID)).astype(np.float32)


class FeaturesProbe:
    """A probe with these features, slopes and tail."""

    size, targets = SIZE, 1

    def __init__(self, features: Array = MAPS, slopes: Array = SLOPES, tail: Callable[[Array], Array] | None = None) -> None:  # fmt: skip
        self.features, self.slopes, self.behind = features, slopes, tail
        self.lengths: list[int] = []
        self.scores: set[Score] = set()

    def expect(self, passes: int) -> None:
        pass

    def feature_gradient(self) -> Array:
        return self.slopes[None]

    def tail(self, features: Array, score: Score) -> Array:
        assert self.behind is not None
        self.lengths.append(len(features))
        self.scores.add(score)
        return np.asarray(self.behind(features.astype(np.float64)), np.float32).reshape(-1, 1)


def shown(raw: Array) -> Array:
    return stretch(enlarge(relu(raw)))


@pytest.mark.parametrize("other", [grad_cam, hires_cam, xgrad_cam])
def test_behind_averages_and_a_linear_head_the_family_is_cam(other: Callable[[], Method]) -> None:
    proto = model(CLASSIFIER)
    for target in range(5):
        (one,), (two,) = (explained(proto, m, (target,)) for m in (cam(), other()))
        np.testing.assert_allclose(one.map, two.map, atol=1e-5)
        # A channel's gradient at a cell is its weight over the number of cells; HiResCAM and XGrad-CAM keep that factor.
        np.testing.assert_allclose(two.raw * 12, one.raw, rtol=1e-4, atol=1e-4)


def test_relu_comes_before_enlarging() -> None:
    raw = np.array([[1.0, -3.0, 1.0]] * 4)
    (outcome,) = run(grad_cam(), FeaturesProbe(raw[None].astype(np.float32), np.ones((1, *GRID), np.float32)))
    np.testing.assert_allclose(outcome.map, stretch(enlarge(relu(raw))), atol=1e-6)
    assert np.abs(outcome.map - stretch(relu(enlarge(raw)))).max() > 0.1


def test_the_gradient_is_of_the_logit_not_of_the_probability() -> None:
    for make in BY_GRADIENT:
        assert make().score is Score.LOGIT
    slopes = probe(model(), grad_cam()).feature_gradient()
    np.testing.assert_allclose(slopes[0], Net(model()).feature_slope(IMAGE, TARGET), atol=1e-5)


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.5])
def test_grad_cam_plus_plus_adds_epsilon_below_the_fraction(epsilon: float) -> None:
    (outcome,) = run(grad_cam_plus_plus(epsilon=epsilon), FeaturesProbe())
    g, total = SLOPES.astype(np.float64), np.zeros(GRID)
    for k in range(5):
        alpha = g[k] ** 2 / (2 * g[k] ** 2 + MAPS[k].sum(dtype=np.float64) * g[k] ** 3 + epsilon)
        total += (alpha * relu(g[k])).sum() * MAPS[k]
    np.testing.assert_allclose(outcome.raw, total, rtol=1e-4)
    with pytest.raises(OptionError, match="epsilon"):
        grad_cam_plus_plus(epsilon=-1e-6)


def test_grad_cam_plus_plus_does_not_lose_small_gradients() -> None:
    """g squared is below single precision's range; alpha is a half there."""
    slopes = np.full((1, *GRID), 1e-25, np.float32)
    (outcome,) = run(grad_cam_plus_plus(), FeaturesProbe(MAPS[:1], slopes))
    np.testing.assert_allclose(outcome.raw, 12 * 0.5 * 1e-25 * MAPS[0], rtol=1e-5)


def test_a_pole_and_a_gradient_of_zero_weigh_nothing_in_grad_cam_plus_plus() -> None:
    """2 + sum(A) g is zero at g = -2 / sum(A), where ReLU leaves nothing anyway; a zero over a zero is none."""
    maps = np.zeros((1, *GRID), np.float32)
    maps[0, 0, :2] = (1, 3)
    slopes = np.zeros((1, *GRID), np.float32)
    slopes[0, 0, :2] = (-0.5, 2)
    (outcome,) = run(grad_cam_plus_plus(), FeaturesProbe(maps, slopes))
    np.testing.assert_allclose(outcome.raw, 2 / (2 + 4 * 2) * maps[0])


def test_a_channel_whose_activations_sum_to_zero_weighs_nothing_in_xgrad_cam() -> None:
    maps, slopes = MAPS.copy(), np.abs(SLOPES)
    maps[1] = 0
    maps[2] = np.resize([1, -1], GRID)
    (outcome,) = run(xgrad_cam(), FeaturesProbe(maps, slopes))
    expected = sum((slopes[k] * maps[k]).sum() / maps[k].sum() * maps[k] for k in (0, 3, 4))
    np.testing.assert_allclose(outcome.raw, expected, rtol=1e-4)


def test_layer_cam_reads_only_what_speaks_for_the_class() -> None:
    (outcome,) = run(layer_cam(), FeaturesProbe())
    expected = sum(np.where(SLOPES[k] > 0, SLOPES[k], 0).astype(np.float64) * MAPS[k] for k in range(5))
    np.testing.assert_allclose(outcome.raw, expected, rtol=1e-5)
    np.testing.assert_allclose(outcome.map, shown(expected), atol=1e-5)


def sums(weights: Array, level: float = 0.0) -> Callable[[Array], Array]:
    return lambda features: features.sum(axis=(2, 3)) @ weights + level


@pytest.mark.parametrize("level", [0.0, -1000.0])
def test_ablation_weighs_a_channel_by_what_is_lost_also_where_the_logit_is_negative(level: float) -> None:
    weights = np.array([3.0, -1.0, 0.5, 2.0, 0.0])
    (outcome,) = run(ablation_cam(), FeaturesProbe(tail=sums(weights, level)))
    whole = sums(weights, level)(MAPS[None].astype(np.float64))[0]
    expected = sum(weights[k] * MAPS[k].sum() / abs(whole) * MAPS[k] for k in range(5))
    np.testing.assert_allclose(outcome.raw, expected, rtol=2e-3 if level else 1e-4, atol=1e-4)  # differences of 1000
    np.testing.assert_allclose(outcome.map, shown(expected), atol=2e-3 if level else 1e-4)


def test_cam_takes_any_head_that_is_linear_in_the_means_and_no_other() -> None:
    weights = np.array([3.0, -1.0, 0.5, 2.0, 0.0])
    (outcome,) = run(cam(), FeaturesProbe(tail=sums(weights / 12, 7.0)))
    np.testing.assert_allclose(outcome.raw, np.tensordot(weights, MAPS, 1), rtol=1e-5)
    strongest, bent = lambda f: f.max(axis=(2, 3)) @ weights, lambda f: np.tanh(f.mean(axis=(2, 3))) @ weights
    for tail in (strongest, bent, lambda f: f[..., 0, 0] @ weights):
        with pytest.raises(UndefinedSaliency, match="use score-cam, or grad-cam, CAM's generalisation"):
            run(cam(), FeaturesProbe(tail=tail))
    with pytest.raises(UndefinedSaliency, match="global average pooling and a linear head"):
        explained(model(DENSE), cam())


def test_recipro_cam_leaves_one_cell_at_a_time() -> None:
    seen: list[Array] = []

    def tail(features: Array) -> Array:
        seen.append(features)
        return (features**2).sum(axis=(1, 2, 3))

    features_probe = FeaturesProbe(tail=tail)
    (outcome,) = run(recipro_cam(), features_probe)
    np.testing.assert_allclose(outcome.raw, (MAPS.astype(np.float64) ** 2).sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(outcome.map, stretch(enlarge((MAPS**2).sum(axis=0))), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(seen).sum(axis=0), MAPS, rtol=1e-6)
    assert features_probe.scores == {Score.PROBABILITY}


@pytest.mark.parametrize("make", BY_TAIL)
def test_variants_of_the_features_are_made_a_few_at_a_time_and_in_order(make: Callable[[], Method]) -> None:
    """150 channels of 10x15 cells: more than two parts of either."""
    maps = np.random.default_rng(1).random((150, 10, 15)).astype(np.float32)
    weights = np.random.default_rng(2).standard_normal(150)
    features_probe = FeaturesProbe(maps, tail=lambda f: f.mean(axis=(2, 3)) @ weights)
    (outcome,) = run(make(), features_probe)
    assert max(features_probe.lengths) == AT_ONCE
    assert 150 in (sum(features_probe.lengths) - extra for extra in (0, 1, 2))
    expected = {
        "cam": lambda: np.tensordot(weights, maps, 1),
        "ablation-cam": lambda: np.tensordot(weights * maps.mean((1, 2)), maps, 1) / abs(maps.mean((1, 2)) @ weights),
        "recipro-cam": lambda: np.tensordot(weights, maps, 1) / 150,
    }[make().name]()
    np.testing.assert_allclose(outcome.raw, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_eigen_cam_finds_a_planted_pattern_with_the_sign_of_the_maps_mean() -> None:
    """Channels that are one pattern at several strengths, a few of them against it."""
    pattern = np.arange(12.0).reshape(GRID)
    for sign in (1, -1):
        maps = np.stack([s * sign * pattern + 5 for s in (3.0, 2.0, -0.5, 1.0)]).astype(np.float32)
        (outcome,) = run(eigen_cam(), FeaturesProbe(maps))
        centred = sign * (pattern - pattern.mean())
        assert np.corrcoef(outcome.raw.ravel(), centred.ravel())[0, 1] == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(outcome.map, shown(centred), atol=1e-5)
        assert "every target the same" in outcome.notes[0].text


@pytest.mark.parametrize("make", BY_GRADIENT)
def test_gradients_of_zero_and_of_no_number_are_errors(make: Callable[[], Method]) -> None:
    with pytest.raises(UndefinedSaliency, match="zero at every feature: the score does not depend"):
        run(make(), FeaturesProbe(slopes=np.zeros_like(SLOPES)))
    for wrong in (np.nan, np.inf):
        with pytest.raises(UndefinedSaliency, match="gradient is NaN or infinite"):
            run(make(), FeaturesProbe(slopes=np.full_like(SLOPES, wrong)))


@pytest.mark.parametrize("make", BY_TAIL)
def test_scores_of_no_number_are_errors(make: Callable[[], Method]) -> None:
    for wrong in (np.nan, np.inf):
        with pytest.raises(UndefinedSaliency, match="NaN or infinity when its features are changed"):
            run(make(), FeaturesProbe(tail=lambda f, wrong=wrong: np.full(len(f), wrong)))


@pytest.mark.parametrize("make", [*BY_GRADIENT, *BY_TAIL, eigen_cam])
def test_features_that_overflow_are_errors(make: Callable[[], Method]) -> None:
    with pytest.raises(UndefinedSaliency, match="the feature maps hold NaN or infinity"):
        run(make(), FeaturesProbe(np.full_like(MAPS, np.nan)))


def test_constant_features_have_no_principal_component() -> None:
    with pytest.raises(UndefinedSaliency, match="constant over space"):
        run(eigen_cam(), FeaturesProbe(np.ones_like(MAPS)))


def test_a_probability_that_the_tail_gives_is_the_heads_own() -> None:
    """Recipro-CAM's cells on the classifier, by softmax in float64."""
    raw = explained(model(), recipro_cam())[0].raw
    features = Net(model()).features(IMAGE[None])
    alone = np.zeros((12, *features.shape[1:]))
    for n, (i, j) in enumerate(np.ndindex(GRID)):
        alone[n, :, i, j] = features[0, :, i, j]
    np.testing.assert_allclose(raw.ravel(), softmax(Net(model()).tail(alone))[:, TARGET], rtol=1e-4)
