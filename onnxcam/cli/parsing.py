"""What the command line's words ask to explain: targets and extra inputs, as the library's values."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.cli.options import target_words
from onnxcam.errors import OptionError, near

if TYPE_CHECKING:
    from onnxcam.explainer.targets.values import TargetLike
    from onnxcam.methods.blocks import Method

PLAIN = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
NUMBER = rf"{PLAIN}|true|false|nan|[+-]?inf"


@dataclass(frozen=True)
class TargetArgs:
    """The options that say what is scored, as they were given. target: () if none was."""

    target: tuple[str, ...] = ()
    output: str | None = None
    index: tuple[str, ...] = ()
    box: tuple[str, ...] = ()
    region: str | None = None
    reference: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParsedTargets:
    """targets, a name of each for files, and the kind of head (None: the model decides)."""

    targets: "tuple[TargetLike, ...]"
    names: tuple[str, ...]
    kind: str | None


METHOD = "score-cam"
"""What `explain` runs unless --method says otherwise."""


@dataclass(frozen=True)
class MethodArgs:
    """The options that say how, as they were given; None for what was not."""

    name: str = METHOD
    convention: str | None = None
    variant: str | None = None
    fill: str | None = None
    options: tuple[str, ...] = ()
    step: str | None = None
    budget: int | None = None
    tolerance: float | None = None
    fast: bool = False


def build_method(words: MethodArgs) -> "Method":
    """The method with its options; raises OptionError for a name, an option or a value that it does not have."""
    from onnxcam.methods import METHODS, defaults
    from onnxcam.methods.fills import fill_named

    name = words.name.strip().lower()
    if name not in METHODS:
        raise OptionError(f"no method is called {words.name!r}; {near(words.name, METHODS)}")
    given: dict[str, str] = {}
    for text in words.options:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key in given:
            raise OptionError(f"--option {text!r}: give NAME=VALUE, each name once")
        given[key] = value.strip()
    for key in ("convention", "variant", "fill", "budget", "tolerance"):
        value = getattr(words, key)
        if value is not None and key in given:
            raise OptionError(f"{key} is given twice: as --{key} and as --option")
        if value is not None:
            given[key] = str(value)
    known = defaults(name)
    _spare(words, name, known, given)
    for key in given:
        if key not in known:
            listed = f"it has {', '.join(known)}" if known else "it has none"
            raise OptionError(f"{name} has no option {key!r}; {listed}")
    values = {k: fill_named(v) if k == "fill" else parse_option(k, v, known[k]) for k, v in given.items()}
    return METHODS[name](**values)


def _spare(words: MethodArgs, name: str, known: Mapping[str, Any], given: dict[str, str]) -> None:
    """What --budget, --tolerance and --fast have in common: they spare passes of Score-CAM."""
    from onnxcam.methods.score_cam import FAST

    for word, value in (("budget", words.budget), ("tolerance", words.tolerance), ("fast", words.fast or None)):
        if value is not None and "budget" not in known:
            raise OptionError(f"--{word} is for score-cam, not for {name} (onnxcam methods lists the options of each)")
    if words.fast and "tolerance" in given:
        raise OptionError(f"--fast is a tolerance of {FAST:g}; give one of the two")
    if words.fast:
        given["tolerance"] = str(FAST)


def parse_option(name: str, text: str, default: Any) -> Any:
    """A method's option as a value of its default's type; numbers with a comma are a pair."""
    if isinstance(default, str):
        return text
    if "," in text:
        return tuple(_number(name, part) for part in text.split(","))
    if default is None and text.lower() == "none":
        return None
    value = _number(name, text)
    whole = isinstance(default, int) or (default is None and re.fullmatch(r"[+-]?[0-9]+", text.strip()) is not None)
    return int(value) if whole and value == int(value) else value


def _number(name: str, text: str) -> float:
    if not re.fullmatch(PLAIN, text.strip()):
        raise OptionError(f"the option {name} is a number, not {text!r}")
    if not math.isfinite(float(text)):
        raise OptionError(f"the option {name} is too large: {text}")
    return float(text)


def wanted(words: TargetArgs) -> ParsedTargets:
    """Raises OptionError for words that contradict each other or cannot be read."""
    from onnxcam.explainer.targets.values import Box, Element, Region, Similarity

    used = [f"--{name}" for name in ("index", "box", "region", "reference") if getattr(words, name)]
    if len(used) > 1:
        raise OptionError(f"{' and '.join(used)} contradict each other: each says what is scored")
    labels = target_words(list(words.target))
    if words.index:
        _without_target(words, "--index names a number of the output")
        found = [Element(parse_index(text)) for text in words.index]
        return ParsedTargets(tuple(found), words.index, "elements")
    if words.reference:
        _without_target(words, "--reference compares embeddings")
        names = [Path(r).stem for r in words.reference]
        return ParsedTargets(tuple(Similarity(r) for r in words.reference), tuple(names), "embedding")
    if words.box:
        pairs = [(box, label) for box in words.box for label in (labels or ("",))]
        boxes = tuple(Box(int(b) if re.fullmatch(r"\d+", b) else b, label or None) for b, label in pairs)
        return ParsedTargets(boxes, tuple(f"box-{b}" + (f"-{label}" if label else "") for b, label in pairs), "boxes")
    if words.region is not None:
        where = parse_region(words.region)
        return ParsedTargets(tuple(Region(t, where) for t in labels or ["top1"]), tuple(labels or ["top1"]), "region")
    return ParsedTargets(tuple(labels or ["top1"]), tuple(labels or ["top1"]), None)


def _without_target(words: TargetArgs, why: str) -> None:
    if words.target:
        raise OptionError(f"{why}, so it goes without --target")


def parse_index(text: str) -> tuple[int, ...]:
    """'4,17', also '[4, 17]': one number an axis after the batch."""
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    if not all(re.fullmatch(r"\s*-?[0-9]{1,18}\s*", p) for p in parts):
        raise OptionError(f"index {text!r} is not a list of whole numbers such as 4,17")
    return tuple(int(p) for p in parts)


def parse_region(text: str) -> Any:
    """'left,top,right,bottom' in pixels of the picture, or a file: a mask picture or an .npy of the picture's size."""
    parts = text.split(",")
    if len(parts) == 4 and all(re.fullmatch(rf"\s*{PLAIN}\s*", p) for p in parts):
        left, top, right, bottom = (float(p) for p in parts)
        if not (left < right and top < bottom):
            raise OptionError(f"region {text!r} is empty: it is left,top,right,bottom in pixels")
        return left, top, right, bottom
    if Path(text).suffix and not Path(text).is_file():
        raise OptionError(f"region {text!r}: no such file")
    if not Path(text).is_file():
        raise OptionError(f"region {text!r} is neither left,top,right,bottom in pixels nor a file with a mask")
    from onnxcam.inputs.loader import read_image

    mask = read_image(text)
    return mask.max(axis=2) > 127 if mask.ndim == 3 and mask.shape[2] == 3 else mask != 0


def parse_inputs(given: Sequence[str]) -> dict[str, Any]:
    """NAME=FILE.npy or NAME=VALUE, a number or several with commas."""
    import numpy as np

    from onnxcam.inputs.loader import read_array

    found: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise OptionError(f"input {text!r} is not NAME=FILE.npy or NAME=VALUE")
        if name in found:
            raise OptionError(f"the input {name!r} is given twice")
        if value.lower().endswith(".npy"):
            found[name] = read_array(value)
            continue
        parts = [p.strip().lower() for p in value.split(",")]
        if not all(re.fullmatch(NUMBER, p) for p in parts):
            raise OptionError(f"the value of input {name!r}, {value!r}, is no number and no .npy file")
        numbers = np.asarray(
            [{"true": 1.0, "false": 0.0}.get(p) if p in ("true", "false") else float(p) for p in parts]
        )
        found[name] = numbers[0] if len(numbers) == 1 else numbers
    return found
