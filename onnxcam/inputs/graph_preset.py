"""What a graph that normalises by itself takes: raw pixels, 0 to 1, or what else remains to be done outside.

The graph's own arithmetic (surgeon/analysis/normalisation.py) is compared with what pictures are normalised to.
choices.py takes the preset from here where nothing else says, and a result carries the notes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from onnxcam.inputs.presets import PRESETS, Preset, override
from onnxcam.surgeon.analysis.affine_input import ROUNDING, Normalisation
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.types import Image, Note, NoteCode, Origin, Source

Numbers = npt.NDArray[np.float64]

RESULTS = ("unit", "imagenet", "inception", "clip", "keras-caffe", "efficientnet-lite", "raw")
"""Presets whose numbers networks are trained on; a graph's part and what remains outside come to one of these."""
NEAR = 0.25
"""Share of a range by which another range may differ and still be taken for the same."""
QUANTISED = 0.04
"""The same for the limits of a quantised input, which are measured on pictures."""


@dataclass(frozen=True)
class Remainder:
    """What remains to be done outside of a graph that normalises by itself.

    preset: a named one, with the order of the colours that the graph takes. part: what the graph does, for people.
    colours_unknown: the graph swaps colours, and nothing says which order it takes.
    """

    preset: Preset
    part: str
    colours_unknown: bool = False

    @property
    def takes(self) -> str:
        """The range of the input, for people."""
        if self.preset.mean == (128.0,):
            return "pixels less 128"
        return _RANGES.get(self.preset.name.partition("+")[0], f"what preset {self.preset.name} makes")


_RANGES = {"raw": "pixels from 0 to 255", "unit": "numbers from 0 to 1", "keras-tf": "numbers from -1 to 1"}


def graph_preset(normalisations: Sequence[Normalisation], image: ImageInput) -> tuple[Preset, Origin] | None:
    """The preset that the graph itself tells, and how; None where it tells nothing that is understood."""
    normalisation = _only(normalisations)
    if normalisation is None:
        return None
    remainder = _remainder(normalisation, image)
    if remainder is not None:
        text = f"the graph itself {remainder.part}, so it takes {remainder.takes}; resizing is assumed"
        return remainder.preset, Origin(Source.MODEL, text)
    usual = _usual_of_range(normalisation) if normalisation.is_identity else None
    if usual is not None and image.channels == 3:
        held = f"from {normalisation.lowest:.3g} to {normalisation.highest:.3g}"
        text = f"assumed: the graph quantises its input {held}, as this preset has it; choose with --preset"
        return PRESETS[usual], Origin(Source.ASSUMED, text)
    return None


def integer_preset(image: ImageInput) -> Preset | None:
    """What becomes of pixels for an input of integers: themselves, less 128 as int8; None for other inputs."""
    if np.dtype(image.dtype).kind not in "iu":
        return None
    return override(PRESETS["raw"], mean=(128.0,)) if image.dtype == "int8" else PRESETS["raw"]


def without_graphs_part(
    preset: Preset, origin: Origin, normalisations: Sequence[Normalisation], image: ImageInput
) -> tuple[Preset, Origin]:
    """What remains of a preset that travels with a model if the graph does a part of just this preset; else itself."""
    normalisation = _only(normalisations)
    remainder = _remainder(normalisation, image) if normalisation is not None else None
    if normalisation is None or remainder is None or len({1, image.channels, *map(len, (preset.mean, preset.std))}) > 2:
        return preset, origin
    scale, offset = _after(normalisation, *_affine(remainder.preset, image.channels))
    whole = _affine(preset, image.channels)
    if not _alike((scale, offset), whole) or _alike(_affine(remainder.preset, image.channels), whole):
        return preset, origin
    rest = remainder.preset
    return override(preset, scale=rest.scale, mean=rest.mean, std=rest.std), replace(
        origin, text=f"{origin}; without the part of the graph, which {remainder.part} itself"
    )


