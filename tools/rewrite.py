"""Rewrite an exported graph so that it also returns its feature tensor.

    python tools/rewrite.py model.onnx -o model.cam.onnx

The same as `onnxcam rewrite`.
"""

import sys

import typer

from onnxcam.cli.rewrite import rewrite
from onnxcam.errors import OnnxCamError

if __name__ == "__main__":
    try:
        typer.run(rewrite)
    except OnnxCamError as error:
        sys.exit(f"error: {error}")
