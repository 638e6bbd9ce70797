"""The process that talks to Ray: it connects, has actors compute the tasks, and passes their answers on.

Ray changes the process it is used in: it handles signals, prints, logs and reads the environment. So this one belongs
to it, and ray_runner.py is the other end of its pipes. A local cluster ends with this process.
"""

import os
import pickle
import secrets
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from threading import Thread
from typing import Any, BinaryIO

from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.evaluation.ray_worker import Attempts, Worker, node_facts

LENGTH = struct.Struct("<BQ")
"""Before each message: its kind, and the bytes that follow."""
JOINED, ANSWER, FAILED, CRASHED, END = range(5)
"""The cluster is there; a pickled Answer; a pickled OnnxCamError; the text of an error of the program; the end."""
MOST_BLOCKS = 4000
"""Ray Data takes some ms a block. With more pictures than this a block holds several, which a lost worker repeats."""
OBJECT_STORE = 2**28
"""Bytes of shared memory of a local cluster."""
PLACED_LOCALLY, PLACED = 120.0, 600.0
"""Seconds until the first worker must have found room, locally and on a cluster, which may have to grow."""
PORT_SECONDS = 10.0
"""Seconds that a machine may take to accept a connection."""
LAST_SECONDS = 10.0
"""Seconds that this process may take to end."""


@dataclass(frozen=True, eq=False)
class Job:
    """What the process gets. tasks: pickled (number, Task) each. opening: a pickled Opening. address: None for a
    cluster of its own; num_cpus, num_gpus: what each actor reserves."""

    tasks: tuple[bytes, ...]
    opening: bytes
    address: str | None
    actors: int
    num_cpus: float
    num_gpus: float


def main() -> None:
    """Reads a Job from standard input and writes messages to standard output, until one of the two is closed."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # where Ray prints
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Thread(target=_end_with, args=(answers.fileno(),), name="onnxcam-parent", daemon=True).start()
    with suppress(KeyboardInterrupt, BrokenPipeError):
        job: Job = pickle.load(requests)
        try:
            for kind, content in _messages(job):
                _send(answers, kind, content)
        except OnnxCamError as error:
            _send(answers, FAILED, pickle.dumps(error))
        except _Crash as error:
            _send(answers, CRASHED, str(error).encode())
        else:
            _send(answers, END, b"")
    os._exit(0)  # Ray's threads may hang, and the parent has what it needs


def _send(answers: BinaryIO, kind: int, content: bytes) -> None:
    answers.write(LENGTH.pack(kind, len(content)) + content)
    answers.flush()


def _end_with(answers: int) -> None:
    """Interrupts the main thread when the parent has closed its end of the pipe, or was killed."""
    poll = select.poll()
    poll.register(answers, 0)  # that the reader has gone is always reported
    poll.poll()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(LAST_SECONDS)
    os._exit(1)


def _messages(job: Job) -> Iterator[tuple[int, bytes]]:
    """JOINED, and the pickled Answers in order of completion."""
    if job.address is None:  # read when Ray is imported
        os.environ.pop("RAY_ADDRESS", None)
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on every system: its servers listen on 127.0.0.1 alone
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    import ray

    with _cluster(ray, job):
        try:
            yield JOINED, b""
            _check_cluster(ray, job)
            for answer in _computed(ray, job):
                yield ANSWER, answer
        except ray.exceptions.RayTaskError as error:
            raise _Crash(str(error)) from None


class _Crash(Exception):
    """An error of the program in a worker, with the traceback there."""


@contextmanager
def _cluster(ray: Any, job: Job) -> Iterator[None]:
    """Connects to the cluster, or starts one in this machine that nothing else can reach."""
    if job.address is not None:
        try:
            _check_port(job.address)
            ray.init(address=job.address)
        except (OSError, RuntimeError, ValueError) as error:
            raise OptionError(f"cannot join the Ray cluster {job.address!r}: {_brief(error)}") from None
        try:
            yield
        finally:
            ray.shutdown()
        return
    folder = tempfile.mkdtemp(prefix="onnxcam-ray-", dir="/tmp")  # a socket's path is short, and $TMPDIR may be long
    try:
        ray.init(
            address="local", num_cpus=ceil(job.actors * job.num_cpus) + 1, object_store_memory=OBJECT_STORE,
            include_dashboard=False, _temp_dir=folder,
        )  # fmt: skip
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _check_port(address: str) -> None:
    """Raises OSError where nothing listens at HOST:PORT, which Ray would try for many minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), PORT_SECONDS).close()


def _check_cluster(ray: Any, job: Job) -> None:
    """Runs one task with the resources of a worker. Raises OptionError where there is no room, or no onnxcam."""
    if job.address is None and ray.cluster_resources().get("GPU", 0) < job.num_gpus:
        raise OptionError(
            f"this machine has {ray.cluster_resources().get('GPU', 0):g} GPUs that Ray knows of, and each worker is to "
            f"have {job.num_gpus:g}"
        )
    seconds = PLACED_LOCALLY if job.address is None else PLACED
    first = ray.remote(num_cpus=job.num_cpus, num_gpus=job.num_gpus)(node_facts).remote()
    try:
        ray.get(first, timeout=seconds)
    except ray.exceptions.GetTimeoutError:
        has = ray.cluster_resources()
        raise OptionError(
            f"no node had room for a worker with {job.num_cpus:g} CPUs and {job.num_gpus:g} GPUs within {seconds:g} s; "
            f"the cluster has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs: reserve less for a worker, or "
            f"add nodes"
        ) from None
    except ray.exceptions.RayError as error:
        raise OptionError(
            f"a node cannot run onnxcam: {_brief(error)}; install the same version of onnxcam on every node"
        ) from None


def _computed(ray: Any, job: Job) -> Iterator[bytes]:
    """Has the actors compute the tasks. One that dies is started again, here or on another node, with its tasks."""
    import ray.data as ray_data

    context = ray_data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.target_max_block_size = 1  # so that each answer leaves its worker as soon as it is there
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
    actors = min(job.actors, len(job.tasks))
    # With min_size 1, the run begins with the first actor, and one that finds no room keeps no other from ending it.
    pool = ray_data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=2)
    tasks = ray_data.from_items(
        [{"task": task} for task in job.tasks], override_num_blocks=min(len(job.tasks), MOST_BLOCKS)
    )
    answers = tasks.map_batches(
        Worker, fn_constructor_args=(job.opening, attempts), compute=pool, batch_size=1, batch_format="pyarrow",
        num_cpus=job.num_cpus, num_gpus=job.num_gpus,
    )  # fmt: skip
    for batch in answers.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from batch["answer"].to_pylist()


def _brief(error: Exception) -> str:
    """The last line of an error, where Ray puts what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
