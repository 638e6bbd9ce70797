"""Bayesian quadrature against a plain Gaussian process in float64, and its choices against brute force."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from tiny import Array

from onnxcam.methods.estimate import conditioning, links, quadrature
from onnxcam.methods.estimate import kernel as kernel_module
from onnxcam.methods.estimate.kernel import LEVEL, Geometry, Hyperparameters
from onnxcam.methods.estimate.quadrature import CELLS, CONFIDENCE, FIRST, START, Quadrature, rounds
from onnxcam.resampling import upsample

RNG = np.random.default_rng(3)
COUNT = 40
MAPS = (RNG.random((COUNT, 3, 4)) * RNG.uniform(0.5, 3, (COUNT, 1, 1))).astype(np.float32)
SCORES = np.asarray(3 + MAPS.reshape(COUNT, -1) @ RNG.standard_normal(12), np.float64)
SEEN = np.arange(0, COUNT, 3)
ONE = Hyperparameters(0.7, 0.3, 1e-2)
IDENTITY = links.Link(np.asarray, np.asarray, np.asarray)
SETUP = """
import os, time
import numpy as np
from onnxcam.methods.estimate import cholesky
from onnxcam.methods.estimate.links import link
from onnxcam.methods.estimate.quadrature import Quadrature
from onnxcam.methods.maps import combined
rng = np.random.default_rng(0)
maps, scored, scores = rng.random((1200, 20, 20), np.float32), np.arange(38), rng.random(38)
covariance = np.diag(rng.random(400))
"""
ESTIMATE = """
quadrature = Quadrature.of(maps, maps)
quadrature.posterior(scored[:30], scores[:30], link(scores[:30]))
posterior = quadrature.posterior(scored, scores, link(scores))
quadrature.choose([posterior], scored, 8)
quadrature.error(posterior)
combined(maps, posterior.weights[:, None], (320, 320))
cholesky.solve(cholesky.root(covariance), covariance)
"""
THREADS = f"""{SETUP}
blas = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
def ticks():
    stats = [open(f"/proc/self/task/{{task}}/stat").read() for task in blas]
    return sum(sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats)
time.sleep(0.2)  # threads that the imports woke spin for a while
before = ticks()
{ESTIMATE}
print(ticks() - before)
"""
"""Prints hundredths of a second on the threads that BLAS started with NumPy, in an estimate of many large maps."""


def blurred(mask: Array) -> Array:
    """The mean of a cell and all its neighbours along every axis, the edge's cells again beyond it; cell by cell."""
    around = [*product((-1, 0, 1), repeat=mask.ndim)]
    result = np.empty(mask.shape)
    for cell in np.ndindex(*mask.shape):
        places = [np.clip(np.add(cell, step), 0, np.subtract(mask.shape, 1)) for step in around]
        result[cell] = np.mean([mask[tuple(place)] for place in places])
    return result


def kernel(maps: Array, h: Hyperparameters) -> Array:
    """Matern-5/2, a linear part and a level, one pair after another.

    The squared distance of a pair is the mean of three: of the roots of the masks, of the roots of the blurred masks,
    and of the masks, each in units of its own mean.
    """
    masks = [(m - m.min()) / (m.max() - m.min()) for m in maps.astype(np.float64)]
    squared, inner = np.zeros((len(maps), len(maps))), np.zeros((len(maps), len(maps)))
    for points in (np.sqrt(masks), np.sqrt([blurred(mask) for mask in masks]), np.asarray(masks)):
        points = (points - points.mean(axis=0)).reshape(len(maps), -1)
        spread = np.mean([((a - b) ** 2).sum() for a in points for b in points])
        squared += [[((a - b) ** 2).sum() / spread / 3 for a in points] for b in points]
        inner += [[2 * (a @ b) / spread / 3 for a in points] for b in points]
    d = np.sqrt(5 * squared) / h.length
    return (1 + d + d * d / 3) * np.exp(-d) + h.linear * inner + LEVEL


def textbook_posterior(seen: Array, h: Hyperparameters) -> tuple[Array, Array, float]:
    """Mean and covariance of all scores by the textbook's formulas, and the likeliest signal variance."""
    prior = kernel(MAPS, h)
    among_scored = prior[np.ix_(seen, seen)] + h.noise * np.eye(len(seen))
    level = SCORES[seen].mean()
    solved = np.linalg.solve(among_scored, SCORES[seen] - level)
    scale = float((SCORES[seen] - level) @ solved / len(seen))
    covariance = prior - prior[:, seen] @ np.linalg.solve(among_scored, prior[seen])
    return level + prior[:, seen] @ solved, covariance, scale


