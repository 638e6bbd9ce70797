"""From a model's file to an opened network: what stands before the first picture.

    file ─ unroll loops ─ trace ─ take branches ─ locate ─ free the batch ─ open ─ verify

Each step is a pass of the surgeon; this is the place that runs models in between to see what is true. What was seen
is kept for the next start (cache.py), so that only the passes are repeated.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.providers import ProviderSpec
from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError, ModelError, OptionError, OutOfMemory
from onnxcam.network import cache
from onnxcam.network.batch_check import HALF_TOLERANCE, TOLERANCE, rows_interact, why_not_batched
from onnxcam.network.class_token import before_class_token
from onnxcam.network.dry_run import noise, without_branches
from onnxcam.network.extra_inputs import extra_inputs, for_batch, is_batched
from onnxcam.network.scorer import Network, probabilities
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy, Kind
from onnxcam.surgeon.analysis.locate import find_image, locate, resolve_size
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.surgeon.graphs.masked_score import FEATURE_MASKS
from onnxcam.surgeon.ir import Model, Shapes
from onnxcam.surgeon.loading import ModelFile
from onnxcam.surgeon.passes.control_flow import unroll_loops
from onnxcam.surgeon.passes.fill_weights import store_filled_weights
from onnxcam.surgeon.vmap.driver import CannotBatch, free_batch
from onnxcam.types import Arrays, MaskForm, Note, NoteCode

SURGERY_TOLERANCE = 1e-2
"""Of the largest number: what the runtime's own optimisations may change in a quantised model."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenOptions:
    """What was asked for when a model is opened.

    inputs: of the model's extra inputs, one picture's values. every_cell_counts: a feature tensor is needed that the
    score reads at every cell, not at a class token only.
    """

    layout: str | None = None
    size: tuple[int, ...] | None = None
    layer: str = "auto"
    output: str | None = None
    kind: Kind | None = None
    inputs: Arrays = field(default_factory=dict)
    providers: Sequence[ProviderSpec] = ("auto",)
    threads: int | None = None
    batch: int | None = None
    with_fill: bool = False
    form: MaskForm = FEATURE_MASKS
    every_cell_counts: bool = False
    engine: EngineOptions = PLAIN


@dataclass(frozen=True)
class BatchSupport:
    """mode: 'dynamic' (as exported), 'rewritten' (made dynamic and verified) or 'looped' (one run a picture)."""

    mode: str
    reason: str


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A network ready for pictures. model: the graph that it runs, without masking; inputs: further ones, filled in.

    shapes: of every tensor of the export, at the batch that it has (one if dynamic).
    """

    network: Network
    model: Model
    anatomy: Anatomy
    size: tuple[int, ...]
    batching: BatchSupport
    inputs: Arrays
    notes: tuple[Note, ...]
    options: OpenOptions
    shapes: Shapes

    def extra(self, given: Arrays) -> Arrays:
        """The extra inputs' values, with those of one picture laid over them."""
        if not given:
            return self.inputs
        if any(note.code is NoteCode.BRANCH_TAKEN for note in self.notes):
            raise OptionError(
                "the inputs of a model with an If are given when it is opened: they may choose the branch"
            )
        return extra_inputs(self.model, self.anatomy.image, {**self.inputs, **given})


def open_model(file: ModelFile, options: OpenOptions) -> OpenedModel:
    """Raises ModelError, PresetError, OptionError, ProviderError or InferenceError, all before any picture is read."""
    try:
        return _opened(file, options)
    except MemoryError:
        raise OutOfMemory("the model or its input does not fit into memory") from None


