"""compile(): a model and a method become one ONNX file that answers with the class and its map."""

import builtins
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.compiler.checking import (
    ENOUGH,
    ESTIMATED_TOLERANCE,
    ROUNDED_TOLERANCE,
    TOLERANCE,
    Difference,
    check_compiled,
)
from onnxcam.compiler.compact_constants import compacted, shorten_names
from onnxcam.compiler.file_shapes import with_file_shapes, with_outputs_of_each
from onnxcam.compiler.file_types import with_file_types
from onnxcam.compiler.interface import Interface, interface_of, publish_names, record_shapes
from onnxcam.compiler.metadata import compiled_record
from onnxcam.compiler.prepared import PREDICTION, Prepared
from onnxcam.compiler.preprocessing import take_pictures
from onnxcam.compiler.registry import Compilable, compilable
from onnxcam.compiler.rows import is_quantised
from onnxcam.compiler.triton import model_config, model_name, repository_paths
from onnxcam.errors import CompileError, OptionError
from onnxcam.explainer.arguments import checked_method
from onnxcam.explainer.explainer import Explainer, opened_model
from onnxcam.explainer.targets.classes import class_index, is_best, is_rank
from onnxcam.inputs.loader import ImageLike
from onnxcam.inputs.presets import Preset
from onnxcam.limits import SAFE, Limits, brief, check_limits
from onnxcam.methods.blocks import Method
from onnxcam.network.opening import OpenedModel
from onnxcam.outputs.atomic import write_together
from onnxcam.surgeon import ir
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.loading import ModelFile, ModelSource, read_model
from onnxcam.surgeon.metadata import COMPILED, INPUTS
from onnxcam.types import Note, Progress


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled explanation.

    bytes: the ONNX file. method: with its options. interface: what to feed and what comes out. record: what the file's
    metadata says, as JSON values. difference: to the maps of an Explainer. notes: what a user of the file should know.
    """

    bytes: builtins.bytes
    method: Method
    interface: Interface
    record: Mapping[str, Any]
    difference: Difference
    notes: tuple[Note, ...]

    @property
    def options(self) -> Mapping[str, Any]:
        """Those of the method."""
        return self.method.options

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the file, whole or not at all, in place of one that is there; returns its path. Raises OutputError."""
        write_together({path if isinstance(path, str) else os.fspath(path): self.bytes})
        return Path(path)

    def save_triton(self, folder: str | os.PathLike[str], name: str | None = None) -> Path:
        """Writes the file and its config.pbtxt into a model repository of Triton, and returns the model's folder there.

        Files that are there are replaced. name: of the model; if not given, that of the compiled file and the method.
        Raises OutputError, OptionError for a name that is no folder's, and CompileError for a tensor of a type that
        Triton does not have.
        """
        chosen = name if name is not None else model_name(self.record["model"], self.method.name)
        config, file = repository_paths(folder, chosen)
        write_together({config: self.triton_config(chosen).encode(), file: self.bytes})
        return config.parent

    def triton_config(self, name: str) -> str:
        """The text of config.pbtxt for a model of that name. Raises CompileError for a type that Triton has not."""
        return model_config(name, self.interface, self.record)


