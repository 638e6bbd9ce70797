"""The options of `onnxcam evaluate`, beside those that it shares with other commands (options.py)."""

from dataclasses import dataclass, field
from typing import Annotated

import typer

from onnxcam.cli import completion
from onnxcam.cli.completion import one_of, several_of
from onnxcam.cli.options import EngineArgs, LimitArgs, OpeningArgs, PreprocessingArgs
from onnxcam.cli.shared_options import (
    DATA,
    FILES,
    HOW,
    MEASURE,
    RUN,
    WHAT,
    Budget,
    ConventionName,
    Fast,
    FillName,
    Json,
    Labels,
    MethodOptions,
    Overwrite,
    Quiet,
    Tolerance,
    VariantName,
    flag,
    option,
    words,
)

METHODS, ESTIMATED_METHODS = "score-cam:tolerance=0.02,grad-cam", "score-cam,grad-cam"
"""The default: methods that take seconds a picture. The second where --fast, --tolerance or --budget is given."""
METRICS = "average-drop,average-increase,deletion,insertion,road,sparseness"
METRICS_OF_BOXES = "energy-pointing-game,pointing-game"
"""The default: metrics of several families, since none is to be trusted alone; and those where there are boxes."""
RESULTS = "results/"


@dataclass(frozen=True, kw_only=True)
class DataArgs:
    """How a data set is read."""

    format: Annotated[
        str | None,
        option(
            DATA,
            "Format of the data: coco, voc, yolo, imagenet, manifest or folder. Default: seen.",
            complete=one_of(completion.data_format_names),
        ),
    ] = None
    data_labels: Annotated[
        str | None,
        option(DATA, "File with the name and the label of each picture of a folder, one a line.", metavar="FILE"),
    ] = None
    pictures: Annotated[
        str | None,
        option(
            DATA, "Where the pictures lie that annotations name. Default: beside them.", "--pictures", metavar="FOLDER"
        ),
    ] = None
    classes: Annotated[
        str | None,
        option(DATA, "Names of the data's own class numbers, or ImageNet's synsets, in order.", metavar="FILE"),
    ] = None
    split: Annotated[str | None, option(DATA, "The part of the data, such as val. Default: all.", metavar="NAME")] = (
        None
    )
    crowds: Annotated[bool, flag(DATA, "Count COCO's crowds as objects.", "--crowds")] = False
    sample: Annotated[
        int | None,
        option(DATA, "Only so many of the pictures, drawn by the seed; the same on every machine.", metavar="N"),
    ] = None
    balanced: Annotated[
        bool, flag(DATA, "Draw as many pictures of each label as there are, not as they are frequent.", "--balanced")
    ] = False


@dataclass(frozen=True, kw_only=True)
class MethodsArgs:
    """Several methods and their options; None for what is left to each method."""

    methods: Annotated[
        str | None,
        option(
            HOW,
            "Methods with commas, each perhaps with options: score-cam:tolerance=0.02,grad-cam, which is the default "
            "without --maps. `onnxcam methods` lists them.",
            "--methods",
            "--method",
            "-m",
            complete=several_of(completion.method_names),
            metavar="NAMES",
        ),
    ] = None
    convention: ConventionName = None
    variant: VariantName = None
    fill: FillName = None
    options: MethodOptions = None
    budget: Budget = None
    tolerance: Tolerance = None
    fast: Fast = False


@dataclass(frozen=True, kw_only=True)
class EvaluateArgs:
    """One call of `onnxcam evaluate`."""

    paths: Annotated[
        list[str],
        typer.Argument(
            help="Models, then the data: a folder, a manifest (.csv, .jsonl, .parquet) or annotations. Or the folder "
            "of an earlier run alone, whose files are made anew from its journal.",
            show_default=False,
            metavar="MODEL [MODEL ...] DATA",
        ),
    ]
    target: Annotated[
        str,
        option(
            WHAT,
            "What is explained of each picture: prediction, or label (the class that the data names).",
            complete=words("prediction", "label"),
        ),
    ] = "prediction"
    labels: Labels = None
    data: DataArgs = field(default_factory=DataArgs)
    method: MethodsArgs = field(default_factory=MethodsArgs)
    maps: Annotated[
        list[str] | None,
        option(
            MEASURE,
            "Measure maps of another tool too: PICTURE.npy or .png in this folder. Repeat it for several tools.",
            metavar="FOLDER",
        ),
    ] = None
    metrics: Annotated[
        str | None,
        option(
            MEASURE,
            "Metrics with commas, each with :PROTOCOL if not the usual one, or all. Default: average-drop, "
            "average-increase, deletion, insertion, road, sparseness, and the pointing games where there are boxes.",
            complete=several_of(completion.metric_names),
            metavar="NAMES",
        ),
    ] = None
    baselines: Annotated[
        str, option(MEASURE, "Maps that explain nothing, measured for comparison, or none.", metavar="NAMES")
    ] = "ones,gaussian"
    curve_step: Annotated[
        int | None,
        option(MEASURE, "Pixels a step of deletion and insertion. Default: a 28th of the image.", metavar="N"),
    ] = None
    against: Annotated[
        str | None,
        option(
            MEASURE,
            "The method that the others are compared with, written as in --methods. Default: the first; of an earlier "
            "run, what it had.",
            metavar="METHOD",
        ),
    ] = None
    seed: Annotated[
        int | None,
        option(MEASURE, "Seed of the sample, of random metrics and of the intervals. Default: 0.", metavar="N"),
    ] = None
    opening: OpeningArgs = field(default_factory=OpeningArgs)
    preprocessing: PreprocessingArgs = field(default_factory=PreprocessingArgs)
    out: Annotated[
        str | None,
        option(
            FILES,
            "Folder of the journal, the tables and the report. Default: results/.",
            "--out",
            "-o",
            metavar="FOLDER",
        ),
    ] = None
    overwrite: Overwrite = False
    keep_maps: Annotated[bool, flag(FILES, "Keep every map, in maps/ of the output folder.", "--keep-maps")] = False
    run: Annotated[
        int | None,
        option(
            FILES,
            "The run of a folder of results whose files are made anew. Default: the last that has rows.",
            metavar="N",
        ),
    ] = None
    report: Annotated[bool, flag(FILES, "Write report.html.")] = True
    retry: Annotated[bool, flag(RUN, "Compute again what an earlier run could not.", "--retry")] = False
    workers: Annotated[int | None, option(RUN, "Pictures at a time. Default: 1.", metavar="N")] = None
    runner: Annotated[
        str, option(RUN, "local: threads of this process. ray: processes of one or many machines.", "--engine")
    ] = "local"
    address: Annotated[str | None, option(RUN, "The Ray cluster to join, for --engine ray. Default: this machine.")] = (
        None
    )
    worker_cpus: Annotated[
        float | None, option(RUN, "Cores that each worker reserves, for --engine ray. Default: 1.", metavar="X")
    ] = None
    worker_gpus: Annotated[
        float | None,
        option(
            RUN, "GPUs that each worker reserves, for --engine ray; a fraction lets several share one.", metavar="X"
        ),
    ] = None
    engine: EngineArgs = field(default_factory=EngineArgs)
    limits: LimitArgs = field(default_factory=LimitArgs)
    quiet: Quiet = False
    json: Json = False
