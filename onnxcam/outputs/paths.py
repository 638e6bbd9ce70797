"""Names the files that one call writes, before anything is explained.

`plan` gives each picture, target and format its file. No two are the same, none is an input, and each is allowed on
every common file system. `named_file` and `check_inputs` are for a command that writes one file. atomic.py writes them.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from onnxcam.errors import OptionError, OutputError, near
from onnxcam.inputs.images import SUFFIXES as PICTURE_SUFFIXES
from onnxcam.inputs.processor_config import files_beside
from onnxcam.outputs.formats import FORMATS, format_of
from onnxcam.surgeon.weights_files import weights_files

Plan = list[list[dict[str, Path]]]
"""For each picture and each of its targets, the file of each format, by the format's name."""

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
"""Names that Windows keeps for devices."""
LONGEST_STEM, LONGEST_TARGET, LONGEST_LAYER, LONGEST_MODEL = 100, 100, 40, 60
"""Bytes of a picture's name, a target, a layer and a model in a file's name; a layer is cut out of the first."""
MEANINGFUL = {
    *PICTURE_SUFFIXES,
    ".npy",
    ".npz",
    ".json",
    ".txt",
    ".csv",
    ".pdf",
    ".svg",
    ".onnx",
    ".ort",
    ".pt",
    ".pth",
}
"""Endings that promise one content; no file of another content is written under them."""


def plan(
    images: Sequence[Path | str],
    targets: Sequence[Sequence[str]],
    method: str,
    formats: Sequence[str] | None,
    output: str | None,
    *,
    layer: str = "",
    model: str = "",
    preset: str = "",
    protected: Iterable[Path | str] = (),
    folders: Sequence[PurePath] | None = None,
) -> Plan:
    """Names for all files of one call, no two the same, not even where upper and lower case are one.

    targets: for each image the names of its targets, which slug() makes safe; "" leaves a name out. method, layer,
    model, preset: "" leaves it out too. formats: names in FORMATS; None means that of output's suffix, else png.
    output: None for `<stem>.<model>.<preset>.<target>.<method>.<layer>.<suffix>` in the working directory; a folder (it
    exists, or ends in a separator) for the same names in there; else a file, into whose name picture and target are put
    only where there are several targets, and the picture where there are several pictures. protected: files besides the
    images that must not be overwritten. folders: for each image the sub-folder of the output folder where its files go,
    so that pictures of one name stay apart; None for no sub-folders. The time grows in proportion to the number of
    files. Raises OptionError for an unknown format, OutputError for a suffix that names no format, and for a file that
    would overwrite an input.
    """
    place = _destination(formats, output)
    within = [PurePath()] * len(images) if folders is None or place.stem is not None else folders
    groups: dict[str, list[int]] = {}
    for i, folder in enumerate(within):
        groups.setdefault(_key(folder.as_posix()), []).append(i)
    names: dict[int, list[str]] = {}
    for members in groups.values():
        paths = [Path(images[i]) for i in members]
        named = _names(place, paths, [targets[i] for i in members], (model, preset), (method, layer))
        names.update(zip(members, named, strict=True))
    planned = [[place.files(name, within[i]) for name in names[i]] for i in range(len(images))]
    check_distinct(path for sources in planned for files in sources for path in files.values())
    check_inputs((path for sources in planned for files in sources for path in files.values()), [*images, *protected])
    return planned


