"""What a shell completes, asked as its scripts ask: the names of options, commands, methods, and models among files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from onnxcam.cli import completion
from onnxcam.cli.main import app
from onnxcam.methods import METHODS
from onnxcam.metrics.arguments import typed
from onnxcam.metrics.registry import METRICS

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
NAMES = {
    "method": METHODS,
    "metrics": {*map(typed, METRICS), "all"},
    "preset": completion.preset_names(),
    "colormap": completion.colormap_names(),
    "fill": completion.fill_names(),
}


def complete(words: str, cwd: Path, *more: str) -> list[str]:
    """What bash gets for the last word; the modules of `more` must not be loaded for it."""
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('LOADED', [m for m in {more!r} if m in sys.modules]))\n"
        "from onnxcam.cli.start import start\n"
        "sys.argv = ['onnxcam']\n"
        "start()"
    )
    settings = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    settings["_ONNXCAM_COMPLETE"] = "complete_bash"
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    assert loaded == "LOADED []"
    return [line for line in lines if line]


ENGINE = ("onnxruntime", "onnx", "onnx_ir", "cv2")


def test_the_shell_gets_methods_commands_and_options_without_the_engine(tmp_path: Path) -> None:
    assert complete("onnxcam explain m.onnx p.jpg --method hi", tmp_path, *ENGINE) == ["hires-cam"]
    assert complete("onnxcam sa", tmp_path, *ENGINE) == ["sanity"]
    assert complete("onnxcam explain --max-p", tmp_path, *ENGINE) == ["--max-pixels"]


def test_the_shell_gets_the_last_of_several_metrics_without_the_engine(tmp_path: Path) -> None:
    assert complete("onnxcam explain --metrics deletion,ins", tmp_path, *ENGINE) == ["deletion,insertion"]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_with_names_completes_all_of_them(name: str) -> None:
    options = [p for command in COMMANDS.values() for p in command.params if p.name == name]
    assert options
    for option in options:
        items = option.shell_complete(typer.Context(COMMANDS["explain"]), "")
        assert {item.value for item in items} == set(NAMES[name])


def test_a_name_among_several_is_not_offered_again() -> None:
    complete_methods = completion.several_of(lambda: ("cam", "camera", "rise"))
    assert complete_methods("ca") == ["cam", "camera"]
    assert complete_methods("cam,CA") == ["cam,camera"]
    assert complete_methods("cam,rise,x") == []


def test_models_are_offered_with_folders_and_where_there_are_none_the_shell_lists_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.onnx", "a.ORT", ".hidden.onnx", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.onnx").touch()
    monkeypatch.chdir(tmp_path)
    assert completion.models("") == ["a.ORT", "b.onnx", "sub/"]
    assert completion.models("b") == ["b.onnx"]
    assert completion.models("sub/") == ["sub/deep.onnx"]
    assert completion.models(f"{tmp_path}/sub/d") == [f"{tmp_path}/sub/deep.onnx"]
    assert completion.models("s") == completion.models("none/") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_can_be_shown_and_installed(shell: str, tmp_path: Path) -> None:
    settings = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "onnxcam"]
    shown = subprocess.run([*command, "--show-completion", shell], env=settings, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "_ONNXCAM_COMPLETE=complete_" in shown.stdout
    done = subprocess.run([*command, "--install-completion", shell], env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scripts = [path for path in tmp_path.rglob("*") if path.is_file() and "complete_" in path.read_text()]
    assert [path.read_text().strip() for path in scripts] == [shown.stdout.strip()]
