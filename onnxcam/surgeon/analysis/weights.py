"""Finds the layers of a graph that have weights, in order from the output, and the tensors that hold these weights.

A layer is a product (Conv, Gemm, MatMul, LSTM ...) with the normalisation, bias and scale directly behind it, so that
an export with folded batch norms and one without have the same layers. A normalisation or an addition of learnt numbers
that stands elsewhere is a layer of its own. passes/randomise.py draws the weights of layers again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import onnx_ir

from onnxcam.surgeon.analysis.stored_weights import Stored, find_stored, is_computed_from_constants
from onnxcam.surgeon.ir import Graph, Model, Node, Value, captured, is_standard


class Role(StrEnum):
    """What the numbers of a tensor are for; `other` are tables, such as position embeddings."""

    WEIGHT = "weight"
    SHIFT = "shift"
    SCALE = "scale"
    VARIANCE = "variance"
    OTHER = "other"


W, SHIFT, SCALE, VARIANCE = Role.WEIGHT, Role.SHIFT, Role.SCALE, Role.VARIANCE

PRODUCTS: Mapping[str, Mapping[int, Role]] = {
    "Conv": {1: W, 2: SHIFT}, "FusedConv": {1: W, 2: SHIFT}, "NhwcFusedConv": {1: W, 2: SHIFT},
    "ConvTranspose": {1: W, 2: SHIFT}, "DeformConv": {1: W, 3: SHIFT}, "ConvInteger": {1: W},
    "QLinearConv": {3: W, 8: SHIFT},
    "Gemm": {0: W, 1: W, 2: SHIFT}, "MatMul": {0: W, 1: W}, "FusedMatMul": {0: W, 1: W}, "FusedGemm": {1: W, 2: SHIFT},
    "Einsum": {0: W, 1: W}, "MatMulInteger": {0: W, 1: W}, "QLinearMatMul": {0: W, 3: W}, "QGemm": {3: W, 6: SHIFT},
    "DynamicQuantizeMatMul": {1: W, 4: SHIFT}, "MatMulIntegerToFloat": {1: W, 6: SHIFT}, "MatMulNBits": {1: W},
    "LSTM": {1: W, 2: W, 3: SHIFT, 7: W}, "GRU": {1: W, 2: W, 3: SHIFT}, "RNN": {1: W, 2: W, 3: SHIFT},
    "DynamicQuantizeLSTM": {1: W, 2: W, 3: SHIFT}, "Attention": {1: W, 2: SHIFT}, "QAttention": {1: W, 2: SHIFT},
}  # fmt: skip
"""Operators that multiply the picture with weights: the inputs that can hold them. Of two for W, one is the picture."""
NORMALISATIONS: Mapping[str, Mapping[int, Role]] = {
    "BatchNormalization": {1: SCALE, 2: SHIFT, 3: SHIFT, 4: VARIANCE},
    "LayerNormalization": {1: SCALE, 2: SHIFT}, "GroupNormalization": {1: SCALE, 2: SHIFT},
    "InstanceNormalization": {1: SCALE, 2: SHIFT}, "RMSNormalization": {1: SCALE}, "PRelu": {1: SCALE},
    "SimplifiedLayerNormalization": {1: SCALE}, "SkipLayerNormalization": {2: SCALE, 3: SHIFT, 4: SHIFT},
    "BiasGelu": {1: SHIFT}, "FastGelu": {1: SHIFT},
}  # fmt: skip
"""Operators that scale and shift with learnt numbers."""
ELEMENTWISE: Mapping[str, Mapping[int, Role]] = {
    "Add": {0: SHIFT, 1: SHIFT}, "Sub": {0: SHIFT, 1: SHIFT}, "Mul": {0: SCALE, 1: SCALE}, "Div": {1: SCALE},
    "QLinearAdd": {0: SHIFT, 3: SHIFT}, "QLinearMul": {0: SCALE, 3: SCALE},
}  # fmt: skip
"""Operators that do so where one operand is a constant of several numbers."""
PASSING = frozenset("Identity Cast Reshape Transpose Flatten Squeeze Unsqueeze DequantizeLinear QuantizeLinear".split())
"""Operators between a product and its bias that leave the numbers as they are."""
INTEGER_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger"})
"""Products whose result is scaled by a Mul before the bias is added."""
MASKING = -50.0
"""A constant of zeros and numbers below this is a mask of attention and no weight."""


@dataclass(frozen=True, eq=False)
class Parameter:
    """A stored tensor that a layer reads, and what its numbers are for."""

    stored: Stored
    role: Role

    @property
    def name(self) -> str:
        """The name of the initializer."""
        return str(self.stored.value.name)


@dataclass(frozen=True, eq=False)
class WeightLayer:
    """A layer with weights. name: its node's, or that of its output. op: the operator, such as 'Conv'."""

    name: str
    op: str
    parameters: tuple[Parameter, ...]

    @property
    def is_constant(self) -> bool:
        """Whether each of its tensors repeats one number, so that another order of them changes nothing."""
        return all(parameter.stored.is_constant for parameter in self.parameters)


