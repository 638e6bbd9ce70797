"""The options of each command: the groups that it takes (options.py), and those that it alone has.

Those of `onnxcam evaluate` are in evaluate_options.py; a command with few options names them itself.
"""

from dataclasses import dataclass, field
from typing import Annotated

import typer

from onnxcam.cli import completion
from onnxcam.cli.completion import one_of
from onnxcam.cli.options import EngineArgs, FileArgs, LimitArgs, MapArgs, MeasuringArgs, OpeningArgs, PreprocessingArgs
from onnxcam.cli.shared_options import (
    COMPILED_METHOD,
    FILES,
    MEASURE,
    PICTURE,
    WHAT,
    Budget,
    ConventionName,
    FillName,
    Images,
    Isolated,
    Json,
    Labels,
    MethodName,
    MethodOptions,
    ModelPath,
    Overwrite,
    Quiet,
    VariantName,
    flag,
    option,
    words,
)


@dataclass(frozen=True, kw_only=True)
class ExplainArgs(MapArgs):
    """One call of `onnxcam explain`."""

    model: ModelPath
    images: Images
    measuring: MeasuringArgs = field(default_factory=MeasuringArgs)
    files: FileArgs = field(default_factory=FileArgs)
    recursive: Annotated[
        bool,
        flag(FILES, "Explain the pictures of sub-folders too, and keep the sub-folders under -o.", "--recursive", "-r"),
    ] = False
    resume: Annotated[
        bool,
        flag(
            FILES,
            "Leave out pictures whose files are all there, from the same picture, model, method and options.",
            "--resume",
        ),
    ] = False
    keep_going: Annotated[
        bool, flag(FILES, "Skip pictures that cannot be explained, and list them at the end.", "--keep-going")
    ] = False
    watch: Annotated[
        bool,
        flag(
            FILES,
            "Explain pictures as they come into the folder, until Ctrl-C; those that are there come first, as with "
            "--resume.",
            "--watch",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class PredictArgs:
    """One call of `onnxcam predict`."""

    model: ModelPath
    images: Images
    top: Annotated[int, option(WHAT, "How many answers of each picture.", metavar="N")] = 5
    labels: Labels = None
    opening: OpeningArgs = field(default_factory=OpeningArgs)
    preprocessing: PreprocessingArgs = field(default_factory=PreprocessingArgs)
    engine: EngineArgs = field(default_factory=EngineArgs)
    limits: LimitArgs = field(default_factory=LimitArgs)
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class SanityArgs(MapArgs):
    """One call of `onnxcam sanity`."""

    model: ModelPath
    images: Images
    order: Annotated[
        str,
        option(
            MEASURE,
            "top-down: more and more layers from the output on. independent: one at a time.",
            complete=words("top-down", "independent"),
        ),
    ] = "top-down"
    redraw: Annotated[
        str,
        option(
            MEASURE,
            "How weights are drawn again: shuffle, normal (same mean and deviation), or he (as a new net).",
            complete=words("shuffle", "normal", "he"),
        ),
    ] = "shuffle"
    seed: Annotated[str, option(MEASURE, "Seed of the draw; several with commas, for a run each.", metavar="N")] = "0"
    steps: Annotated[
        str, option(MEASURE, "How many models with other weights, at evenly spaced layers, or all.", metavar="N")
    ] = "10"
    out: Annotated[
        str | None,
        option(
            FILES,
            "The figure (.png, .pdf, .svg) or the record (.json), or FOLDER/ for both. Default: MODEL.sanity.png in "
            "the working directory.",
            "--out",
            "-o",
            metavar="FILE",
        ),
    ] = None
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class CompareArgs(MapArgs):
    """One call of `onnxcam compare`."""

    paths: Annotated[
        list[str],
        typer.Argument(
            help="Models, then pictures, arrays or folders of pictures. A file's ending or content tells which it is.",
            show_default=False,
            metavar="MODELS... PICTURES...",
        ),
    ]
    measuring: MeasuringArgs = field(default_factory=MeasuringArgs)
    curves: Annotated[
        bool, flag(MEASURE, "Draw the curves of deletion and insertion too, and measure them.", "--curves")
    ] = False
    out: Annotated[
        str | None,
        option(
            FILES,
            "The figure: FILE.png, .pdf or .svg, with a row for each picture; or FOLDER/ for one of each picture. "
            "Default: PICTURE.compare.png of each in the working directory.",
            "--out",
            "-o",
            metavar="FILE",
        ),
    ] = None
    overwrite: Overwrite = False
    width: Annotated[
        float | None,
        option(
            FILES,
            "Width in inches. Default: 3.4, a column of print, or 7 for more than four maps in a row.",
            metavar="X",
        ),
    ] = None
    colormap: Annotated[
        str | None,
        option(FILES, "Colours of the maps, e.g. turbo, viridis, jet.", complete=one_of(completion.colormap_names)),
    ] = None
    alpha: Annotated[float | None, option(FILES, "Strength of the maps' colours, 0 to 1.", metavar="X")] = None


@dataclass(frozen=True, kw_only=True)
class CompileArgs:
    """One call of `onnxcam compile`."""

    model: ModelPath
    method: MethodName = COMPILED_METHOD
    convention: ConventionName = None
    variant: VariantName = None
    fill: FillName = None
    options: MethodOptions = None
    budget: Budget = None
    target: Annotated[
        str | None,
        option(
            WHAT,
            "A class, index or label, that is baked in, or top1. Default: the file has an input `target`.",
            "--target",
        ),
    ] = None
    labels: Labels = None
    raw: Annotated[
        bool, flag(PICTURE, "The file takes pictures of any size, uint8 (H,W,3), and preprocesses them.", "--raw")
    ] = False
    pictures: Annotated[
        list[str] | None,
        option(
            FILES,
            "A picture of yours on which the file is compared with `onnxcam explain`; repeat it for several.",
            "--picture",
            metavar="FILE",
        ),
    ] = None
    opening: OpeningArgs = field(default_factory=OpeningArgs)
    preprocessing: PreprocessingArgs = field(default_factory=PreprocessingArgs)
    limits: LimitArgs = field(default_factory=LimitArgs)
    out: Annotated[
        str | None,
        option(
            FILES,
            "FILE, or FOLDER/. Default: MODEL.explained.onnx in the working directory.",
            "--out",
            "-o",
            metavar="FILE",
        ),
    ] = None
    triton: Annotated[
        str | None,
        option(
            FILES,
            "Model repository of Triton: MODEL-METHOD/ is written into it, with its config.pbtxt, in place of a file.",
            "--triton",
            metavar="FOLDER",
        ),
    ] = None
    overwrite: Overwrite = False
    isolated: Isolated = False
    quiet: Quiet = False
    json: Json = False
