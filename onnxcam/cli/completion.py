"""What a shell completes: the names that an option takes, and models among files. Nothing here opens or runs a model.

A function that completes takes the word as far as it is typed. Where it returns nothing, the shell completes files.
"""

import os
from collections.abc import Callable, Iterable

Complete = Callable[[str], list[str]]
MODEL_SUFFIXES = (".onnx", ".ort")


def one_of(names: Callable[[], Iterable[str]]) -> Complete:
    """Completes one of these names."""

    def complete(incomplete: str) -> list[str]:
        typed = incomplete.casefold()
        return [name for name in names() if name.casefold().startswith(typed)]

    return complete


def several_of(names: Callable[[], Iterable[str]]) -> Complete:
    """Completes the last of the names that commas part; those before it stay, and are not offered again."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in one_of(names)(last) if name not in before.split(",")]

    return complete


def method_names() -> list[str]:
    """The methods, those of other packages too."""
    from onnxcam.methods import method_names as names

    return [*names()]


def metric_names() -> list[str]:
    """The metrics as they are typed, and `all`."""
    from onnxcam.metrics.arguments import typed
    from onnxcam.metrics.registry import METRICS

    return [*map(typed, METRICS), "all"]


def preset_names() -> list[str]:
    """The presets."""
    from onnxcam.inputs.presets import PRESETS

    return [*PRESETS]


def fill_names() -> list[str]:
    """The fills by their short names."""
    from onnxcam.methods.fills import FILLS

    return [*FILLS]


def colormap_names() -> list[str]:
    """The colormaps."""
    from onnxcam.outputs.colours import COLORMAPS, SIGNED

    return [*COLORMAPS, SIGNED]


def format_names() -> list[str]:
    """The formats of --format."""
    from onnxcam.outputs.formats import FORMATS

    return [*FORMATS]


def data_format_names() -> list[str]:
    """The formats of data sets."""
    from onnxcam.evaluation.readers.registry import READERS

    return [*READERS]


def color_names() -> list[str]:
    """The channel orders."""
    from onnxcam.inputs.presets import WORDS

    return [*WORDS["color"]]


def resize_names() -> list[str]:
    """The ways to fit a picture."""
    from onnxcam.inputs.presets import WORDS

    return [*WORDS["resize"]]


def models(incomplete: str) -> list[str]:
    """The models that begin so, and the folders beside them; nothing where there is no model: the shell lists files."""
    folder, start = os.path.split(os.path.expanduser(incomplete))
    typed = incomplete[: len(incomplete) - len(start)]
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    beginning = [entry for entry in entries if entry.name.startswith(start) and (start or entry.name[0] != ".")]
    files = [entry.name for entry in beginning if entry.name.lower().endswith(MODEL_SUFFIXES)]
    folders = [f"{entry.name}/" for entry in beginning if entry.is_dir()]
    return [f"{typed}{name}" for name in (*files, *folders)] if files else []
