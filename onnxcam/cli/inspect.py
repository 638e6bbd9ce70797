"""`onnxcam inspect`: what onnxcam sees in a model, and why."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from onnxcam.cli.options import Input, Json, Layer, Layout, ModelPath, Output, Size, path_of
from onnxcam.cli.rewrite import shown

if TYPE_CHECKING:
    from onnxcam.network.opening import OpenedModel, OpenOptions
    from onnxcam.surgeon.loading import ModelFile


SIDES = ("depth", "height", "width")


def inspect(
    model: ModelPath,
    layer: Layer = "auto",
    size: Size = None,
    layout: Layout = None,
    output: Output = None,
    extra: Input = None,
    json_output: Json = False,
) -> None:
    """Show inputs, outputs, the feature tensor and the logits that were chosen, why, and what lost."""
    from onnxcam.network.opening import open_model
    from onnxcam.surgeon.loading import read_model

    file = read_model(path_of(model))
    options = asked(file, layer=layer, size=size, layout=layout, extra=extra, output=output)
    opened = open_model(file, options)
    opened.network.close()
    found = description(file, opened)
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if json_output else page(found))


def asked(
    file: "ModelFile",
    *,
    layer: str,
    size: str | None,
    layout: str | None,
    extra: Sequence[str] | None,
    output: str | None = None,
) -> "OpenOptions":
    """The wish of a command that looks at a model without a picture; missing extra inputs are filled with zeros."""
    from onnxcam.cli.parsing import parse_inputs
    from onnxcam.inputs.choices import choose_inputs, choose_preset, choose_size
    from onnxcam.inputs.presets import parse_size
    from onnxcam.network.extra_inputs import blank_inputs
    from onnxcam.network.opening import OpenOptions
    from onnxcam.surgeon.analysis.locate import find_image

    image = find_image(file.model, layout)
    sides, _ = choose_size(image, parse_size(size) if size is not None else None, choose_preset(file, None, image)[0])
    inputs = {**blank_inputs(file.model, image), **choose_inputs(parse_inputs(extra or ()))}
    return OpenOptions(layout=layout, size=sides, layer=layer, output=output, inputs=inputs, providers=("cpu",))


def description(file: "ModelFile", opened: "OpenedModel") -> dict[str, Any]:
    """The JSON record of `inspect --json`."""
    from onnxcam.inputs.choices import choose_labels, choose_preset

    anatomy = opened.anatomy
    preset, source = choose_preset(file, None, anatomy.image)
    labels, labels_source = choose_labels(file, None, anatomy.logits)
    features, logits, image = anatomy.features, anatomy.logits, anatomy.image
    return {
        "model": file.name,
        "sha256": file.sha256,
        "opset": file.opset,
        "inputs": [_tensor(v) for v in file.model.graph.inputs],
        "outputs": [_tensor(v) for v in file.model.graph.outputs],
        "image": {
            "input": image.name, "layout": image.layout, "dtype": image.dtype, "channels": image.channels,
            **dict(zip(SIDES[-len(image.sides):], image.sides, strict=True)),
        },
        "features": {
            "tensor": features.tensor, "shape": list(features.shape), "layout": features.layout,
            "producer": features.producer, "reason": features.reason,
        },
        "logits": {
            "tensor": logits.tensor, "output": logits.output, "activation": logits.activation,
            "classes": logits.classes, "kind": str(logits.kind), "reason": logits.reason,
        },
        "candidates": [
            {"tensor": c.tensor, "shape": list(c.shape) if c.shape is not None else None, "why_not": c.why_not}
            for c in anatomy.candidates
        ],
        "batch": {"mode": opened.batching.mode, "reason": opened.batching.reason},
        "gradient": _gradient(opened),
        "preset": {"name": preset.name, "source": str(source)},
        "labels": {"count": len(labels) if labels is not None else 0, "source": str(labels_source)},
        "warnings": [str(note) for note in (*opened.notes, *anatomy.notes)],
    }  # fmt: skip


def _gradient(opened: "OpenedModel") -> dict[str, Any]:
    """Whether methods with gradients work, and which operators stand in the way."""
    from onnxcam.errors import ModelError
    from onnxcam.network.gradients import why_no_gradient

    try:
        missing, reason = why_no_gradient(opened)
    except ModelError as error:
        missing, reason = [], str(error)
    found = [{"operator": m.operator, "nodes": len(m.nodes)} for m in missing]
    return {"works": reason is None, "missing": found, "reason": reason or "every operator on the way has a rule"}


def _tensor(value: Any) -> dict[str, Any]:
    from onnxcam.surgeon.ir import shape_with_names

    return {
        "name": value.name,
        "dtype": value.dtype.name if value.dtype else None,
        "shape": shape_with_names(value),
    }


def _gradient_line(found: dict[str, Any]) -> str:
    missing = ", ".join(f"{m['operator']} ({m['nodes']})" for m in found["missing"])
    return f"{'yes' if found['works'] else 'no'}: {found['reason']}{f': {missing}' if missing else ''}"


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
        f"  gradient    {_gradient_line(found['gradient'])}",
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
    sides = [image[name] for name in SIDES if name in image]
    if all(side is None for side in sides):
        return "any size"
    shown_sides = "x".join("?" if side is None else str(side) for side in sides)
    return f"{shown_sides} pixels (HxW)" if len(sides) == 2 else shown_sides
