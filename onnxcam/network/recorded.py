"""Whether a record of the cache describes the model at hand; cache.py says whether it is as it was written.

What a record says is never believed where the graph says it too: shapes are compared with what follows from the input,
and values that follow from shapes are computed again. A record that does not fit is no record.
"""

from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError
from onnxcam.logs import module_logger
from onnxcam.network.cache import ModelRecord
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.recorded_shapes import build_arithmetic, contradiction
from onnxcam.surgeon.analysis.sizes import candidate_sizes
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.surgeon.ir import Model, Shapes
from onnxcam.types import Arrays, BatchMode

logger = module_logger(__name__)


def trace_of(
    record: ModelRecord, model: Model, image: ImageInput, size: tuple[int, ...], *, assumed: bool
) -> Trace | None:
    """The trace that a run of the model would give, as far as can be seen; None if the record is not of this model.

    size: at which it is tried first. assumed: whether another one of the candidates may be used.
    """
    problem = _problem(record, model, image, size, assumed=assumed)
    values = _values(model, record.shapes) if problem is None else None
    if values is None:
        logger.info("cache: the record is not of this model (%s)", problem or "its values cannot be computed")
        return None
    return Trace(record.shapes, values)


def _problem(
    record: ModelRecord, model: Model, image: ImageInput, size: tuple[int, ...], *, assumed: bool
) -> str | None:
    shape = record.shapes.get(image.name, ())
    if len(shape) != len(image.layout):
        return f"the image has the shape {shape}"
    sides = image.sides_in(shape)
    if sides != size and not (assumed and sides in candidate_sizes(model, image)):
        return f"the sides {sides}"
    if shape != image.shape(sides, image.batch or 1):
        return f"the image has the shape {shape}"
    if record.mode is BatchMode.DYNAMIC and image.batch is not None:
        return f"a batch of {image.batch} that is called dynamic"
    name = contradiction(model, record.shapes)
    return None if name is None else f"the shape of {name}"


def _values(model: Model, shapes: Shapes) -> Arrays | None:
    """The tensors that follow from shapes and constants alone; None if they cannot be computed."""
    arithmetic = build_arithmetic(model, shapes)
    if arithmetic is None:
        return {}
    try:
        session = Session(arithmetic.data, ("cpu",), 1, optimise=False)
        try:
            results = session.run(list(arithmetic.names), {})
        finally:
            session.close()
    except InferenceError:
        return None
    values = dict(zip(arithmetic.names, results, strict=True))
    return values if all(shapes[name] == array.shape for name, array in values.items()) else None
