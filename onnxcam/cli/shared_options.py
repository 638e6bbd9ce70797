"""How an option of the command line is declared, and the options that several groups or commands take one by one.

option(), flag() and words() make an option; groups of them are in options.py, those of one command in
a file of theirs, such as explain_options.py.
"""

from typing import Annotated, Any

import typer

from onnxcam.cli import completion
from onnxcam.cli.completion import one_of, several_of

WHAT, HOW, PICTURE, MEASURE = "What is explained", "How", "The picture", "Measuring"
FILES, RUN, DATA = "Files", "Running", "The data"
"""The panels of `--help`."""

DEFAULT_METHOD, COMPILED_METHOD = "score-cam", "grad-cam"


def option(
    panel: str, help: str, *flags: str, metavar: str = "TEXT", complete: completion.Complete | None = None
) -> Any:
    """An option of `--help`'s panel. flags: by default the field's name, as in --gpu-mem. metavar: its value there.

    complete: what a shell completes of its value; files without it.
    """
    return typer.Option(*flags, rich_help_panel=panel, help=help, metavar=metavar, autocompletion=complete)


def words(*names: str) -> completion.Complete:
    """Completes one of the few words that an option takes."""
    return one_of(lambda: names)


def flag(panel: str, help: str, *flags: str) -> Any:
    """An option without a value."""
    return option(panel, help, *flags, metavar="")


ModelPath = Annotated[
    str,
    typer.Argument(
        help="The exported ONNX file.", show_default=False, metavar="MODEL", autocompletion=completion.models
    ),
]
Images = Annotated[
    list[str],
    typer.Argument(
        help="Pictures, .npy arrays, folders of pictures, or patterns in quotes such as 'photos/**/*.jpg'.",
        show_default=False,
        metavar="PICTURES",
    ),
]
Json = Annotated[bool, flag(RUN, "Print JSON on standard output and nothing else.", "--json")]
Isolated = Annotated[
    bool,
    flag(RUN, "Read and run the model in a process of its own, which a stranger's file may crash.", "--isolated"),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        rich_help_panel=RUN,
        help="Say on standard error what was chosen, and why; -vv: each session and each picture.",
        metavar="",
    ),
]
Quiet = Annotated[bool, flag(RUN, "Print nothing but errors.", "--quiet", "-q")]
Overwrite = Annotated[
    bool, flag(FILES, "Replace files that another call wrote: of another picture, model or options.", "--overwrite")
]
Labels = Annotated[
    str | None,
    option(
        WHAT, "File of class names (.txt with one a line, or .json), or imagenet. Default: what travels with the model."
    ),
]

MethodName = Annotated[
    str,
    option(
        HOW, "The method; `onnxcam methods` lists them.", "--method", "-m", complete=several_of(completion.method_names)
    ),
]
ConventionName = Annotated[
    str | None,
    option(
        HOW,
        "What makes a region matter: constructive (keep it) or destructive (remove it). Default: the method's.",
        complete=words("constructive", "destructive"),
    ),
]
VariantName = Annotated[
    str | None,
    option(
        HOW,
        "Score-CAM as in the authors' code (official) or as in the paper (paper). Default: official.",
        complete=words("official", "paper"),
    ),
]
FillName = Annotated[
    str | None,
    option(
        HOW,
        "What replaces the pixels a mask removes: zero, black, mean, blur. Default: the method's.",
        complete=one_of(completion.fill_names),
    ),
]
MethodOptions = Annotated[
    list[str] | None,
    option(
        HOW,
        "An option of the method, such as max_iter=50; `onnxcam methods` lists them.",
        "--option",
        metavar="NAME=VALUE",
    ),
]
Budget = Annotated[
    int | None,
    option(HOW, "Score-CAM: score at most N feature maps and estimate the others, with an error bound.", metavar="N"),
]
Tolerance = Annotated[
    float | None,
    option(HOW, "Score-CAM: score as many maps as it takes to be off by at most X (the map is 0 to 1).", metavar="X"),
]
Fast = Annotated[bool, flag(HOW, "Score-CAM with the tolerance 0.02: typically 5 to 20 % of the passes.", "--fast")]
"""Options of methods, which several commands take with other defaults."""
