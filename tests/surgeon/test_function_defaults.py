"""What hides in the defaults of a local function's attributes is checked as all other weights are."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.limits import Limits
from onnxcam.surgeon.loading import read_model
from onnxcam.surgeon.validation import all_tensors


def with_default(classifier: onnx.ModelProto, default: onnx.AttributeProto) -> onnx.ModelProto:
    """The model with a function behind its scores whose attribute has this default, used by a Constant."""
    model = onnx.ModelProto()
    model.CopyFrom(classifier)
    function = helper.make_function(
        "mine", "Shift", ["a"], ["b"], [helper.make_node("Add", ["a", "c"], ["b"])], [helper.make_opsetid("", 17)]
    )
    constant = helper.make_node("Constant", [], ["c"])
    name = "sparse_value" if default.type == onnx.AttributeProto.SPARSE_TENSOR else "value"
    constant.attribute.append(onnx.AttributeProto(name=name, type=default.type, ref_attr_name="v"))
    function.node.insert(0, constant)
    function.attribute_proto.append(default)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Shift", ["before"], ["logits"], domain="mine"))
    return model


def tensor_default(tensor: TensorProto) -> onnx.AttributeProto:
    default = onnx.AttributeProto(name="v", type=onnx.AttributeProto.TENSOR)
    default.t.CopyFrom(tensor)
    return default


def outside(location: str) -> onnx.AttributeProto:
    tensor = TensorProto(name="s", data_type=TensorProto.FLOAT, dims=[5], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("length", "20")):
        tensor.external_data.add(key=key, value=value)
    return tensor_default(tensor)


def test_the_default_counts_among_the_tensors(classifier: onnx.ModelProto) -> None:
    weights = numpy_helper.from_array(np.arange(5, dtype=np.float32), "s")
    model = with_default(classifier, tensor_default(weights))
    assert [t.name for t in all_tensors(read_model(model).proto)].count("s") == 1


def test_external_defaults_are_read_from_the_models_folder(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "part.bin").write_bytes(np.arange(5, dtype=np.float32).tobytes())
    onnx.save(with_default(classifier, outside("part.bin")), tmp_path / "m.onnx")
    tensors = {t.name: t for t in all_tensors(read_model(tmp_path / "m.onnx").proto)}
    np.testing.assert_array_equal(numpy_helper.to_array(tensors["s"]), np.arange(5))


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret.bin", "fifo", "missing.bin", "*/_ORT_MEM_ADDR_/*"])
def test_external_defaults_open_nothing_else(classifier: onnx.ModelProto, tmp_path: Path, location: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(20))
    os.mkfifo(folder / "fifo")  # opening it would wait for ever
    onnx.save(with_default(classifier, outside(location)), folder / "m.onnx")
    with pytest.raises(ModelError, match=r"outside the model's folder|not a regular file|missing"):
        read_model(folder / "m.onnx")


def huge_tensor() -> onnx.AttributeProto:
    return tensor_default(TensorProto(name="h", data_type=TensorProto.FLOAT, dims=[2**40], raw_data=b"1234"))


def huge_sparse() -> onnx.AttributeProto:
    default = onnx.AttributeProto(name="v", type=onnx.AttributeProto.SPARSE_TENSOR)
    default.sparse_tensor.dims.append(2**40)
    default.sparse_tensor.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "h"))
    default.sparse_tensor.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "i"))
    return default


def huge_in_a_graph() -> onnx.AttributeProto:
    default = onnx.AttributeProto(name="v", type=onnx.AttributeProto.GRAPH)
    default.g.initializer.append(huge_tensor().t)
    return default


@pytest.mark.parametrize("make", [huge_tensor, huge_sparse, huge_in_a_graph])
def test_a_default_beyond_the_limit_of_memory_is_refused(classifier: onnx.ModelProto, make: object) -> None:
    assert callable(make)
    with pytest.raises(ModelError, match="its weights declare 4 TiB"):
        read_model(with_default(classifier, make()))


def test_nodes_in_a_default_count(classifier: onnx.ModelProto) -> None:
    default = onnx.AttributeProto(name="v", type=onnx.AttributeProto.GRAPH)
    default.g.node.extend(helper.make_node("Identity", ["a"], [f"b{i}"]) for i in range(1000))
    with pytest.raises(ModelError, match="nodes"):
        read_model(with_default(classifier, default), Limits(nodes=500))
