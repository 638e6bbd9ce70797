"""The sanity check of a method (Adebayo et al. 2018): does its map change when the model's weights are drawn again?

sanity_check() explains some pictures, draws the weights of more and more layers again, from the output on, and explains
the same classes with the same layer again. A map that stays shows the picture's edges and not what the model learnt.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from onnxcam.errors import ModelError, OptionError, UndefinedSaliency
from onnxcam.evaluation.sanity_maps import Count, Explanation, IntactMaps, OnPart, Opener, intact_maps
from onnxcam.evaluation.sanity_report import (
    MethodSanity,
    Order,
    SanityOptions,
    SanityReport,
    SanityStep,
    judge,
    mean_over_steps,
    spread_of,
)
from onnxcam.evaluation.similarity import complexity_rise, map_hog, map_spearman
from onnxcam.explainer.arguments import checked_method
from onnxcam.explainer.explainer import Explainer
from onnxcam.explainer.targets.kind import TargetLike
from onnxcam.inputs.loader import ImageLike
from onnxcam.limits import Limits
from onnxcam.methods.blocks import Method
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.analysis.weights import WeightLayer, find_weight_layers
from onnxcam.surgeon.ir import Model, to_proto
from onnxcam.surgeon.loading import ModelFile, ModelSource, read_model
from onnxcam.surgeon.passes.fill_weights import store_filled_weights
from onnxcam.surgeon.passes.randomise import Redraw, randomise
from onnxcam.types import Map

DEFAULTS = SanityOptions()
UNLIMITED = Limits(memory=None, nodes=None, depth=None)
"""For a model that was read within its limits before."""


def open_uncached(file: ModelFile, method: Method, layer: Sequence[str] | None) -> Explainer:
    """An Explainer with defaults that neither reads nor writes the cache: no other run opens these weights."""
    return Explainer(file, method, layer=layer if layer is not None else "auto", cache=False)


def sanity_check(
    model: ModelSource,
    pictures: Sequence[ImageLike],
    methods: Sequence[Method | str],
    options: SanityOptions = DEFAULTS,
    *,
    target: TargetLike = None,
    opener: Opener = open_uncached,
    progress: OnPart | None = None,
) -> SanityReport:
    """Checks methods on a model: how alike their maps are before and after its weights are drawn again.

    target: of every picture; what the intact model predicts if None. It stays: the class by its index, the layer by its
    tensor, a region by its rectangle. opener: opens a model without the cache; with defaults if it is left out.
    progress: called with (maps made, all of them). Raises OnnxCamError: an OptionError without pictures or methods, a
    ModelError for a model without weights that are found, UndefinedSaliency where no picture has a map.
    """
    start = time.perf_counter()
    if not (_is_list(pictures) and _is_list(methods)):
        raise OptionError("a sanity check takes a list of pictures, 3 or more for a verdict, and a list of methods")
    file, chosen = read_model(model), [checked_method(method) for method in methods]
    base = store_filled_weights(file.model)
    count = Count(progress, len(chosen) * len(pictures) * (1 + _expected_steps(base, options)))
    intact = intact_maps(file, pictures, chosen, target, opener, count, seed=options.seeds[0])
    for i, method in enumerate(chosen):
        if not intact.saliencies(i):
            raise UndefinedSaliency(f"{method.name} has no map of any of these pictures: {intact.results[i][0]}")
    layers, kept, notes = _layers(base, intact.outputs(), options.redraw)
    tallies = [_Tally(tuple(results)) for results in intact.results]
    models = list(_models(len(layers), options))
    count.all = count.done + len(models) * sum(len(intact.saliencies(i)) for i in range(len(chosen)))
    for seed, depth in models:
        drawn = layers[:depth] if options.order is Order.TOP_DOWN else layers[depth - 1 : depth]
        changed = _reread(file, randomise(base, drawn, options.redraw, seed=seed))
        for tally, maps in zip(tallies, intact.again(changed, opener, count), strict=True):
            tally.add(seed, depth, layers[depth - 1].name, maps, is_last=len(drawn) == len(layers))
    drawn_share = len(layers) / (len(layers) + kept)
    results = tuple(tally.result(intact, i, options, len(layers), drawn_share) for i, tally in enumerate(tallies))
    seconds, made = time.perf_counter() - start, intact.saliencies(0)[0].provenance
    return SanityReport(
        file.name, file.sha256, intact.names, options, len(layers), kept, results, (*notes, *intact.notes()), seconds,
        intact.picture, made.preset, made.preset_origin,
    )  # fmt: skip


def _is_list(values: object) -> bool:
    """Whether these are several values, at least one, and not a single one that has a length too."""
    return isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray) and len(values) > 0


def spread_evenly(layers: int, steps: int | None) -> tuple[int, ...]:
    """The depths, from 1 to the number of layers, at which models are made; of several, both ends are among them."""
    if steps is None or steps >= layers:
        return tuple(range(1, layers + 1))
    if steps == 1:
        return (layers,)
    return tuple(round(float(depth)) for depth in np.linspace(1, layers, steps))


def _models(layers: int, options: SanityOptions) -> Iterator[tuple[int, int]]:
    """(seed, depth) of every model that is made."""
    for seed in options.seeds:
        for depth in spread_evenly(layers, options.steps):
            yield seed, depth


def _expected_steps(base: Model, options: SanityOptions) -> int:
    return len(options.seeds) * len(spread_evenly(len(find_weight_layers(base).layers), options.steps))


def _layers(
    base: Model, outputs: Sequence[str], redraw: Redraw | str
) -> tuple[tuple[WeightLayer, ...], int, tuple[str, ...]]:
    """(the layers that a draw changes, in order from the output; how many others; what to doubt). Raises ModelError."""
    existing = {str(value.name) for value in base.graph.outputs}
    listed = find_weight_layers(base, outputs if existing.issuperset(outputs) else ())
    layers, notes = listed.layers, list(listed.skipped)
    if not layers:
        raise ModelError("no weights were found in the graph, so nothing can be drawn again")
    if redraw != Redraw.HE:
        layers = tuple(layer for layer in layers if not layer.is_constant)
    constant = len(listed.layers) - len(layers)
    if not layers:
        raise ModelError(f"every layer repeats one number, which {redraw} does not change; draw again with he")
    if constant:
        notes.append(f"{constant} of {len(listed.layers)} layers repeat one number; {redraw} leaves them as they are")
    return layers, constant + len(listed.skipped), tuple(notes)


def _reread(file: ModelFile, model: Model) -> ModelFile:
    """The model with other weights, under the file's name and beside its other files, such as its labels."""
    return replace(read_model(to_proto(model), UNLIMITED), name=file.name, path=file.path)


