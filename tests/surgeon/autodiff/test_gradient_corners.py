"""Corners, where the derivative is a choice (PyTorch's is taken), and what a rule refuses. Expected numbers by hand."""

import numpy as np
import pytest
from cases_corners import CORNERS, Corner
from differentiated import Case, computed_gradients, with_gradient

from onnxcam.errors import MissingGradient


@pytest.mark.parametrize("corner", CORNERS.values(), ids=CORNERS)
def test_the_derivative_at_a_corner(corner: Corner) -> None:
    shape = with_gradient(corner.text, list(corner.inputs))[0].graph.output[0].type.tensor_type.shape.dim
    seed = np.broadcast_to(np.asarray(corner.seed, np.float32), [d.dim_value for d in shape]).copy()
    gradients = computed_gradients(corner.text, corner.feeds, seed)
    for name, gradient in zip(corner.inputs, gradients, strict=True):
        np.testing.assert_allclose(gradient, np.asarray(corner.expected[name]), rtol=1e-5, atol=1e-6, err_msg=name)


X = "float[N,4] x"
IMAGE = "float[N,2,4,4] x"
STATISTICS = "float[2] s, float[2] b, float[2] m, float[2] v"
INTS = "int64[1] {} = {{{}}}".format

# name: (what the message says, the case)
REFUSED = {
    "dropout": ("random", Case("y = Dropout (x, r, t)", X, "float r = {0.5}, bool t = {1}")),
    "einsum-dots": ("equation", Case('y = Einsum <equation="...i->..."> (x)', X)),
    "einsum-no-arrow": ("equation", Case('y = Einsum <equation="ij"> (x)', X)),
    "einsum-diagonal": ("equation", Case('y = Einsum <equation="nii->ni"> (x)', "float[N,4,4] x")),
    "batch-norm-in-training": ("training mode", Case("y, n, o = BatchNormalization <training_mode=1> (x, s, b, m, v)", IMAGE, STATISTICS)),
    "max-pool-by-columns": ("columns", Case("y, i = MaxPool <kernel_shape=[2,2], storage_order=1> (x)", IMAGE)),
    "largest-of-a-region": ("largest", Case('y = RoiAlign <mode="max"> (x, r, i)', IMAGE, "float[1,4] r = {0.0, 0.0, 3.0, 3.0}, int64[1] i = {0}")),
    "scatter-nd-product": ("mul", Case('y = ScatterND <reduction="mul"> (x, i, u)', "float[4] x", "int64[1,1] i = {2}, float[1] u")),
    "scatter-largest": ("max", Case('y = ScatterElements <reduction="max"> (x, i, u)', "float[4] x", f"{INTS('i', 2)}, float[1] u")),
    "gather-nd-two-axes": ("batch axis", Case("y = GatherND <batch_dims=2> (x, i)", "float[2,2,3] x", "int64[2,2,1] i = {0, 1, 2, 0}")),
    "anti-aliasing": ("anti-aliasing", Case('y = Resize <mode="linear", antialias=1, axes=[2,3]> (x, , , z)', IMAGE, "int64[2] z = {3, 3}")),
    "crop": ("crop", Case('y = Resize <coordinate_transformation_mode="tf_crop_and_resize", axes=[2,3]> (x, r, , z)', IMAGE, "float[4] r = {0.0, 0.0, 0.5, 0.5}, int64[2] z = {2, 2}")),
    "int4": ("int4", Case("q = QuantizeLinear (x, s, z) r = DequantizeLinear (q, s, z) y = Identity (r)", X, "float s = {0.5}, int4 z = {1}", 21)),
    "blocks": ("blocks", Case("q = QuantizeLinear <block_size=2> (x, s, z) r = DequantizeLinear <block_size=2> (q, s, z) y = Identity (r)", "float[4,4] x", "float[4,2] s, int8[4,2] z", 21)),
    "mean-over-the-batch": ("depends on the batch", Case("y = ReduceMean (x, i)", X, INTS("i", 0))),
    "slice-of-the-batch": ("depends on the batch", Case("y = Slice (x, i, j)", X, f"{INTS('i', 1)}, {INTS('j', 3)}")),
    "repeated-batch": ("depends on the batch", Case("y = Tile (x, i)", X, "int64[2] i = {2, 1}")),
    "convolution-by-the-image": ("input 1 that depends on the image", Case("w = Reshape (x, s) y = Conv (x, w)", "float[1,1,2,2] x", "int64[4] s = {1, 1, 2, 2}")),
    "bound-by-the-image": ("input 2 that depends on the image", Case("m = ReduceMax <keepdims=0> (x) y = Clip (x, , m)", X)),
    "scale-by-the-image": ("input 1 that depends on the image", Case("m = ReduceMax <keepdims=0> (x) q = QuantizeLinear (x, m) y = DequantizeLinear (q, m)", X)),
    "fused-convolution-by-the-image": ("input 1 that depends on the image", Case("w = Reshape (x, s) y = com.microsoft.FusedConv (x, w)", "float[1,1,2,2] x", "int64[4] s = {1, 1, 2, 2}", output="float[1,1,1,1] y")),
    "product-of-moved-batches": ("batch axes", Case("y = com.microsoft.FusedMatMul <transBatchA=1> (x, w)", "float[3,N,4] x", "float[4,5] w", output="float[N,3,5] y")),
    "product-with-a-vector": ("vector", Case("y = com.microsoft.FusedMatMul (x, w)", "float[N,4] x", "float[4] w", output="float[N] y")),
    "average-of-channels-last": ("channels last", Case("q = QuantizeLinear (x, s, z) r = com.microsoft.QLinearGlobalAveragePool <channels_last=1> (q, s, z, s, z) y = DequantizeLinear (r, s, z)", "float[N,4,4,2] x", "float s = {0.5}, int8 z = {0}, int8[N,1,1,2] r")),
    "axes-by-the-image": ("computed at run time", Case("i = ArgMax <axis=1> (x) j = Squeeze (i) y = CumSum (x, j)", "float[1,2] x")),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "case"), REFUSED.values(), ids=REFUSED)
def test_what_a_rule_does_not_cover_is_refused_with_the_reason(reason: str, case: Case) -> None:
    with pytest.raises(MissingGradient, match=f"no gradient for .* {reason}"):
        with_gradient(case.text(case.opset), ["x"])
