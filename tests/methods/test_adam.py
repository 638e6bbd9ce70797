"""Adam against Algorithm 1 written out, and against PyTorch's."""

import itertools

import numpy as np
import pytest
from tiny import Array, adam

from onnxcam.methods.adam import Adam

RATE, EPSILON = 0.2, 1e-8
START = np.random.default_rng(0).standard_normal((3, 4))
CURVE = np.random.default_rng(1).uniform(0.1, 3, (3, 4))
ALL = np.arange(3)


def slope(place: Array) -> Array:
    """Of a bowl that is steep in some directions and shallow in others, with a ripple."""
    return CURVE * place + np.cos(3 * place)


def walked(steps: int) -> list[Array]:
    optimiser, places = Adam(START.shape, RATE, EPSILON), [START]
    for _ in range(steps):
        places.append(optimiser.step(places[-1], slope(places[-1]), ALL))
    return places


def test_fifty_steps_are_those_of_algorithm_1() -> None:
    expected = list(itertools.islice(adam(slope, START, RATE, lambda p: p), 51))
    np.testing.assert_allclose(walked(50), expected, rtol=0, atol=1e-12)


def test_the_first_step_has_the_length_of_the_rate_whatever_the_slope() -> None:
    gradient = np.array([[1e-3, -5.0, 200.0]])
    moved = Adam((1, 3), RATE, EPSILON).step(np.zeros((1, 3)), gradient, np.arange(1))
    np.testing.assert_allclose(moved, [[-RATE, RATE, -RATE]], rtol=1e-4)


def test_a_large_epsilon_makes_it_plain_descent() -> None:
    """m / (1 - beta1) is the gradient at the first step, and epsilon drowns the spread."""
    gradient = np.array([[0.5, -2.0]])
    moved = Adam((1, 2), 1e6, 1e6).step(np.zeros((1, 2)), gradient, np.arange(1))
    np.testing.assert_allclose(moved, -gradient, rtol=1e-5)


def test_rows_that_rest_keep_their_own_count_and_moments() -> None:
    """A row steps as it would alone, whichever others step with it."""
    together, place = Adam(START.shape, RATE, EPSILON), START.copy()
    for rows in ([0, 1, 2], [0, 2], [2], [0, 1, 2], [1]):
        place[rows] = together.step(place[rows], slope(place)[rows], np.asarray(rows))
    for row, steps in enumerate((3, 3, 4)):
        alone = itertools.islice(
            adam(lambda p, row=row: CURVE[row] * p + np.cos(3 * p), START[row], RATE, lambda p: p), steps + 1
        )
        *_, expected = alone
        np.testing.assert_allclose(place[row], expected, atol=1e-12)


@pytest.mark.torch
def test_fifty_steps_are_those_of_pytorch() -> None:
    import torch

    place = torch.tensor(START, requires_grad=True)
    optimiser = torch.optim.Adam([place], lr=RATE, eps=EPSILON)
    for expected in walked(50):
        np.testing.assert_allclose(place.detach().numpy(), expected, rtol=0, atol=1e-12)
        place.grad = torch.tensor(slope(place.detach().numpy()))
        optimiser.step()
