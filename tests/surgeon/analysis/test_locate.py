"""The image input, the chosen layer and the scored output of small networks, and models that have none of them."""

import numpy as np
import onnx
import pytest
from located import BODY, HEAD, LINEAR, SIGNATURE, anatomy_of
from small_models import Make

from onnxcam.errors import ModelError, NoSpatialFeatures, PresetError, UnknownLayer
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.loading import read_model


@pytest.mark.parametrize(
    ("activation", "name"),
    [("Softmax <axis=1>", "softmax"), ("LogSoftmax <axis=1>", "log_softmax"), ("Sigmoid", "sigmoid")],
)
def test_logits_are_found_before_the_final_activation(make: Make, activation: str, name: str) -> None:
    text = f"{HEAD}net (float[N,3,8,6] x) => (float[N,5] out)\n{LINEAR}{{{BODY}\n p = ReduceMean <axes=[2,3], keepdims=0> (f)\n z = MatMul (p, v)\n out = {activation} (z)\n}}"
    logits = anatomy_of(make(text)).logits
    assert (logits.tensor, logits.activation, logits.classes) == ("z", name, 5)


def test_the_last_convolution_is_listed_with_the_reason_why_it_was_not_chosen(classifier: onnx.ModelProto) -> None:
    anatomy = anatomy_of(classifier)
    assert anatomy.features.tensor == "features"
    assert [c.tensor for c in anatomy.candidates] == ["c2"]
    assert "Relu" in anatomy.candidates[0].why_not


def test_a_layer_is_chosen_by_tensor_by_node_and_as_last_conv(classifier: onnx.ModelProto) -> None:
    named = onnx.ModelProto()
    named.CopyFrom(classifier)
    named.graph.node[1].name = "first relu"
    assert anatomy_of(named, layer="c1").features.tensor == "c1"
    assert anatomy_of(named, layer="first relu").features.tensor == "r1"
    assert anatomy_of(named, layer="last-conv").features.tensor == "c2"


def test_unknown_and_flat_layers_are_refused(classifier: onnx.ModelProto) -> None:
    with pytest.raises(UnknownLayer, match="did you mean features"):
        anatomy_of(classifier, layer="feature")
    with pytest.raises(NoSpatialFeatures, match="not a spatial feature map"):
        anatomy_of(classifier, layer="flat")
    with pytest.raises(NoSpatialFeatures, match="not a spatial feature map"):
        anatomy_of(classifier, layer="x")


def test_models_without_a_spatial_map_are_refused_with_the_reason(make: Make) -> None:
    perceptron = f"{HEAD}{SIGNATURE}<float[144,5] v>{{ p = Flatten (x)\n logits = MatMul (p, v)\n}}"
    with pytest.raises(NoSpatialFeatures, match="flattened before any layer"):
        anatomy_of(make(perceptron))
    table = f"{HEAD}net (float[N,7] x) => (float[N,5] logits)\n<float[7,5] v>{{ logits = MatMul (x, v)\n}}"
    with pytest.raises(NoSpatialFeatures, match="takes no picture"):
        read_model(make(table))


def test_an_output_that_cannot_be_scored_is_refused(make: Make) -> None:
    text = f"{HEAD}net (float[N,3,8,6] x) => (int64[N,8,4,3] i)\n<float[8,3,3,3] w>{{{BODY}\n i = Cast <to=7> (f)}}"
    with pytest.raises(ModelError, match=r"class vector.*onnxcam explain --output NAME --index"):
        anatomy_of(make(text))


def test_an_embedding_beside_the_logits_is_not_taken_for_them(make: Make) -> None:
    text = f"{HEAD}net (float[N,3,8,6] x) => (float[N,8] p, float[N,5] logits)\n{LINEAR}{{{BODY}\n p = ReduceMean <axes=[2,3], keepdims=0> (f)\n logits = MatMul (p, v)\n}}"
    assert anatomy_of(make(text)).logits.tensor == "logits"