def _names(
    place: "_Destination",
    images: Sequence[Path],
    targets: Sequence[Sequence[str]],
    opened: tuple[str, str],
    how: tuple[str, str],
) -> list[list[str]]:
    """The names, without suffix, of the files of the pictures of one folder, for each picture and target.

    opened: the model and the preset. how: the method and the layer.
    """
    several = len(images) > 1
    model = ".".join(_cut(slug(part), LONGEST_MODEL) for part in opened if part)
    method = slug(how[0]) if how[0] else ""
    layer = _cut(slug(how[1][-LONGEST_LAYER:]), LONGEST_LAYER) if how[1] else ""  # its end tells it from others
    names = []
    for stem, sources in zip(_distinct(_stems(images)), targets, strict=True):
        slugs = [slug(s) if s else str(i + 1) if len(sources) > 1 else "" for i, s in enumerate(sources)]
        for target in _distinct(slugs):
            if place.stem is None:
                parts = [_cut(stem, _room(model, target, layer)), model, target, method, layer]
            else:
                parts = [place.stem, stem if several else "", target if len(sources) > 1 else ""]
            names.append(".".join(filter(None, parts)))
    unique = iter(_distinct(names))
    return [[next(unique) for _ in sources] for sources in targets]


def _room(model: str, target: str, layer: str) -> int:
    """Bytes that a picture's name may take: the model takes what the target leaves, and a part of it."""
    model_bytes, target_bytes, layer_bytes = (len(os.fsencode(part)) for part in (model, target, layer))
    return LONGEST_STEM - layer_bytes + min(0, LONGEST_TARGET - target_bytes - model_bytes - 1 if model else 0)


def check_distinct(paths: Iterable[Path]) -> None:
    """Raises OutputError where a drawing has the name of another picture's overlay: a.mask.png of a and of a.mask."""
    counts = Counter(_key(str(path)) for path in paths)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise OutputError(f"two files would have the name {twice}; write fewer formats a call, or rename a picture")


def is_folder(output: str) -> bool:
    """Whether an output names a folder: it exists as one, or its name ends in a separator."""
    return output.endswith(("/", os.sep)) or os.path.isdir(output)


def named_file(output: str, what: str, suffixes: Sequence[str]) -> Path:
    """The file that an output names. what: its content, for the message. Raises OutputError for another ending."""
    path = Path(output)
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"output {output!r}: {what} ends in {', '.join(suffixes)}, and a folder's name in /")
    return path


def check_inputs(paths: Iterable[Path], inputs: Iterable[Path | str]) -> None:
    """Raises OutputError for a file that would be written over one of the inputs.

    So are the weights of a model, and the configurations beside it, which are read without being named.
    Files are compared by inode, so that links and the letters' case do not matter.
    """
    existing = [path for path in paths if _inode(path) is not None]
    if not existing:
        return
    read = list(inputs)
    weights = [file for path in read if not _is_picture(path) for file in weights_files(path)]
    beside = [file for path in read if _may_be_model(path) for file in files_beside(Path(path))]
    protected = {_inode(path) for path in (*read, *weights, *beside)}
    for path in existing:
        if _inode(path) in protected:
            raise OutputError(f"{path} is an input of this very call and would be overwritten; choose another output")


def slug(text: str, longest: int = 60) -> str:
    """The text as part of a file name on any system: letters and digits of any script, - _ and +; never empty."""
    kept = "".join(
        c if unicodedata.category(c)[0] in "LMN" or c in "-_+" else " " for c in unicodedata.normalize("NFC", text)
    )
    short = _cut("-".join(kept.split())[:longest]).strip("-_")
    if not short:
        return "unnamed"
    return f"{short}-" if short.casefold() in RESERVED else short


@dataclass(frozen=True)
class _Destination:
    """Where the files go. stem: of the file that output names, None for a folder. suffix: its suffix, if one format."""

    folder: Path
    formats: tuple[str, ...]
    stem: str | None = None
    suffix: str | None = None

    def files(self, name: str, within: PurePath) -> dict[str, Path]:
        suffixes = {f: FORMATS[f].suffix if self.suffix is None else self.suffix for f in self.formats}
        return {f: self.folder / within / (name + suffix) for f, suffix in suffixes.items()}


