"""GradientSession: an opened step graph, which gives each sample's score and its gradient.

The graph is built by gradients.py, or given by the caller. Before it returns its first result, it
compares its score with the scoring graph's, and the samples of a batch with the same samples run alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.engine.batching import ON_DEVICE, PER_THREAD, choose_batch, free_memory, in_chunks
from onnxcam.engine.forking import Lock
from onnxcam.engine.session import Session
from onnxcam.errors import ModelError, OutOfMemory
from onnxcam.network.opening import OpenedModel
from onnxcam.network.packing import IMAGE_INPUTS, select_targets
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.surgeon.graphs.tensor_names import CHOSEN, GRADIENT, SCORE, Wrt
from onnxcam.types import Arrays, Floats, Indices, Masks, Score

SCORE_TOLERANCE = 1e-2
"""Share of the largest logit by which scores may differ: another opset and precision round differently."""
PROBABILITY_TOLERANCE = 5e-2
"""The same as a share of the probability; the softmax amplifies rounding."""
GRADIENT_TOLERANCE = 0.05
"""Share of a gradient's length by which a batch may change it: rounding moves samples over the kinks of ReLUs."""
BACKWARD_MEMORY = 3
"""Memory of a step in forward passes: what the backward pass reads is kept until then."""
ScoreAndGradient = tuple[Floats, Floats]
"""(N,) scores and (N,...) gradients."""


@dataclass(frozen=True, eq=False)
class AnswerAndGradient:
    """What one run gives of an unmasked picture.

    features (1,...): in the model's own layout. logits (1,numbers): the scored tensor. target: the class whose logit
    was differentiated. gradient (1,...): of that logit.
    """

    features: Floats
    logits: Floats
    target: int
    gradient: Floats


