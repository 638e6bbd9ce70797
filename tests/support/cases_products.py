"""Cases of matrix products and convolutions."""

from differentiated import Case


def conv(attributes: str, x: str = "N,4,8,7", w: str = "5,4,3,3", op: str = "Conv") -> Case:
    return Case(f"y = {op} <{attributes}> (x, w)".replace("<>", ""), f"real[{x}] x", f"real[{w}] w")


def matmul(a: str, b: str) -> Case:
    return Case("y = MatMul (a, b)", f"real[{a}] a, real[{b}] b")


def gemm(a: str, b: str, attributes: str, c: str = "1,5") -> Case:
    return Case(
        f"y = Gemm <alpha=0.7, beta=1.3, {attributes}> (a, b, c)",
        f"real[{a}] a, real[{b}] b, real[{c}] c".replace("[]", ""),
    )


def einsum(equation: str, *shapes: str) -> Case:
    names = "abcd"[: len(shapes)]
    inputs = ", ".join(f"real[{shape}] {name}" for name, shape in zip(names, shapes, strict=True))
    return Case(f'y = Einsum <equation="{equation}"> ({", ".join(names)})', inputs)


MATRICES = {
    "matmul": matmul("N,4", "4,5"),
    "matmul-batch": matmul("N,3,4", "N,4,5"),
    "matmul-shared": matmul("N,3,4", "4,5"),
    "matmul-shared-left": matmul("3,4", "N,4,5"),
    "matmul-vector-left": matmul("4", "N,4,5"),
    "matmul-vector-right": matmul("N,3,4", "4"),
    "matmul-matrix-vector": matmul("N,4", "4"),
    "matmul-vector-matrix": matmul("4", "4,5"),
    "matmul-vectors": matmul("4", "4"),
    "matmul-both-spread": matmul("N,1,3,4", "5,4,6"),
    "matmul-attention": matmul("N,2,3,4", "N,2,4,3"),
    "matmul-of-itself": Case("t = Transpose <perm=[0,2,1]> (x) y = MatMul (x, t)", "real[N,3,4] x"),
    "matmul-weight": Case("y = MatMul (x, w)", "real[N,3,4] x", "real[4,5] w"),
    "gemm": gemm("N,4", "4,5", "transA=0"),
    "gemm-left": gemm("4,N", "4,5", "transA=1"),
    "gemm-right": gemm("N,4", "5,4", "transB=1"),
    "gemm-both": gemm("4,3", "5,4", "transA=1, transB=1", "3,1"),
    "gemm-vector": gemm("N,4", "4,5", "transB=0", "5"),
    "gemm-number": gemm("N,4", "4,5", "transB=0", ""),
    "gemm-full": gemm("3,4", "4,5", "transB=0", "3,5"),
    "gemm-no-bias": Case("y = Gemm <transB=1> (x, w)", "real[N,4] x", "real[5,4] w"),
    "einsum": einsum("bij,bjk->bik", "N,3,4", "N,4,5"),
    "einsum-sums": einsum("bij,k->bk", "N,3,4", "5"),
    "einsum-attention": einsum("bhid,bhjd->bhij", "N,2,3,4", "N,2,5,4"),
    "einsum-three": einsum("bi,ij,bj->b", "N,3", "3,4", "N,4"),
    "einsum-transpose": einsum("bij->jbi", "N,3,4"),
    "einsum-total": einsum("ij->", "3,4"),
    "einsum-sum": einsum("bij->bi", "N,3,4"),
    "einsum-outer": einsum("bi, bj -> bij", "N,3", "N,4"),
}  # fmt: skip

