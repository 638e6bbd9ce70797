"""The maps that a sanity check compares: of the intact model, and of one with other weights, for the same targets."""

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.errors import ModelError, TargetError, UndefinedSaliency
from onnxcam.evaluation.similarity import map_spearman
from onnxcam.explainer.explainer import Explainer
from onnxcam.explainer.pinned import pinned
from onnxcam.explainer.targets.kind import TargetLike
from onnxcam.explainer.targets.region import Region
from onnxcam.inputs.loader import ImageLike, ModelInput
from onnxcam.methods.blocks import Method
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.loading import ModelFile
from onnxcam.types import Picture, Progress

Opener = Callable[[ModelFile, Method, Sequence[str] | None], Explainer]
"""Opens a model for a method, without the cache. The tensors are the layer that is pinned; None for the first time."""
OnPart = Callable[[float, float], None]
"""Called with (maps that are made, all of them); the first may be a fraction."""
Explanation = Saliency | str
"""A map, or in one sentence why there is none."""

OTHER_CLASSES = 4
"""Other classes whose maps are compared with that of the target."""
MOST_NAMES = 3
"""Pictures that a note names."""
CLASS_KINDS = (Kind.CLASSES, Kind.REGION, Kind.SEQUENCE)
UNDEFINED = (UndefinedSaliency, TargetError)
"""Errors of one picture that leave its map undefined."""


class Count:
    """Counts the maps that are made for a progress callback. all: how many there will be; may be corrected."""

    def __init__(self, progress: OnPart | None, number: float) -> None:
        self.all, self.done, self._progress = number, 0.0, progress

    def within(self) -> Progress | None:
        """The callback of one explanation."""
        if self._progress is None:
            return None
        call, done = self._progress, self.done
        return lambda part, expected: call(done + min(1.0, part / max(expected, 1)), self.all)

    def add(self, number: float = 1) -> None:
        """Says that maps are made."""
        self.done += number
        if self._progress is not None:
            self._progress(self.done, self.all)


@dataclass(frozen=True, eq=False)
class IntactMaps:
    """What the intact model gives.

    results: of each method, the explanation of each picture. targets: the same target for another model.
    other_classes: of each method, Spearman of maps for the target and for other classes; None where the target is no
    class. picture: the part of the first picture that the model sees; None where it is no picture.
    """

    methods: tuple[Method, ...]
    pictures: tuple[ImageLike, ...]
    names: tuple[str, ...]
    results: tuple[tuple[Explanation, ...], ...]
    targets: tuple[tuple[TargetLike, ...], ...]
    other_classes: tuple[tuple[float | None, ...] | None, ...]
    picture: Picture | None

    def saliencies(self, method: int) -> list[Saliency]:
        """The maps of a method, of the pictures that have one."""
        return [result for result in self.results[method] if isinstance(result, Saliency)]

    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs that are explained."""
        scored = [s.target.output for i in range(len(self.methods)) for s in self.saliencies(i)]
        return tuple(dict.fromkeys(name for name in scored if name is not None))

    def notes(self) -> tuple[str, ...]:
        """What the maps' notes say, once each; with the pictures and the methods where it is not said of all."""
        places: dict[str, set[tuple[int, int]]] = {}
        for i, results in enumerate(self.results):
            for k, result in enumerate(results):
                for note in result.provenance.notes if isinstance(result, Saliency) else ():
                    places.setdefault(note.text, set()).add((i, k))
        return tuple(f"{self._whose(at)}{text}" for text, at in places.items())

    def _whose(self, places: Set[tuple[int, int]]) -> str:
        """'a.jpg, grad-cam: ' of (method, picture); without what is every method, and without what is every picture."""
        methods, pictures = sorted({i for i, _ in places}), sorted({k for _, k in places})
        mapped = {k for each in self.results for k, result in enumerate(each) if isinstance(result, Saliency)}
        shown = [self.names[k] for k in pictures]
        if len(shown) > MOST_NAMES:
            shown = [*shown[: MOST_NAMES - 1], f"{len(shown) - MOST_NAMES + 1} more"]
        words = shown if len(pictures) < len(mapped) else []
        if len(methods) < len(self.methods):
            words = [*words, *(self.methods[i].name for i in methods)]
        return f"{', '.join(words)}: " if words else ""

    def again(self, file: ModelFile, opener: Opener, count: Count) -> list[list[Explanation]]:
        """The same explanations by a model with other weights: same layers, same targets."""
        results: list[list[Explanation]] = [list(each) for each in self.results]
        for layer, wanted in self._by_layer().items():
            end = count.done + sum(map(len, wanted.values()))
            try:
                with _opened(file, [self.methods[i] for i in wanted], opener, layer) as explainers:
                    for explainer, (i, places) in zip(explainers, wanted.items(), strict=True):
                        for k in places:
                            results[i][k] = explained(explainer, self.pictures[k], self.targets[i][k], count)
                            count.add()
            except (UndefinedSaliency, ModelError) as error:  # other weights may not be opened, as where they overflow
                for i, places in wanted.items():
                    for k in places:
                        results[i][k] = str(error)
                count.add(end - count.done)  # what is not made any more
        return results

    def _by_layer(self) -> dict[tuple[str, ...], dict[int, list[int]]]:
        """The pictures of each method that use a layer: boxes of several scales have one each."""
        layers: dict[tuple[str, ...], dict[int, list[int]]] = {}
        for i, results in enumerate(self.results):
            for k, result in enumerate(results):
                if isinstance(result, Saliency):
                    layers.setdefault(result.provenance.tensors, {}).setdefault(i, []).append(k)
        return layers


