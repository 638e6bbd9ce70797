"""The graph that a search with gradients steps through: a score a row, and its gradient.

Inputs: those of the scoring graph (masking.py), with a picture a row where rows have their own, and a target a row.
Outputs: SCORE (N,), and GRADIENT: d score / d what was asked for, a row each. The contract of `explain --step` files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.errors import MissingGradient
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.surgeon.autodiff.driver import Missing, complaint, gradients, missing_rules
from onnxcam.surgeon.autodiff.rules.registry import Ops, Rule
from onnxcam.surgeon.graphs.masked_score import IMAGE, MAPS
from onnxcam.surgeon.ir import Model, Value, edit
from onnxcam.surgeon.passes.opset import raise_opset, write_out
from onnxcam.types import Arrays

SCORE, GRADIENT = "onnxcam/score", "onnxcam/gradient"


class Wrt(StrEnum):
    """What the gradient is with respect to."""

    MAPS = "maps"
    FEATURES = "features"
    IMAGE = "image"


def tensor_of(wrt: Wrt, anatomy: Anatomy) -> str:
    """The tensor's name in the scoring graph."""
    return {Wrt.MAPS: MAPS, Wrt.IMAGE: IMAGE, Wrt.FEATURES: anatomy.features.tensor}[wrt]


def differentiable(scoring: Model, score: str, wrt: str) -> Model:
    """The scoring graph in an opset that gradients can be written in, operators without a rule written out if possible.

    score: its output. Raises MissingGradient with every operator that stays without a rule.
    """
    model, missing = made_ready(scoring, score, wrt)
    if missing:
        raise MissingGradient(complaint(missing))
    return model


def made_ready(scoring: Model, score: str, wrt: str) -> tuple[Model, list[Missing]]:
    """The same, and the operators that stay without a rule."""
    model = raise_opset(scoring)
    missing = _missing(model, score, wrt)
    defined = [m.operator.rpartition("-")[0] for m in missing if "." not in m.operator]
    if defined:
        model = write_out(model, defined)
        missing = _missing(model, score, wrt)
    return model, missing


def _missing(model: Model, score: str, wrt: str) -> list[Missing]:
    return missing_rules(model, [_named(model, score)], [_named(model, wrt)])


def _named(model: Model, name: str) -> Value:
    found = ir.find_value(model, name)
    if found is None:
        raise MissingGradient(f"the tensor {name!r} did not survive the change of opset")
    return found


@dataclass(frozen=True)
class Traces:
    """What two runs with different numbers of rows showed; equal ones where the graph is bound to one number."""

    one: Trace
    other: Trace

    @property
    def shapes(self) -> dict[str, ir.Shape]:
        """None for an entry that depends on the number of rows."""
        return {
            name: tuple(a if a == b else None for a, b in zip(shape, self.other.shapes[name], strict=True))
            for name, shape in self.one.shapes.items()
            if name in self.other.shapes and len(self.other.shapes[name]) == len(shape)
        }

    @property
    def known(self) -> Arrays:
        """Tensors that are the same whatever the number of rows."""
        same: dict[str, npt.NDArray[np.generic]] = {}
        for name, array in self.one.values.items():
            other = self.other.values.get(name)
            if other is not None and other.shape == array.shape and (other == array).all():
                same[name] = array
        return same


def step_model(model: Model, score: str, wrt: str, traces: Traces, instead: Mapping[str, Rule] | None = None) -> Model:
    """model: as differentiable() gives it. Its outputs become SCORE and GRADIENT."""
    copy = edit(model)
    value, target = _named(copy, score), _named(copy, wrt)
    ops = Ops(copy, "onnxcam/gradient", onnx_ir.DataType.FLOAT)
    # Row i is scored for target i: the diagonal of what the graph gives for rows and targets.
    diagonal = ops.EyeLike(value, dtype=int(onnx_ir.DataType.FLOAT))
    own = ops.sum(ops.Mul(value, diagonal), [1], keepdims=False)
    (found,) = gradients(
        copy, ops, {value: diagonal}, [target], shapes=traces.shapes, known=traces.known, instead=instead
    )
    copy.graph.outputs.clear()
    rows = traces.shapes[wrt]
    for made, name, shape in ((own, SCORE, rows[:1]), (found, GRADIENT, rows)):
        named = ops.build("Identity", made, name=name)
        named.type, named.shape = (
            onnx_ir.TensorType(onnx_ir.DataType.FLOAT),
            onnx_ir.Shape(["rows" if d is None else d for d in shape]),
        )
        copy.graph.outputs.append(named)
    return ir.tidy(copy)
