"""The check of every gradient rule: inner products in float64, against finite differences.

For random directions u (of the inputs) and v (of the output), <v, J u> comes from central differences and <J^T v, u>
from the rule. Both graphs run in onnx's reference evaluator.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from reference import REFERENCE_OPS

from onnxcam.surgeon import ir
from onnxcam.surgeon.autodiff.driver import gradients
from onnxcam.surgeon.autodiff.rules.registry import Ops, Rule
from onnxcam.surgeon.builder import publish
from onnxcam.surgeon.passes.opset import raise_opset

NUDGE = 1e-6
TOLERANCE = 1e-6
"""Relative, of an inner product. A difference over 2e-6 of numbers near 1 loses a tenth of this in float64."""
SEED = "seed"
SAMPLES = 4
"""The batch size of the checks: differs from the two batch sizes that the shapes are inferred from."""

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One operator, or a few, on small tensors.

    nodes: the last result is y. inputs: the tensors to differentiate by; `real` stands for the element type of the run,
    N for the batch size, which the rules do not know. weights: parameters, drawn from (0.5, 1.5) if they have no
    numbers. opset, until: the first and last opset that have the operator. span: the inputs are drawn from this
    interval, by default from the standard normal distribution. output: with its type if onnx infers none. check:
    whether onnx's checker accepts the model.
    """

    nodes: str
    inputs: str
    weights: str = ""
    opset: int = 18
    output: str = "y"
    span: tuple[float, float] | None = None
    until: int = 99
    tolerance: float = TOLERANCE
    check: bool = True

    def text(self, opset: int, real: str = "double") -> str:
        head = f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
        weights = f"<{self.weights}>" if self.weights else ""
        return f"{head} net ({self.inputs}) => ({self.output}) {weights} {{ {self.nodes} }}".replace("real", real)

    @property
    def operators(self) -> set[str]:
        """As in VJP_RULES: an operator outside the standard has its domain in front."""
        return operators(self.text(self.opset))

    def opsets(self) -> list[int]:
        """One opset for each form of the case's operators, from its first opset on."""
        opsets: dict[tuple[int, ...], int] = {}
        for opset in range(self.opset, min(self.until, onnx.defs.onnx_opset_version()) + 1):
            standard = [op for op in sorted(self.operators) if "." not in op]
            forms = tuple(onnx.defs.get_schema(op, opset).since_version for op in standard)
            opsets.setdefault(forms, opset)
        return list(opsets.values())

    def draw(self) -> dict[str, np.ndarray]:
        """Random inputs, float64."""
        rng = np.random.default_rng(3)
        inputs = {}
        for info in onnx.parser.parse_model(self.text(self.opset)).graph.input:
            shape = [d.dim_value or SAMPLES for d in info.type.tensor_type.shape.dim]
            inputs[info.name] = rng.standard_normal(shape) if self.span is None else rng.uniform(*self.span, shape)
        return inputs


def operators(text: str) -> set[str]:
    nodes = onnx.parser.parse_model(text).graph.node
    return {f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes}


def parsed(text: str, batch: int | None = None, *, check: bool = True) -> onnx.ModelProto:
    """The model with random weights and its output's type inferred. batch: replaces N."""
    proto = onnx.parser.parse_model(text if batch is None else re.sub(r"\bN\b", str(batch), text))
    rng = np.random.default_rng(0)
    computed = {name for node in proto.graph.node for name in node.output}
    for info in [v for v in proto.graph.value_info if v.name not in computed]:
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        drawn = np.asarray(rng.uniform(0.5, 1.5, shape), dtype)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(drawn, info.name))
        proto.graph.value_info.remove(info)
    proto = onnx.shape_inference.infer_shapes(proto)
    if check:
        onnx.checker.check_model(proto, full_check=True)
    return proto


def in_opset_18(proto: onnx.ModelProto) -> ir.Model:
    return raise_opset(ir.in_order(ir.from_proto(proto)))


def shapes_of(text: str, *, check: bool = True) -> dict[str, ir.Shape]:
    """The shape of every tensor by name, None for an axis that depends on N."""

    def inferred(batch: int) -> dict[str, tuple[int, ...]]:
        proto = ir.to_proto(in_opset_18(parsed(text, batch, check=check)))
        model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))
        return {str(v.name): tuple(map(int, v.shape)) for v in ir.values(model) if v.shape is not None}  # type: ignore[arg-type]

    two, three = inferred(2), inferred(3)
    return {name: tuple(a if a == b else None for a, b in zip(two[name], three[name], strict=True)) for name in two}