def preset_notes(
    normalisations: Sequence[Normalisation], image: ImageInput, preset: Preset, origin: Origin
) -> tuple[Note, ...]:
    """Doubts about a preset in view of what the graph does itself."""
    if len(normalisations) > 1 or not normalisations:
        changed = [n for n in normalisations if not n.is_identity]
        text = (
            f"the picture enters the network in {len(normalisations)} ways, of which the graph changes "
            f"{len(changed)} before the first layer; check the preprocessing (--preset)"
        )
        return (Note(NoteCode.NORMALISATION_UNCLEAR, text),) if changed and origin.source is Source.ASSUMED else ()
    normalisation = normalisations[0]
    remainder = _remainder(normalisation, image)
    if remainder is not None:
        return (*_twice(remainder, preset, image.channels), *_colours(remainder, origin))
    if integer_preset(image) is not None and image.dtype != "uint8":  # of bytes, the loader refuses such numbers
        return _integer_notes(image, preset)
    if not normalisation.is_identity:
        text = (
            f"the graph itself {_part(normalisation)} before its first layer, which no usual preprocessing explains; "
            f"check the preprocessing (--preset)"
        )
        return (Note(NoteCode.NORMALISATION_UNCLEAR, text),) if origin.source is Source.ASSUMED else ()
    return _range_notes(normalisation, preset, image.channels)


@dataclass(frozen=True, eq=False)
class ArrayNotes:
    """Notes on arrays that came preprocessed. normalisations: what the graph does itself."""

    normalisations: Sequence[Normalisation]
    image: ImageInput

    @cached_property
    def _remainder(self) -> Remainder | None:
        normalisation = _only(self.normalisations)
        return _remainder(normalisation, self.image) if normalisation is not None else None

    def __call__(self, array: Image) -> tuple[Note, ...]:
        """A doubt about the array, where the graph normalises by itself."""
        remainder = self._remainder
        if remainder is None:
            return ()
        low, high = float(array.min()), float(array.max())
        name = remainder.preset.name.partition("+")[0]
        doubtful = (name == "raw" and (low < -0.5 or 0 < high <= 1)) or (name == "unit" and (low < -0.1 or high > 1.5))
        if not doubtful:
            return ()
        text = (
            f"the graph itself {remainder.part}, so it takes {remainder.takes}, but the array holds numbers from "
            f"{low:.3g} to {high:.3g}; pass the picture, or an array of that range"
        )
        return (Note(NoteCode.NORMALISED_TWICE, text),)


def _only(normalisations: Sequence[Normalisation]) -> Normalisation | None:
    """The one normalisation of the graph; None where its first layers take different ones."""
    return normalisations[0] if len(normalisations) == 1 else None


def _affine(preset: Preset, channels: int) -> tuple[Numbers, Numbers]:
    """(scale, offset) of a preset, each (C,), as a function of pixels from 0 to 255."""
    mean, std = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (preset.mean, preset.std))
    return preset.scale / std, -mean / std


def _after(normalisation: Normalisation, scale: Numbers, offset: Numbers) -> tuple[Numbers, Numbers]:
    """(scale, offset) of the graph's part after another one, in the order of the channels that the layer takes."""
    order = list(normalisation.order)
    factor, term = np.asarray(normalisation.scale), np.asarray(normalisation.offset)
    return factor * scale[order], factor * offset[order] + term


def _alike(one: tuple[Numbers, Numbers], other: tuple[Numbers, Numbers]) -> bool:
    """Whether two affine functions of pixels are the same within rounding."""
    if one[0].shape != other[0].shape:
        return False
    size = np.abs(other[0])
    return bool(
        (np.abs(one[0] - other[0]) <= ROUNDING * size).all()
        and (np.abs(one[1] - other[1]) <= ROUNDING * 255 * size).all()
    )


def _remainder(normalisation: Normalisation, image: ImageInput) -> Remainder | None:
    """What remains outside; None where the graph does nothing, or something that is not understood."""
    order = sorted(normalisation.order)
    if normalisation.is_identity or order != list(range(image.channels)):
        return None
    whole = integer_preset(image)
    name = "raw" if whole is not None else _domain(normalisation)
    if name is None and not normalisation.keeps_numbers:
        return _paired(normalisation, image)
    if name is None or (image.channels == 3 and normalisation.order not in ((0, 1, 2), (2, 1, 0))):
        return None
    preset = whole if whole is not None else PRESETS[name]
    color, known = _input_color(normalisation, _after(normalisation, *_affine(preset, image.channels)))
    return Remainder(_colored(preset, color), _part(normalisation), normalisation.flips and not known)


