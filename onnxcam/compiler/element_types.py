"""Element types of tensors, and the opset, that the added nodes are written for."""

import onnx_ir

FLOAT, DOUBLE, INT64, BOOL = (
    onnx_ir.DataType.FLOAT, onnx_ir.DataType.DOUBLE, onnx_ir.DataType.INT64, onnx_ir.DataType.BOOL,
)  # fmt: skip
OLDEST = 13
"""The oldest opset that the added operators are written for."""
