"""The last step: a compiled file is run, and its maps and outputs are compared with those of an Explainer and a model.

Pictures are the caller's, the two that the package holds, and one of noise. Of a file that takes the picture itself,
the map on the picture and its box are compared too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.compiler.compared_pictures import Difference, photographs
from onnxcam.compiler.feeds import feeds_of
from onnxcam.compiler.interface import PREDICTION, Interface
from onnxcam.compiler.model_outputs import ModelOutputs, model_outputs
from onnxcam.compiler.rounding import Roundings
from onnxcam.engine.session import Session
from onnxcam.errors import CompileError, UndefinedSaliency
from onnxcam.explainer.explainer import Explainer, explain_prepared, opened_model
from onnxcam.inputs.loader import ModelInput
from onnxcam.network.dry_run import noise
from onnxcam.outputs.overlay import on_picture
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.loading import ModelFile
from onnxcam.types import Arrays, Image, Map, Progress

TOLERANCE, ROUNDED_TOLERANCE = 1e-5, 1e-3
"""The largest difference of a map in [0,1]; of a quantised file, one in half precision, or one that resizes."""
ESTIMATED_TOLERANCE, ENOUGH = 0.06, 64
"""The largest root mean square by which an estimated map may be off with a budget of ENOUGH; fewer masks tell less."""
RANGE_TOLERANCE, END_TOLERANCE = 1e-3, 1e-4
"""By how much the ends of a raw map may be off: over its extent, and over its largest number, which was rounded."""

BATCH_TOLERANCE = 0.05
"""By how much a batch may change a map: rounding moves samples over the kinks of ReLUs."""
ROUNDING = 2.0
"""How many times as far as a map moves by rounding a file's may be off."""
MOST_ROUNDED = 1e-2
"""The largest difference that rounding may explain."""
NOISE = (75, 53, 3)
"""Shape of the picture of noise."""


def check_compiled(
    data: bytes,
    interface: Interface,
    explainer: Explainer,
    file: ModelFile,
    target: int | None,
    pictures: Sequence[ModelInput],
    tolerance: float,
    progress: Progress | None = None,
    *,
    reopen: Callable[[ModelFile], Explainer],
    estimated: bool = False,
) -> Difference:
    """Runs the file on pictures and compares. pictures: of the caller, as prepared_pictures() gives them. target: the
    class that is baked in. estimated: the file estimates the map that the Explainer computes, and how far it is off is
    a root mean square. reopen: opens another model as `explainer` was.

    Raises CompileError where a map or an output differs, or where the method has no map of any picture.
    """
    images = _images(explainer, pictures, raw=interface.picture is not None)
    opened = opened_model(explainer)
    limits = opened.options.limits
    compiled = Session(data, ("cpu",), opened.options.threads, limits=limits)
    outputs = model_outputs(file, opened, raw=interface.picture is not None)
    between = _root_mean_square if estimated else _largest
    check = _Check(compiled, outputs, interface, explainer, target, between, tolerance, file, reopen)
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
                        check.refuse_beyond_rounding(image, index, of_class)
                worst = max(worst, difference)
            if progress is not None:
                progress(i + 1, len(images))
        if len(undefined) < len(images):
            check.check_targets(images[0])
            check.check_batch(images[0].image)
    finally:
        compiled.close()
        outputs.session.close()
    if len(undefined) == len(images):
        raise CompileError(f"the method has no map of any test picture, so no file can be checked: {undefined[0]}")
    return Difference(worst, len(images) - len(undefined), len(undefined))


def _images(explainer: Explainer, pictures: Sequence[ModelInput], *, raw: bool) -> list[ModelInput]:
    """All images that are compared; if raw, each of them has a picture."""
    images = [*pictures, *map(explainer.prepare, photographs(explainer, raw=raw))]
    if raw:
        return [*images, explainer.prepare(np.random.default_rng(0).integers(0, 256, NOISE, np.uint8))]
    opened = opened_model(explainer)
    image = opened.anatomy.image
    blank = opened.network.batch_from_model_layout(noise(image, image.shape(opened.size)).astype(np.float32))[0]
    return [*images, ModelInput(blank, None, "<noise>")]


