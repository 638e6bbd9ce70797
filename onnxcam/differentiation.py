"""What an opened network can do beside scoring masks: gradients, and running its tail alone.

Each is a graph of its own, built and opened when a method first asks for it, so that a method pays for what it needs.
"""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.arrays import Floats, Masks, Score
from onnxcam.engine.batching import ON_DEVICE, PER_THREAD, choose_batch, free_memory, in_chunks
from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError, ModelError, OutOfMemory, UndefinedSaliency
from onnxcam.network import OUTPUT, Arrays
from onnxcam.preparation import PATIENCE, Opened, noise
from onnxcam.surgeon import graph, masking, stepping
from onnxcam.surgeon.anatomy import Kind
from onnxcam.surgeon.conversion import blank_weights
from onnxcam.surgeon.gradient import Missing
from onnxcam.surgeon.graph import Model
from onnxcam.surgeon.loading import read_model
from onnxcam.surgeon.precision import in_single_precision
from onnxcam.surgeon.rules.guided import Guided
from onnxcam.surgeon.stepping import GRADIENT, SCORE, Traces, Wrt, tensor_of
from onnxcam.surgeon.tail import GIVEN, tail_model
from onnxcam.surgeon.tracing import tracer

AGREEMENT = 1e-2
"""Of the largest number: what the change of opset and precision may do to a score."""
LOOSE = 5e-2
"""Of a probability: the same, which the softmax stretches."""
APART = 0.05
"""Of a gradient's length: what the rows of a batch may change in each other; kinks of ReLUs turn by rounding."""
FLOAT, INT64 = 1, 7
"""ONNX's numbers of these types."""
BACKWARD = 3
"""Times the memory of a forward pass that a step takes: what the way back reads is kept until then."""

Told = tuple[Floats, Floats]


def step_graph(opened: Opened, score: Score, wrt: Wrt, *, guided: bool = False) -> Model:
    """The graph that gives each row's score and its gradient. Raises MissingGradient."""
    output, tensor = OUTPUT[score], tensor_of(wrt, opened.anatomy)
    model = stepping.differentiable(scoring_graph(opened), output, tensor)
    if not guided:
        return stepping.step_model(model, output, tensor, _traces(opened, model))
    rules = Guided()
    made = stepping.step_model(model, output, tensor, _traces(opened, model), rules.rules)
    if not rules.rectified:
        raise UndefinedSaliency(
            "guided backpropagation changes what passes a ReLU, and this model has none on the way; use gradient or "
            "smooth-grad"
        )
    return made


def why_no_gradient(opened: Opened) -> tuple[list[Missing], str | None]:
    """The operators without a rule, and what else stands in the way; ([], None) where gradients work."""
    missing = without_rules(opened)
    if missing:
        return missing, "operators without a gradient rule"
    try:
        step_graph(opened, Score.LOGIT, Wrt.MAPS)
    except ModelError as error:
        return [], str(error)
    return [], None


def without_rules(opened: Opened) -> list[Missing]:
    """The operators between the picture and the score that no gradient rule covers."""
    return stepping.made_ready(scoring_graph(opened), masking.LOGIT, masking.MAPS)[1]


def scoring_graph(opened: Opened) -> Model:
    """The scoring graph in float32 throughout."""
    network, image = opened.network, opened.anatomy.image
    return masking.scoring_model(
        in_single_precision(opened.model, image.name),
        replace(opened.anatomy, image=replace(image, dtype="float32")),
        opened.size,
        with_fill=network.with_fill,
        batch=network.fixed,
        further=network.further,
        form=network.form,
    )


def _traces(opened: Opened, model: Model) -> Traces:
    """Two runs without the heavy weights show which entries of which shapes depend on the number of rows."""
    traced = tracer(blank_weights(model))
    session = Session(graph.to_bytes(traced.model), ("cpu",), optimise=False)
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


def noise_rows(opened: Opened, count: int) -> dict[str, npt.NDArray[Any]]:
    """What a step graph is fed for `count` rows of one picture of noise."""
    image = replace(opened.anatomy.image, dtype="float32")
    picture = np.repeat(noise(image, image.shape(opened.size)), count, axis=0)
    return {
        **opened.inputs,
        masking.IMAGE: picture,
        masking.FILL: picture,
        masking.MAPS: np.random.default_rng(0).random((count, 1, *opened.network.grid), np.float32),
        **rows_of(opened.network.blank_targets(), np.zeros(count, np.int64)),
    }


