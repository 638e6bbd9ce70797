"""The batch rewrite on graphs of several nodes: exports fixed at two samples, names and dimensions, models of the zoo."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from batched import Feed, assert_same, declared, drawn, freed, head, joined, model_of, session, smallest_gap
from small_models import Make

from onnxcam.surgeon import ir
from onnxcam.surgeon.vmap.driver import CannotBatch, free_batch

TWO_X2, TWO_X4 = "float[2,6] x", "float[2,4,6,8] x"
FIXED_TO_TWO: dict[str, tuple[int, str, str, str]] = {
    "network": (17, TWO_X4, "float[5,4,3,3] w, float[5,7] v, int64[2] s = {2, 5}", "c = Conv (x, w) r = Relu (c) p = GlobalAveragePool (r) f = Reshape (p, s) y = MatMul (f, v)"),
    "windows": (17, TWO_X4, "int64[6] s = {2,4,2,3,2,4}, int64[3] t = {8,12,4}", "r = Reshape (x, s) p = Transpose <perm=[0,2,4,3,5,1]> (r) z = Reshape (p, t) y0 = Softmax <axis=1> (z) u = Shape (x) y = Reshape (y0, u)"),
    "class-token-of-equal-rows": (17, "float[2,6,4] x", "int64[3] s = {2,1,4}, float[1,1,4] w", "e = Expand (w, s) y = Concat <axis=1> (e, x)"),
    "state-of-zeros": (17, "float[2,6,4] x", "float[1,3,4] w, float[1,3,3] r, int64[3] k = {1,2,3}", "t = Transpose <perm=[1,0,2]> (x) z = ConstantOfShape (k) a, h = RNN <hidden_size=3> (t, w, r, , , z) y = Transpose <perm=[1,0,2]> (h)"),
    "resize-sizes": (17, TWO_X4, "int64[4] s = {2,4,9,16}", "y = Resize (x, , , s)"),
}  # fmt: skip


@pytest.mark.parametrize("case", FIXED_TO_TWO)
def test_a_batch_fixed_at_two_takes_any_number(make: Make, case: str) -> None:
    proto = declared(model_of(make, *FIXED_TO_TWO[case]))
    original, feeds = session(proto.SerializeToString()), drawn(proto, 3)
    right = np.concatenate([original.run(None, feed)[0] for feed in feeds])
    batch = session(ir.to_bytes(freed(proto, feeds[0])))
    images = joined(feeds)["x"]
    for count in (1, 5, 6):
        np.testing.assert_allclose(batch.run(None, {"x": images[:count]})[0], right[:count], rtol=0, atol=1e-5)


def test_names_and_dimensions_are_kept(make: Make) -> None:
    text = f"""{head(17)}net (float[1,4,6,8] x, float[1,3] meta) => (float[4] lost, float[6,1,8] moved, float[1,4] kept)
    <int64 zero = {{0}}, int64[4] s = {{1,4,6,8}}>
    {{
      features = Reshape (x, s)
      first = Gather (features, zero)
      lost = ReduceMean <axes=[1,2], keepdims=0> (first)
      turned = Transpose <perm=[2,0,3,1]> (features)
      moved = ReduceMax <axes=[3], keepdims=0> (turned)
      kept = ReduceMean <axes=[2,3], keepdims=0> (features)
    }}"""
    proto = make(text, check=False)
    model = assert_same(proto, drawn(proto, 4), 1e-5)
    graph = ir.to_proto(model).graph
    dims = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.output)
    }
    assert dims == {"x": ["N", 4, 6, 8], "meta": ["N", 3], "lost": ["N", 4], "moved": [6, "N", 8], "kept": ["N", 4]}
    assert {"features", "first", "turned"} <= {o for node in graph.node for o in node.output}
    assert not {v.name for v in graph.value_info if v.type.tensor_type.HasField("shape")} & {
        "features",
        "first",
        "turned",
    }


def test_inputs_without_a_common_batch_are_refused(make: Make) -> None:
    model = ir.from_proto(make(f"{head(17)}net (float[1,4] x, float[2,4] z) => (float[2,4] y) {{ y = Add (x, z) }}"))
    shapes: Mapping[str, tuple[int, ...]] = {"x": (1, 4), "z": (2, 4), "y": (2, 4)}
    for batched in (["x", "z"], []):
        with pytest.raises(CannotBatch, match="no batch size in common"):
            free_batch(model, shapes, {}, batched)


def informative(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with weights that make samples differ: some exports hold NaN, or one constant throughout."""
    rng = np.random.default_rng(7)
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype.kind == "f" and np.isnan(array).any():
            fresh = 0.1 * rng.standard_normal(array.shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(fresh.astype(array.dtype), tensor.name))
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    fills = [n for n in proto.graph.node if n.op_type == "ConstantOfShape" and n.input[0] in shapes]
    for node in fills:
        shape = tuple(int(d) for d in shapes[node.input[0]])
        # One axis: gains and variances, which must be positive, or biases.
        fresh = (
            rng.uniform(0.5, 1, shape)
            if len(shape) < 2
            else rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        )
        proto.graph.initializer.append(onnx.numpy_helper.from_array(fresh.astype(np.float32), node.output[0]))
        proto.graph.node.remove(node)
    if fills and proto.graph.node[-1].op_type == "Softmax":
        # Such weights saturate it, so that it would give the same for every sample.
        proto.graph.output[0].name = proto.graph.node[-1].input[0]
        del proto.graph.node[-1]
    return proto


def distinct_samples(proto: onnx.ModelProto) -> list[Feed]:
    """Four samples with different outputs; of smaller values if the model saturates."""
    original = session(proto.SerializeToString())
    for scale in (1, 0.1, 0.01, 0.001):
        feeds = drawn(proto, 4, scale)
        if smallest_gap([original.run(None, feed) for feed in feeds]) > 1e-3:
            break
    return feeds


def test_models_of_the_zoo_exported_for_one_image_take_four(zoo: Path) -> None:
    slow = {"bvlc_alexnet", "densenet121", "inception_v1", "resnet50", "vgg19"}
    records = json.loads((zoo / "zoo.json").read_text())["models"]
    fixed = [r for r in records if r["batch"] == "fixed1" and r["id"] not in {f"caffe2_{name}" for name in slow}]
    assert len(fixed) == 71
    failed = []
    for record in fixed:
        proto = informative(onnx.load(zoo / record["file"]))
        try:
            assert_same(proto, distinct_samples(proto), 1e-4)
        except (AssertionError, CannotBatch) as error:
            failed.append(f"{record['id']}: {error}")
    assert not failed, "\n".join(failed)
