"""Gradient and guided backpropagation as graphs: the gradient of the logit at the pixels.

methods/input_gradients.py and pixel_maps.py are the same in numpy.
"""

import math
from collections.abc import Callable

import numpy as np
import onnx_ir

from onnxcam.compiler.batch_graph import BatchGraph, differentiable_graph, only_sound
from onnxcam.compiler.prepared import Prepared
from onnxcam.errors import CompileError
from onnxcam.methods.pixel_maps import CAP
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.autodiff.rules.guided import GuidedRules
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.finish_map import stretched
from onnxcam.surgeon.ir import Model, Value


def pixel_gradient(*, guided: bool) -> Callable[[Prepared], Model]:
    """A builder: the largest colour of the gradient at each pixel, by its absolute value."""

    def build(prepared: Prepared) -> Model:
        image = prepared.anatomy.image
        graph, rules = differentiable_graph(prepared, image.name), GuidedRules()
        gradient = graph.gradient(rules.overrides if guided else None)
        if guided and not rules.relu_count:
            raise CompileError(
                "guided backpropagation changes what passes a ReLU, and this model has none on the way; "
                "compile gradient"
            )
        b = graph.b
        colours = channels_first(b, gradient, image)
        largest = b("ArgMax", b("Abs", colours), axis=1, keepdims=1)
        return publish_attribution(graph, b("GatherElements", colours, largest, axis=1))

    return build


def channels_first(b: Builder, images: Value, image: ImageInput) -> Value:
    """Images in the model's own layout to (N,C,*size)."""
    canonical = "NC" + "".join(image.letters)
    if image.layout == canonical:
        return images
    return b("Transpose", images, perm=[image.layout.index(letter) for letter in canonical])


def publish_attribution(graph: BatchGraph, raw: Value) -> Model:
    """The finished model, from attributions (R,1,*size) float32."""
    raw = only_sound(graph.b, raw, len(graph.prepared.size))
    return graph.publish_shown(shown_attribution(graph.b, raw, graph.prepared.size), raw)


def shown_attribution(b: Builder, raw: Value, size: tuple[int, ...]) -> Value:
    """Attributions (R,1,*size) float32 to maps in [0,1]: their absolute values, cut off at CAP and stretched."""
    absolute, pixels = b("Abs", raw), math.prod(size)
    cap = b.reshape(percentile(b, b.reshape(absolute, [-1, pixels]), pixels, CAP), [-1] + [1] * (1 + len(size)))
    return stretched(b, b("Min", absolute, cap), range(2, 2 + len(size)))


def percentile(b: Builder, numbers: Value, count: int, percent: float) -> Value:
    """(R,1) float32: numpy.percentile of each row of numbers (R,count), none below 0; the largest where that is 0."""
    place = (count - 1) * percent / 100
    low = math.floor(place)
    share = place - low
    top = b.several("TopK", numbers, b.constant([count - low], np.int64), outputs=2, axis=1, largest=1, sorted=1)[0]

    def at(rank: int) -> Value:
        """The number of this rank from below, in float64."""
        from_top = b.constant([count - 1 - rank], np.int64)
        return b.cast(b("Gather", top, from_top, axis=1), onnx_ir.DataType.DOUBLE)

    below, above = at(low), at(min(low + 1, count - 1))
    step = b("Sub", above, below)
    if share >= 0.5:  # as numpy does, so that both ends are met
        cap = b("Sub", above, b("Mul", step, b.constant(1 - share, np.float64)))
    else:
        cap = b("Add", below, b("Mul", step, b.constant(share, np.float64)))
    cap = b.cast(cap, onnx_ir.DataType.FLOAT)
    most = b("Gather", top, b.constant([0], np.int64), axis=1)
    return b("Where", b("Greater", cap, b.constant(0, np.float32)), cap, most)
