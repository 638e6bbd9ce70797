"""What an opening needs of the ones before it: with both parts stored, a start loads no onnx and analyses nothing.

    known_facts, store_facts    what was read of the file itself: its image input, its metadata (ModelFacts)
    open_stored, store_opening  the scoring graph, and what the analysis and the checks found (Opening)

Both count for the very file, options, limits, versions and code that they were made with, and are written after all
checks of a first opening have passed. Not stored is what has external weights, chooses among candidates, or takes a
branch by an If: such a model is opened as if for the first time (first_opening.py).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy.typing as npt

from onnxcam.engine.providers import parse_providers
from onnxcam.errors import OnnxCamError, OutOfMemory, TimedOut
from onnxcam.limits import Limits
from onnxcam.logs import module_logger
from onnxcam.network import cache, stored_graphs
from onnxcam.network.open_options import OpenOptions
from onnxcam.network.opened import BatchSupport, Graphs, Once, OpenedModel, open_network, scoring_bytes
from onnxcam.surgeon.analysis.anatomy import Anatomy, Kind
from onnxcam.surgeon.loading import ModelFacts, ModelFile
from onnxcam.types import Note, NoteCode, Shapes

logger = module_logger(__name__)
BY_RUN = frozenset({"inputs", "threads", "batch", "cache", "limits", "providers"})
"""Fields of OpenOptions that decide nothing of a graph, or that a key has in another form."""
BRANCHES = frozenset({NoteCode.BRANCH_TAKEN, NoteCode.BRANCH_OF_SIZE})


@dataclass(frozen=True)
class Opening:
    """An OpenedModel as plain data.

    output, kind: of the options, where the model chose them. fixed, extra: as Network takes them. masks_alone: whether
    each mask goes alone. provider: short name of the one that the checks ran on.
    """

    anatomy: Anatomy
    size: tuple[int, ...]
    batching: BatchSupport
    inputs: Mapping[str, npt.NDArray[Any]]
    notes: tuple[Note, ...]
    output: str | None
    kind: Kind | None
    shapes: Shapes
    fixed: int | None
    extra: Mapping[str, bool]
    masks_alone: bool
    has_class_token: bool
    computes_in_floats: bool
    provider: str


def known_facts(limits: Limits) -> Callable[[str], ModelFacts | None]:
    """What gives the facts of a file by its SHA-256, as read_model() takes it; None where nothing is stored."""

    def known(sha256: str) -> ModelFacts | None:
        stored = stored_graphs.load(_facts_key(sha256, limits), ModelFacts) if cache.folder() is not None else None
        return stored.data if stored is not None else None

    return known


def store_facts(file: ModelFile) -> None:
    """Stores what was read of a file, if it is all of the model and more than an earlier reading stored."""
    if _is_whole(file) and file.has_new_facts and cache.folder() is not None:
        stored_graphs.store(_facts_key(file.sha256, file.limits), b"", file.facts)


def opening_key(file: ModelFile, options: OpenOptions) -> str | None:
    """Name of what is stored of an opening; None where nothing is."""
    if not options.cache or not _is_whole(file) or cache.folder() is None:
        return None
    choices = [(f.name, repr(getattr(options, f.name))) for f in fields(options) if f.name not in BY_RUN]
    providers = [(p.name, sorted(p.options.items())) for p in parse_providers(options.providers)]
    inputs = [
        (n, a.shape, a.dtype.str, hashlib.sha256(a.tobytes()).hexdigest()) for n, a in sorted(options.inputs.items())
    ]
    return stored_graphs.key("opening", file.sha256, repr((choices, providers, inputs, options.limits.lasting)))


def open_stored(file: ModelFile, options: OpenOptions, first: Callable[[], OpenedModel]) -> OpenedModel | None:
    """The model as an earlier opening left it; None where there is none that counts.

    first: opens it as if for the first time, for graphs that are not stored. Raises OutOfMemory and TimedOut.
    """
    name = opening_key(file, options)
    stored = stored_graphs.load(name, Opening) if name is not None else None
    if name is None or stored is None:
        return None
    opening: Opening = stored.data
    graphs = Graphs(lambda: _graphs_of(first()))

    def built() -> bytes:
        return scoring_bytes(
            graphs.model, opening.anatomy, opening.size, options, fixed=opening.fixed, extra=opening.extra
        )

    try:
        network = open_network(
            Once(stored.graph, built), opening.anatomy, opening.size, options, fixed=opening.fixed,
            extra=opening.extra,
        )  # fmt: skip
    except (OutOfMemory, TimedOut):
        raise
    except OnnxCamError as error:
        logger.info("cache: the stored graph does not open (%s)", error)
        return None
    if network.provider != opening.provider:
        network.close()
        return None
    if opening.masks_alone:
        network.run_masks_alone()
    return OpenedModel(
        network, graphs, opening.anatomy, opening.size, opening.batching, opening.inputs, opening.notes,
        replace(options, output=opening.output, kind=opening.kind), opening.shapes, None, opening.has_class_token,
        opening.computes_in_floats, name,
    )  # fmt: skip


def store_opening(name: str, opened: OpenedModel) -> None:
    """Stores an opening that has passed all checks, with the bytes that its session was made of if they were kept."""
    from onnxcam.surgeon.session_bytes import weight_bytes

    network, options = opened.network, opened.options
    if not opened.scoring and weight_bytes(opened.model) > stored_graphs.LARGEST:
        return  # before its bytes are made
    if opened.selection is not None or any(note.code in BRANCHES for note in opened.notes):
        return
    opening = Opening(
        opened.anatomy, opened.size, opened.batching, opened.inputs, opened.notes, options.output, options.kind,
        opened.shapes, network.fixed, network.extra, network.masks_alone, opened.has_class_token,
        opened.computes_in_floats, network.provider,
    )  # fmt: skip
    graph = opened.scoring or scoring_bytes(
        opened.model, opened.anatomy, opened.size, options, fixed=network.fixed, extra=network.extra
    )
    stored_graphs.store(name, graph, opening)


def _graphs_of(opened: OpenedModel) -> Any:
    """The graphs of an opening, whose network is not needed."""
    opened.close()
    return opened.model, opened.exported


def _facts_key(sha256: str, limits: Limits) -> str:
    return stored_graphs.key("facts", sha256, repr(limits.lasting))


def _is_whole(file: ModelFile) -> bool:
    """Whether the file's own bytes are all of the model, so that their hash tells it."""
    return not file.is_altered and file.fingerprint == file.sha256
