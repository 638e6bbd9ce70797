"""The options of `onnxcam sanity`: the groups that it takes (options.py), and those that it alone has."""

from dataclasses import dataclass
from typing import Annotated

from onnxcam.cli.options import MapArgs
from onnxcam.cli.shared_options import FILES, MEASURE, Images, ModelPath, Overwrite, option, words


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
