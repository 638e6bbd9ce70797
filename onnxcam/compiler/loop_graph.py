"""A Loop whose body is the scoring graph of a model: one turn scores a few masks of the image, for all targets.

The first turn scores constant masks, which keep the image, so it gives what the unmasked image gives: the features, the
prediction and the model's own outputs. The model lies in the body because weights that a body reads from outside are
neither prepacked nor fused by onnxruntime, which takes three times as long. States keep their shape from turn to turn,
and nothing is conditional but the end: some runtimes give wrong numbers otherwise, and say nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir

from onnxcam.compiler.element_types import BOOL, DOUBLE, FLOAT, INT64, OLDEST
from onnxcam.compiler.interface import TARGET
from onnxcam.compiler.outputs_of_one import OneSample, outputs_of_one
from onnxcam.compiler.prepared import Prepared
from onnxcam.compiler.publishing import publish_explanation
from onnxcam.errors import CompileError
from onnxcam.network.gradient_graphs import step_graph
from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.cell_maps import cell_maps
from onnxcam.surgeon.graphs.finish_map import sound
from onnxcam.surgeon.graphs.masked_score import FEATURES, FILL, IMAGE, MAPS, rewire, scoring_model, tensor_named
from onnxcam.surgeon.graphs.score_gradient import Wrt
from onnxcam.surgeon.graphs.tensor_names import LOGITS, TARGETS
from onnxcam.surgeon.ir import Model, Value
from onnxcam.surgeon.passes.opset import raise_opset
from onnxcam.types import Score

LARGE_IMAGE = 4 * 2**20
"""Bytes of a layer, for one image, above which a turn takes fewer masks: they no longer fit a processor's cache."""


def rows_of_a_turn(prepared: Prepared) -> int:
    """How many masks a turn scores."""
    return prepared.fixed or (2 if prepared.anatomy.bytes_per_image > LARGE_IMAGE else 4)


@dataclass(frozen=True, eq=False)
class State:
    """A tensor that is carried from turn to turn. initial: before the first one, outside of the body. now: inside."""

    initial: Value
    now: Value


def step_body(prepared: Prepared, score: Score) -> Model:
    """The step graph, whose gradient is that of the masks, with the features and the model's own outputs.

    Raises MissingGradient.
    """
    keep = [FEATURES, LOGITS, *(str(v.name) for v in prepared.model.graph.outputs)]
    return step_graph(prepared.opened, score, Wrt.MAPS, keep=keep)


def body_model(prepared: Prepared) -> Model:
    """The scoring graph of the opened model in its own element types, with its own outputs."""
    model, network = prepared.model, prepared.opened.network
    if ir.opset(model) < OLDEST:
        model = raise_opset(model)
    return scoring_model(
        model, prepared.anatomy, prepared.size, with_fill=network.with_fill, batch=network.fixed, extra=network.extra,
        form=network.form, keep=[str(v.name) for v in model.graph.outputs],
    )  # fmt: skip


