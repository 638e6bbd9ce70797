"""A deadline for readers of files: what is read goes through `Timed`, which raises once the time is over.

Pillow, tifffile and pydicom go through chunks, frames, pages and elements one by one, each of which takes a read of the
file; a file of a few megabytes can hold a million of them. So one check at each read bounds all of them.
"""

import time
from typing import Any, BinaryIO, cast

from onnxcam.errors import PictureError
from onnxcam.limits import Limits


class Timed:
    """A file whose reads raise PictureError once the limit of seconds is over, from its making or restart on."""

    def __init__(self, file: Any, name: str, limits: Limits) -> None:
        self._file, self._name, self._limits = file, name, limits
        self.restart()

    def restart(self) -> None:
        """Gives all seconds again: to the frame of a clip that is taken later."""
        seconds = self._limits.seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raises PictureError once the time is over."""
        if self._end is not None and time.monotonic() > self._end:
            raise PictureError(
                f"{self._name}: not read in time, so it has too many parts, or comes too slowly; "
                f"{self._limits.way_out('seconds')}"
            )

    def read(self, size: int = -1) -> Any:
        """As the file's own."""
        self.check()
        return self._file.read(size)

    def readinto(self, buffer: Any) -> Any:
        """As the file's own."""
        self.check()
        return self._file.readinto(buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def timed(file: BinaryIO | Timed, name: str, limits: Limits) -> BinaryIO:
    """The file with a deadline, unless it has one."""
    return cast(BinaryIO, file if isinstance(file, Timed) else Timed(file, name, limits))
