"""The parser with its commands, and the one place where errors become exit codes."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxcam.cli.failures import USAGE, Reported, error_lines, error_record, failure_record, wants_json
from onnxcam.cli.help import GroupPage, Page
from onnxcam.cli.pipes import piped
from onnxcam.cli.printing import print_json, print_lines, print_note
from onnxcam.cli.stopping import stoppable
from onnxcam.cli.streams import flush
from onnxcam.errors import OnnxCamError, OutputError

if TYPE_CHECKING:
    app: typer.Typer

# Typer exports one of the errors of its parser, and older versions take them from another package.
USAGE_ERRORS: tuple[type[Any], ...] = tuple(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

COMMANDS = tuple("explain predict compare methods metrics inspect rewrite compile sanity evaluate demo".split())
"""Names of the commands, and of the modules that hold them, in the order of the help."""


def build_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The parser of these commands. A command's module is imported here: their options take longer than all else."""
    parser = typer.Typer(
        name="onnxcam",
        help="Show what an image model exported to ONNX saw: saliency maps from the model file and a picture.",
        no_args_is_help=True,
        cls=GroupPage,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in names:
        parser.command(cls=Page)(getattr(import_module(f"onnxcam.cli.{name}"), name))
    parser.callback()(main)
    return parser


def __getattr__(name: str) -> Any:
    """`app`, the parser of all commands, which a run of one command does not need."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _all_commands()


@cache
def _all_commands() -> typer.Typer:
    return build_app()


def _version(print_it: bool) -> None:
    if print_it:
        from importlib.metadata import version

        print_lines([f"onnxcam {version('onnxcam')}"])
        raise typer.Exit


def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.", metavar=""),
    ] = False,
) -> None:
    """Show what an image model exported to ONNX saw."""


def run() -> None:
    """Runs the command of sys.argv; raises SystemExit where its exit code is not 0.

    A wrong command line is exit code 2, an OnnxCamError 1; both are printed in one or two lines. Any other error keeps
    its traceback.
    """
    warnings.filterwarnings("ignore", module="PIL")  # of large photographs and odd metadata
    # Libraries log what onnxcam reports itself; without a handler Python would print it too.
    logging.getLogger().addHandler(logging.NullHandler())
    first = sys.argv[1:2]
    command = typer.main.get_command(build_app(first if first and first[0] in COMMANDS else COMMANDS))
    with stoppable() as stop:
        try:
            with piped(sys.argv[1:]) as words, _words(words):
                code = command(prog_name="onnxcam", standalone_mode=False) or 0
            flush(sys.stdout)
        except USAGE_ERRORS as error:
            code = _print_usage(error)
        except OnnxCamError as error:
            code = _print_error(error)
        if code or stop.code:
            raise SystemExit(stop.code or code)


@contextmanager
def _words(words: list[str]) -> Iterator[None]:
    """Puts the words in place of those of sys.argv, which an isolated command hands on."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before


def _print_error(error: OnnxCamError) -> int:
    """Prints an error in one or two lines, with --json as JSON too, and returns its exit code."""
    reported = error.error if isinstance(error, Reported) else error
    first, *details = error_lines(reported)
    print_note(f"error: {first}", details)
    if reported is error and wants_json(sys.argv[1:]):
        _print_record(error_record(error))
    return 1


def _print_record(record: object) -> None:
    """Prints JSON after an error, which is on standard error already where standard output takes nothing."""
    with suppress(OutputError):
        print_json(record)


def _print_usage(error: Any) -> int:
    """Prints what is wrong with the command line, and returns the exit code of that. No words at all print the help."""
    message = error.format_message()
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first not in COMMANDS and os.path.isfile(first):  # what a command would take stands in its place
        message = f"{first} is a file, not a command; did you mean `onnxcam explain {shlex.join(sys.argv[1:])}`?"
    context = getattr(error, "ctx", None)
    if message and context is not None:
        print_note(context.get_usage())
        print_note(f"Try '{context.command_path} --help' for help.")
    if message:
        print_note(f"error: {message}")
        if wants_json(sys.argv[1:]):
            _print_record(failure_record(USAGE, message))
    return int(error.exit_code)


if __name__ == "__main__":
    from onnxcam.cli.start import start

    start()
