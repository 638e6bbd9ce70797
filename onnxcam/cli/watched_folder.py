"""A folder whose pictures come and go: which of them are to be explained, and when they are written to their end.

No system says when a writer is done. A picture counts as written when its size, times and inode stay the same for QUIET
seconds. What cannot be read then may be a slow writer's: it is tried again after PATIENCE seconds.
"""

import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from onnxcam.errors import OptionError, PictureError

QUIET, PATIENCE = 0.5, 5.0
"""Seconds without a change before a picture is read, and before it is called broken."""
POLL, GATHER = 200, 400
"""Milliseconds between two looks at the folder, and in which changes are taken together."""
MOST_FAILURES = 10
"""In a row, after which a folder cannot be watched."""
MOST_OWN = 2**16
"""Pictures whose files a run knows as its own."""
MISSING = '--watch needs watchfiles, which is not installed: pip install "onnxcam[watch]"'

Batches = Generator[set[tuple[Any, str]], None, None]
"""Of changes and the paths where they were, as watchfiles gives them."""
Stamp = tuple[int, int, int]
"""Size, time of the last change in nanoseconds, inode."""
State = tuple[int, int, int, int]
"""The same, and the time of the last change of owner, permissions or name (on Windows when the file was made)."""


def stamp_of(path: Path) -> Stamp | None:
    """Of a file; None where it is gone."""
    state = state_of(path)
    return state[:3] if state is not None else None


