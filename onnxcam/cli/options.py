"""The options that several commands share, and what their words mean."""

import re
from pathlib import Path
from typing import Annotated

import typer

from onnxcam.errors import OptionError

WHAT, HOW, PICTURE, FILES, RUN = "What is explained", "How", "The picture", "Files", "Running"
"""The groups of `--help`."""

ModelPath = Annotated[str, typer.Argument(help="The exported ONNX file.", show_default=False)]
Providers = Annotated[
    str,
    typer.Option(
        rich_help_panel=RUN,
        help="Execution providers in order, short names (cuda,cpu); each must start. auto: the best that does.",
    ),
]
Threads = Annotated[
    int | None, typer.Option(rich_help_panel=RUN, help="Threads of one forward pass. Default: the cores there are.")
]
Batch = Annotated[
    int | None,
    typer.Option(rich_help_panel=RUN, help="Masks a forward pass. Default: by the model's size and the free memory."),
]
Layer = Annotated[
    str,
    typer.Option(
        rich_help_panel=HOW,
        help="The feature map: a tensor or node name, last-conv, or auto (what enters the pooling).",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(rich_help_panel=PICTURE, help="Input size for models that take any: 224, or 224x192 as HxW."),
]
Layout = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=PICTURE, help="The input's axes: nchw, nhwc, ncw, ncdhw ... Default: read from its shape."
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        rich_help_panel=PICTURE,
        help="A further input of the model: a number, numbers with commas, or FILE.npy.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option("--output", metavar="NAME", rich_help_panel=WHAT, help="Which of the model's outputs is explained."),
]
Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=RUN, help="Print JSON on standard output and nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=RUN, help="Print nothing but errors.")]


def path_of(text: str) -> Path:
    """A path; an empty word, as a shell makes it of a variable that is not set, is no path to the working directory."""
    if not text:
        raise OptionError("a file name is empty; was a variable not set?")
    return Path(text)


def words(text: str, what: str) -> list[str]:
    """A comma-separated list; raises OptionError if it is empty."""
    found = [w.strip() for w in text.split(",") if w.strip()]
    if not found:
        raise OptionError(f"--{what} is empty")
    return list(dict.fromkeys(found))


def target_words(given: list[str]) -> list[str]:
    """Targets as given, where indices and ranks may also share one word (top1,top2); labels may contain commas."""
    found: list[str] = []
    for text in given:
        parts = [p.strip() for p in text.split(",")]
        several = all(re.fullmatch(r"top-?\d+|\d+", p, re.IGNORECASE) for p in parts)
        found.extend(parts if several else [text])
    return list(dict.fromkeys(found))
