"""Files that appear all together or not at all.

`Staging` writes each file beside its place under a temporary name and moves it there on commit, so that nobody ever
reads half a file, and a failure, an interrupt or a full disk leaves what was there before. `write_together` does that
for the files of one picture. `check_writable` looks for obstacles before long work begins. paths.py names the files,
temporary.py the temporary ones.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from onnxcam.errors import OutputError
from onnxcam.logs import module_logger
from onnxcam.temporary import sweep, sweep_once, temporary

log = module_logger(__name__)

LONGEST_NAME = 255
"""Bytes of a file's name that the common file systems take."""


def write_together(files: Mapping[Path | str, bytes]) -> None:
    """Writes every file with its content, or none of them; makes missing folders. Raises OutputError."""
    with Staging() as staging:
        for path, data in files.items():
            staging.stage(path, data)
        staging.commit()


def check_writable(paths: Iterable[Path | str]) -> None:
    """Raises OutputError for the first path that cannot be written, before long work; leaves nothing behind.

    Each folder, or the nearest one above it that exists, is tried once with an empty file, and loses the temporary
    files that killed processes left there. A full disk shows only later.
    """
    folders: dict[str, Path] = {}
    for path in paths:
        parent, name = os.path.split(path)
        try:
            if parent not in folders:
                folders[parent] = Path(os.path.realpath(parent or os.curdir))
                nearest = _nearest_folder(path, folders[parent])
                sweep(nearest)
                _try_folder(path, nearest)
            _check_place(path, folders[parent] / name)
        except OSError as error:
            raise _refused(path, error) from error


def _try_folder(path: Path | str, folder: Path) -> None:
    probe = temporary(folder)
    try:
        probe.touch(exist_ok=False)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        _remove(probe)


def _check_place(path: Path | str, target: Path) -> None:
    """Raises OutputError for what cannot be replaced at target, whose folder is resolved; follows a link there."""
    if target.name in ("", os.curdir, os.pardir) or os.path.islink(target):
        place = _Place.of(path)
        _try_folder(path, place.folder)
    else:
        _check_name(path, target)
        _check_file(path, target)


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
            exists = _check_file(path, target)
            folder = _nearest_folder(path, target.parent)
            _check_name(path, target)
        except OSError as error:
            raise _refused(path, error) from error
        return _Place(target, folder, exists)


def _nearest_folder(path: Path | str, folder: Path) -> Path:
    """The folder, or the nearest above it that exists; raises OutputError where a file is in the way."""
    while not _exists(folder) and folder != folder.parent:
        folder = folder.parent
    if not stat.S_ISDIR(os.stat(folder).st_mode):
        raise OutputError(f"cannot write {path}: {folder} is a file, not a folder; choose another place")
    return folder


