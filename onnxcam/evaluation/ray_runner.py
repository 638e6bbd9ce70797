"""The engine that computes on a Ray cluster, or with the actors of one machine: RayEngine. Ray is the extra `ray`.

ray_process.py talks to Ray in a process of its own, and ray_worker.py is what runs on the nodes. The results are those
of the local engine: the same evaluator computes them.
"""

import pickle
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import onnxcam
from onnxcam.errors import InferenceError, OnnxCamError, OptionError
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.ray_process import ANSWER, CRASHED, END, FAILED, JOINED, LENGTH, Job
from onnxcam.evaluation.ray_worker import Answer, Opener, Opening
from onnxcam.evaluation.row_keys import without_map
from onnxcam.evaluation.rows import ItemResult, Row
from onnxcam.evaluation.runner import Task, Work
from onnxcam.explainer.arguments import shown
from onnxcam.explainer.child_process import ChildProcess, Ended, Silent
from onnxcam.limits import is_whole

PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from onnxcam.evaluation.ray_process import main
main()
"""
FIRST_SECONDS = 120.0
"""Seconds in which the process must have joined the cluster. Ray goes on trying where a port does not answer."""
LAST_SECONDS = 15.0
"""Seconds in which the process and its cluster may end."""
LOG_TAIL = 1500
"""Bytes of the process's output that an error quotes."""


@dataclass(frozen=True)
class RayEngine:
    """Computes pictures with the actors of Ray, each of which opens the model once.

    address: of a running cluster, such as 'auto' or '10.0.0.1:6379'; None starts one on this machine, for this run
    alone, that sends nothing to anybody. actors: how many compute at a time. num_cpus, num_gpus: what each of them
    reserves; a fraction of a GPU lets several share it. A model that is opened without `threads` takes as many as
    num_cpus. opener: makes the evaluator in each actor. Every node has onnxcam, and sees the files under their paths.
    """

    address: str | None = None
    actors: int = 2
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    opener: Opener = Evaluator

    def __post_init__(self) -> None:
        check_ray()
        if not is_whole(self.actors, 1):
            raise OptionError(
                f"actors is how many pictures are computed at a time, from 1 on, not {shown(self.actors)}"
            )
        if not self.num_cpus > 0:
            raise OptionError(f"num_cpus is what an actor reserves, more than 0, not {shown(self.num_cpus)}")
        if not self.num_gpus >= 0 or (self.num_gpus > 1 and self.num_gpus % 1):
            raise OptionError(f"num_gpus is a fraction of a GPU, or a whole number of them, not {shown(self.num_gpus)}")
        if self.address is not None and self.address.startswith("ray://"):
            raise OptionError(
                f"{self.address} is Ray Client, which Ray Data does not run on; start the evaluation in the cluster, "
                f"as a Ray job, with the address 'auto'"
            )

    def __str__(self) -> str:
        where = f"on {self.address}" if self.address is not None else "on this machine"
        gpus = f" and {self.num_gpus:g} GPUs" if self.num_gpus else ""
        return f"ray, {self.actors} actors with {self.num_cpus:g} CPUs{gpus} each, {where}"

    def __call__(self, tasks: Iterable[Task], work: Work) -> Iterator[ItemResult]:
        return run_ray(tasks, work, self)


def check_ray() -> None:
    """Raises OptionError where Ray Data is not installed, or does not run."""
    if sys.platform == "win32":
        raise OptionError("the engine ray needs Linux or macOS; use the local engine")
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise OptionError('the engine ray needs Ray Data, which is not installed: pip install "onnxcam[ray]"')