@pytest.fixture
def one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quadrature, "GRID", (ONE,))
    monkeypatch.setattr(quadrature, "INFLATION", 1.0)


@pytest.mark.parametrize("grid", [(3, 4), (12,), (12, 1), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("cells", [5, COUNT])
def test_the_kernel_is_its_formula(grid: tuple[int, ...], cells: int) -> None:
    maps = MAPS.reshape(COUNT, *grid)
    geometry, expected = Geometry.of(maps), kernel(maps, ONE)
    np.testing.assert_allclose(geometry.covariance(ONE, slice(None), slice(None)), expected, atol=1e-6)
    np.testing.assert_allclose(geometry.variance(ONE), np.diag(expected), atol=1e-9)
    weights = RNG.standard_normal((COUNT, cells))
    np.testing.assert_allclose(geometry.times(ONE, weights), expected @ weights, atol=1e-4)


def test_the_belief_is_a_gaussian_process(one_kernel: None) -> None:
    known = Quadrature.of(MAPS, MAPS).posterior(SEEN, SCORES[SEEN], IDENTITY)
    mean, covariance, scale = textbook_posterior(SEEN, ONE)
    mean[SEEN] = SCORES[SEEN]
    np.testing.assert_allclose(known.weights, mean, rtol=1e-5)
    assert known.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(known.variance, np.diag(covariance), atol=1e-5)
    free = np.setdiff1d(np.arange(COUNT), SEEN)
    maps = MAPS.reshape(COUNT, -1)[free].astype(np.float64)
    expected = scale * maps.T @ covariance[np.ix_(free, free)] @ maps
    np.testing.assert_allclose(known.map_covariance(), expected, atol=1e-3 * np.abs(expected).max())


def test_kernels_are_weighed_by_what_they_make_of_the_scores() -> None:
    """The scores' likelihood under each kernel, with the signal's variance at its most likely value."""
    masks = Quadrature.of(MAPS, MAPS)
    masks.conditioning.scored(SEEN)
    ranked = masks._ranked(SCORES[SEEN] - SCORES[SEEN].mean())
    logs = {}
    for h in quadrature.GRID:
        among_scored = kernel(MAPS, h)[np.ix_(SEEN, SEEN)] + h.noise * np.eye(len(SEEN))
        values = SCORES[SEEN] - SCORES[SEEN].mean()
        scale = values @ np.linalg.solve(among_scored, values) / len(SEEN)
        full = scale * among_scored
        logs[h] = -0.5 * values @ np.linalg.solve(full, values) - 0.5 * np.linalg.slogdet(full)[1]
    best = sorted(logs, key=lambda h: -logs[h])[: len(ranked)]
    assert [h for _, h, _ in ranked] == best
    ratios = np.exp([logs[h] - logs[best[0]] for h in best])
    np.testing.assert_allclose([share for share, _, _ in ranked], ratios / ratios.sum(), rtol=1e-3)


def test_what_grew_in_rounds_is_what_is_made_at_once() -> None:
    """Rounds of several sizes, with other scores, and so other likely kernels, in each of them."""
    grown, order = Quadrature.of(MAPS, MAPS), RNG.permutation(COUNT)
    for count in (1, 10, 11, 15, 33):
        scores = RNG.standard_normal(count)
        one, other = (q.posterior(order[:count], scores, IDENTITY) for q in (grown, Quadrature.of(MAPS, MAPS)))
        assert one.kernel == other.kernel
        assert one.scale == pytest.approx(other.scale, rel=1e-9)
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)
        np.testing.assert_allclose(one.map_covariance(), other.map_covariance(), atol=1e-3 * one.scale)


def test_what_takes_too_much_memory_is_given_up_after_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditioning, "KEPT", 0)
    grown, order = Quadrature.of(MAPS, MAPS), np.random.default_rng(6).permutation(COUNT)
    for count in (10, 14, 22):
        scores = SCORES[order[:count]]
        one, other = (q.posterior(order[:count], scores, IDENTITY) for q in (grown, Quadrature.of(MAPS, MAPS)))
        assert grown.conditioning._inverses.size == 0
        np.testing.assert_array_equal(one.weights, other.weights)


def test_other_masks_than_before_begin_anew() -> None:
    masks = Quadrature.of(MAPS, MAPS)
    masks.posterior(SEEN, SCORES[SEEN], IDENTITY)
    for other in (SEEN[::-1], SEEN[:5]):
        again = masks.posterior(other, SCORES[other], IDENTITY)
        fresh = Quadrature.of(MAPS, MAPS).posterior(other, SCORES[other], IDENTITY)
        np.testing.assert_array_equal(again.weights, fresh.weights)


