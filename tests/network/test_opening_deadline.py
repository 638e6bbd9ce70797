"""An opening has a deadline, which its long steps look at; and no small file makes a large graph of itself."""

import time
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir
import pytest
from small_models import CLASSIFIER, filled

from onnxcam import Explainer
from onnxcam.engine.session import Session
from onnxcam.errors import ModelError, TimedOut
from onnxcam.limits import Limits, TimedLimits
from onnxcam.network.dry_run import run_trace
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.autodiff.driver import gradients
from onnxcam.surgeon.autodiff.rules.registry import Ops
from onnxcam.surgeon.budgets import check_computed
from onnxcam.surgeon.loading import read_model
from onnxcam.surgeon.passes.control_flow import take_branches, unroll_loops
from onnxcam.surgeon.shape_inference import infer_shapes
from onnxcam.surgeon.vmap.driver import free_batch

OVER = TimedLimits(seconds=7.0, end=0.0, what="opening m.onnx")
MESSAGE = r"^opening m\.onnx took more than 7 s and was given up; the limit is 7 s; raise it with --timeout or Limits"
SHAPES = {"x": (1, 3, 16, 12), "c1": (1, 6, 8, 6), "r1": (1, 6, 8, 6), "c2": (1, 8, 4, 3), "features": (1, 8, 4, 3),
          "pooled": (1, 8, 1, 1), "flat": (1, 8), "logits": (1, 5)}  # fmt: skip

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
IF = f"""{HEAD} net (float[1,3,8,8] x, bool c) => (float[1,3,8,8] y)
{{ y = If <then_branch = yes () => (a) {{ a = Relu (x) }}, else_branch = no () => (b) {{ b = Neg (x) }}> (c) }}"""


def rounds(depth: int) -> str:
    """Loops of 64 rounds in each other, as the text of the nodes between x and y."""
    body = "y0 = Relu (v0)"
    for level in range(1, depth + 1):
        inner = level - 1
        body = f"""y{level} = Loop <body = b{level} (int64 i{level}, bool g{level}, float[1,3,8,8] v{inner})
          => (bool o{level}, float[1,3,8,8] y{inner}) {{ {body} o{level} = Identity (g{level}) }}> (n, , v{level})"""
    return body.replace(f"v{depth})", "x)")


def loops(depth: int) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"{HEAD} net (float[1,3,8,8] x) => (float[1,3,8,8] y{depth}) <int64 n = {{64}}> {{ {rounds(depth)} }}"
    )


def classifier() -> ir.Model:
    return ir.from_proto(filled(CLASSIFIER))


def differentiate() -> None:
    model = classifier()
    x, y = ir.find_value(model, "x"), model.graph.outputs[0]
    assert x is not None
    seed = ir.new_input(model, "seed", onnx_ir.DataType.FLOAT, [1, 5])
    gradients(model, Ops(model, "g", onnx_ir.DataType.FLOAT), {y: seed}, [x], shapes=SHAPES, known={}, limits=OVER)


def trace() -> None:
    model = classifier()
    run_trace(model, find_image(model), (16, 12), {}, OVER)


STEPS: dict[str, Callable[[], object]] = {
    "unrolling": lambda: unroll_loops(ir.from_proto(loops(1)), OVER),
    "branches": lambda: take_branches(ir.from_proto(onnx.parser.parse_model(IF)), {"c": True}, OVER),
    "batching": lambda: free_batch(classifier(), SHAPES, {}, ["x"], OVER),
    "gradients": differentiate,
    "shape inference": lambda: infer_shapes(classifier(), {"x": (1, 3, 16, 12)}, OVER),
    "sizes": lambda: check_computed(classifier(), {"x": (1, 3, 16, 12)}, OVER),
    "session": lambda: Session(filled(CLASSIFIER).SerializeToString(), ("cpu",), limits=OVER),
    "trial run": trace,
    "reading": lambda: read_model(filled(CLASSIFIER).SerializeToString(), OVER),
    "opening": lambda: open_model(read_model(filled(CLASSIFIER)), OpenOptions(cache=False, limits=OVER)),
}


@pytest.mark.parametrize("step", STEPS)
def test_every_long_step_of_an_opening_looks_at_the_clock(step: str) -> None:
    with pytest.raises(TimedOut, match=MESSAGE):
        STEPS[step]()


def test_reading_and_opening_each_begin_their_own_time() -> None:
    file = read_model(filled(CLASSIFIER))
    with pytest.raises(TimedOut, match=r"^opening <ModelProto> took more than 1e-06 s"):
        open_model(file, OpenOptions(cache=False, limits=Limits(seconds=1e-6)))
    with pytest.raises(TimedOut, match=r"^reading <bytes> took more than 1e-06 s"):
        Explainer(filled(CLASSIFIER).SerializeToString(), cache=False, limits=Limits(seconds=1e-6))


def test_a_model_that_is_open_has_no_end_of_its_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(seconds=60.0)
    with Explainer(filled(CLASSIFIER), cache=False, providers=["cpu"], limits=limits) as explainer:
        picture = np.zeros((16, 12, 3), np.uint8)
        before = explainer(picture).map
        later = time.monotonic() + 1e6
        monkeypatch.setattr(time, "monotonic", lambda: later)
        np.testing.assert_array_equal(explainer(picture).map, before)


def test_a_trial_run_gets_what_is_left_and_a_later_run_its_whole_time() -> None:
    timed = Limits(seconds=100.0).begin("opening m.onnx")
    left = timed.seconds_of_run(8)
    assert left is not None
    assert 99 < left <= 100
    assert timed.begin("a part") is timed
    assert timed.lasting == Limits(seconds=100.0)
    assert timed.lasting.seconds_of_run(8) == 800
    assert Limits(seconds=None).begin("opening m.onnx").seconds_of_run(8) is None
    OVER.lasting.check()


def test_loops_within_loops_do_not_become_more_nodes_than_the_limit() -> None:
    unrolled = unroll_loops(ir.from_proto(loops(2)))
    assert [node.op_type for node in unrolled.graph].count("Relu") == 64**2
    start = time.process_time()
    with pytest.raises(ModelError, match=r"its loops and branches become [\d,]+ nodes; the limit is 2,000 nodes"):
        unroll_loops(ir.from_proto(loops(6)), Limits(nodes=2000))  # 64^6 nodes
    assert time.process_time() - start < 20


def test_functions_that_nothing_calls_are_not_inlined() -> None:
    proto = filled(CLASSIFIER)
    proto.opset_import.append(onnx.helper.make_opsetid("local", 1))
    relu = [onnx.helper.make_node("Relu", ["a"], ["b"])]
    calls = [onnx.helper.make_node("F0", ["a"], ["b"], domain="local")]
    for number, body in enumerate([relu, calls, relu]):
        imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("local", 1)]
        proto.functions.append(onnx.helper.make_function("local", f"F{number}", ["a"], ["b"], body, imports))
    proto.graph.node[1].domain, proto.graph.node[1].op_type = "local", "F1"
    model = ir.from_proto(proto)
    assert [node.op_type for node in model.graph].count("Relu") == 2
    assert not model.functions
