"""Rounds numbers another way, those of the image or the model's weights, and says how far a map moves.

A map whose raw numbers hardly differ, as of a class whose probability is next to nothing, shows the rounding of
float32, which no two programs do alike. How far a map moves under these changes says how much of a difference that is.
Changed weights stand for the rounding inside of the network: a sum of rounded products is the exact sum for weights
that differ in the last place (its backward error; Higham, Accuracy and Stability of Numerical Algorithms, 3.1).

The maps are those of Explainers, of the model as it is and of one with other weights, so that no mistake of a compiled
file counts as movement.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from onnxcam.errors import InferenceError, OutOfMemory, TimedOut, UndefinedSaliency
from onnxcam.explainer.explainer import Explainer, explain_prepared, opened_model
from onnxcam.inputs.loader import ModelInput
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.checked_model import STANDARD_DOMAINS
from onnxcam.surgeon.loading import ModelFile
from onnxcam.types import Floats

ROUNDINGS = 3
"""How often numbers are rounded another way."""
WEIGHTS = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1),
    "Add": (0, 1), "Sub": (0, 1), "Mul": (0, 1), "Div": (0, 1), "PRelu": (1,),
    "BatchNormalization": (1, 2, 3, 4), "InstanceNormalization": (1, 2), "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2), "RMSNormalization": (1,), "LSTM": (1, 2, 3), "GRU": (1, 2, 3), "RNN": (1, 2, 3),
}  # fmt: skip
"""The inputs of operators that enter a product or a sum; those of others may be an exponent, a limit, a size."""
PASSED_ON = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
"""Operators whose output holds the numbers of their first input."""
SIZES = ("Shape", "Size", "EyeLike")
"""Operators whose output follows from the size of their input alone."""


def rounded(numbers: Floats, rng: np.random.Generator) -> Floats:
    """Each number as one of its two neighbours in float32; whole numbers stay: pixels and places are exact."""
    away = np.where(rng.random(numbers.shape) < 0.5, -np.inf, np.inf).astype(np.float32)
    return np.where(numbers == np.rint(numbers), numbers, np.nextafter(numbers, away))


def with_rounded_weights(model: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """A copy of the model with its weights in float32 rounded another way.

    Weights are tensors that only enter products and sums with numbers of the image. The factor of a size is none: that
    one would be cut off to the next lower whole number. Single numbers stay: most are options of a computation.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    uses = _Uses(_readers(copy.graph), _of_the_image(copy.graph))
    for name, tensor in _tensors(copy.graph):
        if tensor.data_type == onnx.TensorProto.FLOAT and uses.is_weight(name):
            numbers = rounded(onnx.numpy_helper.to_array(tensor), rng)
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))
    return copy


Readers = dict[str, list[tuple[onnx.NodeProto | None, int]]]
"""For each tensor's name the nodes that read it, and as which input; None for an output of a graph."""


@dataclass(frozen=True)
class _Uses:
    """What becomes of a graph's constants. of_the_image: names of tensors whose numbers depend on those of an input."""

    readers: Readers
    of_the_image: frozenset[str]

    def is_weight(self, name: str) -> bool:
        """Whether every reader of a tensor multiplies its numbers with those of the image, or adds them."""
        readers = self.readers.get(name, [])
        return bool(readers) and all(node is not None and self._enters(node, i) for node, i in readers)

    def _enters(self, node: onnx.NodeProto, i: int) -> bool:
        if node.domain not in STANDARD_DOMAINS:
            return False
        if node.op_type in PASSED_ON:
            return i == 0 and self.is_weight(node.output[0])
        if i not in WEIGHTS.get(node.op_type, ()):
            return False
        return any(name in self.of_the_image for name in node.input) or self.is_weight(node.output[0])


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for body in _bodies(node):
            yield from _graphs(body)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def _readers(graph: onnx.GraphProto) -> Readers:
    readers: Readers = {}
    for part in _graphs(graph):
        for output in part.output:
            readers.setdefault(output.name, []).append((None, 0))
        for node in part.node:
            for i, name in enumerate(node.input):
                readers.setdefault(name, []).append((node, i))
    return readers


