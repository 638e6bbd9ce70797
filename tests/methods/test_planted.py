"""A model that reads one corner of the picture and nothing else: whatever the method, the map lights that corner."""

from typing import Any

import numpy as np
import onnx
import pytest
from tiny import IMAGE, SIZE, Array, enlarge, explained, model, probe, stretch

from onnxcam.methods import METHODS

CORNER_READER = """
<ir_version: 8, opset_import: ["" : 17]>
planted (float[N,3,16,12] x) => (float[N,2] logits)
<float[3,3,4,4] w, float[2,36] v, float[2] b>
{
  c = Conv <kernel_shape=[4,4], strides=[4,4]> (x, w)
  f = Relu (c)
  flat = Flatten (f)
  logits = Gemm <transB=1> (flat, v, b)
}
"""
"""A feature map a colour, of 4x3 cells; the first logit grows with the red in the lower right cell, the second is nothing."""
CORNER = (slice(12, 16), slice(8, 12))
OPTIONS: dict[str, dict[str, Any]] = {
    "mask": {"jitter": 0, "cell": 4, "max_iter": 100, "area": 0.05, "variation": 0.01},
    "rise": {"masks": 1500, "cells": 4},
    "smooth-grad": {"samples": 10, "noise": 0.05},
}
EXACT = ("gradient", "guided-backprop", "smooth-grad", "integrated-gradients")


def planted() -> onnx.ModelProto:
    proto = model(CORNER_READER)
    colours = np.zeros((3, 3, 4, 4), np.float32)
    colours[range(3), range(3)] = 1 / 16
    head = np.zeros((2, 36), np.float32)
    head[0, 11] = 4
    for tensor, values in zip(proto.graph.initializer, (colours, head, np.float32([-4, 0])), strict=True):
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return proto


def picture() -> Array:
    """Grey noise with a red patch in the corner, so that the red map is strongest there, and more green above."""
    image = np.random.default_rng(0).uniform(0.1, 0.4, IMAGE.shape).astype(np.float32)
    image[0][CORNER] += 1
    image[1, :8] += 2
    return image


INSIDE = np.zeros(SIZE, bool)
INSIDE[CORNER] = True


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("cam", "eigen-cam")])
def test_the_map_lights_the_corner_that_the_model_reads(name: str) -> None:
    """CAM has no answer for such a head, and Eigen-CAM knows no class."""
    method = METHODS[name](**OPTIONS.get(name, {}))
    (saliency,) = explained(planted(), method, (0,), picture())
    inside, outside = saliency.map[INSIDE], saliency.map[~INSIDE]
    assert inside.max() == 1
    if name in EXACT:
        assert not saliency.raw[~INSIDE].any()
        assert saliency.raw[INSIDE].all()
    elif name == "opti-cam":  # whose objective does not mind what else is lit
        assert inside.mean() > 0.75
        assert stretch(enlarge(probe(planted(), method, picture(), (0,)).features.mean(axis=0)))[INSIDE].mean() < 0.4
    else:
        assert inside.mean() > outside.mean() + 0.4
