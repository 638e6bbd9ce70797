"""The command line's text as the library's values: targets, a method, extra inputs, preprocessing, files' style."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.cli.options import (
    EngineArgs,
    FileArgs,
    LimitArgs,
    MapArgs,
    MeasuringArgs,
    MethodArgs,
    OpeningArgs,
    PreprocessingArgs,
    TargetArgs,
)
from onnxcam.errors import OptionError
from onnxcam.files import not_fetched

if TYPE_CHECKING:
    from onnxcam.engine.options import EngineOptions
    from onnxcam.engine.providers import ProviderSpec
    from onnxcam.explainer.measuring import Requests
    from onnxcam.explainer.targets.resolving import ParsedTargets
    from onnxcam.inputs.presets import Preset
    from onnxcam.limits import Limits
    from onnxcam.methods.blocks import Method
    from onnxcam.outputs.overlay import Style

PLAIN = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
NUMBER = rf"{PLAIN}|true|false|nan|[+-]?inf"
ADDRESS = r"[a-z][a-z0-9+.-]+://|data:image/"
"""How a URL starts; the drive of a Windows path has one letter."""


def parse_path(text: str) -> Path:
    """A path. Raises OptionError for a URL, a name that no file can have, and an empty text (an unset variable)."""
    if not text:
        raise OptionError("a file name is empty; was a variable not set?")
    if "\0" in text or not _encodes(text):
        raise OptionError(f"{text!r}: no file can have this name; give another one")
    if re.match(ADDRESS, text, re.IGNORECASE):
        raise OptionError(f"{text}: {not_fetched(text)}")
    return Path(text)


def _encodes(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def parse_output(text: str | None) -> str | None:
    """What -o names, if it is given. Raises OptionError for an empty text, and for a URL."""
    if text is not None and re.match(ADDRESS, text, re.IGNORECASE):
        raise OptionError(f"-o {text}: nothing is sent: give a file or a folder, and upload it afterwards")
    if text is not None:
        parse_path(text)
    return text


def files_of(args: MapArgs | OpeningArgs) -> list[Path]:
    """Every file that the options may name beside the model and the pictures, whether it exists or not.

    Raises OptionError for a URL.
    """
    opening = args if isinstance(args, OpeningArgs) else args.opening
    texts = [text.partition("=")[2] for text in opening.inputs or ()]
    if not isinstance(args, OpeningArgs):
        targets = args.targets
        texts += [*(targets.reference or ()), targets.region or "", targets.labels or "", args.method.step or ""]
    return [parse_path(text) for text in texts if text]


def parse_list(text: str, option: str) -> list[str]:
    """The parts of a text with commas, each once. Raises OptionError if there is none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise OptionError(f"--{option} is empty")
    return list(dict.fromkeys(parts))


def parse_targets(args: TargetArgs) -> "ParsedTargets":
    """What is scored. Raises OptionError for options that contradict each other or cannot be read."""
    from onnxcam.explainer.targets import resolving

    options = {
        "index": args.index, "box": args.box, "region": args.region, "timestep": args.timestep,
        "reference": args.reference,
    }  # fmt: skip
    words = {name: [value] if isinstance(value, str) else value for name, value in options.items() if value is not None}
    return resolving.parse_targets(split_classes(args.target or ()), words)


