"""Finds all maps that feed the score, where there are several: ensembles, two streams, several scales, extra heads.

The analysis chooses one of them. The others are named in a note, and `--layer A --layer B` fuses the maps of several.
"""

from collections.abc import Sequence

from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.analysis.frontier import (
    WEIGHTED,
    Geometry,
    before_shared_pooling,
    computed_inputs,
    is_learned,
    refine,
    walked_back,
)
from onnxcam.surgeon.analysis.pooling import before_pooling
from onnxcam.surgeon.ir import Model, Node, Value, depends_on
from onnxcam.types import Note, NoteCode

SHOWN = 3
"""Names in a note; `inspect` lists all."""


def pooled_apart(
    pairs: Sequence[tuple[Value, Node]], chosen: Value, head: Value, classes: int, geometry: Geometry
) -> list[Value]:
    """Other maps that reach the scored tensor through a pooling of their own, past the chosen one, each once.

    pairs: the frontier (find_frontier), the likeliest first. Each map is that before its own pooling.
    """
    values: dict[int, Value] = {}
    for pair in pairs:
        value = pair[0]
        if depends_on(value, chosen):
            continue
        computed = before_pooling(pair, pairs, geometry)
        start = computed[0] if computed is not None else before_shared_pooling(value, pairs)
        before = refine(start, head, classes, geometry).value
        if not depends_on(before, chosen):
            values[id(before)] = before
    return list(values.values())


def summed_predictions(head: Value, geometry: Geometry, model: Model) -> list[Value]:
    """What enters the layers whose results are joined to a class map without another layer, in the graph's order."""
    inputs: dict[int, Value] = {}
    ahead = [head]
    for node in walked_back(ahead):
        parents = [v for v in computed_inputs(node) if geometry.has_grid(v) and is_learned(v)]
        if node.op_type in WEIGHTED:
            inputs.update((id(v), v) for v in parents[:1])
        else:
            ahead.extend(parents)
    return [v for node in model.graph for v in node.outputs if id(v) in inputs]


def branch_features(values: Sequence[Value], geometry: Geometry) -> tuple[FeatureTensor, ...]:
    """The maps as feature tensors; those of unknown shape are left out."""
    features = []
    for value in values:
        node, shape = value.producer(), geometry.shape(value)
        if node is not None and shape is not None:
            axes = geometry.axes_of(value)
            features.append(FeatureTensor(str(value.name), shape, axes, "feeds the score too", node.op_type))
    return tuple(features)


def pooled_note(chosen: str, others: Sequence[FeatureTensor]) -> Note:
    """A note on maps beside the chosen one."""
    text = (
        f"other maps reach the logits through a pooling of their own ({_listed(others)}); --layer takes one of them, "
        f"and {_options([chosen, *(f.tensor for f in others)])} fuses the maps"
    )
    return Note(NoteCode.OTHER_BRANCHES, text)


def summed_note(predictions: Sequence[FeatureTensor]) -> Note:
    """A note on a class map that is joined from several predictions."""
    text = (
        f"the map of the classes is joined from {len(predictions)} predictions, each made of a map of its own "
        f"({_listed(predictions)}); --layer takes one of them, and {_options([f.tensor for f in predictions])} fuses "
        f"the maps"
    )
    return Note(NoteCode.OTHER_BRANCHES, text)


def _listed(features: Sequence[FeatureTensor]) -> str:
    rest = f" and {len(features) - SHOWN} more, see `onnxcam inspect`" if len(features) > SHOWN else ""
    return ", ".join(repr(f.tensor) for f in features[:SHOWN]) + rest


def _options(names: Sequence[str]) -> str:
    shown = " ".join(f"--layer {name}" for name in names[: SHOWN + 1])
    return shown + (" ..." if len(names) > SHOWN + 1 else "")
