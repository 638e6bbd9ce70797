"""`onnxcam inspect`: show what onnxcam sees in a model, and why."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnxcam.cli.compiled_summary import COLUMN, compiled_lines
from onnxcam.cli.groups import command
from onnxcam.cli.isolated import ran_isolated
from onnxcam.cli.opening import open_options
from onnxcam.cli.options import LimitArgs, OpeningArgs
from onnxcam.cli.parsing import parse_limits, parse_path
from onnxcam.cli.printing import print_json, print_lines, wrapped_lines
from onnxcam.cli.shared_options import Isolated, Json, ModelPath
from onnxcam.cli.summary import shape_text

if TYPE_CHECKING:
    from onnxcam.network.opening import OpenedModel
    from onnxcam.surgeon.loading import ModelFile


SIDES = ("depth", "height", "width")


@command
def inspect(
    model: ModelPath, opening: OpeningArgs, limits: LimitArgs, json: Json = False, isolated: Isolated = False
) -> None:
    """Show inputs, outputs, the feature tensor and the logits that were chosen, why, and what lost.

    Of a file that `onnxcam compile` wrote: what to feed it and what comes out.
    """
    if ran_isolated(isolated, limits, short=True):
        return
    from onnxcam.compiler.metadata import read_compiled
    from onnxcam.network.opening import open_model
    from onnxcam.surgeon.loading import read_model

    allowed = parse_limits(limits)
    file = read_model(parse_path(model), allowed)
    if (compiled := read_compiled(file.metadata)) is not None:
        print_json(compiled) if json else print_lines(wrapped_lines(compiled_lines(file.name, compiled), COLUMN))
        return
    opened = open_model(file, open_options(file, opening, allowed))
    opened.close()
    record = description(file, opened)
    if json:
        print_json(record)
    else:
        print_lines(wrapped_lines(page(record), COLUMN))


def description(file: "ModelFile", opened: "OpenedModel") -> dict[str, Any]:
    """The JSON record of `inspect --json`."""
    from onnxcam.inputs.choices import choose_labels, choose_preset
    from onnxcam.inputs.graph_preset import preset_notes

    anatomy = opened.anatomy
    preset, source = choose_preset(file, None, anatomy.image)
    labels, labels_source = choose_labels(file, None, anatomy.logits)
    doubts = preset_notes(file.normalisations(anatomy.image), anatomy.image, preset, source)
    features, logits, image = anatomy.features, anatomy.logits, anatomy.image
    return {
        "model": file.name,
        "sha256": file.sha256,
        "opset": file.opset,
        "inputs": [_tensor(v) for v in file.model.graph.inputs],
        "outputs": [_tensor(v) for v in file.model.graph.outputs],
        "image": {
            "input": image.name, "layout": image.file_layout, "dtype": image.dtype, "channels": image.channels,
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
        "scales": [
            {
                "tensor": scale.features.tensor, "shape": list(scale.features.shape), "layout": scale.features.layout,
                "rows": [list(run) for run in scale.rows], "boxes": scale.boxes,
            }
            for scale in anatomy.scales
        ],
        "candidates": [
            {"tensor": c.tensor, "shape": list(c.shape) if c.shape is not None else None, "why_not": c.why_not}
            for c in anatomy.candidates
        ],
        "branches": [
            {"tensor": f.tensor, "shape": list(f.shape), "layout": f.layout, "producer": f.producer}
            for f in anatomy.branches
        ],
        "batch": {"mode": opened.batching.mode, "reason": opened.batching.reason},
        "gradient": _gradient(opened),
        "preset": {"name": preset.name, "source": str(source)},
        "labels": {"count": len(labels) if labels is not None else 0, "source": str(labels_source)},
        "warnings": [str(note) for note in (*doubts, *opened.notes, *anatomy.notes)],
    }  # fmt: skip


def _gradient(opened: "OpenedModel") -> dict[str, Any]:
    """Whether methods with gradients work, and which operators stand in the way."""
    from onnxcam.errors import ModelError
    from onnxcam.network.gradient_graphs import why_no_gradient

    try:
        missing, reason = why_no_gradient(opened)
    except ModelError as error:
        missing, reason = [], str(error)
    operators = [{"operator": m.operator, "nodes": len(m.nodes)} for m in missing]
    return {"works": reason is None, "missing": operators, "reason": reason or "every operator on the way has a rule"}


def _tensor(value: Any) -> dict[str, Any]:
    from onnxcam.surgeon.ir import shape_with_names

    return {
        "name": value.name,
        "dtype": value.dtype.name if value.dtype else None,
        "shape": shape_with_names(value),
    }


def _labels(labels: Mapping[str, Any]) -> str:
    """How many there are and where they come from, or how they are given."""
    return f"{labels['count']} ({labels['source']})" if labels["count"] else "none: --labels FILE, a name in each line"


def _gradient_line(gradient: dict[str, Any]) -> str:
    missing = ", ".join(f"{m['operator']} ({m['nodes']})" for m in gradient["missing"])
    return f"{'yes' if gradient['works'] else 'no'}: {gradient['reason']}{f': {missing}' if missing else ''}"


def page(record: dict[str, Any]) -> list[str]:
    """The lines of the record for a reader."""
    features, logits = record["features"], record["logits"]
    lines = [
        record["model"],
        f"  opset       {record['opset']}",
        *(f"  input       {_line(t)}" for t in record["inputs"]),
        *(f"  output      {_line(t)}" for t in record["outputs"]),
        f"  picture     {record['image']['input']}, {record['image']['layout']}, {_sides(record['image'])}",
        f"  batch       {record['batch']['mode']}: {record['batch']['reason']}",
        f"  features    {features['tensor']}  {shape_text(features['shape'])} {features['layout']}",
        f"              made by {features['producer']}; {features['reason']}",
        f"  logits      {logits['tensor']}, {logits['classes']} classes: {logits['reason']}",
        f"  gradient    {_gradient_line(record['gradient'])}",
        f"  preset      {record['preset']['name']} ({record['preset']['source']})",
        f"  labels      {_labels(record['labels'])}",
    ]
    for scale in record["scales"] if len(record["scales"]) > 1 else ():
        lines += [
            f"  scale       {scale['tensor']}  {shape_text(scale['shape'])} {scale['layout']}",
            f"              boxes {scale['boxes']}",
        ]
    for branch in record["branches"]:
        lines.append(f"  feeds score {branch['tensor']}  {shape_text(branch['shape'])} {branch['layout']}")
    for candidate in record["candidates"]:
        lines += [
            f"  not chosen  {candidate['tensor']}  {shape_text(candidate['shape'])}",
            f"              {candidate['why_not']}",
        ]
    return [*lines, *(f"  warning     {w}" for w in record["warnings"])]


def _line(tensor: dict[str, Any]) -> str:
    shape = "x".join(str(d) for d in tensor["shape"]) if tensor["shape"] is not None else "unknown shape"
    return f"{tensor['name']}  {shape} {(tensor['dtype'] or '').lower()}"


def _sides(image: dict[str, Any]) -> str:
    sides = [image[name] for name in SIDES if name in image]
    if all(side is None for side in sides):
        return "any size"
    text = "x".join("?" if side is None else str(side) for side in sides)
    return f"{text} pixels (HxW)" if len(sides) == 2 else text
