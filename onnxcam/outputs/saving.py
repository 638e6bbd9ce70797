"""Writes a result to a file by its ending: Saliency.save(), and all of several: Explanations.save_all()."""

import os
from collections.abc import Sequence
from pathlib import Path

from onnxcam.errors import OutputError
from onnxcam.limits import brief
from onnxcam.outputs.atomic import check_writable, write_together
from onnxcam.outputs.formats import FORMATS, format_of
from onnxcam.outputs.original import original_of
from onnxcam.outputs.paths import check_inputs, plan
from onnxcam.outputs.saliency import Saliency
from onnxcam.outputs.style import Style


def save(saliency: Saliency, path: str | os.PathLike[str], picture: object | None, style: Style) -> Path:
    """Writes one file, whole or not at all. Raises OutputError for an ending that names no format."""
    target = Path(checked_path(path))
    name = format_of(target.name)
    if name is None:
        raise OutputError(f"{target}: its ending names no format; use {', '.join(w.suffix for w in FORMATS.values())}")
    check_inputs([target], files_of([saliency]))
    write_together({target: content(saliency, name, picture, style)})
    return target


def save_all(
    saliencies: Sequence[Saliency], folder: str | os.PathLike[str], formats: Sequence[str], style: Style
) -> list[Path]:
    """Writes every map to the folder, in each format, under names of which no two are the same.

    Raises OptionError for an unknown format, OutputError for a folder that is a file or cannot be written.
    """
    folder = checked_path(folder)
    if not saliencies:
        return []
    methods = {saliency.provenance.method for saliency in saliencies}
    numbers: dict[str, list[int]] = {}
    for number, saliency in enumerate(saliencies):
        numbers.setdefault(saliency.provenance.image, []).append(number)
    differing = _differing(saliencies)
    planned = plan(
        [*numbers], [[differing[number] for number in members] for members in numbers.values()],
        methods.pop() if len(methods) == 1 else "", formats, os.path.join(folder, ""), protected=files_of(saliencies),
    )  # fmt: skip
    files = dict(
        zip((n for members in numbers.values() for n in members), (f for p in planned for f in p), strict=True)
    )
    check_writable(path for paths in files.values() for path in paths.values())
    for number, saliency in enumerate(saliencies):
        is_drawn = any(FORMATS[name].is_drawn for name in formats)
        picture = original_of(saliency) if is_drawn else None
        write_together({path: FORMATS[name].write(saliency, picture, style) for name, path in files[number].items()})
    return [path for number in range(len(saliencies)) for path in files[number].values()]


def checked_path(path: object) -> str:
    """A path as text. Raises OutputError for what is none: another type, nothing, a NUL."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise OutputError(f"a path of a file or folder is needed, not {brief(path)}")
    return text


def _differing(saliencies: Sequence[Saliency]) -> list[str]:
    """What tells each map from the others of its picture: its target, method, layer and model, where they differ."""
    rows = [
        (one.target.name, one.provenance.method, " ".join(one.provenance.tensors), Path(one.provenance.model).stem)
        for one in saliencies
    ]
    of_picture: dict[str, list[tuple[str, ...]]] = {}
    for one, row in zip(saliencies, rows, strict=True):
        of_picture.setdefault(one.provenance.image, []).append(row)
    columns = [any(len({row[column] for row in members}) > 1 for members in of_picture.values()) for column in range(4)]
    columns[1] |= len({row[1] for row in rows}) > 1
    return [" ".join(part for part, differs in zip(row, columns, strict=True) if differs) for row in rows]


def content(saliency: Saliency, name: str, picture: object | None, style: Style) -> bytes:
    """The content of a file of a format."""
    writer = FORMATS[name]
    return writer.write(saliency, original_of(saliency, picture) if writer.is_drawn else None, style)


def files_of(saliencies: Sequence[Saliency]) -> list[Path]:
    """The pictures' files, which are never written over."""
    return [saliency.picture for saliency in saliencies if isinstance(saliency.picture, Path)]
