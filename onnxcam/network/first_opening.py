"""Opens a model of which nothing is stored that could be run. Start reading at `open_first`.

    prepare the input -> store weights that nodes fill -> unroll loops -> dry run -> take the branches of every If
    -> locate the feature map -> (with a class token: an earlier feature map) -> make the batch dynamic
    -> open the session -> verify

The passes come from the surgeon; this module runs the model in between to see what is true of it. batch_support.py does
the last three steps. What was learnt is stored for the next opening (cache.py).
"""

import hashlib
from dataclasses import dataclass, replace

import onnx

from onnxcam.engine.providers import parse_providers
from onnxcam.errors import OnnxCamError, OutOfMemory, TimedOut
from onnxcam.logs import module_logger
from onnxcam.network import cache
from onnxcam.network.added_batch import with_batch
from onnxcam.network.batch_support import BatchTrial
from onnxcam.network.class_token import has_class_token, several_before_class_tokens
from onnxcam.network.dry_run import noise, without_branches
from onnxcam.network.extra_inputs import extra_inputs, for_batch
from onnxcam.network.open_options import OpenOptions as OpenOptions
from onnxcam.network.opened import Graphs, OpenedModel, still_read
from onnxcam.network.recorded import trace_of
from onnxcam.network.selection import Selection
from onnxcam.network.selection_split import split_selection
from onnxcam.network.sizes import size_notes, traced_at_fitting_size
from onnxcam.surgeon.analysis.anatomy import Anatomy, ImageInput, Kind
from onnxcam.surgeon.analysis.candidate_table import CANDIDATES
from onnxcam.surgeon.analysis.locate import locate
from onnxcam.surgeon.analysis.sides import resolve_size
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.surgeon.graphs.raw_table import RAW_TABLE, join_raw_scales
from onnxcam.surgeon.ir import Model, values
from onnxcam.surgeon.loading import ModelFile
from onnxcam.surgeon.passes.control_flow import unroll_loops
from onnxcam.surgeon.passes.fill_weights import store_filled_weights
from onnxcam.surgeon.passes.frame_axis import add_frame_axis
from onnxcam.surgeon.passes.joined_pictures import split_off
from onnxcam.surgeon.passes.joined_sides import with_plain_heads
from onnxcam.surgeon.passes.quantised import is_quantised
from onnxcam.surgeon.passes.single_precision import computes_in_single_precision
from onnxcam.surgeon.preparation import prepare_model
from onnxcam.surgeon.session_bytes import WORTHWHILE, weight_bytes
from onnxcam.types import Arrays, Note

logger = module_logger(__name__)


@dataclass(frozen=True, eq=False)
class _Start:
    """The graph that an opening starts from: the file's own, or one that ends in a detector's table.

    runnable, notes: as PreparedModel has them, of this graph. size: (H,W) to begin with. options: those of the caller,
    with the output and the kind of the table. exported: as OpenedModel has it.
    """

    model: Model
    image: ImageInput
    runnable: Model | None
    notes: tuple[Note, ...]
    size: tuple[int, ...]
    options: OpenOptions
    selection: Selection | None = None
    exported: Model | None = None


def _start(file: ModelFile, options: OpenOptions) -> _Start:
    """Prepares the file's graph, and puts the table of a detector's candidates, or of its raw scales, at its end."""
    prepared = prepare_model(file.model, options.layout, options.image_input)
    options.limits.check()
    plain = with_plain_heads(store_filled_weights(prepared.model))
    model, image = unroll_loops(plain, options.limits), prepared.image
    size, notes = resolve_size(image, options.size), prepared.notes
    if options.kind not in (None, Kind.BOXES):
        return _Start(model, image, prepared.runnable, notes, size, options)
    selection = split_selection(
        model, image, size, options.output, options.inputs, assumed=_is_assumed(options), limits=options.limits
    )
    if selection is not None:
        table, image = selection.graphs.candidates, replace(image, added=())
        options = replace(options, output=CANDIDATES, kind=Kind.BOXES)
        return _Start(table, image, table, notes, selection.size, options, selection, model)
    scales = join_raw_scales(model, image) if options.output in (None, RAW_TABLE) else None
    if scales is not None:
        options = replace(options, output=RAW_TABLE, kind=Kind.BOXES)
        return _Start(scales[0], image, scales[0], (*notes, scales[1]), size, options, None, model)
    return _Start(model, image, prepared.runnable, notes, size, options)


def _is_assumed(options: OpenOptions) -> bool:
    """Whether another size may be used, where the model does not run at this one."""
    return options.size is None or options.size_is_assumed


def open_first(file: ModelFile, options: OpenOptions) -> OpenedModel:
    """Opens the model of a file, verified. Raises as open_model()."""
    start = _start(file, options)
    key = _key(file, options, start.size)  # the caller's options, from which the start follows
    cached = options.cache and 0 not in start.image.added  # what is recorded is the trace of a graph with a batch axis
    record = cache.load(key) if cached else None
    if record is not None:
        try:
            return _opened(file, options, start, key, record)
        except (OutOfMemory, TimedOut):
            raise
        except OnnxCamError as error:
            logger.info("cache: nothing opens by the record, which is learnt again (%s)", error)
    return _opened(file, options, start, key, None)


