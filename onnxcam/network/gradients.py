"""What an opened network can do beside scoring masks: gradients, and running its tail alone.

Each is a graph of its own, built and opened when a method first asks for it, so that a method pays for what it needs.
"""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError, ModelError, UndefinedSaliency
from onnxcam.network.dry_run import PATIENCE, noise
from onnxcam.network.gradient_session import GradientSession, ScoreAndGradient, Tail
from onnxcam.network.opening import OpenedModel
from onnxcam.network.scorer import OUTPUT
from onnxcam.network.target_rows import rows_of
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.analysis.tracing import build_tracer
from onnxcam.surgeon.autodiff.driver import MissingRule
from onnxcam.surgeon.autodiff.rules.guided import GuidedRules
from onnxcam.surgeon.graphs import masked_score, score_gradient
from onnxcam.surgeon.graphs.score_gradient import GRADIENT, SCORE, Traces, Wrt, wrt_tensor
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.loading import ModelFile
from onnxcam.surgeon.passes.opset import blank_weights
from onnxcam.surgeon.passes.single_precision import convert_to_single_precision
from onnxcam.types import Arrays, Floats, Masks, Note, NoteCode, Score

FLOAT, INT64 = 1, 7
"""ONNX's numbers of these types."""


def step_graph(opened: OpenedModel, score: Score, wrt: Wrt, *, guided: bool = False) -> Model:
    """The graph that gives each row's score and its gradient. Raises MissingGradient."""
    output, tensor = OUTPUT[score], wrt_tensor(wrt, opened.anatomy)
    model = score_gradient.make_differentiable(scoring_graph(opened), output, tensor)
    if not guided:
        return score_gradient.step_model(model, output, tensor, _traces(opened, model))
    rules = GuidedRules()
    made = score_gradient.step_model(model, output, tensor, _traces(opened, model), rules.overrides)
    if not rules.relu_count:
        raise UndefinedSaliency(
            "guided backpropagation changes what passes a ReLU, and this model has none on the way; use gradient or "
            "smooth-grad"
        )
    return made


def why_no_gradient(opened: OpenedModel) -> tuple[list[MissingRule], str | None]:
    """The operators without a rule, and what else stands in the way; ([], None) where gradients work."""
    missing = without_rules(opened)
    if missing:
        return missing, "operators without a gradient rule"
    try:
        step_graph(opened, Score.LOGIT, Wrt.MAPS)
    except ModelError as error:
        return [], str(error)
    return [], None


def without_rules(opened: OpenedModel) -> list[MissingRule]:
    """The operators between the picture and the score that no gradient rule covers."""
    return score_gradient.decompose(scoring_graph(opened), masked_score.LOGIT, masked_score.MAPS)[1]


def scoring_graph(opened: OpenedModel) -> Model:
    """The scoring graph in float32 throughout."""
    network, image = opened.network, opened.anatomy.image
    return masked_score.scoring_model(
        convert_to_single_precision(opened.model, image.name),
        replace(opened.anatomy, image=replace(image, dtype="float32")),
        opened.size,
        with_fill=network.with_fill,
        batch=network.fixed,
        extra=network.extra,
        form=network.form,
    )


def _traces(opened: OpenedModel, model: Model) -> Traces:
    """Two runs without the heavy weights show which entries of which shapes depend on the number of rows."""
    traced = build_tracer(blank_weights(model))
    session = Session(ir.to_bytes(traced.model), ("cpu",), optimise=False)
    fixed = opened.network.fixed
    found = []
    try:
        for count in (2, 3) if fixed is None else (fixed,):
            feeds = {n: a for n, a in noise_rows(opened, count).items() if n in session.inputs}
            results = session.run(traced.outputs, feeds, seconds=PATIENCE)
            found.append(traced.read(dict(zip(traced.outputs, results, strict=True))))
    finally:
        session.close()
    return Traces(found[0], found[-1])


def noise_rows(opened: OpenedModel, count: int) -> dict[str, npt.NDArray[Any]]:
    """What a step graph is fed for `count` rows of one picture of noise."""
    image = replace(opened.anatomy.image, dtype="float32")
    picture = np.repeat(noise(image, image.shape(opened.size)), count, axis=0)
    return {
        **opened.inputs,
        masked_score.IMAGE: picture,
        masked_score.FILL: picture,
        masked_score.MAPS: np.random.default_rng(0).random((count, 1, *opened.network.grid), np.float32),
        **rows_of(opened.network.blank_targets(), np.zeros(count, np.int64)),
    }


