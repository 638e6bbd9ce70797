"""The parser with its commands, and the one place where errors become exit codes."""

import io
import logging
import sys
import warnings
from typing import Annotated

import typer

from onnxcam.cli.compare import compare
from onnxcam.cli.demo import demo
from onnxcam.cli.explain import explain
from onnxcam.cli.inspect import inspect
from onnxcam.cli.methods import methods
from onnxcam.cli.metrics import metrics
from onnxcam.cli.rewrite import rewrite
from onnxcam.cli.sanity import sanity
from onnxcam.errors import OnnxCamError

app = typer.Typer(
    name="onnxcam",
    help="Show what an image model exported to ONNX saw: saliency maps from the model file and a picture.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(explain)
app.command()(compare)
app.command()(methods)
app.command()(metrics)
app.command()(inspect)
app.command()(rewrite)
app.command()(sanity)
app.command()(demo)


def _version(print_it: bool) -> None:
    if print_it:
        from importlib.metadata import version

        typer.echo(f"onnxcam {version('onnxcam')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Show what an image model exported to ONNX saw."""


def printable(text: str) -> str:
    """Without control characters: a tensor's name must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def run() -> None:
    """Entry point. An OnnxCamError is printed in one or two lines, exit code 1; any other error keeps its traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name need not be text
    warnings.filterwarnings("ignore", module="PIL")  # of large photographs and odd metadata
    # Libraries log what onnxcam reports itself; without a handler Python would print it too.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        app()
    except OnnxCamError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    run()
