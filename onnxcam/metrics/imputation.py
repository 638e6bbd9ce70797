"""Linear imputation: each removed pixel becomes the weighted mean of its neighbours (Rong et al. 2022, ROAD).

The weights are those of the kernel (1,2,1) along every axis, without its centre and less what lies beyond the image: in
two dimensions 1/6 for a pixel beside and 1/12 for a diagonal one, as in the paper; 1/2 in one dimension. The removed
pixels depend on each other, so this is a linear system with one equation a removed pixel. It is solved to 1e-5 of the
image's spread by conjugate gradients, preconditioned with a multigrid cycle: about ten steps, whatever the mask.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.types import Doubles, Floats, Image

Bools = npt.NDArray[np.bool_]
Reals = npt.NDArray[Any]

RESIDUAL = 2e-7
"""Where the solver stops: the largest residual, as a fraction of the image's spread. The error is some tens of it."""
STEPS = 500
"""Ten or so are usual; a system of so many was not solvable in float64."""
COARSEST, SWEEPS = 4, 4
"""The longest side of the coarsest grid, and the relaxations there."""


def imputed(image: Image, kept: Bools) -> Image:
    """The image (C,*size) with every pixel that is not kept (*size) replaced by the weighted mean of its neighbours.

    Any number of channels; one, two or three sides. Raises OptionError where nothing is kept, the shapes differ, or the
    image is not finite.
    """
    if kept.shape != image.shape[1:]:
        raise OptionError(f"the kept pixels have the image's sides {image.shape[1:]}, not {kept.shape}")
    if not kept.any():
        raise OptionError("no pixel is kept, so there is nothing to impute the others from")
    if not np.isfinite(image).all():
        raise OptionError("the image holds NaN or infinity, which cannot be imputed")
    means = image[:, kept].mean(axis=1, dtype=np.float64).reshape(-1, *[1] * kept.ndim)
    known = np.where(kept, image - means, 0)  # the weights add up to 1, so a constant can be taken off
    spread = float(np.abs(known).max()) or 1.0
    solution = _solved(known / spread, ~kept) * spread + means
    return np.asarray(np.where(kept, image, solution), np.float32)


@dataclass(frozen=True)
class _System:
    """The equations on one grid, as factors (*size) of one float type, zero at the pixels that are known.

    unknown: 1. neighbours: of what the kernel sums. diagonal: of the pixel itself, with what the kernel's centre adds.
    relaxation: by which a residual is multiplied in one damped Jacobi sweep.
    """

    unknown: Reals
    neighbours: Reals
    diagonal: Reals
    relaxation: Reals

    def product(self, x: Reals) -> Reals:
        """The matrix times x (C,*size), which is zero where a pixel is known."""
        around = _kernel(x, self.unknown.ndim)
        around *= self.neighbours
        return np.asarray(np.subtract(self.diagonal * x, around, out=around))

    def relaxed(self, x: Reals, right: Reals) -> Reals:
        change = right - self.product(x)
        change *= self.relaxation
        change += x
        return change


def _system(unknown: Bools, scale: float, dtype: npt.DTypeLike) -> _System:
    axes = unknown.ndim
    centre, total = 2.0**axes, 4.0**axes - 2.0**axes
    own = (_kernel(np.ones(unknown.shape), axes) - centre) / total * scale
    # Eigenvalues reach 4^d / total; this damping shrinks every wave shorter than 4 pixels to a third in one sweep.
    damping = 4 / 3 * total / 4.0**axes
    factors = (1.0, scale / total, own + centre * scale / total, damping / own)
    return _System(*(np.asarray(factor * unknown, dtype) for factor in factors))


def _solved(known: Reals, unknown: Bools) -> Doubles:
    """(C,*size) the unknown pixels; zero elsewhere. known: (C,*size) in [-1,1], zero where unknown."""
    system, levels = _system(unknown, 1.0, np.float64), _levels(unknown)
    residual = np.asarray(_kernel(known, unknown.ndim) * system.neighbours, np.float64)
    x, direction, before = np.zeros_like(residual), np.zeros_like(residual), np.ones(1)
    for _ in range(STEPS):
        if float(np.abs(residual).max()) <= RESIDUAL:
            return x
        improved = np.asarray(_cycle(levels, residual.astype(np.float32)), np.float64)
        now = _dots(residual, improved)
        direction *= _ratio(now, before)
        direction += improved
        product = system.product(direction)
        step = _ratio(now, _dots(direction, product))
        product *= step
        residual -= product
        x += np.multiply(direction, step, out=product)
        before = now
    raise ArithmeticError(f"the imputation did not converge in {STEPS} steps")


