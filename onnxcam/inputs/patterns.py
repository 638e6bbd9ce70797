"""Patterns such as photos/**/*.jpg: where one is quoted, the shell leaves it to us."""

import os
import re
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from onnxcam.errors import OptionError, PictureError
from onnxcam.inputs.images import SUFFIXES
from onnxcam.inputs.sources import reason


@dataclass(frozen=True)
class Matches:
    """The pictures that a pattern names. root: the folder before the first part that has a wildcard."""

    root: Path
    images: tuple[Path, ...]


def is_pattern(text: str) -> bool:
    """Whether a text has *, ? or [...] and names no file: a file whose name has brackets is that file."""
    return has_magic(text) and not os.path.lexists(text)


def matching(pattern: str) -> Matches:
    """The files that a pattern names, in the order of their names; ** is any number of folders, and no link to one.

    Of what matches, folders are left out, names with a dot before them unless the pattern has one too, and files that
    are no pictures by their suffix, unless the pattern names the suffix or nothing else matches. Raises PictureError
    where nothing matches, OptionError for what is no pattern.
    """
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if has_magic(part))
    root, wild = Path(*parts[:first]), parts[first:]
    try:
        paths = [path for path in root.glob("/".join(wild)) if path.is_file() or path.is_symlink()]
    except ValueError as error:
        raise OptionError(
            f"{pattern}: no pattern ({reason(error)}); ** stands for whole folders, as in a/**/*.jpg"
        ) from None
    listed = [path for path in dict.fromkeys(paths) if not _is_hidden(path.relative_to(root).parts, wild)]
    if not re.search(r"\.[A-Za-z0-9]+$", wild[-1]):
        listed = [path for path in listed if path.suffix.lower() in SUFFIXES] or listed
    if not listed:
        raise PictureError(f"{pattern}: no file has such a name")
    return Matches(root, tuple(sorted(listed, key=lambda path: path.parts)))


def _is_hidden(parts: tuple[str, ...], wild: tuple[str, ...]) -> bool:
    """Whether a part begins with a dot and none of the pattern does."""
    return any(part.startswith(".") for part in parts) and not any(part.startswith(".") for part in wild)
