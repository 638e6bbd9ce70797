"""`onnxcam explain`: pictures in, saliency maps out."""

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from onnxcam.cli import options
from onnxcam.cli.options import EngineArgs, path_of, words
from onnxcam.cli.parsing import METHOD, MethodArgs, ParsedTargets, TargetArgs, build_method, parse_inputs, wanted
from onnxcam.cli.progress import Advance, progress_bar
from onnxcam.cli.summary import summary
from onnxcam.errors import OnnxCamError, PictureError

if TYPE_CHECKING:
    import numpy.typing as npt

    from onnxcam.explainer.explainer import Explainer
    from onnxcam.explainer.results import ForwardPass
    from onnxcam.inputs.presets import Preset
    from onnxcam.methods.blocks import Method
    from onnxcam.outputs.overlay import Style
    from onnxcam.outputs.saliency import Saliency


@dataclass(frozen=True)
class Request:
    """One call of the command, words not yet looked up."""

    model: Path
    images: tuple[Path, ...]
    words: TargetArgs = field(default_factory=TargetArgs)
    inputs: tuple[str, ...] = ()
    layer: str = "auto"
    method: MethodArgs = field(default_factory=MethodArgs)
    preset: str | None = None
    mean: str | None = None
    std: str | None = None
    scale: str | None = None
    size: str | None = None
    crop: str | None = None
    color: str | None = None
    layout: str | None = None
    labels: str | None = None
    providers: str = "auto"
    batch: int | None = None
    threads: int | None = None
    output: str | None = None
    format: str | None = None
    colormap: str | None = None
    alpha: float | None = None
    caption: bool = True
    keep_going: bool = False
    quiet: bool = False
    json: bool = False
    engine: EngineArgs = field(default_factory=EngineArgs)


def explain(
    model: options.ModelPath,
    images: options.Images,
    target: options.Target = None,
    model_output: options.Output = None,
    index: options.Index = None,
    box: options.Box = None,
    region: options.Region = None,
    reference: options.Reference = None,
    extra: options.Input = None,
    method: options.Method = METHOD,
    convention: options.Convention = None,
    variant: options.Variant = None,
    fill: options.Fill = None,
    option: options.MethodOption = None,
    budget: options.Budget = None,
    tolerance: options.Tolerance = None,
    fast: options.Fast = False,
    step: options.Step = None,
    layer: options.Layer = "auto",
    preset: options.Preset = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = None,
    size: options.Size = None,
    crop: options.Crop = None,
    color: options.Color = None,
    layout: options.Layout = None,
    labels: options.Labels = None,
    providers: options.Providers = "auto",
    batch: options.Batch = None,
    threads: options.Threads = None,
    gpu_mem: options.GpuMem = None,
    half: options.Half = False,
    tf32: options.Tf32 = False,
    cuda_graph: options.CudaGraph = False,
    output: options.Out = None,
    format: options.Format = None,
    colormap: options.Colormap = None,
    alpha: options.Alpha = None,
    caption: options.Caption = True,
    keep_going: options.KeepGoing = False,
    quiet: options.Quiet = False,
    json_output: options.Json = False,
) -> None:
    """Write a heat map over each picture that shows where the model saw the class.

    All files of a call are written together at its end, or none is. `onnxcam methods` lists the methods.
    """
    words = TargetArgs(
        tuple(target or ()), model_output, tuple(index or ()), tuple(box or ()), region, tuple(reference or ())
    )
    carry_out(
        Request(
            path_of(model), tuple(map(path_of, images)), words, tuple(extra or ()), layer,
            MethodArgs(method, convention, variant, fill, tuple(option or ()), step, budget, tolerance, fast),
            preset, mean, std, scale, size, crop, color, layout, labels, providers, batch, threads, output, format,
            colormap, alpha, caption, keep_going, quiet, json_output,
            EngineArgs(gpu_mem, half, tf32, cuda_graph),
        )
    )  # fmt: skip


def carry_out(request: Request) -> None:
    """Explain, write all files together, print. Raises OnnxCamError before anything was written."""
    from onnxcam.methods import METHODS
    from onnxcam.outputs.atomic import Staging, check_writable
    from onnxcam.outputs.formats import FORMATS
    from onnxcam.outputs.paths import plan
    from onnxcam.outputs.record import record

    style = _style(request)
    formats = words(request.format, "format") if request.format is not None else None
    asked = wanted(request.words)
    failures: list[OnnxCamError] = []
    images = _pictures(request, failures)
    given = len(images) + len(failures)
    method = build_method(request.method)
    if any(given.is_dir() for given in request.images):
        made = tuple(f".{name}.png" for name in METHODS)
        images = [i for i in images if not i.name.endswith(made)] or images  # of an earlier call
    slugs = list(asked.names) if len(asked.names) > 1 else [""]
    files = plan(images, [slugs] * len(images), method.name, formats, request.output, protected=[request.model])
    check_writable(path for targets_ in files for paths in targets_ for path in paths.values())
    done: list[tuple[Saliency, dict[str, Any]]] = []
    with (
        open_explainer(request, asked, method) as explainer,
        Staging() as staging,
        progress_bar(len(images), quiet=request.quiet) as advance,
        closing(_explained(explainer, images, asked, advance, keep_going=request.keep_going)) as each,
    ):
        for paths_of, explained in zip(files, each, strict=True):
            if isinstance(explained, OnnxCamError):
                if not request.keep_going:
                    raise explained
                failures.append(explained)
                continue
            picture, found = explained
            for saliency, paths in zip(found, paths_of, strict=True):
                for form, path in paths.items():
                    staging.stage(path, FORMATS[form].write(saliency, picture, style))
                done.append((saliency, record(saliency, paths.values())))
        staging.commit()
    _report(request, done)
    if failures:
        raise _skipped(failures, given)


