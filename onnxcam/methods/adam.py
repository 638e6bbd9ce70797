"""Adam, the optimiser of the methods that search, for a few numbers on the host in float64."""

import numpy as np

from onnxcam.types import Doubles, Indices

BETA1, BETA2 = 0.9, 0.999
"""How slowly the means of the gradient and of its square forget, as the paper sets them."""


class Adam:
    """Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1, for rows of parameters that may stop at different steps."""

    def __init__(self, shape: tuple[int, ...], rate: float, epsilon: float, beta1: float = BETA1, beta2: float = BETA2):
        self.rate, self.epsilon, self.beta1, self.beta2 = rate, epsilon, beta1, beta2
        self.first, self.second = np.zeros(shape), np.zeros(shape)
        self.count = np.zeros(shape[0], int)

    def step(self, values: Doubles, gradient: Doubles, rows: Indices) -> Doubles:
        """The new values of these rows. gradient: of what is minimised, of the values' shape."""
        self.count[rows] += 1
        self.first[rows] += (1 - self.beta1) * (gradient - self.first[rows])
        self.second[rows] += (1 - self.beta2) * (gradient * gradient - self.second[rows])
        t = self.count[rows].reshape(-1, *[1] * (values.ndim - 1))
        mean = self.first[rows] / (1 - self.beta1**t)
        spread = np.sqrt(self.second[rows] / (1 - self.beta2**t))
        return np.asarray(values - self.rate * mean / (spread + self.epsilon))
