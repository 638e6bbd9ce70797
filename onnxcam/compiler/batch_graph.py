"""The model with its scores and its target, to which a method without a loop adds its map.

The file takes N images and T targets in one run, and gives max(N,T) maps: one of the two may be 1. Where the targets
are more than the images, what lies before the feature tensor runs once for each image, and only what follows it once
for each map.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir

from onnxcam.compiler.element_types import OLDEST
from onnxcam.compiler.feeds import feeds_of
from onnxcam.compiler.interface import TARGET
from onnxcam.compiler.prepared import Prepared
from onnxcam.compiler.publishing import publish_explanation
from onnxcam.compiler.rows import with_rows
from onnxcam.network.dry_run import noise
from onnxcam.network.gradient_graphs import traces_of
from onnxcam.surgeon import ir
from onnxcam.surgeon.autodiff.driver import gradients
from onnxcam.surgeon.autodiff.rules.registry import Ops, Rule
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.graphs.cell_maps import cell_maps
from onnxcam.surgeon.graphs.finish_map import finished, sound
from onnxcam.surgeon.graphs.masked_score import as_float, tensor_named
from onnxcam.surgeon.graphs.score_gradient import Traces, make_differentiable
from onnxcam.surgeon.graphs.score_heads import score_table
from onnxcam.surgeon.ir import Model, Shape, Value, new_input
from onnxcam.surgeon.passes.opset import raise_opset
from onnxcam.surgeon.passes.single_precision import convert_to_single_precision
from onnxcam.types import Arrays

LOGITS, PROBABILITIES = "onnxcam/compiled_logits", "onnxcam/compiled_probabilities"
LARGEST_STORED = 2**12
"""Entries of an upsampling matrix that a file stores; a larger one is made of two neighbours in each place."""


@dataclass(frozen=True, eq=False)
class Wrt:
    """The tensor that scores are differentiated by, with what gradients() reads: shapes and numbers of all tensors."""

    tensor: Value
    shapes: Mapping[str, Shape]
    known: Arrays


@dataclass(frozen=True, eq=False)
class BatchGraph:
    """A graph under construction, which a builder changes.

    model: the model's own inputs and outputs, and what was added. b: adds nodes. features: the feature tensor as real
    numbers in float32. logits, probabilities: (.,classes). target: (R,) int64, the class that each map explains.
    chosen: (R,classes) float32, 1 at the target. wrt: of a differentiable graph, else None. Features and scores have R
    entries (R: maps) in a differentiable graph, and N (N: images) in another one.
    """

    prepared: Prepared
    model: Model
    b: Builder
    features: Value
    logits: Value
    probabilities: Value
    target: Value
    chosen: Value
    wrt: Wrt | None = None

    def gradient(self, overrides: Mapping[str, Rule] | None = None) -> Value:
        """d logit / d wrt, of the shape of wrt.tensor. overrides: as gradients() takes them. Raises MissingGradient."""
        assert self.wrt is not None, "the graph is differentiable"
        ops = Ops(self.model, "onnxcam/gradient", onnx_ir.DataType.FLOAT)
        (gradient,) = gradients(
            self.model, ops, {self.logits: self.chosen}, [self.wrt.tensor], shapes=self.wrt.shapes,
            known=self.wrt.known, overrides=overrides,
        )  # fmt: skip
        return gradient

    def for_each_map(self, x: Value, rank: int) -> Value:
        """A tensor (N,...) of this rank with R entries."""
        b = self.b
        return b("Expand", x, b("Concat", b("Shape", self.target), b.constant([1] * (rank - 1), np.int64), axis=0))

    def maps(self, tensor: Value) -> Value:
        """A tensor (.,...) in the feature tensor's axes as (.,K,*grid)."""
        features = self.prepared.anatomy.features
        return cell_maps(self.b, tensor, features.order, features.sides)

    def publish(self, raw: Value, *, coarse: bool) -> Model:
        """The finished model, from raw maps (R,1,*grid) in float32; their values on the grid are the range."""
        prepared, b = self.prepared, self.b
        grid, size = prepared.anatomy.features.grid, prepared.size
        raw = only_sound(b, raw, len(grid))
        shown = finished(b, raw, grid, size, coarse=coarse, largest=LARGEST_STORED)
        return self.publish_shown(shown, raw)

    def publish_shown(self, shown: Value, raw: Value) -> Model:
        """The finished model, from maps (R,1,*size) in [0,1] and the raw ones (R,1,...) that they were made of."""
        maps: int | str = self.prepared.fixed or "maps"
        publish_explanation(self.model, self.b, shown, raw, self.target, self.prepared.size, maps)
        return ir.tidy(self.model)