@dataclass(frozen=True, eq=False)
class _Check:
    """The file and what it is compared with.

    outputs: of the model itself. target: the class that is baked in. between: how far two maps are apart. tolerance: of
    that distance. file, reopen: the model, and what opens another one as `explainer` was.
    """

    compiled: Session
    outputs: ModelOutputs
    interface: Interface
    explainer: Explainer
    target: int | None
    between: Callable[[Map, Map], float]
    tolerance: float
    file: ModelFile
    reopen: Callable[[ModelFile], Explainer]

    def differences(self, image: ModelInput) -> dict[int, float]:
        """How far the maps of one image are off, by class. Raises CompileError where an output of the model differs."""
        words = self._words()
        expected = explain_prepared(self.explainer, image, words)
        differences, results = dict[int, float](), dict[str, npt.NDArray[np.generic]]()
        for word, saliency in zip(words, expected, strict=True):
            results = dict(self._results(image, word, saliency.target.index))
            differences[saliency.target.index] = self._difference_of_map(results, saliency)
        self.outputs.check(_feeds(self.explainer, image.image), results)
        return differences

    def _words(self) -> list[str | int | None]:
        """The targets that are compared: the prediction and the second class, or what is baked in."""
        if self.target is None:
            return [None, "rank2"]
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
        self._check_range(results[interface.range][0], saliency.raw, difference)
        return (
            difference if interface.picture is None else max(difference, self._difference_on_picture(results, saliency))
        )

    def _check_range(self, ends: npt.NDArray[np.generic], raw: Map, difference: float) -> None:
        """Raises CompileError for other ends of the raw map than the expected one's. difference: of the map in [0,1].

        An estimate has other ends, and a search may: rounding scales a raw map that no gradient holds.
        """
        share = max(RANGE_TOLERANCE, ROUNDING * difference)
        if self.tolerance <= ROUNDED_TOLERANCE and not _are_ends(ends, raw, share):
            raise CompileError(
                f"the compiled file gives {ends[0]:.6g} and {ends[1]:.6g} as the ends of the raw map where they are "
                f"{raw.min():.6g} and {raw.max():.6g}, so it is not written; compile another method, and please "
                f"report this model"
            )

    def refuse_beyond_rounding(self, image: ModelInput, index: int, difference: float) -> None:
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
                f"{self.tolerance:g} is allowed), so it is not written; compile another method, or name another "
                f"--layer, and please report this model"
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

    def check_targets(self, image: ModelInput) -> None:
        """Compares the maps of two targets in one run with those of each alone. Raises CompileError where they differ.

        A file with a class baked in, or of a model that is fixed to one image, has no such run. An estimate chooses its
        masks for all targets of a run, so its maps differ as estimates do.
        """
        opened, interface = opened_model(self.explainer), self.interface
        entry = next((tensor for tensor in interface.inputs if tensor.name == interface.target), None)
        if entry is None or entry.shape == (1,):
            return
        feeds, count = self._feeds(image), opened.network.fixed or 1
        first = self._maps(feeds, entry.name, np.full(count, -1, np.int64))
        best = int(first[interface.map_target][0])
        pair = np.array([best, (best + 1) % opened.anatomy.logits.classes])
        second = self._maps(feeds, entry.name, np.full(count, pair[1]))
        both = self._maps(feeds, entry.name, np.resize(pair, max(count, 2)))
        limit = self.tolerance if self.between is _root_mean_square else MOST_ROUNDED
        if not _are_rows(interface, both, (first, second), self.between, limit):
            raise CompileError(
                "targets of one run change each other's maps in the compiled file, so it is not written; bake a class "
                "in with --target, and please report this model"
            )

    def _maps(self, feeds: Arrays, name: str, targets: npt.NDArray[np.int64]) -> Arrays:
        """The maps and their classes of these targets."""
        names = [self.interface.map, self.interface.map_target]
        return dict(zip(names, self.compiled.run(names, {**feeds, name: targets}), strict=True))

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
        names = list(self.compiled.outputs)
        one, other, both = (
            dict(zip(names, self.compiled.run(names, {**feeds, **wish}, pictures=2), strict=True))
            for feeds in (*alone, together)
        )
        if not _are_rows(interface, both, (one, other), _largest, BATCH_TOLERANCE):
            raise CompileError(
                "images of one run change each other's maps in the compiled file, so it is not written; export the "
                "model with a batch of 1, and please report it"
            )
        if opened.anatomy.image.batch is None:  # else the model itself runs no two images
            self.outputs.check(together, both)

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


def _are_ends(ends: npt.NDArray[np.generic], raw: Map, share: float) -> bool:
    """Whether two numbers are the least and the largest one of a raw map, within a share of its extent."""
    expected = np.array([raw.min(), raw.max()], np.float64)
    limit = share * np.ptp(expected) + END_TOLERANCE * np.abs(expected).max()
    return bool(np.abs(np.asarray(ends, np.float64) - expected).max() <= limit)


def _are_rows(
    interface: Interface, together: Arrays, alone: Sequence[Arrays], between: Callable[[Map, Map], float], limit: float
) -> bool:
    """Whether the first maps of a run are those of several runs alone, and of the same classes."""
    maps, classes = together[interface.map], together[interface.map_target]
    return len(maps) >= len(alone) and all(
        classes[i] == one[interface.map_target][0] and between(maps[i], one[interface.map][0]) <= limit
        for i, one in enumerate(alone)
    )


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