@dataclass(frozen=True, eq=False)
class WeightLayers:
    """What a graph has of layers.

    layers: in reverse topological order, that of the output first. skipped: why nodes with weights are not among them,
    one sentence each.
    """

    layers: tuple[WeightLayer, ...]
    skipped: tuple[str, ...]


def find_weight_layers(model: Model, outputs: Sequence[str] = ()) -> WeightLayers:
    """The layers that these outputs depend on; all outputs if none is named.

    A tensor that several layers share belongs to the one nearest to the output.
    """
    chosen = [v for v in model.graph.outputs if not outputs or v.name in outputs]
    return _Finder(list(_in_order(model.graph)), chosen or list(model.graph.outputs)).run()


def _in_order(graph: Graph) -> Iterator[Node]:
    """All nodes, those of a subgraph just before the node that holds it."""
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == onnx_ir.AttributeType.GRAPH:
                yield from _in_order(attribute.as_graph())
            elif attribute.type == onnx_ir.AttributeType.GRAPHS:
                for inner in attribute.as_graphs():
                    yield from _in_order(inner)
        yield node


@dataclass(eq=False)
class _Finder:
    """nodes: in topological order. outputs: of the model. taken: the nodes and the stored tensors that have a layer."""

    nodes: list[Node]
    outputs: list[Value]
    taken: set[int] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)

    def run(self) -> WeightLayers:
        needed = _needed(self.nodes, self.outputs)
        nodes = [node for node in self.nodes if id(node) in needed]
        products = [node for node in nodes if _is_product(node)]
        behind = _behind(nodes, products)
        before = _needed(nodes, [v for node in products for v in node.inputs if v is not None])
        joined = {id(node): _joined(node) for node in products}
        members = {id(member) for each in joined.values() for member in each}
        body = {id(node) for node in nodes if node.op_type in ELEMENTWISE} & behind & before
        first = (set(joined) | body | {id(node) for node in nodes if node.op_type in NORMALISATIONS}) - members
        layers = [self._layer(node, joined.get(id(node), [])) for node in reversed(nodes) if id(node) in first]
        return WeightLayers(tuple(layer for layer in layers if layer is not None), tuple(self.skipped))

    def _layer(self, node: Node, members: list[Node]) -> WeightLayer | None:
        """The layer of a node and of those that are joined to it; None where no tensor is left for it."""
        parameters = [p for n in (node, *members) for p in _parameters(n)]
        missing = _why_not(node) if not any(p.role is Role.WEIGHT for p in parameters) else None
        label = str(node.name or node.outputs[0].name)
        if missing is not None:
            self.skipped.append(f"{node.op_type} {label!r} keeps its weights: {missing}")
        fresh = [p for p in parameters if id(p.stored.value) not in self.taken]
        self.taken.update(id(p.stored.value) for p in fresh)
        unique = tuple({id(p.stored.value): p for p in fresh}.values())
        return WeightLayer(label, node.op_type, unique) if unique else None


def _is_product(node: Node) -> bool:
    """Whether the node multiplies with weights, found or not; a product of two computed tensors is none."""
    if node.op_type not in PRODUCTS or (node.op_type == "Attention" and is_standard(node)):  # that one has no weights
        return False
    weights = _weights(node)
    either = {0, 1} & {i for i, role in PRODUCTS[node.op_type].items() if role is Role.WEIGHT} == {0, 1}
    return (not either and bool(weights)) or any(map(is_computed_from_constants, weights))


def _weights(node: Node) -> list[Value]:
    """The inputs of a product that can hold its weights."""
    places = [i for i, role in PRODUCTS.get(node.op_type, {}).items() if role is Role.WEIGHT]
    return [v for v in (node.inputs[i] for i in places if i < len(node.inputs)) if v is not None]


def _parameters(node: Node) -> list[Parameter]:
    """The stored tensors of a node that are learnt, as far as they are found."""
    if node.op_type in ELEMENTWISE:
        return _elementwise(node)
    roles = PRODUCTS.get(node.op_type) or NORMALISATIONS.get(node.op_type) or {}
    parameters = []
    for place, role in roles.items():
        stored = find_stored(node.inputs[place]) if place < len(node.inputs) else None
        if stored is not None:
            shape = stored.shape
            quantised = _with_operator_scale(node, place, stored)
            fan_in = _fan_in(node, place, shape) if role is Role.WEIGHT and shape is not None else None
            parameters.append(Parameter(replace(quantised, fan_in=fan_in), role))
    return parameters


