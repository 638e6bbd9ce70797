"""Values that exporters write into a file's metadata_props as Python literals, as Ultralytics does."""

import ast
from typing import Any

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
