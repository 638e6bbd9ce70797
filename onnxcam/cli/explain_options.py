"""The options of `onnxcam explain`: the groups that it takes (options.py), and those that it alone has."""

from dataclasses import dataclass, field
from typing import Annotated

from onnxcam.cli.options import FileArgs, MapArgs, MeasuringArgs
from onnxcam.cli.shared_options import FILES, Images, ModelPath, flag


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