def _explained(
    explainer: "Explainer", images: Sequence[Path], asked: ParsedTargets, advance: Advance, *, keep_going: bool
) -> "Generator[tuple[npt.NDArray[Any], list[Saliency]] | OnnxCamError, None, None]":
    """Each picture with its maps, or what went wrong with it; the next ones are looked at while some are scored.

    Without keep_going, a picture that cannot be looked at is raised before others are explained for nothing.
    """
    from onnxcam.explainer.prefetch import ahead, grouped

    groups = grouped(enumerate(images), explainer._batch_hint)
    with closing(ahead(groups, lambda group: {i: _begun(explainer, path, asked) for i, path in group})) as each:
        for begun in each:
            group = begun.result()
            failed = {i: one for i, one in group.items() if isinstance(one, OnnxCamError)}
            if failed and not keep_going:
                i = min(failed)
                raise _named(failed[i], images[i], several=len(images) > 1)
            ready = {i: one for i, one in group.items() if not isinstance(one, OnnxCamError)}
            told = advance({i: images[i] for i in ready}) if ready else []
            passes, targets = [seen for _, seen in ready.values()], [asked.targets] * len(ready)
            explained = explainer._explain_batch(passes, targets, progress=told)
            found = dict(zip(ready, explained, strict=True))
            for i, one in group.items():
                answer = one if isinstance(one, OnnxCamError) else _paired(*one, found[i])
                if isinstance(answer, OnnxCamError):
                    answer = _named(answer, images[i], several=len(images) > 1 or keep_going, hint=not keep_going)
                yield answer


def _named(error: OnnxCamError, image: Path, *, several: bool, hint: bool = True) -> OnnxCamError:
    """The error with its picture, and without what it happened to: frames hold pictures."""
    if not several:
        return error
    text = str(error) if str(error).startswith(str(image)) else f"{image}: {error}"
    spared = hint and isinstance(error, PictureError)
    return type(error)(text + "; nothing was written (--keep-going leaves such a picture out)" * spared)


def _paired(
    picture: "npt.NDArray[Any]", looked: "ForwardPass", found: "list[Saliency] | OnnxCamError"
) -> "tuple[npt.NDArray[Any], list[Saliency]] | OnnxCamError":
    """The maps beside the picture that they are drawn over."""
    if isinstance(found, OnnxCamError):
        return found
    return looked.model_input.image if found[0].placement is None else picture, found


def _begun(
    explainer: "Explainer", path: Path, asked: ParsedTargets
) -> "tuple[npt.NDArray[Any], ForwardPass] | OnnxCamError":
    """A picture and the first pass over it: what can be done while the ones before are scored."""
    from onnxcam.inputs.loader import read_image

    try:
        picture = read_image(path)
        return picture, explainer._forward(picture, asked.targets, name=str(path))
    except OnnxCamError as error:
        return error


def _pictures(request: Request, failures: list[OnnxCamError]) -> list[Path]:
    """Every picture once; with keep_going, paths that are not there are added to the failures."""
    from onnxcam.inputs.images import find_pictures

    images: list[Path] = []
    for path in request.images:
        try:
            images += [found for found in find_pictures(path) if found not in images]
        except OnnxCamError as error:
            if not request.keep_going:
                raise
            failures.append(error)
    if not images:
        raise failures[0] if len(failures) == 1 else _skipped(failures, len(failures))
    return images


def _skipped(failures: Sequence[OnnxCamError], given: int) -> PictureError:
    return PictureError("\n  ".join([f"skipped {len(failures)} of {given} pictures:", *map(str, failures)]))


def _report(request: Request, done: "Sequence[tuple[Saliency, dict[str, Any]]]") -> None:
    if request.json:
        typer.echo(json.dumps([made for _, made in done], indent=2, ensure_ascii=False))
    elif not request.quiet:
        for saliency, made in done:
            typer.echo(summary(saliency, made["outputs"]))


def open_explainer(request: Request, asked: ParsedTargets, method: "Method") -> "Explainer":
    """The explainer of a request; every word is looked up here."""
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.inputs.presets import parse_size

    return Explainer(
        request.model,
        method,
        step=path_of(request.method.step) if request.method.step is not None else None,
        providers=words(request.providers, "providers"),
        preset=request.preset,
        adjust=_adjustment(request),
        layer=request.layer,
        layout=request.layout,
        size=parse_size(request.size) if request.size is not None else None,
        output=request.words.output,
        kind=asked.kind,
        inputs=parse_inputs(request.inputs),
        labels=request.labels,
        batch=request.batch,
        threads=request.threads,
        engine=request.engine.options(),
    )


def _adjustment(request: Request) -> "Callable[[Preset], Preset]":
    """The explicit fields of the command line, laid over whichever preset is found."""
    from onnxcam.inputs.presets import override, parse_crop, parse_numbers, parse_scale

    mean = parse_numbers(request.mean) if request.mean is not None else None
    std = parse_numbers(request.std) if request.std is not None else None
    scale = parse_scale(request.scale) if request.scale is not None else None
    crop = parse_crop(request.crop) if request.crop is not None else None
    return lambda preset: override(preset, mean=mean, std=std, scale=scale, crop=crop, color=request.color)


def _style(request: Request) -> "Style":
    from onnxcam.outputs.overlay import Style

    given = {"colormap": request.colormap, "alpha": request.alpha}
    return Style(caption=request.caption, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
