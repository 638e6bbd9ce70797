"""`onnxcam demo`: the embedded model explains the embedded photographs."""

from typing import Annotated

import typer

from onnxcam.cli.explain import Request, carry_out
from onnxcam.cli.options import Fast, Json, Quiet
from onnxcam.cli.parsing import MethodArgs


def demo(
    fast: Fast = False,
    output: Annotated[str | None, typer.Option("--out", "-o", help="Where to write: a folder/ or a file.")] = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Explain a photograph of a cat and one of a cup with the embedded EfficientNet-Lite0."""
    from onnxcam.inputs.bundled import model, pictures

    images = tuple(pictures().values())
    words = MethodArgs(fast=fast)
    carry_out(Request(model=model(), images=images, method=words, output=output, json=json_output, quiet=quiet))
