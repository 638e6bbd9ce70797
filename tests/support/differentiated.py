"""The check that every gradient rule goes through: inner products in float64, against finite differences.

For random directions u (of the inputs) and v (of the output), <v, J u> is measured by moving the inputs a little both
ways, and <J^T v, u> is what the rule gives. Both graphs run in onnx's reference evaluator.
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
from reference import OWN

from onnxcam.surgeon import ir
from onnxcam.surgeon.autodiff.driver import gradients
from onnxcam.surgeon.autodiff.rules.registry import Ops, Rule
from onnxcam.surgeon.passes.opset import raise_opset

NUDGE = 1e-6
TOLERANCE = 1e-6
"""Of an inner product: what a difference over 2e-6 of numbers about 1 loses in float64, ten times over."""
SEED = "seed"
ROWS = 4
"""Pictures at once: neither of the two numbers that the shapes are told from."""

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """An operator, or a few, on small tensors.

    nodes: their last result is y. inputs: the tensors that gradients are wanted for; `real` is the precision of the
    run, N as first entry the rows, of which the rules know nothing. weights: parameters, drawn from (0.5, 1.5) where no
    numbers are given. opset: the first that has it, until: the last. span: what the inputs are drawn from, else the
    standard normal. output: with its type where onnx infers none. check: whether onnx's checker would have it.
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
        """Those of a domain of their own with that, as in the table of rules."""
        return operators(self.text(self.opset))

    def opsets(self) -> list[int]:
        """One for each form of its operators, from its first opset on."""
        found: dict[tuple[int, ...], int] = {}
        for opset in range(self.opset, min(self.until, onnx.defs.onnx_opset_version()) + 1):
            standard = [op for op in sorted(self.operators) if "." not in op]
            forms = tuple(onnx.defs.get_schema(op, opset).since_version for op in standard)
            found.setdefault(forms, opset)
        return list(found.values())

    def draw(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(3)
        found = {}
        for info in onnx.parser.parse_model(self.text(self.opset)).graph.input:
            shape = [d.dim_value or ROWS for d in info.type.tensor_type.shape.dim]
            found[info.name] = rng.standard_normal(shape) if self.span is None else rng.uniform(*self.span, shape)
        return found


def operators(text: str) -> set[str]:
    nodes = onnx.parser.parse_model(text).graph.node
    return {f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes}


def parsed(text: str, rows: int | None = None, *, check: bool = True) -> onnx.ModelProto:
    """The model with its weights drawn, its output's type inferred, and a number of rows for N if one is given."""
    proto = onnx.parser.parse_model(text if rows is None else re.sub(r"\bN\b", str(rows), text))
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


def raised(proto: onnx.ModelProto) -> ir.Model:
    return raise_opset(ir.in_order(ir.from_proto(proto)))


def shapes_of(text: str, *, check: bool = True) -> dict[str, ir.Shape]:
    """None for the entries that differ when N does."""

    def told(rows: int) -> dict[str, tuple[int, ...]]:
        proto = ir.to_proto(raised(parsed(text, rows, check=check)))
        model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))
        return {str(v.name): tuple(map(int, v.shape)) for v in ir.values(model) if v.shape is not None}  # type: ignore[arg-type]

    two, three = told(2), told(3)
    return {name: tuple(a if a == b else None for a, b in zip(two[name], three[name], strict=True)) for name in two}


