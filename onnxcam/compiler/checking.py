"""The last step: a compiled file is run, and its maps and outputs are compared with those of an Explainer and a model.

Pictures are the caller's, the two that the package holds, and one of noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.compiler.interface import Interface
from onnxcam.engine.session import Session
from onnxcam.errors import CompileError, UndefinedSaliency
from onnxcam.explainer.explainer import Explainer, opened_model
from onnxcam.inputs import bundled
from onnxcam.inputs.loader import ImageLike
from onnxcam.network.dry_run import noise
from onnxcam.network.extra_inputs import for_batch
from onnxcam.network.verification import SURGERY_TOLERANCE
from onnxcam.surgeon import ir
from onnxcam.surgeon.loading import ModelFile
from onnxcam.types import Arrays, Image, Progress

TOLERANCE, HALF_TOLERANCE = 1e-5, 1e-3
"""The largest difference of a map in [0,1]; of a file with weights in half precision."""


@dataclass(frozen=True)
class Difference:
    """How far a compiled file is from the product.

    map: the largest difference of a map in [0,1]. pictures: whose maps were compared. undefined: pictures for which the
    method has no map, so that the file's is constant.
    """

    map: float
    pictures: int
    undefined: int


def check_compiled(
    data: bytes,
    interface: Interface,
    explainer: Explainer,
    file: ModelFile,
    target: int | None,
    pictures: Sequence[ImageLike],
    tolerance: float,
    progress: Progress | None = None,
) -> Difference:
    """Runs the file on pictures and compares. target: the class that is baked in.

    Raises CompileError where a map or an output differs, or where the method has no map of any picture.
    """
    images = _images(explainer, pictures)
    opened = opened_model(explainer)
    limits = opened.options.limits
    compiled = Session(data, ("cpu",), opened.options.threads, limits=limits)
    original = Session(ir.to_bytes(opened.model), ("cpu",), opened.options.threads, limits=limits)
    worst, undefined = 0.0, 0
    try:
        for i, image in enumerate(images):
            try:
                worst = max(worst, _difference(compiled, original, interface, explainer, target, image))
            except UndefinedSaliency:
                undefined += 1
            if progress is not None:
                progress(i + 1, len(images))
    finally:
        compiled.close()
        original.close()
    if undefined == len(images):
        raise CompileError("the method has no map of any of the test pictures, so the file cannot be checked")
    if not worst <= tolerance:
        raise CompileError(
            f"the compiled file's maps differ by {worst:.2g} from those of `onnxcam explain` (at most {tolerance:g} "
            f"is allowed), so it is not written; please report this model"
        )
    return Difference(worst, len(images) - undefined, undefined)


def _images(explainer: Explainer, pictures: Sequence[ImageLike]) -> list[Image]:
    """Images (C,*size) as the network takes them."""
    images = [explainer.prepare(picture).image for picture in pictures]
    opened = opened_model(explainer)
    image = opened.anatomy.image
    if len(opened.size) == 2 and image.channels == 3:
        images += [explainer.prepare(path).image for path in bundled.pictures().values()]
    blank = noise(image, image.shape(opened.size)).astype(np.float32)
    return [*images, opened.network.batch_from_model_layout(blank)[0]]


def _difference(
    compiled: Session, original: Session, interface: Interface, explainer: Explainer, target: int | None, image: Image
) -> float:
    """The largest difference of the maps of one image. Raises CompileError where an output of the model differs."""
    targets: list[str | int | None] = [target] if target is not None else [None, "top2"]
    expected = explainer.explain(image, targets)
    feeds = _feeds(explainer, image)
    largest = 0.0
    for word, saliency in zip(targets, expected, strict=True):
        given = {} if interface.target is None else {interface.target: _target(explainer, word, saliency.target.index)}
        names = [interface.map, interface.map_target]
        maps, chosen = compiled.run(names, {**feeds, **given})
        if int(chosen[0]) != saliency.target.index:
            raise CompileError(f"the compiled file explains class {chosen[0]} where class {saliency.target.index} wins")
        largest = max(largest, float(np.abs(maps[0] - saliency.map).max()))
    own = [name for name in original.outputs if name in compiled.outputs]
    given = {} if interface.target is None else {interface.target: _target(explainer, None, 0)}
    for name, a, b in zip(own, compiled.run(own, {**feeds, **given}), original.run(own, feeds), strict=True):
        _check_output(name, a, b)
    return largest


def _feeds(explainer: Explainer, image: Image) -> Arrays:
    """The inputs of the model's own graph, for one image."""
    opened = opened_model(explainer)
    entry, batch = opened.anatomy.image, opened.network.fixed or 1
    images = np.repeat(opened.network.to_model_layout(image), batch, axis=0)
    return {entry.name: entry.cast(images), **for_batch(opened.model, entry, opened.inputs, batch)}


def _target(explainer: Explainer, word: str | int | None, index: int) -> npt.NDArray[np.int64]:
    return np.full(opened_model(explainer).network.fixed or 1, -1 if word is None else index, np.int64)


def _check_output(name: str, actual: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]) -> None:
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise CompileError(f"the compiled file changes the shape or type of the model's output {name!r}; report this")
    limit = SURGERY_TOLERANCE * float(np.abs(np.asarray(expected, np.float64)).max(initial=1e-6))
    if not np.allclose(np.asarray(actual, np.float64), np.asarray(expected, np.float64), 0, limit, equal_nan=True):
        raise CompileError(f"the compiled file changes the model's output {name!r}, so it is not written; report this")
