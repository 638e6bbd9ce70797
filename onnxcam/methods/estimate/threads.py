"""One BLAS thread for NumPy's LAPACK calls on small matrices: eigenvalues, Cholesky factors, inverses.

LAPACK starts BLAS threads for them whatever the size. These cost more than they bring: they wait for each other, and
they spin beside the threads of the runtime. Products need no limit, see products.py.
"""

import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@cache
def _numpy_blas() -> "ThreadpoolController":
    """The BLAS library that NumPy brought along, else all that are loaded; those of other packages stay as they are.

    threadpoolctl is imported when it is first needed: not every call of the command line does.
    """
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    site = Path(np.__file__).parent.parent
    bundled = [path for path in (library["filepath"] for library in blas.info()) if _below(site, "numpy", path)]
    return blas.select(filepath=bundled) if bundled else blas


def _below(site: Path, name: str, path: str) -> bool:
    """Whether the file lies in site/name or site/name.libs."""
    return any(folder in Path(path).parents for folder in (site / name, site / f"{name}.libs"))


class one_thread(ContextDecorator):  # noqa: N801, used like a function
    """While any thread of the process is inside, NumPy's BLAS runs on one thread; then it runs as it did before.

    The setting is the process's: OpenBLAS has no other, and 0.3.31 heeds it only from the thread that set it first. It
    changes speed, never a result, and it is held for single calls of LAPACK.
    """

    _lock = threading.Lock()
    _inside = 0
    _restore: Callable[[], object] | None = None

    def __enter__(self) -> None:
        with one_thread._lock:
            if one_thread._inside == 0:
                one_thread._restore = _numpy_blas().limit(limits=1).restore_original_limits
            one_thread._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with one_thread._lock:
            one_thread._inside -= 1
            if one_thread._inside == 0 and one_thread._restore is not None:
                one_thread._restore()
                one_thread._restore = None
