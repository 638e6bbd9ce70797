"""The pictures that a command names: files, folders, and patterns that the shell left as they are."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from onnxcam.cli.parsing import parse_path
from onnxcam.errors import OnnxCamError, PictureError

if TYPE_CHECKING:
    from onnxcam.inputs.folders import Pictures

TOP = PurePath()
"""The folder of a picture that is written into -o itself."""


@dataclass
class Listing:
    """Pictures, each once, in order. folders: of each picture, the sub-folder of -o where its files go.

    failures: the errors of what could not be read. has_folders: whether a folder or a pattern was named.
    """

    folders: dict[Path, PurePath] = field(default_factory=dict)
    failures: list[OnnxCamError] = field(default_factory=list)
    has_folders: bool = False

    @property
    def images(self) -> list[Path]:
        return list(self.folders)


def list_pictures(paths: Sequence[str], *, keep_going: bool) -> tuple[list[Path], list[OnnxCamError]]:
    """Every picture once, in order, and with keep_going the errors of paths that cannot be read; else the first raises.

    Of a folder, overlays and figures that an earlier call wrote there are left out, unless it holds nothing else.
    """
    listing = picture_tree(paths, keep_going=keep_going)
    return listing.images, listing.failures


def picture_tree(paths: Sequence[str], *, keep_going: bool, recursive: bool = False, out: str | None = None) -> Listing:
    """As list_pictures(), with the sub-folders of pictures below a folder. recursive: sub-folders are listed too.

    out: what -o names, which is not searched. Sub-folders are kept below the folder or the fixed part of the pattern
    that was named, or below what all of these have in common.
    """
    listing = Listing()
    trees: list[tuple[Path, dict[Path, None]]] = []
    for text in paths:
        try:
            named, is_tree = _pictures(text, recursive, out)
        except OnnxCamError as error:
            if not keep_going:
                raise
            listing.failures.append(error)
            continue
        if named.errors and not keep_going:
            raise named.errors[0]
        listing.failures.extend(named.errors)
        listing.has_folders |= is_tree or named.images != (named.root,)
        images = dict.fromkeys(named.images)
        if is_tree:
            trees.append((named.root, images))
        listing.folders.update((image, TOP) for image in images if image not in listing.folders)
    _keep_folders(listing, trees)
    return listing


def _pictures(text: str, recursive: bool, out: str | None) -> "tuple[Pictures, bool]":
    """The pictures that a word names, and whether their sub-folders are kept."""
    from onnxcam.inputs.folders import Pictures, is_pattern, matching, pictures_below
    from onnxcam.inputs.images import find_pictures

    path = parse_path(text)
    written = Path(out) if out is not None and os.path.isdir(out) else None
    if is_pattern(text):
        named = matching(text)
        return Pictures(named.root, _inputs(_outside(named.images, written, named.root))), True
    if recursive and path.is_dir():
        named = pictures_below(path, written)
        return Pictures(path, _inputs(named.images), named.errors), True
    try:
        pictures = tuple(find_pictures(path))
    except PictureError as error:
        if not _has_folders(path):
            raise
        raise PictureError(f"{error}; '{path}/**/*' names those of its sub-folders") from None
    return Pictures(path, pictures if pictures == (path,) else _inputs(pictures)), False


def _has_folders(path: Path) -> bool:
    """Whether this is a folder with others in it."""
    try:
        return any(entry.is_dir() for entry in path.iterdir())
    except (OSError, ValueError):
        return False


def _outside(images: tuple[Path, ...], folder: Path | None, root: Path) -> tuple[Path, ...]:
    """The pictures that do not lie in the folder, which is not the root."""
    if folder is None or os.path.abspath(folder) == os.path.abspath(root):
        return images
    inside = os.path.join(os.path.abspath(folder), "")
    return tuple(image for image in images if not os.path.abspath(image).startswith(inside)) or images


def _inputs(images: Iterable[Path]) -> tuple[Path, ...]:
    """The pictures without overlays and figures that an earlier call wrote; all of them if there are no others."""
    from onnxcam.methods import method_names
    from onnxcam.outputs.paths import slug

    overlays = tuple(f".{slug(name)}.png" for name in (*method_names(), "compare", "sanity"))
    listed = tuple(images)
    return tuple(image for image in listed if not image.name.endswith(overlays)) or listed


def _keep_folders(listing: Listing, trees: Sequence[tuple[Path, Iterable[Path]]]) -> None:
    """Sets the folders of pictures that were listed below a root."""
    roots = [os.path.abspath(root) for root, _ in trees]
    is_one_drive = len({os.path.splitdrive(root)[0] for root in roots}) == 1
    common = os.path.commonpath(roots) if is_one_drive else None
    for root, (_, images) in zip(roots, trees, strict=True):
        for image in images:
            parent = os.path.dirname(os.path.abspath(image))
            listing.folders[image] = PurePath(os.path.relpath(parent, common if common is not None else root))
