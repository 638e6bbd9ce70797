"""Sparse weights give the map of the dense ones; those that are damaged or too large are refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.explainer.explainer import Explainer
from onnxcam.surgeon.loading import read_model
from onnxcam.surgeon.sparse_weights import with_dense_weights

WEIGHT = np.where(np.random.default_rng(0).random((4, 3, 3, 3)) < 0.3, np.random.default_rng(1).normal(size=(4, 3, 3, 3)), 0).astype(np.float32)  # fmt: skip
TEXT = (
    '<ir_version: 8, opset_import: ["": 17]> g (float[N,3,16,16] x) => (float[N,4] y) '
    "{ c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) a = GlobalAveragePool(r) y = Flatten(a) }"
)


def sparse(*, linear: bool) -> onnx.SparseTensorProto:
    places = np.flatnonzero(WEIGHT)
    values = numpy_helper.from_array(WEIGHT.reshape(-1)[places], "w")
    rows = places if linear else np.stack(np.unravel_index(places, WEIGHT.shape), 1)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(rows.astype(np.int64), "i"), WEIGHT.shape)


def model_with(tensor: onnx.SparseTensorProto, form: str = "initializer") -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT)
    if form == "initializer":
        model.graph.sparse_initializer.append(tensor)
    else:
        node = helper.make_node("Constant", [], ["w"], sparse_value=tensor)
        model.graph.node.insert(0, node)
    return model


@pytest.mark.parametrize("form", ["initializer", "constant"])
@pytest.mark.parametrize("linear", [True, False])
def test_the_map_is_that_of_the_dense_weights(form: str, linear: bool) -> None:
    dense = onnx.parser.parse_model(TEXT)
    dense.graph.initializer.append(numpy_helper.from_array(WEIGHT, "w"))
    picture = np.random.default_rng(2).integers(0, 256, (16, 16, 3), np.uint8)
    maps = []
    for model in (dense, model_with(sparse(linear=linear), form)):
        before = model.SerializeToString()
        with Explainer(model, preset="imagenet", cache=False, providers=["cpu"]) as explainer:
            maps.append(explainer(picture).map)
        assert model.SerializeToString() == before
    assert np.array_equal(maps[0], maps[1])


def test_external_values_of_sparse_weights_are_read(tmp_path: Path) -> None:
    tensor = sparse(linear=True)
    (tmp_path / "w.bin").write_bytes(tensor.values.raw_data)
    tensor.values.ClearField("raw_data")
    tensor.values.data_location = TensorProto.EXTERNAL
    tensor.values.external_data.add(key="location", value="w.bin")
    (tmp_path / "m.onnx").write_bytes(model_with(tensor).SerializeToString())
    loaded = read_model(tmp_path / "m.onnx").proto
    assert not loaded.graph.sparse_initializer
    assert np.array_equal(numpy_helper.to_array(loaded.graph.initializer[0]), WEIGHT)


def test_a_sparse_weight_outside_the_folder_is_refused(tmp_path: Path) -> None:
    tensor = sparse(linear=True)
    tensor.values.ClearField("raw_data")
    tensor.values.data_location = TensorProto.EXTERNAL
    tensor.values.external_data.add(key="location", value="../w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(1000))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "m.onnx").write_bytes(model_with(tensor).SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(tmp_path / "in" / "m.onnx")


def indices(*numbers: int, kind: type = np.int64) -> Callable[[onnx.SparseTensorProto], None]:
    def change(tensor: onnx.SparseTensorProto) -> None:
        values = np.ones(len(numbers), np.float32)
        tensor.values.CopyFrom(numpy_helper.from_array(values, "w"))
        tensor.indices.CopyFrom(numpy_helper.from_array(np.array(numbers, kind), "i"))

    return change


def dims(*numbers: int) -> Callable[[onnx.SparseTensorProto], None]:
    def change(tensor: onnx.SparseTensorProto) -> None:
        del tensor.dims[:]
        tensor.dims.extend(numbers)

    return change


def nothing_of(*sides: int) -> Callable[[onnx.SparseTensorProto], None]:
    def change(tensor: onnx.SparseTensorProto) -> None:
        indices()(tensor)
        dims(*sides)(tensor)

    return change


DAMAGE: dict[str, tuple[Callable[[onnx.SparseTensorProto], None], str]] = {
    "an index behind the end": (indices(0, 108), "ascending order in the shape"),
    "a negative index": (indices(-1, 5), "ascending order"),
    "a repeated index": (indices(5, 5), "ascending order"),
    "indices out of order": (indices(7, 5), "ascending order"),
    "indices of another type": (indices(1, 2, kind=np.int32), "no int64 numbers"),
    "the largest index": (indices(2**63 - 1), "ascending order"),
    "too few values": (lambda t: t.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), "w")), "ascending"),
    "a negative side": (dims(-4, 3, 3, 3), "damaged"),
    "a bomb": (dims(2**31, 2**31), "too much memory once they are dense|weights declare"),
    "a bomb beyond int64": (dims(*(2**31,) * 5), "too much memory once they are dense|weights declare"),
    "a side of 0 beside one beyond int64": (nothing_of(0, 2**62, 2**62), "too much memory once they are"),
    "bytes that are missing": (lambda t: setattr(t.values, "raw_data", b"123"), "needs .* and holds"),
    "no shape": (dims(), "damaged"),
    "text": (lambda t: t.values.CopyFrom(helper.make_tensor("w", 8, (1,), [b"a"])), "damaged|dense tensor"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_sparse_weights_are_refused(name: str) -> None:
    damage, message = DAMAGE[name]
    for linear in (True, False):
        tensor = sparse(linear=linear)
        damage(tensor)
        for form in ("initializer", "constant"):
            with pytest.raises(ModelError, match=message):
                read_model(model_with(tensor, form))


def test_the_sum_of_dense_weights_is_limited() -> None:
    model = model_with(sparse(linear=True))
    model.graph.sparse_initializer.append(sparse(linear=False))
    assert len(with_dense_weights(model, "m", most=2 * WEIGHT.nbytes).graph.initializer) == 2
    with pytest.raises(ModelError, match="too much memory"):
        with_dense_weights(model, "m", most=2 * WEIGHT.nbytes - 1)
