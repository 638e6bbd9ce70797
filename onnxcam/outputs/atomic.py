"""Files that appear all together or not at all.

A file is written beside its place under a temporary name and moved there on commit, so that nobody ever reads
half a file, and a failure, an interrupt or a full disk leaves what was there before.
"""

import logging
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from onnxcam.errors import OutputError

log = logging.getLogger(__name__)

LONGEST_NAME = 255
"""Bytes of a file's name that the common file systems take."""


def check_writable(paths: Iterable[Path | str]) -> None:
    """Raises OutputError for the first path that cannot be written, before long work; leaves nothing behind.

    Every folder, or the nearest one that exists, is tried with an empty file. A full disk shows only later.
    """
    tried: set[Path] = set()
    for path in paths:
        place = _Place.of(path)
        if place.folder not in tried:
            tried.add(place.folder)
            probe = _temporary(place.folder)
            try:
                probe.touch(exist_ok=False)
            except OSError as error:
                raise _refused(path, error) from error
            finally:
                _remove(probe)


@dataclass(frozen=True)
class _Place:
    """Where a file goes: target with links followed, folder the nearest above it that exists."""

    target: Path
    folder: Path
    exists: bool

    @staticmethod
    def of(path: Path | str) -> "_Place":
        """Raises OutputError for a folder, a device or pipe, a read-only file, and a file as its folder."""
        try:
            target = Path(os.path.realpath(path))
            exists = os.path.lexists(target)
            if exists:
                _check_file(path, target)
            folder = target.parent
            while not os.path.lexists(folder) and folder != folder.parent:
                folder = folder.parent
            if not stat.S_ISDIR(os.stat(folder).st_mode):
                raise OutputError(f"cannot write {path}: {folder} is a file, not a folder; choose another place")
            if len(os.fsencode(target.name)) > LONGEST_NAME:
                raise OutputError(f"cannot write {path}: the name is too long; choose a shorter one")
        except OSError as error:
            raise _refused(path, error) from error
        return _Place(target, folder, exists)


def _check_file(path: Path | str, target: Path) -> None:
    mode = os.stat(target).st_mode
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {path}: a folder of this name is in the way; choose another name")
    if not stat.S_ISREG(mode):
        raise OutputError(f"cannot write {path}: it is not a regular file; choose another name")
    if not os.access(target, os.W_OK):
        raise OutputError(f"cannot write {path}: it exists and is read-only; choose another name")


@dataclass
class _Move:
    """One file on its way. backup: its name, set before it is made; begun: the backup, if any, is whole."""

    path: Path
    place: _Place
    temporary: Path
    backup: Path | None = None
    begun: bool = False


class Staging:
    """`with Staging() as staging: staging.stage(path, data); ...; staging.commit()`.

    Leaving the block without a finished commit, for whatever reason, removes every temporary file and new
    folder and puts back what a broken commit had replaced.
    """

    def __init__(self) -> None:
        self._moves: list[_Move] = []
        self._folders: list[Path] = []
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def stage(self, path: Path | str, data: bytes) -> None:
        """Write data beside path. Raises OutputError if it cannot be, or if path was staged before."""
        place = _Place.of(path)
        if any(m.place.target == place.target for m in self._moves):
            raise OutputError(f"cannot write {path} twice in one call; give each output its own name")
        move = _Move(Path(path), place, _temporary(place.folder))
        self._moves.append(move)
        try:
            with open(move.temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # some file systems report a full disk or quota only here
            if place.exists:
                shutil.copymode(place.target, move.temporary)
        except OSError as error:
            raise _refused(path, error) from error

    def commit(self) -> None:
        """Move every staged file into its place, making folders. After an OutputError, leaving undoes it."""
        for move in self._moves:
            target = move.place.target
            try:
                self._make(target.parent)
                if os.path.lexists(target):
                    _check_file(move.path, target)
                    move.backup = _temporary(target.parent)
                    _keep(target, move.backup)
                move.begun = True
                os.replace(move.temporary, target)
            except OSError as error:
                raise _refused(move.path, error) from error
        self._committed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = [] if self._committed else self._undo()
        for move in self._moves:
            _remove(move.temporary)
            if move.backup is not None and move.backup not in lost:
                _remove(move.backup)
        if not self._committed:
            for folder in reversed(self._folders):
                _remove(folder, os.rmdir)
        if lost:
            kept = ", ".join(map(str, lost))
            raise OutputError(f"files that were replaced could not be put back; their content is kept in {kept}")

    def _make(self, folder: Path) -> None:
        missing = [folder, *folder.parents]
        for new in reversed([f for f in missing if not f.exists()]):
            self._folders.append(new)
            new.mkdir(exist_ok=True)

    def _undo(self) -> list[Path]:
        """Put back what was replaced; the backups that could not be."""
        lost = []
        for move in reversed([m for m in self._moves if m.begun]):
            if move.backup is None:
                if not move.temporary.exists():  # it was moved
                    _remove(move.place.target)
                continue
            try:
                os.replace(move.backup, move.place.target)
            except OSError:
                lost.append(move.backup)
        return lost


def _keep(target: Path, backup: Path) -> None:
    """A second name for a file, so that it is never absent; a copy where the file system has no links."""
    try:
        os.link(target, backup)
    except OSError:
        shutil.copy2(target, backup)


def _temporary(folder: Path) -> Path:
    return folder / f".onnxcam-{secrets.token_hex(8)}.tmp"


def _remove(path: Path, how: Callable[[Path], None] = os.unlink) -> None:
    """What is not there is no error; what cannot be removed is logged and left."""
    try:
        how(path)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("could not remove %s: %s", path, error.strerror or error)


def _refused(path: Path | str, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another place or make room")
