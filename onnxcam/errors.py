"""What can go wrong, as one tree.

    OnnxCamError
    ├── PictureError            a picture that cannot be read, or does not fit the model
    ├── ModelError              a file that is not a usable ONNX model
    │   ├── NoSpatialFeatures   a model in which no tensor keeps the picture's geometry
    │   ├── UnknownLayer        a tensor or node name that the graph does not have
    │   └── MissingGradient     an operator on the way that no gradient rule covers
    ├── TargetError             a class that the model does not have
    ├── PresetError             an unknown or contradictory preprocessing
    ├── LabelError              a label file that does not fit the model
    ├── OptionError             any other option value that makes no sense
    ├── ProviderError           an execution provider that is not there or does not start
    ├── RuntimeMissing          no onnxruntime installed
    ├── InferenceError          the runtime refused or failed to run the graph
    │   └── OutOfMemory         one single picture does not fit into memory
    ├── UndefinedSaliency       the method has no answer for this picture (a constant map, NaN)
    └── OutputError             a file that cannot be written

The command line prints these in one or two lines and exits 1; anything else is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class OnnxCamError(Exception):
    """Base of everything that onnxcam raises on purpose."""


class PictureError(OnnxCamError):
    pass


class ModelError(OnnxCamError):
    pass


class NoSpatialFeatures(ModelError):
    pass


class UnknownLayer(ModelError):
    pass


class MissingGradient(ModelError):
    pass


class TargetError(OnnxCamError):
    pass


class PresetError(OnnxCamError):
    pass


class LabelError(OnnxCamError):
    pass


class OptionError(OnnxCamError):
    pass


class ProviderError(OnnxCamError):
    pass


class RuntimeMissing(OnnxCamError):
    pass


class InferenceError(OnnxCamError):
    pass


class OutOfMemory(InferenceError):
    pass


class UndefinedSaliency(OnnxCamError):
    pass


class OutputError(OnnxCamError):
    pass


def near(name: str, known: Iterable[str], *, most: int = 5) -> str:
    """The clause that ends an 'unknown NAME' message: the closest known names, or the first few."""
    names = list(known)
    folded = {n.casefold(): n for n in names}
    close = get_close_matches(name.casefold(), list(folded), n=most, cutoff=0.5)
    inside = [n for f, n in folded.items() if name.casefold() in f and f not in close][: most - len(close)]
    found = [folded[c] for c in close] + inside
    if found:
        return f"did you mean {', '.join(found)}?"
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"known: {shown}" if names else "none are known"
