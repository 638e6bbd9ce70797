"""A detector that chooses its detections, opened: what is explained is its table of candidates before the choice.

first_opening.py makes a Selection: its graph of candidates is opened in place of the user's model, and that
model is run once on each unmasked picture, to tell which candidates it chose: Detections.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError, ModelError, OutOfMemory, TimedOut
from onnxcam.limits import SAFE, Limits
from onnxcam.network.extra_inputs import blank_inputs, extra_inputs, for_batch
from onnxcam.network.single_flight import SingleFlight
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.follow import Follow
from onnxcam.surgeon.graphs.tensor_names import ADDED, BOXES, CELLS, LABELS, PLACES, SCORES
from onnxcam.types import Arrays, Floats, Indices, Note, NoteCode

if TYPE_CHECKING:
    from onnxcam.surgeon.graphs.candidates import SelectionGraphs
    from onnxcam.surgeon.ir import Model

FOLLOWING: Mapping[Follow, str] = {
    Follow.CELL: (
        "the detector chooses its queries by the picture, so a box is followed by the cell that its query was chosen "
        "from: a masked picture scores 0 where that cell is not chosen"
    ),
    Follow.BEST: (
        "the detector proposes other regions for every picture, so the score is that of the best box of the class, "
        "wherever it is"
    ),
}


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one picture, in the order of the model's output.

    places (D,): of their scores in the flattened table of candidates. scores (D,). boxes (D,4): as the model returns
    them, None if it returns them in an unknown form. first_class: what the model adds to a column of the table to name
    the class, such as 1 where it dropped a background; None where its classes do not follow from the columns. follow:
    what the rows of the table are. every_row: whether all rows of the model's own table are detections. shared: cells
    that several queries were chosen from. boxes_name: the output that holds the boxes. blank: the model's inputs that
    were not given, for which zeros stood.
    """

    places: Indices
    scores: Floats
    boxes: Floats | None
    first_class: int | None
    follow: Follow
    every_row: bool
    shared: frozenset[int] = frozenset()
    boxes_name: str = ""
    blank: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, eq=False)
class Selection:
    """Tells which candidates a model chose. image: of the user's model. model: that model. size: at which it runs.

    limits: what a run may take.
    """

    graphs: "SelectionGraphs"
    image: ImageInput
    model: "Model"
    size: tuple[int, ...]
    limits: Limits = SAFE
    _sessions: SingleFlight[None, Session] = field(default_factory=lambda: SingleFlight(Session.close))

    def close(self) -> None:
        """Frees the session; a later run raises InferenceError."""
        self._sessions.close()

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader of the result should know about the rows that are followed."""
        text = FOLLOWING.get(self.graphs.follow)
        return (Note(NoteCode.FOLLOWED, text),) if text is not None else ()

    def detections(self, image: Floats, inputs: Arrays) -> Detections:
        """Runs the model on one image (1,...), in the model's own layout. inputs: values of extra inputs.

        Raises InferenceError, and ModelError where the scores of the output cannot be told from its other numbers.
        """
        others = extra_inputs(self.model, self.image, {**blank_inputs(self.model, self.image), **inputs})
        blank = tuple(name for name in others if name not in inputs)
        batch = self.image.batch or 1
        feeds = {self.image.name: np.repeat(self.image.cast(image), batch, axis=0)}
        feeds |= for_batch(self.model, self.image, others, batch)
        session = self._sessions.get(None, self._opened)
        names = list(session.outputs)
        read = {n: a for n, a in feeds.items() if n in session.inputs}
        results = session.run(names, read, pictures=batch)
        detections = self._read(dict(zip(names, results, strict=True)))
        # Boxes may be scaled by an input that was not given, such as the size of the picture.
        return replace(detections, boxes=None, blank=blank) if blank else detections

    def _opened(self) -> Session:
        from onnxcam.surgeon.session_bytes import session_bytes

        graph = partial(session_bytes, self.graphs.detections)
        return Session(graph(), ("cpu",), limits=self.limits.lasting, again=graph)

    def _read(self, outputs: Mapping[str, npt.NDArray[Any]]) -> Detections:
        _, rows, classes = self.graphs.shape
        first = {name: array[0] if self.graphs.batched else array for name, array in outputs.items()}
        places, scores, boxes = first[PLACES], first[SCORES], first.get(BOXES)
        labels = first[LABELS].reshape(-1) if LABELS in first else None
        if self.graphs.every_row:
            best = scores.argmax(axis=1)
            each = np.arange(len(scores))
            places, scores = places[each, best], scores[each, best]
        elif boxes is None:
            boxes, places, scores, labels = _columns(places, scores)
        places, scores = places.reshape(-1), scores.reshape(-1)
        # A place beyond the table is of another image of the batch.
        chosen = (places > 0) & (places <= rows * classes)
        places = places[chosen] - 1
        cells, counts = np.unique(first.get(CELLS, np.zeros(0, np.int64)), return_counts=True)
        shared = frozenset(int(cell) for cell in cells[counts > 1])
        offset = _first_class(labels[chosen] if labels is not None else None, places % classes)
        return Detections(
            places, scores[chosen], boxes[chosen] if boxes is not None else None, offset, self.graphs.follow,
            self.graphs.every_row, shared, self.graphs.outputs[-1],
        )  # fmt: skip


@contextmanager
def refused_if_not_led_back(name: str | None = None) -> Iterator[None]:
    """Refuses a detector where what was added to lead its detections back does not run on a picture.

    name: of the output that lists its detections. Raises ModelError in place of that InferenceError; others pass.
    """
    try:
        yield
    except InferenceError as error:
        if isinstance(error, OutOfMemory | TimedOut) or f"{ADDED}/" not in str(error):
            raise
        raise ModelError(
            f"the detections{f' in {name!r}' if name else ''} cannot be led back to the candidates that they are "
            f"chosen from; explain the export without selection (all candidates, with their scores)"
        ) from error


def _columns(
    places: npt.NDArray[Any], table: npt.NDArray[Any]
) -> tuple[Floats | None, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None]:
    """(boxes, places, scores, labels) of detections in one table (D,columns), in the usual orders of its columns."""
    (columns,) = np.nonzero((places > 0).any(axis=0))
    if not len(columns):
        return None, places[:, :1], table[:, :1], None
    if len(columns) > 1:
        raise ModelError(
            f"columns {', '.join(map(str, columns))} of the detections are all scores of candidates; explain the "
            f"export without selection"
        )
    score = int(columns[0])
    # x1, y1, x2, y2, score, class; (batch,) x1, y1, x2, y2, class, score; class, score, x1, y1, x2, y2
    label, first = {4: (5, 0), 1: (0, 2)}.get(score, (score - 1, score - 5))
    if first < 0 or table.shape[1] < first + 4:
        return None, places[:, score], table[:, score], None
    labels = table[:, label]
    is_class = bool((labels == np.rint(labels)).all())
    return table[:, first : first + 4], places[:, score], table[:, score], labels if is_class else None


def _first_class(labels: npt.NDArray[Any] | None, columns: npt.NDArray[Any]) -> int | None:
    if labels is None or not len(labels):
        return 0 if labels is None else None
    differences = np.unique(np.rint(labels).astype(np.int64) - columns)
    return int(differences[0]) if len(differences) == 1 else None
