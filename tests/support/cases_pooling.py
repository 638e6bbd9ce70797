"""Cases of pooling, reductions and normalisations."""

from differentiated import Case


def pool(op: str, attributes: str, x: str = "N,3,7,8", opset: int = 18) -> Case:
    return Case(f"y = {op} <{attributes}> (x)", f"real[{x}] x", opset=opset)


WINDOWS = {
    "apart": "kernel_shape=[2,2], strides=[2,2]",
    "apart-rest": "kernel_shape=[3,2], strides=[3,2]",
    "overlapping": "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]",
    "dense": "kernel_shape=[3,2], pads=[1,0,1,0]",
    "lopsided": "kernel_shape=[3,3], strides=[2,2], pads=[0,1,1,0]",
    "sparse": "kernel_shape=[1,2], strides=[3,3]",
    "ceil": "kernel_shape=[3,3], strides=[2,2], ceil_mode=1",
    "ceil-apart": "kernel_shape=[2,3], strides=[2,3], ceil_mode=1",
    "upper": 'kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER"',
    "lower": 'kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_LOWER"',
    "valid": 'kernel_shape=[3,3], strides=[2,2], auto_pad="VALID"',
}
DILATED = "kernel_shape=[2,3], dilations=[2,2], strides=[2,1]"

POOLS = {f"{op}-{name}": pool(op, windows) for op in ("MaxPool", "AveragePool") for name, windows in WINDOWS.items()} | {
    "MaxPool-dilated": pool("MaxPool", DILATED),
    "MaxPool-dilated-apart": pool("MaxPool", "kernel_shape=[2,2], dilations=[3,3], strides=[2,2]"),
    "MaxPool-1d": pool("MaxPool", "kernel_shape=[3], strides=[2]", "N,3,8"),
    "MaxPool-3d": pool("MaxPool", "kernel_shape=[2,2,2], strides=[2,1,2]", "N,2,4,3,5"),
    "AveragePool-padded": pool("AveragePool", f"{WINDOWS['overlapping']}, count_include_pad=1"),
    "AveragePool-padded-ceil": pool("AveragePool", f"{WINDOWS['ceil']}, pads=[1,1,1,1], count_include_pad=1", opset=19),
    "AveragePool-dilated": pool("AveragePool", DILATED, opset=19),
    "AveragePool-1d": pool("AveragePool", "kernel_shape=[3], strides=[2]", "N,3,8"),
    "AveragePool-1d-apart": pool("AveragePool", "kernel_shape=[3], strides=[3]", "N,3,8"),
    "AveragePool-3d": pool("AveragePool", "kernel_shape=[2,2,2], strides=[2,1,2]", "N,2,4,3,5"),
    "AveragePool-3d-apart": pool("AveragePool", "kernel_shape=[2,1,2], strides=[2,1,2]", "N,2,4,3,5"),
    "LpPool": pool("LpPool", "kernel_shape=[3,3], strides=[2,2]", "N,3,7,9"),
    "LpPool-1": pool("LpPool", "kernel_shape=[2,2], strides=[2,2], p=1", "N,3,4,6"),
    "LpPool-3": pool("LpPool", "kernel_shape=[2,3], p=3", "N,3,4,6"),
    "LpPool-dilated": pool("LpPool", "kernel_shape=[2,2], dilations=[2,2]", "N,3,5,6"),
    **{f"{op}-{name}": Case(f"y = {op} (x)", f"real[{x}] x")
       for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
       for name, x in {"1d": "N,3,4", "2d": "N,3,4,5", "3d": "N,3,2,3,2"}.items()},
    "GlobalLpPool-3": pool("GlobalLpPool", "p=3"),
    "GlobalLpPool-1": pool("GlobalLpPool", "p=1"),
}  # fmt: skip

REDUCED = (
    "ReduceMax ReduceMin ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp".split()
)


def reduce(op: str, attributes: str, axes: str = "", x: str = "N,3,4,5") -> Case:
    count = axes.count(",") + 1
    return Case(
        f"y = {op} <{attributes}> (x{', a' if axes else ''})", f"real[{x}] x", f"int64[{count}] a = {{{axes}}}" if axes else "",
        span=(0.3, 2) if op == "ReduceLogSum" else None,
    )  # fmt: skip


REDUCTIONS = {f"{op}-{name}": case for op in REDUCED for name, case in {
    "kept": reduce(op, "keepdims=1", "-2"),
    "dropped": reduce(op, "keepdims=0", "3, 1"),
    "space": reduce(op, "keepdims=0", "2, 3"),
    "total": reduce(op, "keepdims=0", x="2,3,4"),
    "total-kept": reduce(op, "keepdims=1", x="2,3"),
    "nothing": reduce(op, "noop_with_empty_axes=1", x="N,3"),
}.items()} | {
    "ReduceSum-over-the-rows": reduce("ReduceSum", "keepdims=0", "0"),
    "ReduceMax-over-the-rows": reduce("ReduceMax", "keepdims=1", "0, 2"),
    "ReduceL2-over-the-rows": reduce("ReduceL2", "keepdims=1", "0"),
    **{f"{op}-{axis}": Case(f"y = {op} <axis={axis}> (x)", "real[N,3,4] x") for op in ("Softmax", "LogSoftmax") for axis in (-1, 1, 0)},
}  # fmt: skip

