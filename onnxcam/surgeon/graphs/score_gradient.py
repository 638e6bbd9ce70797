"""The step graph: the scoring graph with the gradient of its scores. One run of it is one step of a search.

Inputs: those of the scoring graph (masked_score.py), with N samples and one target per sample. Outputs: SCORE (N,), the
logit or the probability of each sample's target, and GRADIENT (N,...). Row i of GRADIENT is the gradient of score i
with respect to sample i of the tensor that Wrt names: the maps (N,1,*grid), the image (N,C,*size) or the feature tensor
(N,...). A user can give such a graph as a file (`onnxcam explain --step FILE`); it has the same inputs and outputs.

make_differentiable() prepares the scoring graph, step_model() adds the gradient with autodiff. with_prediction() lets a
target below zero stand for the predicted class, so that one run gives a picture's answer and the answer's gradient.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.errors import MissingGradient
from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.surgeon.autodiff.driver import MissingRule, complaint, gradients, missing_rules
from onnxcam.surgeon.autodiff.rules.registry import Ops, Rule
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.graphs.masked_score import LOGITS, TARGETS, rewire, tensor_named
from onnxcam.surgeon.graphs.tensor_names import CHOSEN as CHOSEN
from onnxcam.surgeon.graphs.tensor_names import GRADIENT as GRADIENT
from onnxcam.surgeon.graphs.tensor_names import PREDICTION as PREDICTION
from onnxcam.surgeon.graphs.tensor_names import SCORE as SCORE
from onnxcam.surgeon.graphs.tensor_names import Wrt as Wrt
from onnxcam.surgeon.graphs.tensor_names import wrt_tensor as wrt_tensor
from onnxcam.surgeon.ir import Model, Value, edit
from onnxcam.surgeon.passes.opset import decompose_operators, raise_opset
from onnxcam.types import Arrays


def make_differentiable(scoring: Model, score: str, wrt: str) -> Model:
    """The scoring graph in opset 18 or newer, its operators decomposed so that gradient rules cover them.

    score, wrt: names of the output and of the tensor to differentiate by. Raises MissingGradient, which names every
    operator that still has no rule.
    """
    model, missing = decompose(scoring, score, wrt)
    if missing:
        raise MissingGradient(complaint(missing))
    return model


def decompose(scoring: Model, score: str, wrt: str) -> tuple[Model, list[MissingRule]]:
    """As make_differentiable(), but returns the operators that still have no rule instead of raising.

    An operator without a rule is replaced by the function body that the ONNX standard defines for it, if any.
    """
    model = raise_opset(scoring)
    missing = _missing(model, score, wrt)
    defined = [m.op_type for m in missing if m.is_standard]
    if defined:
        model = decompose_operators(model, defined)
        missing = _missing(model, score, wrt)
    return model, missing


def _missing(model: Model, score: str, wrt: str) -> list[MissingRule]:
    return missing_rules(model, [_named(model, score)], [_named(model, wrt)])


def _named(model: Model, name: str) -> Value:
    value = ir.find_value(model, name)
    if value is None:
        raise MissingGradient(f"the tensor {name!r} did not survive the change of opset")
    return value


@dataclass(frozen=True)
class Traces:
    """Shapes and values of two runs with different batch sizes (with the same, if the graph is fixed to one)."""

    first: Trace
    second: Trace

    @property
    def shapes(self) -> dict[str, ir.Shape]:
        """The shape of every tensor, None for an axis that depends on the batch size."""
        return {
            name: tuple(a if a == b else None for a, b in zip(shape, self.second.shapes[name], strict=True))
            for name, shape in self.first.shapes.items()
            if name in self.second.shapes and len(self.second.shapes[name]) == len(shape)
        }

    @property
    def known(self) -> Arrays:
        """Tensors whose values do not depend on the batch size, by name."""
        same: dict[str, npt.NDArray[np.generic]] = {}
        for name, array in self.first.values.items():
            other = self.second.values.get(name)
            if other is not None and other.shape == array.shape and (other == array).all():
                same[name] = array
        return same


def step_model(
    model: Model,
    score: str,
    wrt: str,
    traces: Traces,
    overrides: Mapping[str, Rule] | None = None,
    limits: Limits = SAFE,
    keep: Collection[str] = (),
) -> Model:
    """A copy of the model whose outputs are SCORE and GRADIENT.

    model: as returned by make_differentiable(). overrides: gradient rules by operator, used instead of the table's.
    keep: outputs that stay, behind these. Raises MissingGradient, and TimedOut by the limits.
    """
    copy = edit(model)
    kept = [value for value in copy.graph.outputs if value.name in keep]
    value, target = _named(copy, score), _named(copy, wrt)
    ops = Ops(copy, "onnxcam/gradient", onnx_ir.DataType.FLOAT)
    # Sample i is scored for target i: the diagonal of the (N,N) scores.
    diagonal = ops.EyeLike(value, dtype=int(onnx_ir.DataType.FLOAT))
    scores = ops.sum(ops.Mul(value, diagonal), [1], keepdims=False)
    (gradient,) = gradients(
        copy, ops, {value: diagonal}, [target], shapes=traces.shapes, known=traces.known, overrides=overrides,
        limits=limits,
    )  # fmt: skip
    copy.graph.outputs.clear()
    dims = ["rows" if d is None else d for d in traces.shapes[wrt]]
    for tensor, name, shape in ((scores, SCORE, dims[:1]), (gradient, GRADIENT, dims)):
        publish(copy, ops.build("Identity", tensor, name=name), onnx_ir.DataType.FLOAT, shape)
    copy.graph.outputs.extend(kept)
    return ir.tidy(copy)


def with_prediction(step: Model) -> Model:
    """A copy of a step graph of classes in which PREDICTION is the class with the largest of LOGITS, an output of it.

    One more output, CHOSEN (N,) int64, says which classes were scored.
    """
    copy = edit(step)
    b, targets = Builder(copy, "onnxcam/prediction"), tensor_named(copy, TARGETS)
    best = b("ArgMax", tensor_named(copy, LOGITS), axis=1, keepdims=0)
    chosen = b("Where", b("Less", targets, b.constant(0, np.int64)), best, targets)
    rewire(targets, chosen)
    publish(copy, b("Identity", chosen, name=CHOSEN), onnx_ir.DataType.INT64, ["rows"])
    return ir.tidy(copy)
