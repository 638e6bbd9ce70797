"""Damage that the checker of onnx does not see raises a ModelError at reading."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from small_models import Make

from onnxcam.errors import ModelError
from onnxcam.limits import Limits
from onnxcam.surgeon import ir, validation
from onnxcam.surgeon.loading import read_model
from onnxcam.surgeon.validation import all_nodes, check_calls, check_loops, check_tensors, check_text


def copied(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def complaint(check: Callable[[Any, str], None], subject: Any) -> str | None:
    """The message of the check's ModelError; None where it raises none."""
    try:
        check(subject, "m")
    except ModelError as error:
        return str(error)
    return None


def test_a_sound_model_passes(classifier: onnx.ModelProto) -> None:
    for check in (check_text, check_calls, check_loops):
        assert complaint(check, classifier) is None, check.__name__
    assert complaint(check_tensors, classifier.graph.initializer) is None


def test_text_that_is_not_utf8_is_refused_with_its_field(classifier: onnx.ModelProto) -> None:
    data = classifier.SerializeToString().replace(b"GlobalAveragePool", b"GlobalAverag\xff\xfeool")
    with pytest.raises(ModelError, match=r"not UTF-8 \(in onnx\.NodeProto\.op_type\)"):
        read_model(data)


@pytest.mark.parametrize("dims", [[6, 3, 3, 2], [6, 3, 3, 4], [2**40], [-1, 3], []])
def test_a_tensor_whose_bytes_do_not_fill_its_shape_is_refused(classifier: onnx.ModelProto, dims: list[int]) -> None:
    proto = copied(classifier)
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend(dims)
    with pytest.raises(ModelError, match="'w1'"):
        check_tensors(proto.graph.initializer, "m")


@pytest.mark.parametrize(
    "array", [np.zeros((3, 2), t) for t in ("f2", "f4", "f8", "i1", "u1", "i4", "i8", "?")] + [np.zeros((0, 3), "f4")]
)
def test_the_size_of_every_number_type_is_right(array: np.ndarray) -> None:
    raw = onnx.numpy_helper.from_array(array, "t")
    typed = onnx.helper.make_tensor("t", raw.data_type, array.shape, array.ravel().tolist())
    assert complaint(check_tensors, [raw, typed]) is None
    raw.raw_data += b"\0"
    assert f"needs {array.nbytes} bytes or numbers and holds {array.nbytes + 1}" in str(complaint(check_tensors, [raw]))
    typed.dims[0] += 1
    more = array.size + array.shape[1]
    assert f"needs {more} bytes or numbers and holds {array.size}" in str(complaint(check_tensors, [typed]))


def test_four_bit_numbers_are_packed_in_pairs() -> None:
    tensor = onnx.TensorProto(name="t", data_type=onnx.TensorProto.UINT4, dims=[3], raw_data=b"\x21\x03")
    check_tensors([tensor], "m")
    tensor.raw_data = b"\x21\x03\x00"
    with pytest.raises(ModelError, match="needs 2"):
        check_tensors([tensor], "m")


def functions(calls: list[list[str]]) -> onnx.ModelProto:
    """f0 calls calls[0], f1 calls calls[1] ..., the graph calls f0."""
    chain = [
        onnx.helper.make_function(
            "local", f"f{i}", ["x"], ["y"],
            [onnx.helper.make_node(c, ["x"], ["y"] if j == 0 else [f"y{j}"], domain="local" if c[0] == "f" else "")
             for j, c in enumerate(names)],
            [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("local", 1)],
        )
        for i, names in enumerate(calls)
    ]  # fmt: skip
    info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("f0", ["x"], ["y"], domain="local")], "g", [info], [out])
    return onnx.helper.make_model(graph, functions=chain)


def test_functions_that_call_themselves_or_expand_without_end_are_refused() -> None:
    check_calls(functions([["f1", "f1"], ["Relu"]]), "m")
    with pytest.raises(ModelError, match="calls itself"):
        check_calls(functions([["f1"], ["f2"], ["f0"]]), "m")
    doubling = [[f"f{i + 1}", f"f{i + 1}"] for i in range(40)] + [["Relu"]]
    with pytest.raises(ModelError, match="calls of local functions"):
        check_calls(functions(doubling), "m", Limits(depth=None))


