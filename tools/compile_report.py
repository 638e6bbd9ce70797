"""Compiles an explanation of every model of a folder of exports, and says how far each file is from the product.

    python tools/compile_report.py ZOO [--method NAME] [--only NAME] [--skip NAME] [--json FILE]

ZOO is a folder as tools/zoo_report.py reads it. Each file is compared with `onnxcam explain` on a photograph of ZOO,
the two that the package holds and noise, for the prediction and for the second class. Exits with 1 if a file that was
made differs.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from onnxcam.compiler.compiled import compile
from onnxcam.errors import OnnxCamError
from onnxcam.inputs.images import find_pictures
from onnxcam.network.extra_inputs import blank_inputs
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.loading import read_model

SMALL = 64 * 1024
"""Bytes that any file may grow by."""


@dataclass
class Row:
    """One model's results.

    difference: the largest of a map. ratio: of the file's size to the model's, of what is beyond SMALL. seconds: to
    compile and compare. pictures: that were compared. error: why there is no file.
    """

    model: str
    difference: float | None = None
    ratio: float | None = None
    seconds: float = 0.0
    pictures: int = 0
    error: str = ""


def examine(zoo: Path, record: Mapping[str, Any], method: str) -> Row:
    """Compiles one model for one method."""
    path = zoo / record["file"]
    row, start = Row(path.stem), time.perf_counter()
    try:
        file = read_model(path)
        image = find_image(file.model)
        size = None
        if None in image.sides:
            known = [d for d in (record.get("target_shape") or []) if isinstance(d, int)]
            size = (48, 192) if known[2:] == [1, 48] else (224, 224)
        photographs = len(image.sides) == 2 and image.channels == 3
        pictures = find_pictures(zoo / "images")[:1] if photographs else []
        inputs = {name: np.asarray(value) for name, value in blank_inputs(file.model, image).items()}
        compiled = compile(file, method, size=size, inputs=inputs, pictures=pictures, threads=1)
        row.difference, row.pictures = compiled.difference.map, compiled.difference.pictures
        original = len(file.proto.SerializeToString())
        row.ratio = max(0, len(compiled.bytes) - SMALL) / original
    except OnnxCamError as error:
        row.error = f"{type(error).__name__}: {error}".replace(f"{path.parent}/", "")
    row.seconds = time.perf_counter() - start
    return row


def main(
    zoo: Path,
    method: Annotated[str, typer.Option(help="The method that is compiled.")] = "grad-cam",
    only: Annotated[str, typer.Option(help="Models whose file name contains this.")] = "",
    skip: Annotated[str, typer.Option(help="Models whose file name contains this are left out.")] = "\0",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write all rows.")] = None,
) -> None:
    """Prints a line for each model."""
    console = Console(width=160)
    rows = []
    for record in json.loads((zoo / "zoo.json").read_text())["models"]:
        if only not in record["file"] or skip in record["file"]:
            continue
        row = examine(zoo, record, method)
        rows.append(row)
        number = f"{row.difference:.1e}" if row.difference is not None else "-"
        ratio = f"{row.ratio:.4f}" if row.ratio is not None else "-"
        console.print(f"{row.model:34} {number:8} {ratio:7} {row.seconds:6.1f} s  {row.error[:90]}", markup=False)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if any(row.error.startswith("CompileError: the compiled") for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
