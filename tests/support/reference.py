"""Reference implementations in numpy of operators that onnx's evaluator lacks, gets wrong, or computes in float32.

Each follows the operator's specification and keeps the element type of its input. Its docstring says what is wrong with
onnx's. REFERENCE_OPS lists them for ReferenceEvaluator(new_ops=...).
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from onnx.reference.op_run import OpRun

MICROSOFT = "com.microsoft"
Array = np.ndarray
Results = tuple[Array]


class Erf(OpRun):
    """onnx computes in float32."""

    op_domain = ""

    def _run(self, x: Array) -> Results:
        return (np.asarray(np.vectorize(math.erf)(x), x.dtype),)


class Gelu(OpRun):
    """onnx uses its Erf, in float32."""

    op_domain = ""

    def _run(self, x: Array, approximate: str = "none") -> Results:
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
        return (x / 2 * (1 + np.asarray(np.vectorize(math.erf)(x / math.sqrt(2)), x.dtype)),)


class QuickGelu(OpRun):
    op_domain = MICROSOFT

    def _run(self, x: Array, alpha: float = 1.702) -> Results:
        return (x / (1 + np.exp(-alpha * x)),)


class BiasGelu(OpRun):
    op_domain = MICROSOFT

    def _run(self, x: Array, bias: Array) -> Results:
        u = x + bias
        return (u / 2 * (1 + np.asarray(np.vectorize(math.erf)(u / math.sqrt(2)), u.dtype)),)


class FusedMatMul(OpRun):
    op_domain = MICROSOFT

    def _run(self, a: Array, b: Array, alpha: float = 1.0, transA: int = 0, transB: int = 0) -> Results:  # noqa: N803
        return (alpha * (np.swapaxes(a, -1, -2) if transA else a) @ (np.swapaxes(b, -1, -2) if transB else b),)


class Conv(OpRun):
    """onnx before 1.23 pads SAME_UPPER, SAME_LOWER and VALID wrongly. Every place of the kernel adds scaled entries."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        auto_pad: str = "NOTSET",
        dilations: Sequence[int] | None = None,
        group: int = 1,
        kernel_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> Results:
        return (convolved(x, w, b, auto_pad, dilations, group, pads, strides),)


def convolved(
    x: Array,
    w: Array,
    b: Array | None = None,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    space, sizes, kernel = x.ndim - 2, x.shape[2:], w.shape[2:]
    strides, dilations = strides or [1] * space, dilations or [1] * space
    before, after = ([0] * space, [0] * space) if not pads else (pads[:space], pads[space:])
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    if auto_pad.startswith("SAME"):
        total = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(sizes, strides, reach, strict=True)]
        smaller, larger = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
    x = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    counts = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    y = np.zeros((len(x), len(w), *counts), x.dtype)
    outputs, inputs = len(w) // group, w.shape[1]
    for g, at in product(range(group), np.ndindex(*kernel)):
        of_inputs, of_outputs = slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)
        places = [
            slice(k * d, k * d + (c - 1) * s + 1, s) for k, d, c, s in zip(at, dilations, counts, strides, strict=True)
        ]
        entries = x[(slice(None), of_inputs, *places)]
        y[:, of_outputs] += np.einsum("nc...,mc->nm...", entries, w[(of_outputs, slice(None), *at)])
    return y if b is None else y + b.reshape(1, -1, *[1] * space)


class FusedConv(OpRun):
    op_domain = MICROSOFT

    def _run(
        self,
        x: Array,
        w: Array,
        b: Array,
        z: Array | None = None,
        activation: str = "",
        activation_params: Sequence[float] = (),
        pads: Sequence[int] = (),
        strides: Sequence[int] = (),
    ) -> Results:
        y = convolved(x, w, b, pads=pads, strides=strides)
        y = y if z is None else y + z
        activated = {
            "": lambda: y,
            "Relu": lambda: np.maximum(y, 0),
            "LeakyRelu": lambda: np.where(y > 0, y, activation_params[0] * y),
            "Clip": lambda: np.clip(y, *activation_params),
            "Sigmoid": lambda: 1 / (1 + np.exp(-y)),
            "Tanh": lambda: np.tanh(y),
            "HardSigmoid": lambda: np.clip(activation_params[0] * y + activation_params[1], 0, 1),
        }
        return (activated[activation](),)


