"""Notes on targets: what a reader should know of the one that was explained."""

from collections.abc import Sequence

from onnxcam.explainer.targets.kind import HeadOutput
from onnxcam.network.selection import Detections
from onnxcam.outputs.captions import percent
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import Note, NoteCode

LOW = 0.05
"""A class below this probability is hardly seen by the model; its map is stretched to [0,1] like any other."""


def target_notes(targets: Sequence[ScoredTarget], output: HeadOutput) -> list[tuple[Note, ...]]:
    """The notes on each target."""
    shared = None
    if output.logits.kind is Kind.BOXES:
        from onnxcam.explainer.targets.box import box_note

        shared = box_note(output)
    return [
        tuple(note for note in (shared, _outside(target, output), _low(target, output)) if note is not None)
        for target in targets
    ]


def blank_notes(detections: Detections | None) -> tuple[Note, ...]:
    """A note where inputs that only the choice of detections reads were not given."""
    if detections is None or not detections.blank:
        return ()
    from onnxcam.explainer.targets.detected import blank_inputs

    return (Note(NoteCode.INPUTS_BLANK, blank_inputs(detections)),)


def _outside(target: ScoredTarget, output: HeadOutput) -> Note | None:
    """The note on a box of which no part lies on the picture, so that nothing is drawn."""
    if output.logits.kind is not Kind.BOXES or target.box is None:
        return None
    height, width = output.placement.picture if output.placement is not None else output.size
    left, top, right, bottom = target.box
    if right > 0 and bottom > 0 and left < width and top < height:
        return None
    text = (
        f"the box of {target.name} lies wholly outside of the picture, such as in a bar of a letterbox, so it is not "
        f"drawn"
    )
    return Note(NoteCode.BOX_OUTSIDE, text)


def _low(target: ScoredTarget, output: HeadOutput) -> Note | None:
    """The note on a class or a box that the model gives a low probability."""
    probability = _probability(target, output)
    if probability is None or probability >= LOW:
        return None
    text = (
        f"the model gives {target.name} only {percent(probability)}: the map shows what speaks for it most, "
        f"not that it is there"
    )
    return Note(NoteCode.LOW_SCORE, text)


def _probability(target: ScoredTarget, output: HeadOutput) -> float | None:
    """The target's probability, None where what is scored is none."""
    values = output.values
    if target.kind == Kind.BOXES:
        from onnxcam.explainer.targets.box import scores_of

        scores, (box, label) = scores_of(output), output.logits.entry(target.index)
        is_score = 0 <= label < scores.shape[1] and scores.min() >= 0 and scores.max() <= 1
        return float(scores[box, label]) if is_score else None
    if target.kind == Kind.CLASSES and output.logits.activation == "none" and len(values) > 1:
        # Outputs that are probabilities already, of which a note says that another softmax is too much.
        return target.logit if values.min() >= 0 and abs(values.sum() - 1) < 1e-3 else target.probability
    return target.probability if target.is_probability else None
