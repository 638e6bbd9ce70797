"""The pictures that a command names: files, folders, and patterns that the shell left as they are."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from onnxcam.cli.parsing import parse_path
from onnxcam.errors import OnnxCamError, PictureError

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


def picture_tree(
    paths: Sequence[str], *, keep_going: bool, recursive: bool | None = None, out: str | None = None
) -> Listing:
    """As list_pictures(), with the sub-folders of pictures below a folder.

    recursive: whether sub-folders are listed too; None where the command has no such option. out: what -o names, which
    is not searched. Sub-folders are kept below the folder or the fixed part of the pattern that was named, or below
    what all of these have in common.
    """
    listing = Listing()
    trees: list[Named] = []
    for text in paths:
        try:
            named = _pictures(text, recursive, out)
        except OnnxCamError as error:
            if not keep_going:
                raise
            listing.failures.append(error)
            continue
        listing.has_folders |= named.images != (named.root,)
        listing.folders.update((image, TOP) for image in named.images if image not in listing.folders)
        if named.is_tree:
            trees.append(named)
    _keep_folders(listing, trees)
    return listing


@dataclass(frozen=True)
class Named:
    """The pictures that one word names. root: the folder that holds them, or the file itself.

    is_tree: whether the sub-folders of the root are kept.
    """

    root: Path
    images: tuple[Path, ...]
    is_tree: bool = False


def _pictures(text: str, recursive: bool | None, out: str | None) -> Named:
    from onnxcam.inputs.images import find_pictures
    from onnxcam.inputs.patterns import is_pattern, matching

    path = parse_path(text)
    if is_pattern(text):
        matches = matching(text)
        return Named(matches.root, _inputs(_outside(matches.images, out, matches.root)), True)
    if recursive and path.is_dir():
        return Named(path, _inputs(_outside(_below(path), out, path)), True)
    try:
        pictures = tuple(find_pictures(path))
    except PictureError as error:
        if not _has_pictures_below(path):
            raise
        pattern = f"'{path}/**/*'"
        ways = f"{pattern} names" if recursive is None else f"--recursive explains (or {pattern} names)"
        raise PictureError(f"{error}; {ways} those of its sub-folders") from None
    return Named(path, pictures if pictures == (path,) else _inputs(pictures))


def _below(root: Path) -> tuple[Path, ...]:
    """The pictures of a folder and of its sub-folders, in natural order. Raises OnnxCamError."""
    from onnxcam.evaluation.readers.listing import Listing as Files

    pictures = tuple(Files.of(root).pictures.values())
    if not pictures:
        raise PictureError(f"{root}: no pictures in this folder and its sub-folders (a .jpg, .png, .webp, .tif, ...)")
    return pictures


def _has_pictures_below(path: Path) -> bool:
    """Whether a sub-folder of this folder, none that is hidden, holds a picture; False for what is no folder."""
    from onnxcam.evaluation.readers.listing import is_picture

    try:
        for _, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            if any(is_picture(name) and not name.startswith(".") for name in names):
                return True
    except ValueError:  # a name that no file can have
        pass
    return False


def _outside(images: tuple[Path, ...], out: str | None, root: Path) -> tuple[Path, ...]:
    """The pictures that do not lie in the folder that -o names, unless that is the root."""
    if out is None or not os.path.isdir(out) or os.path.abspath(out) == os.path.abspath(root):
        return images
    inside = os.path.join(os.path.abspath(out), "")
    return tuple(image for image in images if not os.path.abspath(image).startswith(inside)) or images


def _inputs(images: Iterable[Path]) -> tuple[Path, ...]:
    """The pictures without what an earlier call drew, by name or header; all of them if there are no others."""
    from onnxcam.outputs.completeness import is_written_map

    overlays = overlay_endings()
    listed = tuple(images)
    return tuple(image for image in listed if not (image.name.endswith(overlays) or is_written_map(image))) or listed


def overlay_endings() -> tuple[str, ...]:
    """How the names of overlays and figures end, of any method."""
    from onnxcam.methods import method_names
    from onnxcam.outputs.paths import slug

    return tuple(f".{slug(name)}.png" for name in (*method_names(), "compare", "sanity"))


def _keep_folders(listing: Listing, trees: Sequence[Named]) -> None:
    """Sets the folders of the pictures below a root: below what all roots have in common."""
    roots = [os.path.abspath(tree.root) for tree in trees]
    is_one_drive = len({os.path.splitdrive(root)[0] for root in roots}) == 1
    common = os.path.commonpath(roots) if is_one_drive else None
    for root, tree in zip(roots, trees, strict=True):
        for image in tree.images:
            parent = os.path.dirname(os.path.abspath(image))
            listing.folders[image] = PurePath(os.path.relpath(parent, common if common is not None else root))
