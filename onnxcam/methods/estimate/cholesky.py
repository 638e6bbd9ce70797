"""Cholesky factors in blocks, so that LAPACK and BLAS compute every step on the calling thread.

LAPACK starts BLAS threads for matrices of about a hundred rows. It does not for one block, and the products between
blocks are computed in pieces, see products.py. One algorithm serves stacks of matrices (...,n,n) too.
"""

import numpy as np

from onnxcam.products import product
from onnxcam.types import Doubles

BLOCK = 48
"""Rows of a block: OpenBLAS factors it and inverts it on one thread."""
JITTERS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def factor(matrices: Doubles) -> Doubles:
    """The lower triangular L (...,n,n) with L @ L.T = the symmetric positive definite matrices (...,n,n)."""
    lower = np.zeros_like(matrices)
    for start in range(0, matrices.shape[-1], BLOCK):
        block, below = slice(start, start + BLOCK), slice(start + BLOCK, None)
        left, above = lower[..., start:, :start], _transposed(lower[..., block, :start])
        rest = matrices[..., start:, block] - product(left, above)
        lower[..., block, block] = np.linalg.cholesky(rest[..., :BLOCK, :])
        if rest.shape[-2] > BLOCK:
            lower[..., below, block] = product(rest[..., BLOCK:, :], _transposed(_inverse(lower[..., block, block])))
    return lower


def solve(lower: Doubles, right: Doubles) -> Doubles:
    """X (...,n,k) with lower @ X = right, by forward substitution; lower (...,n,n), right (...,n,k)."""
    stack = np.broadcast_shapes(lower.shape[:-2], right.shape[:-2])
    solution: Doubles = np.empty((*stack, *right.shape[-2:]))
    for start in range(0, lower.shape[-1], BLOCK):
        block = slice(start, start + BLOCK)
        rest = right[..., block, :] - product(lower[..., block, :start], solution[..., :start, :])
        solution[..., block, :] = product(_inverse(lower[..., block, block]), rest)
    return solution


def grown(inverse: Doubles, rows: Doubles) -> Doubles:
    """The inverse (...,n+m,n+m) of the lower factor of a matrix, from that (...,n,n) of its leading block.

    rows (...,m,n+m): what follows in the matrix, of which only the lower triangle counts.
    """
    count = inverse.shape[-1]
    below = product(rows[..., :count], _transposed(inverse))
    lower = factor(rows[..., count:] - product(below, _transposed(below)))
    corner = solve(lower, np.eye(lower.shape[-1]))
    result = np.zeros((*rows.shape[:-2], rows.shape[-1], rows.shape[-1]))
    result[..., :count, :count] = inverse
    result[..., count:, :count] = -product(corner, product(below, inverse))
    result[..., count:, count:] = corner
    return result


def root(covariance: Doubles) -> Doubles:
    """L (n,n) with L @ L.T = the finite covariance (n,n), which rounding may have left with eigenvalues below zero.

    Its diagonal is raised by the smallest of JITTERS that will do, in units of the mean variance. Where none does, the
    covariance is rounding for the most part, as of masks that are all alike, and the root is that of the nearest one
    without negative eigenvalues.
    """
    mean = max(float(np.diagonal(covariance).mean()), float(np.finfo(np.float64).tiny))
    for jitter in JITTERS:
        try:
            return factor(covariance + jitter * mean * np.eye(len(covariance)))
        except np.linalg.LinAlgError:
            continue
    eigenvalues, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray(vectors * np.sqrt(np.maximum(eigenvalues, 0.0)), np.float64)


def _transposed(matrices: Doubles) -> Doubles:
    return np.swapaxes(matrices, -1, -2)


def _inverse(matrices: Doubles) -> Doubles:
    return np.asarray(np.linalg.inv(matrices), np.float64)
