"""Makes the graph of one picture without batch axis take any batch, before it is analysed.

opening.py calls with_batch() after the first run. The analysis then sees the axes that it knows from other models.
"""

from dataclasses import replace

from onnxcam.limits import Limits
from onnxcam.logs import module_logger
from onnxcam.network.dry_run import run_trace
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.vmap.driver import CannotBatch, free_batch
from onnxcam.types import Arrays

logger = module_logger(__name__)


def with_batch(
    model: Model, image: ImageInput, size: tuple[int, ...], inputs: Arrays, trace: Trace, limits: Limits
) -> tuple[Model, ImageInput, Trace]:
    """(the model for any batch, its image input, its trace); as they are where an operator stands in the way.

    trace: of the model with a batch of one, which passes/added_axes.py gave it. limits: of the run.
    """
    try:
        batched = free_batch(model, trace.shapes, trace.values, [image.name], limits)
    except CannotBatch as error:
        logger.info("no batch axis: %s", error)
        return model, image, trace
    image = replace(image, batch=None)
    return batched, image, replace(run_trace(batched, image, size, inputs, limits), taken=trace.taken)