def _destination(formats: Sequence[str] | None, output: str | None) -> _Destination:
    chosen = tuple(dict.fromkeys(formats or ()))
    for name in chosen:
        if name not in FORMATS:
            raise OptionError(f"unknown format {name!r}; {near(name, FORMATS)}")
    if output is None:
        return _Destination(Path(), chosen or tuple(FORMATS)[:1])
    if is_folder(output):
        return _Destination(Path(output), chosen or tuple(FORMATS)[:1])
    path = Path(output)
    named = format_of(path.name)
    if not chosen and named is None:
        known = ", ".join(writer.suffix for writer in FORMATS.values())
        reason = f"the suffix {path.suffix!r} names no format" if path.suffix else "it has no suffix"
        raise OutputError(f"output {output!r}: {reason}; use {known}, name the format, or end a folder's name in /")
    if len(chosen) == 1 and not _may_hold(path, chosen[0]):
        raise OutputError(
            f"output {output!r} does not end as the format {chosen[0]} does, in {FORMATS[chosen[0]].ending}; "
            f"name it so, or leave the format out"
        )
    chosen = chosen or (str(named),)
    suffix = next((s for s in _suffixes(chosen[0]) if path.name.lower().endswith(s)), path.suffix)
    stem = path.name[: len(path.name) - len(suffix)] if len(chosen) == 1 else path.stem
    return _Destination(path.parent, chosen, stem, path.name[len(stem) :] if len(chosen) == 1 else None)


def _may_hold(path: Path, name: str) -> bool:
    """Whether a file may hold a format: it ends as such files do, or promises no content by its ending."""
    endings = {PurePath(f"file{suffix}").suffix for suffix in _suffixes(name)}
    return path.suffix.lower() in endings or path.suffix.lower() not in MEANINGFUL


def _suffixes(name: str) -> tuple[str, ...]:
    return (FORMATS[name].suffix, *FORMATS[name].others)


def _stems(images: Sequence[Path]) -> list[str]:
    """The pictures' names without suffix; where these agree, with it, or else with their folder before it."""
    stems = [_cut(image.stem) or "image" for image in images]
    groups: dict[str, list[int]] = {}
    for i, stem in enumerate(stems):
        groups.setdefault(_key(stem), []).append(i)
    for members in groups.values():
        ways = (
            {i: "-".join(filter(None, [stems[i], images[i].suffix[1:]])) for i in members},
            {i: "-".join(filter(None, [images[i].parent.name, stems[i]])) for i in members},
        )
        for names in ways if len(members) > 1 else ():
            if len({_key(name) for name in names.values()}) == len(members):
                for i, name in names.items():
                    stems[i] = _cut(name)
                break
    return stems


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with -2, -3 and so on appended where one came before; empty ones stay."""
    counts = Counter(_key(name) for name in names)
    taken = {key for key, count in counts.items() if count == 1}
    last: Counter[str] = Counter()
    distinct = []
    for name in names:
        new, key = name, _key(name)
        while name and counts[key] > 1 and _key(new) in taken:
            last[key] = max(2, last[key] + 1)
            new = f"{name}-{last[key]}"
        taken.add(_key(new))
        distinct.append(new)
    return distinct


def _key(name: str) -> str:
    """The same for names that are one file on macOS or Windows."""
    return unicodedata.normalize("NFC", name).casefold()


def _cut(name: str, longest: int = LONGEST_STEM) -> str:
    """The name cut to so many bytes, so that stem, target, method and layer stay below a file system's 255."""
    while len(os.fsencode(name)) > longest:
        name = name[:-1]
    return name


def _may_be_model(path: Path | str) -> bool:
    suffix = Path(path).suffix.lower()
    return suffix in (".onnx", ".ort") or suffix not in MEANINGFUL


def _is_picture(path: Path | str) -> bool:
    return Path(path).suffix.lower() in (*PICTURE_SUFFIXES, ".npy")


def _inode(path: Path | str) -> tuple[int, int] | None:
    """(device, inode), None for a file that is not there or whose name no file can have.

    The name is resolved as atomic.py resolves it: `x/../file` is the file also where there is no folder x.
    """
    try:
        status = os.stat(os.path.realpath(path))
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