class GradientSession:
    """An opened step graph. Threads may share it.

    runs_alone: whether samples of a batch change each other's gradients, so that each runs alone.
    """

    def __init__(
        self, opened: OpenedModel, model: Callable[[], bytes], score: Score, wrt: Wrt, activation_bytes: int
    ) -> None:
        """model: gives the step graph.

        activation_bytes: all tensors of one sample together, which are kept for the backward pass.
        """
        self.opened, self.score, self.wrt = opened, score, wrt
        options = opened.options
        engine = options.engine.without_cuda_graph
        self.session = Session(
            model(), options.providers, options.threads, engine=engine, limits=options.limits, again=model
        )
        network = opened.network
        most = PER_THREAD * self.session.threads if self.session.provider == "cpu" else ON_DEVICE
        memory = max(BACKWARD_MEMORY * opened.anatomy.bytes_per_image, activation_bytes)
        self.batch = network.fixed or choose_batch(memory, free_memory(), most, options.batch)
        self._lock, self._score_checked, self._batch_checked = Lock(), False, network.fixed == 1
        self.runs_alone = False

    def run(self, feeds: Arrays, maps: Masks, check_feeds: Arrays) -> ScoreAndGradient:
        """Scores and gradients of the samples. Arguments and errors as in GradientRunner.gradient()."""
        with self._lock:
            if not self._score_checked:
                self._score_checked = self._check_score(check_feeds)
            if not self._batch_checked and len(maps) > 1:
                self._batch_checked = self._check_batch(feeds, maps)
        scores: list[Floats] = []

        def run_chunk(indices: Floats) -> Floats:
            score, gradient = self._run_samples(feeds, maps, indices.astype(np.int64))
            scores.append(score)
            return gradient

        indices = np.arange(len(maps)).astype(np.float32)
        gradient = in_chunks(run_chunk, indices, self.batch)
        return np.concatenate(scores), gradient

    @property
    def gives_answer(self) -> bool:
        """Whether the graph has what answer() reads."""
        return CHOSEN in self.session.outputs

    def answer(self, feeds: Arrays, target: int) -> AnswerAndGradient:
        """The unmasked picture's features and logits, and the gradient of a logit.

        feeds: of one picture. target: a class, or PREDICTION. Raises ModelError, InferenceError.
        """
        outputs = (SCORE, GRADIENT, tensor_names.FEATURES, tensor_names.LOGITS, CHOSEN)
        given = {**feeds, tensor_names.TARGETS: np.asarray([target])}
        mask = self.opened.network.identity_masks(1)
        score, gradient, features, logits, chosen = self._outputs(given, mask, np.zeros(1, np.int64), outputs)
        with self._lock:
            if not self._score_checked:
                self._score_checked = self._agrees({**feeds, tensor_names.TARGETS: chosen}, score, gradient)
        return AnswerAndGradient(features, logits, int(chosen[0]), gradient)

    def _run_samples(self, feeds: Arrays, maps: Masks, indices: Indices) -> ScoreAndGradient:
        """Scores and gradients of the samples of these indices, in one run."""
        score, gradient = self._outputs(feeds, maps, indices, (SCORE, GRADIENT))
        return score, gradient

    def _outputs(self, feeds: Arrays, maps: Masks, indices: Indices, outputs: Sequence[str]) -> list[Floats]:
        """Runs the samples of these indices, padded to a fixed batch."""
        count = len(indices)
        fixed = self.opened.network.fixed
        if fixed is not None and count < fixed:
            indices = np.concatenate([indices, np.repeat(indices[-1:], fixed - count)])
        inputs = {tensor_names.MAPS: maps[indices], **select_targets(feeds, indices)}
        for name, array in feeds.items():
            if name in IMAGE_INPUTS:
                inputs[name] = array[indices] if len(array) > 1 else array
            elif name not in inputs:
                inputs[name] = array
        missing = [n for n in self.session.inputs if n not in inputs]
        if missing:
            raise ModelError(f"the step graph has inputs that the model does not have: {', '.join(missing)}")
        read = {n: inputs[n] for n in self.session.inputs}
        return [output[:count] for output in self.session.run(outputs, read, pictures=len(indices))]

    def _check_score(self, feeds: Arrays) -> bool:
        """Compares the unmasked image's score with the scoring graph's.

        Returns False, to check again later, where the model itself gives no finite number. Raises ModelError where the
        scores differ.
        """
        mask = self.opened.network.identity_masks(1)
        return self._agrees(feeds, *self._run_samples(feeds, mask, np.zeros(1, np.int64)))

    def _agrees(self, feeds: Arrays, scores: Floats, gradient: Floats) -> bool:
        """_check_score() of what the graph gave for the unmasked image."""
        network = self.opened.network
        expected, largest = network.reference_score(feeds, network.identity_masks(1), self.score)
        if not np.isfinite(expected):
            return False
        if scores.shape != (1,) or gradient.shape[1:] != self._sample_shape():
            raise ModelError(
                f"the step graph gives a score {list(scores.shape)} and a gradient {list(gradient.shape)} for one "
                f"sample, where [1] and {[1, *self._sample_shape()]} are needed"
            )
        score = float(scores[0])
        scale = max(abs(expected), 1e-3) if self.score is Score.PROBABILITY else max(largest, 1e-6)
        limit = (PROBABILITY_TOLERANCE if self.score is Score.PROBABILITY else SCORE_TOLERANCE) * scale
        if not abs(score - expected) <= limit:
            raise ModelError(
                f"the graph with the gradient scores the picture {score:.5g} and the model itself {expected:.5g}, so "
                f"its gradient is not used; a step graph of your own was made of another model or score, else please "
                f"report this"
            )
        return True

    def _sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample's gradient."""
        opened = self.opened
        return {
            Wrt.MAPS: (1, *opened.network.grid),
            Wrt.IMAGE: opened.anatomy.image.shape(opened.size)[1:],
            Wrt.FEATURES: tuple(int(d or 0) for d in opened.anatomy.features.shape[1:]),
        }[self.wrt]

    def _check_batch(self, feeds: Arrays, maps: Masks) -> bool:
        """Compares two samples in one run with each alone. Where they differ, every sample runs alone from now on."""
        pair = np.arange(2)
        try:
            _, joint = self._run_samples(feeds, maps, pair)
        except OutOfMemory:
            return False  # run() makes the chunks smaller; check again later
        alone = np.concatenate([self._run_samples(feeds, maps, pair[i : i + 1])[1] for i in range(2)])
        for a, b in zip(joint.astype(np.float64), alone.astype(np.float64), strict=True):
            if np.isfinite(b).all() and not np.linalg.norm(a - b) <= GRADIENT_TOLERANCE * np.linalg.norm(b):
                self.batch, self.runs_alone = 1, True
        return True