def test_covariances_are_kept_within_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = RNG.standard_normal((COUNT, 5))
    lengths = [ONE._replace(length=length) for length in (0.5, 0.7, 0.5, 1.0, 0.7)]
    expected = [Geometry.of(MAPS).times(each, weights) for each in lengths]
    for room in (0, 1, 2):
        monkeypatch.setattr(kernel_module, "KEPT", room * COUNT**2)
        geometry = Geometry.of(MAPS)
        for each, numbers in zip(lengths, expected, strict=True):
            np.testing.assert_array_equal(geometry.times(each, weights), numbers)
            assert len(geometry.kept) <= room


def test_the_next_masks_are_those_that_leave_the_map_least_uncertain(one_kernel: None) -> None:
    """Every candidate tried, its posterior computed anew; scale and offset of the map do not count."""
    masks = Quadrature.of(MAPS, MAPS)
    known = masks.posterior(SEEN, SCORES[SEEN], IDENTITY)
    chosen = masks.choose([known], SEEN, 3)
    flat = MAPS.reshape(COUNT, -1).astype(np.float64)
    raw = known.weights @ flat
    raw = raw - raw.mean()
    blind = np.eye(12) - 1 / 12 - np.outer(raw, raw) / (raw @ raw)

    def uncertainty(seen: Array) -> float:
        covariance = textbook_posterior(seen, ONE)[1]
        free = np.setdiff1d(np.arange(COUNT), seen)
        shares = flat[free] @ blind
        return float(np.trace(shares.T @ covariance[np.ix_(free, free)] @ shares))

    def gain(j: int, seen: Array) -> float:
        """What a mask takes away from what is left, itself included, as its score is then known."""
        covariance = textbook_posterior(seen, ONE)[1]
        free = np.setdiff1d(np.arange(COUNT), seen)
        shared = covariance[j, free] @ flat[free] @ blind
        return float(shared @ shared / (covariance[j, j] + ONE.noise))

    seen = SEEN
    for j in chosen:
        candidates = np.setdiff1d(np.arange(COUNT), seen)
        gains = {int(c): gain(int(c), seen) for c in candidates}
        assert gains[int(j)] >= (1 - 1e-3) * max(gains.values())
        before, seen = uncertainty(seen), np.append(seen, j)
        assert uncertainty(seen) < before


def test_a_mask_is_chosen_once_and_none_beyond_the_last() -> None:
    masks = Quadrature.of(MAPS, MAPS)
    chosen = masks.choose([masks.prior()], np.zeros(0, np.int64), 100)
    assert sorted(chosen) == list(range(COUNT))


def test_two_targets_both_have_their_say() -> None:
    masks = Quadrature.of(MAPS, MAPS)
    first = masks.posterior(SEEN, SCORES[SEEN], IDENTITY)
    second = masks.posterior(SEEN, np.square(SCORES[SEEN]) * (np.arange(len(SEEN)) % 2), IDENTITY)
    both = masks.choose([first, second], SEEN, 1)[0]
    gains = [quadrature._GreedyChoice(masks, known, 1).gain() for known in (first, second)]
    free = np.setdiff1d(np.arange(COUNT), SEEN)
    assert both == free[np.argmax((gains[0] + gains[1])[free])]


def test_the_error_is_the_quantile_of_maps_drawn_from_the_posterior(one_kernel: None) -> None:
    masks = Quadrature.of(MAPS, MAPS)
    known = masks.posterior(SEEN, SCORES[SEEN], IDENTITY)
    mean, covariance, scale = textbook_posterior(SEEN, ONE)
    mean[SEEN] = SCORES[SEEN]
    covariance[SEEN], covariance[:, SEEN] = 0, 0
    draws = np.random.default_rng(1).multivariate_normal(mean, scale * covariance, 4000, check_valid="ignore")

    def shown(weights: Array) -> Array:
        up = np.maximum(upsample(np.tensordot(weights, MAPS, 1).astype(np.float32), (6, 8)), 0)
        return (up - up.min()) / (up.max() - up.min())

    center = shown(mean)
    off = [np.sqrt(((shown(w) - center) ** 2).mean()) for w in draws]
    assert masks.error(known) == pytest.approx(np.quantile(off, CONFIDENCE), rel=0.15)


def test_the_errors_quantile_is_numpys() -> None:
    off = RNG.random(quadrature.DRAWS)
    assert quadrature._quantile(off) == pytest.approx(np.quantile(off, CONFIDENCE), rel=1e-12)
    off[3] = np.nan
    assert np.isnan(quadrature._quantile(off))


