"""A pass that writes the linear classifiers of the ML domain with standard operators, through which gradients go.

LinearClassifier becomes a product and its activation, and Normalizer a division by the sum. A Normalizer of a softmax
changes nothing and is left out. The label that a LinearClassifier gives stays.
"""

import numpy as np

from onnxcam.surgeon.analysis.activations import final_activation
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Value, edit, take_place

ACTIVATIONS = {"NONE": "", "SOFTMAX": "Softmax", "SOFTMAX_ZERO": "Softmax", "LOGISTIC": "Sigmoid"}
"""Operators by post_transform."""


def with_standard_classifiers(model: Model) -> Model:
    """A copy with standard operators in place of these; the model itself where it has none."""
    if not any(_is_linear(n) or _is_share(n) for n in model.graph):
        return model
    copy = edit(model)
    b = Builder(copy, "onnxcam/linear")
    for node in list(copy.graph):
        if _is_linear(node):
            take_place(node.outputs[1], _scores(b, node), "ml")
        elif _is_share(node):
            take_place(node.outputs[0], _shares(b, node), "ml")
    copy.graph.sort()
    return copy


def _is_linear(node: Node) -> bool:
    if node.op_type != "LinearClassifier" or node.domain != "ai.onnx.ml" or len(node.outputs) < 2:
        return False
    labels = next(
        (node.attributes[n] for n in ("classlabels_strings", "classlabels_ints") if n in node.attributes), None
    )
    bias = node.attributes.get("intercepts")
    rows = len(bias.as_floats()) if bias is not None else 0
    if labels is None or node.outputs[1].name in (None, ""):
        return False
    if rows == 1 and len(labels.value) == 2:  # onnxruntime gives 1 - s and s, whatever s is
        return _transform(node) == "LOGISTIC"
    return rows > 1 and rows == len(labels.value) and _transform(node) in ACTIVATIONS


def _is_share(node: Node) -> bool:
    """Whether the node divides by a sum."""
    norm = node.attributes.get("norm")
    name = norm.as_string() if norm is not None else "MAX"
    return node.op_type == "Normalizer" and node.domain == "ai.onnx.ml" and name == "L1"


def _transform(node: Node) -> str:
    attribute = node.attributes.get("post_transform")
    return str(attribute.as_string()) if attribute is not None else "NONE"


def _scores(b: Builder, node: Node) -> Value:
    bias = np.asarray(node.attributes["intercepts"].as_floats(), np.float32)
    weights = np.asarray(node.attributes["coefficients"].as_floats(), np.float32).reshape(len(bias), -1)
    product = b("MatMul", node.inputs[0], b.constant(weights.T, np.float32))
    logits = b("Add", product, b.constant(bias, np.float32))
    activation = ACTIVATIONS[_transform(node)]
    if activation == "Softmax":
        return b("Softmax", logits, axis=1)
    if len(bias) == 1:
        likely = b("Sigmoid", logits)
        return b("Concat", b("Sub", b.constant(1, np.float32), likely), likely, axis=1)
    return b(activation, logits) if activation else logits


def _shares(b: Builder, node: Node) -> Value:
    x = node.inputs[0]
    assert x is not None, "a Normalizer has an input"
    if final_activation(x).name == "softmax":
        return b("Identity", x)
    return b("Div", x, b.reduce("ReduceL1", x, [1]))
