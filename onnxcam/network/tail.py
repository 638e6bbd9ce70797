"""Tail: the part of a network after its feature tensor, as a graph of its own that scores given feature maps.

gradients.py opens it when a method first needs it. The graph is built in surgeon/graphs/tail.py.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.batching import ON_DEVICE, choose_batch, free_memory, in_chunks
from onnxcam.engine.session import Session
from onnxcam.network.opening import OpenedModel
from onnxcam.network.scorer import SCORE_OUTPUTS
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.surgeon.graphs.tensor_names import TAIL_FEATURES
from onnxcam.types import Arrays, Floats, Score


class Tail:
    """The opened tail of a network. session: its session. Threads may share it."""

    def __init__(self, opened: OpenedModel) -> None:
        """Raises what Session raises."""
        self.opened = opened
        network, options = opened.network, opened.options

        def built() -> bytes:
            from onnxcam.surgeon.graphs.tail import tail_model
            from onnxcam.surgeon.session_bytes import session_bytes

            return session_bytes(
                tail_model(opened.model, opened.anatomy, opened.size, batch=network.fixed, extra=network.extra)
            )

        def graph() -> bytes:
            return opened.graph("tail", built)

        engine = options.engine.without_cuda_graph
        self.session = Session(
            graph(), options.providers, options.threads, engine=engine, limits=options.limits, again=graph
        )
        self.batch = network.fixed or choose_batch(
            opened.anatomy.bytes_per_image, free_memory(), ON_DEVICE, options.batch
        )

    def run(self, feeds: Arrays, features: Floats, score: Score) -> Floats:
        """(N,T) scores of the features (N,...), in the model's own layout, for the targets in the feeds."""
        fixed = self.opened.network.fixed
        batched = {tensor_names.IMAGE, *(n for n, b in self.opened.network.extra.items() if b)}

        def run_chunk(chunk: Floats) -> Floats:
            count = len(chunk)
            if fixed is not None and count < fixed:
                chunk = np.concatenate([chunk, np.repeat(chunk[-1:], fixed - count, axis=0)])
            inputs: dict[str, npt.NDArray[Any]] = {TAIL_FEATURES: np.ascontiguousarray(chunk, np.float32)}
            for name in self.session.inputs:
                if name in feeds:
                    inputs[name] = np.repeat(feeds[name][:1], len(chunk), axis=0) if name in batched else feeds[name]
            return self.session.run([SCORE_OUTPUTS[score]], inputs, pictures=len(chunk))[0][:count]

        return in_chunks(run_chunk, features, self.batch)
