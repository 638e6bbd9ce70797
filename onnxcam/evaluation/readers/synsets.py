"""ImageNet's names of classes: synsets, such as n02123394, and lists of them in the model's order."""

import re
from pathlib import Path

from onnxcam.errors import DataError
from onnxcam.files import LABELS, read_text, shown

SYNSET = re.compile(r"n\d{8}")
_LINE = re.compile(r"(n\d{8})(?:\s+(\S.*?))?\s*")


def read_synsets(path: Path) -> tuple[dict[str, int], dict[int, str]]:
    """(synset -> index, index -> name) of a file with a line `n02123394 Persian cat` for each class, in model order.

    Kaggle's LOC_synset_mapping.txt is one. Raises DataError for another line, and for a synset that comes twice.
    """
    indices: dict[str, int] = {}
    names: dict[int, str] = {}
    lines = read_text(path, LABELS).splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[1] in indices:
            what = "is named before" if match else "is no synset with a name, such as 'n02123394 Persian cat'"
            raise DataError(f"{shown(path)}, line {number}: {line.strip()[:60]!r} {what}; name each class once, a line")
        names[len(indices)] = match[2] or match[1]
        indices[match[1]] = len(indices)
    return indices, names