def with_gradient(
    text: str,
    wrt: Sequence[str],
    overrides: Mapping[str, Rule] | None = None,
    *,
    check: bool = True,
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The model, and the model that also takes `seed` and returns the gradients of sum(seed * first output).

    The gradients (d_x for each x of wrt) have the element type of the first input.
    """
    proto, shapes = parsed(text, check=check), shapes_of(text, check=check)
    model = in_opset_18(proto)
    real = onnx_ir.DataType(proto.graph.input[0].type.tensor_type.elem_type)

    def named(shape: ir.Shape) -> list[int | str]:
        return ["N" if d is None else d for d in shape]

    y = model.graph.outputs[0]
    seed = ir.new_input(model, SEED, real, named(shapes[str(y.name)]))
    values = [value for name in wrt if (value := ir.find_value(model, name)) is not None]
    ops = Ops(model, "gradient", real)
    built = gradients(model, ops, {y: seed}, values, shapes=shapes, known={}, overrides=overrides)
    for name, value in zip(wrt, built, strict=True):
        publish(model, ops.build("Identity", value, name=f"d_{name}"), real, named(shapes[name]))
    differentiated = ir.to_proto(ir.tidy(model))
    if check:
        onnx.checker.check_model(differentiated, full_check=True)
    return proto, differentiated


def evaluated(proto: onnx.ModelProto, outputs: Sequence[str] | None, feeds: Feeds) -> list[np.ndarray]:
    """The outputs by onnx's reference evaluator."""
    names = {v.name for v in proto.graph.input}
    with np.errstate(all="ignore"):  # both sides of a Where are computed
        return ReferenceEvaluator(proto, new_ops=REFERENCE_OPS).run(
            outputs, {n: a for n, a in feeds.items() if n in names}
        )


def computed_gradients(
    text: str, feeds: Feeds, seed: np.ndarray, overrides: Mapping[str, Rule] | None = None
) -> list[np.ndarray]:
    """The gradients of sum(seed * first output) by every input, computed in onnxruntime.

    Asserts that onnx's evaluator agrees, unless the model has operators that only onnxruntime knows.
    """
    _, proto = with_gradient(text, list(feeds), overrides)
    names, all_feeds = [f"d_{name}" for name in feeds], {**feeds, SEED: seed}
    by_runtime = run(proto, names, all_feeds)
    if not any("." in op for op in operators(text)):
        for a, b in zip(evaluated(proto, names, all_feeds), by_runtime, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    return by_runtime


def run(proto: onnx.ModelProto, outputs: Sequence[str], feeds: Feeds) -> list[np.ndarray]:
    """The outputs by onnxruntime."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {v.name for v in session.get_inputs()}
    return session.run(list(outputs), {n: a for n, a in feeds.items() if n in names})


def inner_product_error(
    text: str, feeds: Feeds, wrt: Sequence[str] | None = None, rounds: int = 3, *, check: bool = True
) -> float:
    """Largest |<v, J u> - <J^T v, u>| over a few random directions, relative to the larger of the two products."""
    wrt = list(feeds) if wrt is None else wrt
    proto, differentiated = with_gradient(text, wrt, check=check)
    forward = ReferenceEvaluator(proto, new_ops=REFERENCE_OPS)
    names = [f"d_{name}" for name in wrt]
    rng = np.random.default_rng(5)
    worst = 0.0
    for _ in range(rounds):
        u = {n: rng.standard_normal(feeds[n].shape) for n in wrt}

        def moved(by: float, u: Feeds = u) -> np.ndarray:
            return np.asarray(forward.run(None, {n: a + by * u[n] if n in u else a for n, a in feeds.items()})[0])

        slope = (moved(NUDGE) - moved(-NUDGE)) / (2 * NUDGE)
        v = rng.standard_normal(slope.shape)
        pulled_back = evaluated(differentiated, names, {**feeds, SEED: v})
        for name, cotangent in zip(wrt, pulled_back, strict=True):
            assert np.shape(cotangent) == feeds[name].shape, name
        by_rule = sum(float(np.sum(g * u[n])) for n, g in zip(wrt, pulled_back, strict=True))
        by_difference = float(np.sum(v * slope))
        worst = max(worst, abs(by_rule - by_difference) / max(abs(by_rule), abs(by_difference), 1e-3))
    return worst


def runtime_error(case: Case) -> float:
    """Relative distance of the gradient in onnxruntime (float32) from onnx's evaluator (float64)."""
    feeds = case.draw()
    names = [f"d_{name}" for name in feeds]
    proto, exact = with_gradient(case.text(case.opset), list(feeds), check=case.check)
    _, single = with_gradient(case.text(case.opset, "float"), list(feeds), check=case.check)
    feeds = {**feeds, SEED: np.random.default_rng(5).standard_normal(np.shape(evaluated(proto, None, feeds)[0]))}
    pairs = zip(evaluated(exact, names, feeds), run(single, names, in_single(feeds)), strict=True)
    return max(float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-3)) for a, b in pairs)


def runtime_slope_error(case: Case) -> float:
    """The inner-product error of a linear operator in onnxruntime, whose slope along x is f(x) - f(0)."""
    proto, differentiated = with_gradient(case.text(case.opset, "float"), ["x"], check=case.check)
    x = in_single(case.draw())["x"]
    (at_x,), (at_zero,) = (run(proto, ["y"], {"x": a}) for a in (x, np.zeros_like(x)))
    slope = np.asarray(at_x - at_zero, np.float64)
    v = np.random.default_rng(5).standard_normal(slope.shape)
    (back,) = run(differentiated, ["d_x"], in_single({"x": x, SEED: v}))
    return abs(float((v * slope).sum() - (back * x).sum())) / max(
        float(np.linalg.norm(v) * np.linalg.norm(slope)), 1e-3
    )


def in_single(feeds: Feeds) -> dict[str, np.ndarray]:
    """The feeds in float32."""
    return {n: a.astype(np.float32) for n, a in feeds.items()}