def _opened(file: ModelFile, options: OpenOptions) -> OpenedModel:
    model = unroll_loops(store_filled_weights(file.model))
    image = find_image(model, options.layout)
    size = resolve_size(image, options.size)
    inputs = extra_inputs(model, image, options.inputs)
    key = _key(file, options, size)
    known = cache.load(key)
    if known is not None and not _describes(known.trace, model):
        known = None
    trace = known.trace if known is not None else None
    model, trace, notes = without_branches(model, image, size, inputs, trace)
    anatomy = locate(
        model,
        layout=options.layout,
        size=size,
        layer=options.layer,
        output=options.output,
        kind=options.kind,
        shapes=trace.shapes,
    )
    if options.every_cell_counts and options.layer == "auto":
        shape = image.shape(size, image.batch or 1)
        feeds = {image.name: noise(image, shape), **for_batch(model, image, inputs, shape[0])}
        anatomy = before_class_token(model, anatomy, trace.shapes, feeds, size)
    maker = _Opener(file, model, trace, anatomy, size, inputs, options, known)
    network, used, batching = maker.open()
    if known is None and not trace.taken:  # which way an If goes is looked at anew every time
        cache.store(key, cache.Known(trace, batching.mode, batching.reason))
    return OpenedModel(network, used, anatomy, size, batching, inputs, notes, options, trace.shapes)


def _key(file: ModelFile, options: OpenOptions, size: tuple[int, ...]) -> str:
    asked = (
        options.layout,
        size,
        options.layer,
        options.output,
        options.kind,
        tuple(options.providers),
        options.engine.half,
    )
    # Their values too: a switch among the inputs may choose the branch that was seen.
    inputs = [
        (n, a.shape, a.dtype.str, hashlib.sha256(a.tobytes()).hexdigest()) for n, a in sorted(options.inputs.items())
    ]
    return cache.key(file.fingerprint, *map(str, (*asked, inputs)))


def _describes(trace: Trace, model: Model) -> bool:
    """Whether a record is of this graph: it names every tensor."""
    return {str(v.name) for v in ir.values(model)} <= set(trace.shapes)


