"""Explains many pictures in order: a thread reads and runs the next ones while the present ones are scored.

Explainer.batch and the command line walk explain_each(). Memory is constant: a group of pictures is explained at one
time, and one further group is read ahead.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from onnxcam.errors import InferenceError, OnnxCamError
from onnxcam.explainer.results import ForwardPass
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.types import Progress

if TYPE_CHECKING:
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.explainer.targets.kind import TargetLike
    from onnxcam.inputs.loader import ImageLike

Item = TypeVar("Item")
Result = TypeVar("Result")

GroupProgress = Callable[[Sequence[int]], Sequence[Progress | None]]
"""Called with the numbers of the pictures that are scored next; returns a progress callback for each of them."""


@dataclass(frozen=True, eq=False)
class PictureResult:
    """One picture of explain_each().

    number: its place among the pictures, from 0. saliencies: one per target, none if error says what went wrong.
    original: what the maps are drawn over: the photograph, or the array that the network took if it came preprocessed.
    answers: the model's best classes, where they were requested; none of another model than a classifier.
    """

    number: int
    saliencies: Sequence[Saliency] = ()
    original: npt.NDArray[Any] | None = None
    error: OnnxCamError | None = None
    answers: Sequence[ScoredTarget] = ()


def explain_each(
    explainer: "Explainer",
    pictures: "Iterable[tuple[ImageLike | OnnxCamError, Sequence[TargetLike]]]",
    *,
    keep_going: bool = True,
    progress: GroupProgress | None = None,
    answers: int = 0,
) -> Generator[PictureResult, None, None]:
    """Explains pictures, each with its targets, and yields one PictureResult per picture in order.

    keep_going: an error is yielded in the picture's place. Without it the first error ends the generator, and a picture
    that cannot be read is yielded before the other pictures of its group are scored in vain. Close the generator to
    stop early: the thread that reads ahead has ended then. An error in the place of a picture, of one that could not be
    had, is its result. answers: how many of the model's best classes come along.
    """

    if explainer._isolated is not None:
        yield from explainer._isolated.explain_each(pictures, keep_going, progress, answers)
        return
    waiting: dict[int, _Begun] = {}  # pictures whose forward pass was made, and which are not explained yet

    def begin(group: "Sequence[tuple[int, tuple[ImageLike | OnnxCamError, Sequence[TargetLike]]]]") -> list[_Begun]:
        begun = [_begin(explainer, number, *picture, answers) for number, picture in group]
        waiting.update((each.number, each) for each in begun)
        return begun

    groups = grouped(enumerate(pictures), explainer._batch_hint)
    try:
        with closing(ahead(groups, begin)) as futures:
            for future in futures:
                group = future.result()
                failed = [begun for begun in group if begun.error is not None]
                if failed and not keep_going:
                    yield PictureResult(failed[0].number, error=failed[0].error)
                    return
                explained = _explain_group(explainer, [begun for begun in group if begun.error is None], progress)
                for begun in group:
                    del waiting[begun.number]
                for begun in group:
                    result = explained.get(begun.number, PictureResult(begun.number, error=begun.error))
                    yield result
                    if result.error is not None and not keep_going:
                        return
    finally:
        for begun in waiting.values():
            begun.release()


@dataclass(frozen=True, eq=False)
class _Begun:
    """A picture whose forward pass was made, or the error that it ended in."""

    number: int
    targets: "Sequence[TargetLike]"
    forward: ForwardPass | None = None
    error: OnnxCamError | None = None
    answers: "Sequence[ScoredTarget]" = ()

    def release(self) -> None:
        if self.forward is not None:
            self.forward.release()


def _begin(
    explainer: "Explainer",
    number: int,
    picture: "ImageLike | OnnxCamError",
    targets: "Sequence[TargetLike]",
    answers: int,
) -> _Begun:
    if isinstance(picture, OnnxCamError):
        return _Begun(number, targets, error=picture)
    name = str(picture) if isinstance(picture, str | os.PathLike) else None
    try:
        forward = explainer._forward(picture, targets, name=name)
        best = explainer._pipeline.best_classes(forward, answers) if answers else ()
        return _Begun(number, targets, forward, answers=best)
    except OnnxCamError as error:
        return _Begun(number, targets, error=error)


def _explain_group(
    explainer: "Explainer", group: Sequence[_Begun], progress: GroupProgress | None
) -> Mapping[int, PictureResult]:
    """The results of one group by number; its pictures share forward passes."""
    if not group:
        return {}
    callbacks = progress([begun.number for begun in group]) if progress is not None else None
    forwards = [begun.forward for begun in group if begun.forward is not None]
    explained = explainer._explain_batch(forwards, [begun.targets for begun in group], progress=callbacks)
    results: dict[int, PictureResult] = {}
    for begun, forward, outcome in zip(group, forwards, explained, strict=True):
        if isinstance(outcome, OnnxCamError):
            results[begun.number] = PictureResult(begun.number, error=outcome)
        else:
            results[begun.number] = PictureResult(
                begun.number, outcome, forward.model_input.drawn, answers=begun.answers
            )
    return results


def ahead(items: Iterable[Item], work: Callable[[Item], Result]) -> Generator[Future[Result], None, None]:
    """Yields one Future per item, in order; its result() is work(item), or raises what that raised.

    One thread does the work and is one item ahead of the consumer, so that two results are alive at most. Close the
    generator to stop early: no more work begins then, and what runs has ended.
    """
    pool, process = ThreadPoolExecutor(1, "onnxcam-ahead"), os.getpid()
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            _check_process(process)
            waiting.append(pool.submit(work, item))
            if len(waiting) > 1:
                yield waiting.popleft()
        while waiting:
            _check_process(process)
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def _check_process(process: int) -> None:
    """Raises InferenceError in a forked child, where the thread that reads ahead is missing."""
    if os.getpid() != process:
        raise InferenceError("the process forked while pictures were explained; explain the rest in the parent")


def grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items in order; the last may be shorter."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group
