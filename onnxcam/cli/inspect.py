"""`onnxcam inspect`: what onnxcam sees in a model, and why."""

import json
from typing import TYPE_CHECKING, Any

import typer

from onnxcam.cli.options import Json, Layer, Layout, ModelPath, Size, path_of
from onnxcam.cli.rewrite import shown

if TYPE_CHECKING:
    from onnxcam.surgeon.anatomy import Anatomy
    from onnxcam.surgeon.graph import Model
    from onnxcam.surgeon.loading import ModelFile


def inspect(
    model: ModelPath,
    layer: Layer = "auto",
    size: Size = None,
    layout: Layout = None,
    json_output: Json = False,
) -> None:
    """Show inputs, outputs, the feature tensor and the logits that were chosen, why, and what lost."""
    from onnxcam.preprocess import parse_size
    from onnxcam.surgeon import graph
    from onnxcam.surgeon.loading import read_model
    from onnxcam.surgeon.locate import locate

    file = read_model(path_of(model))
    parsed = graph.from_proto(file.proto)
    anatomy = locate(parsed, layer=layer, size=parse_size(size) if size is not None else None, layout=layout)
    found = description(file, parsed, anatomy)
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if json_output else page(found))


def description(file: "ModelFile", model: "Model", anatomy: "Anatomy") -> dict[str, Any]:
    """The JSON record of `inspect --json`."""
    from onnxcam.explainer import choose_labels, choose_preset

    preset, source = choose_preset(file, None, model, anatomy.image.layout)
    labels, labels_source = choose_labels(file, None, anatomy.logits.classes)
    features, logits, image = anatomy.features, anatomy.logits, anatomy.image
    return {
        "model": file.name,
        "sha256": file.sha256,
        "opset": file.opset,
        "inputs": [_tensor(v) for v in model.graph.inputs],
        "outputs": [_tensor(v) for v in model.graph.outputs],
        "image": {
            "input": image.name, "layout": image.layout, "dtype": image.dtype,
            "channels": image.channels, "height": image.height, "width": image.width,
        },
        "features": {
            "tensor": features.tensor, "shape": list(features.shape), "layout": features.layout,
            "producer": features.producer, "reason": features.reason,
        },
        "logits": {
            "tensor": logits.tensor, "output": logits.output, "activation": logits.activation,
            "classes": logits.classes, "reason": logits.reason,
        },
        "candidates": [
            {"tensor": c.tensor, "shape": list(c.shape) if c.shape is not None else None, "why_not": c.why_not}
            for c in anatomy.candidates
        ],
        "batch": _batch(image.batch),
        "preset": {"name": preset.name, "source": source},
        "labels": {"count": len(labels) if labels is not None else 0, "source": labels_source},
        "warnings": list(anatomy.warnings),
    }  # fmt: skip


def _tensor(value: Any) -> dict[str, Any]:
    from onnxcam.surgeon.graph import shape_with_names

    return {
        "name": value.name,
        "dtype": value.dtype.name if value.dtype else None,
        "shape": shape_with_names(value),
    }


def _batch(fixed: int | None) -> dict[str, str]:
    if fixed is None:
        return {"mode": "dynamic", "reason": "the export takes any batch; checked when a picture is explained"}
    return {
        "mode": "looped",
        "reason": f"the export is fixed to a batch of {fixed}, so masks go through {fixed} a run",
    }


def page(found: dict[str, Any]) -> str:
    """The record for a reader."""
    features, logits = found["features"], found["logits"]
    lines = [
        found["model"],
        f"  opset       {found['opset']}",
        *(f"  input       {_line(t)}" for t in found["inputs"]),
        *(f"  output      {_line(t)}" for t in found["outputs"]),
        f"  picture     {found['image']['input']}, {found['image']['layout']}, {_sides(found['image'])}",
        f"  batch       {found['batch']['mode']}: {found['batch']['reason']}",
        f"  features    {features['tensor']}  {shown(features['shape'])} {features['layout']}",
        f"              made by {features['producer']}; {features['reason']}",
        f"  logits      {logits['tensor']}, {logits['classes']} classes: {logits['reason']}",
        f"  preset      {found['preset']['name']} ({found['preset']['source']})",
        f"  labels      {found['labels']['count'] or 'none'} ({found['labels']['source']})",
    ]
    for candidate in found["candidates"]:
        lines += [
            f"  not chosen  {candidate['tensor']}  {shown(candidate['shape'])}",
            f"              {candidate['why_not']}",
        ]
    lines += [f"  warning     {w}" for w in found["warnings"]]
    return "\n".join(lines)


def _line(tensor: dict[str, Any]) -> str:
    shape = "x".join(str(d) for d in tensor["shape"]) if tensor["shape"] is not None else "unknown shape"
    return f"{tensor['name']}  {shape} {(tensor['dtype'] or '').lower()}"


def _sides(image: dict[str, Any]) -> str:
    if image["height"] is None or image["width"] is None:
        return "any size"
    return f"{image['height']}x{image['width']} pixels (HxW)"