@dataclass(frozen=True, eq=False)
class _Opener:
    """Tries the ways to batch, best first, and believes none before it was verified."""

    file: ModelFile
    model: Model
    trace: Trace
    anatomy: Anatomy
    size: tuple[int, ...]
    inputs: Arrays
    options: OpenOptions
    known: "cache.Known | None"

    def open(self) -> tuple[Network, Model, BatchSupport]:
        if self.known is not None:
            return self._again(self.known)
        fixed = self.anatomy.image.batch
        reason = f"the export is fixed to a batch of {fixed}"
        if fixed is None:
            network = self._network(self.model, None)
            trouble = why_not_batched(network, self.inputs, self._tolerance)
            if trouble is None:
                verified = self._check_surgery(network)
                return network, self.model, BatchSupport("dynamic", f"the export takes any batch; {verified}")
            network.close()
            reason = f"the export declares a dynamic batch, but {trouble}"
        rewritten, trouble = self._rewritten()
        if rewritten is not None:
            network, freed, verified = rewritten
            return network, freed, BatchSupport("rewritten", f"{reason}; made dynamic and {verified}")
        network = self._network(self.model, fixed or 1)
        if rows_interact(network, self.inputs, self._tolerance):
            network.keep_apart()
        self._check_surgery(network)
        return network, self.model, BatchSupport("looped", f"{reason}, and cannot be made dynamic: {trouble}")

    def _again(self, known: "cache.Known") -> tuple[Network, Model, BatchSupport]:
        """As it was found to work at the first start."""
        batching = BatchSupport(known.mode, known.reason)
        model = self._freed() if known.mode == "rewritten" else self.model
        fixed = (self.anatomy.image.batch or 1) if known.mode == "looped" else None
        network = self._network(model, fixed)
        if rows_interact(network, self.inputs, self._tolerance):
            network.keep_apart()
        return network, model, batching

    def _rewritten(self) -> tuple[tuple[Network, Model, str] | None, str]:
        try:
            freed = self._freed()
            network = self._network(freed, None)
        except OutOfMemory:
            raise
        except (CannotBatch, InferenceError) as error:
            return None, str(error)
        try:
            trouble = why_not_batched(network, self.inputs, self._tolerance)
        except OutOfMemory:
            raise
        except InferenceError as error:
            trouble = str(error)
        if trouble is None:
            return (network, freed, self._check_surgery(network)), ""
        network.close()
        return None, f"in the rewritten graph {trouble}"

    def _freed(self) -> Model:
        pinned = ir.edit(self.model)
        names = [self.anatomy.image.name, *(n for n, b in self._extra.items() if b)]
        return free_batch(pinned, self.trace.shapes, self.trace.values, names)

    @property
    def _extra(self) -> dict[str, bool]:
        batch = self.anatomy.image.batch
        values = {str(v.name): v for v in self.model.graph.inputs}
        picture = values[self.anatomy.image.name]
        return {name: is_batched(values[name], picture, batch) for name in self.inputs}

    @property
    def _tolerance(self) -> float:
        half = self.options.engine.half or ir.computes_in_half(self.model)
        return HALF_TOLERANCE if half else TOLERANCE

    def _network(self, model: Model, fixed: int | None) -> Network:
        options = self.options
        measured = options.threads is None and options.batch is None and cache.folder() is not None
        name = cache.key(
            "pace", _key(self.file, options, self.size), cache.machine(), str(options.form), str(options.with_fill)
        )
        return Network(
            model,
            self.anatomy,
            self.size,
            with_fill=options.with_fill,
            providers=options.providers,
            threads=options.threads,
            batch=options.batch,
            fixed=fixed,
            extra=self._extra,
            form=options.form,
            engine=options.engine,
            plan=cache.load_plan(name) if measured else None,
            keep=partial(cache.store_plan, name) if measured else None,
        )

    def _check_surgery(self, network: Network) -> str:
        """The numbers of the file as it is, against those of the graph that was made of it, on a picture of noise.

        Gives 'verified', or says why it could not be.
        """
        logits, image = self.anatomy.logits, self.anatomy.image
        session = Session(self.file.proto.SerializeToString(), ("cpu",), self.options.threads)
        picture = noise(image, image.shape(self.size))
        shape = image.shape(self.size, image.batch or 1)
        feeds = {image.name: np.repeat(picture, shape[0], axis=0)}
        feeds |= for_batch(self.model, image, self.inputs, shape[0])
        try:
            raw = session.run([logits.output], {n: a for n, a in feeds.items() if n in session.inputs})[0]
        finally:
            session.close()
        canonical = np.moveaxis(picture[0], image.layout.index("C") - 1, 0).astype(np.float32)
        if not np.isfinite(np.asarray(raw, np.float64)).all():
            return "NOT verified: the model answers NaN or infinity to a test picture"
        own = network.forward(network.feeds(canonical, canonical, self.inputs))[1]
        expected = np.asarray(raw, np.float64).reshape(-1)[: own.size]
        if logits.kind is Kind.REGION:
            expected = np.moveaxis(np.asarray(raw[0], np.float64), logits.channel_axis - 1, -1).reshape(-1)
            own = own.reshape(-1, logits.classes)
        given = _activated(own, logits.activation).reshape(-1)
        reach = SURGERY_TOLERANCE * max(float(np.abs(expected).max(initial=0)), 1e-6)
        if expected.shape != given.shape or not np.allclose(given, expected, 0, reach):
            raise ModelError(
                f"the graph that was made of {self.file.name} gives other numbers than the file itself, so nothing is "
                f"explained; {'leave out --half' if self.options.engine.half else 'please report this model'}"
            )
        return "verified"


def _activated(values: npt.NDArray[np.float64], activation: str) -> npt.NDArray[np.float64]:
    if activation == "none":
        return values
    found = probabilities(values, activation)
    return np.log(np.maximum(found, 1e-300)) if activation == "log_softmax" else found
