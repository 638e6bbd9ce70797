"""Notes about what an output means: other outputs of classes, an embedding among classes, a number that is no logit.

And one where all classes are scored alike, so that the output means nothing.
"""

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.types import Note, NoteCode

SATURATED = 15.0
"""A logit beyond which the probability is 0 or 1 to six digits; a number this large is rarely one."""
SAME = 1e-6
"""The share of a score that rounding may change."""
WIDTH = 64
"""Embeddings have a multiple of this many numbers, classes rarely do."""


def head_notes(logits: Logits, values: npt.NDArray[np.float64], *, labelled: bool) -> list[Note]:
    """values: (numbers,) of the scored tensor for one picture. labelled: whether names of the classes are known."""
    notes = []
    if logits.kind is Kind.CLASSES and logits.activation == "none":
        notes += _single(values) if logits.two_sided else _several(logits, values, labelled=labelled)
    if logits.kind is Kind.CLASSES and len(values) > 1 and np.abs(values - values[0]).max() <= SAME * abs(values[0]):
        notes.append(_alike(len(values)))
    if logits.kind is Kind.SEQUENCE and not labelled:
        notes += _blank(values.reshape(-1, logits.classes))
    if logits.others:
        text = (
            f"{logits.output!r} is explained; the model has other outputs of classes: {', '.join(logits.others)} "
            f"(--output NAME)"
        )
        notes.append(Note(NoteCode.OTHER_HEADS, text))
    return notes


def _alike(classes: int) -> Note:
    text = (
        f"the model gives all {classes} classes the same score, so it has no answer and the map is of one of them by "
        f"chance; the preprocessing or the model may be wrong"
    )
    return Note(NoteCode.CLASSES_ALIKE, text)


def _blank(table: npt.NDArray[np.float64]) -> list[Note]:
    """table: (steps, classes) in the order of the scored tensor. CTC's blank is the first class or the last one."""
    best = table.argmax(axis=1)
    counts = {index: int((best == index).sum()) for index in (0, table.shape[1] - 1)}
    index = max(counts, key=lambda i: counts[i])
    if not counts[index]:
        return []
    text = (
        f"class {index} is the best one at {counts[index]} of {len(best)} steps; if it is CTC's blank, which stands "
        f"for no character, name the classes (--labels FILE; 'blank' is left out then) or explain one (--target)"
    )
    return [Note(NoteCode.MAY_BE_BLANK, text)]


def _single(values: npt.NDArray[np.float64]) -> list[Note]:
    text = (
        "a single output without activation: its sigmoid is taken for the probability; "
        "if it is a quantity, explain the number itself (--index 0)"
    )
    number = float(values[-1])
    if abs(number) > SATURATED:
        text += f"; {number:.4g} is large for a logit, so it probably is one"
    return [Note(NoteCode.SINGLE_OUTPUT, text)]


def _several(logits: Logits, values: npt.NDArray[np.float64], *, labelled: bool) -> list[Note]:
    sums_to_one = abs(values.sum() - 1) < 1e-3
    if values.min() >= 0 and (sums_to_one or (values.max() <= 1 and not logits.linear)):
        text = (
            "the outputs are probabilities already although no softmax was found in the graph: "
            "the probabilities shown are a softmax too much; use the paper variant, which scores the outputs"
        )
        return [Note(NoteCode.ALREADY_PROBABILITIES, text)]
    if not labelled and (len(values) % WIDTH == 0 or logits.normalised):
        text = (
            f"the {len(values)} numbers of {logits.output!r} may be an embedding and no classes: no activation follows "
            f"and no labels are known; --reference PICTURE explains a similarity, --labels FILE names the classes"
        )
        return [Note(NoteCode.MAY_BE_EMBEDDING, text)]
    return []
