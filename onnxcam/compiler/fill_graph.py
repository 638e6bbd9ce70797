"""What replaces removed pixels, made in the graph: the fills of methods/fills.py, but not a caller's own.

OpenCV blurs each side by itself; so does the graph, with OpenCV's kernel and its reflection at the border.
"""

import math
import re

import numpy as np
import numpy.typing as npt

from onnxcam.compiler.loop_graph import LoopGraph
from onnxcam.errors import CompileError, OptionError
from onnxcam.inputs.preprocess import black
from onnxcam.methods.fills import BLACK, FILLS, MEAN, Fill, fill_named
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Value


def fill_image(loop: LoopGraph) -> Value | None:
    """The replacement of the image, in the model's layout and outside of the body; None for zeros.

    Raises CompileError for a fill that is a function of the caller.
    """
    fill, image, b = loop.prepared.method.perturb, loop.prepared.anatomy.image, loop.outside
    if fill.make is None:
        return None
    whole = b("Shape", loop.image)
    if fill == MEAN:
        space = [axis for axis, letter in enumerate(image.layout) if letter not in "NC"]
        return b("Expand", b.reduce("ReduceMean", loop.image, space), whole)
    if fill == BLACK:
        shape = [image.channels if letter == "C" else 1 for letter in image.layout]
        colour = black(loop.prepared.preset, image.channels).reshape(shape)
        return b("Expand", b.constant(colour, np.float32), whole)
    kernel, blurred = gaussian(_sigma(fill)), loop.image
    shape = list(image.shape(loop.prepared.size))
    for letter in image.letters[-2:]:
        blurred = _blurred(b, blurred, shape, image.layout.index(letter), kernel)
    return blurred


def _sigma(fill: Fill) -> float:
    """The sigma of a blur, in pixels. Raises CompileError for another fill."""
    match = re.fullmatch(r"blur\(sigma=(.+)\)", fill.name)
    try:
        known = match is not None and fill_named(fill.name) == fill
    except OptionError:
        known = False
    if match is None or not known:
        raise CompileError(f"the fill {fill.name!r} cannot be compiled; what can: {', '.join(FILLS)}")
    return float(match[1])


def gaussian(sigma: float) -> npt.NDArray[np.float64]:
    """(length,) the kernel of OpenCV's GaussianBlur for float32 images: four sigma to each side, of sum 1."""
    radius = (round(8 * sigma + 1) | 1) // 2
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def _blurred(b: Builder, x: Value, shape: list[int], axis: int, kernel: npt.NDArray[np.float64]) -> Value:
    """x of this shape, convolved along one axis; reflected at the border, whose pixel is not repeated."""
    side, radius = shape[axis], len(kernel) // 2
    places = np.abs((np.arange(-radius, side + radius) + side - 1) % max(2 * side - 2, 1) - (side - 1))
    longer = b("Gather", x, b.constant(places, np.int64), axis=axis)
    before, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    rows = b.reshape(longer, [before, 1, side + 2 * radius, behind])
    weights = b.constant(kernel.reshape(1, 1, -1, 1), np.float32)
    return b.reshape(b("Conv", rows, weights), shape)
