"""Makes the files of a failure smaller, as long as they still fail in the same way."""

import time
from collections.abc import Callable

Files = dict[str, bytes]


def shrunk(files: Files, still_fails: Callable[[Files], bool], *, tries: int = 300, seconds: float = 40.0) -> Files:
    """The files without whatever the failure does not need: parts are taken out, halves first, single bytes last.

    tries, seconds: when it stops at the latest.
    """
    end, smallest = time.monotonic() + seconds, dict(files)
    for name in sorted(files, key=lambda name: -len(files[name])):
        size = max(len(smallest[name]) // 2, 1)
        while size:
            at = 0
            while at < len(smallest[name]):
                if tries <= 0 or time.monotonic() > end:
                    return smallest
                tries -= 1
                data = smallest[name]
                candidate = {**smallest, name: data[:at] + data[at + size :]}
                if still_fails(candidate):
                    smallest = candidate
                else:
                    at += size
            size //= 2
    return smallest
