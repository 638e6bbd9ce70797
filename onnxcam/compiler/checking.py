"""The last step: a compiled file is run, and its maps and outputs are compared with those of an Explainer and a model.

Pictures are the caller's, the two that the package holds, and one of noise. Of a file that takes the picture itself,
the map on the picture and its box are compared too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.compiler.feeds import feeds_of
from onnxcam.compiler.file_shapes import with_file_shapes
from onnxcam.compiler.interface import Interface
from onnxcam.compiler.prepared import PREDICTION
from onnxcam.compiler.rounding import Roundings
from onnxcam.engine.session import Session
from onnxcam.errors import CompileError, OptionError, UndefinedSaliency
from onnxcam.explainer.explainer import Explainer, opened_model
from onnxcam.inputs import bundled
from onnxcam.inputs.loader import ImageLike, ModelInput
from onnxcam.network.dry_run import noise
from onnxcam.network.opening import OpenedModel
from onnxcam.network.verification import SURGERY_TOLERANCE
from onnxcam.outputs.overlay import on_picture
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon import ir
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.loading import ModelFile
from onnxcam.types import Arrays, Image, Map, NoteCode, Progress

TOLERANCE, ROUNDED_TOLERANCE = 1e-5, 1e-3
"""The largest difference of a map in [0,1]; of a quantised file, one in half precision, or one that resizes."""
ESTIMATED_TOLERANCE, ENOUGH = 0.06, 64
"""The largest root mean square by which an estimated map may be off with a budget of ENOUGH; fewer masks tell less."""
RESIZED_TOLERANCE = 1e-3
"""The largest difference of an output, over its largest number, of a file that resizes the picture."""

BATCH_TOLERANCE = 0.05
"""By how much a batch may change a map: rounding moves samples over the kinks of ReLUs."""
ROUNDING = 2.0
"""How many times as far as a map moves by rounding a file's may be off."""
MOST_ROUNDED = 1e-2
"""The largest difference that rounding may explain."""
NUMBERS = "fiubV"
"""Kinds of NumPy's types whose numbers are compared within a tolerance; bfloat16 is of kind V."""
NOISE = (75, 53, 3)
"""Shape of the picture of noise."""


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
    *,
    reopen: Callable[[ModelFile], Explainer],
    estimated: bool = False,
) -> Difference:
    """Runs the file on pictures and compares. target: the class that is baked in. estimated: the file estimates the map
    that the Explainer computes, and how far it is off is a root mean square. reopen: opens another model as `explainer`
    was.

    Raises CompileError where a map or an output differs, or where the method has no map of any picture.
    """
    images = _images(explainer, pictures, raw=interface.picture is not None)
    opened = opened_model(explainer)
    limits = opened.options.limits
    compiled = Session(data, ("cpu",), opened.options.threads, limits=limits)
    original = Session(ir.to_bytes(_original(file, opened)), ("cpu",), opened.options.threads, limits=limits)
    between = _root_mean_square if estimated else _largest
    check = _Check(compiled, original, interface, explainer, target, between, file, reopen)
    worst, undefined = 0.0, list[UndefinedSaliency]()
    try:
        if progress is not None:
            progress(0, len(images))
        for i, image in enumerate(images):
            try:
                differences = check.differences(image)
            except UndefinedSaliency as error:
                undefined.append(error)
            else:
                difference = max(differences.values())
                if estimated and not difference <= tolerance:
                    raise CompileError(
                        f"with this budget the map of a test picture is off by {difference:.2g} from the exact one "
                        f"(root mean square, at most {tolerance:.2g} is allowed); choose a larger budget, or none"
                    )
                for index, of_class in differences.items():
                    if not of_class <= tolerance:
                        check.refuse_beyond_rounding(image, index, of_class, tolerance)
                worst = max(worst, difference)
            if progress is not None:
                progress(i + 1, len(images))
        if len(undefined) < len(images):
            check.check_batch(images[0].image)
    finally:
        compiled.close()
        original.close()
    if len(undefined) == len(images):
        raise CompileError(f"the method has no map of any test picture, so no file can be checked: {undefined[0]}")
    return Difference(worst, len(images) - len(undefined), len(undefined))


def _original(file: ModelFile, opened: OpenedModel) -> Model:
    """The graph of the file itself, whose outputs the compiled file must give.

    Where the file's image has another batch or other axes than the opened one, or its numbers no kernels, the graph as
    opened, which was compared with the file when it was opened, with the shapes of the file.
    """
    image = opened.anatomy.image
    rewritten = any(note.code is NoteCode.COMPUTED_IN_FLOAT32 for note in (*opened.notes, *opened.anatomy.notes))
    same_batch = (image.batch or 1) == (opened.network.fixed or 1)
    if image.added or rewritten or not same_batch:
        return with_file_shapes(ir.edit(opened.model), opened)
    return file.model


