"""An ONNX graph run by PyTorch, so that autograd can differentiate it: for gradient rules' tests, and for export.

    values = OnnxModule(proto, torch.float64)({"images": x}, ["features", "logits"])

What is computed from shapes and constants alone stays on the host as numpy arrays (with torch.SymInt inside where a
size is symbolic), so that torch.fx can trace a graph with a dynamic batch. All floating-point types become the one that
was asked for. Derivatives are torch's: zero for Relu at 0, zero for Clip at both bounds and outside, a maximum's go to
the first of equals in MaxPool and evenly to all in ReduceMax and GlobalMaxPool. Quantisation passes the gradient
straight through; quantised numbers that depend on data are floats that hold integers.
"""

from onnx_torch import (
    elementwise,
    host,
    indexing,
    normalisation,
    pooling,
    products,
    quantised,
    reductions,
    resize,
    sequences,
    shapes,
)
from onnx_torch.module import OnnxModule
from onnx_torch.registry import HOST, OPERATORS, operator
from onnx_torch.values import along

__all__ = [
    "HOST",
    "OPERATORS",
    "OnnxModule",
    "along",
    "elementwise",
    "host",
    "indexing",
    "normalisation",
    "operator",
    "pooling",
    "products",
    "quantised",
    "reductions",
    "resize",
    "sequences",
    "shapes",
]
