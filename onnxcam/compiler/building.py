"""The steps of a compilation that is not stored yet: a graph is built and compared with an Explainer."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from onnxcam.compiler.checking import (
    ENOUGH,
    ESTIMATED_TOLERANCE,
    ROUNDED_TOLERANCE,
    TOLERANCE,
    check_compiled,
)
from onnxcam.compiler.compact_constants import compacted, shorten_names
from onnxcam.compiler.compared_pictures import Difference
from onnxcam.compiler.file_shapes import with_file_shapes, with_outputs_of_each
from onnxcam.compiler.file_types import with_file_types
from onnxcam.compiler.interface import Interface
from onnxcam.compiler.metadata import compiled_record
from onnxcam.compiler.prepared import Prepared
from onnxcam.compiler.preprocessing import take_pictures
from onnxcam.compiler.publishing import interface_of, publish_names, record_shapes
from onnxcam.compiler.registry import COMPILABLE, Compilable
from onnxcam.compiler.rows import is_quantised
from onnxcam.compiler.stored import CompiledFile
from onnxcam.errors import CompileError
from onnxcam.explainer.explainer import Explainer, opened_model
from onnxcam.inputs.loader import ModelInput
from onnxcam.methods.blocks import Method
from onnxcam.network.opening import OpenedModel
from onnxcam.surgeon import ir
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.loading import ModelFile
from onnxcam.surgeon.metadata import COMPILED, INPUTS
from onnxcam.types import Progress


@dataclass(frozen=True, eq=False)
class Work:
    """The parts of one compilation: how the method is compiled, an Explainer of it, and what was chosen.

    opened: the model of the Explainer, rewritten for any batch where the file's own outputs do not take any.
    """

    entry: Compilable
    explainer: Explainer
    opened: OpenedModel
    raw: bool
    target: int | None

    @property
    def prepared(self) -> Prepared:
        explainer = self.explainer
        return Prepared(self.opened, explainer.method, self.target, explainer.preset)

    def graph(self) -> tuple[Model, Interface]:
        """The finished graph, with public names."""
        prepared = self.prepared
        graph = with_file_types(compacted(self.entry.build(prepared)), prepared.opened.model)
        graph = with_file_shapes(graph, prepared.opened)
        if self.raw:
            graph = take_pictures(graph, prepared.anatomy.image, prepared.size, self.explainer.preset)
        shorten_names(graph)
        record_shapes(graph)
        names = publish_names(graph)
        ir.without_descriptions(graph)
        return graph, interface_of(graph, names, prepared.anatomy.image.name)


def work_of(explainer: Explainer, target: int | None, *, raw: bool) -> Work:
    """Raises CompileError for a model that cannot be compiled."""
    opened, method = opened_model(explainer), explainer.method
    Prepared(opened, method, target, explainer.preset).check()
    return Work(COMPILABLE[method.name], explainer, with_outputs_of_each(opened), raw, target)


@dataclass(frozen=True, eq=False)
class Comparison:
    """With what a file is compared.

    file: of the model. pictures: of the caller. explainer: opens a model for a method.
    """

    file: ModelFile
    pictures: Sequence[ModelInput]
    progress: Progress | None
    explainer: Callable[..., Explainer]

    def difference(self, work: Work, graph: Model, interface: Interface) -> Difference:
        """Compares the file, or that of a shorter method, with an Explainer. Raises CompileError where they differ."""
        chosen = work.explainer.method
        compared, estimated = work.entry.compared(chosen), work.entry.estimates(chosen)
        if compared is chosen:
            return self._difference(work, graph, interface, chosen)
        with self.explainer(self.file, compared) as other:
            like = work_of(other, work.target, raw=work.raw)
            its_graph, its_interface = (graph, interface) if estimated else like.graph()
            return self._difference(like, its_graph, its_interface, chosen)

    def _reopened(self, method: Method, file: ModelFile) -> Explainer:
        """An Explainer of a model that was made to be compared, of which nothing is kept."""
        return self.explainer(file, method, cache=False)

    def _difference(self, work: Work, graph: Model, interface: Interface, chosen: Method) -> Difference:
        model = work.prepared.opened.model
        rounded = work.raw or ir.computes_in_half(model) or is_quantised(model)
        tolerance = work.entry.tolerance or (ROUNDED_TOLERANCE if rounded else TOLERANCE)
        estimated = work.entry.estimates(chosen)
        if estimated:
            tolerance = ESTIMATED_TOLERANCE * max(1.0, ENOUGH / chosen.options["budget"])
        return check_compiled(
            ir.to_bytes(graph), interface, work.explainer, self.file, work.target, self.pictures, tolerance,
            self.progress, estimated=estimated, reopen=partial(self._reopened, work.explainer.method),
        )  # fmt: skip


def build(work: Work, comparison: Comparison) -> CompiledFile:
    """The file, compared. Raises CompileError."""
    graph, interface = work.graph()
    difference = comparison.difference(work, graph, interface)
    record = json.dumps(_record(work, graph, interface, difference), separators=(",", ":"))
    graph.metadata_props.pop(INPUTS, None)
    graph.metadata_props[COMPILED] = record
    return CompiledFile(_checked(graph), interface, record, difference)


def _record(work: Work, graph: Model, interface: Interface, difference: Difference) -> dict[str, Any]:
    prepared, explainer = work.prepared, work.explainer
    labels = tuple(explainer.labels) if explainer.labels is not None else None
    return compiled_record(
        prepared.method, interface, family=work.entry.family, model=Path(explainer.model_name).name,
        sha256=explainer.model_sha256, opset=ir.opset(graph), layer=prepared.anatomy.features.tensor,
        grid=prepared.anatomy.features.grid, layout=prepared.anatomy.image.layout, size=prepared.size,
        preset=explainer.preset, preset_origin=str(explainer.preset_origin), scores=prepared.anatomy.logits,
        labels=labels, target=prepared.target,
        largest_difference=difference.map,
    )  # fmt: skip


def _checked(graph: Model) -> bytes:
    """The file. Raises CompileError where it does not pass onnx's checker."""
    proto = ir.to_proto(graph)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise CompileError(
            f"the compiled graph does not pass onnx's checker ({ir.cause(error)}); see whether the export itself does, "
            f"and compile another method"
        ) from None
    return ir.to_bytes(graph)