def test_a_size_that_the_model_does_not_take_is_an_error(classifier: onnx.ModelProto) -> None:
    with pytest.raises(PresetError, match="16x12"):
        anatomy_of(classifier, size=(32, 32))


def test_a_wrong_layout_word_is_an_error(classifier: onnx.ModelProto) -> None:
    with pytest.raises(ModelError, match="not NCHW or NHWC"):
        anatomy_of(classifier, layout="hello")


def test_a_dimension_of_minus_one_is_dynamic(classifier: onnx.ModelProto) -> None:
    paddle = onnx.ModelProto()
    paddle.CopyFrom(classifier)
    paddle.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert anatomy_of(paddle).image.batch is None


def test_an_implausible_feature_shape_is_refused(classifier: onnx.ModelProto) -> None:
    from dataclasses import replace

    features = anatomy_of(classifier).features
    assert (features.channels, features.grid) == (8, (4, 3))
    with pytest.raises(ModelError, match="not plausible"):
        _ = replace(features, shape=(1, 2**20, 2**10, 2**10)).grid


def test_an_operator_that_hides_the_grid_is_named(make: Make) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    {SIGNATURE}<float[8,3,3,3] w, float[8] bias, float[8,5] v>
    {{
      f = com.microsoft.FusedConv <kernel_shape=[3,3], activation="Relu"> (x, w, bias)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      logits = MatMul (p, v)
    }}"""
    with pytest.raises(NoSpatialFeatures, match=r"FusedConv of com\.microsoft"):
        anatomy_of(make(text, check=False))


def test_signals_and_volumes_have_grids_too(make: Make) -> None:
    signal = f"""{HEAD}net (float[N,2,16] x) => (float[N,5] logits)
    <float[8,2,3] w, float[8,5] v>
    {{
      c = Conv <kernel_shape=[3], pads=[1,1], strides=[2]> (x, w)
      f = Relu (c)
      p = ReduceMean <axes=[2], keepdims=0> (f)
      logits = MatMul (p, v)
    }}"""
    anatomy = anatomy_of(make(signal))
    assert (anatomy.image.layout, anatomy.features.tensor, anatomy.features.grid) == ("NCW", "f", (8,))
    volume = f"""{HEAD}net (float[N,3,4,8,6] x) => (float[N,5] logits)
    <float[8,3,3,3,3] w, float[8,5] v>
    {{
      c = Conv <kernel_shape=[3,3,3], pads=[1,1,1,1,1,1], strides=[1,2,2]> (x, w)
      f = Relu (c)
      p = ReduceMean <axes=[2,3,4], keepdims=0> (f)
      logits = MatMul (p, v)
    }}"""
    anatomy = anatomy_of(make(volume))
    assert (anatomy.image.layout, anatomy.features.tensor, anatomy.features.grid) == ("NCDHW", "f", (4, 4, 3))
    array = np.arange(8 * 48, dtype=np.float32).reshape(1, 8, 4, 4, 3)
    np.testing.assert_array_equal(anatomy.features.to_channels(array), array)


def test_logits_without_a_batch_axis_are_taken(make: Make) -> None:
    text = f"""{HEAD}net (float[1,3,8,6] x) => (float[5] logits)
    <float[8,3,3,3] w, float[8,5] v>{{{BODY}
      g = GlobalAveragePool (f)
      p = Squeeze (g)
      logits = MatMul (p, v)
    }}"""
    anatomy = anatomy_of(make(text))
    assert (anatomy.features.tensor, anatomy.logits.tensor, anatomy.logits.classes) == ("f", "logits", 5)


def test_an_output_is_chosen_by_name(make: Make) -> None:
    text = f"{HEAD}net (float[N,3,8,6] x) => (float[N,8] p, float[N,5] logits)\n{LINEAR}{{{BODY}\n p = ReduceMean <axes=[2,3], keepdims=0> (f)\n logits = MatMul (p, v)\n}}"
    assert anatomy_of(make(text), output="p").logits.tensor == "p"
    with pytest.raises(ModelError, match="no output 'logit'; did you mean logits"):
        anatomy_of(make(text), output="logit")


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ("N,3,8,6", "NCHW"),
        ("N,8,6,3", "NHWC"),
        ("N,13,64,64", "NCHW"),
        ("N,64,64,13", "NHWC"),
        ("N,2,512", "NCW"),
        ("N,512,2", "NWC"),
        ("N,3,8,48,48", "NCDHW"),
        ("N,8,48,48,3", "NDHWC"),
    ],
)
def test_the_layout_is_read_from_the_shape(make: Make, shape: str, layout: str) -> None:
    proto = make(f"{HEAD}net (float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}")
    assert find_image(ir.from_proto(proto)).layout == layout


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ("float[N,84,8400] t", (80, 4, False)),  # YOLOv8
        ("float[N,25200,85] t", (80, 5, True)),  # YOLOv5, with an objectness
        ("float[N,100,4] boxes, float[N,100,91] t", (91, 0, True)),  # scores beside their boxes
    ],
)
def test_a_table_of_boxes_says_where_its_classes_are(make: Make, outputs: str, expected: tuple[int, int, bool]) -> None:
    names = [o.split()[-1] for o in outputs.split(", ")]
    shapes = {
        o.split()[-1]: [int(d) for d in o[o.index("N,") + 2 : o.index("]")].split(",")] for o in outputs.split(", ")
    }
    makers = "".join(
        f"k{n} = Constant <value_ints={[-1, *shapes[n]]}> ()\n z{n} = ReduceMean <axes=[1,2,3], keepdims=1> (f)\n"
        f" s{n} = Constant <value_ints={[1, *shapes[n]]}> ()\n r{n} = Reshape (z{n}, three)\n {n} = Expand (r{n}, s{n})\n"
        for n in names
    )
    text = f"""{HEAD}net (float[1,3,8,6] x) => ({outputs.replace("N,", "1,")})
    <float[8,3,3,3] w, int64[3] three = {{1, 1, 1}}>{{{BODY}{makers}}}"""
    logits = anatomy_of(make(text)).logits
    assert (logits.tensor, logits.kind) == ("t", Kind.BOXES)
    assert (logits.classes, logits.first_class, logits.boxes_first) == expected


def test_boxes_that_the_model_chose_itself_are_refused_with_the_way_out(make: Make) -> None:
    text = f"""{HEAD}net (float[1,3,8,6] x) => (float[1,5,6] t)
    <float[8,3,3,3] w, int64[3] s = {{1, 16, 6}}, int64[1] k = {{5}}>
    {{{BODY} r = Reshape (f, s)\n t, i = TopK <axis=1> (r, k)\n}}"""
    with pytest.raises(ModelError, match=r"TopK chose.*explain the export without that step"):
        anatomy_of(make(text))


def test_the_features_of_a_sequence_model_are_not_those_of_a_detector(make: Make) -> None:
    text = f"""{HEAD}net (float[1,3,8,24] x) => (float[1,12,7] logits)
    <float[8,3,3,3] w, float[8,7] v>
    {{{BODY}
      rows = ReduceMean <axes=[2], keepdims=0> (f)
      sequence = Transpose <perm=[0,2,1]> (rows)
      logits = MatMul (sequence, v)
    }}"""
    anatomy = anatomy_of(make(text))
    assert anatomy.features.tensor == "f"
    assert (anatomy.logits.kind, anatomy.logits.steps, anatomy.logits.classes) == (Kind.SEQUENCE, 12, 7)
    boxes = anatomy_of(make(text), kind=Kind.BOXES)
    assert boxes.features.tensor == "f"


def test_a_wider_embedding_is_not_taken_for_the_logits(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3,8,6] x) => (float[N,8] emb, float[N,5] logits)
    {LINEAR}{{{BODY}
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      emb = LpNormalization <axis=1> (p)
      logits = MatMul (p, v)
    }}"""
    assert anatomy_of(make(text)).logits.tensor == "logits"
