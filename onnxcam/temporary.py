"""Names of temporary files, and the removal of those that a killed process left behind.

A file is written beside its place under a name that says which process of which machine writes it. `sweep` removes
what nobody can finish any more: the files of processes that have ended. Folders may be shared by machines and
containers, whose processes cannot be asked for; their files go when they have been left alone for a day.
"""

import hashlib
import os
import platform
import re
import secrets
import stat
import time
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

from onnxcam.logs import module_logger

ABANDONED = 86_400.0
"""Seconds without a change after which a file of a process that cannot be asked for is removed."""
NAME = re.compile(r"\.onnxcam-(?:(?P<process>[0-9]{1,10})-(?P<machine>[0-9a-f]{8})-)?[0-9a-f]{16}\.tmp")
log = module_logger(__name__)


def temporary(folder: Path) -> Path:
    """A new name in the folder, for a file of this process."""
    return folder / f".onnxcam-{os.getpid()}-{_machine()}-{secrets.token_hex(8)}.tmp"


def sweep(folder: Path) -> None:
    """Removes temporary files of this user that nobody will finish. What cannot be removed is logged and stays."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if NAME.fullmatch(entry.name)]
    except OSError as error:
        log.info("could not look for temporary files in %s: %s", folder, error.strerror or error)
        return
    for name in names:
        try:
            if _is_left_over(folder / name):
                os.unlink(folder / name)
        except FileNotFoundError:  # another process swept it
            continue
        except OSError as error:
            log.warning("could not remove %s: %s", folder / name, error.strerror or error)


@lru_cache(maxsize=1024)
def sweep_once(folder: Path) -> None:
    """sweep(), once in a process: for what is called for every file."""
    sweep(folder)


def _is_left_over(path: Path) -> bool:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
        return False
    # The time of the last change of the entry: a backup is a link to a file that may be years old.
    if time.time() - status.st_ctime > ABANDONED:
        return True
    match = NAME.fullmatch(path.name)
    if match is None or match["machine"] != _machine():
        return False
    return not _is_running(int(match["process"]))


def _is_running(process: int) -> bool:
    if os.name != "posix":  # os.kill() would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@cache
def _machine() -> str:
    """Stands for what shares one numbering of processes: a machine, or a container on it."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text("ascii", "replace"))
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:8]
