"""The stamp by which a file is known to be the one that was hashed before."""

import os
import time
from dataclasses import dataclass

SETTLED = 2.0
"""Seconds after a change from which on a further one has another time: the coarsest clock of a file system, FAT's."""


@dataclass(frozen=True)
class Stamp:
    """text: size, times of the last change in ns, and inode. settled: whether a later change has another one.

    The times are that of the content, which programs set as they like, and that of the inode (st_ctime), which they
    cannot set; on Windows the second is the file's creation.
    """

    text: str
    settled: bool


def stamp_of(path: str | os.PathLike[str]) -> Stamp | None:
    """None for what is no file, or cannot be reached."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    settled = time.time() - max(status.st_mtime, status.st_ctime) > SETTLED
    return Stamp(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}", settled)
