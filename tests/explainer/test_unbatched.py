"""Models without a batch or a channel axis: their maps are those of the same network with all axes."""

import numpy as np
import onnx
import onnx.parser
import pytest
from small_models import filled

from onnxcam import Explainer
from onnxcam.errors import ModelError
from onnxcam.inputs.presets import preset_named
from onnxcam.types import BatchMode

SIZE = (20, 16)
WEIGHTS = "<float[6,CHANNELS,3,3] w1, float[8,6,3,3] w2, float[5,8] w3, float[5] b3CONSTANTS>"
BODY = """
  c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (batch, w1)
  r1 = Relu (c1)
  c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1, w2)
  features = Relu (c2)
"""
HEAD = """
  pooled = GlobalAveragePool (features)
  flat = Flatten (pooled)
  scores = Gemm <transB=1> (flat, w3, b3)
"""
AXIS = ", int64[1] zero = {0}, int64[1] one = {1}"


def network(
    inputs: str, before: str, after: str, output: str, *, channels: int = 3, constants: str = AXIS, opset: int = 17
) -> onnx.ModelProto:
    """The network with nodes that make `batch` of the input x, and `logits` of `scores`."""
    weights = WEIGHTS.replace("CHANNELS", str(channels)).replace("CONSTANTS", constants)
    return filled(f"""<ir_version: 8, opset_import: ["" : {opset}]>
net ({inputs} x) => (float[{output}] logits)
{weights} {{ {before} {BODY} {HEAD} {after} }}""")


PLAIN = ("float[N,3,20,16]", "batch = Identity (x)", "logits = Identity (scores)", "N,5")
SQUEEZED = "logits = Squeeze (scores, zero)"
UNBATCHED = {
    "CHW": ("float[3,20,16]", "batch = Unsqueeze (x, zero)", "logits = Identity (scores)", "1,5"),
    "CHW, classes alone": ("float[3,20,16]", "batch = Unsqueeze (x, zero)", SQUEEZED, "5"),
    "CHW by Reshape": (
        "float[3,20,16]",
        "s = Constant <value_ints=[1,3,20,16]> () batch = Reshape (x, s)",
        SQUEEZED,
        "5",
    ),
    "CHW, any size": ("float[3,h,w]", "batch = Unsqueeze (x, zero)", SQUEEZED, "5"),
    "HWC": ("float[20,16,3]", "t = Transpose <perm=[2,0,1]> (x) batch = Unsqueeze (t, zero)", SQUEEZED, "5"),
    "HWC, batch first": (
        "float[20,16,3]",
        "u = Unsqueeze (x, zero) batch = Transpose <perm=[0,3,1,2]> (u)",
        "logits = Identity (scores)",
        "1,5",
    ),
    "HWC, any size": ("float[h,w,3]", "t = Transpose <perm=[2,0,1]> (x) batch = Unsqueeze (t, zero)", SQUEEZED, "5"),
    "HWC bytes": (
        "uint8[h,w,3]",
        "t = Transpose <perm=[2,0,1]> (x) u = Unsqueeze (t, zero) batch = Cast <to=1> (u)",
        SQUEEZED,
        "5",
    ),
    "NHWC bytes": ("uint8[N,h,w,3]", "t = Transpose <perm=[0,3,1,2]> (x) batch = Cast <to=1> (t)", PLAIN[2], "N,5"),
    "NHWC of int32": (
        "int32[N,20,16,3]",
        "t = Transpose <perm=[0,3,1,2]> (x) batch = Cast <to=1> (t)",
        PLAIN[2],
        "N,5",
    ),
    "NHWC of unknown channels": ("float[N,h,w,c]", "batch = Transpose <perm=[0,3,1,2]> (x)", PLAIN[2], "N,5"),
    "CHW in half precision": (
        "float16[3,20,16]",
        "u = Unsqueeze (x, zero) batch = Cast <to=1> (u)",
        SQUEEZED,
        "5",
    ),
}
PICTURE = np.random.default_rng(3).integers(0, 256, (41, 37, 3)).astype(np.uint8)


def explained(model: onnx.ModelProto, method: str, *, target: int | None = 2) -> np.ndarray:
    raw = preset_named("raw")
    with Explainer(model, method, preset=raw, size=SIZE, providers=["cpu"]) as explainer:
        return explainer(PICTURE, target).map


@pytest.mark.parametrize("method", ["score-cam", "grad-cam"])
@pytest.mark.parametrize("name", UNBATCHED)
def test_the_map_is_that_of_the_network_with_all_axes(name: str, method: str) -> None:
    expected = explained(network(*PLAIN), method)
    np.testing.assert_allclose(explained(network(*UNBATCHED[name]), method), expected, atol=2e-4)


