"""`onnxcam rewrite`: write the model that also returns its feature tensor."""

import os
from pathlib import Path
from typing import Annotated

import typer

from onnxcam.cli.options import Input, Layer, Layout, ModelPath, Quiet, Size, path_of


def rewrite(
    model: ModelPath,
    out: Annotated[
        str | None,
        typer.Option("--out", "--output", "-o", help="FILE, or FOLDER/. Default: MODEL.cam.onnx where you are."),
    ] = None,
    layer: Layer = "auto",
    size: Size = None,
    layout: Layout = None,
    extra: Input = None,
    quiet: Quiet = False,
) -> None:
    """Add the feature tensor to a model's outputs and let it take any batch; its answers stay as they were."""
    from onnxcam.cli.inspect import asked
    from onnxcam.errors import OutputError
    from onnxcam.network.export import rewrite as rewritten
    from onnxcam.outputs.atomic import Staging, check_writable
    from onnxcam.surgeon.loading import read_model

    source = path_of(model)
    name = f"{source.stem}.cam.onnx"
    target = path_of(out) if out is not None else Path(name)
    if target.is_dir() or (out or "").endswith(("/", os.sep)):
        target = target / name
    if target.resolve() == source.resolve():
        raise OutputError(f"{target} is the model itself; choose another name with -o")
    check_writable([target])
    file = read_model(source)
    found = rewritten(file, asked(file, layer=layer, size=size, layout=layout, extra=extra))
    with Staging() as staging:
        staging.stage(target, found.data)
        staging.commit()
    if not quiet:
        features = found.anatomy.features
        typer.echo(f"{target}: also returns {features.tensor}  {shown(features.shape)} {features.layout}")
        typer.echo(f"  because it is {features.reason}")
        typer.echo(f"  batch {found.batching.mode}: {found.batching.reason}")
        for note in found.notes:
            typer.echo(f"  note  {note}")


def shown(shape: tuple[int | None, ...] | None) -> str:
    """1x1280x7x7, with ? for what the graph does not tell."""
    return "x".join("?" if d is None else str(d) for d in shape) if shape is not None else "unknown shape"