@dataclass(eq=False)
class LoopGraph:
    """A model that consists of a Loop, under construction, which a builder changes.

    body: what a turn computes; rows: masks of a turn. outside, b: add nodes outside of the body, and to it. image:
    (1,C,*size) float32, outside. target: (T,) int64 as it is fed. turn: the number of the turn; first: whether it is
    the one of the unmasked image. one_row_a_target: a search, whose targets have masks of their own. states: carried
    tensors, and their new values.
    """

    prepared: Prepared
    body: Model
    rows: int
    model: Model = field(init=False)
    outside: Builder = field(init=False)
    b: Builder = field(init=False)
    image: Value = field(init=False)
    target: Value = field(init=False)
    turn: Value = field(init=False)
    first: Value = field(init=False)
    one_row_a_target: bool = False
    states: list[tuple[State, Value]] = field(default_factory=list)
    _owned: list[tuple[str, OneSample, State]] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        body = self.body
        if self.prepared.fixed not in (None, 1):
            raise CompileError(
                f"this model is fixed to a batch of {self.prepared.fixed} and cannot be made dynamic, and "
                f"{self.prepared.method.name} explains one image a run; export it with a batch of 1 or any"
            )
        graph = onnx_ir.Graph([], [], nodes=[], opset_imports=dict(body.opset_imports), name=body.graph.name)
        self.model = Model(graph, ir_version=body.ir_version, producer_name=body.producer_name)
        self.model.metadata_props.update(body.metadata_props)
        self.outside, self.b = Builder(self.model, "onnxcam/compiled"), Builder(body, "onnxcam/turn")
        self.turn = _value("onnxcam/turn_number", INT64, [])
        self.first = self.b("Equal", self.turn, self.b.constant(0, np.int64))
        self._take_inputs()
        self._keep_outputs()

    @property
    def targets(self) -> int | str:
        """How many targets a run explains: any number where a text."""
        one = self.prepared.target is not None or (self.one_row_a_target and self.prepared.fixed is not None)
        return 1 if one else "targets"

    def _take_inputs(self) -> None:
        """Gives the model its own inputs for one image, and the target; the body reads them from outside."""
        image = self.prepared.anatomy.image.name
        read = {str(v.name): v for v in self.body.graph.inputs}
        for value in self.prepared.model.graph.inputs:
            name = str(value.name)
            if name != image and name not in read:
                continue
            source = value if name == image else read[name]
            shape = list(source.shape or [])
            if name == image:
                shape = list(self.prepared.anatomy.image.shape(self.prepared.size, 1))
            entry = _value(name, source.dtype or FLOAT, shape)
            self.model.graph.inputs.append(entry)
            if name == image:
                self.image = self.outside.cast(entry, FLOAT)
            else:
                rewire(source, entry)
        fixed = self.prepared.target
        if fixed is None:
            self.target = _value(TARGET, INT64, [self.targets])
            self.model.graph.inputs.append(self.target)
        else:
            self.target = self.outside.constant([fixed], np.int64)

    def _keep_outputs(self) -> None:
        """Carries the model's own outputs of the unmasked image."""
        outputs = [v for v in self.body.graph.outputs if v.name in {o.name for o in self.prepared.model.graph.outputs}]
        for value, one in zip(outputs, outputs_of_one(self.prepared, outputs, self.rows), strict=True):
            one = replace(one, dtype=value.dtype or one.dtype)  # a body in single precision gives other types
            carried = _carried(one.dtype)
            state = self.state(self.zeros(one.shape, carried))
            now = value
            if one.axis is not None:
                bounds = (self.b.constant([n], np.int64) for n in (0, 1, one.axis))
                now = self.b("Slice", value, *bounds)
            self.carry_first(state, now if carried == one.dtype else self.b.cast(now, carried))
            self._owned.append((str(value.name), one, state))
            value.name = f"{value.name}/of_a_turn"

    def zeros(self, shape: Sequence[int], dtype: onnx_ir.DataType, *, of_targets: bool = False) -> Value:
        """Zeros outside of the body, of this shape; of_targets: with T in front."""
        sides: Value = self.outside.constant(list(shape), np.int64)
        if of_targets:
            sides = self.outside("Concat", self.outside("Shape", self.target), sides, axis=0)
        fill = onnx_ir.tensor(np.zeros(1, dtype.numpy()))
        return self.outside("ConstantOfShape", sides, value=fill)

    def state(self, initial: Value) -> State:
        """A new carried tensor, which begins as `initial`; carry() says how it goes on."""
        self._count += 1
        return State(initial, onnx_ir.Value(name=f"onnxcam/turn/state_{self._count}"))

    def carry(self, state: State, value: Value) -> None:
        """The state's value for the next turn."""
        self.states.append((state, value))

    def carry_first(self, state: State, value: Value) -> Value:
        """Sets the state in the first turn and keeps it from then on. Returns it as it is behind this turn."""
        kept = self.b("Where", self.first, value, state.now)
        self.carry(state, kept)
        return kept

    @property
    def logits(self) -> Value:
        """(rows,classes) logits of the turn's masked images."""
        return tensor_named(self.body, LOGITS)

    def features(self) -> Value:
        """(1,K,*grid) float32 maps of the turn's first masked image."""
        features = self.prepared.anatomy.features
        first = self.b("Slice", tensor_named(self.body, FEATURES), *(self.b.constant([n], np.int64) for n in (0, 1, 0)))
        return cell_maps(self.b, first, features.order, features.sides)

    def choose_targets(self, times: int = 1) -> State:
        """Carries (T,) int64: the classes that are explained, the prediction where the target is below 0.

        The scoring graph scores these, each so many times, or class 0 in the place of a class that the model does not
        have.
        """
        state = self.state(self.zeros([], INT64, of_targets=True))
        first = self.b("Slice", self.logits, *(self.b.constant([n], np.int64) for n in (0, 1, 0)))
        best = self.b("ArgMax", first, axis=1, keepdims=0)
        zero = self.b.constant(0, np.int64)
        chosen = self.b("Where", self.b("Less", self.target, zero), best, self.target)
        chosen = self.carry_first(state, chosen)
        scored = self.b("Where", self.exists(self.b, chosen), chosen, zero)
        if times > 1:
            columns = self.b("Tile", self.b.unsqueeze(scored, [1]), self.b.constant([1, times], np.int64))
            scored = self.b.reshape(columns, [-1])
        rewire(_input(self.body, TARGETS), scored)
        return state

    def exists(self, b: Builder, chosen: Value) -> Value:
        """(T,) bool: whether the model has this class."""
        return b("Less", chosen, b.constant(self.prepared.anatomy.logits.classes, np.int64))

    def mask_with(self, maps: Value) -> None:
        """The masks (rows,1,*grid) that the turn scores."""
        rewire(_input(self.body, MAPS), maps)

    def see(self, image: Value) -> None:
        """The image that the body masks, where it is not the one outside."""
        rewire(_input(self.body, IMAGE), image)

    def fill_with(self, fill: Value | None) -> None:
        """The image, outside of the body, that replaces removed pixels; None for zeros."""
        if fill is not None:
            rewire(_input(self.body, FILL), fill)

    def close(self, goes_on: Value) -> dict[State, Value]:
        """Adds the Loop, which takes another turn while the bool `goes_on` holds. Returns the last value of each state.

        A builder goes on outside of the body, and ends with publish().
        """
        b, graph = self.b, self.body.graph
        rewire(_input(self.body, IMAGE), self.image)
        graph.inputs.clear()
        graph.outputs.clear()
        condition = _value("onnxcam/turn_goes_on", BOOL, [])
        graph.inputs.extend([self.turn, condition, *(state.now for state, _ in self.states)])
        graph.outputs.extend([b("Identity", goes_on), *(b("Identity", value) for _, value in self.states)])
        graph.sort()
        for value in (*graph.initializers.values(), *(v for node in graph for v in node.outputs)):
            value.type, value.shape = None, None  # else the file describes each
        self._record_types()
        graph.name = "onnxcam/turn"
        inputs = [None, None, *(state.initial for state, _ in self.states)]
        results = self.outside.several("Loop", *inputs, outputs=len(self.states), body=graph)
        ends = {state: result for (state, _), result in zip(self.states, results, strict=True)}
        for name, one, state in self._owned:
            value = ends[state]
            if _carried(one.dtype) != one.dtype:
                value = self.outside.cast(value, one.dtype)
            value.name, value.type, value.shape = name, onnx_ir.TensorType(one.dtype), onnx_ir.Shape(one.shape)
            self.model.graph.outputs.append(value)
        return ends

    def _record_types(self) -> None:
        """Gives what the body carries its element type, without which OpenVINO converts no Pow and no Reduce of it."""
        types = ir.recorded_types(self.model)
        for state, _ in self.states:
            dtype = types.get(str(state.initial.name))
            state.now.type = onnx_ir.TensorType(dtype) if dtype is not None else None

    def sound(self, raw: Value, chosen: Value, defined: Value | None = None) -> Value:
        """Raw maps (T,numbers) float32, with zeros in the place of those that the method does not have.

        Those are maps that hold NaN or infinity, or whose class the model does not have; and where `defined` (T,1) does
        not hold.
        """
        o = self.outside
        is_sound = o("And", sound(o, raw, [1]), o.unsqueeze(self.exists(o, chosen), [1]))
        if defined is not None:
            is_sound = o("And", is_sound, defined)
        return o("Where", is_sound, raw, o.constant(0, np.float32))

    def publish(self, shown: Value, raw: Value, chosen: Value) -> Model:
        """The finished model, from maps (T,1,*size) in [0,1], the raw ones (T,1,...), and the classes (T,)."""
        publish_explanation(self.model, self.outside, shown, raw, chosen, self.prepared.size, self.targets)
        return ir.tidy(self.model)


def _carried(dtype: onnx_ir.DataType) -> onnx_ir.DataType:
    """The type in which an output is carried: onnxruntime's Where lacks the others."""
    if dtype in (FLOAT, DOUBLE, INT64, onnx_ir.DataType.INT32):
        return dtype
    return FLOAT if dtype.is_floating_point() else INT64


def _value(name: str, dtype: onnx_ir.DataType, shape: Sequence[object]) -> Value:
    return onnx_ir.Value(name=name, type=onnx_ir.TensorType(dtype), shape=onnx_ir.Shape(shape))  # type: ignore[arg-type]


def _input(body: Model, name: str) -> Value:
    return next(v for v in body.graph.inputs if v.name == name)
