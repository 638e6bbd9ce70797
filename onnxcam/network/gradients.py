"""GradientRunner: an opened network with its gradients and its tail, for methods that need more than scores of masks.

Each kind of gradient is a graph of its own, a step graph (one run is one step of a search): image, masks and targets
in, scores and their gradient out. It is built by gradient_graphs.py and opened when a method first needs
it. probe.py calls the runner; gradient_session.py and tail.py run the graphs. `check_step` checks a step graph that the
caller gives.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import MissingGradient, ModelError, UndefinedSaliency
from onnxcam.network.opening import OpenedModel
from onnxcam.network.single_flight import SingleFlight
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.surgeon.graphs.tensor_names import GRADIENT, SCORE, Wrt
from onnxcam.surgeon.loading import ModelFile
from onnxcam.types import Arrays, Floats, Masks, Note, NoteCode, PictureGradient, Score

if TYPE_CHECKING:  # each is loaded when a method or a metric asks for it first
    from onnxcam.network.box_output import BoxOutput
    from onnxcam.network.gradient_session import AnswerAndGradient, GradientSession, ScoreAndGradient
    from onnxcam.network.ranked_scorer import RankedScorer
    from onnxcam.network.tail import Tail

FLOAT, INT64 = 1, 7
"""ONNX's codes of these types."""
ANSWER = (tensor_names.FEATURES, tensor_names.LOGITS)
"""Outputs of the scoring graph from which a picture's targets are resolved."""
BY = {
    PictureGradient.FEATURES: (Wrt.FEATURES, False),
    PictureGradient.IMAGE: (Wrt.IMAGE, False),
    PictureGradient.GUIDED: (Wrt.IMAGE, True),
}
"""The tensor to differentiate by, and whether as guided backpropagation does."""