def _dots(a: Doubles, b: Doubles) -> Doubles:
    """(C,1,..) the scalar product in each channel."""
    products = np.einsum("cn,cn->c", a.reshape(len(a), -1), b.reshape(len(b), -1))
    return np.asarray(products.reshape(-1, *[1] * (a.ndim - 1)))


def _ratio(top: Doubles, bottom: Doubles) -> Doubles:
    """top / bottom; 0 in a channel that is solved already."""
    return np.asarray(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0))


def _levels(unknown: Bools) -> list[_System]:
    """The equations on ever coarser grids, of half the side each. A cell is unknown if all of its pixels are."""
    axes, scale, levels = unknown.ndim, 1.0, [_system(unknown, 1.0, np.float32)]
    while max(unknown.shape) > COARSEST and unknown.any():
        unknown = reduce(_halved, range(axes), unknown)
        scale *= 2.0 ** (axes - 2)  # the same slope, over cells of twice the side
        levels.append(_system(unknown, scale, np.float32))
    return levels


def _cycle(levels: list[_System], right: Reals) -> Reals:
    """One V-cycle from zero, a symmetric operator as conjugate gradients need it. right: (C,*size) residual."""
    system, coarser = levels[0], levels[1:]
    x = np.asarray(system.relaxation * right)
    if not coarser:
        return reduce(lambda y, _: system.relaxed(y, right), range(SWEEPS), x)
    axes = range(1, x.ndim)
    residual = reduce(_restricted, axes, right - system.product(x))
    correction = _cycle(coarser, residual * coarser[0].unknown)
    for axis in axes:
        correction = _prolonged(correction, axis, x.shape[axis])
    return system.relaxed(x + correction * system.unknown, right)


def _kernel(x: Reals, axes: int) -> Reals:
    """The last axes of x convolved with (1,2,1) each, zeros beyond the edge."""
    for axis in range(x.ndim - axes, x.ndim):
        low, high = _along(axis, slice(None, -1)), _along(axis, slice(1, None))
        total = x + x
        total[low] += x[high]
        total[high] += x[low]
        x = total
    return x


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, part)


def _even(x: npt.NDArray[Any], axis: int, value: float) -> npt.NDArray[Any]:
    """x with one more slice of this value where its side is odd."""
    widths = [(0, x.shape[axis] % 2 if i == axis else 0) for i in range(x.ndim)]
    return np.pad(x, widths, constant_values=value) if x.shape[axis] % 2 else x


def _halved(unknown: Bools, axis: int) -> Bools:
    unknown = _even(unknown, axis, True)
    return np.asarray(unknown[_along(axis, slice(0, None, 2))] & unknown[_along(axis, slice(1, None, 2))])


def _restricted(fine: Reals, axis: int) -> Reals:
    """The transpose of _prolonged()."""
    fine = _even(fine, axis, 0.0)
    first, second = fine[_along(axis, slice(0, None, 2))], fine[_along(axis, slice(1, None, 2))]
    coarse = 0.75 * (first + second)
    before, after = _along(axis, slice(None, -1)), _along(axis, slice(1, None))
    coarse[before] += 0.25 * first[after]
    coarse[after] += 0.25 * second[before]
    coarse[_along(axis, slice(None, 1))] += 0.25 * first[_along(axis, slice(None, 1))]
    coarse[_along(axis, slice(-1, None))] += 0.25 * second[_along(axis, slice(-1, None))]
    return np.asarray(coarse)


def _prolonged(coarse: Reals, axis: int, side: int) -> Floats:
    """Linear interpolation along an axis to twice as many cells, cut to `side`; edges replicated."""
    shape = list(coarse.shape)
    shape[axis] *= 2
    fine = np.empty(shape, np.float32)
    quarter = 0.25 * coarse
    most = coarse - quarter
    before, after = _along(axis, slice(None, -1)), _along(axis, slice(1, None))
    first, second = fine[_along(axis, slice(0, None, 2))], fine[_along(axis, slice(1, None, 2))]
    first[...], second[...] = most, most
    first[after] += quarter[before]
    second[before] += quarter[after]
    first[_along(axis, slice(None, 1))] += quarter[_along(axis, slice(None, 1))]
    second[_along(axis, slice(-1, None))] += quarter[_along(axis, slice(-1, None))]
    return fine[_along(axis, slice(None, side))]
