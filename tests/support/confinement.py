"""Programs that may not open a socket: for tests that nothing leaves the machine.

Python's own sockets raise. On Linux the kernel also ends a process whose libraries try, with SIGSYS.
"""

import ctypes
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
"""The number of socket(2) on each machine. A pipe between processes, socketpair(2), is another call."""
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
PROGRAM = """
import sys
sys.path.insert(0, {support!r})
import confinement
confinement.forbid_sockets()
{code}
"""


def forbid_sockets() -> None:
    """Forbids this process and its children every socket, look-ups of names included, which need one too."""

    def refuse(*args: object, **named: object) -> Any:
        raise AssertionError(f"a look-up of {args}")

    socket.getaddrinfo = refuse
    number = SOCKET_CALL.get(platform.machine()) if sys.platform == "linux" else None
    if number is not None:
        _end_at_call(number)


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def _end_at_call(number: int) -> None:
    """Has the kernel end this process at the system call of this number (seccomp)."""
    load, equal, done = 0x20, 0x15, 0x06
    end_process, allow = 0x80000000, 0x7FFF0000
    rules = (_Instruction * 4)((load, 0, 0, 0), (equal, 0, 1, number), (done, 0, 0, end_process), (done, 0, 0, allow))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert libc.prctl(SECCOMP, FILTER, ctypes.byref(_Program(4, rules)), 0, 0) == 0, os.strerror(ctypes.get_errno())


def confined(code: str, *, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own that may not open a socket. env: all of its environment."""
    program = PROGRAM.format(support=str(Path(__file__).parent), code=code)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, timeout=120, env=env
    )
