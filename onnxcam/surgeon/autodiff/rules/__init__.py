"""A gradient rule for every operator: from the cotangent of what a node gives to those of what it takes."""

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient

__all__ = ["BackwardNode", "Cotangents", "Ops", "gradient"]