@pytest.mark.parametrize("name", ["CHW", "CHW, classes alone", "HWC bytes"])
def test_masks_share_forward_passes_although_the_export_takes_one_picture(name: str) -> None:
    with Explainer(network(*UNBATCHED[name]), size=SIZE, preset="raw", providers=["cpu"]) as explainer:
        assert explainer.batching.mode is BatchMode.REWRITTEN
        assert explainer.batching.reason.startswith("the export has no batch axis")


def test_an_old_opset_adds_its_axes_by_attributes() -> None:
    before = "batch = Unsqueeze <axes=[0]> (x)"
    old = network("float[3,20,16]", before, "logits = Squeeze <axes=[0]> (scores)", "5", constants="", opset=11)
    np.testing.assert_allclose(explained(old, "score-cam"), explained(network(*PLAIN), "score-cam"), atol=2e-4)


GREY = {
    "N1HW": ("float[N,1,20,16]", "batch = Identity (x)", PLAIN[2], "N,5"),
    "NHW": ("float[N,20,16]", "batch = Unsqueeze (x, one)", PLAIN[2], "N,5"),
    "1HW": ("float[1,20,16]", "batch = Unsqueeze (x, zero)", SQUEEZED, "5"),
    "HW1": ("float[20,16,1]", "t = Transpose <perm=[2,0,1]> (x) batch = Unsqueeze (t, zero)", SQUEEZED, "5"),
    "NHW, Keras": (
        "float[N,20,16]",
        "s = Constant <value_ints=[-1,20,16,1]> () r = Reshape (x, s) batch = Transpose <perm=[0,3,1,2]> (r)",
        PLAIN[2],
        "N,5",
    ),
}


@pytest.mark.parametrize("name", GREY)
def test_a_grey_picture_needs_no_axis_of_channels(name: str) -> None:
    expected = explained(network(*GREY["N1HW"], channels=1), "score-cam")
    np.testing.assert_allclose(explained(network(*GREY[name], channels=1), "score-cam"), expected, atol=2e-4)


SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[SHAPE] x) => (float[OUT] logits)
<float[6,3,3,3] w1, float[8,6,3,3] w2, float[4,8,1,1] w3, int64[1] zero = {0}>
{ batch = BEFORE BODY
  scores = Conv (features, w3)
  logits = AFTER (scoresZERO)
}"""


def test_a_class_map_without_batch_axis_is_explained() -> None:
    def segmenter(**words: str) -> onnx.ModelProto:
        text = SEGMENTER.replace("BODY", BODY)
        for word, value in words.items():
            text = text.replace(word, value)
        return filled(text)

    alone = segmenter(SHAPE="3,20,16", OUT="4,5,4", BEFORE="Unsqueeze (x, zero)", AFTER="Squeeze", ZERO=", zero")
    batched = segmenter(SHAPE="N,3,20,16", OUT="N,4,5,4", BEFORE="Identity (x)", AFTER="Identity", ZERO="")
    np.testing.assert_allclose(
        explained(alone, "score-cam", target=None), explained(batched, "score-cam", target=None), atol=2e-4
    )


def test_a_signal_of_several_channels_stays_a_signal() -> None:
    """An EEG: the network lays its channels out as a picture of one colour, 22 high and 200 long."""
    model = filled("""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,22,200] x) => (float[N,5] logits) <float[6,1,1,9] w1, float[8,6,22,1] w2, float[8,5] v, int64[1] one = {1}> {
      batch = Unsqueeze (x, one)
      c1 = Conv <pads=[0,4,0,4], strides=[1,2]> (batch, w1)
      r1 = Relu (c1)
      c2 = Conv (r1, w2)
      f = Relu (c2)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      logits = MatMul (p, v)
    }""")
    with Explainer(model, providers=["cpu"]) as explainer:
        assert explainer.anatomy.image.layout == "NCW"


@pytest.mark.parametrize("layout", ["chw", "CHW"])
def test_the_layout_can_be_given(layout: str) -> None:
    with Explainer(network(*UNBATCHED["CHW"]), layout=layout, providers=["cpu"]) as explainer:
        assert (explainer.anatomy.image.layout, explainer.anatomy.image.file_layout) == ("NCHW", "CHW")


@pytest.mark.parametrize("layout", ["CH", "CWN", "NHWC"])
def test_a_layout_that_no_input_of_this_rank_has_is_an_error(layout: str) -> None:
    with pytest.raises(ModelError, match="layout"):
        Explainer(network(*UNBATCHED["CHW"]), layout=layout, providers=["cpu"])