def compile(
    model: ModelSource,
    method: Method | str = "grad-cam",
    *,
    target: int | str | None = None,
    raw: bool = False,
    pictures: Sequence[ImageLike] = (),
    preset: Preset | str | None = None,
    adjust: Callable[[Preset], Preset] | None = None,
    layer: str = "auto",
    layout: str | None = None,
    image_input: str | None = None,
    size: Sequence[int] | None = None,
    output: str | None = None,
    inputs: Mapping[str, npt.ArrayLike] | None = None,
    labels: Sequence[str] | str | os.PathLike[str] | None = None,
    threads: int | None = None,
    limits: Limits | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> Compiled:
    """The model as an ONNX file of standard operators that also gives the saliency map of a class (docs/compile.md).

    method: a Method, or the name of one; not every one can be compiled. target: a class, by index or label, that is
    baked in; "top1" bakes in the prediction. raw: the file takes the picture itself, uint8 (H,W,3) of any size.
    pictures: on which the file is compared with an Explainer, besides those of the package. progress: called with
    (done, all) pictures that were compared. The other arguments are those of an Explainer. Raises OnnxCamError for what
    it cannot open, and CompileError where nothing can be compiled or the file's maps are not the Explainer's.
    """
    chosen, limits = checked_method(method), SAFE if limits is None else limits
    entry = compilable(chosen.name)
    _check_arguments(layer, raw, pictures, limits)
    file = read_model(model, limits)
    explainer = partial(
        Explainer, providers=("cpu",), preset=preset, adjust=adjust, layer=layer, layout=layout, size=size,
        image_input=image_input, output=output, inputs=inputs, labels=labels, threads=threads, limits=limits,
        cache=cache,
    )  # fmt: skip
    with explainer(file, chosen) as opened:
        work = _work(entry, opened, raw, _baked(opened, target))
        return _compiled(work, _Comparison(file, pictures, progress, explainer))


def _check_arguments(layer: object, raw: object, pictures: object, limits: Limits) -> None:
    """Raises OptionError for a value that makes sense for no model."""
    check_limits(limits)
    if not isinstance(layer, str):
        raise OptionError("a compiled file explains one layer; give one name")
    if not isinstance(raw, bool):
        raise OptionError(f"raw is True or False, not {brief(raw)}")
    if not isinstance(pictures, list | tuple):
        raise OptionError(f"pictures is a list of pictures, not {brief(pictures)}")


@dataclass(frozen=True, eq=False)
class _Work:
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


def _work(entry: Compilable, explainer: Explainer, raw: bool, target: int | None) -> _Work:
    """Raises CompileError for a model that cannot be compiled."""
    opened = opened_model(explainer)
    Prepared(opened, explainer.method, target, explainer.preset).check()
    return _Work(entry, explainer, with_outputs_of_each(opened), raw, target)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """With what a file is compared. file: of the model. explainer: opens a model for a method."""

    file: ModelFile
    pictures: Sequence[ImageLike]
    progress: Progress | None
    explainer: Callable[..., Explainer]

    def difference(self, work: _Work, graph: Model, interface: Interface) -> Difference:
        """Compares the file, or that of a shorter method, with an Explainer. Raises CompileError where they differ."""
        chosen = work.explainer.method
        compared, estimated = work.entry.compared(chosen), work.entry.estimates(chosen)
        if compared is chosen:
            return self._difference(work, graph, interface, chosen)
        with self.explainer(self.file, compared) as other:
            like = _work(work.entry, other, work.raw, work.target)
            its_graph, its_interface = (graph, interface) if estimated else like.graph()
            return self._difference(like, its_graph, its_interface, chosen)

    def _reopened(self, method: Method, file: ModelFile) -> Explainer:
        """An Explainer of a model that was made to be compared, of which nothing is kept."""
        return self.explainer(file, method, cache=False)

    def _difference(self, work: _Work, graph: Model, interface: Interface, chosen: Method) -> Difference:
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


def _compiled(work: _Work, comparison: _Comparison) -> Compiled:
    prepared = work.prepared
    graph, interface = work.graph()
    difference = comparison.difference(work, graph, interface)
    record = _record(work, graph, interface, difference)
    graph.metadata_props.pop(INPUTS, None)
    graph.metadata_props[COMPILED] = json.dumps(record, separators=(",", ":"))
    notes = (*prepared.opened.notes, *prepared.anatomy.notes)
    return Compiled(_checked(graph), prepared.method, interface, record, difference, notes)


def _baked(explainer: Explainer, target: int | str | None) -> int | None:
    """The index of the class that is baked in, or PREDICTION. Raises TargetError for a class that the model has not."""
    if target is None:
        return None
    if is_rank(target):
        if is_best(target):
            return PREDICTION
        raise OptionError(f"{target} cannot be baked in; give a class, or top1 for the prediction, or leave it out")
    classes = explainer.anatomy.logits.classes
    return class_index(target, np.zeros(classes), explainer.labels)


def _record(work: _Work, graph: Model, interface: Interface, difference: Difference) -> dict[str, Any]:
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