def _of_the_image(graph: onnx.GraphProto) -> frozenset[str]:
    """The names of tensors whose numbers depend on those of the graph's inputs, not on their sizes alone."""
    weights = {tensor.name for tensor in graph.initializer}
    names = {value.name for value in graph.input} - weights
    _spread(graph, names)
    return frozenset(names)


def _spread(graph: onnx.GraphProto, names: set[str]) -> None:
    """Adds the outputs of nodes that read one of the names, here or in a body."""
    for node in graph.node:
        bodies = list(_bodies(node))
        reads = not names.isdisjoint(node.input)
        for body in bodies:
            if reads:
                names.update(value.name for value in body.input)
            _spread(body, names)
        reads = reads or any(not names.isdisjoint(value.name for value in body.output) for body in bodies)
        if reads and node.op_type not in SIZES:
            names.update(node.output)


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """The constants of several numbers, by the names under which nodes read them; of ConstantOfShape its one number."""
    for part in _graphs(graph):
        yield from ((tensor.name, tensor) for tensor in part.initializer if np.prod(tensor.dims) > 1)
        for node in part.node:
            tensors = [a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
            if node.op_type == "Constant":
                yield from ((node.output[0], tensor) for tensor in tensors if np.prod(tensor.dims) > 1)
            if node.op_type == "ConstantOfShape":
                yield from ((node.output[0], tensor) for tensor in tensors)


@dataclass(frozen=True, eq=False)
class Roundings:
    """Moves maps by rounding numbers another way.

    explainer: of the model as it is. file: of that model. reopen: opens another file as the explainer was.
    distance: how far two maps of one picture are apart. raw: the file takes pictures, whose numbers are not rounded.
    """

    explainer: Explainer
    file: ModelFile
    reopen: Callable[[ModelFile], Explainer]
    distance: Callable[[Saliency, Saliency], float]
    raw: bool

    def moved(self, image: ModelInput, index: int, enough: float) -> float:
        """How far the map of class `index` moves at most, by the image and by the weights; stops where it is enough.

        Raises OutOfMemory or TimedOut.
        """
        moved = 0.0
        for distance in self._distances(image, index):
            moved = max(moved, distance)
            if moved >= enough:
                break
        return moved

    def _distances(self, image: ModelInput, index: int) -> Iterator[float]:
        """One number for each rounding under which there still is a map."""
        rng, entry = np.random.default_rng(0), opened_model(self.explainer).anatomy.image
        before = _map(self.explainer, image, index)
        if not self.raw and not entry.takes_integers:
            for _ in range(ROUNDINGS):
                other = ModelInput(rounded(image.image, rng), None, image.name)
                yield from self._distance(before, _map(self.explainer, other, index))
        for _ in range(ROUNDINGS):
            yield from self._distance(before, self._map_of_other_weights(image, index, rng))

    def _distance(self, before: Saliency | None, after: Saliency | None) -> Iterator[float]:
        if before is not None and after is not None:
            yield self.distance(before, after)

    def _map_of_other_weights(self, image: ModelInput, index: int, rng: np.random.Generator) -> Saliency | None:
        """None where another feature map is explained there."""
        proto = with_rounded_weights(self.file.proto, rng)
        try:
            other = self.reopen(self.file.with_proto(proto))
        except (OutOfMemory, TimedOut):
            raise
        except InferenceError:
            return None
        with other:
            features = [opened_model(each).anatomy.features.tensor for each in (self.explainer, other)]
            return _map(other, image, index) if features[0] == features[1] else None


def _map(explainer: Explainer, image: ModelInput, index: int) -> Saliency | None:
    """The map of a class; None where the method has none, or the model does not run."""
    try:
        (saliency,) = explain_prepared(explainer, image, [index])
    except (OutOfMemory, TimedOut):
        raise
    except (InferenceError, UndefinedSaliency):
        return None
    return saliency if np.isfinite(saliency.map).all() and np.ptp(saliency.map) > 0 else None
