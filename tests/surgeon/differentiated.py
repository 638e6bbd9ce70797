"""The check that every gradient rule goes through: inner products in float64, against finite differences.

For random directions u (of the inputs) and v (of the output), <v, J u> is measured by moving the inputs a little both
ways, and <J^T v, u> is what the rule gives. Both graphs run in onnx's reference evaluator.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from onnxcam.surgeon import graph
from onnxcam.surgeon.gradient import gradients
from onnxcam.surgeon.rules.registry import Ops, Rule

NUDGE = 1e-6
SEED = "seed"


def with_gradient(
    text: str, wrt: Sequence[str], instead: Mapping[str, Rule] | None = None
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The model, and the one that takes `seed` too and returns the gradients of sum(seed * first output)."""
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto, full_check=True)
    model = graph.raise_opset(graph.in_order(graph.from_proto(proto)))
    inferred = graph.from_proto(onnx.shape_inference.infer_shapes(graph.to_proto(model), strict_mode=True))
    shapes = {str(v.name): tuple(int(d) for d in v.shape or ()) for v in graph.values(inferred)}
    y = model.graph.outputs[0]
    seed = graph.new_input(model, SEED, ir.DataType.DOUBLE, [*shapes[str(y.name)]])
    values = [found for name in wrt if (found := graph.find_value(model, name)) is not None]
    ops = Ops(model, "gradient", ir.DataType.DOUBLE)
    found = gradients(model, ops, {y: seed}, values, shapes=shapes, known={}, instead=instead)
    for name, value in zip(wrt, found, strict=True):
        same = ops.build("Identity", value, name=f"d_{name}")
        same.type, same.shape = ir.TensorType(ir.DataType.DOUBLE), ir.Shape(shapes[name])
        model.graph.outputs.append(same)
    made = graph.to_proto(graph.tidy(model))
    onnx.checker.check_model(made, full_check=True)
    return proto, made


def inner_product_error(
    text: str, feeds: Mapping[str, np.ndarray], wrt: Sequence[str] | None = None, rounds: int = 3
) -> float:
    """Largest |<v, J u> - <J^T v, u>| of a few random directions, relative to the larger of the two."""
    wrt = list(feeds) if wrt is None else wrt
    proto, made = with_gradient(text, wrt)
    forward, backward = ReferenceEvaluator(proto), ReferenceEvaluator(made)
    names = [f"d_{name}" for name in wrt]
    rng = np.random.default_rng(5)
    worst = 0.0
    for _ in range(rounds):
        u = {n: rng.standard_normal(feeds[n].shape) for n in wrt}

        def moved(by: float, u: Mapping[str, np.ndarray] = u) -> np.ndarray:
            return np.asarray(forward.run(None, {n: a + by * u[n] if n in u else a for n, a in feeds.items()})[0])

        slope = (moved(NUDGE) - moved(-NUDGE)) / (2 * NUDGE)
        v = rng.standard_normal(slope.shape)
        found = backward.run(names, {**feeds, SEED: v})
        for name, given in zip(wrt, found, strict=True):
            assert np.shape(given) == feeds[name].shape, name
        pulled = sum(float(np.sum(g * u[n])) for n, g in zip(wrt, found, strict=True))
        pushed = float(np.sum(v * slope))
        worst = max(worst, abs(pulled - pushed) / max(abs(pulled), abs(pushed), 1e-3))
    return worst
