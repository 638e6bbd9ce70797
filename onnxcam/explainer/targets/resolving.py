"""What the pipeline and the command line do with targets of any kind: lists, heads, feeds, words.

A class is known by its type, so that the table of all kinds (registry.py) is loaded for other targets only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxcam.errors import OptionError, TargetError
from onnxcam.explainer.arguments import shown
from onnxcam.explainer.targets.classes import CLASS, class_names, class_of, ranks, ranks_of_words
from onnxcam.explainer.targets.kind import HeadOutput, TargetKind, TargetLike, Targets
from onnxcam.limits import is_whole
from onnxcam.network.packing import TARGET_AXES
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.types import Arrays


def is_sequence(targets: object) -> bool:
    """Whether the value holds several targets: a list, a tuple or an array with an axis."""
    if isinstance(targets, np.ndarray):
        return targets.ndim > 0
    return isinstance(targets, Sequence) and not isinstance(targets, str | bytes | bytearray)


def target_list(targets: Targets | TargetLike) -> list[TargetLike]:
    """The targets as a list: the entries of a list, a tuple or an array of integers; anything else is one target.

    Raises OptionError for an empty list, TargetError for what is no target.
    """
    if isinstance(targets, np.ndarray):
        if targets.dtype.kind not in "iu" or targets.ndim > 1:
            raise TargetError(
                f"an array of targets holds class indices (integers) along one axis, not {targets.dtype} "
                f"{targets.shape}"
            )
        entries: list[Any] = list(targets.reshape(-1))
    else:
        entries = list(targets) if is_sequence(targets) else [targets]  # type: ignore[arg-type]
    if not entries:
        raise OptionError("no target given; leave the targets out to explain the prediction")
    for entry in entries:
        _kind_of(entry)
    return entries


def each_target(targets: Targets | TargetLike) -> list[TargetLike]:
    """target_list(), with 'top5' as the five best, 'rank1' to 'rank5'. Raises as that does."""
    return [rank for target in target_list(targets) for rank in ranks(target)]


def one_target(target: TargetLike) -> list[TargetLike]:
    """A single target, in a list. Raises TargetError for what is several."""
    if isinstance(target, str) and len(ranks(target)) > 1:
        raise TargetError(f"{target} is several targets: explain() takes these; 'rank{len(ranks(target))}' is one")
    return [target]


def head_of(target: TargetLike) -> tuple[Kind | None, str | None]:
    """The kind of output that a target is scored on, and the output's name.

    None where the model decides: a class is scored on whatever the model offers. Raises TargetError.
    """
    kind, output = _kind_of(target), getattr(target, "output", None)
    if output is not None and not isinstance(output, str):
        raise TargetError(f"the output of a target is its name, not {output!r}")
    if isinstance(target, ScoredTarget):
        return _head(target), output
    return (None, None) if kind.any_head else (kind.head, output)


def check_classes(targets: Sequence[TargetLike], logits: Logits, labels: Sequence[str] | None) -> None:
    """Raises TargetError for a class that the model has not, whatever the picture is; other targets need a picture.

    logits: of the output whose classes have these labels.
    """
    if logits.kind not in (Kind.CLASSES, Kind.REGION, Kind.SEQUENCE):
        return
    output = HeadOutput(logits, np.zeros(logits.classes), class_names(labels, logits), (), None)
    for target in targets:
        kind, name = head_of(target)
        word = target if isinstance(target, int | str) else getattr(target, "label", None)
        if word is not None and kind in (None, logits.kind) and name in (None, logits.output):
            class_of(word, output, output.values)


def bind(targets: Sequence[TargetLike], output: HeadOutput) -> tuple[Arrays, list[ScoredTarget]]:
    """The feeds of the scoring graph for targets of one head, and a ScoredTarget for each. Raises OnnxCamError."""
    values = [_on_head(target, output) for target in targets]
    parts: list[tuple[list[int], Mapping[str, Any]]] = []
    scored: dict[int, ScoredTarget] = {}
    for kind in dict.fromkeys(kind for kind, _ in values):
        places = [i for i, (other, _) in enumerate(values) if other is kind]
        group = [values[i][1] for i in places]
        feeds = kind.feed(group, output)
        parts.append((places, feeds))
        scored.update(zip(places, kind.describe(group, feeds, output), strict=True))
    order = np.argsort([i for places, _ in parts for i in places])
    joined = {name: np.concatenate([feeds[name] for _, feeds in parts])[order] for name in parts[0][1]}
    arrays = {name: np.ascontiguousarray(np.moveaxis(_typed(a), 0, TARGET_AXES[name])) for name, a in joined.items()}
    return arrays, [replace(scored[i], output=output.logits.output) for i in range(len(targets))]


@dataclass(frozen=True)
class ParsedTargets:
    """What the command line's words say is scored. names: of each target, for files. kind: None: the model decides."""

    targets: tuple[TargetLike, ...]
    names: tuple[str, ...]
    kind: str | None