def run_ray(tasks: Iterable[Task], work: Work, engine: RayEngine) -> Generator[ItemResult, None, None]:
    """One result for each task, in order of completion; the tasks are taken, and their files hashed, before the first.

    What a lost actor or node was computing is computed again elsewhere. A picture whose workers keep dying is given up
    after MOST_ATTEMPTS of ray_worker.py: its rows have an error. Raises OptionError where the cluster cannot be joined,
    has no room, or a node lacks a file or has another onnxcam; what opening the model raises there; and InferenceError
    where the process that talks to Ray dies.
    """
    listed = tuple(tasks)
    if not listed:
        return
    with tempfile.TemporaryFile() as log:
        process = ChildProcess(FIRST_SECONDS, PROGRAM, log, "end other processes")
        try:
            yield from _results(process, log, listed, work, engine)
        finally:
            process.finish(LAST_SECONDS)


def _results(
    process: ChildProcess, log: IO[bytes], tasks: tuple[Task, ...], work: Work, engine: RayEngine
) -> Iterator[ItemResult]:
    waiting = set(range(len(tasks)))
    for answer in _answers(process, log, _job(tasks, work, engine)):
        if answer.error is not None:
            work.failure = answer.error
            raise answer.error
        task = tasks[answer.number]
        if answer.missing is not None and task.item.path.exists():
            raise OptionError(
                f"node {answer.missing} has no {task.item.path}, which this machine has; put the pictures on storage "
                f"that every node sees under the same path"
            )
        if answer.number in waiting:  # a worker may die after it has answered
            waiting.remove(answer.number)
            yield answer.result if answer.result is not None else _given_up(task, answer.attempts, work)
    if waiting:
        raise InferenceError(f"Ray ended without a result for {len(waiting)} of {len(tasks)} pictures; run it again")


def _job(tasks: tuple[Task, ...], work: Work, engine: RayEngine) -> Job:
    request, options = work.request, work.options
    if "threads" not in request.arguments:
        request = replace(request, arguments={**request.arguments, "threads": max(1, int(engine.num_cpus))})
    paths = tuple(
        Path(path).absolute() for path in (request.model, *options.maps_folder) if not isinstance(path, bytes)
    )
    opening = Opening(engine.opener, request, options, work.identity, paths, onnxcam.__version__)
    return Job(
        tuple(pickle.dumps(numbered) for numbered in enumerate(tasks)), pickle.dumps(opening), engine.address,
        engine.actors, engine.num_cpus, engine.num_gpus,
    )  # fmt: skip


def _answers(process: ChildProcess, log: IO[bytes], job: Job) -> Iterator[Answer]:
    """What the actors say. Raises the OnnxCamError that ended the run, and RuntimeError for an error of the program."""
    try:
        process.write(pickle.dumps(job))
        while True:
            kind, length = LENGTH.unpack(process.read(LENGTH.size))
            content = process.read(length)
            if kind == JOINED:
                process.silence = None
            elif kind == ANSWER:
                yield pickle.loads(content)
            elif kind == FAILED:
                error: OnnxCamError = pickle.loads(content)
                raise error
            elif kind == CRASHED:
                raise RuntimeError(f"an error of the program in a worker of Ray:\n{content.decode()}")
            else:
                assert kind == END
                return
    except Silent:
        where = f"the Ray cluster {job.address!r}" if job.address is not None else "a Ray cluster on this machine"
        raise OptionError(f"cannot join {where}: it did not answer within {FIRST_SECONDS:g} s; {_tail(log)}") from None
    except Ended as ended:
        raise InferenceError(f"the process that talks to Ray {ended}; its last words: {_tail(log)}") from None


def _tail(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, 2) - LOG_TAIL))
    return log.read().decode(errors="replace").strip() or "none"


def _given_up(task: Task, attempts: int, work: Work) -> ItemResult:
    """For each map that is missing, the row that says that the picture ends its workers."""
    text = (
        f"{attempts} workers died while they computed this picture: the runtime crashed, or memory ran out; explain it "
        f"alone, with --isolated, to see which"
    )
    titles = {source.key: source.title for source in work.options.sources}
    keys = task.only if task.only is not None else work.keys(task.item, task.picture_sha256)
    rows = (
        Row(key, work.identity.name, titles[key.method], error=text, label=task.item.label)
        for key in dict.fromkeys(without_map(key) for key in keys)
    )
    return ItemResult(task.item.key, tuple(rows))