class GradientRunner:
    """An opened network with its gradients and its tail. Threads may share it."""

    def __init__(self, opened: OpenedModel, step: bytes | None = None) -> None:
        """step: a step graph of the caller that gives d score / d maps, in place of the built one."""
        self.opened = opened
        self._step = step
        self._sessions: SingleFlight[tuple[Score, Wrt, bool], GradientSession]
        self._sessions = SingleFlight(lambda opened: opened.session.close())
        self._tails: SingleFlight[None, Tail] = SingleFlight(lambda tail: tail.session.close())
        self._sides: SingleFlight[None, BoxOutput] = SingleFlight(lambda sides: sides.session.close())
        self._ranked: SingleFlight[None, RankedScorer] = SingleFlight(lambda ranked: ranked.close())

    def close(self) -> None:
        """Frees all sessions, also those that are being opened. Later calls raise InferenceError."""
        self.opened.close()
        self._sessions.close()
        self._tails.close()
        self._sides.close()
        self._ranked.close()

    def gradient(
        self, feeds: Arrays, maps: Masks, score: Score, wrt: Wrt, *, check_feeds: Arrays, guided: bool = False
    ) -> "ScoreAndGradient":
        """(N,) scores and (N,...) gradients of N samples with respect to `wrt`.

        feeds: one image for all samples or one for each, and one target a sample. maps: (N,1,*grid) masks. check_feeds:
        the feeds of one unmasked sample, by which the graph is checked when it is first used. guided: as guided
        backpropagation changes it. Raises MissingGradient, ModelError, InferenceError, and UndefinedSaliency for guided
        backpropagation without a ReLU.
        """
        return self._session(score, wrt, guided).run(feeds, maps, check_feeds)

    def answer(self, feeds: Arrays, gradient: PictureGradient, target: int) -> "AnswerAndGradient | None":
        """The unmasked picture's answer and a gradient of it, in one run. target: a class, or PREDICTION.

        None where two runs are needed: for what is no class, where the gradient is computed in another precision or on
        another device than the answer, and where there is no gradient, which gradient() then explains. Raises
        ModelError, InferenceError.
        """
        if not self.answers_with_gradient:
            return None
        try:
            session = self._session(Score.LOGIT, *BY[gradient])
        except (MissingGradient, UndefinedSaliency):
            return None
        return session.answer(feeds, target)

    @cached_property
    def answers_with_gradient(self) -> bool:
        """Whether one run can give the answer and a gradient of it, where there is one."""
        opened = self.opened
        logits = opened.anatomy.logits
        a_class = logits.kind is Kind.CLASSES and not logits.two_sided and opened.selection is None
        return a_class and opened.computes_in_floats and opened.network.provider == "cpu"

    def _session(self, score: Score, wrt: Wrt, guided: bool) -> "GradientSession":
        return self._sessions.get((score, wrt, guided), lambda: self._open_session(score, wrt, guided))

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader of the result should know about the gradients."""
        alone = any(gradient_session.runs_alone for gradient_session in self._sessions.values)
        text = "samples of a batch change each other's gradients, so each went alone"
        return (Note(NoteCode.SAMPLES_APART, text),) if alone else ()

    def tail(self, feeds: Arrays, features: Floats, score: Score) -> Floats:
        """(N,T) scores of the network's tail on features (N,...) in the model's own layout."""
        from onnxcam.network.tail import Tail

        return self._tails.get(None, lambda: Tail(self.opened)).run(feeds, features, score)

    def sides(self, feeds: Arrays) -> npt.NDArray[np.float64]:
        """(boxes,4) of a detector that has them in another output than the scores."""
        from onnxcam.network.box_output import BoxOutput

        return self._sides.get(None, lambda: BoxOutput(self.opened)).run(feeds)

    @property
    def ranked(self) -> "RankedScorer":
        """What scores images with some of their pixels replaced; opened when first asked for."""
        from onnxcam.network.ranked_scorer import RankedScorer

        return self._ranked.get(None, lambda: RankedScorer(self.opened))

    def _open_session(self, score: Score, wrt: Wrt, guided: bool) -> "GradientSession":
        from onnxcam.network.gradient_session import GradientSession

        given, opened = self._step if wrt is Wrt.MAPS else None, self.opened
        with_answer = self.answers_with_gradient and wrt is not Wrt.MAPS and score is Score.LOGIT

        def graph() -> bytes:
            if given is not None:
                return given
            from onnxcam.network.gradient_graphs import step_graph
            from onnxcam.surgeon.graphs.score_gradient import with_prediction
            from onnxcam.surgeon.session_bytes import session_bytes

            if with_answer:
                return session_bytes(with_prediction(step_graph(opened, score, wrt, guided=guided, keep=ANSWER)))
            return session_bytes(step_graph(opened, score, wrt, guided=guided))

        if given is None:
            name = f"gradient {score} {wrt} {guided} {with_answer}"
            return GradientSession(opened, lambda: opened.graph(name, graph), score, wrt, self._activation_bytes())
        return GradientSession(opened, graph, score, wrt, self._activation_bytes())

    def _activation_bytes(self) -> int:
        """Bytes of all tensors of one image together."""
        shapes = self.opened.shapes.values()
        return 4 * sum(int(np.prod([d or 1 for d in shape], dtype=np.int64)) for shape in shapes)


def check_step(file: ModelFile, opened: OpenedModel, score: Score, sha256: str) -> None:
    """Raises ModelError unless the step graph fits the model: its inputs, outputs, shapes, score and origin.

    sha256: of the model's file, which the graph's metadata may name.
    """
    grid, image = opened.network.grid, opened.anatomy.image
    inputs = {v.name: _sides(v) for v in file.proto.graph.input}
    outputs = {v.name for v in file.proto.graph.output}
    expected: Mapping[str, tuple[int, ...]] = {
        tensor_names.IMAGE: image.shape(opened.size)[1:], tensor_names.MAPS: (1, *grid), tensor_names.TARGETS: (),
    }  # fmt: skip
    if opened.anatomy.logits.kind is not Kind.CLASSES:
        raise ModelError("a step graph scores classes, and something else of this model is explained")
    if set(inputs) != set(expected) or not {SCORE, GRADIENT} <= outputs:
        raise ModelError(
            f"the step graph must take {', '.join(expected)} and give {SCORE} (N,) and {GRADIENT} (N,1,"
            f"{','.join(map(str, grid))}), d score / d maps; it takes {', '.join(inputs) or 'nothing'} and gives "
            f"{', '.join(sorted(outputs)) or 'nothing'}"
        )
    types = {v.name: v.type.tensor_type.elem_type for v in file.proto.graph.input}
    wrong_types = [n for n in expected if types[n] != (INT64 if n == tensor_names.TARGETS else FLOAT)]
    wrong_batches = [n for n, shape in inputs.items() if shape[:1] not in ((opened.network.fixed,), (None,))]
    if wrong_types or wrong_batches:
        raise ModelError(
            f"the step graph's inputs must be float32, its targets int64, with a first axis that takes any number of "
            f"samples; not so: {', '.join(dict.fromkeys([*wrong_types, *wrong_batches]))}"
        )
    for name, sides in expected.items():
        shape = inputs[name][1:]
        if len(shape) != len(sides) or any(d not in (None, s) for d, s in zip(shape, sides, strict=True)):
            raise ModelError(
                f"the step graph was made for another model: one sample of its {name} is {list(shape)}, and this "
                f"model's is {list(sides)}"
            )
    metadata = {p.key: p.value for p in file.proto.metadata_props}
    if metadata.get("onnxcam.model_sha256") not in (None, sha256):
        raise ModelError("the step graph was made of another model file (its metadata names another sha256)")
    step_score = metadata.get("onnxcam.score")
    if step_score not in (None, str(score)):
        raise ModelError(f"the step graph scores the {step_score}, and the method the {score}; choose with --score")


def _sides(value: Any) -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim)
