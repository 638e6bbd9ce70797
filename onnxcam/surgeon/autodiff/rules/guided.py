"""Guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806): other rules for Relu, Clip and FusedConv.

A rectifier passes back only positive cotangents.
"""

from collections.abc import Mapping

import numpy as np

from onnxcam.surgeon.autodiff.rules.elementwise import clip, relu
from onnxcam.surgeon.autodiff.rules.foreign import MICROSOFT, fused_conv
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, Rule
from onnxcam.surgeon.ir import Value, constant


class GuidedRules:
    """The rules as overrides for gradients(), and the number of rectifiers that they met (`relu_count`)."""

    def __init__(self) -> None:
        self.relu_count = 0

    @property
    def overrides(self) -> Mapping[str, Rule]:
        return {"Relu": self._relu, "Clip": self._clip, f"{MICROSOFT}.FusedConv": self._fused_conv}

    def _rectify(self, op: Ops, dy: Value) -> Value:
        self.relu_count += 1
        return op.Relu(dy)

    def _relu(self, op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
        return relu(op, node, self._rectify(op, dy))

    def _clip(self, op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
        """A Clip with minimum 0 is a rectifier. Any other Clip keeps its gradient."""
        low = node.optional(1)
        array = None if low is None else constant(low)
        rectifies = array is not None and np.size(array) == 1 and float(np.reshape(array, -1)[0]) == 0
        return clip(op, node, self._rectify(op, dy) if rectifies else dy)

    def _fused_conv(self, op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
        kind = node.text("activation", "")
        parameters = node.numbers("activation_params")
        rectifies = kind == "Relu" or (kind == "Clip" and bool(parameters) and parameters[0] == 0)
        return fused_conv(op, node, self._rectify(op, dy) if rectifies else dy)
