"""Every option of the command line, declared once.

An option is a field of a group below: its type, its flags, its help and its default. A command names the groups it
takes, and groups.py gives it these with the parsed values. The values are still text: parsing.py turns them into the
library's. To add an option, add a field here and the line in parsing.py or opening.py that hands it on. Those of
`onnxcam evaluate` alone are in evaluate_options.py.
"""

from dataclasses import dataclass, field
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


@dataclass(frozen=True, kw_only=True)
class OpeningArgs:
    """How a model is opened: which of its tensors are used, and what its inputs are."""

    output: Annotated[
        str | None,
        option(
            WHAT,
            "The model's output that is explained. Default: `onnxcam inspect` says which, and why.",
            metavar="NAME",
        ),
    ] = None
    layer: Annotated[
        list[str] | None,
        option(
            HOW,
            "The feature map: a tensor or node name, last-conv, or auto (what enters the pooling; the default). Repeat "
            "it to fuse the maps of several, or in `compare` to see them side by side.",
        ),
    ] = None
    size: Annotated[
        str | None,
        option(
            PICTURE, "Input size for models that take any: 224, or 224x192 for height x width. Default: the preset's."
        ),
    ] = None
    layout: Annotated[
        str | None, option(PICTURE, "The input's axes: nchw, nhwc, ncw, ncdhw ... Default: read from its shape.")
    ] = None
    image_input: Annotated[
        list[str] | None,
        option(
            PICTURE,
            "The input that takes the picture, of a model that takes several; repeat it for a map of each input.",
            metavar="NAME",
        ),
    ] = None
    inputs: Annotated[
        list[str] | None,
        option(
            PICTURE,
            "Value of another input of the model: a number, several with commas, FILE.npy, or a picture.",
            "--input",
            metavar="NAME=VALUE",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TargetArgs:
    """What is scored."""

    target: Annotated[
        list[str] | None,
        option(
            WHAT,
            "A class: index or label; top5: the five best; rank5: the fifth. Repeat it for several; they "
            "share the forward passes. Default: the best.",
        ),
    ] = None
    index: Annotated[
        list[str] | None,
        option(WHAT, "Explain one number of an output, by its place after the batch axis.", metavar="I,J,..."),
    ] = None
    box: Annotated[
        list[str] | None,
        option(
            WHAT,
            "A detector's box: its place in the table; top5: the five best; rank5: the fifth. --target says the class.",
            metavar="N",
        ),
    ] = None
    region: Annotated[
        str | None,
        option(WHAT, "Where a segmentation's class is scored: pixels, or FILE of a mask.", metavar="L,T,R,B"),
    ] = None
    timestep: Annotated[
        list[str] | None,
        option(WHAT, "A step of a sequence: 5, a range 0-15 for a map each, or all. Default: all.", metavar="T"),
    ] = None
    reference: Annotated[
        list[str] | None,
        option(WHAT, "Explain the similarity to the embedding of this picture or .npy file.", metavar="FILE"),
    ] = None
    labels: Labels = None

    @property
    def is_chosen(self) -> bool:
        """Whether any word says what is scored, in place of the model's best answer."""
        words = (self.target, self.index, self.box, self.region, self.timestep, self.reference)
        return any(word is not None for word in words)


@dataclass(frozen=True, kw_only=True)
class MethodArgs:
    """The method and its options; None for what is left to the method."""

    method: MethodName = DEFAULT_METHOD
    convention: ConventionName = None
    variant: VariantName = None
    fill: FillName = None
    options: MethodOptions = None
    budget: Budget = None
    tolerance: Tolerance = None
    fast: Fast = False
    step: Annotated[
        str | None,
        option(HOW, "A step graph: the gradient as an ONNX file. Default: built from the model.", metavar="FILE"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class MeasuringArgs:
    """Which numbers are taken of each map."""

    metrics: Annotated[
        str | None,
        option(
            MEASURE,
            "Measure each map: deletion,insertion,average-drop ..., each with :PROTOCOL if not the usual one, or all. "
            "`onnxcam metrics` lists them.",
            complete=several_of(completion.metric_names),
            metavar="NAMES",
        ),
    ] = None
    truth: Annotated[
        list[str] | None,
        option(
            MEASURE,
            "The object's box on the picture in pixels, as a person drew it, for the pointing games. Repeat it for "
            "several.",
            metavar="L,T,R,B",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class PreprocessingArgs:
    """How a picture becomes the model's input. Each field overrides that of the preset."""

    preset: Annotated[
        str | None,
        option(
            PICTURE,
            "Preprocessing by name: imagenet, timm, inception, keras-tf, keras-caffe, efficientnet-lite, clip, unit, "
            "raw, ultralytics, yolox. Default: what travels with the model.",
            complete=one_of(completion.preset_names),
        ),
    ] = None
    mean: Annotated[
        str | None, option(PICTURE, "Mean of each channel, e.g. 0.485,0.456,0.406. Default: the preset's.")
    ] = None
    std: Annotated[
        str | None,
        option(PICTURE, "Standard deviation of each channel, e.g. 0.229,0.224,0.225. Default: the preset's."),
    ] = None
    scale: Annotated[
        str | None,
        option(PICTURE, "Factor on the 0..255 pixels before mean and std, e.g. 1/255. Default: the preset's."),
    ] = None
    crop: Annotated[
        str | None,
        option(
            PICTURE, "Share of the resized picture that the centre crop keeps (0.875), or none. Default: the preset's."
        ),
    ] = None
    color: Annotated[
        str | None,
        option(
            PICTURE, "Channel order: rgb, bgr or gray. Default: the preset's.", complete=one_of(completion.color_names)
        ),
    ] = None
    window: Annotated[
        str | None,
        option(
            PICTURE,
            "What becomes black and white of 16-bit, float or DICOM pictures. Default: the file's own window.",
            metavar="LOW,HIGH",
        ),
    ] = None
    bands: Annotated[
        str | None,
        option(PICTURE, "Bands from 1 that are drawn as red, green and blue, of pictures with many.", metavar="R,G,B"),
    ] = None
    resize: Annotated[
        str | None,
        option(
            PICTURE,
            "How a picture is fitted: shortest (then a centre crop), squash, letterbox or letterbox-corner. "
            "Default: the preset's.",
            complete=one_of(completion.resize_names),
        ),
    ] = None
    padding: Annotated[
        str | None,
        option(
            PICTURE,
            "Colour of a letterbox's bars, 0 to 255: one number, or one a channel. Default: the preset's; usual: 114.",
        ),
    ] = None
    whole: Annotated[
        bool, flag(PICTURE, "Explain the whole picture: no crop, but squashed, or in a letterbox.", "--whole")
    ] = False


@dataclass(frozen=True, kw_only=True)
class EngineArgs:
    """Where and how fast the model runs."""

    providers: Annotated[
        str,
        option(
            RUN,
            "Execution providers in order, each of which must start: cpu, cuda, tensorrt, openvino, directml, coreml, "
            "qnn, rocm, migraphx, xnnpack, where the installed onnxruntime has them. auto: the best that starts.",
        ),
    ] = "auto"
    provider_option: Annotated[
        list[str] | None,
        option(
            RUN,
            "An option of the provider, as onnxruntime names it (device_id=1); of several providers: cuda.device_id=1. "
            "Repeatable.",
            metavar="K=V",
        ),
    ] = None
    batch: Annotated[
        int | None,
        option(RUN, "Masks a forward pass. Default: by the free memory and, on a CPU, a measurement.", metavar="N"),
    ] = None
    threads: Annotated[
        int | None, option(RUN, "Threads of one forward pass. Default: measured, see --batch.", metavar="N")
    ] = None
    isolated: Isolated = False
    gpu_mem: Annotated[
        str | None,
        option(
            RUN, "Most GPU memory that an open graph takes: 4GB, 512MiB, or 50% of what is free. Default: no limit."
        ),
    ] = None
    half: Annotated[bool, flag(RUN, "Score in half precision (GPU): faster, rounds more.", "--half")] = False
    tf32: Annotated[bool, flag(RUN, "Let CUDA multiply float32 as TF32: faster, rounds more.", "--tf32")] = False
    cuda_graph: Annotated[
        bool, flag(RUN, "Record the kernels of a batch once and replay them (CUDA).", "--cuda-graph")
    ] = False


@dataclass(frozen=True, kw_only=True)
class LimitArgs:
    """What a picture or a model may take; none: no limit. None for the default."""

    max_pixels: Annotated[
        str | None,
        option(
            RUN,
            "Largest picture: 50M, 10000x10000, or none. Default: 134,217,728. Larger JPEGs are read reduced.",
            metavar="N",
        ),
    ] = None
    timeout: Annotated[
        str | None,
        option(RUN, "Longest forward pass, for each picture in it, in seconds, or none. Default: 120.", metavar="S"),
    ] = None
    max_memory: Annotated[
        str | None,
        option(
            RUN, "Largest weights of a model, and largest tensor that it computes: 4GB, or none. Default: 8GiB.",
            metavar="N",
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FileArgs:
    """Which files are written, and how they look."""

    out: Annotated[
        str | None,
        option(
            FILES, "Where to write: FILE, or FOLDER/. Default: the working directory.", "--out", "-o", metavar="FILE"
        ),
    ] = None
    format: Annotated[
        str | None,
        option(
            FILES,
            "The overlay: png, jpg, webp, pdf, svg. Other drawings: heatmap (transparent), contour, mask, boxes, "
            "side-by-side. Numbers: tiff, npy (the map), npz, json (the record). Several with commas. Default: png.",
            complete=several_of(completion.format_names),
        ),
    ] = None
    colormap: Annotated[
        str | None,
        option(
            FILES,
            "Colours: turbo, cividis, viridis, inferno, magma, plasma, jet, hot, gray; blue-orange shows "
            "the sign of the raw map. Default: turbo.",
            complete=one_of(completion.colormap_names),
        ),
    ] = None
    alpha: Annotated[float | None, option(FILES, "Strength of the overlay's colours, 0 to 1.", metavar="X")] = None
    caption: Annotated[bool, flag(FILES, "Write class, probability and a scale under the overlay.")] = True
    threshold: Annotated[
        float | None,
        option(FILES, "From which saliency on, 0 to 1, contour, mask and boxes show it. Default: 0.5.", metavar="X"),
    ] = None
    max_size: Annotated[
        int | None,
        option(FILES, "Most pixels on the longer side of a drawn picture. Default: its own size.", metavar="N"),
    ] = None
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class MapArgs:
    """What every command that makes maps takes."""

    targets: TargetArgs = field(default_factory=TargetArgs)
    method: MethodArgs = field(default_factory=MethodArgs)
    opening: OpeningArgs = field(default_factory=OpeningArgs)
    preprocessing: PreprocessingArgs = field(default_factory=PreprocessingArgs)
    engine: EngineArgs = field(default_factory=EngineArgs)
    limits: LimitArgs = field(default_factory=LimitArgs)
    quiet: Quiet = False
    json: Json = False


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
