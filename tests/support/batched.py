"""The check of the batch rewrite: N samples through the new graph against the same samples one by one in the original.

freed() rewrites a model with the shapes of one run; assert_same() compares.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
from small_models import Make

from onnxcam.surgeon import ir
from onnxcam.surgeon.vmap.driver import free_batch

Feed = dict[str, np.ndarray]


def session(data: bytes, *, optimise: bool = True) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def measured(model: ir.Model, feed: Feed) -> tuple[dict[str, tuple[int, ...]], Feed]:
    """The shapes of all tensors, and the values of those that depend on shapes and constants only, from one run."""
    proto = ir.to_proto(ir.without_recorded_shapes(model))
    known = {t.name for t in proto.graph.initializer}
    for node in proto.graph.node:
        has_subgraph = any(a.HasField("g") for a in node.attribute)
        if node.op_type in ("Shape", "Size") or (not has_subgraph and all(i in known or not i for i in node.input)):
            known.update(o for o in node.output if o)
    names = [o for node in proto.graph.node for o in node.output if o]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names)
    values = dict(zip(names, session(proto.SerializeToString(), optimise=False).run(names, feed), strict=True))
    shapes = {name: array.shape for name, array in {**feed, **values}.items()}
    return shapes, {name: array for name, array in values.items() if name in known}


def freed(proto: onnx.ModelProto, feed: Feed) -> ir.Model:
    """The model rewritten for any batch. feed: one set of inputs."""
    model = ir.from_proto(proto)
    shapes, values = measured(model, feed)
    return free_batch(model, shapes, values, list(feed))


def drawn(proto: onnx.ModelProto, count: int, scale: float = 1) -> list[Feed]:
    """`count` sets of random inputs, of the shapes that the model declares."""
    rng = np.random.default_rng(0)
    weights = {t.name for t in proto.graph.initializer}
    feeds: list[Feed] = [{} for _ in range(count)]
    for feed in feeds:
        for info in (i for i in proto.graph.input if i.name not in weights):
            shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
            numbers = scale * rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 4, shape)
            feed[info.name] = numbers.astype(dtype)
    return feeds


def joined(feeds: Sequence[Feed]) -> Feed:
    """The feeds as one batch."""
    return {name: np.concatenate([f[name] for f in feeds]) for name in feeds[0]}


def smallest_gap(outputs: Sequence[Sequence[np.ndarray]]) -> float:
    """The smallest difference between the outputs of two neighbouring samples, relative to the largest number."""
    gaps = []
    for arrays in zip(*outputs, strict=True):
        numbers = [np.asarray(a, np.float64) for a in arrays]
        largest = max(float(np.abs(a).max()) for a in numbers) or 1
        gaps.append(min(float(np.abs(a - b).max()) for a, b in pairwise(numbers)) / largest)
    return min(gaps)


def expected(singles: Sequence[np.ndarray], dims: Sequence[int | str]) -> np.ndarray:
    """The output that the batch must give, from the outputs of single samples. dims: as the new graph declares them."""
    if len(dims) > singles[0].ndim:
        assert dims[0] == "N"
        assert singles[0].shape[:1] != (1,), "a new axis although the sample has a batch axis"
        return np.stack(singles)
    return np.concatenate(singles, axis=list(dims).index("N"))


def assert_same(proto: onnx.ModelProto, feeds: Sequence[Feed], tolerance: float) -> ir.Model:
    """Compares batches of all feeds and of one feed with single runs of the original; returns the rewritten model.

    tolerance: relative to the largest number. Also fails if all samples give the same outputs, which proves nothing.
    """
    original = session(proto.SerializeToString())
    singles = [original.run(None, feed) for feed in feeds]
    assert all(np.isfinite(a).all() for single in singles for a in single if a.dtype.kind == "f")
    assert smallest_gap(singles) > 10 * tolerance, "samples that give the same numbers prove nothing"
    model = freed(proto, feeds[0])
    batch = session(ir.to_bytes(model))
    for samples in (feeds, feeds[:1]):
        for i, (output, array) in enumerate(zip(batch.get_outputs(), batch.run(None, joined(samples)), strict=True)):
            right = expected([s[i] for s in singles[: len(samples)]], output.shape)
            assert array.shape == right.shape
            largest = float(np.abs(right.astype(np.float64)).max())
            np.testing.assert_allclose(array, right, rtol=0, atol=tolerance * max(largest, 1))
    return model


def head(opset: int) -> str:
    return f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1, "ai.onnx.ml" : 3]>\n'


def model_of(make: Make, opset: int, inputs: str, weights: str, nodes: str) -> onnx.ModelProto:
    names = [name for name in ("zero0", "zero", "one") if f"{name})" in nodes or f"{name}," in nodes]
    constants = {"zero0": "int64 zero0 = {0}", "zero": "int64[1] zero = {0}", "one": "int64[1] one = {1}"}
    declared = ", ".join([*([weights] if weights else []), *(constants[n] for n in names)])
    text = f"{head(opset)}net ({inputs}) => (y)\n<{declared}>\n{{ {nodes} }}"
    return make(text, check=False)


def declared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its output's type and shape recorded, as an exporter records them; from a run of the model."""
    feed = drawn(proto, 1)[0]
    array = session(proto.SerializeToString()).run(None, feed)[0]
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", kind, array.shape))
    return proto