class Mean(OpRun):
    """onnx adds in place to the first input, which cannot broadcast."""

    op_domain = ""

    def _run(self, *inputs: Array) -> Results:
        return (np.asarray(sum(inputs[1:], inputs[0]) / len(inputs)),)


class LRN(OpRun):
    """onnx confuses the batch axis with the channels."""

    op_domain = ""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> Results:
        before, after = math.floor((size - 1) / 2), math.ceil((size - 1) / 2)
        squares = [(x[:, max(c - before, 0) : c + after + 1] ** 2).sum(axis=1) for c in range(x.shape[1])]
        return (x / (bias + alpha / size * np.stack(squares, axis=1)) ** beta,)


class LpNormalization(OpRun):
    """onnx omits the absolute value for p = 1."""

    op_domain = ""

    def _run(self, x: Array, axis: int, p: int) -> Results:
        length = (np.abs(x) ** p).sum(axis=axis, keepdims=True) ** (1 / p)
        return (np.divide(x, length, out=np.zeros_like(x), where=length != 0),)


class GlobalLpPool(OpRun):
    op_domain = ""

    def _run(self, x: Array, p: int) -> Results:
        return ((np.abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p),)


class GlobalMaxPool(OpRun):
    """onnx supports two spatial axes only."""

    op_domain = ""

    def _run(self, x: Array) -> Results:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class MaxPool(OpRun):
    """onnx confuses asymmetric pads. Returns the first of equal maxima, and flat indices over the tensor."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        auto_pad: str = "NOTSET",
        ceil_mode: int = 0,
        dilations: Sequence[int] | None = None,
        kernel_shape: Sequence[int] = (),
        pads: Sequence[int] | None = None,
        storage_order: int = 0,
        strides: Sequence[int] | None = None,
    ) -> tuple[Array, Array]:
        space, sizes = x.ndim - 2, x.shape[2:]
        strides, dilations = strides or [1] * space, dilations or [1] * space
        before, after = ([0] * space, [0] * space) if not pads else (pads[:space], pads[space:])
        reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel_shape, strict=True)]
        if auto_pad.startswith("SAME"):
            counts = [math.ceil(n / s) for n, s in zip(sizes, strides, strict=True)]
            total = [max((c - 1) * s + r - n, 0) for c, s, r, n in zip(counts, strides, reach, sizes, strict=True)]
            before = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
        else:
            spans = [n + p + q for n, p, q in zip(sizes, before, after, strict=True)]
            rounded = math.ceil if ceil_mode else math.floor
            counts = [rounded((span - r) / s) + 1 for span, r, s in zip(spans, reach, strides, strict=True)]
            # No window starts in the padding at the end.
            counts = [c - ((c - 1) * s >= n + p) for c, s, n, p in zip(counts, strides, sizes, before, strict=True)]
        numbers = np.arange(x.size).reshape(x.shape)
        y, places = np.zeros((*x.shape[:2], *counts), x.dtype), np.zeros((*x.shape[:2], *counts), np.int64)
        for at in np.ndindex(*counts):
            window = [
                [i for i in range(a * s - p, a * s - p + r, d) if 0 <= i < n]
                for a, s, p, r, d, n in zip(at, strides, before, reach, dilations, sizes, strict=True)
            ]
            chosen = (slice(None), slice(None), *np.ix_(*window))
            entries, indices = x[chosen].reshape(*x.shape[:2], -1), numbers[chosen].reshape(*x.shape[:2], -1)
            first = entries.argmax(axis=2)[..., None]
            y[(..., *at)] = np.take_along_axis(entries, first, 2)[..., 0]
            places[(..., *at)] = np.take_along_axis(indices, first, 2)[..., 0]
        return y, places


class GroupNormalization(OpRun):
    """onnx refuses the form up to opset 20 as deprecated (one scale per group; later one per channel)."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
    ) -> Results:
        grouped = x.reshape(len(x), num_groups, -1)
        centred = grouped - grouped.mean(axis=2, keepdims=True)
        z = (centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + epsilon)).reshape(x.shape)
        wide = [np.repeat(a, x.shape[1] // len(a)).reshape(1, -1, *[1] * (x.ndim - 2)) for a in (scale, bias)]
        return (z * wide[0] + wide[1],)


class Pad(OpRun):
    """onnx refuses negative pads, which crop."""

    op_domain = ""

    def _run(
        self, x: Array, pads: Array, value: Array | None = None, axes: Array | None = None, mode: str = "constant"
    ) -> Results:
        chosen = range(x.ndim) if axes is None else axes
        for axis, before, after in zip(chosen, *np.split(pads, 2), strict=True):
            kept = range(max(-before, 0), x.shape[axis] - max(-after, 0))
            width = [(0, 0)] * x.ndim
            width[axis] = (max(before, 0), max(after, 0))
            filled = {"constant_values": 0 if value is None else value} if mode == "constant" else {}
            x = np.pad(np.take(x, kept, axis), width, mode, **filled)  # type: ignore[call-overload]
        return (x,)


class ConvTranspose(OpRun):
    """onnx lacks groups and SAME_LOWER with an output_shape. Every entry adds a scaled kernel to the output."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        auto_pad: str = "NOTSET",
        dilations: Sequence[int] | None = None,
        group: int = 1,
        kernel_shape: Sequence[int] | None = None,
        output_padding: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> Results:
        space = x.ndim - 2
        strides, dilations = strides or [1] * space, dilations or [1] * space
        extra, pads = output_padding or [0] * space, list(pads or [0] * 2 * space)
        sizes, kernel = x.shape[2:], w.shape[2:]
        full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)]
        full = [f + e for f, e in zip(full, extra, strict=True)]
        if auto_pad.startswith("SAME") and not output_shape:
            output_shape = [n * s for n, s in zip(sizes, strides, strict=True)]
        if output_shape:
            total = [f - o for f, o in zip(full, output_shape, strict=True)]
            smaller, larger = [t // 2 for t in total], [t - t // 2 for t in total]
            pads = smaller + larger if auto_pad == "SAME_UPPER" else larger + smaller
        outputs = w.shape[1]
        y = np.zeros((len(x), group * outputs, *full), x.dtype)
        for g, at in product(range(group), np.ndindex(*kernel)):
            of_group = slice(g * w.shape[0] // group, (g + 1) * w.shape[0] // group)
            scaled = np.einsum("nc...,cm->nm...", x[:, of_group], w[(of_group, slice(None), *at)])
            places = [
                slice(k * d, k * d + (n - 1) * s + 1, s)
                for k, d, n, s in zip(at, dilations, sizes, strides, strict=True)
            ]
            y[(slice(None), slice(g * outputs, (g + 1) * outputs), *places)] += scaled
        kept = [slice(p, f - q) for p, q, f in zip(pads[:space], pads[space:], full, strict=True)]
        y = y[(slice(None), slice(None), *kept)]
        return (y if b is None else y + b.reshape(1, -1, *[1] * space),)


REFERENCE_OPS = [
    Erf, Gelu, Mean, LRN, LpNormalization, GlobalLpPool, GlobalMaxPool, MaxPool, GroupNormalization, Pad, Conv,
    ConvTranspose, QuickGelu, BiasGelu, type("Gelu", (Gelu,), {"op_domain": MICROSOFT}), FusedMatMul, FusedConv,
]  # fmt: skip
