"""Cases of operators that move, repeat, index or resample entries."""

from collections.abc import Sequence

from differentiated import TOLERANCE, Case


def ints(name: str, numbers: Sequence[int]) -> str:
    return f"int64[{len(numbers)}] {name} = {{{', '.join(map(str, numbers))}}}"


def with_integers(op: str, x: str, attributes: str = "", opset: int = 18, **numbers: Sequence[int]) -> Case:
    """The operator with lists of integers as its inputs after x."""
    call = f"y = {op} <{attributes}> (x, {', '.join(numbers)})".replace("<>", "").replace(", )", ")")
    return Case(call, f"real[{x}] x", ", ".join(ints(n, v) for n, v in numbers.items()), opset)


def sliced(x: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Case:
    return with_integers("Slice", x, s=starts, e=ends, a=axes, p=steps)


END = 2**63 - 1

SHAPES = {
    "reshape": with_integers("Reshape", "N,3,4", s=[-1, 12]),
    "reshape-0": with_integers("Reshape", "N,3,4", s=[0, 2, 6]),
    "reshape-across": with_integers("Reshape", "N,3,4", s=[-1, 4]),
    "reshape-two-unknown": Case("t = MatMul (x, z) y = Reshape (t, s)", "real[N,3] x, real[3,N] z", ints("s", [-1])),
    **{f"flatten{a}": with_integers("Flatten", "N,3,4", f"axis={a}") for a in (0, 1, 2, 3, -1)},
    "squeeze": with_integers("Squeeze", "N,1,4,1", a=[1, -1]),
    "squeeze-all": with_integers("Squeeze", "2,1,4,1"),
    "unsqueeze": with_integers("Unsqueeze", "N,4", a=[1, -1]),
    "transpose": with_integers("Transpose", "N,3,4", "perm=[2,0,1]"),
    "transpose-turned": with_integers("Transpose", "N,3,4"),
    "expand": with_integers("Expand", "3,1", s=[2, 3, 4]),
    "expand-rows": with_integers("Expand", "N,1,4", s=[1, 3, 1]),
    "expand-by-shape": Case("s = Shape (z) e = Expand (x, s) y = Mul (e, z)", "real[1,3] x, real[N,3] z"),
    "tile": with_integers("Tile", "N,3,4", s=[1, 1, 3]),
    "tile-two": with_integers("Tile", "N,3,4", s=[1, 2, 3]),
    "tile-rows": with_integers("Tile", "2,3,4", s=[2, 1, 1]),
    "concat": Case("y = Concat <axis=1> (a, b, a)", "real[N,2] a, real[N,3] b"),
    "concat-last": Case("y = Concat <axis=-1> (a, b)", "real[N,2,3] a, real[N,2,1] b"),
    "concat-one": Case("y = Concat <axis=1> (a)", "real[N,2] a"),
    "concat-rows": Case("y = Concat <axis=0> (a, b, a)", "real[N,2] a, real[3,2] b"),
    "concat-weight": Case("y = Concat <axis=1> (w, a)", "real[2,3] a", "real[2,2] w"),
    "split": Case("p, q, r = Split <axis=1, num_outputs=3> (x) y = Mul (p, r)", "real[N,9] x"),
    "split-sizes": Case("p, q = Split <axis=-1> (x, s) r = Exp (q) y = Concat <axis=1> (r, p)", "real[N,9] x", ints("s", [2, 7])),
    "split-uneven": Case("p, q = Split <axis=1, num_outputs=2> (x) y = Exp (q)", "real[N,9] x"),
    "depth-to-space": with_integers("DepthToSpace", "N,8,3,2", "blocksize=2"),
    "depth-to-space-crd": with_integers("DepthToSpace", "N,8,3,2", 'blocksize=2, mode="CRD"'),
    "space-to-depth": with_integers("SpaceToDepth", "N,2,6,4", "blocksize=2"),
    "space-to-depth-crd": with_integers("SpaceToDepth", "N,2,6,4", 'blocksize=2, mode="CRD"', 28),
    "triangle": with_integers("Trilu", "N,4,4"),
    "triangle-lower": Case("y = Trilu <upper=0> (x, k)", "real[N,4,5] x", "int64 k = {1}"),
}  # fmt: skip

SLICES = {
    "slice": sliced("N,4,9", [1], [3], [1], [1]),
    "slice-to-the-end": sliced("N,4,9", [2], [END], [2], [1]),
    "slice-two-axes": sliced("N,4,9", [1, 3], [3, 8], [-2, -1], [1, 2]),
    "slice-steps": sliced("N,4,9", [0], [END], [2], [2]),
    "slice-steps-rest": sliced("N,4,9", [1], [-1], [2], [3]),
    "slice-steps-within": sliced("N,9,4", [1], [8], [1], [3]),
    "slice-turned": sliced("N,4,9", [-1], [-100], [1], [-1]),
    "slice-turned-end": sliced("N,4,9", [-1], [-END], [1], [-1]),
    "slice-turned-to-the-second": sliced("N,4,9", [-1], [-4], [1], [-1]),
    "slice-turned-steps": sliced("N,4,9", [3], [0], [1], [-2]),
    "slice-one": sliced("N,4,9", [-2], [-1], [2], [1]),
    "slice-rows-whole": sliced("N,4,9", [0, 1], [END, 3], [0, 1], [1, 1]),
    "slice-no-axes": with_integers("Slice", "3,4,9", s=[0, 1], e=[2, 3]),
    "pad": with_integers("Pad", "N,2,4,5", p=[0, 0, 1, 2, 0, 0, 3, 0]),
    "pad-cuts": with_integers("Pad", "N,2,4,5", p=[0, 0, -1, 2, 0, 0, 3, -2]),
    "pad-axes": Case("y = Pad (x, p, , a)", "real[N,2,4,5] x", f"{ints('p', [1, 2, 3, 0])}, {ints('a', [-1, 2])}"),
    "pad-value": Case("y = Pad (x, p, c)", "real[N,5] x", f"{ints('p', [0, 1, 0, 2])}, real c = {{1.5}}"),
    **{f"pad-{mode}{'-cuts' if cut else ''}": with_integers("Pad", "N,2,4,5", f'mode="{mode}"', 19, p=[0, 0, 1, 2 - cut, 0, 0, 3, -cut])
       for mode in ("reflect", "edge", "wrap") for cut in (0, 3)},
    "pad-reflect-axes": Case('y = Pad <mode="reflect"> (x, p, , a)', "real[N,4,5] x", f"{ints('p', [1, 2, 3, 0])}, {ints('a', [-1, -2])}"),
    "pad-reflect-channels": with_integers("Pad", "N,3,4", 'mode="reflect"', p=[0, 1, 0, 0, 2, 0]),
}  # fmt: skip

WHERE = "half_pixel align_corners asymmetric pytorch_half_pixel half_pixel_symmetric".split()
ROUNDED = "round_prefer_floor floor ceil round_prefer_ceil".split()


def resized(x: str, sizes: Sequence[int], attributes: str) -> Case:
    # onnx's evaluator weighs the four neighbours in float32
    tolerance = 1e-5 if "cubic" in attributes else TOLERANCE
    return Case(f"y = Resize <{attributes}> (x, , , z)", f"real[{x}] x", ints("z", sizes), 19, tolerance=tolerance)


def scaled(x: str, scales: Sequence[float], attributes: str) -> Case:
    numbers = ", ".join(map(str, scales))
    return Case(f"y = Resize <{attributes}> (x, , z)", f"real[{x}] x", f"float[{len(scales)}] z = {{{numbers}}}", 19)


def at(where: str) -> str:
    return f'coordinate_transformation_mode="{where}"'


RESIZED = {
    **{f"resize-nearest-{where}-{how}": resized("1,2,4,4", [1, 2, 9, 8], f'{at(where)}, nearest_mode="{how}"') for where in WHERE for how in ROUNDED},
    **{f"resize-{mode}-{where}": resized("1,2,4,4", [1, 2, 9, 8], f'{at(where)}, mode="{mode}"') for where in WHERE for mode in ("linear", "cubic")},
    **{f"resize-{mode}-smaller": resized("1,1,7,8", [1, 1, 3, 4], f'mode="{mode}"') for mode in ("nearest", "linear", "cubic")},
    **{f"resize-{mode}-scales": scaled("N,2,4,5", [1, 1, 1.7, 0.6], f'mode="{mode}"') for mode in ("nearest", "linear")},
    **{f"resize-scales-{where}": scaled("1,1,4,5", [1, 1, 1.7, 0.6], f'{at(where)}, mode="linear"') for where in WHERE if where != "align_corners"},
    "resize-twice": scaled("N,2,3,4", [1, 1, 2, 3], f'{at("asymmetric")}, nearest_mode="floor"'),
    "resize-twice-centred": scaled("N,2,3,4", [1, 1, 2, 3], 'mode="nearest"'),
    "resize-one-to-the-same-size": scaled("N,1,4,4", [1, 1, 1.2, 1.7], f'{at("asymmetric")}, mode="linear"'),
    "resize-nearly-twice": scaled("N,1,2,3", [1, 1, 2.2, 2.3], f'{at("asymmetric")}, nearest_mode="floor"'),
    "resize-axes": resized("N,2,4,4", [8, 7], 'mode="linear", axes=[2,3]'),
    "resize-axes-turned": resized("N,2,4,5", [8, 7], 'mode="linear", axes=[3,2]'),
    "resize-axes-scales": scaled("N,2,4,5", [0.8, 1.7], 'mode="linear", axes=[3,2]'),
    "resize-not-larger": resized("N,1,4,6", [7, 7], 'mode="linear", axes=[2,3], keep_aspect_ratio_policy="not_larger"'),
    "resize-not-smaller": resized("N,1,4,6", [7, 7], 'mode="linear", axes=[2,3], keep_aspect_ratio_policy="not_smaller"'),
    "resize-cubic-parameters": resized("1,1,4,4", [1, 1, 9, 8], 'mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1'),
    "resize-corners-to-one": resized("1,1,4", [1, 1, 1], f'{at("align_corners")}, mode="linear"'),
    "resize-1d": scaled("N,2,5", [1, 1, 1.6], 'mode="linear"'),
    "resize-3d": scaled("N,1,2,3,2", [1, 1, 2, 1.5, 2], 'mode="linear"'),
    "resize-channels-last": scaled("N,3,4,2", [1, 2, 1.5, 1], 'mode="linear"'),
    "resize-channels-too": resized("2,3,4", [2, 5, 4], 'mode="linear"'),
}  # fmt: skip

PLACES = "int64[3] i = {2, 0, 2}"
DISPUTED = {
    "resize-scales-align_corners": scaled("1,1,4,5", [1, 1, 1.7, 0.6], f'{at("align_corners")}, mode="linear"'),
    "resize-to-the-same-size": scaled("N,1,4,4", [1, 1, 1.2, 1.1], f'{at("asymmetric")}, mode="linear"'),
    "resize-to-one": scaled("N,1,4", [1, 1, 0.3], f'{at("pytorch_half_pixel")}, mode="linear"'),
}
"""Cases where onnxruntime uses the integer sizes, and onnx's evaluator the scales."""

INDEXED = {
    "gather-number": Case("y = Gather <axis=1> (x, i)", "real[N,3,4] x", "int64 i = {-1}"),
    "gather-one": Case("y = Gather <axis=2> (x, i)", "real[N,3,4] x", "int64[1] i = {1}"),
    "gather-one-wide": Case("y = Gather <axis=1> (x, i)", "real[N,3,4] x", "int64[1,1] i = {2}"),
    "gather-twice": Case("y = Gather <axis=1> (x, i)", "real[N,3,4] x", PLACES),
    "gather-first": Case("y = Gather (x, i)", "real[3,4] x", PLACES),
    "gather-columns": Case("y = Gather <axis=1> (x, i)", "real[N,4] x", PLACES),
    "gather-last": Case("y = Gather <axis=-1> (x, i)", "real[N,3,4] x", PLACES),
    "gather-matrix": Case("y = Gather <axis=1> (x, i)", "real[N,3,4] x", "int64[2,2] i = {0, 1, -1, 1}"),
    "gather-int32": Case("y = Gather <axis=1> (x, i)", "real[N,3,4] x", "int32[3] i = {2, 0, -1}"),
    "gather-computed": Case("i = ArgMax <axis=2, keepdims=0> (x) y = Gather <axis=2> (x, i)", "real[2,3,4] x"),
    "gather-rows": Case("y = Gather (x, i)", "real[N,3] x", "int64 i = {1}"),
    "elements": Case("y = GatherElements (x, i)", "real[2,3] x", "int64[2,3] i = {0, 1, 1, -1, 0, 0}"),
    "elements-axis": Case("y = GatherElements <axis=1> (x, i)", "real[2,3] x", "int32[2,2] i = {0, 2, 1, 1}"),
    "gather-nd": Case("y = GatherND (x, i)", "real[2,3,4] x", "int64[2,2] i = {0, 1, 1, 1}"),
    "gather-nd-twice": Case("y = GatherND (x, i)", "real[3,4] x", "int64[3,1] i = {1, 2, -2}"),
    "gather-nd-rows": Case("y = GatherND <batch_dims=1> (x, i)", "real[2,3,4] x", "int64[2,1] i = {2, 1}"),
    "gather-nd-rows-matrix": Case("y = GatherND <batch_dims=1> (x, i)", "real[2,3,4] x", "int64[2,3,2] i = {2, 1, 0, 0, 0, 0, 1, 3, 1, 2, 2, 3}"),
    **{f"scatter-nd-{r}": Case(f'y = ScatterND <reduction="{r}"> (x, i, u)', "real[3,2] x, real[2,2] u", "int64[2,1] i = {1, 0}") for r in ("none", "add")},
    "scatter-nd-entries": Case("y = ScatterND (x, i, u)", "real[3,2] x, real[2] u", "int64[2,2] i = {1, 0, 2, -1}"),
    "scatter-nd-add-twice": Case('y = ScatterND <reduction="add"> (x, i, u)', "real[3,2] x, real[2,2] u", "int64[2,1] i = {1, 1}"),
    **{f"scatter-{r}": Case(f'y = ScatterElements <reduction="{r}"> (x, i, u)', "real[3,2] x, real[2,2] u", "int64[2,2] i = {1, 0, 2, 1}") for r in ("none", "add")},
    "scatter-axis": Case("y = ScatterElements <axis=1> (x, i, u)", "real[2,4] x, real[2,2] u", "int32[2,2] i = {1, 0, 3, -2}"),
    "top": Case("y, i = TopK <axis=1> (x, k)", "real[N,5] x", "int64[1] k = {2}"),
    "top-least": Case("y, i = TopK <largest=0> (x, k)", "real[N,2,5] x", "int64[1] k = {3}"),
    "top-middle": Case("y, i = TopK <axis=-2> (x, k)", "real[N,4,2] x", "int64[1] k = {3}"),
}  # fmt: skip

CASES = SHAPES | SLICES | RESIZED | INDEXED
