"""The values of a command's options: what Typer itself makes of the same words, by kind of option."""

from importlib import import_module
from typing import Any

import pytest
import typer
from typer.core import TyperCommand

from onnxcam.cli.help import Page

LINES = (
    "explain m.onnx a.jpg",
    "explain m.onnx a.jpg b.jpg --layer one --layer two --fast -q",
    "explain m.onnx a.jpg --budget 64 --tolerance .5 -vv --json -o out.png --option a=1 --option b=2",
    "explain m.onnx a.jpg --no-caption --target 3 --size=224x192 --threads 2",
    "predict m.onnx a.jpg --top 3 --whole",
    "compare m.onnx a.jpg --method grad-cam,rise",
    "compile m.onnx --target 5 --raw --budget 7",
    "sanity m.onnx a.jpg",
    "inspect m.onnx",
)
WRONG = (
    "explain m.onnx",
    "explain",
    "explain m.onnx a.jpg --budget many",
    "explain m.onnx a.jpg --tolerance",
    "explain m.onnx a.jpg --what",
)


def outcome(command: str, kind: type[Any], words: list[str]) -> Any:
    """The values by name, or the error's text."""
    app = typer.Typer()
    app.command(cls=kind)(getattr(import_module(f"onnxcam.cli.{command}"), command))
    parser = typer.main.get_command(app)
    try:
        with parser.make_context("onnxcam", [*words]) as context:
            return {name: tuple(v) if isinstance(v, list) else v for name, v in context.params.items()}
    except typer.BadParameter.__mro__[1] as error:
        return error.format_message()


@pytest.mark.parametrize("line", LINES + WRONG)
def test_values_are_those_of_typer(line: str) -> None:
    command, *words = line.split()
    ours = outcome(command, Page, words)
    assert ours == outcome(command, TyperCommand, words)
    assert isinstance(ours, str) == (line in WRONG)
