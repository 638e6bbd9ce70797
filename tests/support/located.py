"""The anatomy of a small network, and the pieces that such networks are written with."""

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


def found(proto: onnx.ModelProto, **options: object) -> Anatomy:
    return locate(ir.from_proto(proto), **options)  # type: ignore[arg-type]
