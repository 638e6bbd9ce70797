"""compile() of models with branches, with outputs of text, and with names like its own."""

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import CLASSIFIER, filled

from onnxcam.compiler.compiled import compile
from onnxcam.compiler.model_outputs import _check_output
from onnxcam.errors import CompileError

IMAGES = np.random.default_rng(3).standard_normal((2, 3, 16, 12)).astype(np.float32)
BRANCHES = """  logits = If <then_branch = plain () => (float[N,5] same) {{ same = Identity (scores) }},
    else_branch = other () => (float[N,5] turned) {{ turned = Neg (scores) }}> (condition)
}}"""


def run(data: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def branched(condition: str) -> onnx.ModelProto:
    """The classifier, whose logits are turned around where the condition does not hold."""
    head = CLASSIFIER.replace("logits = Gemm", "scores = Gemm").rstrip().removesuffix("}")
    return filled(head + condition + BRANCHES.replace("{{", "{").replace("}}", "}"))


def test_a_branch_that_the_picture_chooses_is_refused() -> None:
    bright = """  mean = ReduceMean <keepdims=0> (x)
  half = Constant <value_float=0.5> ()
  condition = Less (mean, half)
"""
    with pytest.raises(CompileError, match="the condition 'condition' was true"):
        compile(branched(bright))


def test_a_branch_that_the_size_chooses_stays() -> None:
    high = """  sides = Shape <start=2, end=3> (x)
  limit = Constant <value_ints=[20]> ()
  less = Less (sides, limit)
  condition = Squeeze (less)
"""
    model = branched(high)
    results = run(compile(model).bytes, {"x": IMAGES, "target": np.asarray([-1, 2])})
    expected = run(model.SerializeToString(), {"x": IMAGES})["logits"]
    np.testing.assert_allclose(results["logits"], expected, rtol=1e-5, atol=1e-6)


def labelled() -> onnx.ModelProto:
    """The classifier with the name of the class as a text, and a map of names to probabilities, as some tools export."""
    model = filled(CLASSIFIER)
    graph, labels = model.graph, [b"ant", b"bee", b"cat", b"dog", b"eel"]
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    graph.initializer.append(onnx.helper.make_tensor("names", onnx.TensorProto.STRING, [5], labels))
    add = onnx.helper.make_node
    graph.node.extend(
        [
            add("Softmax", ["logits"], ["probabilities"], axis=1),
            add("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
            add("Gather", ["names", "best"], ["label"], axis=0),
            add("ZipMap", ["probabilities"], ["loss"], domain="ai.onnx.ml", classlabels_strings=labels),
            add("Split", ["x", "lengths"], ["red", "others"], axis=1),
            add("SequenceConstruct", ["red", "others"], ["colours"]),
        ]
    )
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([1, 2]), "lengths"))
    value, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    del graph.output[:]
    each = onnx.helper.make_map_type_proto(kinds.STRING, onnx.helper.make_tensor_type_proto(kinds.FLOAT, None))
    loss = onnx.helper.make_value_info("loss", onnx.helper.make_sequence_type_proto(each))
    colours = onnx.helper.make_tensor_sequence_value_info("colours", kinds.FLOAT, None)
    graph.output.extend([value("label", kinds.STRING, ["N"]), loss, colours])
    return model


@pytest.mark.parametrize("method", ["grad-cam", "eigen-cam"])
def test_outputs_of_text_and_sequences_stay(method: str) -> None:
    model = labelled()
    results, expected = (
        run(data, {"x": IMAGES, **given})
        for data, given in (
            (compile(model, method).bytes, {"target": np.asarray([-1, 2])}),
            (model.SerializeToString(), {}),
        )
    )
    rows = [[row[name] for name in ("ant", "bee", "cat", "dog", "eel")] for row in expected["loss"]]
    np.testing.assert_allclose(results["loss"], rows, rtol=1e-5, err_msg="a map of labels is the tensor of its scores")
    assert results["label"].tolist() == expected["label"].tolist()
    assert [part.shape for part in results["colours"]] == [(2, 1, 16, 12), (2, 2, 16, 12)]


@pytest.mark.parametrize("method", ["integrated-gradients", "score-cam"])
def test_a_sequence_is_refused_by_methods_with_the_model_in_a_loop(method: str) -> None:
    model = labelled()
    (label,) = (v for v in model.graph.output if v.name == "label")
    model.graph.output.remove(label)
    with pytest.raises(CompileError, match=r"the model's output 'colours' is (a sequence|no tensor of numbers)"):
        compile(model, method)


def test_another_text_is_a_changed_output() -> None:
    with pytest.raises(CompileError, match="changes the model's output 'label'"):
        _check_output("label", np.asarray(["ant"], object), np.asarray(["bee"], object), 1e-5)
    parts = np.empty(2, object)
    parts[:] = [np.zeros(2, np.float32), {"ant": 1.0}]
    other = parts.copy()
    _check_output("parts", parts, other, 1e-5)
    other[1] = {"ant": 0.5}
    with pytest.raises(CompileError, match="changes the model's output 'parts'"):
        _check_output("parts", parts, other, 1e-5)


@pytest.mark.parametrize(("name", "other"), [("onnxcam/compiled_map", "logits"), ("onnxcam/compiled_target", "x")])
def test_a_model_with_the_names_of_a_builder_is_refused(name: str, other: str) -> None:
    model = filled(CLASSIFIER)
    for value in (*model.graph.input, *model.graph.output):
        value.name = name if value.name == other else value.name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if each == other else each for each in names]
    with pytest.raises(CompileError, match=f"has a tensor '{name}'"):
        compile(model)


@pytest.mark.parametrize("shape", [[6, 7], [7], [1, 7]])
def test_an_output_of_a_fixed_shape_stays_whole_in_integrated_gradients(shape: list[int]) -> None:
    model = filled(CLASSIFIER)
    table = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "table"))
    model.graph.node.append(onnx.helper.make_node("Add", ["table", "table"], ["twice"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("twice", 1, shape))
    results = run(compile(model, "integrated-gradients").bytes, {"x": IMAGES, "target": np.asarray([-1, 2])})
    np.testing.assert_array_equal(results["twice"], table + table)


def test_an_output_with_images_along_another_axis_keeps_them_in_integrated_gradients() -> None:
    model = filled(CLASSIFIER)
    model.graph.node.append(onnx.helper.make_node("Transpose", ["logits"], ["across"], perm=[1, 0]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("across", 1, [5, "N"]))
    results = run(compile(model, "integrated-gradients").bytes, {"x": IMAGES, "target": np.asarray([-1, 2])})
    np.testing.assert_array_equal(results["across"], results["logits"].T)


@pytest.mark.parametrize("method", ["grad-cam", "score-cam", "integrated-gradients"])
def test_a_large_weight_that_is_an_output_of_an_older_opset_stays_one(method: str) -> None:
    model = filled(CLASSIFIER.replace('"" : 17', '"" : 13'))
    assert model.opset_import[0].version < 18
    table = np.random.default_rng(0).normal(size=(70, 70)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "table"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("table", 1, [70, 70]))
    results = run(compile(model, method).bytes, {"x": IMAGES[:1], "target": np.asarray([-1, 2])})
    np.testing.assert_array_equal(results["table"], table)
