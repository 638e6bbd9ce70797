"""What a session is opened with says the same as the file, and gives the same numbers."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from onnxcam.errors import ModelError
from onnxcam.surgeon import session_bytes as module
from onnxcam.surgeon.ir import Model, from_proto, to_bytes
from onnxcam.surgeon.session_bytes import session_bytes


def network() -> Model:
    """y = relu(x A) B + c, with A of 64 KB, B of 32 KB and c of 256 bytes."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 128] x) => (float[n, 64] y) { h = MatMul(x, a)  r = Relu(h)  z = MatMul(r, b)  y = Add(z, c) }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(3)
    for name, shape in (("a", (128, 128)), ("b", (128, 64)), ("c", (64,))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    return from_proto(model)


def test_protobuf_reads_the_pieces_as_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    monkeypatch.setattr(module, "WORTHWHILE", 0)
    whole, joined = onnx.load_from_string(to_bytes(model)), onnx.load_from_string(session_bytes(model))
    assert session_bytes(model) != to_bytes(model)
    assert [t.name for t in joined.graph.initializer] == ["c", "a", "b"], "small weights stand with the nodes"
    of_whole, of_joined = (
        {t.name: onnx.numpy_helper.to_array(t) for t in m.graph.initializer} for m in (whole, joined)
    )
    for name, values in of_whole.items():
        np.testing.assert_array_equal(of_joined[name], values)
    for each in (whole, joined):
        del each.graph.initializer[:], each.graph.value_info[:]
    assert whole == joined
    assert sorted(model.graph.initializers) == ["a", "b", "c"], "the model is as it was"


def test_a_session_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network(), np.random.default_rng(0).normal(size=(3, 128)).astype(np.float32)
    expected = onnxruntime.InferenceSession(to_bytes(model)).run(None, {"x": x})[0]
    monkeypatch.setattr(module, "WORTHWHILE", 0)
    np.testing.assert_array_equal(onnxruntime.InferenceSession(session_bytes(model)).run(None, {"x": x})[0], expected)


@pytest.mark.parametrize("worthwhile", [0, 2**25], ids=["in pieces", "as a file is"])
def test_an_addition_is_merged_behind_the_model(monkeypatch: pytest.MonkeyPatch, worthwhile: int) -> None:
    model, x = network(), np.random.default_rng(0).normal(size=(3, 128)).astype(np.float32)
    monkeypatch.setattr(module, "WORTHWHILE", worthwhile)
    node = onnx.NodeProto(op_type="Shape", input=["h"], output=["sides"])
    addition = onnx.ModelProto(graph=onnx.GraphProto(node=[node], output=[onnx.ValueInfoProto(name="sides")]))
    session = onnxruntime.InferenceSession(session_bytes(model, addition.SerializeToString()))
    y, sides = session.run(["y", "sides"], {"x": x})
    assert sides.tolist() == [3, 128]
    np.testing.assert_array_equal(y, onnxruntime.InferenceSession(session_bytes(model)).run(None, {"x": x})[0])


def test_small_models_are_written_as_a_file_is() -> None:
    assert session_bytes(network()) == to_bytes(network())


def test_a_model_above_the_limit_of_protobuf_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORTHWHILE", 0)
    monkeypatch.setattr(module, "MOST", 100_000)
    assert len(session_bytes(network())) < 100_000
    monkeypatch.setattr(module, "MOST", 90_000)
    with pytest.raises(ModelError, match="too large"):
        session_bytes(network())
