"""Pascal VOC: a folder with Annotations/ and JPEGImages/, or with an XML beside each picture.

VOC counts pixels from 1, and xmax is the last one inside: the box is xmin - 1, ymin - 1, xmax, ymax from the outer edge
of the first pixel, as Detectron2 and supervision have it. `difficult` objects count as all others.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from onnxcam.errors import DataError
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.readers.annotation_xml import XmlAnnotation, is_annotation, read_annotation
from onnxcam.evaluation.readers.folder import split_of
from onnxcam.evaluation.readers.imagenet import recognises as is_imagenet
from onnxcam.evaluation.readers.listing import Listing
from onnxcam.evaluation.readers.reader import Annotated, Draft, Reader, Source, add_annotated, one_picture, portable
from onnxcam.files import ANNOTATION, read_text, shown

_SET_LINE = re.compile(r"\s*(\S+)(?:\s+(-1|0|1))?\s*")


def read(source: Source) -> DataSet:
    """Pictures without an annotation have no boxes. split: a list in ImageSets/, or a sub-folder; without, all."""
    listing = source.listing
    members = None
    if source.split is not None:
        members = _members(listing, source.split)
        listing = listing if members is not None else split_of(listing, source.split)
    folder = _folder(listing, listing.pictures, "jpegimages")
    pictures = source.pictures if source.images is not None else listing if folder is None else listing.below(folder)
    inner = _folder(listing, listing.with_suffix(".xml"), "annotations")
    files = (listing if inner is None else listing.below(inner)).with_suffix(".xml")
    draft = Draft(source, VOC.name)
    annotated = _annotated(files, pictures, draft, members)
    for key, path in pictures.pictures.items():
        if members is None or os.path.splitext(key)[0] in members:
            _add(draft, DataItem(path, key, group=source.split or key.rpartition("/")[0]), annotated.get(key))
    for name in members or ():
        if name not in pictures.by_stem:
            draft.skip(name, f"{shown(pictures.root)}: no picture of this name, which the split {source.split} lists")
    return draft.finished()


def _annotated(
    files: Mapping[str, Path], pictures: Listing, draft: Draft, members: frozenset[str] | None
) -> Mapping[str, tuple[Path, XmlAnnotation]]:
    """Key of a picture -> its annotation: the one of the same name, as in VOC; else the one that names it."""
    annotated: dict[str, tuple[Path, XmlAnnotation]] = {}
    for name, path in files.items():
        stem = os.path.splitext(name)[0]
        if members is not None and stem not in members:
            continue
        annotation = read_annotation(path)
        keys = pictures.by_stem.get(stem) or pictures.by_last_stem.get(stem.rpartition("/")[2], ())
        if not keys and annotation.filename:
            keys = pictures.by_name.get(portable(annotation.filename).rpartition("/")[2], ())
        key = one_picture(keys, stem, shown(path))
        if key is None:
            draft.skip(name, f"{shown(path)}: no picture of this name in {shown(pictures.root)}")
        elif key in annotated:
            raise DataError(f"{shown(path)}: {key} has another annotation, {shown(annotated[key][0])}; remove one")
        else:
            annotated[key] = path, annotation
    return annotated


def _add(draft: Draft, item: DataItem, annotated: tuple[Path, XmlAnnotation] | None) -> None:
    if annotated is None:
        draft.add(item)
        return
    path, annotation = annotated
    objects = []
    for one in annotation.objects:
        left, top, right, bottom = one.corners
        objects.append(Annotated(f"line {one.line} of {path.name}", one.name, (left - 1, top - 1, right, bottom)))
    add_annotated(draft, item, objects, annotation.size, shown(path))


def _folder(listing: Listing, keys: Iterable[str], name: str) -> str | None:
    """The folder of this name, in small letters, that these files lie in. Raises DataError for several of the name."""
    folders = set()
    for key in keys:
        parts = key.split("/")[:-1]
        place = next((i for i, part in enumerate(parts) if part.lower() == name), None)
        if place is not None:
            folders.add("/".join(parts[: place + 1]))
    if len(folders) > 1:
        shown_folders = ", ".join(sorted(folders)[:4])
        raise DataError(f"{shown(listing.root)}: holds {shown_folders}; name the folder above one, such as VOC2012")
    return folders.pop() if folders else None


def _members(listing: Listing, split: str) -> frozenset[str] | None:
    """Names of the pictures of a split: of ImageSets/Main, or of the only other folder there that lists it.

    A line may end in 1, 0 or -1, which says whether the split's class is in the picture; those of -1 are left out. None
    if there is no folder ImageSets. Raises DataError, with the line.
    """
    folder = _folder(listing, listing.with_suffix(".txt"), "imagesets")
    if folder is None:
        return None
    inner = listing.below(folder)
    names = [key for key in inner.files if key.endswith(f"/{split}.txt") or key == f"{split}.txt"]
    names = [name for name in names if name.startswith("Main/")] or names
    if len(names) != 1:
        known = ", ".join(key.removesuffix(".txt") for key in list(inner.files)[:8])
        raise DataError(f"{shown(inner.root)}: {len(names)} lists are called {split!r}; it holds {known}")
    path, members = inner.files[names[0]], set()
    for number, line in enumerate(read_text(path, ANNOTATION).splitlines(), start=1):
        match = _SET_LINE.fullmatch(line)
        if match is None and line.strip():
            raise DataError(
                f"{shown(path)}, line {number}: {line[:60]!r} is no name of a picture with 1, 0 or -1 behind it"
            )
        if match is not None and match[2] != "-1":
            members.add(portable(match[1]))
    return frozenset(members)


def recognises(source: Source) -> bool:
    """A folder with annotations in VOC's XML that are not ImageNet's."""
    files = source.listing.with_suffix(".xml") if source.is_folder else {}
    return any(is_annotation(path) for path in list(files.values())[:3]) and not is_imagenet(source)


VOC = Reader(
    "voc",
    "a folder with Annotations/*.xml and JPEGImages/, or with an XML beside each picture",
    recognises,
    read,
    frozenset({"images", "split"}),
    files=False,
)
