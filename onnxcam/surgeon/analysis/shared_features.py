"""Feature maps of networks that take several pictures: those that follow from the explained picture alone.

Behind the node that joins the branches of two pictures, a map shows what either picture holds. of_one_picture() steps
back to the branch of the explained one, and shared_note() tells of features that remain those of several pictures.
"""

from collections.abc import Iterator

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.anatomy import FeatureTensor, ImageInput
from onnxcam.surgeon.analysis.frontier import (
    RESHAPING,
    Geometry,
    computed_inputs,
    is_learned,
    layers_after,
    most_derived,
    walked_back,
)
from onnxcam.surgeon.analysis.images import find_image, picture_inputs
from onnxcam.surgeon.ir import Model, Value, reached_from
from onnxcam.types import Note, NoteCode

LONGEST_HEAD = 3
"""Layers with weights between the branch of a picture and the score; more of them make features of their own."""


def of_one_picture(chosen: Value, head: Value, geometry: Geometry, model: Model, image: ImageInput) -> Value:
    """The last map of the explained picture's own branch, if the pictures are joined late; else the chosen map.

    Late is a join that no layer with weights follows up to the chosen map, or at most LONGEST_HEAD up to the score.
    """
    shared = {name for names in _reached_from_others(model, image).values() for name in names}
    if str(chosen.name) not in shared or _is_joined_batch(geometry.shape(chosen), geometry):
        return chosen
    maps = list(_before_joins(chosen, shared, geometry))
    if not maps:
        return chosen
    branch = most_derived(maps)
    late = layers_after(branch, chosen) == 0 or layers_after(branch, head) <= LONGEST_HEAD
    return branch if late else chosen


def shared_note(features: FeatureTensor, geometry: Geometry, model: Model, image: ImageInput) -> Note | None:
    """A note on features that follow from other pictures too."""
    names = [name for name, reached in _reached_from_others(model, image).items() if features.tensor in reached]
    if not names or _is_joined_batch(features.shape, geometry):
        return None
    text = (
        f"the features {features.tensor!r} follow from {', '.join(map(repr, names))} too, so the map of {image.name!r} "
        f"may show places of the other picture; --layer takes an earlier tensor of one picture, if there is one"
    )
    return Note(NoteCode.FEATURES_SHARED, text)


def _reached_from_others(model: Model, image: ImageInput) -> dict[str, set[str]]:
    """Names of the tensors that follow from each further input that takes a picture."""
    names = [str(v.name) for v in picture_inputs(model) if v.name != image.name]
    return {name: reached_from(model, name) for name in names if _takes_picture(model, image, name)}


def _takes_picture(model: Model, image: ImageInput, name: str) -> bool:
    try:
        other = find_image(model, None, name)
    except ModelError:
        return False
    return len(other.sides) == len(image.sides) > 1 and min(side or 8 for side in other.sides) >= 8


def _is_joined_batch(shape: tuple[int | None, ...] | None, geometry: Geometry) -> bool:
    """Whether the pictures lie one after the other along the batch axis: passes/joined_pictures.py tells them apart."""
    return bool(shape) and shape is not None and shape[0] not in (None, geometry.batch)


def _before_joins(chosen: Value, shared: set[str], geometry: Geometry) -> Iterator[Value]:
    """The learned maps of the explained picture alone that enter nodes which other pictures' features enter too."""
    ahead = [chosen]
    for node in walked_back(ahead):
        parents = computed_inputs(node)
        joined = [v for v in parents if str(v.name) in shared]
        for value in parents:
            if str(value.name) in shared:
                if geometry.has_grid(value) and is_learned(value) and _is_joined_batch(geometry.shape(value), geometry):
                    yield value
                else:
                    ahead.append(value)
            elif joined and all(is_learned(v) for v in joined):
                source = _before_reshaping(value, geometry)
                if geometry.has_grid(source) and is_learned(source):
                    yield source


def _before_reshaping(value: Value, geometry: Geometry) -> Value:
    """The map (N,C,H,W) that is only brought into the form in which it is joined; else the value."""
    source: Value = value
    while (node := source.producer()) is not None and node.inputs[0] is not None:
        if node.op_type not in ("Unsqueeze", "Expand") and (
            geometry.is_map(source) or node.op_type not in (*RESHAPING, "Transpose")
        ):
            break
        source = node.inputs[0]
    return source if geometry.is_map(source) else value
