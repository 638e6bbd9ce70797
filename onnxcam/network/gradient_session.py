"""The graphs beside the scoring graph, opened: those with a gradient, and the network's tail."""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.batching import ON_DEVICE, PER_THREAD, choose_batch, free_memory, in_chunks
from onnxcam.engine.session import Session
from onnxcam.errors import ModelError, OutOfMemory
from onnxcam.network.opening import OpenedModel
from onnxcam.network.scorer import OUTPUT
from onnxcam.network.target_rows import rows_of
from onnxcam.surgeon import ir
from onnxcam.surgeon.graphs import masked_score
from onnxcam.surgeon.graphs.score_gradient import GRADIENT, SCORE, Wrt
from onnxcam.surgeon.graphs.tail import TAIL_FEATURES, tail_model
from onnxcam.types import Arrays, Floats, Masks, Score

AGREEMENT = 1e-2
"""Of the largest number: what the change of opset and precision may do to a score."""
LOOSE = 5e-2
"""Of a probability: the same, which the softmax stretches."""
APART = 0.05
"""Of a gradient's length: what the rows of a batch may change in each other; kinks of ReLUs turn by rounding."""
BACKWARD = 3
"""Times the memory of a forward pass that a step takes: what the way back reads is kept until then."""
ScoreAndGradient = tuple[Floats, Floats]


class GradientSession:
    """A step graph, opened."""

    def __init__(self, opened: OpenedModel, model: bytes, score: Score, wrt: Wrt, held: int) -> None:
        """held: bytes of all tensors of one row, which wait for the way back."""
        self.opened, self.score, self.wrt = opened, score, wrt
        options = opened.options
        self.session = Session(model, options.providers, options.threads, engine=options.engine.without_cuda_graph)
        network = opened.network
        most = PER_THREAD * self.session.threads if self.session.provider == "cpu" else ON_DEVICE
        memory = max(BACKWARD * opened.anatomy.bytes_per_picture, held)
        self.batch = network.fixed or choose_batch(memory, free_memory(), most, options.batch)
        self._lock, self._agrees, self._parallel = threading.Lock(), False, network.fixed == 1
        self.apart = False

    def run(self, feeds: Arrays, maps: Masks, whole: Arrays) -> ScoreAndGradient:
        with self._lock:
            if not self._agrees:
                self._agrees = self._check_score(whole)
            if not self._parallel and len(maps) > 1:
                self._parallel = self._check_batch(feeds, maps)
        scores: list[Floats] = []

        def part(chosen: Floats) -> Floats:
            score, gradient = self._rows(feeds, maps, chosen.astype(np.int64))
            scores.append(score)
            return gradient

        numbers = np.arange(len(maps)).astype(np.float32)
        gradient = in_chunks(part, numbers, self.batch)
        return np.concatenate(scores), gradient

    def _rows(self, feeds: Arrays, maps: Masks, chosen: npt.NDArray[np.int64]) -> ScoreAndGradient:
        """Of these rows, padded where the graph is bound to a number of them."""
        count = len(chosen)
        fixed = self.opened.network.fixed
        if fixed is not None and count < fixed:
            chosen = np.concatenate([chosen, np.repeat(chosen[-1:], fixed - count)])
        fed = {masked_score.MAPS: maps[chosen], **rows_of(feeds, chosen)}
        for name, array in feeds.items():
            if name in (masked_score.IMAGE, masked_score.FILL):
                fed[name] = array[chosen] if len(array) > 1 else array
            elif name not in fed:
                fed[name] = array
        missing = [n for n in self.session.inputs if n not in fed]
        if missing:
            raise ModelError(f"the step graph asks for inputs that the model does not have: {', '.join(missing)}")
        score, gradient = self.session.run([SCORE, GRADIENT], {n: fed[n] for n in self.session.inputs})
        return score[:count], gradient[:count]

    def _check_score(self, whole: Arrays) -> bool:
        """The picture's score, against the scoring graph's: nothing is believed that was not compared.

        Raises ModelError where they differ; False where the model itself gives no finite number.
        """
        network = self.opened.network
        mask = network.identity_masks(1)
        score, gradient = self._rows(whole, mask, np.zeros(1, np.int64))
        expected, largest = network.answer(whole, mask, self.score)
        if not np.isfinite(expected):
            return False
        if score.shape != (1,) or gradient.shape[1:] != self._row_shape():
            raise ModelError(
                f"the step graph gives a score {list(score.shape)} and a gradient {list(gradient.shape)} for one row, "
                f"where [1] and {[1, *self._row_shape()]} are needed"
            )
        own = float(score[0])
        scale = max(abs(expected), 1e-3) if self.score is Score.PROBABILITY else max(largest, 1e-6)
        reach = (LOOSE if self.score is Score.PROBABILITY else AGREEMENT) * scale
        if not abs(own - expected) <= reach:
            raise ModelError(
                f"the graph with the gradient scores the picture {own:.5g} and the model itself {expected:.5g}, so its "
                f"gradient is not used; a graph of your own was made of another model or score, else please report this"
            )
        return True

    def _row_shape(self) -> tuple[int, ...]:
        opened = self.opened
        return {
            Wrt.MAPS: (1, *opened.network.grid),
            Wrt.IMAGE: opened.anatomy.image.shape(opened.size)[1:],
            Wrt.FEATURES: tuple(int(d or 0) for d in opened.anatomy.features.shape[1:]),
        }[self.wrt]

    def _check_batch(self, feeds: Arrays, maps: Masks) -> bool:
        """Two rows at once against each alone; where they differ, each goes alone from then on."""
        pair = np.arange(2)
        try:
            _, together = self._rows(feeds, maps, pair)
        except OutOfMemory:
            return False  # the chunks will be made smaller
        alone = np.concatenate([self._rows(feeds, maps, pair[i : i + 1])[1] for i in range(2)])
        for a, b in zip(together.astype(np.float64), alone.astype(np.float64), strict=True):
            if np.isfinite(b).all() and not np.linalg.norm(a - b) <= APART * np.linalg.norm(b):
                self.batch, self.apart = 1, True
        return True


class Tail:
    """The network behind its feature tensor, opened."""

    def __init__(self, opened: OpenedModel) -> None:
        self.opened = opened
        network, options = opened.network, opened.options
        model = tail_model(opened.model, opened.anatomy, opened.size, batch=network.fixed, extra=network.extra)
        self.session = Session(
            ir.to_bytes(model), options.providers, options.threads, engine=options.engine.without_cuda_graph
        )
        self.batch = network.fixed or choose_batch(
            opened.anatomy.bytes_per_picture, free_memory(), ON_DEVICE, options.batch
        )

    def run(self, feeds: Arrays, features: Floats, score: Score) -> Floats:
        fixed = self.opened.network.fixed
        batched = {masked_score.IMAGE, *(n for n, b in self.opened.network.extra.items() if b)}

        def part(given: Floats) -> Floats:
            count = len(given)
            if fixed is not None and count < fixed:
                given = np.concatenate([given, np.repeat(given[-1:], fixed - count, axis=0)])
            fed: dict[str, npt.NDArray[Any]] = {TAIL_FEATURES: np.ascontiguousarray(given, np.float32)}
            for name in self.session.inputs:
                if name in feeds:
                    fed[name] = np.repeat(feeds[name][:1], len(given), axis=0) if name in batched else feeds[name]
            return self.session.run([OUTPUT[score]], fed)[0][:count]

        return in_chunks(part, features, self.batch)
