"""Lists the operators of models that lack a gradient rule: `python tools/rule_coverage.py MODEL_OR_FOLDER...`.

Counts the operators between the image and the score in the graph that onnxcam differentiates: loops unrolled, the batch
open, the opset raised. A folder stands for the .onnx files in it. Exits with 1 if a rule is missing.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from onnxcam.cli.opening import open_options
from onnxcam.cli.options import OpeningArgs
from onnxcam.errors import OnnxCamError
from onnxcam.network.gradient_graphs import without_rules
from onnxcam.network.opening import open_model
from onnxcam.surgeon.loading import read_model


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL_OR_FOLDER")
    parser.add_argument("--json", action="store_true", help="print the records as JSON")
    arguments = parser.parse_args(words)
    records = [coverage(path) for path in _files(arguments.models)]
    if arguments.json:
        print(json.dumps(records, indent=2))
    else:
        _print(records)
    return int(any(r["missing"] for r in records))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(path.rglob("*.onnx")) if path.is_dir() else [path]


def coverage(path: Path) -> dict[str, Any]:
    """The model's record: missing (operator -> number of nodes), and refused (why it could not be opened, or None)."""
    record: dict[str, Any] = {"model": str(path), "missing": {}, "refused": None}
    try:
        file = read_model(path)
        opened = open_model(file, open_options(file, OpeningArgs()))
    except OnnxCamError as error:
        return record | {"refused": f"{type(error).__name__}: {error}"}
    try:
        record["missing"] = {m.operator: len(m.nodes) for m in without_rules(opened)}
    except OnnxCamError as error:
        record["refused"] = f"{type(error).__name__}: {error}"
    finally:
        opened.network.close()
    return record


def _print(records: Sequence[dict[str, Any]]) -> None:
    lacking: Counter[str] = Counter()
    for record in records:
        if record["refused"]:
            print(f"{record['model']}: not opened: {record['refused'][:150]}")
        elif record["missing"]:
            shown = ", ".join(f"{name} ({count})" for name, count in record["missing"].items())
            print(f"{record['model']}: no rule for {shown}")
            lacking.update(record["missing"])
    opened = [r for r in records if not r["refused"]]
    complete = sum(not r["missing"] for r in opened)
    share = f" = {complete / len(opened):.1%}" if opened else ""
    print(f"complete: {complete} of {len(opened)}{share}")
    for name, count in lacking.most_common():
        print(f"  {name}: {count} nodes")


if __name__ == "__main__":
    sys.exit(main())