def _images(explainer: Explainer, pictures: Sequence[ImageLike], *, raw: bool) -> list[ModelInput]:
    """The images as the network takes them; if raw, all of them have a picture."""
    images = [explainer.prepare(picture) for picture in pictures]
    if raw and (prepared := next((image.name for image in images if image.is_prepared), None)) is not None:
        raise OptionError(f"{prepared}: the file takes pictures, so it is compared on pictures; this is an array")
    opened = opened_model(explainer)
    image = opened.anatomy.image
    if len(opened.size) == 2 and (raw or image.channels == 3):
        images += [explainer.prepare(path) for path in bundled.pictures().values()]
    if raw:
        return [*images, explainer.prepare(np.random.default_rng(0).integers(0, 256, NOISE, np.uint8))]
    blank = opened.network.batch_from_model_layout(noise(image, image.shape(opened.size)).astype(np.float32))[0]
    return [*images, ModelInput(blank, None, "<noise>")]


@dataclass(frozen=True, eq=False)
class _Check:
    """The two sessions that are compared, and what is known of the file.

    target: the class that is baked in. between: how far two maps are apart. file, reopen: the model, and what opens
    another one as `explainer` was.
    """

    compiled: Session
    original: Session
    interface: Interface
    explainer: Explainer
    target: int | None
    between: Callable[[Map, Map], float]
    file: ModelFile
    reopen: Callable[[ModelFile], Explainer]

    def differences(self, image: ModelInput) -> dict[int, float]:
        """How far the maps of one image are off, by class. Raises CompileError where an output of the model differs."""
        words = self._words()
        expected = self.explainer.explain(image.image if image.picture is None else image.picture, words)
        differences, results = dict[int, float](), dict[str, npt.NDArray[np.generic]]()
        for word, saliency in zip(words, expected, strict=True):
            results = dict(self._results(image, word, saliency.target.index))
            differences[saliency.target.index] = self._difference_of_map(results, saliency)
        self._check_outputs(image, results)
        return differences

    def _words(self) -> list[str | int | None]:
        """The targets that are compared: the prediction and the second class, or what is baked in."""
        if self.target is None:
            return [None, "top2"]
        return [self.target if self.target != PREDICTION else None]

    def _results(self, image: ModelInput, word: str | int | None, index: int) -> Arrays:
        """All outputs of the file, for a target."""
        feeds = self._feeds(image)
        if self.interface.target is not None:
            feeds = {**feeds, self.interface.target: _target(self.explainer, word, index)}
        names = list(self.compiled.outputs)
        return dict(zip(names, self.compiled.run(names, feeds), strict=True))

    def _feeds(self, image: ModelInput) -> Arrays:
        """The file's inputs but for the target: the model's own, or those with the picture in place of the image."""
        feeds, entry = _feeds(self.explainer, image.image), opened_model(self.explainer).anatomy.image.name
        if self.interface.picture is None:
            return feeds
        assert image.picture is not None
        return {self.interface.picture: image.picture, **{n: array for n, array in feeds.items() if n != entry}}

    def _difference_of_map(self, results: Arrays, saliency: Saliency) -> float:
        """How far the file's map is from the expected one. Raises CompileError where it explains another class."""
        interface, expected = self.interface, saliency.target.index
        explained = int(results[interface.map_target][0])
        if explained != expected:
            raise CompileError(
                f"the compiled file explains class {explained} where class {expected} wins, so it is not written; bake "
                f"a class in with --target, or compile the float export of a quantised model"
            )
        difference = self.between(np.asarray(results[interface.map][0]), saliency.map)
        return (
            difference if interface.picture is None else max(difference, self._difference_on_picture(results, saliency))
        )

    def _check_outputs(self, image: ModelInput, results: Arrays) -> None:
        """Raises CompileError where the file's results differ from what the model gives."""
        limit = SURGERY_TOLERANCE if self.interface.picture is None else RESIZED_TOLERANCE
        outputs = [name for name in self.original.outputs if name in results]
        feeds = {n: a for n, a in _feeds(self.explainer, image.image).items() if n in self.original.inputs}
        for name, expected in zip(outputs, self.original.run(outputs, feeds), strict=True):
            _check_output(name, results[name], expected, limit)

    def refuse_beyond_rounding(self, image: ModelInput, index: int, difference: float, tolerance: float) -> None:
        """Raises CompileError unless the map of class `index` moves as far when the image or the weights are rounded.

        `onnxcam explain` and the file then differ by as much as the former does from itself (rounding.py).
        """
        raw = self.interface.picture is not None
        roundings = Roundings(self.explainer, self.file, self.reopen, self._distance, raw)
        moved = roundings.moved(image, index, difference / ROUNDING)
        if MOST_ROUNDED < difference <= ROUNDING * moved:
            raise CompileError(
                f"the maps of {self.explainer.method.name} move by {moved:.2g} on this model when its numbers are "
                f"rounded another way, so no file can be told right from wrong; use another method or other options"
            )
        if not difference <= ROUNDING * moved:
            raise CompileError(
                f"the compiled file's maps differ by {difference:.2g} from those of `onnxcam explain` (at most "
                f"{tolerance:g} is allowed), so it is not written; compile another method, or name another --layer, "
                f"and please report this model"
            )

    def _distance(self, one: Saliency, other: Saliency) -> float:
        """How far two maps of one picture are apart, on the picture too where the file gives that one."""
        distance = self.between(one.map, other.map)
        if self.interface.picture is None:
            return distance
        assert one.placement is not None
        assert other.placement is not None
        maps = on_picture(one.map, one.placement), on_picture(other.map, other.placement)
        return max(distance, self.between(*maps))

    def check_batch(self, image: Image) -> None:
        """Compares the maps of two images in one run with those of each alone. Raises CompileError where they differ.

        A file that takes one image a run, or pictures, has no such run.
        """
        opened, interface = opened_model(self.explainer), self.interface
        entry = next((tensor for tensor in interface.inputs if tensor.name == interface.image), None)
        if entry is None or isinstance(entry.shape[0], int):
            return
        alone = [_feeds(self.explainer, each) for each in (image, np.ascontiguousarray(image[..., ::-1]))]
        stacked = {entry.name, *(name for name, batched in opened.network.extra.items() if batched)}
        together = {n: np.concatenate([f[n] for f in alone]) if n in stacked else a for n, a in alone[0].items()}
        wish = {} if interface.target is None else {interface.target: np.full(1, -1, np.int64)}
        one, other, both = (
            np.asarray(self.compiled.run([interface.map], {**feeds, **wish}, pictures=2)[0], np.float64)
            for feeds in (*alone, together)
        )
        if both.shape[0] != 2 or not np.abs(both - np.concatenate([one, other])).max() <= BATCH_TOLERANCE:
            raise CompileError(
                "images of one run change each other's maps in the compiled file, so it is not written; export the "
                "model with a batch of 1, and please report it"
            )

    def _difference_on_picture(self, results: Arrays, saliency: Saliency) -> float:
        """How far the maps on the picture are apart. Raises CompileError for another box."""
        interface = self.interface
        assert interface.box is not None
        assert interface.picture_map is not None
        assert saliency.placement is not None
        box, expected = results[interface.box], saliency.placement.box
        if not np.allclose(box, expected, rtol=1e-5, atol=1e-3):
            raise CompileError(
                f"the compiled file places the map at {box} where it lies at {expected}, so it is not written; compile "
                f"it without --raw, and please report this model"
            )
        return self.between(np.asarray(results[interface.picture_map][0]), on_picture(saliency.map, saliency.placement))