def test_functions_that_call_each_other_deep_are_refused_without_recursion() -> None:
    chain = [[f"f{i + 1}"] for i in range(5000)] + [["Relu"]]
    with pytest.raises(ModelError, match=r"5001 levels deep; the limit is 32; raise it with Limits\(depth"):
        check_calls(functions(chain), "m")
    check_calls(functions([[f"f{i + 1}"] for i in range(31)] + [["Relu"]]), "m")


def test_a_loop_of_too_many_rounds_is_refused(make: Make) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3] x) => (float[N,3] y)
    <int64 trips = {ROUNDS}>
    {
      y = Loop <body = step (int64 i, bool go, float[N,3] v) => (bool on, float[N,3] w)
        { w = Neg (v)
          on = Identity (go) }> (trips, , x)
    }"""
    check_loops(make(text.replace("ROUNDS", "100"), check=False), "m")
    with pytest.raises(ModelError, match="4611686018427387904 rounds"):
        check_loops(make(text.replace("ROUNDS", str(2**62)), check=False), "m")


def test_the_depth_of_nested_subgraphs_is_limited() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    for _ in range(validation.DEEPEST + 1):
        inner = onnx.helper.make_graph([node], "g", [], [])
        node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner)
    with pytest.raises(ModelError, match="nested more than 25 levels deep"):
        list(all_nodes([node]))


def test_an_object_nested_without_end_is_refused(classifier: onnx.ModelProto) -> None:
    model = copied(classifier)
    kind = model.graph.value_info.add(name="q").type
    for _ in range(5000):  # no file holds so many; an object may
        kind = kind.optional_type.elem_type
    kind.tensor_type.elem_type = onnx.TensorProto.FLOAT
    assert "nested more than 100 levels" in str(complaint(check_text, model))


def test_a_segment_of_a_tensor_is_refused(classifier: onnx.ModelProto) -> None:
    model = copied(classifier)
    model.graph.initializer[0].segment.begin = 0
    assert "is a segment of one" in str(complaint(check_tensors, model.graph.initializer))


def test_a_function_in_place_of_a_standard_operator_is_refused(classifier: onnx.ModelProto) -> None:
    model = copied(classifier)
    body = [onnx.helper.make_node("Neg", ["a"], ["b"])]
    model.functions.append(
        onnx.helper.make_function("", "Relu", ["a"], ["b"], body, [onnx.helper.make_opsetid("", 17)])
    )
    with pytest.raises(ModelError, match="takes the place of the standard operator Relu"):
        read_model(model)


def test_crowds_of_inputs_and_of_metadata_are_refused(classifier: onnx.ModelProto) -> None:
    inputs, metadata = copied(classifier), copied(classifier)
    make = onnx.helper.make_tensor_value_info
    inputs.graph.input.extend(make(f"i{i}", onnx.TensorProto.FLOAT, [1, 3, 16, 12]) for i in range(1001))
    with pytest.raises(ModelError, match="1,002 inputs"):
        read_model(inputs)
    for i in range(10_001):
        metadata.metadata_props.add(key=f"k{i}", value="v")
    with pytest.raises(ModelError, match="10,001 entries of metadata"):
        read_model(metadata)


def test_a_negative_side_that_is_recorded_is_dynamic(make: Make) -> None:
    """onnx's shape inference aborts the process at a Slice of one."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,16,12] x) => (float[N,5] logits)
    <float[8,3,3,3] w, float[8,5] v, int64[1] one = {1}, int64[1] end = {9}, int64[1] axis = {2}>
    {
      cut = Slice (x, one, end, axis)
      f = Conv <kernel_shape=[3,3]> (cut, w)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      logits = MatMul (p, v)
    }"""
    proto = make(text, check=False)
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, [-7, -7, -1, 4]))
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("cut", onnx.TensorProto.FLOAT, [-7, 3, -1, 12]))
    shapes = {str(value.name): ir.shape_of(value) for value in ir.values(ir.from_proto(proto))}
    assert shapes["f"] == (None, None, None, 4)
    assert shapes["cut"] == (None, 3, None, 12)
