"""compare(): the maps of several methods beside each other, for several targets, layers, models or pictures.

The methods of one model share its sessions, the picture's forward pass and the gradient of its features, so that five
methods cost little more than the dearest of them. onnxcam.outputs.figure draws the result.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.explainer.arguments import box_list, check_arguments, checked_method, shown
from onnxcam.explainer.explainer import Explainer
from onnxcam.explainer.measuring import Again, Requests, check_boxes, measured, same_target
from onnxcam.explainer.shares import Shares
from onnxcam.explainer.targets.kind import TargetLike, Targets
from onnxcam.explainer.targets.resolving import each_target
from onnxcam.explainer.together import Together, explain_together
from onnxcam.inputs.loader import ImageLike
from onnxcam.methods.blocks import Method
from onnxcam.methods.registry import changed_options
from onnxcam.metrics.metric import Better
from onnxcam.metrics.registry import metric_named
from onnxcam.metrics.requests import requested
from onnxcam.outputs.comparison import (
    Axis,
    Best,
    ComparedMap,
    ComparedMethod,
    ComparedMetric,
    Comparison,
    ComparisonRow,
)
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.types import Note, NoteCode, Progress

SHOWN = 4
"""The most classes that a note names."""
BEST = {Better.HIGHER: Best.HIGHEST, Better.LOWER: Best.LOWEST, Better.NEITHER: Best.NONE}


def compare(
    explainers: Explainer | Iterable[Explainer],
    pictures: ImageLike | Sequence[ImageLike],
    methods: Sequence[Method | str] | None = None,
    targets: Targets | TargetLike = (None,),
    *,
    metrics: Sequence[str] = (),
    box: Sequence[float] | Sequence[Sequence[float]] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Explains with every method, and gives the maps row by row.

    explainers: one, or one for each model or for each layer of a model; an iterator may open one after the other. Their
    own methods do not matter where methods are given. pictures: one, or a list of several. methods: as Explainer takes
    them; None for the explainer's own. targets: of each picture. Only one of explainers, pictures and targets may be
    several: that is what the rows are. metrics, box, seed: as Explainer.measure() takes them, for every map. progress:
    called with (done, all) forward passes of one explainer. A method that has no map of a picture has the reason in its
    place. Raises OnnxCamError, also where there is no map at all.
    """
    check_arguments({"progress": progress})
    several = isinstance(pictures, list | tuple)
    images: Sequence[Any] = pictures if several else [pictures]  # type: ignore[assignment]
    requests = each_target(targets)
    if not images:
        raise OptionError("there is no picture to compare")
    if len(images) > 1 and len(requests) > 1:
        raise OptionError("compare several pictures or several targets; for both, call compare() for each picture")
    job = _Job(images, requests, _requests(metrics, box, seed), progress)
    start = time.perf_counter()
    chosen: list[Method] = []
    for i, explainer in enumerate(_each(explainers)):
        if i and max(len(images), len(requests)) > 1:
            raise OptionError("compare several models or layers for one picture and one target")
        chosen = chosen or _checked_methods(methods, explainer)
        job.run(explainer, chosen)
    job.check_maps()
    rows = [replace(row, name=name) for row, name in zip(job.rows, job.names(job.axis), strict=True)]
    names = tuple(ComparedMethod(method.name, _words(method)) for method in chosen)
    shown = tuple(_metric(name) for name in job.requests.names)
    return Comparison(
        job.axis, names, tuple(rows), shown, job.passes, time.perf_counter() - start, job.requests.boxes,
        _class_notes(job.axis, rows),
    )  # fmt: skip


