"""Which class to explain: an index, a label, or a rank among the predictions."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxcam.discover import find_class
from onnxcam.errors import TargetError

TargetLike = int | str | None
"""An index, a label, 'top1' to 'topN', an index as text, or None for the prediction."""

LONGEST = 1000
"""Characters of a target; no label is longer."""


def resolve(target: TargetLike, logits: npt.NDArray[np.float64], labels: Sequence[str] | None) -> int:
    """The class's index; raises TargetError with the range or the near labels."""
    classes = len(logits)
    if target is None:
        return int(logits.argmax())
    if isinstance(target, str):
        text = target.strip()
        if len(text) > LONGEST:
            raise TargetError(f"a target of {len(text)} characters is neither an index nor a label")
        rank = re.fullmatch(r"top-?(\d+)", text, re.IGNORECASE)
        if rank:
            return _ranked(int(rank[1]), logits)
        if not re.fullmatch(r"[+-]?\d+", text):
            return _labelled(text, labels, classes)
        target = int(text)
    if isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise TargetError(f"a target is a class index, a label or 'top1', not {target!r}")
    if not 0 <= target < classes:
        raise TargetError(f"target {target} is out of range: the model has the classes 0 to {classes - 1}")
    return int(target)


def _ranked(rank: int, logits: npt.NDArray[np.float64]) -> int:
    if not 1 <= rank <= len(logits):
        raise TargetError(f"top{rank} does not exist: the model has {len(logits)} classes")
    return int(np.argsort(-logits, kind="stable")[rank - 1])


def _labelled(text: str, labels: Sequence[str] | None, classes: int) -> int:
    if labels is None:
        raise TargetError(
            f"no labels are known for this model, so {text!r} names no class; "
            f"give an index from 0 to {classes - 1}, 'top1', or --labels FILE"
        )
    return int(find_class(labels, text))
