"""Exports the step graph of a model: the score of a masked image and its gradient, which is taken by PyTorch.

    pip install "onnxcam[cpu,torch]"
    python tools/torch_export/export_step.py model.onnx -o step.onnx [--score probability] [--layer NAME] [--size HxW]

    inputs   onnxcam/image (N,C,H,W) in the model's axis order, onnxcam/maps (N,1,h,w), onnxcam/targets (N,) int64
    outputs  onnxcam/score (N,), onnxcam/gradient (N,1,h,w) = d sum(score) / d maps

Sample i's score is that of class targets[i] for image_i * n(up(maps_i)), upsampled and normalised as in
onnxcam/surgeon/graphs/masked_score.py. `onnxcam explain --step step.onnx` uses the graph for methods that search with
gradients. From Python the source may be a torch.nn.Module: `export_step(network, image=(3, 224, 224), grid=(7, 7))`.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
import typer
from onnx_ir.passes import common as passes

from onnxcam.cli.parsing import parse_inputs
from onnxcam.engine.session import Session
from onnxcam.errors import ModelError, OnnxCamError, OptionError
from onnxcam.inputs.choices import choose_inputs, choose_preset, choose_size
from onnxcam.inputs.presets import parse_size
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.outputs.atomic import Staging, check_writable
from onnxcam.resampling import bilinear_matrix, is_small
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.graphs.masked_score import IMAGE, MAPS, TARGETS
from onnxcam.surgeon.graphs.score_gradient import GRADIENT, SCORE
from onnxcam.surgeon.loading import ModelSource, read_model
from onnxcam.types import Arrays, BatchMode, Score


class TorchMissing(OnnxCamError):
    """PyTorch is not installed."""


try:
    import torch
    from onnx_torch import OnnxModule, along
    from step_translation import traced, translated
    from torch import Tensor
except ImportError as error:
    missing = TorchMissing(f'PyTorch cannot be imported ({error}); `pip install "onnxcam[torch]"` brings torch==2.13.0')
    if __name__ == "__main__":
        sys.exit(f"error: {missing}")
    raise missing from None

TRACED_BATCH = 5
"""Samples of the example that is traced. The graph takes any number."""
SCORE_TOLERANCE = 1e-2
"""Share of the largest score by which graph and PyTorch may differ. A wrong graph differs by far more."""
LEAST_COSINE = 0.99
"""Least cosine of the graph's gradient with PyTorch's. Float32 at the kinks of ReLU6 gives 0.9999 and more."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is differentiated. logits: a function of the image tensor (batch first) that returns (N,classes).

    image: shape of one sample; layout: one letter an axis, such as NCHW; activation: 'sigmoid', or softmax if anything
    else.
    """

    logits: Callable[[Tensor], Tensor]
    layout: str
    image: tuple[int, ...]
    grid: tuple[int, ...]
    activation: str
    metadata: Mapping[str, str]

    @property
    def sides(self) -> tuple[int, ...]:
        """The image's spatial sides."""
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
    """The step graph, checked by onnx's checker, and in onnxruntime against PyTorch.

    layer, size, inputs: for an ONNX file, as for an Explainer; the values of inputs are written into the graph.
    image (C,H,W), grid (h,w): for a module in evaluation mode that takes (N,C,H,W) to logits (N,classes). Raises
    OptionError, whatever open_model raises, and ModelError if the gradient cannot be written as ONNX.
    """
    if isinstance(source, torch.nn.Module):
        subject = _of_module(source, image, grid)
    elif image is not None or grid is not None:
        raise OptionError("image and grid are read from an ONNX file; leave them out, or choose a layer")
    else:
        subject = _of_file(source, layer, size, inputs or {})
    if not all(is_small(s, t) for s, t in zip(subject.grid, subject.sides, strict=True)):
        raise OptionError(f"an input of {subject.sides} is too long for a step graph; choose a smaller size")
    step, example = step_of(subject, score), _example(subject, TRACED_BATCH)
    model = translated(traced(step, example), example)
    _finish(model, subject, score)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    _check(proto, step, subject)
    return proto


def _of_file(source: ModelSource, layer: str, size: tuple[int, ...] | None, inputs: Arrays) -> Subject:
    file = read_model(source)
    if size is None:
        image = find_image(file.model)
        size, _ = choose_size(image, None, choose_preset(file, None, image)[0])
    opened = open_model(file, OpenOptions(layer=layer, size=size, inputs=choose_inputs(inputs), providers=("cpu",)))
    opened.network.close()
    anatomy, batching = opened.anatomy, opened.batching
    output = anatomy.logits
    if output.kind is not Kind.CLASSES:
        raise OptionError(f"a step graph scores classes, and {file.name} gives {output.kind} ({output.tensor!r})")
    if batching.mode is BatchMode.LOOPED:
        raise ModelError(f"a step graph takes several pictures, and {file.name} one at a time: {batching.reason}")
    module = OnnxModule(ir.to_proto(opened.model), torch.float32)
    batched = {str(v.name) for v in opened.model.graph.inputs if v.shape and not isinstance(v.shape[0], int)}
    extra = {name: torch.tensor(array) for name, array in opened.inputs.items()}

    def logits(images: Tensor) -> Tensor:
        spread = {n: v.expand(images.shape[0], *v.shape[1:]) if n in batched else v for n, v in extra.items()}
        return module({anatomy.image.name: images, **spread}, [output.tensor])[0].reshape(-1, output.columns)

    activation = "sigmoid" if output.has_sigmoid else output.activation
    sample = anatomy.image.shape(opened.size)[1:]
    metadata = {"onnxcam.model_sha256": file.sha256}
    return Subject(logits, anatomy.image.layout, sample, anatomy.features.grid, activation, metadata)


