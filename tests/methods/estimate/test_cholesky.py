"""Cholesky factors in blocks: the same numbers as LAPACK's, for stacks too."""

import numpy as np
import pytest
from tiny import Array

from onnxcam.methods.estimate import cholesky
from onnxcam.methods.estimate.links import link
from onnxcam.methods.estimate.quadrature import Quadrature

RNG = np.random.default_rng(5)


def covariances(*shape: int) -> Array:
    factors = RNG.standard_normal((*shape, shape[-1]))
    return factors @ np.swapaxes(factors, -1, -2) + 1e-3 * np.eye(shape[-1])


@pytest.mark.parametrize("shape", [(1,), (3,), (48,), (49,), (97,), (200,), (36, 5), (36, 130)])
def test_factors_and_solutions_are_lapacks(shape: tuple[int, ...]) -> None:
    matrices, right = covariances(*shape), RNG.standard_normal((shape[-1], 7))
    lower = cholesky.factor(matrices)
    expected = np.linalg.cholesky(matrices)
    np.testing.assert_allclose(lower, expected, atol=1e-9)
    assert not np.triu(lower, 1).any()
    solution = cholesky.solve(expected, right)
    np.testing.assert_allclose(expected @ solution, np.broadcast_to(right, solution.shape), atol=1e-9)


@pytest.mark.parametrize("rank", [0, 1, 20, 100])
def test_the_root_of_a_singular_covariance_gives_it_back(rank: int) -> None:
    factors = RNG.standard_normal((100, rank))
    covariance = factors @ factors.T
    root = cholesky.root(covariance)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-6)


def test_the_root_bears_eigenvalues_that_rounding_left_below_zero() -> None:
    factors = RNG.standard_normal((60, 5))
    covariance = factors @ factors.T - 1e-6 * np.eye(60)
    root = cholesky.root(covariance)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-2)


def test_a_covariance_that_is_mostly_rounding_has_the_root_of_the_nearest_one() -> None:
    positive, negative = np.diag([4.0, 1.0, 0.0, 0.0]), np.diag([0.0, 0.0, -2.0, -0.5])
    turn = np.linalg.qr(RNG.standard_normal((4, 4)))[0]
    root = cholesky.root(turn @ (positive + negative) @ turn.T)
    np.testing.assert_allclose(root @ root.T, turn @ positive @ turn.T, atol=1e-9)


def test_masks_that_are_all_equal_have_an_error_bound_too() -> None:
    """A model with constant weights gives them: what is left of the covariance of the map is rounding."""
    masks = np.repeat(RNG.random((1, 7, 7)).astype(np.float32), 300, axis=0)
    quadrature = Quadrature.of(masks * np.float32(1e17), masks)
    scores = np.full(20, 1e-3)
    error = quadrature.error(quadrature.posterior(np.arange(20), scores, link(scores)))
    assert 0 <= error <= 1