CONVOLUTIONS = {
    # stride 1: the rule is a convolution with flipped kernels
    "conv": conv("", w="5,4,3,3"),
    "conv-same": conv("pads=[1,1,1,1]"),
    "conv-pointwise": conv("", w="5,4,1,1"),
    "conv-lopsided": conv("pads=[0,1,2,0]", w="5,4,3,2"),
    "conv-dilated": conv("dilations=[2,3], pads=[2,3,2,3]"),
    "conv-groups": conv("group=2, dilations=[2,2]", w="6,2,3,3"),
    "conv-depthwise": conv("group=4, pads=[1,1,1,1]", w="4,1,3,3"),
    "conv-depthwise-twice": conv("group=4, pads=[2,2,2,2]", w="8,1,3,3"),
    "conv-more-pads-than-kernel": conv("pads=[3,3,3,3]"),
    "conv-more-pads-than-kernel-groups": conv("pads=[3,4,3,4], group=2", w="6,2,2,2"),
    "conv-bias": Case("y = Conv (x, w, b)", "real[N,4,8,7] x", "real[5,4,3,3] w, real[5] b"),
    # strides: the rule is a transposed convolution; the last entries may be in no window
    "conv-stride": conv("strides=[2,2], pads=[1,1,1,1]"),
    "conv-stride-rest": conv("strides=[3,3]", w="5,4,2,2"),
    "conv-stride-pointwise": conv("strides=[2,2]", w="5,4,1,1"),
    "conv-stride-wider-than-kernel": conv("strides=[4,3]", w="5,4,2,1"),
    "conv-strides-differ": conv("strides=[2,1], pads=[1,0,0,1]"),
    "conv-stride-dilated": conv("strides=[2,2], dilations=[2,1], pads=[2,1,2,1]"),
    "conv-stride-groups": conv("strides=[2,3], group=2, pads=[1,1,1,1]", w="6,2,3,3"),
    "conv-stride-depthwise-twice": conv("strides=[2,2], group=4, pads=[1,1,1,1]", w="8,1,3,3"),
    # strided depthwise: the rule puts zeros between the entries
    "conv-stride-depthwise": conv("strides=[2,2], group=4, pads=[1,1,1,1]", w="4,1,3,3"),
    "conv-stride-depthwise-5": conv("strides=[2,2], group=4, pads=[2,2,2,2]", w="4,1,5,5"),
    "conv-stride-depthwise-lopsided": conv("strides=[2,3], group=4, pads=[0,1,1,1]", w="4,1,3,3"),
    "conv-stride-depthwise-dilated": conv("strides=[2,2], dilations=[2,1], group=4, pads=[2,1,2,1]", w="4,1,3,3"),
    "conv-stride-depthwise-pads": conv("strides=[2,2], group=4, pads=[3,3,3,3]", w="4,1,3,3"),
    "conv-stride-depthwise-rest": conv("strides=[3,3], group=4", w="4,1,1,1"),
    "conv-stride-depthwise-same": conv('strides=[2,2], group=4, auto_pad="SAME_UPPER"', w="4,1,3,3"),
    # automatic padding
    "conv-upper": conv('strides=[2,2], auto_pad="SAME_UPPER"'),
    "conv-lower": conv('strides=[2,2], auto_pad="SAME_LOWER"'),
    "conv-upper-1": conv('auto_pad="SAME_UPPER"', w="5,4,2,4"),
    "conv-lower-1": conv('auto_pad="SAME_LOWER"', w="5,4,2,4"),
    "conv-upper-narrow": conv('strides=[3,3], auto_pad="SAME_UPPER"', w="5,4,1,2"),
    "conv-valid": conv('strides=[2,2], auto_pad="VALID"'),
    # signals and volumes
    "conv-1d": conv("pads=[1,1]", "N,4,8", "5,4,3"),
    "conv-1d-stride": conv("strides=[2], pads=[1,1]", "N,4,8", "5,4,3"),
    "conv-1d-stride-depthwise": conv("strides=[2], pads=[1,1], group=4", "N,4,8", "4,1,3"),
    "conv-3d": conv("pads=[1,1,0,0,0,1]", "N,2,4,5,6", "3,2,3,2,2"),
    "conv-3d-stride": conv("strides=[2,1,2], pads=[1,1,0,0,0,1]", "N,2,4,5,6", "3,2,3,2,2"),
}

TRANSPOSED = {f"transposed-{name}": conv(attributes, x, w, op="ConvTranspose") for name, (attributes, x, w) in {
    "plain": ("", "N,4,3,5", "4,3,2,2"),
    "stride": ("strides=[2,2]", "N,4,3,5", "4,3,2,2"),
    "pads": ("strides=[2,2], pads=[1,0,1,1]", "N,4,3,5", "4,3,3,3"),
    "groups": ("strides=[2,2], pads=[1,1,1,1], output_padding=[1,1], group=2", "N,4,3,5", "4,3,3,3"),
    "depthwise": ("strides=[2,2], pads=[1,1,1,1], group=4", "N,4,3,5", "4,1,4,4"),
    "dilated": ("dilations=[2,3]", "N,4,3,5", "4,3,2,2"),
    "padding-as-long-as-a-stride": ("strides=[2,2], dilations=[3,3], output_padding=[2,1]", "N,4,3,5", "4,3,2,2"),
    "shape": ("strides=[2,2], output_shape=[6,9]", "N,4,3,5", "4,3,3,3"),
    "shape-upper": ('strides=[2,2], output_shape=[6,10], auto_pad="SAME_UPPER"', "N,4,3,5", "4,3,3,3"),
    "upper": ('strides=[2,2], auto_pad="SAME_UPPER"', "N,4,3,5", "4,3,3,3"),
    "lower": ('strides=[2,2], auto_pad="SAME_LOWER"', "N,4,3,5", "4,3,3,3"),
    "valid": ('strides=[2,2], auto_pad="VALID"', "N,4,3,5", "4,3,3,3"),
    "1d": ("strides=[2], pads=[1,1]", "N,4,5", "4,3,4"),
    "3d": ("strides=[2,1,2]", "N,2,2,3,2", "2,3,2,2,2"),
}.items()}  # fmt: skip

CASES = MATRICES | CONVOLUTIONS | TRANSPOSED
