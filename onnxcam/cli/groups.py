"""`command`: a function that takes groups of options (options.py) as a command that Typer parses."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

from onnxcam.cli.printing import show_logs
from onnxcam.cli.shared_options import Verbose

VERBOSE = "verbose"
"""The parameter that every command has, and no function takes."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """`function` as Typer reads it: a parameter that is a group becomes the options of the group, and -v is added.

    Every value reaches the function by keyword, those of a group inside their dataclass.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters: list[Parameter] = []
    for parameter in signature(function).parameters.values():
        kind = hints[parameter.name]
        flat = _parameters(kind) if is_dataclass(kind) else [parameter.replace(annotation=kind)]
        parameters += [p.replace(kind=Parameter.KEYWORD_ONLY) for p in flat]

    parameters.append(Parameter(VERBOSE, Parameter.KEYWORD_ONLY, default=0, annotation=Verbose))

    @wraps(function)
    def call(**values: Any) -> None:
        show_logs(values.get(VERBOSE, 0))
        function(**{name: _value(name, hints[name], values) for name in signature(function).parameters})

    # What inspect.signature() reads, as functools.wraps sets __wrapped__.
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _parameters(group: Any) -> Iterator[Parameter]:
    """A group's fields as parameters of a function, groups within it included."""
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        kind = hints[one.name]
        if is_dataclass(kind):
            yield from _parameters(kind)
        else:
            default = Parameter.empty if one.default is MISSING else one.default
            yield Parameter(one.name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _value(name: str, kind: Any, values: Mapping[str, Any]) -> Any:
    """The parsed value of an option, or the group made of its options' values."""
    if not is_dataclass(kind):
        return values[name]
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{one.name: _value(one.name, hints[one.name], values) for one in fields(kind)})  # type: ignore[operator]
