"""Rules that stand in for the table's in guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806)."""

from collections.abc import Mapping

from onnxcam.surgeon import graph
from onnxcam.surgeon.graph import Value
from onnxcam.surgeon.rules.elementwise import clip, relu
from onnxcam.surgeon.rules.registry import Cotangents, Ops, Rule, Step


def _guided_relu(op: Ops, step: Step, dy: Value) -> Cotangents:
    return relu(op, step, op.Relu(dy))


def _guided_clip(op: Ops, step: Step, dy: Value) -> Cotangents:
    """A Clip from 0 is a ReLU with a ceiling; any other is what it was."""
    low = step.optional(1)
    array = graph.constant(low) if low is not None else None
    rectifies = array is not None and array.size == 1 and float(array.reshape(-1)[0]) == 0
    return clip(op, step, op.Relu(dy) if rectifies else dy)


GUIDED: Mapping[str, Rule] = {"Relu": _guided_relu, "Clip": _guided_clip}
