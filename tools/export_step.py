"""Write the graph that Opti-CAM steps through, its gradient taken by PyTorch.

    pip install "onnxcam[cpu,torch]"
    python tools/export_step.py model.onnx -o step.onnx [--score probability] [--layer NAME] [--size HxW]

    inputs   onnxcam/image (N,C,H,W) in the model's own axis order, onnxcam/maps (N,1,h,w), onnxcam/targets (N,) int64
    outputs  onnxcam/score (N,), onnxcam/gradient (N,1,h,w) = d sum(score) / d maps

Row i's score is that of class targets[i] for image_i * n(up(maps_i)), as surgeon/masking.py upsamples and normalises.
From Python a torch.nn.Module will do too: `export_step(network, image=(3, 224, 224), grid=(7, 7))`.
"""

import logging
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import typer
from onnx_ir.passes import common as passes

from onnxcam.arrays import Score
from onnxcam.cli.wanted import parse_inputs
from onnxcam.engine.session import Session
from onnxcam.errors import ModelError, OnnxCamError, OptionError
from onnxcam.intake import choose_inputs, choose_preset, choose_size
from onnxcam.preparation import Arrays, Wish, open_network
from onnxcam.preprocess import parse_size
from onnxcam.resampling import bilinear_matrix, is_small
from onnxcam.staging import Staging, check_writable
from onnxcam.surgeon import graph
from onnxcam.surgeon.anatomy import Kind
from onnxcam.surgeon.loading import ModelSource, read_model
from onnxcam.surgeon.locate import find_image
from onnxcam.surgeon.masking import IMAGE, MAPS, TARGETS


class TorchMissing(OnnxCamError):
    """PyTorch is not installed."""


try:
    import torch
    from onnx_torch import OnnxModule, along
    from torch import Tensor
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import (
        DimDynamic,
        GuardOnDataDependentSymNode,
        ShapeEnv,
        StatelessSymbolicContext,
    )
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as error:
    missing = TorchMissing(f'PyTorch cannot be imported ({error}); `pip install "onnxcam[torch]"` brings torch==2.13.0')
    if __name__ == "__main__":
        sys.exit(f"error: {missing}")
    raise missing from None

SCORE, GRADIENT = "onnxcam/score", "onnxcam/gradient"
OPSET = 18
"""That of PyTorch's translations; others are converted from it."""
ROWS = 5
"""Of the example that is traced; no number of rows is written into the graph."""
SCORE_TOLERANCE = 1e-2
"""Of the largest score, between the graph and PyTorch; a wrong graph differs by far more."""
LEAST_COSINE = 0.99
"""Of a row's gradient with PyTorch's; float32 at the kinks of ReLU6 gives 0.9999 and more."""

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Subject:
    """What is differentiated. logits: images, batch first, to (N,classes).

    image: shape of one row; layout: one letter an axis, e.g. NCHW; activation: 'sigmoid', anything else is softmax.
    """

    logits: Callable[[Tensor], Tensor]
    layout: str
    image: tuple[int, ...]
    grid: tuple[int, ...]
    activation: str
    metadata: Mapping[str, str]

    @property
    def sides(self) -> tuple[int, ...]:
        return tuple(d for letter, d in zip(self.layout[1:], self.image, strict=True) if letter != "C")


def export_step(
    source: ModelSource | torch.nn.Module,
    *,
    score: Score = Score.LOGIT,
    layer: str = "auto",
    size: tuple[int, ...] | None = None,
    inputs: Arrays | None = None,
    image: tuple[int, ...] | None = None,
    grid: tuple[int, ...] | None = None,
) -> onnx.ModelProto:
    """The step graph, checked with onnx's checker and against PyTorch in onnxruntime.

    layer, size, inputs: of an ONNX file, as an Explainer takes them; the values of inputs are written into the graph.
    image (C,H,W), grid (h,w): of a module in evaluation mode that takes (N,C,H,W) to logits (N,classes). Raises
    OptionError, what open_network raises, and ModelError where the gradient cannot be written as ONNX.
    """
    if isinstance(source, torch.nn.Module):
        subject = _of_module(source, image, grid)
    elif image is not None or grid is not None:
        raise OptionError("image and grid are read from an ONNX file; leave them out, or choose a layer")
    else:
        subject = _of_file(source, layer, size, inputs or {})
    if not all(is_small(s, t) for s, t in zip(subject.grid, subject.sides, strict=True)):
        raise OptionError(f"an input of {subject.sides} is too long for a step graph; choose a smaller size")
    step, example = step_of(subject, score), _example(subject, ROWS)
    model = _translated(_traced(step, example), example)
    _finish(model, subject, score)
    proto = graph.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    _check(proto, step, subject)
    return proto


