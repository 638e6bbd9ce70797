"""Finds how a model takes several images at once, and opens its scoring graph in that way.

Three ways are tried, best first: as exported, rewritten for any batch, one image at a time. Each is compared with runs
of single images, and the rewritten graph with the file. opening.py calls it once the graph is analysed.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InferenceError, OutOfMemory, TimedOut
from onnxcam.network import cache
from onnxcam.network.batch_check import HALF_TOLERANCE, TOLERANCE, samples_interact, why_not_batched
from onnxcam.network.extra_inputs import is_batched
from onnxcam.network.open_options import OpenOptions
from onnxcam.network.opened import BatchSupport as BatchSupport
from onnxcam.network.opened import Once, open_network, scoring_bytes
from onnxcam.network.scorer import Network
from onnxcam.network.verification import check_surgery, output_of_file
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.loading import ModelFile
from onnxcam.surgeon.session_bytes import WORTHWHILE, weight_bytes
from onnxcam.surgeon.vmap.driver import CannotBatch, free_batch
from onnxcam.types import Arrays, BatchMode


@dataclass(frozen=True, eq=False)
class BatchedNetwork:
    """A network that is open. model: the graph that it runs, without masking. scoring: as OpenedModel has it."""

    network: Network
    model: Model
    scoring: bytes
    batching: BatchSupport


@dataclass(frozen=True, eq=False)
class _Tried:
    """A network that was opened for a trial, and what it was opened of."""

    network: Network
    model: Model
    scoring: bytes

    def chosen(self, mode: BatchMode, reason: str) -> BatchedNetwork:
        return BatchedNetwork(self.network, self.model, self.scoring, BatchSupport(mode, reason))


@dataclass(frozen=True, eq=False)
class BatchTrial:
    """Tries the ways to batch, best first, and verifies each before it is used."""

    file: ModelFile
    runnable: Model | None
    model: Model
    joins_pictures: bool
    trace: Trace
    anatomy: Anatomy
    size: tuple[int, ...]
    inputs: Arrays
    options: OpenOptions
    record: "cache.ModelRecord | None"

    def open(self) -> BatchedNetwork:
        """Opens the network in the best way. Raises as open_model()."""
        if self.record is not None:
            return self._from_record(self.record)
        output = output_of_file(
            self.file, self.runnable, self.model, self.anatomy, self.size, self.inputs, traced=self.trace.outputs,
            threads=self.options.threads, limits=self.options.limits,
        )  # fmt: skip
        fixed = self.anatomy.image.batch
        has_none = 0 in self.anatomy.image.added
        reason = "the export has no batch axis" if has_none else f"the export is fixed to a batch of {fixed}"
        if self.joins_pictures and fixed is None:
            # As exported, where one picture's part begins may depend on the batch, and no gradient goes through that.
            rewritten, _ = self._rewritten(output)
            if rewritten is not None:
                text = f"the export joins several pictures in one batch; rewritten for any batch and {rewritten[1]}"
                return rewritten[0].chosen(BatchMode.REWRITTEN, text)
        if fixed is None:
            tried = self._tried(self.model, None)
            problem = why_not_batched(tried.network, self.inputs, self._tolerance)
            if problem is None:
                verified = self._verified(tried.network, output)
                if has_none:
                    return tried.chosen(BatchMode.REWRITTEN, f"{reason}; made dynamic and {verified}")
                return tried.chosen(BatchMode.DYNAMIC, f"the export takes any batch; {verified}")
            tried.network.close()
            reason = f"{reason}, and" if has_none else "the export declares a dynamic batch, but"
            reason = f"{reason} {problem}"
        rewritten, problem = self._rewritten(output)
        if rewritten is not None:
            return rewritten[0].chosen(BatchMode.REWRITTEN, f"{reason}; made dynamic and {rewritten[1]}")
        tried = self._tried(self.model, fixed or 1)
        if samples_interact(tried.network, self.inputs, self._tolerance):
            tried.network.run_masks_alone()
        self._verified(tried.network, output)
        return tried.chosen(BatchMode.LOOPED, f"{reason}, and cannot be made dynamic: {problem}")

    def _from_record(self, record: "cache.ModelRecord") -> BatchedNetwork:
        """Opens the model in the way that an earlier opening verified."""
        model = self._with_free_batch() if record.mode is BatchMode.REWRITTEN else self.model
        fixed = (self.anatomy.image.batch or 1) if record.mode is BatchMode.LOOPED else None
        tried = self._tried(model, fixed)
        if samples_interact(tried.network, self.inputs, self._tolerance):
            tried.network.run_masks_alone()
        return tried.chosen(record.mode, record.reason)

    def _rewritten(self, output: npt.NDArray[np.generic] | None) -> tuple[tuple[_Tried, str] | None, str]:
        """Makes the graph take any batch. Returns ((network, how verified), ''), or (None, the problem)."""
        try:
            tried = self._tried(self._with_free_batch(), None)
        except (OutOfMemory, TimedOut):
            raise
        except (CannotBatch, InferenceError) as error:
            return None, str(error)
        try:
            problem = why_not_batched(tried.network, self.inputs, self._tolerance)
        except (OutOfMemory, TimedOut):
            raise
        except InferenceError as error:
            problem = str(error)
        if problem is None:
            return (tried, self._verified(tried.network, output)), ""
        tried.network.close()
        return None, f"in the rewritten graph {problem}"

    def _with_free_batch(self) -> Model:
        names = [self.anatomy.image.name, *(n for n, batched in self._extra.items() if batched)]
        return free_batch(self.model, self.trace.shapes, self.trace.values, names, self.options.limits)

    @property
    def _extra(self) -> dict[str, bool]:
        """Of each extra input, whether it has one entry for each image of a batch."""
        batch = self.anatomy.image.batch
        values = {str(v.name): v for v in self.model.graph.inputs}
        image = values[self.anatomy.image.name]
        return {name: is_batched(values[name], image, batch) for name in self.inputs}

    @property
    def _tolerance(self) -> float:
        half = self.options.engine.half or ir.computes_in_half(self.model)
        return HALF_TOLERANCE if half else TOLERANCE

    def _tried(self, model: Model, fixed: int | None) -> _Tried:
        anatomy, size, options, extra = self.anatomy, self.size, self.options, self._extra
        build = partial(scoring_bytes, model, anatomy, size, options, fixed=fixed, extra=extra)
        if not options.cache or cache.folder() is None or weight_bytes(model) >= WORTHWHILE:
            return _Tried(open_network(build, anatomy, size, options, fixed=fixed, extra=extra), model, b"")
        graph = build()
        network = open_network(Once(graph, build), anatomy, size, options, fixed=fixed, extra=extra)
        return _Tried(network, model, graph)

    def _verified(self, network: Network, output: npt.NDArray[np.generic] | None) -> str:
        return check_surgery(network, self.file, output, self.inputs, half=self.options.engine.half)
