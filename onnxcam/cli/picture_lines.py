"""What is printed of each of many pictures: a line, and every note once, below the first picture that it is about.

The whole summary of each (summary.py) is what -v prints.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.cli.answers import value_text
from onnxcam.cli.printing import wrapped_lines
from onnxcam.cli.summary import MARGIN, metric_value, preprocessing_doubt
from onnxcam.types import Note, NoteCode

if TYPE_CHECKING:
    from onnxcam.metrics.measurement import Measurement
    from onnxcam.outputs.saliency import Saliency

OF_ONE_PICTURE = {
    NoteCode.ALL_SCORED, NoteCode.BOX_OUTSIDE, NoteCode.BUDGET_ENDED, NoteCode.CLASSES_ALIKE, NoteCode.COMPLETENESS,
    NoteCode.ERROR_UNKNOWN, NoteCode.FIRST_FRAME, NoteCode.FRAMES_CHOSEN, NoteCode.FRAMES_CUT, NoteCode.IN_FLOAT32,
    NoteCode.LOW_SCORE, NoteCode.NARROW_RANGE, NoteCode.NOTHING_POSITIVE, NoteCode.READ_REDUCED, NoteCode.SCORES_ALIKE,
    NoteCode.SEARCH_BROKE, NoteCode.TRANSPARENT, NoteCode.TURNED, NoteCode.VALUE_RANGE, NoteCode.WHOLE_NUMBERS,
    NoteCode.WINDOW_ASSUMED,
}  # fmt: skip
"""Notes of a picture, not of the model: said once, behind their code, which is on the line of every later picture."""


@dataclass(eq=False)
class PictureLines:
    """The lines of the pictures of a call, in their order. seen: what was said of the pictures before."""

    _seen: set[NoteCode | str] = field(default_factory=set)

    def of(
        self,
        saliencies: "Sequence[Saliency]",
        files: Sequence[Mapping[str, Path]],
        metrics: "Sequence[Mapping[str, Measurement]]",
    ) -> Iterator[str]:
        """photos/cup.jpg -> maps/cup.score-cam.png (espresso 0.9569)

        Behind that each metric's value, and the code of a note of this picture that was said of another one.
        """
        notes = list(dict.fromkeys(note for one in saliencies for note in one.provenance.notes))
        again = [note.code.value for note in notes if note.code in OF_ONE_PICTURE & self._seen]
        doubts = [doubt for one in saliencies if (doubt := preprocessing_doubt(one))]
        outputs = ", ".join(str(path) for paths in files for path in paths.values())
        explained = [
            ", ".join([f"{one.target.name} {value_text(one.target)}", *_values(measured)])
            for one, measured in zip(saliencies, metrics, strict=True)
        ]
        said = "; ".join([*explained, *dict.fromkeys(again)])
        yield f"{saliencies[0].provenance.image} -> {outputs} ({said})"
        yield from wrapped_lines([f"  note          {text}" for text in self._new([*doubts, *notes])], MARGIN)

    def _new(self, notes: "Sequence[Note | str]") -> list[str]:
        """The words of those that were not said of a picture before."""
        keys = {note: _key(note) for note in notes}
        new = [
            f"{key}: {note}" if isinstance(key, NoteCode) else str(note)
            for note, key in keys.items()
            if key not in self._seen
        ]
        self._seen.update(keys.values())
        return new


def _key(note: Note | str) -> NoteCode | str:
    return note.code if isinstance(note, Note) and note.code in OF_ONE_PICTURE else str(note)


def _values(metrics: "Mapping[str, Measurement]") -> list[str]:
    """deletion 0.2275; - where the metric is undefined."""
    from onnxcam.metrics.registry import METRICS

    return [
        f"{name} -" if one.value is None else f"{name} {_with_unit(one.value, METRICS[one.metric].unit)}"
        for name, one in metrics.items()
    ]


def _with_unit(value: float, unit: str) -> str:
    return f"{metric_value(value, unit)} {unit}".rstrip()
