"""What runs on the nodes of a Ray cluster: `Worker`, an actor's evaluator, and `Attempts`, which counts per picture.

ray_process.py starts them. Nothing here imports Ray before it runs in one of its processes.
"""

import pickle
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxcam
from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.evaluation.rows import ItemResult
from onnxcam.evaluation.runner import ItemEvaluator, Task

MOST_ATTEMPTS = 3
"""Times that a picture may be begun by a worker that then dies."""

Opener = Callable[[Any, Any, Any], ItemEvaluator]
"""Opens an evaluator with the request, the options and the identity of a Work, in the process that calls it."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What an actor says of one task.

    number: of the task. result: None where there is none. error: of the actor itself, which ends the run. attempts: how
    often the task was begun, where it was given up. missing: the node that does not have the picture's file.
    """

    number: int
    result: ItemResult | None = None
    error: OnnxCamError | None = None
    attempts: int = 0
    missing: str | None = None


@dataclass(frozen=True, eq=False)
class Opening:
    """How an actor opens its evaluator. paths: files and folders that every node must have. version: of onnxcam."""

    opener: Opener
    request: Any
    options: Any
    identity: Any
    paths: tuple[Path, ...]
    version: str


class Attempts:
    """Counts, in an actor of its own, which tasks were begun and not finished: each by a worker that died."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """Returns how often the task was begun and not finished, this time included."""
        self._begun[number] += 1
        return self._begun[number]

    def finish(self, number: int) -> None:
        del self._begun[number]


class Worker:
    """An evaluator in an actor of Ray Data, which calls it with a table of pickled tasks.

    An evaluator that cannot be opened is an answer to the first task: an actor whose constructor raises would be
    reported by Ray as a death, in Ray's words.
    """

    def __init__(self, opening: bytes, attempts: Any) -> None:
        """opening: a pickled Opening. attempts: the handle of the actor that counts."""
        self._attempts = attempts
        self._evaluator: ItemEvaluator | None = None
        self._error: OnnxCamError | None = None
        try:
            self._evaluator = opened(pickle.loads(opening))
        except OnnxCamError as error:
            self._error = type(error)(f"on node {platform.node()}: {error}")

    def __call__(self, tasks: Any) -> Any:
        """A pyarrow Table with a column of pickled Answers for one with a column of pickled (number, Task)."""
        import pyarrow

        answers = [pickle.dumps(self._answer(*pickle.loads(task))) for task in tasks["task"].to_pylist()]
        return pyarrow.table({"answer": pyarrow.array(answers, pyarrow.large_binary())})

    def _answer(self, number: int, task: Task) -> Answer:
        import ray

        if self._evaluator is None:
            return Answer(number, error=self._error)
        attempts = ray.get(self._attempts.begin.remote(number))
        if attempts > MOST_ATTEMPTS:
            return Answer(number, attempts=attempts - 1)
        missing = None if task.item.path.exists() else platform.node()
        result = self._evaluator.evaluate(task.item, task.picture_sha256, task.only)
        self._attempts.finish.remote(number)
        return Answer(number, result, missing=missing)


def opened(opening: Opening) -> ItemEvaluator:
    """The evaluator. Raises OptionError where the node lacks a file or has another onnxcam, and what opening raises."""
    if opening.version != onnxcam.__version__:
        raise OptionError(
            f"onnxcam {onnxcam.__version__} is installed there, and {opening.version} where the run was started; "
            f"install the same version on every node"
        )
    for path in opening.paths:
        if not path.exists():
            raise OptionError(
                f"there is no {path}, which the machine that started the run has; put models, maps and pictures on "
                f"storage that every node sees under the same path"
            )
    return opening.opener(opening.request, opening.options, opening.identity)


def node_facts() -> tuple[str, str]:
    """The name of this node and its version of onnxcam: what a first task asks of a cluster."""
    return platform.node(), onnxcam.__version__
