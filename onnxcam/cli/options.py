"""The options that commands share, in groups: opening, target, method, measuring, preprocessing, engine, limits, files.

An option is declared once, as a field: its type, its flags, its help and its default. A command names the groups it
takes, and groups.py gives it these with the parsed values. The values are still text: parsing.py turns them into the
library's. To add an option, add a field here and the line in parsing.py or opening.py that hands it on; one that a
single command takes goes to its file, such as explain_options.py, so that a command loads no other's. shared_options.py
says how an option is declared.
"""

from dataclasses import dataclass, field
from typing import Annotated

from onnxcam.cli import completion
from onnxcam.cli.completion import one_of, several_of
from onnxcam.cli.shared_options import (
    DEFAULT_METHOD,
    FILES,
    HOW,
    MEASURE,
    PICTURE,
    RUN,
    WHAT,
    Budget,
    ConventionName,
    Fast,
    FillName,
    Isolated,
    Json,
    Labels,
    MethodName,
    MethodOptions,
    Overwrite,
    Quiet,
    Tolerance,
    VariantName,
    flag,
    option,
)


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
            "qnn, rocm, migraphx, webgpu, xnnpack, where onnxruntime or a plugin has them. auto: the best that starts.",
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
    precision: Annotated[
        str,
        option(
            RUN,
            "Of masked passes: f32, or bf16 with --providers openvino on a processor that has it: faster, and the map "
            "says how far it may be off.",
        ),
    ] = "f32"
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
