"""Rules that stand in for the table's in guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806)."""

from collections.abc import Mapping

import numpy as np

from onnxcam.surgeon.autodiff.rules.elementwise import clip, relu
from onnxcam.surgeon.autodiff.rules.foreign import MICROSOFT, fused_conv
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, Rule
from onnxcam.surgeon.ir import Value, constant


class Guided:
    """The rules, and how many nodes on the way rectified."""

    def __init__(self) -> None:
        self.rectified = 0

    @property
    def rules(self) -> Mapping[str, Rule]:
        return {"Relu": self._relu, "Clip": self._clip, f"{MICROSOFT}.FusedConv": self._fused_conv}

    def _rectify(self, op: Ops, dy: Value) -> Value:
        self.rectified += 1
        return op.Relu(dy)

    def _relu(self, op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
        return relu(op, step, self._rectify(op, dy))

    def _clip(self, op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
        """A Clip from 0 is a ReLU with a ceiling; any other is what it was."""
        low = step.optional(1)
        array = None if low is None else constant(low)
        rectifies = array is not None and np.size(array) == 1 and float(np.reshape(array, -1)[0]) == 0
        return clip(op, step, self._rectify(op, dy) if rectifies else dy)

    def _fused_conv(self, op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
        kind = step.text("activation", "")
        given = step.node.attributes.get("activation_params")
        rectifies = kind == "Relu" or (kind == "Clip" and given is not None and given.as_floats()[0] == 0)
        return fused_conv(op, step, self._rectify(op, dy) if rectifies else dy)
