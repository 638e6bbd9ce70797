"""The table of methods: what `--method` takes, what each method's options are, and where a method comes from.

METHODS maps the names of the built-in methods to the functions that make them, and loads a method's file when it is
looked up. Other packages add methods through the entry point group `onnxcam.methods`: a name, and a function that
returns a Method. They are looked up when they are asked for, never at import.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module, metadata
from inspect import Parameter, signature
from typing import Any, NamedTuple

from onnxcam.errors import OptionError, near
from onnxcam.limits import brief
from onnxcam.methods.blocks import Method, Need

Maker = Callable[..., Method]
"""A function whose keyword arguments are a method's options, each with a default."""


class _Makers(Mapping[str, Maker]):
    """Functions by name, from 'module:function' as entry points write it; a module is loaded when one is looked up."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Maker:
        module, _, function = self._places[name].partition(":")
        maker: Maker = getattr(import_module(f"onnxcam.methods.{module}"), function)
        return maker

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<the makers of {', '.join(self)}>"


# An explanation needs one method's file; loading all of them takes longer than some explanations.
METHODS: Mapping[str, Maker] = _Makers(
    {
        "score-cam": "score_cam:score_cam",
        "opti-cam": "opti_cam:opti_cam",
        "grad-cam": "grad_cam:grad_cam",
        "grad-cam++": "grad_cam:grad_cam_plus_plus",
        "layer-cam": "grad_cam:layer_cam",
        "hires-cam": "grad_cam:hires_cam",
        "xgrad-cam": "grad_cam:xgrad_cam",
        "cam": "feature_cams:cam",
        "ablation-cam": "feature_cams:ablation_cam",
        "recipro-cam": "feature_cams:recipro_cam",
        "eigen-cam": "feature_cams:eigen_cam",
        "gradient": "input_gradients:gradient",
        "guided-backprop": "input_gradients:guided_backprop",
        "smooth-grad": "input_gradients:smooth_grad",
        "integrated-gradients": "integrated_gradients:integrated_gradients",
        "rise": "rise:rise",
        "mask": "mask:mask",
    }
)
"""The built-in methods: the name that `--method` takes, and the function that makes the method."""

GROUP = "onnxcam.methods"
"""The entry point group through which other packages add methods."""
BUILT_IN = "onnxcam"
"""The origin of the methods in METHODS."""
NAMED = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Available(NamedTuple):
    """A method that can be asked for by its name.

    maker: the function that makes it; None if it is broken. origin: the distribution that it comes from, 'onnxcam' for
    built-in methods. error: why it cannot be used; None if it can.
    """

    name: str
    maker: Maker | None
    origin: str
    error: str | None


def method(name: str, /, **options: Any) -> Method:
    """Makes the method of that name, built-in or of an installed package, with these options.

    `method(m.name, **m.options)` is the method `m` again. Raises OptionError, with the names that come near, for an
    unknown name or option, for a value that makes no sense, and for a method of another package that cannot be loaded.
    """
    make = maker(name)
    known = defaults(name)
    for option in options:
        if option not in known:
            listed = near(option, known) if known else "it has none"
            raise OptionError(f"{name} has no option {option!r}; {listed}")
    return make(**options)


def maker(name: str) -> Maker:
    """The function that makes the method of that name. Raises OptionError as method() does."""
    if not isinstance(name, str):
        raise OptionError(f"a method's name is a text such as 'score-cam', not {brief(name)}")
    return METHODS[name] if name in METHODS else _loaded(name)[0]


def default_method(name: str) -> Method:
    """The method of that name with its default options. Raises OptionError as method() does."""
    return METHODS[name]() if name in METHODS else _loaded(name)[1]


def method_names() -> tuple[str, ...]:
    """The names of all methods, built-in and of other packages, each once. Loads no module of another package."""
    return tuple(dict.fromkeys((*METHODS, *(entry.name for entry in _entry_points()))))


def available() -> list[Available]:
    """All methods: the built-in ones in their order, then those of other packages by name.

    Loads the other packages' modules. A method that cannot be loaded, or that repeats a name, is listed with its error.
    """
    methods = [Available(name, make, BUILT_IN, None) for name, make in METHODS.items()]
    for name in sorted({entry.name for entry in _entry_points()}):
        entries = [entry for entry in _entry_points() if entry.name == name]
        origin = ", ".join(_origin(entry) for entry in entries)
        if name in METHODS:
            error = f"{origin} repeats the name of a built-in method, {name!r}; the built-in one is used"
            methods.append(Available(name, None, origin, error))
            continue
        try:
            methods.append(Available(name, _loaded(name)[0], origin, None))
        except OptionError as broken:
            methods.append(Available(name, None, origin, str(broken)))
    return methods


def defaults(name: str) -> Mapping[str, Any]:
    """A method's options with their defaults, by option name. Raises OptionError for an unknown method."""
    parameters = signature(maker(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind in NAMED}


def changed_options(method: Method) -> tuple[str, ...]:
    """The names of the options that differ from the defaults; all of them for a method that no name makes."""
    try:
        usual = default_method(method.name)
    except OptionError:
        return tuple(method.options)
    return tuple(name for name, value in method.options.items() if usual.options.get(name) != value)


def gradient_free() -> tuple[str, ...]:
    """The built-in methods that need no gradient and take any head; CAM, which takes one kind of head, is left out."""
    return tuple(name for name, make in METHODS.items() if Need.GRADIENT not in make().needs and name != "cam")


def reducible() -> tuple[str, ...]:
    """The built-in methods whose masked scores may be computed in a lower precision, with their default options."""
    return tuple(name for name, make in METHODS.items() if make().reducible)


def _loaded(name: str) -> tuple[Maker, Method]:
    """The maker of that name from another package, and its default method. Raises OptionError."""
    entries = tuple(entry for entry in _entry_points() if entry.name == name)
    if not entries:
        start, _, rest = name.partition(":")
        if rest and start in METHODS:
            raise OptionError(
                f"{name!r}: a method's options are given apart here: --method {start} --option {rest}; in Python "
                f"onnxcam.method({start!r}, ...)"
            )
        raise OptionError(f"no method is called {name!r}; {near(name, method_names())} (`onnxcam methods` lists them)")
    return _load(tuple(sys.path), name, entries)


@cache
def _load(path: tuple[str, ...], name: str, entries: tuple[metadata.EntryPoint, ...]) -> tuple[Maker, Method]:
    """The maker behind an entry point and the method that it makes of its defaults.

    Loaded once for each search path. Raises OptionError, which names the distribution.
    """
    origin = ", ".join(_origin(entry) for entry in entries)
    if len(entries) > 1:
        raise OptionError(f"the method {name!r} comes from several packages ({origin}); uninstall all but one")
    label = f"the method {name!r} of the package {origin}"
    # Here the code of another package runs for the first time. It may raise anything, even SystemExit, and one broken
    # package must not stop the others. So this is the one place that catches every exception.
    try:
        make = entries[0].load()
        if not callable(make):
            kind = type(make).__name__
            raise OptionError(f"its entry point names a value of the type {kind}; give the function that makes it")
        method = make()
        parameters = [p.name for p in signature(make).parameters.values() if p.kind in NAMED]
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise OptionError(f"{label} cannot be loaded: {reason}") from error
    if not isinstance(method, Method):
        raise OptionError(f"{label} is no onnxcam.Method but {type(method).__name__}")
    if method.name != name:
        raise OptionError(f"{label} calls itself {method.name!r}")
    if missing := [option for option in parameters if option not in method.options]:
        raise OptionError(f"{label} does not record {', '.join(missing)}; Method.options must hold every parameter")
    if unknown := [option for option in method.options if option not in parameters]:
        raise OptionError(f"{label} records {', '.join(unknown)}, which is no parameter of its function")
    return make, method


def _origin(entry: metadata.EntryPoint) -> str:
    return (entry.dist.name or "unknown") if entry.dist is not None else "unknown"


def _entry_points() -> tuple[metadata.EntryPoint, ...]:
    return _entry_points_on(tuple(sys.path))


@cache
def _entry_points_on(path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """Read once for each search path: it reads the metadata of every installed package."""
    return tuple(metadata.entry_points(group=GROUP))
