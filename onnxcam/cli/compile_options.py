"""The options of `onnxcam compile`: the groups that it takes (options.py), and those that it alone has."""

from dataclasses import dataclass, field
from typing import Annotated

from onnxcam.cli.options import LimitArgs, OpeningArgs, PreprocessingArgs
from onnxcam.cli.shared_options import (
    COMPILED_METHOD,
    FILES,
    PICTURE,
    WHAT,
    Budget,
    ConventionName,
    FillName,
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
)


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
