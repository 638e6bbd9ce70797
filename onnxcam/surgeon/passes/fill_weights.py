"""A pass that stores the weights that ConstantOfShape nodes make, as in Caffe2's exports without weights.

It is the first pass at opening, before loops are unrolled: the analysis and onnxruntime then see plain weights.
"""

import math

import numpy as np
import onnx_ir

from onnxcam.surgeon.ir import Model, constant, edit

MOST_NUMBERS = 2**27
"""Numbers of one weight; a larger fill is no weight."""


def store_filled_weights(model: Model) -> Model:
    """Replaces every ConstantOfShape of a constant shape by an initializer, under the tensor's name.

    onnxruntime would fill such a tensor again in each run. The model itself where there is none.
    """
    if all(node.op_type != "ConstantOfShape" for node in model.graph):
        return model
    copy = edit(model)
    for node in [n for n in copy.graph if n.op_type == "ConstantOfShape"]:
        shape = constant(node.inputs[0]) if node.inputs else None
        output = node.outputs[0]
        sides = [int(d) for d in shape.reshape(-1)] if shape is not None else []
        if not sides or min(sides) < 0 or math.prod(sides) > MOST_NUMBERS or output.is_graph_output():
            continue
        attribute = node.attributes.get("value")
        value = np.asarray(attribute.as_tensor().numpy()) if attribute is not None else np.zeros(1, np.float32)
        array = np.broadcast_to(value.reshape(-1)[0], sides)
        name = str(output.name)
        output.name = f"{name}/filled"
        tensor = onnx_ir.tensor(np.ascontiguousarray(array), name=name)
        stored = onnx_ir.Value(
            name=name, type=onnx_ir.TensorType(tensor.dtype), shape=onnx_ir.Shape(array.shape), const_value=tensor
        )
        copy.graph.register_initializer(stored)
        onnx_ir.convenience.replace_all_uses_with(output, stored)
        copy.graph.remove(node, safe=True)
    return copy
