"""The pictures that a command names, files and folders."""

from collections.abc import Sequence
from pathlib import Path

from onnxcam.cli.parsing import parse_path
from onnxcam.errors import OnnxCamError


def list_pictures(paths: Sequence[str], *, keep_going: bool) -> tuple[list[Path], list[OnnxCamError]]:
    """Every picture once, in order, and with keep_going the errors of paths that cannot be read; else the first raises.

    Of a folder, overlays and figures that an earlier call wrote there are left out, unless it holds nothing else.
    """
    from onnxcam.inputs.images import find_pictures
    from onnxcam.methods import method_names
    from onnxcam.outputs.paths import slug

    overlays = tuple(f".{slug(name)}.png" for name in (*method_names(), "compare", "sanity"))
    images: dict[Path, None] = {}
    failures: list[OnnxCamError] = []
    for text in paths:
        try:
            path = parse_path(text)
            pictures = find_pictures(path)
        except OnnxCamError as error:
            if not keep_going:
                raise
            failures.append(error)
            continue
        if pictures != [path]:
            pictures = [picture for picture in pictures if not picture.name.endswith(overlays)] or pictures
        images.update(dict.fromkeys(pictures))
    return list(images), failures
