"""`onnxcam methods`: what can be asked for, what it needs, and what it costs."""

import json
from typing import Any

import typer

from onnxcam.cli.options import Json


def methods(json_output: Json = False) -> None:
    """List the methods: paper, needs, cost in forward passes, options with their defaults."""
    from onnxcam.methods import METHODS, defaults

    found = []
    for name, make in METHODS.items():
        method = make()
        found.append(
            {
                "name": name,
                "summary": _summary(make.__doc__ or ""),
                "paper": method.paper,
                "needs": sorted(map(str, method.needs)),
                "cost": method.cost,
                "options": {k: _plain(v) for k, v in defaults(name).items()},
            }
        )
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if json_output else page(found))


def _summary(documentation: str) -> str:
    """What the first line of a docstring says behind the citation; the whole line where it says nothing more."""
    first = documentation.strip().splitlines()[0]
    return first.partition("): ")[2] or first.partition(" (")[0]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else getattr(value, "name", str(value))


def page(found: list[dict[str, Any]]) -> str:
    """The list for a reader."""
    lines = []
    for method in found:
        options = ", ".join(f"{k}={v}" for k, v in method["options"].items()) or "none"
        lines += [
            method["name"],
            f"  {method['paper']}",
            f"  needs     {', '.join(method['needs']) or 'nothing'}",
            f"  cost      {method['cost']}",
            f"  options   {options}",
        ]
    return "\n".join(lines)
