"""Find the tensor that holds the logits: before the final activation of the output that is the classifier's."""

from onnxcam.errors import ModelError
from onnxcam.surgeon.anatomy import Logits
from onnxcam.surgeon.graph import NUMBERS, Model, Shapes, Value, ancestors, shape_of

FINAL_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
TRANSPARENT = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def find_logits(model: Model, shapes: Shapes) -> Logits:
    """The classifier's numbers: among outputs of shape (N, classes), the one with a final activation, else the widest.

    An output that another output is computed from is an embedding, not the logits.
    """
    vectors = [v for v in model.graph.outputs if _is_vector(v, shapes)]
    if not vectors:
        shown = ", ".join(f"{v.name} {list(shapes.get(str(v.name), shape_of(v) or ()))}" for v in model.graph.outputs)
        raise ModelError(
            f"no output is a class vector of shape (N, classes); found {shown}; onnxcam explains classifiers"
        )
    others = {id(v) for o in vectors for v in ancestors(o)}
    heads = [v for v in vectors if id(v) not in others] or vectors
    activated = [v for v in heads if _before_activation(v)[1] in ("softmax", "log_softmax")]
    output = max(activated or heads, key=lambda v: _classes(v, shapes))
    value, activation = _before_activation(output)
    how = f"before the final {activation}" if activation != "none" else "the output itself, no activation follows"
    if len(model.graph.outputs) > 1:
        how += f"; chosen of {len(model.graph.outputs)} outputs"
    return Logits(str(value.name), str(output.name), activation, _classes(output, shapes), how)


def _is_vector(value: Value, shapes: Shapes) -> bool:
    shape = shapes.get(str(value.name)) or shape_of(value) or ()
    wide = [d for d in shape[1:] if d != 1]
    return len(shape) >= 2 and len(wide) <= 1 and value.dtype in NUMBERS and None not in shape[1:]


def _classes(value: Value, shapes: Shapes) -> int:
    shape = shapes.get(str(value.name)) or shape_of(value) or ()
    return max((int(d or 0) for d in shape[1:]), default=0)


def _before_activation(output: Value) -> tuple[Value, str]:
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in FINAL_ACTIVATIONS:
            return node.inputs[0], FINAL_ACTIVATIONS[node.op_type]
        if node.op_type not in TRANSPARENT:
            break
        value = node.inputs[0]
    return output, "none"
