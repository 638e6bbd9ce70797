"""A pass for networks that join several pictures along the batch axis and send them through one trunk.

A tensor behind the join holds the features of all of them, one picture after the other. split_off() makes those of one
picture a tensor of their own, which the rest of the graph reads through a Concat.
"""

from dataclasses import replace

from onnxcam.errors import NoSpatialFeatures
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.masked_score import rewire
from onnxcam.surgeon.ir import Model, Shapes, ancestors, depends_on, edit, find_value, integer, opset

SPLIT_INTO = 18
"""The opset from which on Split says by an attribute into how many parts it splits."""


def split_off(model: Model, anatomy: Anatomy, shapes: Shapes) -> tuple[Model, Anatomy, Shapes]:
    """The model whose feature tensor is that of the picture alone, with its anatomy and shapes.

    Unchanged where the feature tensor has one entry for each picture of a batch. Raises NoSpatialFeatures where it has
    more, and they cannot be told apart.
    """
    features, batch = anatomy.features, shapes[anatomy.image.name][0]
    if not batch or features.shape[0] in (None, batch) or anatomy.image.frames is not None:
        return model, anatomy, shapes
    join = _join(model, anatomy, shapes)
    if join is None:
        raise NoSpatialFeatures(
            f"{features.tensor!r} of shape {list(features.shape)} has {features.shape[0]} entries for {batch} "
            f"picture(s), which cannot be told apart; choose an earlier tensor with --layer"
        )
    parts, index = join
    copy = edit(model)
    value = find_value(copy, features.tensor)
    assert value is not None
    b = Builder(copy, "onnxcam/part")
    count = {"num_outputs": parts} if opset(copy) >= SPLIT_INTO else {}
    pieces = b.several("Split", value, outputs=parts, axis=0, **count)
    joined = b("Concat", *pieces, axis=0)
    rewire(value, joined)
    pieces[index].name = f"{features.tensor}/{anatomy.image.name}"
    copy.graph.sort()
    alone = (batch, *features.shape[1:])
    added = {str(piece.name): alone for piece in pieces} | {str(joined.name): features.shape}
    reason = f"{features.reason}; of several pictures in one batch the part of {anatomy.image.name!r}"
    part = replace(features, tensor=str(pieces[index].name), shape=alone, reason=reason)
    return copy, replace(anatomy, features=part), {**shapes, **added}


def _join(model: Model, anatomy: Anatomy, shapes: Shapes) -> tuple[int, int] | None:
    """(number of pictures, position of the explained one) of the Concat that joins them before the features."""
    end, image = find_value(model, anatomy.features.tensor), find_value(model, anatomy.image.name)
    if end is None or image is None:
        return None
    for value in ancestors(end):
        node = value.producer()
        if node is None or node.op_type != "Concat" or integer(node, "axis", 0) != 0 or len(node.inputs) < 2:
            continue
        reached = [i for i, v in enumerate(node.inputs) if v is not None and depends_on(v, image)]
        sizes = {shapes.get(str(v.name), ())[:1] for v in node.inputs if v is not None}
        whole = shapes.get(str(value.name), ())[:1] == anatomy.features.shape[:1]
        if len(reached) == 1 and sizes == {shapes[anatomy.image.name][:1]} and whole:
            return len(node.inputs), reached[0]
    return None