def intact_maps(
    file: ModelFile,
    pictures: Sequence[ImageLike],
    methods: Sequence[Method],
    target: TargetLike,
    opener: Opener,
    count: Count,
    *,
    seed: int,
) -> IntactMaps:
    """Explains the pictures with every method. seed: of the choice of other classes. Raises OnnxCamError."""
    results: list[list[Explanation]] = [[] for _ in methods]
    targets: list[list[TargetLike]] = [[] for _ in methods]
    others: list[list[float | None]] = [[] for _ in methods]
    with _opened(file, methods, opener, None) as explainers:
        prepared = [explainers[0].prepare(picture) for picture in pictures]
        for i, explainer in enumerate(explainers):
            for k, picture in enumerate(pictures):
                result = explained(explainer, picture, target, count)
                fixed = pinned(explainer, picture, target, result) if isinstance(result, Saliency) else target
                if isinstance(fixed, Region):  # its mask is as fine as the picture, the class map may be finer
                    result = explained(explainer, picture, fixed, None)
                if isinstance(result, Saliency):
                    others[i] += _of_other_classes(explainer, picture, result, fixed, np.random.default_rng([seed, k]))
                results[i].append(result)
                targets[i].append(fixed)
                count.add()
    names = tuple(each.name for each in prepared)
    compared = tuple(tuple(each) if each else None for each in others)
    nested = tuple(map(tuple, results)), tuple(map(tuple, targets))
    return IntactMaps(tuple(methods), tuple(pictures), names, *nested, compared, _seen(prepared[0]))


def explained(explainer: Explainer, picture: ImageLike, target: TargetLike, count: Count | None) -> Explanation:
    """The explanation, or why it is undefined. Raises OnnxCamError for anything else."""
    try:
        (result,) = explainer.explain(picture, [target], progress=count.within() if count is not None else None)
    except UNDEFINED as error:
        return str(error)
    return result


def _seen(image: ModelInput) -> Picture | None:
    """The part of a picture that the model sees."""
    picture, placement = image.picture, image.placement
    if picture is None or placement is None or picture.dtype != np.uint8 or picture.ndim != 3:
        return None
    (height, width), (left, top, right, bottom) = placement.picture, placement.box
    rows = slice(max(0, round(top)), min(height, round(bottom)))
    columns = slice(max(0, round(left)), min(width, round(right)))
    return np.ascontiguousarray(picture[rows, columns])


def _of_other_classes(
    explainer: Explainer, picture: ImageLike, saliency: Saliency, fixed: TargetLike, rng: np.random.Generator
) -> list[float | None]:
    """Spearman of the map with the maps of other classes of the same picture; empty where there are none."""
    target, classes = saliency.target, explainer.anatomy.logits.classes
    if target.kind not in CLASS_KINDS or target.quantity or isinstance(target.step, str):
        return []
    others = [c for c in range(classes) if c != target.index]
    drawn = rng.choice(others, min(OTHER_CLASSES, len(others)), replace=False) if others else ()
    targets = [_of_class(int(c), fixed) for c in drawn]
    return [_compared(saliency, other) for other in _explained_together(explainer, picture, targets)]


def _of_class(index: int, fixed: TargetLike) -> TargetLike:
    """The same target for another class."""
    if isinstance(fixed, Region):
        return replace(fixed, label=index)
    return replace(fixed, index=index, label=None) if isinstance(fixed, ScoredTarget) else index


def _explained_together(explainer: Explainer, picture: ImageLike, targets: list[TargetLike]) -> list[Explanation]:
    """The maps of several targets, which share passes; one by one where one of them has no map."""
    if not targets:
        return []
    try:
        return list(explainer.explain(picture, targets))
    except UNDEFINED:
        return [explained(explainer, picture, target, None) for target in targets]


def _compared(saliency: Saliency, other: Explanation) -> float | None:
    return map_spearman(saliency.map, other.map) if isinstance(other, Saliency) else None


@contextmanager
def _opened(
    file: ModelFile, methods: Sequence[Method], opener: Opener, layer: Sequence[str] | None
) -> Iterator[list[Explainer]]:
    """An Explainer for each method; they share what they can of one opened model."""
    with ExitStack() as stack:
        first = stack.enter_context(opener(file, methods[0], layer))
        yield [first, *(stack.enter_context(first.with_method(method)) for method in methods[1:])]