class GradientRunner:
    """An opened network with its gradients and its tail; safe to share between threads."""

    def __init__(self, opened: OpenedModel, step: bytes | None = None) -> None:
        """step: a graph of the contract in stepping.py that gives d score / d maps in place of the built-in one."""
        self.opened = opened
        self._step = step
        self._lock = threading.Lock()
        self._steps: dict[tuple[Score, Wrt, bool], GradientSession] = {}
        self._tail: Tail | None = None
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self.opened.network.close()
            for steps in self._steps.values():
                steps.session.close()
            if self._tail is not None:
                self._tail.session.close()

    def gradient(
        self, feeds: Arrays, maps: Masks, score: Score, wrt: Wrt, *, whole: Arrays, guided: bool = False
    ) -> ScoreAndGradient:
        """(N,) scores and (N,...) gradients of the rows.

        feeds: a picture for all rows or one for each, and a target a row. whole: the same for one row of the picture as
        it is, by which the graph is checked when it is first used.
        """
        return self._opened_steps(score, wrt, guided).run(feeds, maps, whole)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What has to be said about the graphs that were opened."""
        apart = any(steps.apart for steps in self._steps.values())
        text = "rows of a batch change each other's gradients, so each went alone"
        return (Note(NoteCode.ROWS_APART, text),) if apart else ()

    def tail(self, feeds: Arrays, features: Floats, score: Score) -> Floats:
        """(N,T) of the network behind features (N,...) in the feature tensor's own axes."""
        with self._lock:
            self._check_open()
            if self._tail is None:
                self._tail = Tail(self.opened)
            tail = self._tail
        return tail.run(feeds, features, score)

    def _opened_steps(self, score: Score, wrt: Wrt, guided: bool) -> GradientSession:
        key = (score, wrt, guided)
        with self._lock:
            self._check_open()
            if key not in self._steps:
                given = self._step if wrt is Wrt.MAPS else None
                model = given if given is not None else ir.to_bytes(step_graph(self.opened, score, wrt, guided=guided))
                self._steps[key] = GradientSession(self.opened, model, score, wrt, self._held())
            return self._steps[key]

    def _held(self) -> int:
        """Bytes that all tensors of one picture take together."""
        shapes = self.opened.shapes.values()
        return 4 * sum(int(np.prod([d or 1 for d in shape], dtype=np.int64)) for shape in shapes)

    def _check_open(self) -> None:
        if self._closed:
            raise InferenceError("this explainer is closed")


def check_step(file: ModelFile, opened: OpenedModel, score: Score, sha256: str) -> None:
    """Raises ModelError where a step graph does not fit the model: its inputs, outputs, shapes or score."""
    grid, image = opened.network.grid, opened.anatomy.image
    inputs = {v.name: _sides(v) for v in file.proto.graph.input}
    outputs = {v.name for v in file.proto.graph.output}
    expected: Mapping[str, tuple[int, ...]] = {
        masked_score.IMAGE: image.shape(opened.size)[1:], masked_score.MAPS: (1, *grid), masked_score.TARGETS: (),
    }  # fmt: skip
    if opened.anatomy.logits.kind is not Kind.CLASSES:
        raise ModelError("a step graph scores classes, and this model is asked about something else")
    if set(inputs) != set(expected) or not {SCORE, GRADIENT} <= outputs:
        raise ModelError(
            f"the step graph must take {', '.join(expected)} and give {SCORE} and {GRADIENT}; it takes "
            f"{', '.join(inputs) or 'nothing'} and gives {', '.join(sorted(outputs))} (see tools/export_step.py)"
        )
    types = {v.name: v.type.tensor_type.elem_type for v in file.proto.graph.input}
    wrong = [n for n in expected if types[n] != (INT64 if n == masked_score.TARGETS else FLOAT)]
    closed = [n for n, found in inputs.items() if found[:1] != (opened.network.fixed,) and found[:1] != (None,)]
    if wrong or closed:
        raise ModelError(
            f"the step graph's inputs must be float32, its targets int64, with a first axis that takes any number of "
            f"rows; not so: {', '.join(dict.fromkeys([*wrong, *closed]))}"
        )
    for name, sides in expected.items():
        found = inputs[name][1:]
        if len(found) != len(sides) or any(f not in (None, s) for f, s in zip(found, sides, strict=True)):
            raise ModelError(
                f"the step graph was made for another model: its {name} is a row of {list(found)}, and this model's "
                f"is {list(sides)}"
            )
    metadata = {p.key: p.value for p in file.proto.metadata_props}
    made_of = metadata.get("onnxcam.model_sha256")
    if made_of not in (None, sha256):
        raise ModelError("the step graph was made of another model file (its metadata names another sha256)")
    named = metadata.get("onnxcam.score")
    if named not in (None, str(score)):
        raise ModelError(f"the step graph scores the {named}, and the {score} is asked for; choose with --score")


def _sides(value: Any) -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim)
