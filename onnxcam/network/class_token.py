"""The last tensor at which every cell of the picture still counts for the score.

A transformer's class token gathers what the patches know; behind its last attention the patches are computed but read
by nobody, so that their gradient is zero and changing them changes nothing. Methods that read a gradient at the
features, or run the network behind them, need the tensor before.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from onnxcam.engine.session import Session
from onnxcam.errors import NoSpatialFeatures
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy, Candidate
from onnxcam.surgeon.analysis.axes import Axes, Tokens
from onnxcam.surgeon.analysis.dominators import TOKEN_SCALE, add_token_scales, dominators
from onnxcam.surgeon.analysis.locate import locate
from onnxcam.surgeon.ir import Model, Shape, Shapes
from onnxcam.types import Arrays

MOST_LOOKED_AT = 12
"""Tensors, from the last one backwards; a transformer's block has three that everything passes through."""
MOVES = 1e-4
"""Of the largest logit: what taking the patches away must change for them to count."""


def has_class_token(anatomy: Anatomy) -> bool:
    return any(isinstance(a, Tokens) and a.before + a.after > 0 for a in anatomy.features.axes)


def before_class_token(model: Model, anatomy: Anatomy, shapes: Shapes, feeds: Arrays, size: tuple[int, ...]) -> Anatomy:
    """The anatomy with that tensor for features; itself where its own patches count, or none is found whose do.

    feeds: one test picture and extra inputs.
    """
    if not has_class_token(anatomy):
        return anatomy
    image, logits = anatomy.image.name, anatomy.logits
    found: dict[str, Anatomy] = {}
    for name in reversed(dominators(model, image, logits.tensor)):
        if shapes.get(name, ())[1:2] != anatomy.features.shape[1:2] or len(found) == MOST_LOOKED_AT:
            continue
        try:
            there = locate(
                model, layout=anatomy.image.layout, size=size, layer=name, output=logits.output, kind=logits.kind,
                shapes=shapes,
            )  # fmt: skip
        except NoSpatialFeatures:
            continue
        if has_class_token(there):
            found[name] = there
    tokens = {name: there.features.axes for name, there in found.items()}
    if not tokens:
        return anatomy
    session = Session(ir.to_bytes(add_token_scales(model, tokens, logits.tensor)), ("cpu",))
    try:
        last = _last_that_counts(session, tokens, shapes, feeds, logits.tensor)
    finally:
        session.close()
    if last is None or last == anatomy.features.tensor:
        return anatomy
    chosen = found[last]
    reason = "the last tensor whose patches count for the score; behind it only the class token is read"
    passed = Candidate(anatomy.features.tensor, anatomy.features.shape, "only its class token counts for the score")
    return replace(anatomy, features=replace(chosen.features, reason=reason), candidates=(passed, *anatomy.candidates))


def _last_that_counts(
    session: Session, tokens: Mapping[str, Axes], shapes: Shapes, feeds: Arrays, logits: str
) -> str | None:
    """tokens: the tensors to try, in this order."""
    keeps = {name: np.ones(_alone(shapes[name], axes), np.float32) for name, axes in tokens.items()}

    def answer() -> npt.NDArray[np.float64]:
        fed = {**feeds, **{f"{TOKEN_SCALE}{n}": a for n, a in keeps.items()}}
        return np.asarray(session.run([logits], {n: a for n, a in fed.items() if n in session.inputs})[0], np.float64)

    whole = answer()
    for name, axes in tokens.items():
        at, axis = next((i, a) for i, a in enumerate(axes) if isinstance(a, Tokens))
        patches = [slice(None)] * len(axes)
        patches[at] = slice(axis.before, keeps[name].shape[at] - axis.after)
        keeps[name][tuple(patches)] = 0
        if np.abs(answer() - whole).max() > MOVES * max(float(np.abs(whole).max()), 1e-6):
            return name
        keeps[name][tuple(patches)] = 1
    return None


def _alone(shape: Shape, axes: Axes) -> list[int]:
    """The shape with one entry along all axes but that of the tokens."""
    return [int(d or 1) if isinstance(a, Tokens) else 1 for d, a in zip(shape, axes, strict=True)]
