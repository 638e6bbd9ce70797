"""Integrated gradients as a graph: a Loop over places between the baseline and the image, with the model inside.

methods/integrated_gradients.py is the same in numpy. Each turn runs AT_ONCE images of every map, and their gradients;
way_places.py says where.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from onnxcam.compiler.batch_graph import LOGITS, differentiable_model, given_targets, only_sound
from onnxcam.compiler.element_types import DOUBLE, FLOAT, INT64
from onnxcam.compiler.loop_body import LoopBody
from onnxcam.compiler.pixel_gradients import channels_first, shown_attribution
from onnxcam.compiler.prepared import Prepared
from onnxcam.compiler.publishing import publish_explanation
from onnxcam.compiler.way_places import (
    BEHIND,
    NOWHERE,
    Plan,
    in_turn,
    of_turn,
    plan_of,
    rough_places,
    weights_of_places,
)
from onnxcam.errors import CompileError
from onnxcam.methods.pixel_maps import AT_ONCE
from onnxcam.surgeon import ir
from onnxcam.surgeon.autodiff.driver import gradients
from onnxcam.surgeon.autodiff.rules.registry import Ops
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.graft import graft
from onnxcam.surgeon.graphs.masked_score import tensor_named
from onnxcam.surgeon.graphs.score_gradient import Traces
from onnxcam.surgeon.ir import END, Model, Shape, Value

STEP = "step"
"""Prefix of the model's names inside the Loop."""


def integrated_gradients(prepared: Prepared) -> Model:
    """A builder. Raises CompileError for a baseline that is neither zero nor the mean colour, and MissingGradient."""
    _check(prepared)
    plan = plan_of(int(prepared.method.options["steps"]))
    forward, traces = differentiable_model(prepared, prepared.anatomy.image.name)
    model = _around(forward)
    b = Builder(model, "onnxcam/compiled")
    way = _way(model, b, prepared)
    turn = _Turn(prepared, plan, way, forward, traces, LoopBody(model, "onnxcam/way"))
    places, target, slopes, *own = turn.run(b)
    raw = _integral(model, b, weights_of_places(b, places, plan), slopes, plan, prepared)
    zero, count = b.constant([0], np.int64), way.maps
    types = {str(value.name): value.type for value in forward.graph.outputs}
    raw, target = (b("Slice", x, zero, count, zero) for x in (only_sound(b, raw, len(prepared.size)), target))
    for output, value in zip(prepared.opened.model.graph.outputs, own, strict=True):
        first = b("Gather", value, b.constant(0, np.int64), axis=0, name=str(output.name))
        first.type, first.shape = types[str(output.name)], output.shape
        model.graph.outputs.append(first)
    publish_explanation(model, b, shown_attribution(b, raw, prepared.size), raw, target, prepared.size, "maps")
    return ir.tidy(model)


def _check(prepared: Prepared) -> None:
    fill = prepared.method.options["fill"]
    if fill not in ("zero", "mean"):
        raise CompileError(f"a compiled file starts the way at zero or at the mean colour (fill), not at {fill}")
    if prepared.fixed is not None:
        raise CompileError(
            "integrated-gradients runs several images together, and this model takes one image a run; compile gradient"
        )
    sequences = ir.sequences(prepared.opened.model)
    if name := next((v.name for v in prepared.opened.model.graph.outputs if v.name in sequences), None):
        raise CompileError(
            f"the model's output {name!r} is a sequence, and integrated-gradients runs the model in a loop, which "
            f"carries tensors; remove that output, or compile gradient"
        )


def _around(forward: Model) -> Model:
    """A model with the inputs of `forward`, its opset and its metadata, and nothing else."""
    inputs = [onnx_ir.Value(name=v.name, type=v.type, shape=v.shape) for v in forward.graph.inputs]
    graph = onnx_ir.Graph(inputs, [], nodes=[], opset_imports=dict(forward.opset_imports), name=forward.graph.name)
    return Model(graph, ir_version=forward.ir_version, metadata_props=dict(forward.metadata_props))


@dataclass(frozen=True, eq=False)
class _Way:
    """From the baseline to the image, each (R,...) in the model's layout. given: (R,) targets.

    images, rows, maps: (1,) N, R, and how many maps are published: R, and none where no target is fed.
    """

    baseline: Value | None
    change: Value
    images: Value
    rows: Value
    maps: Value
    given: Value


