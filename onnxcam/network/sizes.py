"""Finds a size at which a model runs that declares its sides dynamic and does not take every size.

opening.py calls size_that_runs() when the first run fails. The candidates come from the graph (analysis/sizes.py).
"""

import time

import numpy as np
import onnx

from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError, ModelError, OutOfMemory, PresetError, TimedOut
from onnxcam.limits import SAFE, Limits
from onnxcam.network.dry_run import noise, without_branches
from onnxcam.network.extra_inputs import for_batch
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.sizes import candidate_sizes
from onnxcam.surgeon.analysis.tracing import CONTROL, Trace
from onnxcam.surgeon.ir import Model, Shapes, shape_of
from onnxcam.surgeon.session_bytes import session_bytes
from onnxcam.types import Arrays, Note, NoteCode

OF_UNKNOWN_COUNT = frozenset({"NonMaxSuppression", "NonZero", "Compress", "Unique", "TopK", *CONTROL})
"""Operators whose number of results depends on the numbers of the image."""
MOST_SECONDS = 10.0
"""Time for trying sizes; a size that does not fit usually fails early in the graph."""


def traced_at_fitting_size(
    model: Model,
    image: ImageInput,
    size: tuple[int, ...],
    inputs: Arrays,
    *,
    assumed: bool,
    limits: Limits = SAFE,
    exported: onnx.ModelProto | None = None,
) -> tuple[tuple[int, ...], Model, Trace, tuple[Note, ...]]:
    """(size, the model without Ifs, its trace, notes) at `size`, or at another one if the model does not run there.

    assumed: whether another size may be used; if not, PresetError names the one that fits. limits: of each run.
    exported: as run_trace() takes it. Raises what Session raises, and ModelError where no size fits.
    """
    try:
        branchless, trace, notes = without_branches(model, image, size, inputs, None, limits, exported)
        if _keeps_batch(model, image, trace.shapes) or not assumed:
            return size, branchless, trace, notes
        fitting = _fitting(model, image, size, inputs, limits)[0]
        if fitting is None:
            return size, branchless, trace, notes
    except (OutOfMemory, TimedOut):
        raise
    except InferenceError as error:
        fitting = size_that_runs(model, image, size, inputs, error, limits)
    if not assumed:
        raise PresetError(
            f"the model does not run on an input of {_sides(size)}, although it declares its sides dynamic; it runs "
            f"with --size {_sides(fitting)}"
        )
    branchless, trace, notes = without_branches(model, image, fitting, inputs, None, limits, exported)
    return fitting, branchless, trace, notes


def size_notes(requested: tuple[int, ...], size: tuple[int, ...]) -> tuple[Note, ...]:
    """A note where the size is not the one that was requested."""
    if size == requested:
        return ()
    text = (
        f"the model declares its sides dynamic and does not run on {_sides(requested)}; {_sides(size)} was found by "
        f"trying and is used: if it was made for another shape, choose it with --size"
    )
    return (Note(NoteCode.SIZE_TRIED, text),)


def size_that_runs(
    model: Model,
    image: ImageInput,
    size: tuple[int, ...],
    inputs: Arrays,
    error: InferenceError,
    limits: Limits = SAFE,
) -> tuple[int, ...]:
    """The first of the candidate sizes at which the model runs. error: of the run at `size`.

    Raises the error itself where no side is dynamic or the model does not open, and ModelError where no size fits.
    """
    fitting, tried = _fitting(model, image, size, inputs, limits)
    if fitting is not None:
        return fitting
    if not tried:
        raise error
    raise ModelError(
        f"the model does not run on an input of {_sides(size)}, although it declares its sides dynamic, nor at "
        f"{tried} other sizes that were tried; give the size that it was made for with --size"
    )


def _fitting(
    model: Model, image: ImageInput, size: tuple[int, ...], inputs: Arrays, limits: Limits
) -> tuple[tuple[int, ...] | None, int]:
    """(the first candidate at which the model runs, how many were tried)."""
    sizes = [s for s in candidate_sizes(model, image) if s != size] if None in image.sides else []
    if not sizes:
        return None, 0
    session = Session(session_bytes(model), ("cpu",), optimise=False, limits=limits)
    try:
        end = time.monotonic() + MOST_SECONDS
        for tried, candidate in enumerate(sizes):
            if time.monotonic() > end:
                return None, tried
            if _runs(session, model, image, candidate, inputs):
                return candidate, tried + 1
    finally:
        session.close()
    return None, len(sizes)


def _sides(size: tuple[int, ...]) -> str:
    """128x64, height first."""
    return "x".join(map(str, size))


def _runs(session: Session, model: Model, image: ImageInput, size: tuple[int, ...], inputs: Arrays) -> bool:
    """Whether the model runs at this size and gives a result for each picture that it takes."""
    shape = image.shape(size, image.batch or 1)
    feeds = {image.name: noise(image, shape), **for_batch(model, image, inputs, shape[0])}
    names = [str(v.name) for v in model.graph.outputs]
    try:
        read = {n: a for n, a in feeds.items() if n in session.inputs}
        results = session.run(names, read, pictures=shape[0])
    except TimedOut:
        raise
    except InferenceError:
        return False
    return _keeps_batch(model, image, {n: np.shape(a) for n, a in zip(names, results, strict=True)})


def _keeps_batch(model: Model, image: ImageInput, shapes: Shapes) -> bool:
    """Whether every output of several axes has one entry for each picture, as far as the graph declares it.

    A flattening to a constant length would else make several samples of a picture of another size.
    """
    if image.batch is not None or any(node.op_type in OF_UNKNOWN_COUNT for node in model.graph):
        return True
    outputs = [v for v in model.graph.outputs if (shape_of(v) or (0,))[0] is None and len(shape_of(v) or ()) > 1]
    return all(shapes.get(str(v.name), (1,))[:1] == (1,) for v in outputs)