def _exists(path: Path) -> bool:
    """Whether there is such a file, folder or link. Unlike os.path.lexists, raises OSError where that cannot be known.

    A file that is overwritten because it was taken for absent could not be put back.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _check_name(path: Path | str, target: Path) -> None:
    if len(os.fsencode(target.name)) > LONGEST_NAME:
        raise OutputError(f"cannot write {path}: the name is too long; choose a shorter one")


def _check_file(path: Path | str, target: Path) -> bool:
    """Whether target exists; raises OutputError where it cannot be replaced."""
    if not _exists(target):
        return False
    mode = os.stat(target).st_mode
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {path}: a folder of this name is in the way; choose another name")
    if not stat.S_ISREG(mode):
        raise OutputError(f"cannot write {path}: it is not a regular file; choose another name")
    if not os.access(target, os.W_OK):
        raise OutputError(f"cannot write {path}: it exists and is read-only; choose another name")
    return True


@dataclass
class _Move:
    """One file on its way. backup: its name, set before it is written; begun: the backup, if any, is complete."""

    path: Path
    place: _Place
    temporary: Path
    backup: Path | None = None
    begun: bool = False


class Staging:
    """A set of files that is written completely or not at all.

    `with Staging() as staging: staging.stage(path, data); ...; staging.commit()`. Leaving the block without a finished
    commit, for whatever reason, removes every temporary file and new folder and puts back what a broken commit had
    replaced. Use one Staging for the files of each picture: what was committed before stays.
    """

    def __init__(self) -> None:
        self._moves: dict[Path, _Move] = {}
        self._folders: list[Path] = []
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def stage(self, path: Path | str, data: bytes | Callable[[BinaryIO], object]) -> None:
        """Writes data beside path; a function writes a large file itself, piece by piece.

        Raises OutputError if that fails, or if path was staged before.
        """
        place = _Place.of(path)
        if place.target in self._moves:
            raise OutputError(f"cannot write {path} twice in one call; give each output its own name")
        sweep_once(place.folder)
        move = _Move(Path(path), place, temporary(place.folder))
        self._moves[place.target] = move
        try:
            with open(move.temporary, "xb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    data(file)
                file.flush()
                os.fsync(file.fileno())  # some file systems report a full disk or quota only here
            if place.exists:
                shutil.copymode(place.target, move.temporary)
        except OSError as error:
            raise _refused(path, error) from error

    def commit(self) -> None:
        """Moves every staged file into its place and makes missing folders.

        Raises OutputError if a move fails; leaving the block then undoes those before it.
        """
        for target, move in self._moves.items():
            try:
                self._make(target.parent)
                if _check_file(move.path, target):
                    move.backup = temporary(target.parent)
                    _keep(target, move.backup)
                move.begun = True
                os.replace(move.temporary, target)
            except OSError as error:
                raise _refused(move.path, error) from error
        self._committed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _Completed() as completed:
            lost = [] if self._committed else self._undo(completed)
            for move in self._moves.values():
                completed.run(_remove, move.temporary)
                if move.backup is not None and move.backup not in lost:
                    completed.run(_remove, move.backup)
            if not self._committed:
                for folder in reversed(self._folders):
                    completed.run(_remove_folder, folder)
        if lost:
            kept = ", ".join(map(str, lost))
            raise OutputError(f"files that were replaced could not be put back; their content is kept in {kept}")

    def _make(self, folder: Path) -> None:
        missing = []
        while not _exists(folder):
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            self._folders.append(new)
            new.mkdir(exist_ok=True)

    def _undo(self, completed: "_Completed") -> list[Path]:
        """Puts back what was replaced; returns the backups for which that failed."""
        lost: list[Path] = []
        for move in reversed([m for m in self._moves.values() if m.begun]):
            completed.run(_put_back, move, lost)
        return lost


class _Completed:
    """Steps that are all run, whatever interrupts one of them: that step is run again, and the interrupt raised last.

    A second Ctrl-C, or memory that runs out, must not end the putting back of files half-way.
    """

    def __init__(self) -> None:
        self._interrupt: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def run(self, step: Callable[..., None], *arguments: object) -> None:
        for _ in range(2):
            try:
                step(*arguments)
            except (KeyboardInterrupt, SystemExit, MemoryError) as interrupt:
                self._interrupt = interrupt
            else:
                return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._interrupt is not None and error is None:
            raise self._interrupt


def _put_back(move: _Move, lost: list[Path]) -> None:
    """Undoes a move; adds to `lost` the backup of a file that cannot be put back. May be run again."""
    if move.backup is None:
        if not os.path.lexists(move.temporary):  # it was moved
            _remove(move.place.target)
        return
    try:
        os.replace(move.backup, move.place.target)
    except FileNotFoundError:  # it is back
        return
    except OSError:
        lost.append(_kept(move.backup, move.place.target))


def _keep(target: Path, backup: Path) -> None:
    """Gives a file a second name, so that it is never absent; copies it where the file system has no links."""
    try:
        os.link(target, backup)
    except OSError:
        shutil.copy2(target, backup)


def _kept(backup: Path, target: Path) -> Path:
    """The backup under a name that is never swept; as it is where that fails."""
    place = backup.with_name(f"{target.name[:200]}.kept-{secrets.token_hex(4)}")
    try:
        os.rename(backup, place)
    except OSError:
        return backup
    return place


def _remove(path: Path) -> None:
    """Removes a file; what is not there is no error, and what cannot be removed is logged and stays."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("could not remove %s: %s", path, error.strerror or error)


def _remove_folder(path: Path) -> None:
    """Removes an empty folder, as _remove() a file."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("could not remove %s: %s", path, error.strerror or error)


def _refused(path: Path | str, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another place or make room")