STATISTICS = "real[3] s, real[3] b, real[3] m = {0.2, -0.4, 1.0}, real[3] v = {0.5, 1.0, 2.0}"
PER_CHANNEL = "real[3] s = {0.5, -1.0, 2.0}, real[3] b"

NORMS = {
    "batch": Case("y = BatchNormalization (x, s, b, m, v)", "real[N,3,4,5] x", STATISTICS),
    "batch-epsilon": Case("y = BatchNormalization <epsilon=0.3> (x, s, b, m, v)", "real[N,3,4] x", STATISTICS),
    "batch-flat": Case("y = BatchNormalization (x, s, b, m, v)", "real[N,3] x", STATISTICS),
    "layer": Case("y = LayerNormalization (x, s, b)", "real[N,3,5] x", "real[5] s, real[5] b"),
    "layer-no-bias": Case("y = LayerNormalization <axis=2> (x, s)", "real[N,3,5] x", "real[5] s"),
    "layer-two-axes": Case("y = LayerNormalization <axis=1, epsilon=0.2> (x, s, b)", "real[N,3,5] x", "real[3,5] s, real[3,5] b"),
    "layer-scale-spread": Case("y = LayerNormalization <axis=-2> (x, s)", "real[N,3,5] x", "real[3,1] s"),
    "rms": Case("y = RMSNormalization (x, s)", "real[N,3,5] x", "real[5] s", 23),
    "rms-two-axes": Case("y = RMSNormalization <axis=-2, epsilon=0.2> (x, s)", "real[N,3,5] x", "real[3,5] s", 23),
    "instance": Case("y = InstanceNormalization (x, s, b)", "real[N,3,4,5] x", PER_CHANNEL),
    "instance-1d": Case("y = InstanceNormalization <epsilon=0.2> (x, s, b)", "real[N,3,6] x", PER_CHANNEL),
    "group": Case("y = GroupNormalization <num_groups=2> (x, s, b)", "real[N,6,4] x", "real[6] s, real[6] b", 21, "real[N,6,4] y"),
    "group-epsilon": Case("y = GroupNormalization <num_groups=3, epsilon=0.2> (x, s, b)", "real[N,6,2,3] x", "real[6] s, real[6] b", 21, "real[N,6,2,3] y"),
    "group-of-old": Case("y = GroupNormalization <num_groups=2> (x, s, b)", "real[N,6,4] x", "real[2] s, real[2] b", 18, "real[N,6,4] y", until=20, check=False),
    **{f"lp-{p}-{axis}": Case(f"y = LpNormalization <p={p}, axis={axis}> (x)", "real[N,3,4] x") for p in (1, 2) for axis in (1, -1)},
    **{f"local-{size}": Case(f"y = LRN <size={size}, alpha=0.5, beta=0.6, bias=1.5> (x)", "real[N,7,3,3] x") for size in (1, 3, 4, 5)},
    "local-wide": Case("y = LRN <size=9, alpha=0.5> (x)", "real[N,4,2,3] x"),
}  # fmt: skip

AWKWARD = "0.3, 0.7, 5.1, 4.4,  -3, -2.5, 12, 9.5,  2, 2, 2.2, 2.1,  6.5, 5.5, 8.9, 6.9,  4, 4, 1, 1.5,  -9, -9, -4, -3"
"""Regions within (2,3,7,9), around it, between its cells, over its end, turned inside out, and outside."""


def regions(
    attributes: str, sides: str = AWKWARD, samples: str = "0, 1, 1, 0, 1, 0", x: str = "2,3,7,9", opset: int = 18
) -> Case:
    count = len(samples.split(","))
    weights = f"real[{count},4] r = {{{sides}}}, int64[{count}] i = {{{samples}}}"
    return Case(
        f"y = RoiAlign <output_height=2, output_width=3, {attributes}> (x, r, i)", f"real[{x}] x", weights, opset
    )


OF_OLD = 'coordinate_transformation_mode="output_half_pixel"'
REGIONS = {
    **{f"regions-{n}": regions(f"sampling_ratio={n}") for n in (1, 2, 3)},
    **{f"regions-of-old-{n}": regions(f"sampling_ratio={n}, {OF_OLD}") for n in (1, 2)},
    "regions-adaptive": regions("sampling_ratio=0"),
    "regions-adaptive-of-old": regions(f"sampling_ratio=0, {OF_OLD}"),
    "regions-scaled": regions("sampling_ratio=2, spatial_scale=0.7"),
    "regions-scaled-adaptive": regions("spatial_scale=1.3"),
    "regions-of-one-cell": regions("sampling_ratio=2", x="2,1,1,1"),
    "regions-of-no-extent": regions("sampling_ratio=0", "2, 2, 2, 2,  1, 1, 5, 5", "0, 1"),
    "regions-of-some-samples": regions("sampling_ratio=2", "1, 1, 5, 4,  0, 0, 3, 6", "3, 1", "N,2,6,7"),
}

CASES = POOLS | REDUCTIONS | NORMS | REGIONS
