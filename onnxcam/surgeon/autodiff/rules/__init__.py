"""Gradient rules: one function per ONNX operator, from the cotangent of its output to the cotangents of its inputs.

    from onnxcam.surgeon.autodiff.rules import gradient

is the public extension point: the decorator registers a rule, also from outside the package.

    registry      the table VJP_RULES, the decorator `gradient`, and what a rule receives (Ops, BackwardNode)
    elementwise   Add, Mul, Relu, Clip, Sigmoid, Gelu, Exp, Pow, Where, Cast, CumSum, ...
    linear        MatMul, Gemm, Einsum
    conv          Conv, ConvTranspose
    pool          MaxPool, AveragePool, LpPool and their global forms
    norm          BatchNormalization, LayerNormalization, InstanceNormalization, GroupNormalization, LRN, ...
    reduce        ReduceSum, ReduceMean, ReduceMax, ..., Softmax, LogSoftmax
    shape         Reshape, Transpose, Expand, Tile, Concat, Split, Slice, Pad, Resize, DepthToSpace, Trilu
    indexing      Gather, GatherElements, GatherND, ScatterND, ScatterElements, TopK
    regions       RoiAlign
    quantised     QuantizeLinear, DequantizeLinear, QLinearConv, ConvInteger, MatMulInteger, ... (straight-through)
    foreign       operators of onnxruntime (com.microsoft): FusedConv, FusedMatMul, Gelu, BiasGelu, QuickGelu
    guided        other rules for Relu, Clip and FusedConv: guided backpropagation

Importing this package fills the table, so that a rule registered after the import replaces the built-in one.
`windows` (kernel, stride, padding) and `sampling` (resize and pad as matrices) are helpers of these.
"""

from onnxcam.surgeon.autodiff.rules import (
    conv,
    elementwise,
    foreign,
    indexing,
    linear,
    norm,
    pool,
    quantised,
    reduce,
    regions,
    shape,
)
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient

__all__ = ["RULE_MODULES", "BackwardNode", "Cotangents", "Ops", "gradient"]

RULE_MODULES = (conv, elementwise, foreign, indexing, linear, norm, pool, quantised, reduce, regions, shape)
