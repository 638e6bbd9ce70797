"""The pages of `--help`: arguments, and the options in panels, with their values, defaults and choices.

Typer's own pages name types of Python, such as <list[str]>, in ways that differ between its versions. What is read of
a parameter here is what Typer and Click document.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from onnxcam.cli.plain_values import PlainValues
from onnxcam.cli.printing import print_drawn

if TYPE_CHECKING:
    from rich.panel import Panel

ARGUMENTS, COMMANDS = "Arguments", "Commands"


class Page(PlainValues, TyperCommand):
    """A command whose `--help` is made here."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the page, as Typer does, past Click's formatter."""
        _print_page(self, ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words behind the command's name in its usage."""
        return _usage(self, ctx)


class GroupPage(PlainValues, TyperGroup):
    """The program, whose `--help` lists its commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the page, as Typer does, past Click's formatter."""
        _print_page(self, ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words behind the program's name in its usage."""
        return [*_usage(self, ctx), "COMMAND ..."]


def _usage(command: Any, ctx: Any) -> list[str]:
    arguments = [_argument(one) for one in command.get_params(ctx) if one.param_type_name == "argument"]
    return ["[OPTIONS]", *arguments]


def _argument(parameter: Any) -> str:
    """MODEL, or PICTURES... where several are taken and the name does not say so."""
    name = str(parameter.metavar or parameter.name.upper())
    return f"{name}..." if parameter.nargs != 1 and "..." not in name else name


def _print_page(command: Any, ctx: Any) -> None:
    from rich.text import Text

    about, *more = (command.help or "").strip().split("\n\n")
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    parts: list[Text | Panel] = [Text(f"Usage: {usage}", "yellow")]
    parts += [Text(""), Text(" ".join(about.split()))]
    parts += [Text("\n".join(line.strip() for line in part.splitlines()), "dim") for part in more]
    parts += [Text(""), *(_panel(title, rows) for title, rows in _panels(command, ctx))]
    print_drawn(parts)


def _panels(command: Any, ctx: Any) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """(title, its rows: flags, value, help) of each panel: those with a title in the order of the options."""
    panels: dict[str, list[tuple[str, str, str]]] = {ARGUMENTS: []}
    options: list[tuple[str, str, str]] = []
    for one in command.get_params(ctx):
        if one.param_type_name == "argument":
            panels[ARGUMENTS].append((_argument(one), "", one.help or ""))
        elif not getattr(one, "hidden", False):
            rows = panels.setdefault(one.rich_help_panel, []) if one.rich_help_panel else options
            rows.append((_flags(one), _value(one), _help(one)))
    yield from ((title, rows) for title, rows in panels.items() if rows)
    yield "Options", options
    if isinstance(command, TyperGroup):
        commands = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
        yield COMMANDS, [(name, "", _first(one.help)) for name, one in commands if one is not None and not one.hidden]


def _flags(option: Any) -> str:
    """--out, -o: the long one first; --caption/--no-caption."""
    flags = ", ".join(sorted(option.opts, key=lambda flag: not flag.startswith("--")))
    return "/".join([flags, *option.secondary_opts])


def _value(option: Any) -> str:
    """What stands behind the flag; nothing behind one that takes no value."""
    return "" if option.is_flag or option.count else str(option.metavar or "TEXT")


def _help(option: Any) -> str:
    """The text, and the default if there is one that the text does not say."""
    default = option.default
    if option.is_flag:
        default = option.opts[0].lstrip("-") if default and option.secondary_opts else None
    shown = f" [default: {default}]" if isinstance(default, str | int | float) and not option.count else ""
    return f"{option.help or ''}{shown}"


def _first(text: str | None) -> str:
    """The first paragraph, as one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _panel(title: str, rows: Sequence[tuple[str, str, str]]) -> "Panel":
    """The rows in a frame."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, expand=True, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for flags, value, text in rows:
        table.add_row(Text.assemble((flags, "bold cyan"), (f" {value}" if value else "", "yellow")), Text(text))
    return Panel(table, title=title, title_align="left", border_style="dim")