def only_sound(b: Builder, raw: Value, sides: int) -> Value:
    """Raw maps (R,1,...) float32 of so many sides, with zeros in the place of those that hold NaN or infinity."""
    return b("Where", sound(b, raw, range(1, 2 + sides)), raw, b.constant(0, np.float32))


def differentiable_graph(prepared: Prepared, wrt: str) -> BatchGraph:
    """The graph in float32 and in opset 18 or newer, for the gradient of its scores by the tensor `wrt`.

    Raises MissingGradient, which names every operator without a rule.
    """
    image = prepared.anatomy.image
    model, traces = differentiable_model(prepared, wrt)
    given, tensor, shapes = given_targets(model, prepared), tensor_named(model, wrt), dict(traces.shapes)
    if prepared.fixed is None and prepared.target is None:
        own = {str(v.name) for v in prepared.opened.model.graph.outputs}
        b, images = Builder(model, "onnxcam/compiled_rows"), tensor_named(model, image.name)
        tensor, shapes = with_rows(model, b, tensor, images, given, traces, own)
    graph = _with_target(model, prepared, given)
    if wrt == prepared.anatomy.features.tensor:
        graph = replace(graph, features=as_float(graph.b, tensor))
    return replace(graph, wrt=Wrt(tensor, shapes, traces.known))


def differentiable_model(prepared: Prepared, wrt: str) -> tuple[Model, Traces]:
    """The model in float32 with the outputs LOGITS and PROBABILITIES, and its traces.

    Every operator between `wrt` and LOGITS has a gradient rule. Raises MissingGradient, which names those without.
    """
    single = convert_to_single_precision(prepared.model, prepared.anatomy.image.name)
    _add_scores(single, prepared)
    model = make_differentiable(single, LOGITS, wrt)
    return model, traces_of(model, prepared.opened, lambda count: _noise_feeds(prepared, count))


def plain_graph(prepared: Prepared) -> BatchGraph:
    """The graph in the model's own element types and opset, which is raised where it is older than OLDEST."""
    model = prepared.model
    if ir.opset(model) < OLDEST:
        model = raise_opset(model)
    _add_scores(model, prepared)
    return _with_target(model, prepared, given_targets(model, prepared))


def _add_scores(model: Model, prepared: Prepared) -> None:
    """Adds LOGITS and PROBABILITIES (N,classes), which stay outputs until the graph is finished."""
    b = Builder(model, "onnxcam/compiled")
    head = tensor_named(model, prepared.anatomy.logits.tensor)
    logits, probabilities, classes = score_table(b, as_float(b, head), prepared.anatomy.logits)
    for value, name in ((logits, LOGITS), (probabilities, PROBABILITIES)):
        publish(model, b("Identity", value, name=name), onnx_ir.DataType.FLOAT, [None, classes])
    if prepared.anatomy.features.tensor != prepared.anatomy.logits.tensor:
        features = tensor_named(model, prepared.anatomy.features.tensor)
        if not features.is_graph_output():  # so that no pass takes it away
            model.graph.outputs.append(features)


def given_targets(model: Model, prepared: Prepared) -> Value:
    """The targets as they are given: the input TARGET (T,), or (1,) what is baked in."""
    if prepared.target is not None:
        return Builder(model, "onnxcam/compiled_given").constant([prepared.target], np.int64)
    return new_input(model, TARGET, onnx_ir.DataType.INT64, [prepared.fixed or "targets"])


def _with_target(model: Model, prepared: Prepared, given: Value) -> BatchGraph:
    """Ends the graph in the class of each map: the given one, or the prediction where that is below 0."""
    b = Builder(model, "onnxcam/cam")
    logits, probabilities = tensor_named(model, LOGITS), tensor_named(model, PROBABILITIES)
    features = tensor_named(model, prepared.anatomy.features.tensor)
    own = {str(v.name) for v in prepared.opened.model.graph.outputs}
    for value in [v for v in model.graph.outputs if str(v.name) not in own]:
        model.graph.outputs.remove(value)
    best = b("ArgMax", logits, axis=1, keepdims=0)
    target = b("Where", b("Less", given, b.constant(0, np.int64)), best, given)
    numbers = b.constant(np.arange(prepared.anatomy.logits.classes)[None], np.int64)
    chosen = b.cast(b("Equal", b.unsqueeze(target, [1]), numbers), onnx_ir.DataType.FLOAT)
    return BatchGraph(prepared, model, b, as_float(b, features), logits, probabilities, target, chosen)


def _noise_feeds(prepared: Prepared, count: int) -> Arrays:
    """Inputs of `count` samples of one image of noise, for a graph in float32."""
    image = replace(prepared.anatomy.image, dtype="float32")
    return feeds_of(prepared.opened, np.repeat(noise(image, image.shape(prepared.size)), count, axis=0))