def _domain(normalisation: Normalisation) -> str | None:
    """'raw' or 'unit', by the mean and the deviation that the graph takes off; None where neither is plausible."""
    scale, offset = np.asarray(normalisation.scale), np.asarray(normalisation.offset)
    if not (scale > 0).all():
        return None
    mean = -offset / scale
    pixels = (scale >= 1 / 350).all() and (scale <= 1 / 25).all() and (mean >= -10).all() and (mean <= 200).all()
    centred = (scale >= 0.5).all() and (scale <= 2).all() and (mean >= 60).all() and (mean <= 200).all()
    if pixels or centred:
        return "raw"
    inner = (mean >= 0.05).all() and (mean <= 0.95).all()
    enlarged = (scale >= 100).all() and (scale <= 300).all() and (mean >= -0.05).all() and (mean <= 0.95).all()
    if (inner and (scale >= 0.8).all() and (scale <= 14).all()) or enlarged:
        return "unit"
    return None


def _paired(normalisation: Normalisation, image: ImageInput) -> Remainder | None:
    """What remains where the graph goes on from pictures that are normalised already, as from -1..1 to ImageNet's."""
    if image.channels != 3 or normalisation.order not in ((0, 1, 2), (2, 1, 0)):
        return None
    for name in ("keras-tf", "imagenet"):
        for color in ("rgb", "bgr"):
            scale, offset = _affine(PRESETS[name], 3)
            step = 1 if color == "rgb" else -1
            result = _after(normalisation, scale[::step], offset[::step])
            final = _final_color(result)
            if final is None or (final[0] is not None and (final[0] == color) is normalisation.flips):
                continue
            return Remainder(_colored(PRESETS[name], color), _part(normalisation))
    return None


def _colored(preset: Preset, color: str) -> Preset:
    """The preset for this order of colours, its means and deviations reversed with them."""
    if color == "rgb":
        return preset
    return override(preset, color=color, mean=preset.mean[::-1], std=preset.std[::-1])


def _final_color(result: tuple[Numbers, Numbers]) -> tuple[str | None] | None:
    """('rgb',) or ('bgr',) of numbers that networks are trained on, (None,) of those of either; None of others."""
    for name in RESULTS:
        scale, offset = _affine(PRESETS[name], 3)
        step = -1 if PRESETS[name].color == "bgr" else 1  # in the order of RGB
        forward, backward = (scale[::step], offset[::step]), (scale[::-step], offset[::-step])
        alike = _alike(result, forward), _alike(result, backward)
        if any(alike):
            return (None if all(alike) else "rgb" if alike[0] else "bgr",)
    return None


def _input_color(normalisation: Normalisation, result: tuple[Numbers, Numbers]) -> tuple[str, bool]:
    """(order of the colours that the graph takes, whether the means say so)."""
    if len(normalisation.order) != 3:
        return "rgb", True
    means = -result[1] / result[0]
    for known in (PRESETS["imagenet"], PRESETS["clip"], PRESETS["keras-caffe"]):
        scale, offset = _affine(known, 3)
        usual = -offset / scale if known.color == "rgb" else (-offset / scale)[::-1]
        for color, order in (("rgb", 1), ("bgr", -1)):
            if np.allclose(means, usual[::order], 0.015, 0):
                flipped = {"rgb": "bgr", "bgr": "rgb"}[color]
                return (flipped if normalisation.flips else color), True
    return "rgb", False


def _part(normalisation: Normalisation) -> str:
    """What the graph does, for people."""
    scale, offset = np.asarray(normalisation.scale), np.asarray(normalisation.offset)
    parts: list[str] = []
    if normalisation.order != tuple(sorted(normalisation.order)):
        parts.append("swaps the colours")
    if np.allclose(offset, 0, 0, 1e-6):
        if not np.allclose(scale, 1, 0, 1e-6):
            parts.append(f"multiplies by {_listed(scale)}")
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = -offset / scale
        parts.append(f"subtracts {_listed(mean)}")
        if not np.allclose(scale, 1, 0, 1e-6):
            parts[-1] += f" and divides by {_listed(1 / scale)}"
    return " and ".join(parts)


