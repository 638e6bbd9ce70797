"""`onnxcam rewrite`: write the model that also returns its feature tensor."""

import os
from pathlib import Path
from typing import Annotated

import typer

from onnxcam.cli.options import Layer, Layout, ModelPath, Quiet, Size, path_of


def rewrite(
    model: ModelPath,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="FILE, or FOLDER/. Default: MODEL.cam.onnx where you are."),
    ] = None,
    layer: Layer = "auto",
    size: Size = None,
    layout: Layout = None,
    quiet: Quiet = False,
) -> None:
    """Add the feature tensor to a model's outputs; everything that it returned before stays as it was."""
    from onnxcam.errors import OutputError
    from onnxcam.preprocess import parse_size
    from onnxcam.staging import Staging, check_writable
    from onnxcam.surgeon.rewrite import rewrite as rewritten

    source = path_of(model)
    name = f"{source.stem}.cam.onnx"
    target = path_of(output) if output is not None else Path(name)
    if target.is_dir() or (output or "").endswith(("/", os.sep)):
        target = target / name
    if target.resolve() == source.resolve():
        raise OutputError(f"{target} is the model itself; choose another name with -o")
    check_writable([target])
    data, anatomy = rewritten(source, layer=layer, size=parse_size(size) if size is not None else None, layout=layout)
    with Staging() as staging:
        staging.stage(target, data)
        staging.commit()
    if not quiet:
        features = anatomy.features
        typer.echo(f"{target}: also returns {features.tensor}  {shown(features.shape)} {features.layout}")
        typer.echo(f"  because it is {features.reason}")


def shown(shape: tuple[int | None, ...] | None) -> str:
    """1x1280x7x7, with ? for what the graph does not tell."""
    return "x".join("?" if d is None else str(d) for d in shape) if shape is not None else "unknown shape"
