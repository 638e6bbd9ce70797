"""Splits a detector that chooses among candidates into its table of candidates and its choice: a Selection."""

from onnxcam.errors import InferenceError, TimedOut
from onnxcam.limits import SAFE, Limits
from onnxcam.network.dry_run import run_trace
from onnxcam.network.extra_inputs import blank_inputs, extra_inputs
from onnxcam.network.selection import Selection
from onnxcam.network.sizes import traced_at_fitting_size
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.candidate_table import CANDIDATES
from onnxcam.surgeon.analysis.selection import may_choose
from onnxcam.surgeon.graphs.candidates import split_at_selection
from onnxcam.surgeon.ir import Model
from onnxcam.types import Arrays


def split_selection(
    model: Model,
    image: ImageInput,
    size: tuple[int, ...],
    output: str | None,
    inputs: Arrays,
    *,
    assumed: bool,
    limits: Limits = SAFE,
) -> Selection | None:
    """The selection at the end of a model; None for a model without one, or where another output is asked for.

    inputs: values of extra inputs; zeros stand for those that are missing. assumed: whether another size may be taken
    where the model does not run at this one. Raises what a run raises, and ModelError where detections cannot be led
    back to candidates.
    """
    if not may_choose(model):
        return None
    values = extra_inputs(model, image, {**blank_inputs(model, image), **inputs})
    try:
        trace = run_trace(model, image, size, values, limits)
    except TimedOut:
        raise
    except InferenceError:
        size = traced_at_fitting_size(model, image, size, values, assumed=assumed, limits=limits)[0]
        trace = run_trace(model, image, size, values, limits)
    graphs = split_at_selection(model, trace.shapes, image.batch, output)
    if graphs is None or output not in (None, CANDIDATES, *graphs.outputs):
        return None
    return Selection(graphs, image, model, size, limits)
