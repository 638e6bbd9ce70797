"""What a file's metadata_props say: Python literals, as Ultralytics writes them, and whether onnxcam made the file."""

import ast
from collections.abc import Mapping
from typing import Any

from onnxcam.errors import ModelError
from onnxcam.files import parse_json

COMPILED = "onnxcam.compiled"
"""The key of a file that `onnxcam compile` wrote; compiler/metadata.py describes its value."""
INPUTS = "onnxcam:inputs_sha256"
"""The key of what a file that a command wrote was made of; a file made of that one does not keep it."""
LONGEST_NAME = 255
"""Characters of a model's name that a message repeats."""

LARGEST_LITERAL = 2**20
"""Characters of a literal: a syntax tree takes some hundred times the memory of its text."""


def literal(text: str) -> Any:
    """The value of a Python literal, such as a dict of names; None for anything else and for too long a text."""
    if len(text) > LARGEST_LITERAL:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def check_not_compiled(metadata: Mapping[str, str]) -> None:
    """Raises ModelError for the metadata of a compiled file, whose graph holds an explanation already."""
    text = metadata.get(COMPILED)
    if text is None:
        return
    try:
        record = parse_json(text)
    except ValueError:
        record = None
    model = record.get("model") if isinstance(record, dict) else None
    origin = f"from {model} " if isinstance(model, str) and len(model) <= LONGEST_NAME else ""
    raise ModelError(f"this file was compiled {origin}by `onnxcam compile`; give that model")
