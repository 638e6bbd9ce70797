"""The options of `onnxcam compare`: the groups that it takes (options.py), and those that it alone has."""

from dataclasses import dataclass, field
from typing import Annotated

import typer

from onnxcam.cli import completion
from onnxcam.cli.completion import one_of
from onnxcam.cli.options import MapArgs, MeasuringArgs
from onnxcam.cli.shared_options import FILES, MEASURE, Overwrite, flag, option


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
