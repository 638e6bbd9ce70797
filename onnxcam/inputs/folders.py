"""Lists the pictures of a folder with its sub-folders, and those that a pattern such as photos/**/*.jpg names.

Where such a pattern is quoted, the shell leaves it to us. images.py lists a folder without its sub-folders.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from onnxcam.errors import OnnxCamError, OptionError, PictureError
from onnxcam.inputs.images import SUFFIXES, is_picture
from onnxcam.inputs.sources import reason

Identity = tuple[int, int]
"""(device, inode) of a folder."""


@dataclass(frozen=True)
class Pictures:
    """Pictures below one folder. root: the folder; errors: why folders below it could not be read."""

    root: Path
    images: tuple[Path, ...]
    errors: tuple[OnnxCamError, ...] = ()


def pictures_below(root: Path, leave_out: Path | None = None) -> Pictures:
    """The pictures of a folder and of all its sub-folders, by suffix, in the order of their names.

    Hidden files and folders are left out, and the folder `leave_out`, unless it is the root. A link to a folder is
    followed; each folder is visited once, under its own name where that lies below the root. Raises PictureError where
    there is no picture.
    """
    errors: list[OnnxCamError] = []
    seen: set[Identity] = set()
    if leave_out is not None and (identity := _identity(leave_out)) not in (None, _identity(root)):
        seen |= {identity} if identity is not None else set()
    images: list[Path] = []
    waiting = [root]
    while waiting:  # links wait until everything that has its own name here was visited
        links: list[Path] = []
        for folder in sorted(waiting):
            images.extend(_walk(folder, seen, links, errors))
        waiting = links
    if not images and not errors:
        raise PictureError(f"{root}: no pictures in this folder and its sub-folders (a .jpg, .png, .webp, .tif, ...)")
    return Pictures(root, tuple(sorted(images, key=lambda path: path.parts)), tuple(errors))


def is_pattern(text: str) -> bool:
    """Whether a text has *, ? or [...] and names no file: a file whose name has brackets is that file."""
    return has_magic(text) and not os.path.lexists(text)


def matching(pattern: str) -> Pictures:
    """The files that a pattern names, in the order of their names; ** is any number of folders, and no link to one.

    Of what matches, folders are left out, hidden names that the pattern does not begin with a dot, and files that are
    no pictures by their suffix, unless the pattern names the suffix or no other file matches. root: the folder before
    the first part that has a wildcard. Raises PictureError where nothing matches, OptionError for what is no pattern.
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
    shown = [path for path in dict.fromkeys(paths) if not _is_hidden(path.relative_to(root).parts, wild)]
    if not re.search(r"\.[A-Za-z0-9]+$", wild[-1]):
        shown = [path for path in shown if path.suffix.lower() in SUFFIXES] or shown
    if not shown:
        raise PictureError(f"{pattern}: no file has such a name")
    return Pictures(root, tuple(sorted(shown, key=lambda path: path.parts)))


def _walk(folder: Path, seen: set[Identity], links: list[Path], errors: list[OnnxCamError]) -> Iterator[Path]:
    """The pictures of a folder and its sub-folders. links: gets the links to folders, which are not followed here."""
    identity = _identity(folder)
    if identity is not None and identity in seen:
        return
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        errors.append(PictureError(f"{folder}: {reason(error)}"))
        return
    seen |= {identity} if identity is not None else set()
    for entry in listed:
        path = folder / entry.name
        if is_picture(entry):
            yield path
        elif not entry.name.startswith(".") and path.is_dir():
            if entry.is_symlink():
                links.append(path)
            else:
                yield from _walk(path, seen, links, errors)


def _is_hidden(parts: tuple[str, ...], wild: tuple[str, ...]) -> bool:
    """Whether a part begins with a dot that no part of the pattern begins with."""
    return any(part.startswith(".") for part in parts) and not any(part.startswith(".") for part in wild)


def _identity(folder: Path) -> Identity | None:
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
