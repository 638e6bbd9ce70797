"""The lines that `onnxcam compile` and `onnxcam inspect` print of a compiled file."""

from collections.abc import Mapping, Sequence
from typing import Any

COLUMN = 14
"""Where the text of a line begins, behind its first words."""
MEANINGS = {
    "image": "the preprocessed image",
    "picture": "the picture: height, width and red, green, blue",
    "target": "the class of each map; -1: the prediction",
    "map": "in 0 to 1, on the model's input",
    "map_target": "the class that each map explains",
    "range": "the least and the largest number of the raw map; equal: there is no map",
    "picture_map": "the map on the picture; 0 where the model does not see it",
    "box": "left, top, right, bottom of what the model saw, in pixels of the picture",
}
"""What the tensors of an interface are, by its fields."""


def compiled_lines(name: str, record: Mapping[str, Any]) -> list[str]:
    """name: of the file. record: of its metadata."""
    interface = record["interface"]
    roles = {interface[role]: text for role, text in MEANINGS.items() if interface.get(role)}
    options = ", ".join(f"{name} {value}" for name, value in record["options"].items())
    labels = record["labels"]
    difference = record["largest_difference"]
    return [
        name,
        f"  method      {record['method']}{f' ({options})' if options else ''}, by onnxcam {record['onnxcam']}",
        f"  of          {record['model']}  sha256 {record['model_sha256'][:16]}",
        f"  opset       {record['opset']}",
        f"  features    {record['layer']}",
        *(f"  input       {_tensor(t, roles)}" for t in interface["inputs"]),
        *(f"  output      {_tensor(t, roles)}" for t in interface["outputs"]),
        *_baked(record["target"], labels),
        f"  preset      {record['preset']['name']} ({record['preset']['origin']})",
        f"  labels      {len(labels) if labels is not None else 'none'}",
        f"  checked     maps differ by {difference:.1e} at most from `onnxcam explain`",
    ]


def _baked(target: int | None, labels: Sequence[str] | None) -> list[str]:
    if target is None:
        return []
    if target < 0:
        return ["  target      the prediction"]
    label = f" {labels[target]}" if labels is not None and target < len(labels) else ""
    return [f"  target      class {target}{label}, baked in"]


def _tensor(tensor: Mapping[str, Any], roles: Mapping[str, str]) -> str:
    shape = " x ".join(map(str, tensor["shape"])) or "one number"
    meaning = roles.get(tensor["name"])
    return f"{tensor['name']}  {shape} {tensor['dtype']}{f': {meaning}' if meaning else ''}"
