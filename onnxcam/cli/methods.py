"""`onnxcam methods`: list the methods with their papers, needs, costs and options."""

from typing import TYPE_CHECKING, Any

from onnxcam.cli.groups import command
from onnxcam.cli.printing import print_json, print_lines, wrapped_lines
from onnxcam.cli.shared_options import Json

if TYPE_CHECKING:
    from onnxcam.methods import Available

COLUMN = 12
"""Where the text of a line begins, behind its first word."""


@command
def methods(json: Json = False) -> None:
    """List the methods: paper, needs, cost in forward passes, options with their defaults.

    Methods of other installed packages (entry points of the group onnxcam.methods) are listed too.
    """
    from onnxcam.methods import available

    records = [description(one) for one in available()]
    if json:
        print_json(records)
    else:
        print_lines(wrapped_lines(page(records), COLUMN))


def description(available: "Available") -> dict[str, Any]:
    """The JSON record of a method; of one that cannot be loaded, its name, origin and error alone."""
    from onnxcam.methods import default_method, defaults

    if available.maker is None:
        return {"name": available.name, "origin": available.origin, "error": available.error}
    method = default_method(available.name)
    return {
        "name": available.name,
        "origin": available.origin,
        "summary": _summary(available.maker.__doc__) or method.name,
        "paper": method.paper,
        "needs": sorted(map(str, method.needs)),
        "cost": method.cost,
        "options": {name: _plain(default) for name, default in defaults(available.name).items()},
    }


def _summary(documentation: str | None) -> str:
    """The first line of a docstring, without its citation if there is more; empty without a docstring."""
    first, *_ = [*(documentation or "").strip().splitlines(), ""]
    return first.partition("): ")[2] or first.partition(" (")[0]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else getattr(value, "name", str(value))


def page(records: list[dict[str, Any]]) -> list[str]:
    """The lines of the list for a reader."""
    from onnxcam.methods.registry import BUILT_IN

    lines = []
    for method in records:
        if "error" in method:
            lines += [method["name"], f"  error     {method['error']}"]
            continue
        options = ", ".join(f"{k}={v}" for k, v in method["options"].items()) or "none"
        lines += [
            method["name"],
            f"  {method['paper']}",
            *([f"  package   {method['origin']}"] if method["origin"] != BUILT_IN else []),
            f"  needs     {', '.join(method['needs']) or 'nothing'}",
            f"  cost      {method['cost']}",
            f"  options   {options}",
        ]
    return lines
