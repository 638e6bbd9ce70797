"""An option is declared once: help shows it, and its value reaches the command by keyword."""

import ast
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

import onnxcam.cli
from onnxcam.cli import (
    compare,
    compile,
    demo,
    evaluate,
    evaluate_options,
    explain,
    inspect,
    methods,
    metrics,
    options,
    predict,
    rewrite,
    sanity,
)
from onnxcam.cli.explain_options import ExplainArgs
from onnxcam.cli.groups import command
from onnxcam.cli.main import app
from onnxcam.cli.options import MethodArgs, OpeningArgs, TargetArgs
from onnxcam.cli.shared_options import option
from onnxcam.explainer.targets.registry import TARGET_KINDS
from onnxcam.methods.fills import FILLS
from onnxcam.outputs.formats import FORMATS

COMMANDS = {
    "explain": explain.explain,
    "compare": compare.compare,
    "predict": predict.predict,
    "inspect": inspect.inspect,
    "rewrite": rewrite.rewrite,
    "compile": compile.compile,
    "sanity": sanity.sanity,
    "evaluate": evaluate.evaluate,
    "methods": methods.methods,
    "metrics": metrics.metrics,
    "demo": demo.demo,
}
DECLARED = {**vars(options), **vars(evaluate_options)}
GROUPS = [kind for kind in DECLARED.values() if isinstance(kind, type) and is_dataclass(kind)]
PARSED = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def flat_names(group: Any) -> list[str]:
    hints = get_type_hints(group)
    kinds = {f.name: hints[f.name] for f in fields(group)}
    return [n for name, kind in kinds.items() for n in (flat_names(kind) if is_dataclass(kind) else [name])]


def test_every_command_is_walked_here() -> None:
    assert set(PARSED) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_the_help_with_a_text(name: str) -> None:
    parameters = [p for p in PARSED[name].params if p.name != "help"]
    assert [p.name for p in parameters] == list(signature(COMMANDS[name]).parameters)
    page = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
    for parameter in parameters:
        assert parameter.help, f"{parameter.name} has no help"
        assert parameter.help.rstrip().endswith((".", ")")), f"{parameter.help!r} is no sentence"
        assert not any(folder in parameter.help for folder in ("tools/", "docs/")), "a command is named, not a file"
        assert max(parameter.opts, key=len) in page or parameter.param_type_name == "argument"
        assert parameter.help.split(": ")[0][:40] in page


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_a_group_belongs_to_a_command_and_takes_keywords_only(group: Any) -> None:
    assert any(set(flat_names(group)) <= set(signature(call).parameters) for call in COMMANDS.values())
    with pytest.raises(TypeError, match="positional"):
        group("word")


def test_explain_has_every_option_of_its_groups_once() -> None:
    names = flat_names(ExplainArgs)
    assert len(names) == len(set(names))
    assert list(signature(explain.explain).parameters) == [*names, "verbose"]


def test_every_option_is_read_by_a_command() -> None:
    kinds = {f.name for f in fields(ExplainArgs) if is_dataclass(get_type_hints(ExplainArgs)[f.name])}
    holders = kinds | {"args", "data"}
    read: set[str | None] = {kind.option for kind in TARGET_KINDS.values()}  # parse_targets walks the kinds
    for path in Path(onnxcam.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                holder = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                read |= {node.attr} if holder in holders else set()
    unread = {f"{group.__name__}.{f.name}" for group in GROUPS for f in fields(group) if f.name not in read}
    assert not unread, f"declared but read nowhere; hand it on in cli/parsing.py or cli/opening.py: {unread}"


@pytest.mark.parametrize(("flag", "table"), [("format", FORMATS), ("fill", FILLS)])
def test_the_help_names_every_format_and_every_fill(flag: str, table: Mapping[str, object]) -> None:
    (parameter,) = (p for p in PARSED["explain"].params if p.name == flag)
    unnamed = set(table) - set(re.findall(r"[\w-]+", parameter.help))
    assert not unnamed, f"name it in the help of --{flag} in cli/options.py or shared_options.py: {unnamed}"


def test_no_group_is_built_by_position() -> None:
    kinds = {group.__name__ for group in GROUPS}
    for path in Path(onnxcam.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                assert not node.args, f"{path.name}:{node.lineno}"


def test_words_reach_a_command_by_keyword_in_their_groups() -> None:
    calls: list[dict[str, Any]] = []
    inner = typer.Typer()

    @dataclass(frozen=True, kw_only=True)
    class Outer:
        picture: Annotated[str, typer.Argument(help="A picture.")]
        targets: TargetArgs
        opening: OpeningArgs

    @inner.command()
    @command
    def look(args: Outer, method: MethodArgs, often: Annotated[int, option("How", "How often.")] = 1) -> None:
        calls.append({"args": args, "method": method, "often": often})

    words = ["a.png", "--target", "cat", "--target", "dog", "--input", "n=1", "--method", "rise", "--often", "3"]
    done = CliRunner().invoke(inner, [*words, "--option", "masks=5", "--fast"])
    assert done.exit_code == 0, done.output
    args = Outer(picture="a.png", targets=TargetArgs(target=["cat", "dog"]), opening=OpeningArgs(inputs=["n=1"]))
    method = MethodArgs(method="rise", options=["masks=5"], fast=True)
    assert calls == [{"args": args, "method": method, "often": 3}]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_names_no_type_of_python(name: str) -> None:
    """A flag takes no value, and none is called <bool> or <list[str]>."""
    for parameter in PARSED[name].params:
        if parameter.name != "help" and parameter.param_type_name == "option":
            assert parameter.metavar is not None, parameter.name
            assert (parameter.metavar == "") == bool(parameter.is_flag or parameter.count), parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_out_is_a_file_and_output_is_a_models_output(name: str) -> None:
    flags = {flag: p.name for p in PARSED[name].params for flag in p.opts}
    assert flags.get("-o", "out") == flags.get("--out", "out") == "out"
    assert flags.get("--output", "output") == "output"


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_an_option_that_is_left_out_has_the_default_of_its_group(group: Any) -> None:
    defaults = {f.name: f.default for f in fields(group) if f.default is not MISSING}
    for call in COMMANDS.values():
        parameters = signature(call).parameters
        if set(flat_names(group)) <= set(parameters):
            assert {name: parameters[name].default for name in defaults} == defaults


def test_commands_do_not_import_each_other_but_demo_explains() -> None:
    for name in COMMANDS:
        tree = ast.parse((Path(onnxcam.cli.__file__).parent / f"{name}.py").read_text())
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        others = {other for other in COMMANDS if f"onnxcam.cli.{other}" in modules}
        assert others == ({"explain"} if name == "demo" else set())
