"""Pieces of small networks as ONNX text, and the anatomy that the analysis gives of a network."""

import onnx

from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.analysis.locate import locate

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
BODY = """
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
"""
SIGNATURE = "net (float[N,3,8,6] x) => (float[N,5] logits)\n"
LINEAR = "<float[8,3,3,3] w, float[8,5] v>\n"


def anatomy_of(proto: onnx.ModelProto, **options: object) -> Anatomy:
    """locate() for a ModelProto; options are those of locate()."""
    return locate(ir.from_proto(proto), **options)  # type: ignore[arg-type]
