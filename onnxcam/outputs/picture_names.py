"""Which results are of one picture, and what a picture is called where results go into another tool's file."""

import hashlib
from collections.abc import Sequence
from itertools import count
from pathlib import Path, PurePath

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.inputs.sources import is_stand_in
from onnxcam.limits import brief
from onnxcam.outputs.saliency import Saliency


def picture_names(results: Sequence[Saliency], names: Sequence[str] | None = None) -> list[str]:
    """The name of each result's picture. Results of one name are of one picture.

    names: as the caller gives them, one for each result. By default the picture's path or name; pictures without one,
    such as bytes and arrays, are told apart by their pixels and called picture-1, picture-2, ..., by names that no
    other picture has. Raises OptionError where two pictures would have one name, or cannot be told apart.
    """
    if names is not None:
        return _given(results, names)
    taken = {saliency.provenance.image for saliency in results if not _is_nameless(saliency)}
    free = (name for number in count(1) if (name := f"picture-{number}") not in taken)
    numbers: dict[str, str] = {}
    contents: dict[str, str] = {}
    named = []
    for i, saliency in enumerate(results):
        name, content = saliency.provenance.image, _content(saliency)
        if _is_nameless(saliency):
            if content is None and len(results) > 1:
                raise OptionError(
                    f"which picture {name} is, result {i} of {len(results)} does not say, as it keeps no pixels; give "
                    f"names=[...], a name for the picture of each result"
                )
            key = content or ""
            if key not in numbers:
                numbers[key] = next(free)
            name = numbers[key]
        elif content is not None and contents.setdefault(name, content) != content:
            raise OptionError(f"two different pictures are called {name!r}; give names=[...], a name for each result")
        named.append(name)
    return named


def below_their_folder(paths: Sequence[str]) -> list[str]:
    """Paths with / below the deepest folder that holds all of them; the file's name where there is one file.

    Raises OptionError where two paths become one, as of /photos/a.png and photos/a.png.
    """
    parts = [PurePath(path).parts for path in paths]
    shared = 0
    for level in zip(*(each[:-1] for each in parts), strict=False):
        if len(set(level)) > 1:
            break
        shared += 1
    # Of a mixture of relative and absolute paths, the root is no part of a name.
    places = ["/".join(part for part in each[shared:] if part != PurePath(part).anchor) for each in parts]
    pictures: dict[str, tuple[str, ...]] = {}
    for place, each in zip(places, parts, strict=True):
        if pictures.setdefault(place, each) != each:
            raise OptionError(
                f"{PurePath(*pictures[place])} and {PurePath(*each)} would both be {place!r} behind the prefix; give "
                f"names=[...], a name for the picture of each result"
            )
    return places


def _is_nameless(saliency: Saliency) -> bool:
    return is_stand_in(saliency.provenance.image) and not isinstance(saliency.picture, Path)


def _given(results: Sequence[Saliency], names: Sequence[str]) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise OptionError(f"names is a list of texts, one for the picture of each result, not {brief(names)}")
    if len(names) != len(results):
        raise OptionError(f"{len(names)} names for {len(results)} results; give one for the picture of each result")
    contents: dict[tuple[str, bool], object] = {}
    for name, saliency in zip(names, results, strict=True):
        is_file = isinstance(saliency.picture, Path)
        content = saliency.picture.resolve() if isinstance(saliency.picture, Path) else _content(saliency)
        if content is not None and contents.setdefault((name, is_file), content) != content:
            raise OptionError(f"names calls two different pictures {name!r}; give each a name of its own")
    return [*names]


def _content(saliency: Saliency) -> str | None:
    """The hash of the pixels; None of a picture that is a file, or is not kept."""
    picture = saliency.picture
    if not isinstance(picture, np.ndarray):
        return None
    head = f"{picture.dtype.str} {picture.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(picture).tobytes()).hexdigest()
