"""What a sanity check returns: similarities of maps, and the verdict on each method with the rule that gave it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.inputs.presets import Preset
from onnxcam.limits import brief, is_whole
from onnxcam.methods.options import choose
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.passes.randomise import Redraw
from onnxcam.types import Map, Origin

PASSES_BELOW, FAILS_ABOVE = 0.3, 0.5
FEWEST_PICTURES = 3
"""One picture scatters from -0.7 to 0.9."""
FEWEST_MODELS = 5
"""Layers at which a model is made. While similarities are 0 to 1, one of five moves the mean by .2 at most, as wide as
what is undecided: no model alone takes a method from fail to pass. The last one, where every layer is drawn again,
would: guided backpropagation scores .11 there, .55 on both ends, .70 on five models and .73 on all fifty."""
DEFAULT_STEPS = 10
RULE = (
    f"mean Spearman correlation with the maps of the intact model, over all steps of the top-down order and all "
    f"pictures: below {PASSES_BELOW:g} passes, above {FAILS_ABOVE:g} fails, else undecided; undecided too with fewer "
    f"than {FEWEST_PICTURES} pictures, models at fewer than {FEWEST_MODELS} layers (unless at all), or where "
    f"half of the maps are undefined or half of the layers keep their weights"
)


class Order(StrEnum):
    """top-down: the layers from the output on, each step keeps those before. independent: one layer at a time."""

    TOP_DOWN = "top-down"
    INDEPENDENT = "independent"


class Verdict(StrEnum):
    """pass: the map depends on the weights. fail: it hardly does."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class SanityOptions:
    """How a sanity check goes.

    order: of the layers, 'top-down' or 'independent'. redraw: how weights are drawn again, 'shuffle', 'normal' or 'he'.
    seeds: one run each. steps: how many models with other weights, at layers that are spread evenly, both ends
    included; None for one at every layer. Raises OptionError.
    """

    order: Order | str = Order.TOP_DOWN
    redraw: Redraw | str = Redraw.SHUFFLE
    seeds: tuple[int, ...] = (0,)
    steps: int | None = DEFAULT_STEPS

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", choose(Order, self.order, "order"))
        object.__setattr__(self, "redraw", choose(Redraw, self.redraw, "redraw"))
        seeds = self.seeds if isinstance(self.seeds, tuple | list) else ()
        if not seeds or not all(is_whole(seed, 0) for seed in seeds) or len(set(seeds)) < len(seeds):
            raise OptionError(f"seeds are different whole numbers of 0 or more, as (0, 1), not {brief(self.seeds)}")
        if self.steps is not None and not is_whole(self.steps, 1):
            raise OptionError(f"steps is a whole number of 1 or more, or None for all layers, not {brief(self.steps)}")


@dataclass(frozen=True)
class Spread:
    """Similarities of several pairs of maps: their mean, and between which they lie; None where none is defined."""

    mean: float | None
    lowest: float | None
    highest: float | None
    count: int
    undefined: int = 0