def _of_file(source: ModelSource, layer: str, size: tuple[int, ...] | None, inputs: Arrays) -> Subject:
    file = read_model(source)
    if size is None:
        picture = find_image(graph.from_proto(file.proto))
        size, _ = choose_size(picture, None, choose_preset(file, None, picture)[0])
    opened = open_network(file, Wish(layer=layer, size=size, inputs=choose_inputs(inputs), providers=("cpu",)))
    opened.network.close()
    anatomy, batching = opened.anatomy, opened.batching
    found = anatomy.logits
    if found.kind is not Kind.CLASSES:
        raise OptionError(f"a step graph scores classes, and {file.name} gives {found.kind} ({found.tensor!r})")
    if batching.mode == "looped":
        raise ModelError(f"a step graph takes several pictures, and {file.name} one at a time: {batching.reason}")
    module = OnnxModule(graph.to_proto(opened.model), torch.float32)
    batched = {str(v.name) for v in opened.model.graph.inputs if v.shape and not isinstance(v.shape[0], int)}
    further = {name: torch.tensor(array) for name, array in opened.inputs.items()}

    def logits(images: Tensor) -> Tensor:
        spread = {n: v.expand(images.shape[0], *v.shape[1:]) if n in batched else v for n, v in further.items()}
        return module({anatomy.image.name: images, **spread}, [found.tensor])[0].reshape(-1, found.classes)

    activation = "sigmoid" if found.classes == 1 else found.activation
    row = anatomy.image.shape(opened.size)[1:]
    metadata = {"onnxcam.model_sha256": file.sha256}
    return Subject(logits, anatomy.image.layout, row, anatomy.features.grid, activation, metadata)


def _of_module(network: torch.nn.Module, image: tuple[int, ...] | None, grid: tuple[int, ...] | None) -> Subject:
    if image is None or grid is None or len(image) != len(grid) + 1:
        raise OptionError("a torch module needs image=(C,H,W) and grid=(h,w), with as many sides")
    if any(m.training for m in network.modules()):
        raise OptionError("the torch module is in training mode; call eval() on it first")
    layout = "NC" + "DHW"[-len(grid) :]
    with torch.no_grad():
        shape = tuple(network(torch.zeros(2, *image)).shape)
    if len(shape) != 2 or shape[0] != 2:
        raise OptionError(f"the torch module gives {shape} for two pictures where (2, classes) is needed")
    return Subject(network, layout, tuple(image), tuple(grid), "sigmoid" if shape[1] == 1 else "softmax", {})