def _of_module(network: torch.nn.Module, image: tuple[int, ...] | None, grid: tuple[int, ...] | None) -> Subject:
    if image is None or grid is None or len(image) != len(grid) + 1:
        raise OptionError("a torch module needs image=(C,H,W) and grid=(h,w), with as many sides")
    if any(m.training for m in network.modules()):
        raise OptionError("the torch module is in training mode; call eval() on it first")
    layout = "NC" + "DHW"[-len(grid) :]
    with torch.no_grad():
        shape = tuple(network(torch.zeros(2, *image)).shape)
    if len(shape) != 2 or shape[0] != 2:
        raise OptionError(f"the torch module gives {shape} for two images where (2, classes) is needed")
    return Subject(network, layout, tuple(image), tuple(grid), "sigmoid" if shape[1] == 1 else "softmax", {})


def step_of(subject: Subject, score: Score) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The function of (image, maps, targets) that returns (score, gradient), as in the head of this file."""
    matrices = [bilinear_matrix(s, t) for s, t in zip(subject.grid, subject.sides, strict=True)]
    mask_shape = [1 if a == "C" else d for a, d in zip(subject.layout[1:], subject.image, strict=True)]

    def total(maps: Tensor, image: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        up = maps
        for axis, matrix in enumerate(matrices, start=2):
            up = along(up, axis, matrix)
        logits = subject.logits(image * _normalised(up).reshape(-1, *mask_shape))
        if logits.shape[1] == 1:  # the two sides of a single output
            logits = torch.cat([-logits, logits], 1)
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
    """Each map stretched to [0,1]. A constant map becomes ones."""
    space = list(range(2, up.ndim))
    low = up.amin(space, True)
    extent = up.amax(space, True) - low
    flat = 1 - (extent > 0).to(up.dtype)
    return (up - low + flat) / (extent + flat)


def _example(subject: Subject, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """(image, maps, targets): an image of noise, a map of noise and class 0 for each sample."""
    random = torch.Generator().manual_seed(batch)
    image = torch.randn(batch, *subject.image, generator=random)
    maps = torch.rand(batch, 1, *subject.grid, generator=random)
    return image, maps, torch.zeros(batch, dtype=torch.int64)


def _finish(model: onnx_ir.Model, subject: Subject, score: Score) -> None:
    """Names the batch axis N, removes the exporter's notes about itself, and adds the metadata."""
    passes.ClearMetadataAndDocStringPass()(model)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape, value.type = None, None
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.shape is not None
        value.shape = onnx_ir.Shape(["N", *list(value.shape)[1:]])
    model.metadata_props.clear()
    model.metadata_props["onnxcam.step"] = "1"
    model.metadata_props["onnxcam.score"] = str(score)
    model.metadata_props["onnxcam.grid"] = "x".join(map(str, subject.grid))
    model.metadata_props.update(subject.metadata)


def _check(proto: onnx.ModelProto, step: Callable[..., tuple[Tensor, Tensor]], subject: Subject) -> None:
    """Compares the graph with PyTorch at one and at three samples: a wrong operator or a fixed size shows here."""
    session = Session(proto.SerializeToString(), ("cpu",))
    try:
        for batch in (1, 3):
            example = _example(subject, batch)
            feeds = {n: x.numpy() for n, x in zip((IMAGE, MAPS, TARGETS), example, strict=True) if n in session.inputs}
            score, gradient = (a.astype(np.float64) for a in session.run([SCORE, GRADIENT], feeds))
            expected, slope = (x.detach().double().numpy() for x in step(*example))
            near = np.allclose(score, expected, 0, SCORE_TOLERANCE * max(float(np.abs(expected).max()), 1e-6))
            if not near or _cosine(gradient, slope) < LEAST_COSINE:
                raise ModelError(
                    f"the graph that PyTorch wrote gives other numbers than PyTorch itself for {batch} samples"
                )
    finally:
        session.close()


def _cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """The cosine of the angle between a and b; 1 if both are zero."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum() / length) if length else float(not a.any() and not b.any())


def main(
    model: Annotated[Path, typer.Argument(help="The exported ONNX file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of the step graph.")],
    score: Annotated[Score, typer.Option(help="The score that the search raises.")] = Score.LOGIT,
    layer: Annotated[str, typer.Option(help="The feature tensor; the maps have its grid.")] = "auto",
    size: Annotated[str | None, typer.Option(help="Input size, for models that take any: 224 or 224x192.")] = None,
    extra: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=VALUE", help="An extra input of the model.")
    ] = None,
) -> None:
    """Write the step graph of a model: the score of a masked image and its gradient."""
    logging.getLogger("torch").setLevel(logging.ERROR)  # the exporter warns of optional packages
    check_writable([out])
    sides = parse_size(size) if size is not None else None
    proto = export_step(model, score=score, layer=layer, size=sides, inputs=parse_inputs(extra or ()))
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
