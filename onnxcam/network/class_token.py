"""Finds the last feature tensor whose patches still count for the score, in a transformer with a class token.

After the last attention only the class token is read: the patches' gradient is zero, and changing them changes nothing.
Methods that read a gradient at the features, or run the network's tail, need an earlier tensor. opening.py calls
`before_class_token` for them, which zeroes patches in a run on the CPU and looks whether the logits move.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from onnxcam.engine.session import Session
from onnxcam.errors import NoSpatialFeatures
from onnxcam.limits import Limits
from onnxcam.surgeon.analysis.anatomy import Anatomy, Candidate, FeatureTensor
from onnxcam.surgeon.analysis.branches import pooled_note
from onnxcam.surgeon.analysis.dominators import TOKEN_SCALE, add_token_scales, dominators
from onnxcam.surgeon.analysis.factors import Axes, extra_tokens, has_extra_tokens
from onnxcam.surgeon.analysis.locate import locate
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.surgeon.ir import Model, Shape, Shapes, ancestors, constant, find_value
from onnxcam.surgeon.session_bytes import session_bytes
from onnxcam.types import Arrays, NoteCode

MAX_CANDIDATES = 12
"""Tensors to try, from the last one backwards; a transformer's block has three that everything passes through."""
MIN_CHANGE = 1e-4
"""Share of the largest logit that must change for the patches to count."""


def has_class_token(features: FeatureTensor) -> bool:
    """Whether the feature tensor holds tokens that are not patches of the image."""
    return has_extra_tokens(features.axes)


def before_class_token(
    model: Model, anatomy: Anatomy, trace: Trace, feeds: Arrays, size: tuple[int, ...], limits: Limits
) -> Anatomy:
    """The anatomy with the last tensor whose patches count as its features; unchanged if there is none, or no need.

    trace: of a run of the model. feeds: a test image and the extra inputs, by the model's input names.
    limits: of a run.
    """
    if not has_class_token(anatomy.features):
        return anatomy
    # In networks of several streams nothing but the score is passed by all, so sums of one stream are tried then.
    through = dominators(model, anatomy.image.name, anatomy.logits.tensor)
    moved = _before(through, model, anatomy, trace, feeds, size, limits)
    sums = _sums(model, anatomy, trace.shapes)
    return moved or _before(sums, model, anatomy, trace, feeds, size, limits) or anatomy


def several_before_class_tokens(
    model: Model, anatomy: Anatomy, trace: Trace, feeds: Arrays, size: tuple[int, ...], limits: Limits
) -> Anatomy:
    """before_class_token() of every branch of the anatomy, the features included, with the note that names them."""
    moved = before_class_token(model, anatomy, trace, feeds, size, limits)
    if not anatomy.branches:
        return moved
    others = [
        before_class_token(model, replace(anatomy, features=b), trace, feeds, size, limits)
        for b in anatomy.branches[1:]
    ]
    branches = (moved.features, *(other.features for other in others))
    notes = [
        pooled_note(branches[0].tensor, branches[1:]) if note.code is NoteCode.OTHER_BRANCHES else note
        for note in moved.notes
    ]
    return replace(moved, branches=branches, notes=tuple(notes))


def _sums(model: Model, anatomy: Anatomy, shapes: Shapes) -> list[str]:
    """Names of the residual sums that the features are computed from, in the graph's order, and of the features.

    They add two computed tensors and have the shape of the features, so that no sum inside an attention is among them.
    """
    features = find_value(model, anatomy.features.tensor)
    lineage = {id(v) for v in ancestors(features)} if features is not None else set()
    sums = [
        str(node.outputs[0].name)
        for node in model.graph
        if node.op_type == "Add"
        and id(node.outputs[0]) in lineage
        and shapes.get(str(node.outputs[0].name)) == anatomy.features.shape
        and all(value is not None and constant(value) is None for value in node.inputs)
    ]
    return [*sums, anatomy.features.tensor]


def _before(
    names: Sequence[str],
    model: Model,
    anatomy: Anatomy,
    trace: Trace,
    feeds: Arrays,
    size: tuple[int, ...],
    limits: Limits,
) -> Anatomy | None:
    """The anatomy with the last of these tensors whose patches count; None if there is none among them."""
    logits, shapes = anatomy.logits, trace.shapes
    anatomies: dict[str, Anatomy] = {}
    for name in reversed(names):
        if shapes.get(name, ())[1:2] != anatomy.features.shape[1:2] or len(anatomies) == MAX_CANDIDATES:
            continue
        try:
            located = locate(
                model, size=size, layer=name, output=logits.output, kind=logits.kind, shapes=shapes,
                fixed=trace.values,
                image=anatomy.image,
            )  # fmt: skip
        except NoSpatialFeatures:
            continue
        if has_class_token(located.features):
            anatomies[name] = located
    tokens = {name: located.features.axes for name, located in anatomies.items()}
    if not tokens:
        return None
    session = Session(session_bytes(add_token_scales(model, tokens, logits.tensor)), ("cpu",), limits=limits)
    try:
        last = _last_that_counts(session, tokens, shapes, feeds, logits.tensor)
    finally:
        session.close()
    if last is None:
        return None
    if last == anatomy.features.tensor:
        return anatomy
    chosen = anatomies[last]
    reason = "the last tensor whose patches count for the score; behind it only the class token is read"
    passed = Candidate(anatomy.features.tensor, anatomy.features.shape, "only its class token counts for the score")
    return replace(anatomy, features=replace(chosen.features, reason=reason), candidates=(passed, *anatomy.candidates))


def _last_that_counts(
    session: Session, tokens: Mapping[str, Axes], shapes: Shapes, feeds: Arrays, logits: str
) -> str | None:
    """Name of the first tensor whose patches count; None if no patches do. tokens: tensors to try, in this order."""
    scales = {name: np.ones(_scale_shape(shapes[name], axes), np.float32) for name, axes in tokens.items()}

    def run_logits() -> npt.NDArray[np.float64]:
        inputs = {**feeds, **{f"{TOKEN_SCALE}{n}": a for n, a in scales.items()}}
        results = session.run([logits], {n: a for n, a in inputs.items() if n in session.inputs})
        return np.asarray(results[0], np.float64)

    unchanged = run_logits()
    for name, axes in tokens.items():
        place, (before, after) = next((i, extra) for i, a in enumerate(axes) if (extra := extra_tokens(a)) is not None)
        patches = [slice(None)] * len(axes)
        patches[place] = slice(before, scales[name].shape[place] - after)
        scales[name][tuple(patches)] = 0
        if np.abs(run_logits() - unchanged).max() > MIN_CHANGE * max(float(np.abs(unchanged).max()), 1e-6):
            return name
        scales[name][tuple(patches)] = 1
    return None


def _scale_shape(shape: Shape, axes: Axes) -> list[int]:
    """Shape of the factors of tokens: one entry along all other axes."""
    return [int(d or 1) if extra_tokens(a) is not None else 1 for d, a in zip(shape, axes, strict=True)]