def spread_of(values: Iterable[float | None], mean: float | None = None) -> Spread:
    """The spread of these numbers; mean: another one than that of all numbers."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    if not known:
        return Spread(None, None, None, 0, len(listed))
    average = float(np.mean(known)) if mean is None else mean
    return Spread(average, min(known), max(known), len(known), len(listed) - len(known))


@dataclass(frozen=True)
class SanityStep:
    """A model with other weights, compared with the intact one.

    seed: of the draw. depth: how many layers were drawn again, counted from the output; in independent order the place
    of the one that was. layer: its name. For each picture: spearman, hog: the similarity of the maps, None where it is
    undefined; reasons: why there is no map, None where there is one; probabilities: of the target, which is a number of
    any range for kinds without probabilities.
    """

    seed: int
    depth: int
    layer: str
    spearman: tuple[float | None, ...]
    hog: tuple[float | None, ...]
    probabilities: tuple[float | None, ...]
    reasons: tuple[str | None, ...]


@dataclass(frozen=True, eq=False)
class MethodSanity:
    """The sanity check of one method.

    method, options: its name and options. targets: of each picture, what was explained; None where the intact model
    gives no map. Such a picture is left out, for the reason in left_out. steps: one a model with other weights.
    spearman, hog: over all steps; the mean is that of the means of the steps. null, null_hog: of maps of different
    pictures on the intact model. other_classes: Spearman of the maps of one picture for its target and for other
    classes, on the intact model; None for targets that are no classes. complexity_rise: where every layer was drawn
    again (eMPRT). verdict, reason: by RULE. maps: those of the first picture and seed, by depth; the one of depth 0 is
    the intact map.
    """

    method: str
    options: Mapping[str, Any]
    targets: tuple[ScoredTarget | None, ...]
    steps: tuple[SanityStep, ...]
    spearman: Spread
    hog: Spread
    null: Spread
    null_hog: Spread
    other_classes: Spread | None
    complexity_rise: Spread
    verdict: Verdict
    reason: str
    left_out: tuple[str | None, ...] = ()
    maps: Mapping[int, Map] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, eq=False)
class SanityReport:
    """The sanity check of a model.

    model, model_sha256: the intact file. pictures: their paths or names. options: those of the check. layers: how many
    have weights that can be drawn again. kept: how many have weights that stay, for the reasons in notes. methods: the
    check of each, in order. notes: what to doubt of the layers, and of the maps of the intact model. seconds: duration.
    picture: (height, width, 3) uint8, the part of the first picture that the model sees; None where it is no picture.
    preset, preset_origin: the preprocessing, and where it came from. rule: by which the verdicts were given.
    """

    model: str
    model_sha256: str
    pictures: tuple[str, ...]
    options: SanityOptions
    layers: int
    kept: int
    methods: tuple[MethodSanity, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    picture: Any = field(repr=False, default=None)
    preset: Preset | None = None
    preset_origin: Origin | None = None
    rule: str = RULE

    @property
    def verdict(self) -> Verdict:
        """fail if a method fails, else undecided if one is, else pass."""
        verdicts = {method.verdict for method in self.methods}
        return next(v for v in (Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS) if v in verdicts)


def mean_over_steps(steps: Sequence[Sequence[float | None]]) -> float | None:
    """The mean of the steps' means, each over the pictures with a number; None where there is none."""
    means = [np.mean([v for v in step if v is not None]) for step in steps if any(v is not None for v in step)]
    return float(np.mean(means)) if means else None


def judge(
    spearman: Spread, pictures: int, order: Order | str, drawn: float = 1.0, *, depths: int, layers: int
) -> tuple[Verdict, str]:
    """(the verdict by RULE, why, in one sentence).

    pictures: how many have a map of the intact model. drawn: the share of the layers whose weights can be drawn again.
    depths: at how many layers a model was made; layers: of how many.
    """
    mean = spearman.mean
    reason = without_verdict(pictures, order, None if depths >= layers else depths)
    if reason is not None:
        return Verdict.UNDECIDED, reason
    if drawn <= 0.5:
        return Verdict.UNDECIDED, f"the weights of {1 - drawn:.0%} of the layers cannot be drawn again"
    if mean is None or spearman.undefined >= spearman.count:
        return Verdict.UNDECIDED, f"{spearman.undefined} of {spearman.count + spearman.undefined} maps are undefined"
    if mean < PASSES_BELOW:
        return Verdict.PASS, f"the mean Spearman {mean:.2f} is below {PASSES_BELOW:g}: the map follows the weights"
    if mean > FAILS_ABOVE:
        return Verdict.FAIL, f"the mean Spearman {mean:.2f} is above {FAILS_ABOVE:g}: the map outlives the weights"
    return Verdict.UNDECIDED, f"the mean Spearman {mean:.2f} lies between {PASSES_BELOW:g} and {FAILS_ABOVE:g}"


def without_verdict(pictures: int, order: Order | str, depths: int | None) -> str | None:
    """Why the verdict is 'undecided' whatever the maps are; None where they decide.

    depths: at how many layers models are made; None for every layer.
    """
    if order is not Order.TOP_DOWN:
        return "the rule is for the top-down order; one layer alone may matter little to any map"
    if pictures < FEWEST_PICTURES:
        verb = "is" if pictures == 1 else "are"
        return f"{counted(pictures, 'picture')} {verb} fewer than {FEWEST_PICTURES}, and one scatters widely"
    if depths is not None and depths < FEWEST_MODELS:
        return (
            f"models at {counted(depths, 'layer')} are too few ({FEWEST_MODELS} or more, or all layers): the model "
            f"without weights decides then, and methods that ignore most layers pass on it"
        )
    return None


def counted(number: int, noun: str) -> str:
    """1 picture, 2 pictures."""
    return f"{number} {noun}{'s' if number != 1 else ''}"
