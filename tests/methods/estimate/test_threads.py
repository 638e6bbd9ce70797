"""BLAS on one thread for NumPy's LAPACK calls, and as it was afterwards."""

import threading

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from onnxcam.methods.estimate.threads import _numpy_blas, one_thread

np.linalg.inv(np.eye(2))  # loads the library


def threads() -> set[int]:
    """Of NumPy's own library: OpenCV's wheel may have loaded another one, which is none of ours."""
    paths = {library["filepath"] for library in _numpy_blas().info()}
    return {int(library["num_threads"]) for library in threadpool_info() if library["filepath"] in paths}


def test_inside_there_is_one_thread_and_afterwards_what_there_was() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with one_thread():
            assert threads() == {1}
            with one_thread():
                assert threads() == {1}
            assert threads() == {1}
        assert threads() == before


def test_only_numpys_library_is_limited() -> None:
    """The wheel of NumPy holds its BLAS; libraries that other packages brought along keep their threads."""
    paths = [library["filepath"] for library in _numpy_blas().info()]
    assert paths
    if any("numpy" in library["filepath"] for library in threadpool_info()):
        assert all("numpy" in path for path in paths)


def test_an_error_inside_leaves_nothing_behind() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        try:
            with one_thread():
                raise ValueError
        except ValueError:
            pass
        assert threads() == before


def test_threads_that_come_and_go_leave_it_as_it_was() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        inside, leave = threading.Barrier(3), threading.Event()

        def work() -> None:
            with one_thread():
                inside.wait(10)
                leave.wait(10)

        workers = [threading.Thread(target=work) for _ in range(2)]
        for worker in workers:
            worker.start()
        inside.wait(10)
        leave.set()
        for worker in workers:
            worker.join()
        assert threads() == before