def _way(model: Model, b: Builder, prepared: Prepared) -> _Way:
    entry = prepared.anatomy.image
    image, given = tensor_named(model, entry.name), given_targets(model, prepared)
    zero = b.constant([0], np.int64)
    images, targets = (b("Gather", b("Shape", x), zero, axis=0) for x in (image, given))
    one = b.constant([1], np.int64)
    rows = b("Where", b("Greater", targets, one), targets, images)
    maps = b("Where", b("Equal", targets, zero), zero, rows)
    image = b("Expand", image, b("Concat", rows, b.constant([1] * (len(entry.layout) - 1), np.int64), axis=0))
    # Without a target the images run all the same, for the model's own outputs.
    some = b("Slice", b("Concat", given, zero, axis=0), zero, b("Max", targets, one), zero)
    given = b("Expand", some, rows)
    if prepared.method.options["fill"] == "zero":
        return _Way(None, image, images, rows, maps, given)
    sides = [i for i, letter in enumerate(entry.layout) if letter in entry.letters]
    baseline = b.reduce("ReduceMean", image, sides)
    return _Way(baseline, b("Sub", image, baseline), images, rows, maps, given)


@dataclass(frozen=True, eq=False)
class _Turn:
    """One turn of the Loop. forward, traces: the model that runs in it. body: where it is built."""

    prepared: Prepared
    plan: Plan
    way: _Way
    forward: Model
    traces: Traces
    body: LoopBody

    def run(self, outer: Builder) -> Sequence[Value]:
        """(places (R,slots), target (R,), slopes (turns,R,AT_ONCE,pixels), the model's own outputs, each turn's)."""
        body, b, plan = self.body, self.body.b, self.plan
        places, logits, totals = (body.state(name, DOUBLE) for name in ("places", "logits", "totals"))
        target = body.state("target", INT64)
        here, is_place = self._places(places, logits, totals)
        rows = self._images(here)
        outputs = self._forward(rows)
        target_now = self._target(outputs[LOGITS], target)
        chosen = self._chosen(target_now)
        slope = self._slope(self._gradient(rows, outputs[LOGITS], chosen))
        total = b.reduce("ReduceSum", b.cast(slope, DOUBLE), [2], keepdims=False)
        score = b.reduce("ReduceSum", b("Mul", outputs[LOGITS], chosen), [1], keepdims=False)
        score = b.cast(b.reshape(score, [-1, AT_ONCE]), DOUBLE)
        here = b("Where", is_place, here, b.constant(NOWHERE, np.float64))
        final = [
            in_turn(b, state, x, body.turn, plan) for state, x in ((places, here), (logits, score), (totals, total))
        ]
        names = [str(v.name) for v in self.prepared.opened.model.graph.outputs]
        of_model = [self._of_images(outputs[name], self.traces.shapes.get(name, (None,))) for name in names]
        shape = outer("Concat", self.way.rows, outer.constant([plan.slots], np.int64), axis=0)
        nowhere, zero = (
            outer("ConstantOfShape", shape, value=onnx_ir.tensor(np.asarray([x], np.float64))) for x in (NOWHERE, 0)
        )
        ends = body.run(
            outer, plan.turns, initial=[nowhere, zero, zero, self.way.given], final=[*final, target_now],
            collected=[slope, *of_model],
        )  # fmt: skip
        return [ends[0], *ends[3:]]

    def _places(self, places: Value, logits: Value, totals: Value) -> tuple[Value, Value]:
        """((R,AT_ONCE) the places of this turn, (AT_ONCE,) which of them count). What does not count is the image."""
        b, turn = self.body.b, self.body.turn
        even = of_turn(b, self.plan.even, np.float64, turn)
        rough = rough_places(b, places, logits, totals, self.plan)
        here = b("Where", b("Less", even, b.constant(BEHIND, np.float64)), even, rough)
        count = of_turn(b, self.plan.counts, np.int64, turn)
        is_place = b("Less", b.constant(np.arange(AT_ONCE), np.int64), count)
        return b("Where", is_place, here, b.constant(1, np.float64)), is_place

    def _images(self, here: Value) -> Value:
        """(R*AT_ONCE,...) the images at these places."""
        b, way, entry = self.body.b, self.way, self.prepared.anatomy.image
        at = b.reshape(b.cast(here, FLOAT), [0, AT_ONCE] + [1] * (len(entry.layout) - 1))
        images = b("Mul", at, b.unsqueeze(way.change, [1]))
        if way.baseline is not None:
            images = b("Add", b.unsqueeze(way.baseline, [1]), images)
        return b.reshape(images, [-1, *entry.shape(self.prepared.size)[1:]])

    def _forward(self, rows: Value) -> Mapping[str, Value]:
        """The outputs of the model on the images."""
        b, around = self.body.b, self.way.change.producer()
        assert around is not None
        inputs = {self.prepared.anatomy.image.name: rows}
        for name, batched in self.prepared.opened.network.extra.items():
            value = next(v for v in around.graph.inputs if v.name == name)  # type: ignore[union-attr]
            inputs[name] = self._repeated(b, value, len(self.prepared.opened.inputs[name].shape)) if batched else value
        return graft(self.body.model, self.forward, inputs, STEP)

    def _repeated(self, b: Builder, value: Value, rank: int) -> Value:
        """An extra input (N,...) for every image of this turn."""
        sides = b("Shape", value)
        rest = b("Slice", sides, b.constant([1], np.int64), b.constant([rank], np.int64))
        ones = b.constant([1] * (rank - 1), np.int64)
        value = b("Expand", value, b("Concat", self.way.rows, ones, axis=0))
        wide = b(
            "Expand", b.unsqueeze(value, [1]), b("Concat", self.way.rows, b.constant([AT_ONCE], np.int64), rest, axis=0)
        )
        return b("Reshape", wide, b("Concat", b.constant([-1], np.int64), rest, axis=0))

    def _target(self, logits: Value, target: Value) -> Value:
        """(R,) the class of each map, which the first turn finds: its first place is the image."""
        b = self.body.b
        table = b.reshape(logits, [-1, AT_ONCE, self.prepared.anatomy.logits.classes])
        best = b("ArgMax", b("Gather", table, b.constant(0, np.int64), axis=1), axis=1, keepdims=0)
        resolved = b("Where", b("Less", target, b.constant(0, np.int64)), best, target)
        return b("Where", b("Equal", self.body.turn, b.constant(0, np.int64)), resolved, target)

    def _chosen(self, target: Value) -> Value:
        """(R*AT_ONCE,classes) float32: 1 at the class of each image's map."""
        b = self.body.b
        numbers = b.constant(np.arange(self.prepared.anatomy.logits.classes), np.int64)
        chosen = b.cast(b("Equal", b.unsqueeze(target, [1, 2]), numbers), FLOAT)
        return b.reshape(b("Tile", chosen, b.constant([1, AT_ONCE, 1], np.int64)), [-1, numbers.shape[0]])  # type: ignore[index,list-item]

    def _gradient(self, rows: Value, logits: Value, chosen: Value) -> Value:
        traces, image = self.traces, self.prepared.anatomy.image.name
        shapes = {f"{STEP}/{name}": shape for name, shape in traces.shapes.items()}
        shapes[str(rows.name)] = traces.shapes[image]
        known = {f"{STEP}/{name}": array for name, array in traces.known.items()}
        ops = Ops(self.body.model, "onnxcam/gradient", FLOAT)
        (gradient,) = gradients(self.body.model, ops, {logits: chosen}, [rows], shapes=shapes, known=known)
        return gradient

    def _slope(self, gradient: Value) -> Value:
        """(R,AT_ONCE,pixels): the gradient along the way, summed over the colours."""
        b, image, size = self.body.b, self.prepared.anatomy.image, self.prepared.size
        pixels = int(np.prod(size))
        along = b.reshape(channels_first(b, gradient, image), [-1, AT_ONCE, image.channels, pixels])
        change = b.reshape(channels_first(b, self.way.change, image), [-1, 1, image.channels, pixels])
        return b.reduce("ReduceSum", b("Mul", along, change), [2], keepdims=False)

    def _of_images(self, output: Value, shape: Shape) -> Value:
        """What the model gives for the images themselves, in the first turn. shape: with None at the axis of images.

        A weight stays as it is, and so does an output of a fixed shape.
        """
        if output.const_value is not None or None not in shape:
            return output
        b = self.body.b
        zero, step, axis = (b.constant([x], np.int64) for x in (0, AT_ONCE, shape.index(None)))
        each = b("Slice", output, zero, b.constant([END], np.int64), axis, step)
        return b("Slice", each, zero, self.way.images, axis)


def _integral(model: Model, b: Builder, weights: Value, slopes: Value, plan: Plan, prepared: Prepared) -> Value:
    """(R,1,*size) float32: the slopes (turns,R,AT_ONCE,pixels) times their weights (R,slots), summed in float64."""
    by_turn = b("Transpose", b.reshape(weights, [-1, plan.turns, 1, AT_ONCE]), perm=[1, 0, 2, 3])
    body = LoopBody(model, "onnxcam/integral")
    total, inner = body.state("total", DOUBLE), body.b
    weight, slope = (inner("Gather", x, body.turn, axis=0) for x in (by_turn, slopes))
    added = inner("Add", total, inner("MatMul", weight, inner.cast(slope, DOUBLE)))
    pixels = int(np.prod(prepared.size))
    rows = b("Gather", b("Shape", weights), b.constant([0], np.int64), axis=0)
    shape = b("Concat", rows, b.constant([1, pixels], np.int64), axis=0)
    start = b("ConstantOfShape", shape, value=onnx_ir.tensor(np.zeros(1, np.float64)))
    (raw,) = body.run(b, plan.turns, initial=[start], final=[added])
    return b.cast(b.reshape(raw, [-1, 1, *prepared.size]), FLOAT)
