"""The model's own outputs in a compiled file: they are compared with those of the model as its file has it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.compiler.file_shapes import with_file_shapes
from onnxcam.compiler.rows import is_quantised
from onnxcam.engine.session import Session
from onnxcam.errors import CompileError
from onnxcam.network.opening import OpenedModel
from onnxcam.network.verification import SURGERY_TOLERANCE
from onnxcam.surgeon import ir
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.loading import ModelFile
from onnxcam.types import Arrays, NoteCode

OUTPUT_TOLERANCE = 1e-3
"""The largest difference of an output, over its largest number; in half precision and quantised SURGERY_TOLERANCE."""
NUMBERS = "fiubV"
"""Kinds of NumPy's types whose numbers are compared within a tolerance; bfloat16 is of kind V."""


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """Runs the model of a file. tolerance: of an output, over its largest number."""

    session: Session
    tolerance: float

    def check(self, inputs: Arrays, results: Arrays) -> None:
        """Raises CompileError where the results of a compiled file differ from what the model gives for the inputs."""
        outputs = [name for name in self.session.outputs if name in results]
        feeds = {n: a for n, a in inputs.items() if n in self.session.inputs}
        for name, expected in zip(outputs, self.session.run(outputs, feeds), strict=True):
            _check_output(name, results[name], expected, self.tolerance)


def model_outputs(file: ModelFile, opened: OpenedModel, *, raw: bool) -> ModelOutputs:
    """raw: the compiled file takes pictures, and resizes them."""
    options = opened.options
    session = Session(ir.to_bytes(_original(file, opened)), ("cpu",), options.threads, limits=options.limits)
    coarse = ir.computes_in_half(opened.model) or is_quantised(opened.model)
    return ModelOutputs(session, SURGERY_TOLERANCE if coarse and not raw else OUTPUT_TOLERANCE)


def _original(file: ModelFile, opened: OpenedModel) -> Model:
    """The graph of the file itself, whose outputs the compiled file must give.

    Where the file's image has another batch or other axes than the opened one, or its numbers no kernels, the graph as
    opened, which was compared with the file when it was opened, with the shapes of the file.
    """
    image = opened.anatomy.image
    rewritten = any(note.code is NoteCode.COMPUTED_IN_FLOAT32 for note in (*opened.notes, *opened.anatomy.notes))
    same_batch = (image.batch or 1) == (opened.network.fixed or 1)
    if image.added or rewritten or not same_batch:
        return with_file_shapes(ir.edit(opened.model), opened)
    return file.model


def _check_output(
    name: str, actual: npt.NDArray[np.generic], expected: npt.NDArray[np.generic], tolerance: float
) -> None:
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise CompileError(
            f"the compiled file gives the model's output {name!r} as {actual.dtype} {list(actual.shape)} where the "
            f"model gives {expected.dtype} {list(expected.shape)}, so it is not written; export the model without that "
            f"output, or compile another method"
        )
    if not _are_alike(actual, expected, tolerance):
        raise CompileError(
            f"the compiled file changes the model's output {name!r}, so it is not written; a quantised model may round "
            f"otherwise: compile its float export, or grad-cam; of another model compile another method"
        )


def _are_alike(actual: object, expected: object, tolerance: float) -> bool:
    """Whether numbers differ by no more than a share of the largest one, and everything else is equal.

    An array of objects holds the parts of a sequence, or texts.
    """
    if isinstance(actual, dict) and isinstance(expected, dict):
        same = actual.keys() == expected.keys()
        return same and all(_are_alike(actual[key], expected[key], tolerance) for key in expected)
    one, other = np.asarray(actual), np.asarray(expected)
    if one.shape != other.shape:
        return False
    if other.dtype.kind == "O" and isinstance(expected, np.ndarray):
        return all(_are_alike(a, b, tolerance) for a, b in zip(one.flat, other.flat, strict=True))
    if other.dtype.kind not in NUMBERS:
        return bool(actual == expected) if other.ndim == 0 else bool(np.array_equal(one, other))
    limit = tolerance * float(np.abs(np.asarray(other, np.float64)).max(initial=1e-6))
    return np.allclose(np.asarray(one, np.float64), np.asarray(other, np.float64), 0, limit, equal_nan=True)