@dataclass(eq=False)
class _Tally:
    """Collects the steps of one method. intact: the explanations of the pictures by the intact model."""

    intact: tuple[Explanation, ...]
    steps: list[SanityStep] = field(default_factory=list)
    rises: list[float | None] = field(default_factory=list)
    maps: dict[int, Map] = field(default_factory=dict)

    def add(self, seed: int, depth: int, layer: str, results: Sequence[Explanation], *, is_last: bool) -> None:
        """Compares the maps of a step. is_last: whether every layer was drawn again."""
        pairs = [
            (before.map, after.map) if isinstance(before, Saliency) and isinstance(after, Saliency) else None
            for before, after in zip(self.intact, results, strict=True)
        ]
        step = SanityStep(
            seed, depth, layer,
            tuple(map_spearman(*pair) if pair is not None else None for pair in pairs),
            tuple(map_hog(*pair) if pair is not None else None for pair in pairs),
            tuple(each.target.probability if isinstance(each, Saliency) else None for each in results),
            tuple(each if isinstance(each, str) else None for each in results),
        )  # fmt: skip
        if is_last:
            self.rises += [complexity_rise(*pair) if pair is not None else None for pair in pairs]
        if pairs[0] is not None and (not self.steps or self.steps[0].seed == seed):
            self.maps[depth] = pairs[0][1]
        self.steps.append(step)

    def result(self, intact: IntactMaps, i: int, options: SanityOptions, layers: int, drawn: float) -> MethodSanity:
        """The method's check, with its verdict. layers: that can be drawn again; drawn: which share of all they are."""
        saliencies, method = intact.saliencies(i), intact.methods[i]
        pairs = list(combinations([saliency.map for saliency in saliencies], 2))
        with_map = [k for k, each in enumerate(self.intact) if isinstance(each, Saliency)]
        spearman = [[step.spearman[k] for k in with_map] for step in self.steps]
        hog = [[step.hog[k] for k in with_map] for step in self.steps]
        others = intact.other_classes[i]
        overall = spread_of((v for step in spearman for v in step), mean_over_steps(spearman))
        depths = len({step.depth for step in self.steps})
        verdict, reason = judge(overall, len(saliencies), options.order, drawn, depths=depths, layers=layers)
        return MethodSanity(
            method.name, method.options,
            tuple(each.target if isinstance(each, Saliency) else None for each in self.intact),
            tuple(self.steps), overall, spread_of((v for step in hog for v in step), mean_over_steps(hog)),
            spread_of(map_spearman(*pair) for pair in pairs), spread_of(map_hog(*pair) for pair in pairs),
            spread_of(others) if others is not None else None,
            spread_of(self.rises), verdict, reason, tuple(e if isinstance(e, str) else None for e in self.intact),
            {0: saliencies[0].map, **self.maps} if with_map[0] == 0 else {},
        )  # fmt: skip
