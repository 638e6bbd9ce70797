"""The errors that onnxcam raises, as one tree, and `near`, which suggests known names in their messages.

    OnnxCamError
    ├── PictureError            a picture that cannot be read, or does not fit the model
    ├── ModelError              a file that is not a usable ONNX model
    │   ├── NoSpatialFeatures   a model in which no tensor keeps the image's height and width
    │   ├── UnknownLayer        a tensor or node name that is not in the graph
    │   ├── MissingGradient     an operator that no gradient rule covers
    │   └── ModelsNotOpened     models of an evaluation that cannot be opened; the others were measured
    ├── TargetError             a target that the model does not have, such as an unknown class
    ├── PresetError             an unknown or contradictory preprocessing
    ├── LabelError              a label file that does not fit the model
    ├── DataError               a data set, or an annotation of one, that cannot be read
    ├── OptionError             any other option value that makes no sense
    ├── ProviderError           an execution provider that is not installed or does not start
    ├── RuntimeMissing          no onnxruntime installed
    ├── InferenceError          the runtime refused or failed to run the graph
    │   ├── OutOfMemory         not even one image fits into memory
    │   ├── ProcessDied         the process of an isolated explainer crashed, or was ended
    │   └── TimedOut            a forward pass or an opening took longer than the limit
    ├── UndefinedSaliency       the method gives no map for this image (a constant map, NaN)
    ├── CompileError            an explanation that cannot be compiled, or whose file gives other maps
    └── OutputError             a file that cannot be written

The command line prints these in one or two lines and exits 1; anything else is a bug and keeps its traceback.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_WORD, LONGEST_MESSAGE = 400, 2000
"""Characters: a file chooses its names, and a log should hold its error."""


class OnnxCamError(Exception):
    """Base of everything that onnxcam raises on purpose. Its message is cut where a name, or all of it, is too long."""

    def __init__(self, message: str = "") -> None:
        super().__init__(_cut(message))


def _cut(message: str) -> str:
    if len(message) <= LONGEST_WORD:
        return message
    words = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:200]}...{word[0][-100:]}", message)
    return words if len(words) <= LONGEST_MESSAGE else f"{words[: LONGEST_MESSAGE - 203]}...{words[-200:]}"


class PictureError(OnnxCamError):
    """A picture that cannot be read, or does not fit the model."""


class ModelError(OnnxCamError):
    """A file that is not a usable ONNX model."""


class NoSpatialFeatures(ModelError):
    """A model in which no tensor keeps the image's height and width."""


class UnknownLayer(ModelError):
    """A tensor or node name that is not in the graph."""


class MissingGradient(ModelError):
    """An operator that no gradient rule covers."""


class ModelsNotOpened(ModelError):
    """Models of an evaluation that cannot be opened; the others were measured."""


class TargetError(OnnxCamError):
    """A target that the model does not have, such as an unknown class."""


class PresetError(OnnxCamError):
    """An unknown or contradictory preprocessing."""


class LabelError(OnnxCamError):
    """A label file that does not fit the model."""


class DataError(OnnxCamError):
    """A data set, or an annotation of one, that cannot be read."""


class OptionError(OnnxCamError):
    """Any other option value that makes no sense."""


class ProviderError(OnnxCamError):
    """An execution provider that is not installed or does not start."""


class RuntimeMissing(OnnxCamError):
    """No onnxruntime installed."""


class InferenceError(OnnxCamError):
    """The runtime refused or failed to run the graph."""


class OutOfMemory(InferenceError):
    """Not even one image fits into memory."""


class ProcessDied(InferenceError):
    """The process of an isolated explainer crashed, or was ended."""


class TimedOut(InferenceError):
    """A forward pass or an opening took longer than the limit."""


class UndefinedSaliency(OnnxCamError):
    """The method gives no map for this image (a constant map, NaN)."""


class CompileError(OnnxCamError):
    """An explanation that cannot be compiled, or whose file gives other maps."""


class OutputError(OnnxCamError):
    """A file that cannot be written."""


def near(name: str, known: Iterable[str], *, most: int = 5) -> str:
    """Returns the end of an 'unknown NAME' message: up to `most` close known names, or the first known ones."""
    names = list(known)
    folded = {n.casefold(): n for n in names}
    close = get_close_matches(name.casefold(), list(folded), n=most, cutoff=0.5)
    inside = [n for f, n in folded.items() if name.casefold() in f and f not in close][: most - len(close)]
    similar = [folded[c] for c in close] + inside
    if similar:
        return f"did you mean {', '.join(similar)}?"
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"known: {shown}" if names else "none are known"
