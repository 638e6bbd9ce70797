"""Chains and doublings of constants: nothing recurses along the graph, and nothing doubles its time or its memory."""

import time

import numpy as np
import onnx.parser
import pytest

from onnxcam.surgeon.analysis.bounds import are_probabilities
from onnxcam.surgeon.analysis.folding import LARGEST, folded
from onnxcam.surgeon.ir import Value, find_value, from_proto
from onnxcam.surgeon.passes.joined_sides import _is_zero

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3] x) => (float[N,3] y)
<float[3] c = {1.0, -2.0, 3.0}, float[1,1024] wide, float[1024,1] tall, int64[2] sides = {100000, 100000}>
{
  BODY
  y = Add (x, x)
}"""


def tensor(body: str, name: str) -> Value:
    """A tensor of the graph, whose output does not depend on it."""
    proto = onnx.parser.parse_model(TEXT.replace("BODY", body).replace("y = Add (x, x)", f"y = Add (x, {name})"))
    for weight in proto.graph.initializer:
        if not weight.float_data and not weight.int64_data:
            weight.raw_data = np.zeros(weight.dims, np.float32).tobytes()
    value = find_value(from_proto(proto), name)
    assert value is not None
    return value


def chain(step: str, length: int) -> str:
    return "k0 = Neg (c)\n" + "\n".join(step.format(i + 1, i) for i in range(length))


def test_a_short_chain_of_constants_is_computed() -> None:
    np.testing.assert_array_equal(folded(tensor(chain("k{0} = Neg (k{1})", 101), "k101")), [1, -2, 3])
    np.testing.assert_array_equal(folded(tensor(chain("k{0} = Add (k{1}, k{1})", 4), "k4")), [-16, 32, -48])


@pytest.mark.parametrize(
    "step", ["k{0} = Neg (k{1})", "k{0} = Add (k{1}, k{1})", "k{0} = Concat <axis=0> (k{1}, k{1})"]
)
def test_a_chain_without_end_is_not_computed(step: str) -> None:
    assert folded(tensor(chain(step, 3000), "k3000")) is None


def test_a_result_beyond_the_limit_is_not_computed() -> None:
    assert folded(tensor("k = Expand (c, sides)", "k")) is None
    assert folded(tensor(f"{chain('k{0} = Concat <axis=0> (k{1}, k{1})', 40)}", "k40")) is None
    twice = (
        "a = Concat <axis=1> (" + ", ".join(["wide"] * 8) + ")\nb = Concat <axis=0> (" + ", ".join(["tall"] * 8) + ")"
    )
    assert folded(tensor(f"{twice}\nk = Mul (a, b)", "k")) is None
    assert LARGEST < 8192 * 8192


@pytest.mark.parametrize("step", ["k{0} = Mul (k{1}, k{1})", "k{0} = Add (k{1}, k{1})", "k{0} = Identity (k{1})"])
def test_doublings_take_no_time(step: str) -> None:
    start = time.process_time()
    value = tensor(chain(step, 1500), "k1500")
    assert not _is_zero(value)
    assert not are_probabilities(value)
    assert time.process_time() - start < 20  # two to the power of 1500 otherwise