def split_labels(texts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Classes, each once: a text with commas is several, unless it is one of the labels as a whole."""
    known = {label.casefold() for label in labels}
    classes: list[str] = []
    for text in texts:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        classes.extend([text] if text.strip().casefold() in known or not parts else parts)
    return list(dict.fromkeys(classes))


def split_classes(texts: Sequence[str]) -> list[str]:
    """Classes, each once. Indices and ranks may share one text (top1,rank3); a label may contain commas."""
    classes: list[str] = []
    for text in texts:
        parts = [part.strip() for part in text.split(",")]
        several = all(re.fullmatch(r"(?:top|rank)-?\d+|\d+", part, re.IGNORECASE) for part in parts)
        classes.extend(parts if several else [text])
    return list(dict.fromkeys(classes))


def build_method(args: MethodArgs) -> "Method":
    """The method with its options. Raises OptionError for an unknown name, option or value."""
    from onnxcam.methods import defaults, method
    from onnxcam.methods.fills import fill_named

    name = _method_name(args.method)
    texts = _option_texts(args)
    known = defaults(name)
    _check_estimate(args, name, known, texts)
    for key in texts:
        if key not in known:
            listed = f"it has {', '.join(known)}" if known else "it has none"
            raise OptionError(f"{name} has no option {key!r}; {listed}")
    values = {k: fill_named(v).name if k == "fill" else parse_option(k, v, known[k]) for k, v in texts.items()}
    return method(name, **values)


def build_methods(args: MethodArgs) -> "list[Method]":
    """The methods of a list with commas, each perhaps with options of its own: score-cam:budget=50:variant=paper.

    Another option goes to each method that has it, and one of them must. Raises OptionError as build_method() does.
    """
    from onnxcam.methods import defaults
    from onnxcam.methods.score_cam import FAST

    # A comma before a digit parts the numbers of a pair, as in bounds=-1,2.
    parts = [part.strip() for part in re.split(r",(?!\s*[-+.0-9])", args.method) if part.strip()]
    if not parts:
        raise OptionError("--method is empty")
    words = [part.split(":") for part in parts]
    known = [set(defaults(_method_name(name))) for name, *_ in words]
    names = ", ".join(name for name, *_ in words)
    if args.fast and not any("tolerance" in options for options in known):
        raise OptionError(f"--fast is for score-cam, which is not among {names}")
    shared = {**_option_texts(args), **({"tolerance": str(FAST)} if args.fast else {})}
    for key in shared:
        if not any(key in options for options in known):
            raise OptionError(f"none of {names} has an option {key!r}")
    methods = []
    for (name, *own), options in zip(words, known, strict=True):
        given = {text.partition("=")[0].strip().replace("-", "_") for text in own}
        rest = [f"{key}={text}" for key, text in shared.items() if key in options - given]
        methods.append(build_method(MethodArgs(method=name, options=[*own, *rest], step=args.step)))
    return methods


def _method_name(text: str) -> str:
    """The name of a method, whatever its letters' case; the text itself if there is none."""
    from onnxcam.methods import METHODS, method_names

    name = text.strip()
    if name in METHODS:  # without a look at the installed packages
        return name
    names = method_names()
    return name if name in names else next((known for known in names if known.casefold() == name.casefold()), name)


def parse_integers(text: str, option: str) -> list[int]:
    """'0,1,2' to numbers of 0 or more. Raises OptionError."""
    parts = parse_list(text, option)
    if not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise OptionError(f"--{option} {text!r} is not a number of 0 or more, or several with commas")
    return [int(part) for part in parts]


def _option_texts(args: MethodArgs) -> dict[str, str]:
    """The text of every option of the method that is given, by --option or by a flag of its own."""
    texts: dict[str, str] = {}
    for text in args.options or ():
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key in texts:
            raise OptionError(f"--option {text!r}: give NAME=VALUE, each name once")
        texts[key] = value.strip()
    flags = {
        "convention": args.convention,
        "variant": args.variant,
        "fill": args.fill,
        "budget": args.budget,
        "tolerance": args.tolerance,
    }
    for key, flag in flags.items():
        if flag is not None and key in texts:
            raise OptionError(f"{key} is given twice: as --{key} and as --option")
        if flag is not None:
            texts[key] = str(flag)
    return texts


def _check_estimate(args: MethodArgs, name: str, known: Mapping[str, Any], texts: dict[str, str]) -> None:
    """Refuses --budget, --tolerance and --fast for a method without them; adds --fast as a tolerance."""
    for flag, value in (("budget", args.budget), ("tolerance", args.tolerance), ("fast", args.fast or None)):
        if value is not None and "budget" not in known:
            raise OptionError(
                f"--{flag} is for score-cam, not for {name} (`onnxcam methods` lists the options of each)"
            )
    if args.fast:
        from onnxcam.methods.score_cam import FAST

        if "tolerance" in texts:
            raise OptionError(f"--fast is a tolerance of {FAST:g}; give one of the two")
        texts["tolerance"] = str(FAST)


def parse_option(name: str, text: str, default: Any) -> Any:
    """A method's option as a value of its default's type; numbers with a comma are a pair."""
    if isinstance(default, str):
        return text
    if "," in text:
        return tuple(_number(name, part) for part in text.split(","))
    if default is None and text.lower() == "none":
        return None
    value = _number(name, text)
    integer = isinstance(default, int) or (default is None and re.fullmatch(r"[+-]?[0-9]+", text.strip()) is not None)
    return int(value) if integer and value == int(value) else value


def _number(name: str, text: str) -> float:
    if not re.fullmatch(PLAIN, text.strip()):
        raise OptionError(f"the option {name} is a number, not {text!r}")
    if not math.isfinite(float(text)):
        raise OptionError(f"the option {name} is too large: {text}")
    return float(text)


def parse_requests(args: MeasuringArgs, pictures: int) -> "Requests | None":
    """What is measured of each map; None without --metrics. pictures: how many are explained.

    Raises OptionError for an unknown metric, for a box that cannot be read or that no metric needs, and for a box where
    there are several pictures.
    """
    if args.metrics is None:
        if args.truth:
            raise OptionError("--truth is the object's box for metrics that need one; name them with --metrics")
        return None
    from onnxcam.explainer.measuring import Requests
    from onnxcam.metrics.requests import requested

    boxes = tuple(parse_box(text) for text in args.truth or ())
    if boxes and pictures > 1:
        raise OptionError(
            f"--truth is where the object is on one picture, and {pictures} are given; give each picture and "
            f"its box in a call of its own"
        )
    return Requests(requested(parse_list(args.metrics, "metrics"), has_box=bool(boxes)), boxes)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """'40,20,300,280' to (left, top, right, bottom). Raises OptionError."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(re.fullmatch(PLAIN, part) for part in parts):
        raise OptionError(f"--truth {text!r} is not LEFT,TOP,RIGHT,BOTTOM, four numbers such as 40,20,300,280")
    left, top, right, bottom = map(float, parts)
    if not (left < right and top < bottom):
        raise OptionError(f"--truth {text!r} holds no pixel: left lies left of right, and top above bottom")
    return left, top, right, bottom


def parse_inputs(texts: Sequence[str]) -> dict[str, Any]:
    """Extra inputs by name: the path of a picture, the array of an .npy file, or numbers with commas between them.

    Raises OptionError.
    """
    import numpy as np

    from onnxcam.inputs.images import SUFFIXES
    from onnxcam.inputs.loader import read_array

    inputs: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise OptionError(f"input {text!r} is not NAME=FILE.npy or NAME=VALUE")
        if name in inputs:
            raise OptionError(f"the input {name!r} is given twice")
        if value.lower().endswith(".npy"):
            inputs[name] = read_array(value)
            continue
        if Path(value).suffix.lower() in SUFFIXES:
            inputs[name] = parse_path(value)
            continue
        parts = [p.strip().lower() for p in value.split(",")]
        if not all(re.fullmatch(NUMBER, p) for p in parts):
            raise OptionError(f"the value of input {name!r}, {value!r}, is no number, no .npy file and no picture")
        numbers = np.asarray([1.0 if p == "true" else 0.0 if p == "false" else float(p) for p in parts])
        inputs[name] = numbers[0] if len(numbers) == 1 else numbers
    return inputs


def parse_image_input(names: Sequence[str] | None) -> str | None:
    """The one input that takes the picture. Raises OptionError for several, which `explain` takes one by one."""
    if names and len(names) > 1:
        raise OptionError("--image-input is given several times; name one input")
    return names[0] if names else None


def parse_engine(args: EngineArgs) -> "EngineOptions":
    """Raises OptionError for an amount of memory that cannot be read."""
    from onnxcam.engine.options import EngineOptions, memory_cap

    cap = memory_cap(args.gpu_mem) if args.gpu_mem is not None else None
    return EngineOptions(
        gpu_mem=cap, half=args.half, tf32=args.tf32, cuda_graph=args.cuda_graph, precision=args.precision
    )


def parse_provider_words(args: EngineArgs) -> "list[ProviderSpec]":
    """The providers, each with its --provider-option.

    Without a provider's name before it (cuda.device_id=1), an option is of the only provider besides the CPU. Names are
    the same in capitals and in onnxruntime's own form. Raises OptionError for an option that is of none of the
    providers, or given twice.
    """
    from onnxcam.engine.providers import PROVIDERS

    names = parse_list(args.providers, "providers")
    options: dict[str, dict[str, str]] = {name: {} for name in names}
    by_full = {PROVIDERS.get(name.lower(), name).lower(): name for name in names}
    devices = [name for name in names if PROVIDERS.get(name.lower(), name) != PROVIDERS["cpu"]] or names
    for text in args.provider_option or ():
        key, equals, value = text.partition("=")
        prefix, dot, rest = key.partition(".")
        name, key = (
            (by_full.get(PROVIDERS.get(prefix.lower(), prefix).lower(), prefix), rest) if dot else (devices[0], key)
        )
        if not (equals and key.strip()):
            raise OptionError(f"--provider-option {text!r} is no option and value, such as device_id=1")
        if name not in options:
            raise OptionError(f"--provider-option {text!r} is of none of --providers {args.providers}")
        if not dot and len(devices) > 1:
            raise OptionError(f"--provider-option {text!r} is of which provider? write {devices[0]}.{text}")
        if key in options[name]:
            raise OptionError(f"--provider-option {key} is given twice")
        options[name][key] = value
    return [(name, options[name]) if options[name] else name for name in names]


def parse_limits(args: LimitArgs) -> "Limits":
    """Raises OptionError for a limit that cannot be read."""
    from onnxcam.engine.options import memory_cap
    from onnxcam.limits import Limits

    limits = Limits()
    if args.max_pixels is not None:
        limits = replace(limits, pixels=_pixels(args.max_pixels.strip().lower()))
    if args.timeout is not None:
        text = args.timeout.strip().lower()
        if text != "none" and not re.fullmatch(PLAIN, text):
            raise OptionError(f"--timeout {args.timeout!r} is no number of seconds, such as 60 or 0.5, nor none")
        limits = replace(limits, seconds=None if text == "none" else float(text))
    if args.max_memory is not None:
        cap = memory_cap(args.max_memory) if args.max_memory.strip().lower() != "none" else None
        if cap is not None and cap.amount is None:
            raise OptionError(f"--max-memory is an amount such as 4GB, or none, not {args.max_memory!r}")
        limits = replace(limits, memory=cap.amount if cap is not None else None)
    return limits


def _pixels(text: str) -> int | None:
    """50000000, 50M, 10000x10000 or none."""
    if text == "none":
        return None
    match = re.fullmatch(r"([0-9]{1,12})(m?)|([0-9]{1,9})x([0-9]{1,9})", text)
    if match is None:
        raise OptionError(f"--max-pixels {text!r} is no number of pixels, such as 50M or 10000x10000, nor none")
    number, million, width, height = match.groups()
    return int(width) * int(height) if number is None else int(number) * (10**6 if million else 1)


def parse_adjustment(args: PreprocessingArgs) -> "Callable[[Preset], Preset]":
    """A function that lays the fields of the command line over a preset. Raises OptionError or PresetError."""
    from onnxcam.inputs.presets import parse_crop, parse_numbers, parse_scale

    mean = parse_numbers(args.mean) if args.mean is not None else None
    std = parse_numbers(args.std) if args.std is not None else None
    scale = parse_scale(args.scale) if args.scale is not None else None
    crop = parse_crop(args.crop) if args.crop is not None else None
    padding = parse_numbers(args.padding) if args.padding is not None else None
    if args.whole and (crop not in (None, 1.0) or args.resize == "shortest"):
        raise OptionError("--whole cuts nothing of the picture, so it goes without --crop and --resize shortest")

    given = {"mean": mean, "std": std, "scale": scale, "crop": crop, "color": args.color, "resize": args.resize}
    return partial(_adjusted, given, padding, args.whole)  # can be pickled, as an isolated process needs it


def _adjusted(
    given: Mapping[str, Any], padding: tuple[float, ...] | None, is_whole: bool, preset: "Preset"
) -> "Preset":
    from onnxcam.inputs.presets import LETTERBOXES, override, whole

    preset = override(preset, **given)
    if padding is not None and preset.resize not in LETTERBOXES:
        raise OptionError("--padding is the colour of a letterbox's bars; give --resize letterbox too")
    preset = override(preset, padding=padding)
    return whole(preset) if is_whole else preset


def parse_window(text: str | None) -> tuple[float, ...] | None:
    """'-160,240' to two numbers. Raises OptionError."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(re.fullmatch(PLAIN, part) for part in parts):
        raise OptionError(f"--window {text!r} is not LOW,HIGH, two numbers such as -160,240")
    return tuple(float(part) for part in parts)


def parse_bands(text: str | None) -> tuple[int, ...] | None:
    """'4,3,2' to three numbers. Raises OptionError."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,6}", part) for part in parts):
        raise OptionError(f"--bands {text!r} is not three numbers such as 4,3,2")
    return tuple(int(part) for part in parts)


def parse_style(args: FileArgs) -> "Style":
    """How overlays are drawn. Raises OptionError for an unknown colormap and for numbers out of range."""
    from onnxcam.outputs.overlay import Style

    style = Style(caption=args.caption)
    return replace(
        style,
        colormap=args.colormap if args.colormap is not None else style.colormap,
        alpha=args.alpha if args.alpha is not None else style.alpha,
        threshold=args.threshold if args.threshold is not None else style.threshold,
        max_size=args.max_size,
    )


def parse_destination(out: str | None, name: str, what: str) -> Path:
    """The file that -o names, or the usual name in its folder. what: the file holds. Raises OnnxCamError."""
    from onnxcam.outputs.paths import is_folder, named_file

    out = parse_output(out)
    if out is None:
        return Path(name)
    return Path(out, name) if is_folder(out) else named_file(out, what, [".onnx"])
