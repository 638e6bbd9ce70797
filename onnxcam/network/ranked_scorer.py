"""RankedScorer: scores of an image with some of its pixels replaced, and of any other images, in chunks.

It opens the graph of surgeon/graphs/ranked_score.py beside an opened model and runs it by the plan of that model's
network. gradients.py opens it when it is first needed; metrics/scorer.py is what users see of it.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from onnxcam.engine.parallel import ParallelRunner, RunLimits
from onnxcam.engine.session import Session
from onnxcam.errors import OutOfMemory
from onnxcam.network.opening import OpenedModel
from onnxcam.network.scorer import SCORE_OUTPUTS
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.surgeon.graphs.tensor_names import FROM, TO
from onnxcam.types import Arrays, Floats, Indices, Progress, Score, Scores

PER_ROW = (tensor_names.IMAGE, tensor_names.FILL, FROM, TO)
"""Inputs that may have one entry a row."""

RowFeeds = Callable[[Indices], Arrays]
"""Gives the inputs of the rows of these indices: FROM and TO, and IMAGE where each row has its own."""


class RankedScorer:
    """The opened graph. Threads may share it."""

    def __init__(self, opened: OpenedModel) -> None:
        """Raises what Session raises."""
        network, options = opened.network, opened.options
        engine = options.engine.without_cuda_graph
        self._fixed, self._alone = network.fixed, network.masks_alone

        def graph() -> bytes:
            from onnxcam.surgeon.graphs.ranked_score import ranked_model
            from onnxcam.surgeon.passes.mixed_precision import convert_to_mixed_precision
            from onnxcam.surgeon.session_bytes import session_bytes

            plain = convert_to_mixed_precision(opened.model) if engine.half else opened.model
            return session_bytes(
                ranked_model(plain, opened.anatomy, opened.size, batch=network.fixed, extra=network.extra)
            )

        limits = RunLimits(
            options.threads, options.batch, network.fixed, opened.anatomy.bytes_per_image, engine, options.limits
        )
        self._runner = ParallelRunner(graph, options.providers, limits, network.plan)
        # TensorRT compiles for every shape, so each run has the same.
        self._padded = self._runner.plan.batch if network.provider == "tensorrt" else None

    def close(self) -> None:
        self._runner.close()

    def score(self, feeds: Arrays, rows: RowFeeds, count: int, score: Score, progress: Progress | None) -> Scores:
        """(count,T) scores of the rows 0 to count - 1.

        feeds: what all rows share. Rows are made as their chunk is run, so that few images are in memory at a time.
        """

        def run(session: Session, chunk: Indices) -> Floats:
            try:
                return self._run(session, {**feeds, **rows(chunk)}, len(chunk), score)
            except OutOfMemory:
                if self._fixed is None:
                    self._runner.shrink(max(1, len(chunk) // 2))
                raise

        if not self._alone:
            return self._runner.map(run, np.arange(count), progress)
        results = []
        for i in range(count):  # samples of a batch change each other, so each row goes with copies of itself
            results.append(self._runner.map(run, np.asarray([i])))
            if progress is not None:
                progress(i + 1, count)
        return np.concatenate(results)

    def _run(self, session: Session, feeds: Arrays, count: int, score: Score) -> Floats:
        size = self._fixed or self._padded or count
        inputs = {name: _padded(a, size) if name in PER_ROW else a for name, a in feeds.items()}
        inputs = {name: array for name, array in inputs.items() if name in session.inputs}
        return session.run([SCORE_OUTPUTS[score]], inputs, pictures=size)[0][:count]


def _padded(array: npt.NDArray[np.generic], size: int) -> npt.NDArray[np.generic]:
    """An array of one entry a row filled up with its last row; one of a single entry counts for all rows."""
    is_single = len(array) == 1 and array.ndim > 1
    if is_single or len(array) >= size:
        return array
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
