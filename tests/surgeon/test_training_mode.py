"""A BatchNormalization in training mode keeps the statistics of its batch when the graph is read and tidied."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from onnxcam.surgeon import ir

NORM = "BatchNormalization <training_mode=1> (x, s, b, m, v)"
NET = (
    '<ir_version: 10, opset_import: ["" : 18, "f" : 1]> net (float[2,2,4,4] x, bool c) => (float[2,2,4,4] y) '
    "<float[2] s = {1, 1}, float[2] b = {1, 1}, float[2] m = {5, 1}, float[2] v = {3, 1}> "
)
MODELS = {
    "graph": f"{NET} {{ y, n, o = {NORM} }}",
    "branch": f"{NET} {{ y = If (c) <then_branch = t () => (float[2,2,4,4] z) {{ z, n, o = {NORM} }}, "
    "else_branch = e () => (float[2,2,4,4] w) { w = Relu (x) }> }",
    "function": f"{NET} {{ y = f.norm (x, s, b, m, v) }} "
    f'<domain: "f", opset_import: ["" : 18]> norm (x, s, b, m, v) => (y) {{ y, n, o = {NORM} }}',
}


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_training_mode_outlives_the_removal_of_unused_statistics(text: str) -> None:
    proto = onnx.parser.parse_model(text)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 2, 4, 4), np.float32), "c": np.asarray(True)}
    read = ir.from_proto(proto)
    in_file, once, again = (_run(p, feeds) for p in (proto, ir.to_proto(read), ir.to_proto(ir.tidy(read))))
    np.testing.assert_allclose(in_file.mean((0, 2, 3)), 1, atol=1e-5)  # of the batch: the bias is 1
    np.testing.assert_array_equal(once, in_file)
    np.testing.assert_array_equal(again, in_file)


def _run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})[0]