def _is_list(value: object) -> bool:
    """Whether the value holds others in an order, and is no text."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _each(explainers: Explainer | Iterable[Explainer]) -> Iterator[Explainer]:
    """The explainers, one after the other. Raises OptionError for anything else."""
    try:
        several = iter([explainers] if isinstance(explainers, Explainer) else explainers)
    except TypeError:
        raise OptionError(f"explainers is one Explainer or a list of them, not {shown(explainers)}") from None
    for explainer in several:
        if not isinstance(explainer, Explainer):
            raise OptionError(f"explainers is one Explainer or a list of them; one of these is {shown(explainer)}")
        yield explainer


@dataclass(eq=False)
class _Job:
    """One comparison on its way. models: (file, sha256, layer) of each explainer so far; error: of the first method."""

    images: Sequence[Any]
    targets: list[TargetLike]
    requests: Requests
    progress: Progress | None
    rows: list[ComparisonRow] = field(default_factory=list)
    models: list[tuple[str, str, str]] = field(default_factory=list)
    error: OnnxCamError | None = None
    passes: int = 0

    @property
    def axis(self) -> Axis:
        if len(self.models) > 1:
            return Axis.LAYERS if len({sha for _, sha, _ in self.models}) == 1 else Axis.MODELS
        return Axis.PICTURES if len(self.images) > 1 else Axis.TARGETS

    def names(self, axis: Axis) -> list[str]:
        """What sets each row apart."""
        if axis is Axis.TARGETS:
            return [row.target.name if row.target is not None else row.name for row in self.rows]
        if axis is Axis.LAYERS:
            return [layer for _, _, layer in self.models]
        return _short(
            [Path(name) for name, _, _ in self.models]
            if axis is Axis.MODELS
            else [Path(row.picture) for row in self.rows]
        )

    def run(self, explainer: Explainer, methods: Sequence[Method]) -> None:
        """Adds the rows of one model at one layer. Raises OptionError for an isolated Explainer."""
        explainer._refuse_isolated("compare()")
        check_boxes(self.requests, explainer)
        layer = ", ".join(heads.first.anatomy.features.tensor for heads in explainer._all_heads)
        self.models.append((explainer.model_name, explainer.model_sha256, layer))
        with ExitStack() as opened:
            each = [opened.enter_context(explainer.with_method(method)) for method in methods]
            parts = len(methods) * (1 + len(self.targets) * len(self.requests.names))
            shares = Shares(self.progress, parts * len(self.images)) if self.progress is not None else None
            for number, image in enumerate(self.images):
                numbers = range(number * parts, (number + 1) * parts)
                self._add_rows(each, image, iter([shares.part(i) if shares is not None else None for i in numbers]))
                if shares is not None:
                    for i in numbers:
                        shares.finish(i)

    def _add_rows(self, explainers: Sequence[Explainer], image: Any, reports: Iterator[Progress | None]) -> None:
        """Adds the rows of one picture. reports: of each method, then of each measurement."""
        together = explain_together(explainers, image, self.targets, progress=lambda _: next(reports))
        self.passes += together.passes
        for place in range(len(self.targets)):
            self._add_row(explainers, image, together, place, reports)

    def _add_row(
        self,
        explainers: Sequence[Explainer],
        image: Any,
        together: Together,
        place: int,
        reports: Iterator[Progress | None],
    ) -> None:
        """Adds the row of one target of one picture. place: of the target. reports: of each measurement."""
        target = self.targets[place]
        scorer = explainers[0].scorer(image, [target]) if self.requests.names else None
        maps: list[ComparedMap] = []
        for explainer, explained in zip(explainers, together.results, strict=True):
            if isinstance(explained, OnnxCamError):
                self.error = self.error or explained
                maps.append(ComparedMap(None, str(explained)))
            elif scorer is None:
                maps.append(ComparedMap(explained[place]))
            else:
                saliency = explained[place]
                scored = same_target(target, saliency.target)
                again = Again(explainer, saliency, together.picture, scored, together.inputs)
                parts = [next(reports) for _ in self.requests.names]
                called = [part for part in parts if part is not None]
                metrics = measured(saliency, scorer, again, self.requests, called or None)
                self.passes += sum(metric.passes for metric in metrics.values())
                maps.append(ComparedMap(saliency, metrics=metrics))
        if scorer is not None:
            self.passes += 1 + (scorer.passes > 0)  # the Scorer's forward pass, and the whole picture's score
        scored_target = next((cell.saliency.target for cell in maps if cell.saliency is not None), None)
        read = together.picture
        self.rows.append(ComparisonRow(str(target), read.name, read.drawn, scored_target, tuple(maps)))

    def check_maps(self) -> None:
        """Raises OptionError where nothing was compared, and the first method's error where there is no map at all."""
        if not self.rows:
            raise OptionError("there is no Explainer to compare with")
        if self.error is not None and not any(cell.saliency is not None for row in self.rows for cell in row.maps):
            raise self.error


def _requests(metrics: Sequence[str], box: Sequence[float] | Sequence[Sequence[float]] | None, seed: int) -> Requests:
    if not _is_list(metrics):
        raise OptionError("metrics is a list of names, such as ['deletion', 'insertion']")
    check_arguments({"box": box, "seed": seed})
    names = requested(metrics, has_box=box is not None) if metrics or box is not None else ()
    return Requests(names, box_list(box), None, seed)


def _checked_methods(methods: Sequence[Method | str] | None, explainer: Explainer) -> list[Method]:
    """The methods. Raises OptionError for none, for a text in place of a list, and for one that is given twice."""
    if methods is None:
        return [explainer.method]
    if not _is_list(methods) or not methods:
        raise OptionError("methods is a list of methods or of their names, such as ['score-cam', 'grad-cam']")
    chosen = [checked_method(method) for method in methods]
    for i, method in enumerate(chosen):
        if method in chosen[:i]:
            raise OptionError(f"the method {method.name} is given twice with the same options")
    return chosen


def _metric(name: str) -> ComparedMetric:
    metric, _ = metric_named(name)
    return ComparedMetric(name, BEST[metric.better], metric.unit)


def _class_notes(axis: Axis, rows: Sequence[ComparisonRow]) -> tuple[Note, ...]:
    """A note where rows that are no targets are of different classes, as each model's or picture's own prediction."""
    targets = [row.target for row in rows if row.target is not None and row.target.kind == "classes"]
    names = list(dict.fromkeys(one.name for one in targets if not _same_class(one, targets[0])))
    if axis is Axis.TARGETS or not names:
        return ()
    listed = [targets[0].name, *names[: SHOWN - 1], *(["..."] if len(names) >= SHOWN else [])]
    text = f"the {axis} are explained for different classes ({', '.join(listed)}); name one target to compare it in all"
    return (Note(NoteCode.DIFFERENT_CLASSES, text),)


def _same_class(one: ScoredTarget, other: ScoredTarget) -> bool:
    """By label, whatever its number in a model; by number where a model has no labels."""
    if one.label is None or other.label is None:
        return (one.index, one.side) == (other.index, other.side)
    first, second = (target.name.replace("_", " ").casefold() for target in (one, other))
    return first == second


def _words(method: Method) -> tuple[str, ...]:
    """The options that differ from the defaults, as 'tolerance 0.02' and 'destructive'."""
    changed = {name: method.options[name] for name in changed_options(method)}
    return tuple(
        str(value) if isinstance(value, str) else f"{name.replace('_', ' ')} {value}" for name, value in changed.items()
    )


def _short(paths: Sequence[Path]) -> list[str]:
    """The files' names without suffix; with their folder where two agree."""
    stems = [path.stem or str(path) for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    return [
        f"{path.parent.name}/{stem}" if path.parent.name else path.name for path, stem in zip(paths, stems, strict=True)
    ]