def _largest(a: Map, b: Map) -> float:
    return float(np.abs(a - b).max())


def _root_mean_square(a: Map, b: Map) -> float:
    return float(np.sqrt(np.square(a - b).mean()))


def _feeds(explainer: Explainer, image: Image) -> Arrays:
    """The inputs of the model's own graph, for one image."""
    opened = opened_model(explainer)
    entry, batch = opened.anatomy.image, opened.network.fixed or 1
    images = np.repeat(opened.network.to_model_layout(image), batch, axis=0)
    return feeds_of(opened, entry.cast(images))


def _target(explainer: Explainer, word: str | int | None, index: int) -> npt.NDArray[np.int64]:
    return np.full(opened_model(explainer).network.fixed or 1, -1 if word is None else index, np.int64)


def _check_output(
    name: str, actual: npt.NDArray[np.generic], expected: npt.NDArray[np.generic], tolerance: float
) -> None:
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise CompileError(
            f"the compiled file gives the model's output {name!r} as {actual.dtype} {list(actual.shape)} where the "
            f"model gives {expected.dtype} {list(expected.shape)}, so it is not written; export the model without that "
            f"output, or compile another method"
        )
    if not _are_alike(actual, expected, tolerance):
        raise CompileError(
            f"the compiled file changes the model's output {name!r}, so it is not written; a quantised model may round "
            f"otherwise: compile its float export, or grad-cam; of another model compile another method"
        )


def _are_alike(actual: object, expected: object, tolerance: float) -> bool:
    """Whether numbers differ by no more than a share of the largest one, and everything else is equal.

    An array of objects holds the parts of a sequence, or texts.
    """
    if isinstance(actual, dict) and isinstance(expected, dict):
        same = actual.keys() == expected.keys()
        return same and all(_are_alike(actual[key], expected[key], tolerance) for key in expected)
    one, other = np.asarray(actual), np.asarray(expected)
    if one.shape != other.shape:
        return False
    if other.dtype.kind == "O" and isinstance(expected, np.ndarray):
        return all(_are_alike(a, b, tolerance) for a, b in zip(one.flat, other.flat, strict=True))
    if other.dtype.kind not in NUMBERS:
        return bool(actual == expected) if other.ndim == 0 else bool(np.array_equal(one, other))
    limit = tolerance * float(np.abs(np.asarray(other, np.float64)).max(initial=1e-6))
    return np.allclose(np.asarray(one, np.float64), np.asarray(other, np.float64), 0, limit, equal_nan=True)
