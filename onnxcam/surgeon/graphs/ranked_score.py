"""The graph that scores an image with some of its pixels replaced, where the pixels are named by their rank.

    kept = 1 where FROM <= RANK < TO, else 0
    x' = x * kept + fill * (1 - kept)
    logit, probability = score_head(model(x'))

RANK is fed once for all rows, and FROM and TO are one number a row. So a row of an insertion or deletion curve costs
eight bytes where a mask would cost as many numbers as the image has pixels. With a rank of 0 everywhere, FROM 0 and TO
1, the image comes in as it is; IMAGE may have one image a row, so any images can be scored by the same graph. score()
of network/ranked_scorer.py runs it; masked_score.py is the graph of masks on a coarse grid.
"""

from collections.abc import Mapping

import onnx_ir

from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.graphs.masked_score import (
    FILL,
    IMAGE,
    LOGIT,
    PROBABILITY,
    as_float,
    blended,
    feed_network,
    in_layout,
    tensor_named,
)
from onnxcam.surgeon.graphs.score_heads import add_score_head
from onnxcam.surgeon.graphs.tensor_names import FROM as FROM
from onnxcam.surgeon.graphs.tensor_names import RANK as RANK
from onnxcam.surgeon.graphs.tensor_names import TO as TO
from onnxcam.surgeon.ir import Model, edit, new_input, tidy


def ranked_model(
    model: Model,
    anatomy: Anatomy,
    size: tuple[int, ...],
    *,
    batch: int | None = None,
    extra: Mapping[str, bool] | None = None,
) -> Model:
    """The graph that scores N images, each with the pixels outside of its ranks replaced, for T targets in one run.

    Inputs:
        IMAGE       (1,C,*size) float32, or (N,C,*size) with one image a row; in the model's axis order
        FILL        as IMAGE: what replaces a pixel
        RANK        (1,1,*size) int32, the rank of each pixel, in the order N, C, sides
        FROM, TO    (N,) int32: row i keeps the pixels with FROM[i] <= rank < TO[i]
        the inputs of the score head and the model's extra inputs, as scoring_model() of masked_score.py has them
    Outputs: LOGIT, PROBABILITY (N,T) float32. size, batch, extra: as scoring_model() takes them.
    """
    copy = edit(model)
    b = Builder(copy, "onnxcam")
    network_input, head = tensor_named(copy, anatomy.image.name), tensor_named(copy, anatomy.logits.tensor)
    count: int | str = batch or "rows"
    shape = anatomy.image.shape(size)
    image_dims = ["images" if a == "N" else d for a, d in zip(anatomy.image.layout, shape, strict=True)]
    image = new_input(copy, IMAGE, onnx_ir.DataType.FLOAT, image_dims)
    fill = new_input(copy, FILL, onnx_ir.DataType.FLOAT, ["fills" if d == "images" else d for d in image_dims])
    rank = new_input(copy, RANK, onnx_ir.DataType.INT32, [1, 1, *size])
    first, stop = (new_input(copy, name, onnx_ir.DataType.INT32, [count]) for name in (FROM, TO))

    column = [-1] + [1] * (1 + len(size))
    from_row, to_row = b.reshape(first, column), b.reshape(stop, column)
    kept = b("And", b("Not", b("Less", rank, from_row)), b("Less", rank, to_row))
    # Not Where: onnxruntime's is slow where a condition is repeated along an axis, 12 % of EfficientNet-Lite0's time.
    mask = in_layout(b, b.cast(kept, onnx_ir.DataType.FLOAT), anatomy.image, size)
    changed = blended(b, image, mask, fill)
    feed_network(copy, b, network_input, changed, first, extra or {})

    copy.graph.outputs.clear()
    scores = add_score_head(copy, b, as_float(b, head), anatomy.logits)
    publish(copy, scores.logit, onnx_ir.DataType.FLOAT, [count, "targets"])
    publish(copy, scores.probability, onnx_ir.DataType.FLOAT, [count, "targets"])
    assert (str(scores.logit.name), str(scores.probability.name)) == (LOGIT, PROBABILITY)
    return tidy(copy)