def _opened(
    file: ModelFile, options: OpenOptions, start: _Start, key: str, record: "cache.ModelRecord | None"
) -> OpenedModel:
    """The model as opened from its start. record: of an earlier opening, which counts if it is of this model."""
    requested = resolve_size(start.image, options.size)
    model, image, selection, options = start.model, start.image, start.selection, start.options
    inputs = extra_inputs(model, image, still_read(options.inputs, selection))
    cached = options.cache and 0 not in image.added
    assumed = _is_assumed(options)
    known = trace_of(record, model, image, start.size, assumed=assumed) if record is not None else None
    if record is None or known is None:
        record = None
        size, model, trace, notes = traced_at_fitting_size(
            model, image, start.size, inputs, assumed=assumed, limits=options.limits, exported=_exported(file, start)
        )
    else:
        size = image.sides_in(known.shapes[image.name])
        model, trace, notes = without_branches(model, image, size, inputs, known, options.limits)
    traced = trace
    if 0 in image.added:
        model, image, trace = with_batch(model, image, size, inputs, trace, options.limits)
    anatomy = _located(model, image, size, inputs, trace, options)
    tokens = options.layer == "auto" and any(map(has_class_token, (anatomy.features, *anatomy.branches)))
    followed = selection.notes if selection is not None else ()
    notes = (*start.notes, *size_notes(requested, size), *notes, *followed)
    options.limits.check()
    joined = model
    model, anatomy, shapes = add_frame_axis(*split_off(model, anatomy, trace.shapes))
    joins_pictures = model is not joined and image.frames is None
    trace = replace(trace, shapes=shapes, outputs=trace.outputs if anatomy.image == image else {})
    opener = BatchTrial(file, start.runnable, model, joins_pictures, trace, anatomy, size, inputs, options, record)
    batched = opener.open()
    graph, batching = batched.model, batched.batching
    if cached and record is None and not trace.taken:  # the branch of an If is found anew at every opening
        cache.store(key, cache.ModelRecord(traced.shapes, batching.mode, batching.reason))
    graphs = Graphs(lambda: (graph, start.exported))
    in_floats = computes_in_single_precision(graph, anatomy.image.name) and not is_quantised(graph)
    return OpenedModel(
        batched.network, graphs, anatomy, size, batching, inputs, notes, options, trace.shapes, selection, tokens,
        in_floats, scoring=batched.scoring,
    )  # fmt: skip


def _exported(file: ModelFile, start: _Start) -> onnx.ModelProto | None:
    """The file, where the graph that is opened is the file's, tensor for tensor, and one picture is the whole batch.

    One run of it shows the shapes and what the network is verified by. Not of models whose numbers depend on how
    onnxruntime optimises them: they are verified by a run like the network's own.
    """
    model = start.model
    if model is not file.model or file.maps or start.image.batch not in (None, 1):
        return None
    if weight_bytes(model) >= WORTHWHILE:  # session_bytes() takes less memory than the file and its bytes
        return None
    if is_quantised(model) or not computes_in_single_precision(model, start.image.name):
        return None
    graph = file.proto.graph
    names = {v.name for v in graph.input}.union(*(node.output for node in graph.node))
    return file.proto if all(value.name in names for value in values(model)) else None


def _located(
    model: Model, image: ImageInput, size: tuple[int, ...], inputs: Arrays, trace: Trace, options: OpenOptions
) -> Anatomy:
    """What the analysis finds in the graph, with the features that the method can use."""
    anatomy = locate(
        model,
        size=size,
        layer=options.layer,
        output=options.output,
        kind=options.kind,
        shapes=trace.shapes,
        fixed=trace.values,
        image=image,
    )
    if options.every_cell_counts and options.layer == "auto":
        shape = image.shape(size, image.batch or 1)
        feeds = {image.name: noise(image, shape), **for_batch(model, image, inputs, shape[0])}
        anatomy = several_before_class_tokens(model, anatomy, trace, feeds, size, options.limits)
    return anatomy


def _key(file: ModelFile, options: OpenOptions, size: tuple[int, ...]) -> str:
    """Name of the record of a file that is opened with these options, of the caller, and tried at this size first."""
    choices = (
        options.layout,
        options.image_input,
        size,
        options.size_is_assumed,
        options.layer,
        options.output,
        options.kind,
        options.every_cell_counts,
        # ['cpu'] and [('cpu', {})] are the same.
        [(p.name, sorted(p.options.items())) for p in parse_providers(options.providers)],
        options.engine.half,
        options.engine.precision,
    )
    # The values of the inputs too, because a switch among them may choose the branch.
    inputs = [
        (n, a.shape, a.dtype.str, hashlib.sha256(a.tobytes()).hexdigest()) for n, a in sorted(options.inputs.items())
    ]
    return cache.key(file.fingerprint, *map(str, (*choices, inputs)))