def state_of(path: Path) -> State | None:
    """Of a file; None where it is gone."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


@dataclass
class OwnFiles:
    """The files that a run wrote of its last MOST_OWN pictures, and how it left them."""

    _left: dict[Path, dict[Path, Stamp | None]] = field(default_factory=dict)

    def wrote(self, image: Path, paths: Iterable[Path]) -> None:
        """The run wrote these files of a picture, and no others."""
        self._left.pop(image, None)
        self._left[image] = {path: stamp_of(path) for path in paths}
        if len(self._left) > MOST_OWN:
            del self._left[next(iter(self._left))]

    def paths(self, image: Path) -> set[Path]:
        """The files that the run wrote of this picture; none where it wrote none."""
        return {*self._left.get(image, {})}

    def are_all(self, image: Path, paths: Iterable[Path]) -> bool:
        """Whether those of the paths that are there are files that the run wrote of this picture, as it left them."""
        left = self._left.get(image, {})
        return all(left.get(path) == stamp_of(path) is not None for path in paths if os.path.lexists(path))


@dataclass
class _Waiting:
    state: State
    since: float
    quiet: float


@dataclass
class Arrivals:
    """Pictures that came or changed, in the order in which they came, until they are handed out.

    Times are of time.monotonic(). Of pictures that were handed out, only those that could not be read are kept.
    """

    _waiting: dict[Path, _Waiting] = field(default_factory=dict)
    _doubtful: dict[Path, State] = field(default_factory=dict)
    _refused: dict[Path, State] = field(default_factory=dict)
    _handed: dict[Path, State] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        """Pictures that are there and cannot be explained as they are."""
        return len(self._refused)

    def changed(self, image: Path, now: float) -> None:
        """The picture may have come or changed."""
        state = state_of(image)
        if state is None:
            self.gone({image})
        elif self._refused.get(image) != state and (image not in self._waiting or self._waiting[image].state != state):
            self._refused.pop(image, None)
            self._doubtful.pop(image, None)
            self._waiting[image] = _Waiting(state, now, QUIET)

    def gone(self, paths: Set[Path]) -> None:
        """Pictures that are not there any more, or folders with all that was in them."""
        for kept in (self._waiting, self._doubtful, self._refused) if paths else ():
            for image in [one for one in kept if one in paths or not paths.isdisjoint(one.parents)]:
                del kept[image]

    def ready(self, now: float, most: int) -> list[Path]:
        """At most so many pictures that are written to their end. They wait no longer, nor do those that are gone."""
        self._handed.clear()
        for image, one in list(self._waiting.items()):
            if len(self._handed) == most:
                break
            if now - one.since < one.quiet:
                continue
            state = state_of(image)
            if state is None:
                self.gone({image})
            elif state != one.state:
                self._doubtful.pop(image, None)
                self._waiting[image] = _Waiting(state, now, QUIET)
            else:
                del self._waiting[image]
                self._handed[image] = state
        return [*self._handed]

    def unreadable(self, image: Path, now: float) -> bool:
        """The picture could not be read. Returns whether that is final until it changes: it was tried again before."""
        state = self._tried(image)
        if state is None:
            self.gone({image})
            return False
        if self._doubtful.get(image) == state:
            self.refused(image)
            return True
        self._doubtful[image] = state
        self._waiting.setdefault(image, _Waiting(state, now, PATIENCE))
        return False

    def refused(self, image: Path) -> None:
        """The picture cannot be explained until it changes."""
        state = self._tried(image)
        self._doubtful.pop(image, None)
        if state is not None:
            self._refused[image] = state

    def _tried(self, image: Path) -> State | None:
        """As the picture was when it was handed out: what came since is to be tried. None where it is gone."""
        there = state_of(image)
        return self._handed.get(image, there) if there is not None else None


@dataclass(frozen=True)
class WatchedFolder:
    """root: the folder; recursive: its sub-folders too; out: a folder within, which is not looked at.

    overlays: how the names of files end that are no pictures.
    """

    root: Path
    recursive: bool
    out: Path | None
    overlays: tuple[str, ...]

    @staticmethod
    def of(root: Path, *, recursive: bool, out: str | None) -> "WatchedFolder":
        """Raises OptionError for what is no folder."""
        from onnxcam.cli.pictures import overlay_endings

        if not root.is_dir():
            raise OptionError(f"{root}: no such folder; --watch takes one folder, into which pictures come")
        inner = Path(os.path.abspath(out)) if out is not None else None
        is_within = inner is not None and Path(os.path.abspath(root)) in inner.parents
        return WatchedFolder(root, recursive, inner if is_within else None, overlay_endings())

    def listed(self) -> list[Path]:
        """The pictures that are there, in natural order. Raises OnnxCamError where the folder cannot be read."""
        return self._below(self.root)

    def below(self, path: Path) -> list[Path]:
        """The pictures at a path where something came or changed: the one there, or those of a new folder.

        Raises OnnxCamError for a folder that cannot be read.
        """
        if path.is_dir():
            return self._below(path) if self.recursive else []
        return [path] if self._is_picture(path) else []

    def within(self, image: Path) -> PurePath:
        """The sub-folder in which a picture lies."""
        return PurePath(os.path.relpath(image.parent, self.root))

    def with_namesakes(self, images: Iterable[Path]) -> list[Path]:
        """The pictures, then the others of their folders that have the same name apart from the ending."""
        listed = dict.fromkeys(images)
        stems: dict[Path, set[str]] = {}
        for image in listed:
            stems.setdefault(image.parent, set()).add(image.stem.casefold())
        others = [
            folder / entry.name
            for folder in stems
            for entry in _entries(folder)
            if os.path.splitext(entry.name)[0].casefold() in stems[folder] and self._is_picture(folder / entry.name)
        ]
        return list(dict.fromkeys([*listed, *others]))

    def _below(self, folder: Path) -> list[Path]:
        from onnxcam.evaluation.readers.listing import Listing, natural

        if self.recursive:
            return [image for image in Listing.of(folder).pictures.values() if self._is_picture(image)]
        names = [entry.name for entry in _entries(folder) if not entry.is_dir()]
        return [folder / name for name in sorted(names, key=natural) if self._is_picture(folder / name)]

    def _is_picture(self, path: Path) -> bool:
        """Whether a file of this name is one to explain: neither hidden nor an overlay's, in no hidden folder."""
        from onnxcam.evaluation.readers.listing import is_picture

        parts = path.relative_to(self.root).parts
        return (
            is_picture(path.name)
            and not any(part.startswith(".") for part in parts)
            and not path.name.endswith(self.overlays)
            and (self.out is None or self.out not in Path(os.path.abspath(path)).parents)
        )

    @contextmanager
    def changes(self) -> Iterator[Iterator[list[Path]]]:
        """Yields, every POLL milliseconds at the latest, the paths where something came, changed or went.

        It is watched from the first list on, which is empty, and ends at a signal that raises. Raises OptionError where
        watchfiles is missing or the system watches no further folder, PictureError where the folder is gone.
        """
        try:
            from watchfiles import watch
        except ImportError:
            raise OptionError(MISSING) from None
        start = partial(
            watch,
            watch_filter=None,
            recursive=self.recursive,
            debounce=GATHER,
            rust_timeout=POLL,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        with closing(self._paths(start)) as paths:
            yield paths

    def _paths(self, start: Callable[[str], Batches]) -> Generator[list[Path], None, None]:
        """start: begins to watch a path.

        It is begun again, and all is listed, where watchfiles ended at a name that is no text, and where another folder
        took the place of the one that is watched.
        """
        failures, is_behind = MOST_FAILURES, False  # the very first failure is final
        while True:
            watched, real = self._identity(), os.path.realpath(self.root)
            try:
                with closing(start(real)) as batches:
                    for batch in batches:
                        if self._identity() != watched:
                            break
                        changed = sorted({path for _, path in batch})
                        paths = [self.root / os.path.relpath(path, real) for path in changed]
                        yield [*paths, *self.listed()] if is_behind else paths
                        failures, is_behind = 0, False
                    else:
                        return
            except (OSError, RuntimeError) as error:  # RuntimeError: of watchfiles itself
                if failures == MOST_FAILURES:
                    raise self._unwatched(error) from None
                failures += 1
            is_behind = True

    def _identity(self) -> tuple[int, int]:
        """Device and inode of the folder. Raises PictureError where it is gone."""
        try:
            status = os.stat(self.root)
        except OSError:
            status = None
        if status is None or not stat.S_ISDIR(status.st_mode):
            raise PictureError(f"{self.root}: the folder is gone; make it again, and start again")
        return status.st_dev, status.st_ino

    def _unwatched(self, error: Exception) -> OptionError:
        reason = getattr(error, "strerror", None) or str(error)
        return OptionError(
            f"{self.root}: cannot be watched ({reason}); for a network drive or many folders set "
            f"WATCHFILES_FORCE_POLLING=1"
        )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where it is gone. Raises PictureError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PictureError(f"{folder}: {(error.strerror or str(error)).lower()}") from None
