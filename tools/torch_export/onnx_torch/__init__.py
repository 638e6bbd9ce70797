"""An interpreter of ONNX graphs in PyTorch, so that autograd can differentiate them.

    values = OnnxModule(proto, torch.float64)({"images": x}, ["features", "logits"])

The exporter of step graphs uses it, and so do the tests of the gradient rules. module.py runs a graph; registry.py has
the tables of operators, which the other files fill, a file for each kind of operator; host.py has shape arithmetic.
What is computed from shapes and constants alone stays on the host as NumPy arrays (with torch.SymInt inside where a
size is symbolic), so that torch.fx can trace a graph with a dynamic batch. All floating-point types become the module's
dtype.

Derivatives are torch's: zero for Relu at 0; zero for Clip at both bounds and outside; a maximum's go to the first of
equals in MaxPool, and evenly to all in ReduceMax and GlobalMaxPool. Quantisation passes the gradient straight through.
Quantised numbers that depend on data are floats that hold integers.
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
