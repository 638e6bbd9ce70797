"""The model's own best answers for a picture, as lines for a reader and as JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxcam.outputs.saliency import ScoredTarget

COUNT = 5
"""Answers that are shown of a picture."""


def answer_lines(picture: str, answers: "Sequence[ScoredTarget]") -> list[str]:
    """The picture, and a line of each answer: its rank, probability (of an element the number), class and name.

    Of what is no class, the index stands for the class.
    """
    lines = [picture]
    for rank, one in enumerate(answers, start=1):
        label = f"  {one.label}" if one.label is not None else ""
        box = f"  at {', '.join(f'{side:.1f}' for side in one.box)}" if one.box is not None else ""
        number = one.class_index if one.class_index is not None else one.index
        lines.append(f"  {rank:>2}  {value_text(one):>8}  {number:>5}{label}{box}")
    return lines


def short_answers(answers: "Sequence[ScoredTarget]") -> str:
    """The answers in a row: espresso 0.9569; cup 0.0123"""
    return "; ".join(f"{one.name} {value_text(one)}" for one in answers)


def answers_json(answers: "Sequence[ScoredTarget]") -> list[dict[str, Any]]:
    """The answers as JSON, in the words of a record's target; probability is null where the number is none."""
    return [
        {
            "rank": rank, "index": one.index, "label": one.label,
            "probability": one.probability if one.is_probability else None, "value": one.logit,
            "kind": one.kind, "box": list(one.box) if one.box is not None else None,
            "class_index": one.class_index, "class_label": one.class_label, "box_number": one.box_number,
        }
        for rank, one in enumerate(answers, start=1)
    ]  # fmt: skip


def value_text(one: "ScoredTarget") -> str:
    """Its probability, of an element the number: four decimals, unless they would all be zero."""
    number = one.probability
    return f"{number:.4f}" if number == 0 or abs(number) >= 1e-4 else f"{number:.1e}"