def rows_of(targets: Arrays, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """What the targets feed, one for each row."""
    axes = {masking.TARGETS: 0, masking.REGIONS: 1, masking.REFERENCES: 0}
    return {name: np.take(targets[name], rows, axes[name]) for name in axes if name in targets}


class Differentiated:
    """An opened network with its gradients and its tail; safe to share between threads."""

    def __init__(self, opened: Opened, step: bytes | None = None) -> None:
        """step: a graph of the contract in stepping.py that gives d score / d maps in place of the built-in one."""
        self.opened = opened
        self._step = step
        self._lock = threading.Lock()
        self._steps: dict[tuple[Score, Wrt, bool], _Steps] = {}
        self._tail: _Tail | None = None
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
    ) -> Told:
        """(N,) scores and (N,...) gradients of the rows.

        feeds: a picture for all rows or one for each, and a target a row. whole: the same for one row of the picture as
        it is, by which the graph is checked when it is first used.
        """
        return self._opened_steps(score, wrt, guided).run(feeds, maps, whole)

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be said about the graphs that were opened."""
        apart = any(steps.apart for steps in self._steps.values())
        return ("rows of a batch change each other's gradients, so each went alone",) if apart else ()

    def tail(self, feeds: Arrays, features: Floats, score: Score) -> Floats:
        """(N,T) of the network behind features (N,...) in the feature tensor's own axes."""
        with self._lock:
            self._check_open()
            if self._tail is None:
                self._tail = _Tail(self.opened)
            tail = self._tail
        return tail.run(feeds, features, score)

    def _opened_steps(self, score: Score, wrt: Wrt, guided: bool) -> "_Steps":
        key = (score, wrt, guided)
        with self._lock:
            self._check_open()
            if key not in self._steps:
                given = self._step if wrt is Wrt.MAPS else None
                model = (
                    given if given is not None else graph.to_bytes(step_graph(self.opened, score, wrt, guided=guided))
                )
                self._steps[key] = _Steps(self.opened, model, score, wrt, self._held())
            return self._steps[key]

    def _held(self) -> int:
        """Bytes that all tensors of one picture take together."""
        shapes = self.opened.shapes.values()
        return 4 * sum(int(np.prod([d or 1 for d in shape], dtype=np.int64)) for shape in shapes)

    def _check_open(self) -> None:
        if self._closed:
            raise InferenceError("this explainer is closed")


class _Steps:
    """A step graph, opened."""

    def __init__(self, opened: Opened, model: bytes, score: Score, wrt: Wrt, held: int) -> None:
        """held: bytes of all tensors of one row, which wait for the way back."""
        self.opened, self.score, self.wrt = opened, score, wrt
        wish = opened.wish
        self.session = Session(model, wish.providers, wish.threads, engine=wish.engine.uncaptured)
        network = opened.network
        most = PER_THREAD * self.session.threads if self.session.provider == "cpu" else ON_DEVICE
        memory = max(BACKWARD * opened.anatomy.bytes_per_picture, held)
        self.batch = network.fixed or choose_batch(memory, free_memory(), most, wish.batch)
        self._lock, self._agrees, self._parallel = threading.Lock(), False, network.fixed == 1
        self.apart = False

    def run(self, feeds: Arrays, maps: Masks, whole: Arrays) -> Told:
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

    def _rows(self, feeds: Arrays, maps: Masks, chosen: npt.NDArray[np.int64]) -> Told:
        """Of these rows, padded where the graph is bound to a number of them."""
        count = len(chosen)
        fixed = self.opened.network.fixed
        if fixed is not None and count < fixed:
            chosen = np.concatenate([chosen, np.repeat(chosen[-1:], fixed - count)])
        fed = {masking.MAPS: maps[chosen], **rows_of(feeds, chosen)}
        for name, array in feeds.items():
            if name in (masking.IMAGE, masking.FILL):
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
        mask = network.whole(1)
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


class _Tail:
    """The network behind its feature tensor, opened."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        network, wish = opened.network, opened.wish
        model = tail_model(opened.model, opened.anatomy, opened.size, batch=network.fixed, further=network.further)
        self.session = Session(graph.to_bytes(model), wish.providers, wish.threads, engine=wish.engine.uncaptured)
        self.batch = network.fixed or choose_batch(
            opened.anatomy.bytes_per_picture, free_memory(), ON_DEVICE, wish.batch
        )

    def run(self, feeds: Arrays, features: Floats, score: Score) -> Floats:
        fixed = self.opened.network.fixed
        batched = {masking.IMAGE, *(n for n, b in self.opened.network.further.items() if b)}

        def part(given: Floats) -> Floats:
            count = len(given)
            if fixed is not None and count < fixed:
                given = np.concatenate([given, np.repeat(given[-1:], fixed - count, axis=0)])
            fed: dict[str, npt.NDArray[Any]] = {GIVEN: np.ascontiguousarray(given, np.float32)}
            for name in self.session.inputs:
                if name in feeds:
                    fed[name] = np.repeat(feeds[name][:1], len(given), axis=0) if name in batched else feeds[name]
            return self.session.run([OUTPUT[score]], fed)[0][:count]

        return in_chunks(part, features, self.batch)


def check_step(model: bytes, opened: Opened, score: Score, sha256: str) -> None:
    """Raises ModelError where a step graph does not fit the model: its inputs, outputs, shapes or score."""
    file = read_model(model)
    grid, image = opened.network.grid, opened.anatomy.image
    inputs = {v.name: _sides(v) for v in file.proto.graph.input}
    outputs = {v.name for v in file.proto.graph.output}
    expected: Mapping[str, tuple[int, ...]] = {
        masking.IMAGE: image.shape(opened.size)[1:], masking.MAPS: (1, *grid), masking.TARGETS: (),
    }  # fmt: skip
    if opened.anatomy.logits.kind is not Kind.CLASSES:
        raise ModelError("a step graph scores classes, and this model is asked about something else")
    if set(inputs) != set(expected) or not {SCORE, GRADIENT} <= outputs:
        raise ModelError(
            f"the step graph must take {', '.join(expected)} and give {SCORE} and {GRADIENT}; it takes "
            f"{', '.join(inputs) or 'nothing'} and gives {', '.join(sorted(outputs))} (see tools/export_step.py)"
        )
    types = {v.name: v.type.tensor_type.elem_type for v in file.proto.graph.input}
    wrong = [n for n in expected if types[n] != (INT64 if n == masking.TARGETS else FLOAT)]
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