def step_of(subject: Subject, score: Score) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(image, maps, targets) to (score, gradient), as the module's head says."""
    matrices = [bilinear_matrix(s, t) for s, t in zip(subject.grid, subject.sides, strict=True)]
    row = [1 if a == "C" else d for a, d in zip(subject.layout[1:], subject.image, strict=True)]

    def total(maps: Tensor, image: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        up = maps
        for axis, matrix in enumerate(matrices, start=2):
            up = along(up, axis, matrix)
        logits = subject.logits(image * _normalised(up).reshape(-1, *row))
        if score is Score.PROBABILITY:
            logits = torch.sigmoid(logits) if subject.activation == "sigmoid" else torch.softmax(logits, 1)
        scores = logits.gather(1, targets[:, None])[:, 0]
        return scores.sum(), scores

    def step(image: Tensor, maps: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # Not torch.func.grad: it replays views by as_strided, which ONNX does not have.
        with torch.enable_grad():
            leaf = maps.detach().requires_grad_()
            summed, scores = total(leaf, image, targets)
        (gradient,) = torch.autograd.grad(summed, leaf)
        return scores.detach(), gradient

    return step


def _normalised(up: Tensor) -> Tensor:
    """Min-max to [0,1] over each map; a constant map becomes ones."""
    space = list(range(2, up.ndim))
    low = up.amin(space, True)
    extent = up.amax(space, True) - low
    flat = 1 - (extent > 0).to(up.dtype)
    return (up - low + flat) / (extent + flat)


def _example(subject: Subject, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """A picture of noise, a map of noise and the class 0 in every row."""
    random = torch.Generator().manual_seed(rows)
    image = torch.randn(rows, *subject.image, generator=random)
    maps = torch.rand(rows, 1, *subject.grid, generator=random)
    return image, maps, torch.zeros(rows, dtype=torch.int64)


# ---- From Python to a graph -----------------------------------------------------------------------------------------


def _traced(step: Callable[..., Any], example: Sequence[Tensor]) -> torch.fx.GraphModule:
    """The gradient's operators written out; of all sizes only the number of rows is left open."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)

    def open_rows(x: Tensor) -> Tensor:
        sizes = [DimDynamic.DYNAMIC, *[DimDynamic.STATIC] * (x.ndim - 1)]
        return mode.from_tensor(x, symbolic_context=StatelessSymbolicContext(sizes))

    table = {**torch._decomp.core_aten_decompositions(), **DECOMPOSITIONS}
    tracer = make_fx(step, decomposition_table=table, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    try:
        with sdpa_kernel(SDPBackend.MATH):  # attention in one operator has a gradient in one operator
            return tracer(*map(open_rows, example))
    except (NotImplementedError, GuardOnDataDependentSymNode) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ModelError(f"the gradient cannot be traced through {reason}; use a gradient-free method") from None


def _translated(traced: torch.fx.GraphModule, example: Sequence[Tensor]) -> ir.Model:
    rows = torch.export.Dim("N", min=1)
    with warnings.catch_warnings(action="ignore"):  # what matters is checked afterwards
        program = torch.export.export(traced, tuple(example), dynamic_shapes=tuple({0: rows} for _ in example))
        try:
            translated = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGE, MAPS, TARGETS],
                output_names=[SCORE, GRADIENT],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = next((t for t in str(error).splitlines() if "No ONNX function" in t), str(error).splitlines()[0])
            raise ModelError(
                f"PyTorch cannot write this gradient as ONNX ({reason.strip()[:200]}); use a gradient-free method"
            ) from None
    assert translated is not None
    return translated.model


def _finish(model: ir.Model, subject: Subject, score: Score) -> None:
    """Names the open axis, drops what the exporter noted about itself, and adds the metadata."""
    passes.ClearMetadataAndDocStringPass()(model)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape, value.type = None, None
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.shape is not None
        value.shape = ir.Shape(["N", *list(value.shape)[1:]])
    model.metadata_props.clear()
    model.metadata_props["onnxcam.step"] = "1"
    model.metadata_props["onnxcam.score"] = str(score)
    model.metadata_props["onnxcam.grid"] = "x".join(map(str, subject.grid))
    model.metadata_props.update(subject.metadata)


def _check(proto: onnx.ModelProto, step: Callable[..., tuple[Tensor, Tensor]], subject: Subject) -> None:
    """One row and three against PyTorch: an operator may have been translated wrongly, or a size be written in."""
    session = Session(proto.SerializeToString(), ("cpu",))
    try:
        for rows in (1, 3):
            example = _example(subject, rows)
            feeds = {n: x.numpy() for n, x in zip((IMAGE, MAPS, TARGETS), example, strict=True) if n in session.inputs}
            score, gradient = (a.astype(np.float64) for a in session.run([SCORE, GRADIENT], feeds))
            wanted, slope = (x.detach().double().numpy() for x in step(*example))
            near = np.allclose(score, wanted, 0, SCORE_TOLERANCE * max(float(np.abs(wanted).max()), 1e-6))
            if not near or _cosine(gradient, slope) < LEAST_COSINE:
                raise ModelError(f"the graph that PyTorch wrote gives other numbers than PyTorch itself at {rows} rows")
    finally:
        session.close()


def _cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """1 where both are zero."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum() / length) if length else float(not a.any() and not b.any())


# ---- Gradients that PyTorch leaves in one operator ------------------------------------------------------------------

Sizes = Sequence[int]


def convolution_backward(
    dy: Tensor, x: Tensor, w: Tensor, bias: Sizes | None, stride: Sizes, padding: Sizes, dilation: Sizes,
    transposed: bool, output_padding: Sizes, groups: int, wanted: Sequence[bool],
) -> tuple[Tensor, None, None]:  # fmt: skip
    """Of the data only: the transposed convolution, at stride 1 a plain one over flipped weights, faster on CPUs."""
    assert not any(wanted[1:]), "weights are constants"
    none = [0] * len(stride)
    if transposed:
        return aten.convolution(dy, w, None, stride, padding, dilation, False, none, groups), None, None
    around = [d * (k - 1) - p for d, k, p in zip(dilation, w.shape[2:], padding, strict=True)]
    if all(s == 1 for s in stride) and min(around) >= 0:
        flipped = _turned(w, groups)
        return aten.convolution(dy, flipped, None, stride, around, dilation, False, none, groups), None, None
    sides = zip(x.shape[2:], dy.shape[2:], stride, around, padding, strict=True)
    # A convolution may leave the last rows of its input out; their gradient is zero.
    left = [n - ((m - 1) * s + a - p + 1) for n, m, s, a, p in sides]
    return aten.convolution(dy, w, None, stride, padding, dilation, True, left, groups), None, None


def _turned(w: Tensor, groups: int) -> Tensor:
    """(out, in/groups, *kernel) to (in, out/groups, *kernel), the kernel backwards."""
    out, inner, *kernel = w.shape
    axes = [i for i in range(2, w.ndim) if w.shape[i] > 1]
    backwards = w.flip(axes) if axes else w
    swapped = backwards.reshape(groups, out // groups, inner, *kernel).transpose(1, 2)
    return swapped.reshape(groups * inner, out // groups, *kernel)


def average_pool_backward(
    dy: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool, count_include_pad: bool,
    divisor: int | None,
) -> Tensor:  # fmt: skip
    """A mean over windows is a matrix an axis; the gradient is their transposes."""
    rank = len(kernel)
    for i in range(rank):
        source, target = x.shape[i - rank], dy.shape[i - rank]
        matrix = np.zeros((target, source))
        for j in range(target):
            start = j * (stride or kernel)[i] - padding[i]
            end = min(start + kernel[i], source + padding[i])
            cells = range(max(start, 0), min(end, source))
            matrix[j, cells] = 1 / (end - start if count_include_pad else len(cells)) if not divisor else 1
        dy = along(dy, dy.ndim - rank + i, matrix.T)
    return dy / divisor if divisor else dy


def _adaptive(source: int, target: int) -> npt.NDArray[np.float64]:
    matrix = np.zeros((target, source))
    for j in range(target):
        cells = range(j * source // target, -(-(j + 1) * source // target))
        matrix[j, cells] = 1 / len(cells)
    return matrix


def adaptive_average_pool(x: Tensor, sizes: Sizes) -> Tensor:
    rank = len(sizes)
    for axis, target in enumerate(sizes, start=x.ndim - rank):
        x = along(x, axis, _adaptive(x.shape[axis], target))
    return x


def adaptive_average_pool_backward(dy: Tensor, x: Tensor) -> Tensor:
    for axis in range(2, x.ndim):
        dy = along(dy, axis, _adaptive(x.shape[axis], dy.shape[axis]).T)
    return dy


def max_pool_backward(dy: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes,
                      ceil_mode: bool, indices: Tensor) -> Tensor:  # fmt: skip
    """Each window's to the place of its maximum; indices count within a map."""
    places = math.prod(x.shape[2:])
    flat = torch.zeros_like(x).reshape(*x.shape[:2], places)
    spread = flat.scatter_add(2, indices.reshape(*x.shape[:2], -1), dy.reshape(*x.shape[:2], -1))
    return spread.reshape(x.shape)


DECOMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: convolution_backward,
    aten.avg_pool2d_backward.default: average_pool_backward,
    aten.avg_pool3d_backward.default: average_pool_backward,
    aten._adaptive_avg_pool2d.default: adaptive_average_pool,
    aten._adaptive_avg_pool3d.default: adaptive_average_pool,
    aten._adaptive_avg_pool2d_backward.default: adaptive_average_pool_backward,
    aten._adaptive_avg_pool3d_backward.default: adaptive_average_pool_backward,
    aten.max_pool2d_with_indices_backward.default: max_pool_backward,
    aten.max_pool3d_with_indices_backward.default: max_pool_backward,
}


def main(
    model: Annotated[Path, typer.Argument(help="The exported ONNX file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the step graph goes.")],
    score: Annotated[Score, typer.Option(help="What is raised.")] = Score.LOGIT,
    layer: Annotated[str, typer.Option(help="The feature map whose grid the maps have.")] = "auto",
    size: Annotated[str | None, typer.Option(help="Input size for models that take any: 224, or 224x192.")] = None,
    further: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=VALUE", help="A further input of the model.")
    ] = None,
) -> None:
    """Write the step graph of a model."""
    logging.getLogger("torch").setLevel(logging.ERROR)  # the exporter names what else could be installed
    check_writable([out])
    sides = parse_size(size) if size is not None else None
    proto = export_step(model, score=score, layer=layer, size=sides, inputs=parse_inputs(further or ()))
    with Staging() as staging:
        staging.stage(out, proto.SerializeToString(deterministic=True))
        staging.commit()
    grid = next(p.value for p in proto.metadata_props if p.key == "onnxcam.grid")
    print(f"{out}: {score.value} and its gradient, maps of {grid}, {len(proto.graph.node)} operators")


if __name__ == "__main__":
    try:
        typer.run(main)
    except OnnxCamError as error:
        sys.exit(f"error: {error}")
