"""OpenedModel: a model that is ready for images. opening.py and first_opening.py make it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING

from onnxcam.errors import OptionError, TimedOut
from onnxcam.network import stored_graphs
from onnxcam.network.extra_inputs import extra_inputs
from onnxcam.network.open_options import OpenOptions
from onnxcam.network.scorer import Network
from onnxcam.network.selection import Detections, Selection
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.types import Arrays, BatchMode, Image, MaskForm, Note, NoteCode, Shapes

if TYPE_CHECKING:
    from onnxcam.surgeon.ir import Model


@dataclass(frozen=True)
class BatchSupport:
    """How the model takes several images at once, and why (a text for people)."""

    mode: BatchMode
    reason: str


class Graphs:
    """The graphs of an opened model, which are made when first asked for."""

    def __init__(self, make: "Callable[[], tuple[Model, Model | None]]") -> None:
        """make: gives the model and what was exported, as OpenedModel has them."""
        self._make = make

    @cached_property
    def _made(self) -> "tuple[Model, Model | None]":
        return self._make()

    @property
    def model(self) -> "Model":
        return self._made[0]

    @property
    def exported(self) -> "Model | None":
        return self._made[1]


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A network that is ready for images.

    graphs: what the graphs that a method needs are built of. size: (H,W). inputs: values of the extra inputs. notes:
    what a reader of the result should know. shapes: of every tensor of the export, at its batch (one if dynamic).
    selection: at the end of a detector, whose table of candidates is opened. has_class_token: whether
    OpenOptions.every_cell_counts may choose other features. computes_in_floats: whether the image and all weights are
    in single precision and nothing is quantised. stored_as: name of what is stored of this opening, '' for nothing.
    scoring: the bytes of the network's graph until they are stored, b"" afterwards and where they are too large to be
    kept beside the session.
    """

    network: Network
    graphs: Graphs
    anatomy: Anatomy
    size: tuple[int, ...]
    batching: BatchSupport
    inputs: Arrays
    notes: tuple[Note, ...]
    options: OpenOptions
    shapes: Shapes
    selection: Selection | None = None
    has_class_token: bool = False
    computes_in_floats: bool = True
    stored_as: str = ""
    scoring: bytes = field(default=b"", repr=False)

    @property
    def model(self) -> "Model":
        """The graph that the network runs, without masking. Of a stored opening it is made when first asked for."""
        return self.graphs.model

    @property
    def exported(self) -> "Model | None":
        """The graph with the file's own outputs, where `model` ends in a table that was made for the explanation."""
        return self.graphs.exported

    @property
    def output(self) -> str:
        """The name of the model's output that is scored, or listed by the detections whose candidates are scored."""
        return self.anatomy.logits.output if self.selection is None else self.selection.graphs.outputs[0]

    def close(self) -> None:
        """Frees the sessions; a later run raises InferenceError."""
        self.network.close()
        if self.selection is not None:
            self.selection.close()

    def with_form(self, *, with_fill: bool, form: MaskForm) -> "OpenedModel":
        """The same model with a scoring graph for other masks, and sessions of its own, except those of a selection.

        Raises InferenceError or OutOfMemory.
        """
        options = replace(self.options, with_fill=with_fill, form=form)
        old = self.network
        network = open_network(
            lambda: scoring_bytes(
                self.model, self.anatomy, self.size, options, fixed=old.fixed, extra=old.extra
            ),
            self.anatomy, self.size, options, fixed=old.fixed, extra=old.extra,
        )  # fmt: skip
        if old.masks_alone:
            network.run_masks_alone()
        return replace(self, network=network, options=options, stored_as="")

    def graph(self, name: str, build: Callable[[], bytes]) -> bytes:
        """A graph that follows from this opening, its provider and its name: as stored, else built, and stored."""
        if not self.stored_as or stored_graphs.has_rules_from_outside():
            return build()
        key = stored_graphs.key(self.stored_as, self.network.provider, name)
        stored = stored_graphs.load(key, NoneType)
        if stored is not None:
            return stored.graph
        graph = build()
        stored_graphs.store(key, graph, None)
        return graph

    def detections(self, image: Image, inputs: Arrays) -> Detections | None:
        """What a detector that chooses among candidates detects on an image (C,H,W); None for another model."""
        if self.selection is None:
            return None
        given = {**self.options.inputs, **inputs}
        return self.selection.detections(self.network.to_model_layout(image), given)

    def extra(self, values: Arrays) -> Arrays:
        """The values of the extra inputs, with those of one image in place of the model's. Raises OptionError."""
        if not values:
            return self.inputs
        if any(note.code in (NoteCode.BRANCH_TAKEN, NoteCode.BRANCH_OF_SIZE) for note in self.notes):
            raise OptionError(
                "a model with an If takes its inputs when it is opened, because they may choose the branch"
            )
        return extra_inputs(self.model, self.anatomy.image, {**self.inputs, **still_read(values, self.selection)})


def still_read(inputs: Arrays, selection: Selection | None) -> Arrays:
    """The values of the inputs that a table of candidates depends on: the selection may read more."""
    if selection is None:
        return inputs
    read = {str(v.name) for v in selection.graphs.candidates.graph.inputs}
    dropped = {str(v.name) for v in selection.model.graph.inputs} - read
    return {name: value for name, value in inputs.items() if name not in dropped}


class Once:
    """Gives the bytes of a graph once and lets them go; builds them where it is asked again, which is rare."""

    def __init__(self, graph: bytes, built: Callable[[], bytes]) -> None:
        self._graph: bytes | None = graph
        self._built = built

    def __call__(self) -> bytes:
        graph, self._graph = self._graph, None
        return graph if graph is not None else self._built()


def scoring_bytes(
    model: "Model",
    anatomy: Anatomy,
    size: tuple[int, ...],
    options: OpenOptions,
    *,
    fixed: int | None,
    extra: Mapping[str, bool],
) -> bytes:
    """The scoring graph of a model, as the options have it."""
    from onnxcam.surgeon.graphs.masked_score import scoring_model
    from onnxcam.surgeon.passes.mixed_precision import convert_to_mixed_precision
    from onnxcam.surgeon.session_bytes import session_bytes

    plain = convert_to_mixed_precision(model) if options.engine.half else model
    return session_bytes(
        scoring_model(plain, anatomy, size, with_fill=options.with_fill, batch=fixed, extra=extra, form=options.form)
    )


def open_network(
    graph: Callable[[], bytes],
    anatomy: Anatomy,
    size: tuple[int, ...],
    options: OpenOptions,
    *,
    fixed: int | None,
    extra: Mapping[str, bool],
) -> Network:
    """Opens a scoring graph. graph: gives its bytes."""
    options.limits.check()
    network = Network(
        graph,
        anatomy,
        size,
        with_fill=options.with_fill,
        providers=options.providers,
        threads=options.threads,
        batch=options.batch,
        fixed=fixed,
        extra=extra,
        form=options.form,
        engine=options.engine,
        limits=options.limits.lasting,
    )
    try:
        options.limits.check()
    except TimedOut:
        network.close()
        raise
    return network
