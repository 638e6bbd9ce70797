"""The operator sets that a model imports: one version of each domain, and "ai.onnx" is the domain ""."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import CLASSIFIER, filled

from onnxcam.errors import ModelError
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.surgeon.loading import read_model

SHUT = OpenOptions(cache=False, providers=("cpu",))


def imports(*domains: tuple[str, int], alias_of_nodes: int = 0) -> onnx.ModelProto:
    """CLASSIFIER with these imports. alias_of_nodes: every so many nodes are of the domain "ai.onnx"; 0 for none."""
    proto = filled(CLASSIFIER)
    del proto.opset_import[:]
    proto.opset_import.extend(onnx.helper.make_opsetid(*domain) for domain in domains)
    for node in proto.graph.node[::alias_of_nodes] if alias_of_nodes else ():
        node.domain = "ai.onnx"
    return proto


@pytest.mark.parametrize("domains", [[("", 17)], [("ai.onnx", 17)], [("", 17), ("ai.onnx", 17)], [("", 17), ("", 17)]])
@pytest.mark.parametrize("alias_of_nodes", [0, 1, 2])
def test_both_names_of_the_standard_operators_open_and_give_the_same_numbers(
    domains: Sequence[tuple[str, int]], alias_of_nodes: int
) -> None:
    proto = imports(*domains, alias_of_nodes=alias_of_nodes)
    before = proto.SerializeToString(deterministic=True)
    opened = open_model(read_model(proto), SHUT)
    image = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)
    plain = ort.InferenceSession(filled(CLASSIFIER).SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = plain.run(["logits"], {"x": image[None]})
    _, scores = opened.network.forward(opened.network.feeds(image, image, {}))[:2]
    np.testing.assert_allclose(np.asarray(scores).reshape(-1), expected.reshape(-1), rtol=1e-5)
    assert proto.SerializeToString(deterministic=True) == before, "the caller's model is changed"
    opened.close()


@pytest.mark.parametrize(
    "domains",
    [
        [("", 17), ("ai.onnx", 13)],
        [("ai.onnx", 13), ("", 17)],
        [("", 17), ("", 13)],
        [("", 17), ("ai.onnx.ml", 2), ("ai.onnx.ml", 3)],
    ],
)
def test_a_domain_in_two_versions_is_refused(domains: Sequence[tuple[str, int]]) -> None:
    with pytest.raises(ModelError, match=r"imported in two versions, \d+ and \d+, and nothing says which one counts"):
        read_model(imports(*domains))


def in_function(change: Callable[[onnx.FunctionProto], object]) -> onnx.ModelProto:
    proto = imports(("", 17), ("local", 1))
    node = proto.graph.node[1]
    body = onnx.helper.make_node("Relu", ["a"], ["b"])
    function = onnx.helper.make_function("local", "F", ["a"], ["b"], [body], [onnx.helper.make_opsetid("", 17)])
    node.domain, node.op_type = "local", "F"
    change(function)
    proto.functions.append(function)
    return proto


def test_a_function_may_import_either_name_but_not_two_versions() -> None:
    def renamed(function: onnx.FunctionProto) -> None:
        function.opset_import[0].domain = "ai.onnx"

    open_model(read_model(in_function(renamed)), SHUT).close()
    with pytest.raises(ModelError, match="two versions, 17 and 13"):
        read_model(in_function(lambda f: f.opset_import.append(onnx.helper.make_opsetid("ai.onnx", 13))))


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "imports no version of the standard operators"),
        (0, "imports no version of the standard operators"),
        (-1, "opset -1 is older than onnxruntime runs"),
        (-(2**63), "is older than onnxruntime runs"),
        (2**63 - 1, "is newer than the installed onnx knows"),
    ],
)
def test_a_version_that_does_not_exist_is_a_sentence(version: int | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_model(imports(*([("", version)] if version is not None else [])))
