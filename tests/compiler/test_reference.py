"""Compiled files in onnx's reference evaluator, which knows standard operators only."""

import numpy as np
import onnx
import onnx.reference
import pytest
from hosts import TARGETS, host_case
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam.compiler.batch_methods import BATCH_METHODS
from onnxcam.compiler.registry import COMPILABLE

BEYOND = {"ablation-cam", "integrated-gradients"}
"""onnx's evaluator (1.23) joins the scan outputs of a Loop without their new axis, and takes one index of a row for all
in GatherElements; such files run on runtimes alone."""


@pytest.mark.parametrize("raw", [False, True], ids=["image", "picture"])
@pytest.mark.parametrize("method", [name for name in BATCH_METHODS if name not in BEYOND])
def test_the_reference_evaluator_gives_the_product_s_map(method: str, raw: bool) -> None:
    case = host_case(method, raw=raw)
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load_from_string(case.compiled.bytes))
    outputs = [case.compiled.interface.map, case.compiled.interface.map_target]
    for number, target in enumerate(TARGETS):
        saliency, classes = evaluator.run(outputs, {**case.feeds, "target": np.array([target], np.int64)})
        case.check(number, saliency[0], int(classes[0]), 1e-5)


@pytest.mark.parametrize("method", COMPILABLE)
def test_every_operator_is_of_the_standard_and_what_a_loop_carries_has_a_type(method: str) -> None:
    model = onnx.load_from_string(onnxcam.compile(filled(CLASSIFIER), method, raw=True).bytes)
    assert {opset.domain for opset in model.opset_import} <= {""}
    assert not model.functions
    loops = [node for node in model.graph.node if node.op_type == "Loop"]
    bodies = [attribute.g for node in loops for attribute in node.attribute if attribute.name == "body"]
    assert all(value.type.tensor_type.elem_type for body in bodies for value in body.input)
