"""Values of options that are text already, or are not given, stay as they are.

Typer makes a converter for each option that it meets, given or not, and loads pydantic for that: a tenth of a warm
start. Most options here are text, and most are not given.
"""

from typing import Any, get_args, get_origin


class PlainValues:
    """Mixed into a command of Typer's: its options convert only what has to be converted."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Sets the values of the words in ctx.params, as Click documents it, and returns the words that are left."""
        command: Any = self
        kinds = {name: _kinds(kind) for name, kind in getattr(command.callback, "__annotations__", {}).items()}
        for parameter in command.get_params(ctx):
            if isinstance(parameter.process_value, _Converter):  # the same command parses again
                continue
            parameter.process_value = _Converter(parameter, kinds.get(parameter.name, ()))
        return super().parse_args(ctx, args)  # type: ignore[misc,no-any-return]


class _Converter:
    """A parameter's `process_value`: its value from what was given, None where nothing was."""

    def __init__(self, parameter: Any, kinds: tuple[Any, ...]) -> None:
        self._parameter, self._kinds, self._convert = parameter, kinds, parameter.process_value

    def __call__(self, ctx: Any, value: Any) -> Any:
        parameter = self._parameter
        takes_several = parameter.multiple or parameter.nargs == -1
        if value is None and not parameter.required:
            value = () if takes_several else None
        elif takes_several and value and list[str] in self._kinds:
            value = list(value)
        elif takes_several or type(value) not in self._kinds:
            return self._convert(ctx, value)
        return value if parameter.callback is None else parameter.callback(ctx, parameter, value)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation names: str and NoneType of Annotated[str | None, ...], list[str] of that alone."""
    kind = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    return (kind,) if get_origin(kind) is list or isinstance(kind, type) else get_args(kind)
