"""Outputs that only say what was chosen are explained by the scores behind them: ArgMax, TopK, labels, thresholds."""

import numpy as np
import onnx
import pytest
from onnx.helper import make_node, make_tensor_value_info
from small_models import filled

from onnxcam import Element, Explainer, Preset
from onnxcam.errors import ModelError, OnnxCamError
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import Source

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (16, 12, 3)).astype(np.uint8)
BODY = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
net (float[N,3,16,12] x) => ({outputs})
<float[6,3,3,3] w, float[6,5] v, float[6,1] u, float[6,3] q>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  g = GlobalAveragePool (f)
  p = Flatten (g)
  z = MatMul (p, v)
  {end}
}}"""
ARGMAX = "i = ArgMax <axis=1, keepdims=0> ({})"
HEADS = {
    "argmax": ("int64[N] i", ARGMAX.format("z"), "none"),
    "argmax of softmax": ("int64[N] i", "s = Softmax <axis=1> (z) " + ARGMAX.format("s"), "softmax"),
    "argmax, kept axis": ("int64[N,1] i", "i = ArgMax <axis=-1> (z)", "none"),
    "argmax as int32": ("int32[N] j", ARGMAX.format("z") + " j = Cast <to=6> (i)", "none"),
    "argmax beside an embedding": ("float[N,6] p, int64[N] i", ARGMAX.format("z"), "none"),
    "argmax and softmax": ("int64[N] i, float[N,5] s", "s = Softmax <axis=1> (z) " + ARGMAX.format("z"), "softmax"),
    "topk": ("float[N,3] t, int64[N,3] i", "s = Softmax <axis=1> (z) k = Constant <value_ints=[3]> () t, i = TopK (s, k)", "softmax"),
    "topk, indices alone": ("int64[N,1] i", "k = Constant <value_ints=[1]> () t, i = TopK (z, k)", "none"),
    "largest and its index": ("float[N] m, int64[N] i", "s = Softmax <axis=1> (z) m = ReduceMax <axes=[1], keepdims=0> (s) " + ARGMAX.format("s"), "softmax"),
    "hardmax": ("float[N,5] h", "h = Hardmax <axis=1> (z)", "none"),
    "one-hot": ("float[N,5] h", ARGMAX.format("z") + " d = Constant <value_ints=[5]> () o = Constant <value_floats=[0.0,1.0]> () h = OneHot (i, d, o)", "none"),
    "a column of the softmax": ("float[N] y", "s = Softmax <axis=1> (z) k = Constant <value_int=1> () y = Gather <axis=1> (s, k)", "softmax"),
    "squeezed softmax": ("float[N,5,1] y", "s = Softmax <axis=1> (z) k = Constant <value_ints=[2]> () y = Unsqueeze (s, k)", "softmax"),
    "softmax written out": ("float[N,5] y", "m = ReduceMax <axes=[1]> (z) d = Sub (z, m) e = Exp (d) a = Constant <value_ints=[1]> () t = ReduceSum (e, a) y = Div (e, t)", "softmax"),
    "softmax in half": ("float16[N,5] y", "s = Softmax <axis=1> (z) y = Cast <to=10> (s)", "softmax"),
    "log of the softmax": ("float[N,5] y", "s = Softmax <axis=1> (z) y = Log (s)", "log_softmax"),
    "multi-label": ("bool[N,5] y", "s = Sigmoid (z) k = Constant <value_float=0.5> () y = Greater (s, k)", "sigmoid"),
}  # fmt: skip


def network(name: str) -> onnx.ModelProto:
    outputs, end, _ = HEADS[name]
    return filled(BODY.format(outputs=outputs, end=end))


@pytest.mark.parametrize("name", HEADS)
def test_the_scores_before_the_choice_are_explained(name: str) -> None:
    plain = filled(BODY.format(outputs="float[N,5] z", end=""))
    with Explainer(network(name), "grad-cam", preset=PLAIN) as chosen, Explainer(plain, "grad-cam", preset=PLAIN) as e:
        expected, saliency = e(PHOTOGRAPH), chosen(PHOTOGRAPH)
        assert (chosen.anatomy.logits.tensor, chosen.anatomy.logits.activation) == ("z", HEADS[name][2])
        assert chosen.batching.reason.endswith("verified")
    assert (saliency.target.index, saliency.target.logit) == (expected.target.index, expected.target.logit)
    np.testing.assert_array_equal(saliency.map, expected.map)


def with_nodes(outputs: list[onnx.ValueInfoProto], *nodes: onnx.NodeProto, **tensors: list) -> onnx.ModelProto:
    """The network with a softmax `s` and these nodes behind it."""
    model = filled(BODY.format(outputs="float[N,5] s", end="s = Softmax <axis=1> (z)"))
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    for name, values in tensors.items():
        array = np.array(values, object if isinstance(values[0], str) else np.int64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


NAMES = ["ant", "bee", "cat", "dog", "eel"]
TEXT = make_tensor_value_info("label", onnx.TensorProto.STRING, ["N"])
INDEX = make_node("ArgMax", ["s"], ["i"], axis=1, keepdims=0)


def zipped(**labels: list) -> onnx.ModelProto:
    """A classifier as scikit-learn's converters end it: a label and a sequence of maps."""
    kind = onnx.TensorProto.STRING if "classlabels_strings" in labels else onnx.TensorProto.INT64
    key = onnx.helper.make_map_type_proto(kind, onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    maps = onnx.helper.make_value_info("maps", onnx.helper.make_sequence_type_proto(key))
    nodes = [make_node("ZipMap", ["s"], ["maps"], domain="ai.onnx.ml", **labels)]
    if "classlabels_strings" in labels:
        extractor = make_node("ArrayFeatureExtractor", ["names", "i"], ["label"], domain="ai.onnx.ml")
        return with_nodes([TEXT, maps], INDEX, extractor, *nodes, names=NAMES)
    return with_nodes([maps], *nodes)


@pytest.mark.parametrize("case", ["gather", "encoder", "zipmap"])
def test_labels_that_the_graph_looks_up_name_the_classes(case: str) -> None:
    encoder = make_node(
        "LabelEncoder", ["i"], ["label"], domain="ai.onnx.ml", keys_int64s=[4, 3, 2, 1, 0], values_strings=NAMES[::-1]
    )
    models = {
        "gather": lambda: with_nodes([TEXT], INDEX, make_node("Gather", ["names", "i"], ["label"]), names=NAMES),
        "encoder": lambda: with_nodes([TEXT], INDEX, encoder),
        "zipmap": lambda: zipped(classlabels_strings=NAMES),
    }
    with Explainer(models[case](), "grad-cam", preset=PLAIN) as explainer:
        assert explainer.anatomy.logits.tensor == "z"
        assert (explainer.labels, explainer.labels_origin.source) == (tuple(NAMES), Source.MODEL)
        assert explainer(PHOTOGRAPH, "dog").target.index == 3


@pytest.mark.parametrize(
    ("numbers", "labels"), [([0, 1, 2, 3, 4], None), ([7, 8, 9, 3, 1], tuple(f"label {n}" for n in (7, 8, 9, 3, 1)))]
)
def test_integers_of_a_map_are_labels_unless_they_number_the_classes(numbers: list[int], labels: object) -> None:
    with Explainer(zipped(classlabels_int64s=numbers), "score-cam", preset=PLAIN) as explainer:
        assert (explainer.anatomy.logits.tensor, explainer.anatomy.logits.output) == ("z", "maps")
        assert explainer.labels == labels


SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => ({output})
<float[6,3,3,3] w, float[5,6,1,1] v>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Tanh (c)
  z = Conv <kernel_shape=[1,1]> (f, v)
  {end}
}}"""
SEGMENTERS = {
    "argmax": ("int64[N,8,6] i", "i = ArgMax <axis=1, keepdims=0> (z)"),
    "argmax as bytes": ("uint8[N,1,8,6] y", "i = ArgMax <axis=1> (z) y = Cast <to=2> (i)"),
    "argmax of softmax": ("int64[N,8,6] i", "s = Softmax <axis=1> (z) i = ArgMax <axis=1, keepdims=0> (s)"),
    "channels last": ("int64[N,8,6] i", "t = Transpose <perm=[0,2,3,1]> (z) i = ArgMax <axis=3, keepdims=0> (t)"),
    "enlarged": ("float[N,1,16,12] y", "i = ArgMax <axis=1> (z) r = Cast <to=1> (i) k = Constant <value_floats=[1.0,1.0,2.0,2.0]> () y = Resize <mode=\"nearest\"> (r, , k)"),
    "argmax and softmax": ("int64[N,8,6] i, float[N,5,8,6] s", "s = Softmax <axis=1> (z) i = ArgMax <axis=1, keepdims=0> (s)"),
    "topk": ("int64[N,1,8,6] i", "k = Constant <value_ints=[1]> () t, i = TopK <axis=1> (z, k)"),
    "softmax, channels last": ("float[N,8,6,5] y", "s = Softmax <axis=1> (z) y = Transpose <perm=[0,2,3,1]> (s)"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_map_of_chosen_classes_is_explained_by_the_class_map_before_it(name: str) -> None:
    output, end = SEGMENTERS[name]
    model, plain = (filled(SEGMENTER.format(output=o, end=e)) for o, e in ((output, end), ("float[N,5,8,6] z", "")))
    with Explainer(model, "grad-cam", preset=PLAIN) as chosen, Explainer(plain, "grad-cam", preset=PLAIN) as e:
        saliency, expected = chosen(PHOTOGRAPH), e(PHOTOGRAPH)
        assert chosen.anatomy.logits.kind is Kind.REGION
    assert saliency.target.index == expected.target.index
    assert saliency.target.logit == pytest.approx(expected.target.logit, rel=1e-5)
    assert np.corrcoef(saliency.map.ravel(), expected.map.ravel())[0, 1] >= 0.9999


@pytest.mark.parametrize(
    "end", ["i = ArgMin <axis=1> (z)", "k = Constant <value_ints=[1]> () t, i = TopK <largest=0> (z, k)"]
)
def test_the_least_of_some_numbers_is_refused_in_one_sentence(end: str) -> None:
    with pytest.raises(ModelError, match="least of 'z'"):
        Explainer(filled(BODY.format(outputs="int64[N,1] i", end=end)), "grad-cam", preset=PLAIN)


def test_the_threshold_of_the_graph_decides_the_side() -> None:
    """At 0.001 the positive side wins with a probability far below a half."""
    text = BODY.format(
        outputs="float[N,1] y, bool[N,1] b",
        end="r = MatMul (p, u) k = Constant <value_float={}> () a = Abs (r) m = Neg (a) y = Sigmoid (m) b = Greater (y, k)",
    )
    for threshold, side in ((0.001, "positive"), (0.5, "negative")):
        with Explainer(filled(text.replace("{}", str(threshold))), "grad-cam", preset=PLAIN) as explainer:
            target = explainer(PHOTOGRAPH).target
        assert target.side == side
        assert (target.probability >= 0.5) is (side == "negative")


ONE_LESS = "o = Constant <value_float=1.0> () h = Sigmoid (r) y = Sub (o, h)"


@pytest.mark.parametrize(
    "end", ["y = Relu (a)", "y = Softplus (a)", "y = Exp (a)", "y = Sqrt (a)", "y = Tanh (r)", ONE_LESS]
)
def test_a_number_that_no_logit_ends_in_is_explained_as_it_is(end: str) -> None:
    text = BODY.format(outputs="float[N,1] y", end=f"r = MatMul (p, u) a = Abs (r) {end}")
    with Explainer(filled(text), "grad-cam", preset=PLAIN) as explainer:
        saliency = explainer(PHOTOGRAPH)
        again = explainer(PHOTOGRAPH, [Element((0,))][0])
    assert (saliency.target.kind, saliency.target.name) == ("elements", "y")
    np.testing.assert_array_equal(saliency.map, again.map)


@pytest.mark.parametrize(
    "end",
    [
        "n = ReduceL2 <axes=[1]> (z) y = Div (z, n)",
        "y = LpNormalization <axis=1> (z)",
        "q2 = Mul (z, z) a = Constant <value_ints=[1]> () t = ReduceSum (q2, a) n = Sqrt (t) y = Div (z, n)",
        "n = ReduceL2 <axes=[1]> (z) k = Constant <value_float=1.0e-12> () m = Max (n, k) h = Shape (z) e = Expand (m, h) y = Div (z, e)",
    ],
)
def test_a_vector_of_length_one_is_an_embedding_without_a_softmax(end: str) -> None:
    with Explainer(filled(BODY.format(outputs="float[N,5] y", end=end)), "grad-cam", preset=PLAIN) as explainer:
        assert explainer.anatomy.logits.kind is Kind.EMBEDDING
        with pytest.raises(OnnxCamError, match="reference"):
            explainer(PHOTOGRAPH)
