"""Timestep targets: a class at one step of a sequence, or what a recogniser reads over all steps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.errors import OptionError, TargetError
from onnxcam.explainer.targets.classes import class_index, is_best
from onnxcam.explainer.targets.kind import REGIONS, ClassLike, Feeds, HeadOutput, TargetKind, Vector
from onnxcam.limits import brief, is_whole
from onnxcam.outputs.saliency import ALL_STEPS, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind

BLANKS = frozenset({"", "blank", "<blank>", "[blank]", "<blk>", "[blk]", "<ctc>", "[ctc]"})
"""Labels of CTC's blank, which stands for no character."""
MOST_STEPS = 10_000
"""Steps of one range on the command line."""


@dataclass(frozen=True)
class Timestep:
    """A class at one step of a sequence (T,N,classes) or (N,T,classes).

    step: from 0, negative ones count from the end; None for all steps: the mean over the steps where the label is the
    best class, or without a label over every step's best class, blanks left out where the labels name one. label: an
    index or a label; the step's best class if None. output: the output's name; needed only where the model has several.
    Explaining raises TargetError for a step or a class that is not there.
    """

    step: int | None = None
    label: int | str | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        if self.step is not None and not is_whole(self.step):
            raise TargetError(f"a step is a whole number from 0, or None for all steps, not {brief(self.step)}")


def feed(targets: Sequence[Timestep], output: HeadOutput) -> Feeds:
    """The weight of every class of every step, which add up to one."""
    table = _table(output)
    weights = []
    for target in targets:
        steps, classes = _places(target, table, output)
        weight = np.zeros(table.shape)
        weight[steps, classes] = 1 / len(steps)
        weights.append(weight.reshape(-1))
    return {REGIONS: np.stack(weights)}


def _table(output: HeadOutput) -> Vector:
    """(steps, classes) scores."""
    return output.values.reshape(-1, output.logits.classes)


def _places(target: Timestep, table: Vector, output: HeadOutput) -> tuple[list[int], list[int]]:
    """The steps that are scored, and the class of each."""
    best = table.argmax(axis=1)
    if target.step is not None:
        step = _step(target.step, output)
        return [step], [class_index(target.label, table[step], output.labels)]
    if _is_reading(target):
        blank = [i for i, name in enumerate(output.labels or ()) if name.strip().casefold() in BLANKS]
        steps = [t for t in range(len(best)) if best[t] not in blank] or list(range(len(best)))
        return steps, [int(best[t]) for t in steps]
    votes = np.bincount(best, minlength=table.shape[1]).astype(np.float64)
    index = class_index(target.label, votes, output.labels)
    steps = [t for t in range(len(best)) if best[t] == index]
    if not steps:
        raise TargetError(
            "the class is the best one at no step, so there is nothing to score; name a step (--timestep) or give "
            "another class"
        )
    return steps, [index] * len(steps)


def _is_reading(target: Timestep) -> bool:
    return target.step is None and is_best(target.label)


def _step(step: int, output: HeadOutput) -> int:
    steps = output.logits.steps
    if not -steps <= step < steps:
        raise TargetError(f"step {step} is out of range: the sequence has the steps 0 to {steps - 1}")
    return int(step) % steps


def describe(targets: Sequence[Timestep], feeds: Feeds, output: HeadOutput) -> list[ScoredTarget]:
    """Classes with their probability and logit at the step, or the mean over several steps."""
    table = _table(output)
    scored = []
    for target, weights in zip(targets, feeds[REGIONS], strict=True):
        _, classes = _places(target, table, output)
        reading = _is_reading(target)
        step = ALL_STEPS if reading else None if target.step is None else _step(target.step, output)
        index = 0 if reading else classes[0]
        probability = float(weights @ output.probabilities.reshape(-1))
        label = None if reading else output.label(index)
        scored.append(ScoredTarget(index, label, probability, float(weights @ output.values), Kind.SEQUENCE, step=step))
    return scored


def parse(words: Sequence[str], labels: Sequence[str]) -> list[Timestep]:
    """'5', a range '0-15', or 'all', for each label of --target."""
    steps = [step for text in words for step in parse_steps(text)]
    return [Timestep(step, label) for step in steps for label in (labels or (None,))]


def parse_steps(text: str) -> list[int | None]:
    """'5', '-1', '0-15' or 'all'. Raises OptionError."""
    word = text.strip().lower()
    if word == "all":
        return [None]
    if re.fullmatch(r"-?[0-9]{1,9}", word):
        return [int(word)]
    ends = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", word)
    if ends is None or not 0 <= int(ends[2]) - int(ends[1]) < MOST_STEPS:
        raise OptionError(f"timestep {text!r} is no step such as 5, no range such as 0-15, and not 'all'")
    return list(range(int(ends[1]), int(ends[2]) + 1))


def file_name(target: Timestep) -> str:
    """The step and the label, such as 'step-5-a'."""
    return f"step-{'all' if target.step is None else target.step}" + (
        f"-{target.label}" if target.label is not None else ""
    )


def of_class(label: ClassLike) -> Timestep:
    """The class at the steps where it is the best one; None and 'top1' are the reading of all steps."""
    return Timestep(None, label)


def again(scored: ScoredTarget, output: HeadOutput) -> Timestep:
    """The class at the same step, or the reading of all steps."""
    if scored.step == ALL_STEPS:
        return Timestep(None, None, scored.output)
    return Timestep(scored.step if isinstance(scored.step, int) else None, scored.index, scored.output)


TIMESTEP = TargetKind(
    "timestep", Timestep, Kind.SEQUENCE, feed, describe, file_name,
    of_class=of_class, again=again, option="timestep", parse=parse,
)  # fmt: skip