def _listed(numbers: Numbers) -> str:
    return ", ".join(f"{n:.4g}" for n in (numbers[:1] if np.allclose(numbers, numbers[0]) else numbers))


def _limits(preset: Preset, channels: int) -> tuple[float, float]:
    """The least and the largest number that the preset makes of a pixel."""
    scale, offset = _affine(preset, channels)
    ends = np.stack([offset, 255 * scale + offset])
    return float(ends.min()), float(ends.max())


def _twice(remainder: Remainder, preset: Preset, channels: int) -> Iterator[Note]:
    """A note where the preset gives other numbers than the graph takes."""
    if not {len(preset.mean), len(preset.std)} <= {1, channels}:
        return
    expected, given = _limits(remainder.preset, channels), _limits(preset, channels)
    width = expected[1] - expected[0]
    if any(abs(a - b) > NEAR * width for a, b in zip(expected, given, strict=True)):
        text = (
            f"the graph itself {remainder.part}, so it takes {remainder.takes}, but the preset {preset.name} makes "
            f"numbers from {given[0]:.3g} to {given[1]:.3g}; use --preset {remainder.preset.name.partition('+')[0]}"
        )
        yield Note(NoteCode.NORMALISED_TWICE, text)


def _colours(remainder: Remainder, origin: Origin) -> Iterator[Note]:
    if remainder.colours_unknown and origin.source is not Source.GIVEN:
        text = (
            f"the graph itself {remainder.part}, and nothing says whether it takes RGB or BGR; RGB is assumed, "
            f"choose with --color"
        )
        yield Note(NoteCode.NORMALISATION_UNCLEAR, text)


def _integer_notes(image: ImageInput, preset: Preset) -> tuple[Note, ...]:
    """A note where an input of integers would hold few of the numbers that the preset makes."""
    if not {len(preset.mean), len(preset.std)} <= {1, image.channels}:
        return ()
    low, high = _limits(preset, image.channels)
    if high - low >= 0.5 * 255:
        return ()
    text = (
        f"the model takes integers ({image.dtype}), but the preset {preset.name} makes numbers from {low:.3g} to "
        f"{high:.3g}; use --preset raw"
    )
    return (Note(NoteCode.INPUT_RANGE, text),)


def _usual_of_range(normalisation: Normalisation) -> str | None:
    """The preset whose limits are those of a quantised input; None where none is, or several may be."""
    low, high = normalisation.lowest, normalisation.highest
    if low is None or high is None:
        return None
    symmetric = abs(low + high) < 0.02 * (high - low)
    for name in ("imagenet", "raw", "keras-caffe", "unit", "keras-tf"):
        usual = _limits(PRESETS[name], 3)
        width = usual[1] - usual[0]
        largest = max(abs(n) for n in usual)
        if symmetric and largest > 2:  # of 1 it may be 0..1 or -1..1
            if abs(high - largest) < QUANTISED * largest:
                return name
        elif all(abs(a - b) < QUANTISED * width for a, b in zip((low, high), usual, strict=True)) and (
            not symmetric or low > -1.006
        ):
            return name
    return None


def _range_notes(normalisation: Normalisation, preset: Preset, channels: int) -> tuple[Note, ...]:
    """A note where a quantised input cuts off what the preset makes, or has room for far more."""
    low, high = normalisation.lowest, normalisation.highest
    if low is None or high is None or not {len(preset.mean), len(preset.std)} <= {1, channels}:
        return ()
    given = _limits(preset, channels)
    width = given[1] - given[0]
    cut = max(low - given[0], given[1] - high)
    if cut <= NEAR * width and width >= NEAR * (high - low):
        return ()
    text = (
        f"the graph quantises its input from {low:.3g} to {high:.3g}, but the preset {preset.name} makes numbers from "
        f"{given[0]:.3g} to {given[1]:.3g}; check the preprocessing (--preset)"
    )
    return (Note(NoteCode.INPUT_RANGE, text),)
