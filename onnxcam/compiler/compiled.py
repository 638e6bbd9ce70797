"""compile(): a model and a method become one ONNX file that answers with the class and its map.

Here nothing loads onnx: building.py makes a file that is not stored yet (stored.py).
"""

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

from onnxcam.compiler import stored
from onnxcam.compiler.compared_pictures import Difference, prepared_pictures
from onnxcam.compiler.families import check_compilable
from onnxcam.compiler.interface import PREDICTION, Interface
from onnxcam.compiler.stored import CompiledFile
from onnxcam.compiler.triton import model_config, model_name, repository_paths
from onnxcam.errors import OptionError
from onnxcam.explainer.arguments import checked_method
from onnxcam.explainer.explainer import Explainer, opened_model
from onnxcam.explainer.targets.classes import class_index, is_best, is_rank
from onnxcam.inputs.loader import ImageLike, ModelInput
from onnxcam.inputs.presets import Preset
from onnxcam.limits import SAFE, Limits, brief, check_limits
from onnxcam.methods.blocks import Method
from onnxcam.network.warm import known_facts
from onnxcam.outputs.atomic import write_together
from onnxcam.surgeon.loading import ModelFile, ModelSource, read_model
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
    (done, all) pictures that were compared. cache: whether what opening the model taught and the compiled file are kept
    in the user's cache folder; the same call then gives the file that was compared before. The other arguments are
    those of an Explainer. Raises OnnxCamError for what it cannot open, and CompileError where nothing can be compiled
    or the file's maps are not the Explainer's.
    """
    chosen, limits = checked_method(method), SAFE if limits is None else limits
    check_compilable(chosen.name)
    _check_arguments(layer, raw, pictures, limits)
    file = read_model(model, limits, known_facts(limits) if cache is True else None)
    explainer = partial(
        Explainer, providers=("cpu",), preset=preset, adjust=adjust, layer=layer, layout=layout, size=size,
        image_input=image_input, output=output, inputs=inputs, labels=labels, threads=threads, limits=limits,
        cache=cache,
    )  # fmt: skip
    with explainer(file, chosen) as opened:
        baked, images = _baked(opened, target), prepared_pictures(opened, pictures, raw=raw)
        made = _stored_or_built(file, opened, baked, images, explainer, progress, raw=raw)
        notes = (*opened_model(opened).notes, *opened.anatomy.notes)
        return Compiled(made.bytes, opened.method, made.interface, json.loads(made.record), made.difference, notes)


def _stored_or_built(
    file: ModelFile,
    opened: Explainer,
    target: int | None,
    pictures: Sequence[ModelInput],
    explainer: Callable[..., Explainer],
    progress: Progress | None,
    *,
    raw: bool,
) -> CompiledFile:
    """The file as it is stored, else built, compared and stored. opened: the model. explainer: opens a model for a
    method. Raises CompileError."""
    name = stored.stored_name(opened, target, pictures, raw=raw)
    made = stored.load(name) if name is not None else None
    if made is not None:
        if progress is not None:
            progress(made.difference.all_pictures, made.difference.all_pictures)
        return made
    from onnxcam.compiler.building import Comparison, build, work_of

    made = build(work_of(opened, target, raw=raw), Comparison(file, pictures, progress, explainer))
    if name is not None:
        stored.store(name, made)
    return made


def _check_arguments(layer: object, raw: object, pictures: object, limits: Limits) -> None:
    """Raises OptionError for a value that makes sense for no model."""
    check_limits(limits)
    if not isinstance(layer, str):
        raise OptionError("a compiled file explains one layer; give one name")
    if not isinstance(raw, bool):
        raise OptionError(f"raw is True or False, not {brief(raw)}")
    if not isinstance(pictures, list | tuple):
        raise OptionError(f"pictures is a list of pictures, not {brief(pictures)}")


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