def with_gradient(
    text: str,
    wrt: Sequence[str],
    instead: Mapping[str, Rule] | None = None,
    *,
    check: bool = True,
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The model, and the one that takes `seed` too and returns the gradients of sum(seed * first output).

    In the precision of the first input.
    """
    proto, shapes = parsed(text, check=check), shapes_of(text, check=check)
    model = raised(proto)
    real = onnx_ir.DataType(proto.graph.input[0].type.tensor_type.elem_type)

    def named(shape: ir.Shape) -> list[int | str]:
        return ["N" if d is None else d for d in shape]

    y = model.graph.outputs[0]
    seed = ir.new_input(model, SEED, real, named(shapes[str(y.name)]))
    values = [found for name in wrt if (found := ir.find_value(model, name)) is not None]
    ops = Ops(model, "gradient", real)
    found = gradients(model, ops, {y: seed}, values, shapes=shapes, known={}, instead=instead)
    for name, value in zip(wrt, found, strict=True):
        same = ops.build("Identity", value, name=f"d_{name}")
        same.type, same.shape = onnx_ir.TensorType(real), onnx_ir.Shape(named(shapes[name]))
        model.graph.outputs.append(same)
    made = ir.to_proto(ir.tidy(model))
    if check:
        onnx.checker.check_model(made, full_check=True)
    return proto, made


def evaluated(proto: onnx.ModelProto, outputs: Sequence[str] | None, feeds: Feeds) -> list[np.ndarray]:
    names = {v.name for v in proto.graph.input}
    with np.errstate(all="ignore"):  # both sides of a Where are computed
        return ReferenceEvaluator(proto, new_ops=OWN).run(outputs, {n: a for n, a in feeds.items() if n in names})


def pulled(text: str, feeds: Feeds, seed: np.ndarray, instead: Mapping[str, Rule] | None = None) -> list[np.ndarray]:
    """The gradients of sum(seed * first output) for all that is fed.

    In onnxruntime, and in onnx's evaluator alike unless there are operators that only the runtime has.
    """
    _, made = with_gradient(text, list(feeds), instead)
    names, given = [f"d_{name}" for name in feeds], {**feeds, SEED: seed}
    found = run(made, names, given)
    if not any("." in op for op in operators(text)):
        for a, b in zip(evaluated(made, names, given), found, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    return found


def run(proto: onnx.ModelProto, outputs: Sequence[str], feeds: Feeds) -> list[np.ndarray]:
    """In onnxruntime."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {v.name for v in session.get_inputs()}
    return session.run(list(outputs), {n: a for n, a in feeds.items() if n in names})


def inner_product_error(
    text: str, feeds: Feeds, wrt: Sequence[str] | None = None, rounds: int = 3, *, check: bool = True
) -> float:
    """Largest |<v, J u> - <J^T v, u>| of a few random directions, relative to the larger of the two."""
    wrt = list(feeds) if wrt is None else wrt
    proto, made = with_gradient(text, wrt, check=check)
    forward = ReferenceEvaluator(proto, new_ops=OWN)
    names = [f"d_{name}" for name in wrt]
    rng = np.random.default_rng(5)
    worst = 0.0
    for _ in range(rounds):
        u = {n: rng.standard_normal(feeds[n].shape) for n in wrt}

        def moved(by: float, u: Feeds = u) -> np.ndarray:
            return np.asarray(forward.run(None, {n: a + by * u[n] if n in u else a for n, a in feeds.items()})[0])

        slope = (moved(NUDGE) - moved(-NUDGE)) / (2 * NUDGE)
        v = rng.standard_normal(slope.shape)
        found = evaluated(made, names, {**feeds, SEED: v})
        for name, given in zip(wrt, found, strict=True):
            assert np.shape(given) == feeds[name].shape, name
        pull = sum(float(np.sum(g * u[n])) for n, g in zip(wrt, found, strict=True))
        push = float(np.sum(v * slope))
        worst = max(worst, abs(pull - push) / max(abs(pull), abs(push), 1e-3))
    return worst


def runtime_error(case: Case) -> float:
    """What onnxruntime makes of the gradient in float32, against onnx's evaluator in float64: the relative distance."""
    feeds = case.draw()
    names = [f"d_{name}" for name in feeds]
    proto, exact = with_gradient(case.text(case.opset), list(feeds), check=case.check)
    _, single = with_gradient(case.text(case.opset, "float"), list(feeds), check=case.check)
    feeds = {**feeds, SEED: np.random.default_rng(5).standard_normal(np.shape(evaluated(proto, None, feeds)[0]))}
    pairs = zip(evaluated(exact, names, feeds), run(single, names, in_single(feeds)), strict=True)
    return max(float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-3)) for a, b in pairs)


def runtime_slope_error(case: Case) -> float:
    """The inner products of a linear operator in onnxruntime: its slope is what it makes of the direction."""
    proto, made = with_gradient(case.text(case.opset, "float"), ["x"], check=case.check)
    x = in_single(case.draw())["x"]
    (there,), (here,) = (run(proto, ["y"], {"x": a}) for a in (x, np.zeros_like(x)))
    slope = np.asarray(there - here, np.float64)
    v = np.random.default_rng(5).standard_normal(slope.shape)
    (back,) = run(made, ["d_x"], in_single({"x": x, SEED: v}))
    return abs(float((v * slope).sum() - (back * x).sum())) / max(
        float(np.linalg.norm(v) * np.linalg.norm(slope)), 1e-3
    )


def in_single(feeds: Feeds) -> dict[str, np.ndarray]:
    """From float64 to float32."""
    return {n: a.astype(np.float32) for n, a in feeds.items()}