def _elementwise(node: Node) -> list[Parameter]:
    """The constant operand of an Add, Mul ..., if it is one of several learnt numbers."""
    for place, role in ELEMENTWISE[node.op_type].items():
        other = next((i for i in ELEMENTWISE[node.op_type] if i != place), 0)
        if place >= len(node.inputs) or is_computed_from_constants(node.inputs[other]):
            continue
        stored = find_stored(node.inputs[place])
        stored = _with_operator_scale(node, place, stored) if stored is not None else None
        if stored is not None and stored.array.size > 1 and stored.is_real and not _is_mask(stored):
            several = sum(d > 1 for d in stored.array.shape) > 1
            return [Parameter(stored, Role.OTHER if several else role)]
    return []


def _is_mask(stored: Stored) -> bool:
    """Whether the numbers only say what attention may not see: zeros, and numbers that are as good as -infinity."""
    array = np.asarray(stored.array, np.float64)
    return not np.isfinite(array).all() or bool(array.min() < MASKING and np.isin(array, (0.0, array.min())).all())


SCALE_OF: Mapping[str, Mapping[int, tuple[tuple[int, ...], int | None]]] = {
    "QLinearConv": {3: ((4,), 5), 8: ((1, 4), None)}, "QLinearMatMul": {0: ((1,), 2), 3: ((4,), 5)},
    "QGemm": {3: ((4,), 5), 6: ((1, 4), None)}, "QLinearAdd": {0: ((1,), 2), 3: ((4,), 5)},
    "QLinearMul": {0: ((1,), 2), 3: ((4,), 5)}, "DynamicQuantizeMatMul": {1: ((2,), 3)},
    "MatMulIntegerToFloat": {1: ((3,), 5)},
}  # fmt: skip
"""Operators on integers: of a place with weights, the inputs whose product is its scale, and that of the zero point."""


def _with_operator_scale(node: Node, place: int, stored: Stored) -> Stored:
    """The stored tensor with the scale that an operator on integers holds for it."""
    scales, zero = SCALE_OF.get(node.op_type, {}).get(place, ((), None))
    if not scales:
        return stored
    axis = stored.array.ndim - 1 if node.op_type in ("QLinearMatMul", "DynamicQuantizeMatMul") else 0
    return stored.scaled([node.inputs[i] for i in scales], node.inputs[zero] if zero is not None else None, axis)


def _fan_in(node: Node, place: int, shape: tuple[int, ...]) -> int | None:
    """How many numbers a number of the result is summed from. shape: of the weights as the operator reads them."""
    if len(shape) < 2:
        return None
    if node.op_type == "ConvTranspose":
        group = node.attributes["group"].as_int() if "group" in node.attributes else 1
        return max(1, shape[0] // group * int(np.prod(shape[2:], dtype=np.int64)))
    if "Conv" in node.op_type:
        return int(np.prod(shape[1:], dtype=np.int64))
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return shape[-1]
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    if node.op_type in ("Gemm", "FusedGemm", "QGemm") and place > 0:
        return shape[1] if transposed else shape[0]
    if node.op_type == "Einsum":
        return None
    return shape[-1] if place == 0 else shape[-2]


def _why_not(node: Node) -> str | None:
    """Why the weights of a product are not found; None for a node that has none."""
    weights = _weights(node)
    if not weights:
        return None
    computed = next((v for v in weights if is_computed_from_constants(v)), None)
    producer = computed.producer() if computed is not None else None
    if producer is not None:
        return f"they are computed by {producer.op_type} {str(producer.name or computed.name)!r}"  # type: ignore[union-attr]
    return "they are computed from the model's input"


def _joined(product: Node) -> list[Node]:
    """The normalisations, biases and scales that directly follow a product."""
    members: list[Node] = []
    value = product.outputs[0]
    while len(uses := list(value.uses())) == 1 and not value.is_graph_output():
        node = uses[0].node
        scales = node.op_type == "Mul" and product.op_type in INTEGER_PRODUCTS
        if _parameters(node) and (node.op_type in ELEMENTWISE or node.inputs[0] is value) and not _is_product(node):
            members.append(node)
        elif node.op_type not in PASSING and not scales:
            break
        value = node.outputs[0]
    return members


def _needed(nodes: Sequence[Node], seeds: Sequence[Value]) -> set[int]:
    """The nodes, by id, that the seeds are computed from."""
    wanted, needed = {id(v) for v in seeds}, set[int]()
    for node in reversed(nodes):
        inner = list(captured(node))
        if id(node) in needed or not wanted.isdisjoint(map(id, node.outputs)):
            needed.add(id(node))
            wanted.update(id(v) for v in (*node.inputs, *inner) if v is not None)
    return needed


def _behind(nodes: Sequence[Node], products: Sequence[Node]) -> set[int]:
    """The nodes, by id, that read what a product computed."""
    reached, behind = {id(v) for node in products for v in node.outputs}, set[int]()
    for node in nodes:
        if any(id(v) in reached for v in (*node.inputs, *captured(node)) if v is not None):
            behind.add(id(node))
            reached.update(map(id, node.outputs))
    return behind
