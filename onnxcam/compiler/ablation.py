"""Ablation-CAM as a graph: a Loop over chunks of channels, in which the tail runs with each channel set to zero.

methods/feature_cams.py is the same in numpy. The tail is a clone that reads the weights of the graph around the Loop.
"""

import math

import numpy as np

from onnxcam.compiler.batch_graph import plain_graph
from onnxcam.compiler.element_types import DOUBLE, FLOAT
from onnxcam.compiler.feature_cams import check_variants, tail_scores
from onnxcam.compiler.loop_body import LoopBody
from onnxcam.compiler.prepared import Prepared
from onnxcam.compiler.rows import is_quantised
from onnxcam.errors import CompileError
from onnxcam.methods.feature_cams import AT_ONCE
from onnxcam.surgeon.graphs.masked_score import LOGIT
from onnxcam.surgeon.ir import Model

TINY = 1e-12


def ablation_cam(prepared: Prepared) -> Model:
    """A channel's weight is the share of the logit that is lost without it.

    Each chunk scores the features as they are, too: scores of one run are compared, which round alike.
    """
    graph = plain_graph(prepared)
    b, features = graph.b, prepared.anatomy.features
    channels, cells = features.channels, math.prod(features.grid)
    if is_quantised(graph.model):
        raise CompileError(
            "ablation-cam of a quantised model cannot be compiled: onnxruntime breaks on such a Loop; compile "
            "recipro-cam, or the float export"
        )
    rows = min(AT_ONCE, channels)
    check_variants(prepared, 1 + rows)
    maps = b.unsqueeze(b.reshape(graph.maps(graph.features), [-1, channels, cells]), [1])
    chosen = b.unsqueeze(graph.chosen, [2])
    body = LoopBody(graph.model, "onnxcam/ablation")
    inner = body.b
    first = inner("Mul", body.turn, inner.constant(rows, np.int64))
    numbers = inner("Add", first, inner.constant(np.arange(rows)[:, None], np.int64))
    removed = inner.cast(inner("Equal", numbers, inner.constant(np.arange(channels)[None], np.int64)), FLOAT)
    kept = inner("Sub", inner.constant(1, np.float32), removed)
    kept = inner("Concat", inner.constant(np.ones((1, channels)), np.float32), kept, axis=0)
    variants = inner("Mul", maps, inner.unsqueeze(kept, [0, 3]))
    table = tail_scores(graph, inner.reshape(variants, [-1, channels, *features.grid]), 1 + rows, LOGIT, body)
    scores = inner.cast(inner.squeeze(inner("MatMul", table, chosen), [2]), DOUBLE)  # (R,1+rows)
    before, without = inner.several("Split", scores, inner.constant([1, rows], np.int64), outputs=2, axis=1)
    size = inner("Max", inner("Abs", before), inner.constant(TINY, np.float64))
    lost = inner("Div", inner("Sub", before, without), size)
    chunks = math.ceil(channels / rows)
    (parts,) = body.run(b, chunks, collected=[lost])  # (chunks,R,rows)
    weights = b.reshape(b("Transpose", parts, perm=[1, 0, 2]), [0, chunks * rows])
    zero = b.constant([0], np.int64)
    weights = b("Slice", weights, zero, b.constant([channels], np.int64), b.constant([1], np.int64))
    flat = b.cast(b.squeeze(maps, [1]), DOUBLE)
    raw = b("MatMul", b.unsqueeze(weights, [1]), flat)
    return graph.publish(b.cast(b.reshape(raw, [-1, 1, *features.grid]), FLOAT), coarse=True)
