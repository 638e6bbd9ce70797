"""Reads the boxes of a detector that has them in an output of their own, beside the scores that are explained.

The scoring graph holds what the scores need and no more, so the boxes come from a session of their own, on the CPU.
"""

import numpy as np
import numpy.typing as npt

from onnxcam.engine.session import Session
from onnxcam.network.extra_inputs import for_batch
from onnxcam.network.opening import OpenedModel
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.types import Arrays


class BoxOutput:
    """The part of a model that computes its boxes, opened. Threads may share it."""

    def __init__(self, opened: OpenedModel) -> None:
        """Raises what Session raises. The model has a `sides_output`."""
        self.opened = opened

        def graph() -> bytes:
            from onnxcam.surgeon import ir

            model = ir.edit(opened.model)
            sides = ir.find_value(model, str(opened.anatomy.logits.sides_output))
            assert sides is not None, "the analysis named an output of this model"
            model.graph.outputs[:] = [sides]
            return ir.to_bytes(ir.tidy(model))

        options = opened.options
        self.session = Session(graph(), ("cpu",), options.threads, limits=options.limits, again=graph)

    def run(self, feeds: Arrays) -> npt.NDArray[np.float64]:
        """(boxes,4) as the model returns them for one unmasked image. feeds: those of the scoring graph."""
        image, network = self.opened.anatomy.image, self.opened.network
        batch = network.fixed or 1
        extra = {name: feeds[name] for name in self.opened.inputs if name in feeds}
        inputs = {
            image.name: np.repeat(image.cast(feeds[tensor_names.IMAGE]), batch, axis=0),
            **for_batch(self.opened.model, image, extra, batch),
        }
        read = {n: inputs[n] for n in self.session.inputs}
        outputs = self.session.run(self.session.outputs, read, pictures=batch)
        sides = np.asarray(outputs[0][0], np.float64)
        return sides if sides.shape[-1] == 4 else sides.T
