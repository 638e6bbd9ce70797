"""The options that several commands share, and what their words mean."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxcam.errors import OptionError

if TYPE_CHECKING:
    from onnxcam.engine.options import EngineOptions

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
    int | None, typer.Option(rich_help_panel=RUN, help="Threads of one forward pass. Default: measured, see --batch.")
]
Batch = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=RUN, help="Masks a forward pass. Default: by the free memory and, on a CPU, a measurement."
    ),
]
GpuMem = Annotated[
    str | None,
    typer.Option(
        "--gpu-mem", rich_help_panel=RUN, help="Most GPU memory of an open graph: 4GB, 512MiB, or 50% of what is free."
    ),
]
Half = Annotated[
    bool, typer.Option("--half", rich_help_panel=RUN, help="Score in half precision (GPU): faster, rounds more.")
]
Tf32 = Annotated[
    bool, typer.Option("--tf32", rich_help_panel=RUN, help="Let CUDA multiply float32 as TF32: faster, rounds more.")
]
CudaGraph = Annotated[
    bool,
    typer.Option("--cuda-graph", rich_help_panel=RUN, help="Record a chunk's kernels once and replay them (CUDA)."),
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
        help="An extra input of the model: a number, numbers with commas, or FILE.npy.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option("--output", metavar="NAME", rich_help_panel=WHAT, help="Which of the model's outputs is explained."),
]
Images = Annotated[list[str], typer.Argument(help="Pictures, .npy arrays, or folders of pictures.", show_default=False)]
Target = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=WHAT,
        help="A class: index, label, top1 .. top5. Repeat for several; they share the forward passes.",
    ),
]
Index = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=WHAT,
        metavar="I,J,...",
        help="Explain one number of an output, by its place after the batch axis.",
    ),
]
Box = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=WHAT,
        metavar="N",
        help="A detector's box: its place in the table, or top1. --target says the class.",
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=WHAT,
        metavar="L,T,R,B",
        help="Where a segmentation's class is scored: pixels, or FILE of a mask.",
    ),
]
Reference = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=WHAT,
        metavar="FILE",
        help="Explain the similarity to this picture's, or .npy file's, embedding.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(rich_help_panel=WHAT, help="File of class names (.txt a line each, .json), or imagenet."),
]
Method = Annotated[str, typer.Option("--method", "-m", rich_help_panel=HOW, help="See `onnxcam methods`.")]
Convention = Annotated[
    str | None, typer.Option(rich_help_panel=HOW, help="constructive (keep it) or destructive (remove it).")
]
Variant = Annotated[
    str | None,
    typer.Option(rich_help_panel=HOW, help="Score-CAM as in the authors' code (official) or as in the paper."),
]
Fill = Annotated[
    str | None,
    typer.Option(rich_help_panel=HOW, help="What replaces what a mask removes: zero, black, mean, blur."),
]
MethodOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        rich_help_panel=HOW,
        help="An option of the method, such as max_iter=50; `onnxcam methods` lists them.",
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=HOW,
        metavar="N",
        help="Score-CAM: score at most N feature maps and estimate the others, with an error bound.",
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=HOW,
        metavar="X",
        help="Score-CAM: score as many maps as it takes for the map (0 to 1) to be off by at most X.",
    ),
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast", rich_help_panel=HOW, help="Score-CAM with the tolerance 0.02: typically 5 to 20 % of the passes."
    ),
]
Step = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=HOW,
        metavar="FILE",
        help="A graph with the gradient, made by tools/export_step.py. Default: built from the model.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(rich_help_panel=PICTURE, help="Preprocessing by name. Default: what travels with the model."),
]
Mean = Annotated[str | None, typer.Option(rich_help_panel=PICTURE, help="Mean a channel, e.g. 0.485,0.456,0.406.")]
Std = Annotated[
    str | None, typer.Option(rich_help_panel=PICTURE, help="Standard deviation a channel, e.g. 0.229,0.224,0.225.")
]
Scale = Annotated[
    str | None,
    typer.Option(rich_help_panel=PICTURE, help="Factor on the 0..255 pixels before mean and std, e.g. 1/255."),
]
Crop = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=PICTURE, help="Share of the resized picture that the centre crop keeps (0.875), or none."
    ),
]
Color = Annotated[str | None, typer.Option(rich_help_panel=PICTURE, help="Channel order: rgb, bgr or gray.")]
Out = Annotated[
    str | None,
    typer.Option("--out", "-o", rich_help_panel=FILES, help="FILE, or FOLDER/. Default: the working directory."),
]
Format = Annotated[
    str | None,
    typer.Option(rich_help_panel=FILES, help="png (overlay), npy (the map), json (the record); several with commas."),
]
Colormap = Annotated[
    str | None, typer.Option(rich_help_panel=FILES, help="Colours of the overlay, e.g. turbo, viridis, jet.")
]
Alpha = Annotated[float | None, typer.Option(rich_help_panel=FILES, help="Strength of the overlay's colours, 0 to 1.")]
Caption = Annotated[
    bool, typer.Option(rich_help_panel=FILES, help="Write class, probability and a scale under the overlay.")
]
KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going", rich_help_panel=FILES, help="Skip pictures that cannot be explained, and say so at the end."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=RUN, help="Print JSON on standard output and nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=RUN, help="Print nothing but errors.")]


@dataclass(frozen=True)
class EngineArgs:
    """How a GPU is used, words not yet looked up."""

    gpu_mem: str | None = None
    half: bool = False
    tf32: bool = False
    cuda_graph: bool = False

    def options(self) -> "EngineOptions":
        from onnxcam.engine.options import EngineOptions, memory_cap

        cap = memory_cap(self.gpu_mem) if self.gpu_mem is not None else None
        return EngineOptions(cap, self.half, self.tf32, self.cuda_graph)


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