def parse_targets(labels: Sequence[str], words: Mapping[str, Sequence[str]]) -> ParsedTargets:
    """Parses the command line's targets: the labels of --target and the words of the kinds' options, by option.

    Raises OptionError for options that contradict each other and for words that cannot be read.
    """
    chosen = any(words.values())
    used = [kind for kind in _all_kinds() if kind.option is not None and words.get(kind.option)] if chosen else []
    if len(used) > 1:
        names = " and ".join(f"--{kind.option}" for kind in used)
        raise OptionError(f"{names} contradict each other: each says what is scored")
    kind = used[0] if used else CLASS
    assert kind.parse is not None, "a kind with an option parses it"
    targets = tuple(kind.parse(words[str(kind.option)] if used else (), ranks_of_words(labels)))
    return ParsedTargets(targets, tuple(map(kind.file_name, targets)), str(kind.head) if used else None)


def _all_kinds() -> Iterable[TargetKind]:
    from onnxcam.explainer.targets.registry import TARGET_KINDS

    return TARGET_KINDS.values()


def _typed(array: Any) -> Any:
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


def _kind_of(target: object) -> TargetKind:
    """The kind of a target by its most specific type; of a result's target, the kind that owns its head.

    Raises TargetError for what is no target.
    """
    if isinstance(target, ScoredTarget):
        return _owner(_head(target))
    if not isinstance(target, bool):
        if isinstance(target, CLASS.value):
            return CLASS
        matches = [(t, kind) for kind in _all_kinds() for t in kind.types if isinstance(target, t)]
        for value, kind in matches:
            if not any(other is not value and issubclass(other, value) for other, _ in matches):
                return kind
    values = ", ".join(t.__name__ for kind in _all_kinds() if not kind.any_head for t in kind.types)
    raise TargetError(
        f"a target is a class index, a label or 'top1', or one of {values}, not {shown(target)}; "
        f"explain() takes several as a list"
    )


def _head(scored: ScoredTarget) -> Kind:
    if not is_whole(scored.index):
        raise TargetError(f"the index of a result's target is a whole number, not {shown(scored.index)}")
    try:
        return Kind(scored.kind)
    except ValueError:
        raise TargetError(f"a result's target has an unknown kind {scored.kind!r}") from None


def _owner(head: Kind) -> TargetKind:
    """The kind to which a plain class belongs on this head."""
    if head is CLASS.head:
        return CLASS
    return next(kind for kind in _all_kinds() if kind.head is head and kind.of_class is not None)


def _on_head(target: TargetLike, output: HeadOutput) -> tuple[TargetKind, Any]:
    """The kind and the value by which a target is scored on this output."""
    kind = _kind_of(target)
    if isinstance(target, ScoredTarget):
        assert kind.again is not None, "the kind that owns a head explains its results again"
        return kind, kind.again(target, output)
    if kind.any_head:
        owner = _owner(output.logits.kind)
        assert owner.of_class is not None
        return owner, owner.of_class(target)  # type: ignore[arg-type]
    return kind, target
