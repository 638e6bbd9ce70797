"""What a model declares is checked before it is read, and what it computes before it is run."""

import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

from onnxcam.errors import ModelError
from onnxcam.limits import Limits
from onnxcam.surgeon.budgets import check_computed, check_declared
from onnxcam.surgeon.ir import from_proto
from onnxcam.surgeon.loading import read_model

GIANT = (100_000, 100_000)
TEXT = """<ir_version: 9, opset_import: ["" : 20]>
net (float[N,3,16,12] x) => (float[N,3,16,12] y)
<int64[2] sides = {100000, 100000}, float one = {1.0}, int64[2] often = {1, 10000000000}, float[1,1] cell = {1.0},
 int64 many = {10000000000}, int64[8] around = {0,0,50000,50000,0,0,50000,50000}, int64 first = {0}, int64 step = {1},
 float[2] hot = {0.0, 1.0}, int64 depth = {9000000000}, int64[1] ids = {1}, float[4] larger = {1.0,1.0,9000.0,9000.0}>
{
  BODY
  m = ReduceMean <keepdims=0> (r)
  y = Add (x, m)
}"""
BODIES = {
    "RandomNormal": "r = RandomNormal <shape=[100000,100000]> ()",
    "RandomUniform": "r = RandomUniform <shape=[100000,100000]> ()",
    "ConstantOfShape": "r = ConstantOfShape (sides)",
    "Expand": "r = Expand (one, sides)",
    "Expand to a computed shape": "s = Mul (sides, sides)\n r = Expand (one, s)",
    "Tile": "r = Tile (cell, often)",
    "Range": "i = Range (first, many, step)\n r = Cast <to=1> (i)",
    "Pad": "r = Pad (x, around)",
    "OneHot": "r = OneHot (ids, depth, hot)",
    "Resize": "r = Resize (x, , larger)",
    "an outer product": "f = Flatten <axis=0> (x)\n w = Concat <axis=1> ("
    + ", ".join(["f"] * 200)
    + ")\n t = Transpose (w)\n r = MatMul (t, w)",
    "doubling": "d0 = Identity (x)\n"
    + "\n".join(f"d{i + 1} = Concat <axis=1> (d{i}, d{i})" for i in range(40))
    + "\n r = Neg (d40)",
}


def model(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT.replace("BODY", body))


@pytest.mark.parametrize("name", BODIES)
def test_a_tensor_of_any_size_is_refused_before_it_is_computed(name: str) -> None:
    graph = from_proto(model(BODIES[name]))
    with pytest.raises(
        ModelError, match=r"would need .* at one time .* the limit is 8 GiB; raise it with --max-memory"
    ):
        check_computed(graph, {"x": (1, 3, 16, 12)}, Limits())
    assert check_computed(graph, {"x": (1, 3, 16, 12)}, Limits(memory=None)) > 2**33


def test_the_limit_is_on_what_is_needed_at_one_time() -> None:
    chain = "\n".join(f"c{i + 1} = Neg (c{i})" for i in range(9))
    graph = from_proto(model(f"c0 = Neg (x)\n{chain}\n r = Neg (c9)"))
    needed = 2 * 4 * 3 * 16 * 12  # what a Neg reads and what it gives
    check_computed(graph, {"x": (1, 3, 16, 12)}, Limits(memory=needed))
    with pytest.raises(ModelError, match="at one time"):
        check_computed(graph, {"x": (1, 3, 16, 12)}, Limits(memory=needed - 1))


def test_a_text_that_doubles_is_refused() -> None:
    doubling = "\n".join(f"t{i + 1} = StringConcat (t{i}, t{i})" for i in range(33))
    body = f't0 = Constant <value_strings=["abcdefgh"]> ()\n{doubling}\n e = Equal (t33, t33)\n r = Cast <to=1> (e)'
    with pytest.raises(ModelError, match="joins grow to"):
        check_computed(from_proto(model(body)), {"x": (1, 3, 16, 12)}, Limits())
    short = body.replace("t33", "t3").split("t4 = ")[0] + " e = Equal (t3, t3)\n r = Cast <to=1> (e)"
    check_computed(from_proto(model(short)), {"x": (1, 3, 16, 12)}, Limits())


def external(dims: tuple[int, ...]) -> onnx.TensorProto:
    tensor = TensorProto(name="w", dims=dims, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    return tensor


def test_weights_are_refused_by_the_shape_that_they_declare() -> None:
    plain = model("r = Neg (x)")
    check_declared(plain, "m", Limits())
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, indices, GIANT)
    with_external, with_sparse, in_attribute, in_subgraph = (
        onnx.ModelProto.FromString(plain.SerializeToString()) for _ in range(4)
    )
    with_external.graph.initializer.append(external(GIANT))
    with_sparse.graph.sparse_initializer.append(sparse)
    in_attribute.graph.node.append(helper.make_node("Constant", [], ["c"], value=external(GIANT)))
    inner = helper.make_graph([], "inner", [], [], [external(GIANT)])
    in_subgraph.graph.node.append(helper.make_node("If", ["b"], ["c"], then_branch=inner, else_branch=inner))
    for proto in (with_external, with_sparse, in_attribute, in_subgraph):
        with pytest.raises(
            ModelError, match=r"m: its weights declare .* 'w'; the limit is 8 GiB; raise it with --max-m"
        ):
            check_declared(proto, "m", Limits())
        with pytest.raises(ModelError, match="its weights declare"):
            read_model(proto)


def test_many_small_weights_count_together() -> None:
    proto = model("r = Neg (x)")
    proto.graph.initializer.extend([external((1024, 1024)) for _ in range(3)])
    check_declared(proto, "m", Limits(memory=2**24))
    with pytest.raises(ModelError, match="declare 12 MiB"):
        check_declared(proto, "m", Limits(memory=12 * 2**20))


def test_a_graph_of_too_many_nodes_is_refused() -> None:
    proto = model("r = Neg (x)")
    with pytest.raises(ModelError, match=r"the graph has 3 nodes; the limit is 2 nodes; raise it with Limits\(nodes"):
        read_model(proto, Limits(nodes=2))
    read_model(proto, Limits(nodes=3))
