"""`--help` of every command: each option with its value, default and choices, in the width of the terminal."""

import re
from collections.abc import Callable, Iterable
from inspect import signature
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from onnxcam.cli import completion
from onnxcam.cli.main import app, run
from onnxcam.evaluation.readers import read_data
from onnxcam.evaluation.readers.reader import FLAGS

PARSED = typer.main.get_command(app)
COMMANDS = PARSED.commands  # type: ignore[attr-defined]
CHOICES: dict[str, Callable[[], Iterable[str]]] = {
    "preset": completion.preset_names,
    "fill": completion.fill_names,
    "color": completion.color_names,
    "resize": completion.resize_names,
    "convention": lambda: ("constructive", "destructive"),
    "variant": lambda: ("official", "paper"),
    "order": lambda: ("top-down", "independent"),
    "redraw": lambda: ("shuffle", "normal", "he"),
}
"""Names that an option takes; those of methods and metrics are listed by commands of their own, which the help names."""


def page(*words: str, columns: int = 80) -> str:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(columns), "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    return done.output


def flat(text: str) -> str:
    """The text of a page without frames and line breaks."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def test_the_program_lists_every_command_with_its_first_sentence() -> None:
    text = flat(page())
    for name, command in COMMANDS.items():
        assert f"{name} {' '.join(command.help.split(chr(10) + chr(10))[0].split())}" in text


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_no_line_is_wider_than_the_terminal_and_no_value_is_a_type_of_python(name: str, columns: int) -> None:
    text = page(*filter(None, [name]), columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    assert not re.search(r"<(bool|str|int|float|list)|\[(bool|str|list)", text)
    assert "…" not in text, "something was cut"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_with_its_value_and_its_default(name: str) -> None:
    text = flat(page(name, columns=200))
    for option in (p for p in COMMANDS[name].params if p.param_type_name == "option"):
        value = "" if option.is_flag or option.count else f" {option.metavar}"
        assert f"{max(option.opts, key=len)}" in text
        assert f"{option.opts[-1]}{value}" in text or f"{option.opts[0]}{value}" in text
        if isinstance(option.default, str | int | float) and not option.is_flag and not option.count:
            assert f"[default: {option.default}]" in text, option.name
        assert option.help.split(". ")[0] in text


@pytest.mark.parametrize("name", CHOICES)
def test_the_help_names_every_choice(name: str) -> None:
    options = [p for command in COMMANDS.values() for p in command.params if p.name == name]
    assert options
    for option in options:
        missing = set(CHOICES[name]()) - set(re.findall(r"[\w-]+", option.help))
        assert not missing, f"name it in the help of --{name}: {missing}"


def test_without_words_the_help_is_printed() -> None:
    done = CliRunner().invoke(app, [], env={"COLUMNS": "80", "TERM": "dumb"})
    assert done.output.strip() == page().strip()


def test_a_file_in_the_place_of_the_command_is_told_which_command_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my model.onnx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for word, hint in (("my model.onnx", "`onnxcam explain 'my model.onnx' cat.jpg`?"), ("explian", "'explain'?")):
        monkeypatch.setattr("sys.argv", ["onnxcam", word, "cat.jpg"])
        with pytest.raises(SystemExit) as ended:
            run()
        assert ended.value.code == 2
        assert capsys.readouterr().err.strip().endswith(hint)


def test_the_usage_names_the_arguments_as_they_are_typed() -> None:
    assert page("explain").startswith("Usage: onnxcam explain [OPTIONS] MODEL PICTURES...\n") or page(
        "explain"
    ).startswith("Usage: root explain [OPTIONS] MODEL PICTURES...\n")
    assert "[OPTIONS] MODELS... PICTURES...\n" in page("compare")
    assert "[OPTIONS] MODEL [MODEL ...] DATA\n" in page("evaluate")


def test_the_messages_of_readers_name_options_that_the_command_has() -> None:
    options = {flag for one in COMMANDS["evaluate"].params for flag in one.opts}
    assert set(FLAGS.values()) <= options
    assert set(FLAGS) == set(signature(read_data).parameters) - {"source"}
