"""Classifiers of the ML domain behind a network, as scikit-learn's converters write them."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.helper import (
    make_map_type_proto,
    make_node,
    make_sequence_type_proto,
    make_tensor_type_proto,
    make_tensor_value_info,
    make_value_info,
)
from small_models import filled

from onnxcam import Explainer, Preset
from onnxcam.errors import OnnxCamError
from onnxcam.types import NoteCode

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (16, 12, 3)).astype(np.uint8)
IMAGE = ((PHOTOGRAPH / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32)
BODY = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
net (float[N,3,16,12] x) => (float[N,{classes}] y)
<float[6,3,3,3] w, float[6,{classes}] v, float[{classes}] b>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  g = GlobalAveragePool (f)
  p = Flatten (g)
  r = MatMul (p, v)
  y = Add (r, b)
}}"""
NAMES = ["ant", "bee", "cat"]


def behind_features(classes: int, *, normalised: bool, **classifier: object) -> onnx.ModelProto:
    """A network that ends in a classifier and ZipMap: a label, and a map of names to scores."""
    model = filled(BODY.format(classes=classes))
    del model.graph.node[-2:], model.graph.output[:]
    kind = str(classifier.pop("kind", "LinearClassifier"))
    names = NAMES[:classes]
    model.graph.node.append(
        make_node(kind, ["p"], ["label", "scores"], domain="ai.onnx.ml", classlabels_strings=names, **classifier)
    )
    if normalised:
        model.graph.node.append(make_node("Normalizer", ["scores"], ["shares"], domain="ai.onnx.ml", norm="L1"))
    scores = "shares" if normalised else "scores"
    model.graph.node.append(make_node("ZipMap", [scores], ["maps"], domain="ai.onnx.ml", classlabels_strings=names))
    key = make_map_type_proto(onnx.TensorProto.STRING, make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    model.graph.output.append(make_tensor_value_info("label", onnx.TensorProto.STRING, ["N"]))
    model.graph.output.append(make_value_info("maps", make_sequence_type_proto(key)))
    return model


def linear(rows: int, classes: int, transform: str, *, normalised: bool) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The network with a LinearClassifier, and the same in standard operators without its activation."""
    weights = np.random.default_rng(0).standard_normal((rows, 6)) * 2
    bias = np.random.default_rng(1).standard_normal(rows)
    model = behind_features(
        classes, normalised=normalised, coefficients=weights.ravel().tolist(), intercepts=bias.tolist(),
        post_transform=transform,
    )  # fmt: skip
    plain = filled(BODY.format(classes=rows))
    for tensor in plain.graph.initializer:
        array = {"v": weights.T, "b": bias}.get(tensor.name)
        if array is not None:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array, np.float32), tensor.name))
    return model, plain


def answer(model: onnx.ModelProto) -> tuple[str, list[float]]:
    """The label and the scores of the file itself."""
    label, maps = ort.InferenceSession(model.SerializeToString()).run(None, {"x": IMAGE})
    return str(label[0]), list(maps[0].values())


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("transform", ["SOFTMAX", "SOFTMAX_ZERO", "LOGISTIC"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_probabilities_of_a_linear_classifier_are_those_of_the_file(
    rows: int, transform: str, normalised: bool
) -> None:
    if rows == 1 and transform != "LOGISTIC":
        transform = "LOGISTIC"
    model, plain = linear(rows, max(rows, 2), transform, normalised=normalised)
    label, scores = answer(model)
    for method in ("grad-cam", "score-cam"):
        with Explainer(model, method, preset=PLAIN) as explainer, Explainer(plain, method, preset=PLAIN) as other:
            scored = explainer.explain(PHOTOGRAPH, range(len(scores)))
            top, expected = explainer(PHOTOGRAPH), other.explain(PHOTOGRAPH, range(len(scores)))
        np.testing.assert_allclose([s.target.probability for s in scored], scores, rtol=1e-4, atol=1e-6)
        assert (top.target.name, NAMES[int(np.argmax(scores))]) == (label, label)
        assert NoteCode.ALREADY_PROBABILITIES not in [n.code for n in top.provenance.notes]
        if method == "grad-cam" and (transform != "LOGISTIC" or not normalised or rows == 1):
            for saliency, same in zip(scored, expected, strict=True):
                np.testing.assert_allclose(saliency.map, same.map, atol=1e-5)


def test_trees_that_vote_are_explained_without_gradients_and_without_a_softmax() -> None:
    """Two trees of one split, each with half a vote."""
    model = behind_features(
        3, normalised=False, kind="TreeEnsembleClassifier",
        nodes_treeids=[0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2] * 2, nodes_featureids=[0, 0, 0, 3, 0, 0],
        nodes_values=[0.3, 0, 0, 0.2, 0, 0], nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
        nodes_truenodeids=[1, 0, 0] * 2, nodes_falsenodeids=[2, 0, 0] * 2,
        nodes_missing_value_tracks_true=[0] * 6, nodes_hitrates=[1.0] * 6,
        class_treeids=[0, 0, 1, 1], class_nodeids=[1, 2, 1, 2], class_ids=[0, 1, 1, 2],
        class_weights=[0.5, 0.5, 0.5, 0.5], post_transform="NONE",
    )  # fmt: skip
    _, scores = answer(model)
    with Explainer(model, "recipro-cam", preset=PLAIN) as explainer:
        assert explainer.anatomy.logits.activation == "probability"
    needs_gradients = pytest.raises(OnnxCamError, match=r"TreeEnsembleClassifier.*without gradients work: score-cam")
    with Explainer(model, "grad-cam", preset=PLAIN) as explainer, needs_gradients:
        explainer(PHOTOGRAPH)
    assert sum(scores) == pytest.approx(1)


def test_only_zip_map_of_the_ml_domain_with_an_input_makes_maps() -> None:
    for change in ({"domain": "mine"}, {"input": []}):
        model = behind_features(3, normalised=False)
        node = model.graph.node[-1]
        node.domain = str(change.get("domain", node.domain))
        del node.input[len(change.get("input", node.input)) :]
        with pytest.raises(OnnxCamError):
            Explainer(model, preset=PLAIN)