def test_the_error_falls_to_nothing_as_masks_are_seen() -> None:
    masks = Quadrature.of(MAPS, MAPS)
    errors = [masks.error(masks.posterior(np.arange(n), SCORES[:n], IDENTITY)) for n in (12, 24, 36, COUNT)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


def test_fine_grids_are_averaged_in_blocks() -> None:
    fine = RNG.random((2, 41, 19), np.float32)
    padded = np.concatenate([fine, np.full((2, 1, 19), np.nan, np.float32)], axis=1)
    assert 41 * 19 > CELLS >= 21 * 19
    np.testing.assert_allclose(quadrature.averaged(fine), np.nanmean(padded.reshape(2, 21, 2, 19), axis=2), rtol=1e-6)
    np.testing.assert_array_equal(quadrature.averaged(fine[:, :20]), fine[:, :20])


def test_rounds_grow_and_end_at_the_budget() -> None:
    assert list(rounds(500, 128)) == [10, 14, 18, 22, 26, 30, 34, 42, 50, 62, 74, 90, 110, 128]
    assert list(rounds(5, 128)) == [5]
    assert list(rounds(500, 3)) == [3]
    assert list(rounds(12, 128)) == [START, 12]


@pytest.mark.parametrize("seen", [np.array([0.001, 0.2, 0.9]), np.array([0.0, 1e-6, 3e-5]), np.array([0.0, 0.0])])
def test_a_probabilitys_link_comes_back(seen: Array) -> None:
    link = links.link(seen)
    inside = np.linspace(0, max(seen.max(), 1e-8), 7)
    np.testing.assert_allclose(link.backward(link.forward(inside)), inside, atol=1e-3 * max(seen.max(), 1e-6))
    assert link.backward(np.array([-1e9, 1e9])).tolist() == [0, 1]
    np.testing.assert_array_equal(link.weight(seen), seen)


def test_numbers_that_are_no_probabilities_are_taken_as_they_are() -> None:
    link = links.link(np.array([-0.1, 0.5]))
    np.testing.assert_array_equal(link.forward(np.array([-3.0, 7.0])), [-3, 7])
    np.testing.assert_array_equal(link.backward(np.array([-3.0, 7.0])), [-3, 7])


def test_what_falls_is_the_distance_from_the_original() -> None:
    link = links.falling(links.link(np.array([0.1, 0.8])), 0.9)
    np.testing.assert_allclose(link.weight(np.array([0.1, 0.8])), [0.8, 0.1])
    np.testing.assert_allclose(link.backward(link.forward(np.array([0.1, 0.8]))), [0.8, 0.1], atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_softmax_weighs_by_the_exponential(sign: int) -> None:
    seen = np.array([1.0, 4.0, -2.0])
    weights = links.exponential(seen, sign).weight(seen)
    exponentials = np.exp(sign * seen)
    np.testing.assert_allclose(weights / weights.sum(), exponentials / exponentials.sum())


def test_the_nodes_are_those_of_gauss_and_hermite() -> None:
    nodes, shares = np.polynomial.hermite_e.hermegauss(5)
    np.testing.assert_allclose(links.NODES, nodes, atol=1e-14)
    np.testing.assert_allclose(links.SHARES, shares / shares.sum(), rtol=1e-12)


def test_moments_are_the_integrals() -> None:
    link = links.link(np.array([0.1, 0.8]))
    mean, deviation = np.array([-3.0, 0.0, 2.0]), np.array([0.3, 1.0, 0.7])
    expected, off = links.moments(link, mean, deviation)
    z = np.linspace(-8, 8, 20001)
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    for m, s, e, o in zip(mean, deviation, expected, off, strict=True):
        values = link.backward(m + s * z)
        assert e == pytest.approx(density @ values, rel=5e-3)
        assert o == pytest.approx(np.sqrt(density @ values**2 - (density @ values) ** 2), rel=2e-2)


def test_the_first_kernel_is_one_of_ordinary_size() -> None:
    assert min(h.length for h in quadrature.GRID) <= FIRST.length <= max(h.length for h in quadrature.GRID)


def test_an_estimate_imports_no_parts_of_numpy_that_it_can_do_without() -> None:
    """Together they take as long as all fits of a map."""
    script = f"import sys{SETUP}{ESTIMATE}print({{'numpy.ma', 'numpy.polynomial'}} & {{*sys.modules}})"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the processor time of threads from /proc")
def test_an_estimate_wakes_no_threads_of_blas() -> None:
    run = subprocess.run([sys.executable, "-c", THREADS], check=True, capture_output=True, text=True)
    assert int(run.stdout) <= 1
