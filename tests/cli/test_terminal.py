"""No name of a model or file reaches a terminal as it is. Tested on a pseudo-terminal: pipes hide bars and their faults."""

import ast
import json
import os
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from terminal import EVIL, EVIL_FILE, commands_on_terminal, faults, hostile_model, on_terminal

import onnxcam.cli
from onnxcam.cli import methods
from onnxcam.cli.main import app
from onnxcam.cli.printing import (
    LONGEST_LINE,
    LONGEST_WORD,
    bar_text,
    json_text,
    one_line,
    wrapped,
    wrapped_lines,
)
from onnxcam.methods import available
from onnxcam.outputs.printable import printable

MODEL, PICTURE, OTHER = f"model{EVIL_FILE}.onnx", f"photo{EVIL_FILE}.png", f"more{EVIL_FILE}.png"
EXPLAIN = ("explain", MODEL, PICTURE, "-m", "grad-cam")
TEXTS = {
    "explain": [
        EXPLAIN,
        ("explain", MODEL, PICTURE, OTHER, "-m", "grad-cam", "-o", f"out{EVIL_FILE}/", "--metrics", "deletion"),
    ],
    "compare": [("compare", MODEL, PICTURE, "-m", "grad-cam,layer-cam", "-o", f"figure{EVIL_FILE}.svg")],
    "evaluate": [
        (
            "evaluate",
            MODEL,
            f"set{EVIL_FILE}",
            "-m",
            "grad-cam",
            "--metrics",
            "sparseness",
            "-o",
            f"results{EVIL_FILE}/",
        ),
        ("evaluate", f"results{EVIL_FILE}/"),
    ],
    "sanity": [("sanity", MODEL, PICTURE, OTHER, f"third{EVIL_FILE}.png", "-m", "grad-cam", "--steps", "1")],
    "predict": [("predict", MODEL, PICTURE, "--top", "2")],
    "inspect": [("inspect", MODEL)],
    "rewrite": [("rewrite", MODEL)],
    "compile": [("compile", MODEL)],
    "methods": [("methods",)],
    "metrics": [("metrics",)],
    "demo": [("demo", "-m", "grad-cam", "-o", f"demo{EVIL_FILE}/")],
}
"""Words of every command, in which what can be hostile is."""
BARS = ("explain", "compare", "compile", "sanity", "evaluate", "demo")
RECORDS = [
    (*EXPLAIN, "--json", "-q"),
    ("inspect", MODEL, "--json"),
    ("predict", MODEL, PICTURE, "--json"),
    ("compile", MODEL, "--json", "-q"),
    ("methods", "--json"),
    ("metrics", "--json"),
]
ERRORS = [
    ("explain", MODEL, f"none{EVIL_FILE}"),
    ("explain", f"none{EVIL_FILE}", PICTURE),
    ("explain", PICTURE, PICTURE),
    ("explain", MODEL, PICTURE, "--target", EVIL),
    ("explain", MODEL, PICTURE, "--preset", EVIL),
    ("explain", MODEL, PICTURE, "--layer", EVIL),
    ("explain", MODEL, PICTURE, "--output", EVIL),
    ("explain", MODEL, PICTURE, "--layer", f"c1{EVIL}", "--input", f"{EVIL}=1"),
    ("explain", MODEL, PICTURE, f"broken{EVIL_FILE}.png", "--keep-going", "-m", "grad-cam"),
    ("explain", MODEL, PICTURE, f"--{EVIL}"),
    ("inspect", f"broken{EVIL_FILE}.png"),
    ("rewrite", MODEL, "-o", f"none{EVIL_FILE}/deep/\0"),
    ("compile", MODEL, "-m", EVIL),
    ("compile", MODEL, "--target", EVIL),
    ("sanity", MODEL, PICTURE, "--order", EVIL),
    ("compare", MODEL, PICTURE, "-m", EVIL),
    ("evaluate", MODEL, f"none{EVIL_FILE}"),
    ("evaluate", f"none{EVIL_FILE}"),
    (
        "evaluate",
        MODEL,
        PICTURE,
        "--against",
        EVIL,
        "-m",
        "grad-cam",
        "--metrics",
        "sparseness",
        "-o",
        f"r{EVIL_FILE}/",
    ),
    (EVIL,),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile")
    onnx.save(hostile_model(), path / MODEL)
    pixels = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path / "photo.png")
    for name in (PICTURE, OTHER, f"third{EVIL_FILE}.png"):
        os.link(path / "photo.png", path / name)
    (path / f"set{EVIL_FILE}").mkdir()
    os.link(path / "photo.png", path / f"set{EVIL_FILE}" / PICTURE)
    (path / f"broken{EVIL_FILE}.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    return path


def test_no_command_prints_a_name_as_it_is(folder: Path) -> None:
    commands = [words for several in TEXTS.values() for words in several]
    for words, (text, code) in zip(commands, commands_on_terminal(commands, folder), strict=True):
        assert code == 0, (words, text)
        assert faults(text, bars=words[0] in BARS) == [], (words, text)
        if words[0] in ("explain", "inspect"):
            assert "\\x1b]0;title\\x07" in text, "names are shown, with their escapes"
        if words[0] == "explain":
            assert "[bold]b[/bold][link=http://e]:bomb:$" in text, "markup is not interpreted"


def test_every_command_is_among_them() -> None:
    assert set(TEXTS) == {command.callback.__name__ for command in app.registered_commands if command.callback}


def test_json_on_a_terminal_is_json_with_the_true_names(folder: Path) -> None:
    explained, inspected, *lists = commands_on_terminal(RECORDS, folder)
    for text, code in (explained, inspected, *lists):
        assert code == 0, text
        assert faults(text) == [], text
    (record,) = json.loads(explained[0])
    assert record["image"] == PICTURE
    assert record["target"]["label"].endswith(EVIL[-20:])
    assert json.loads(inspected[0])["inputs"][0]["name"] == f"x{EVIL}"


def test_no_error_prints_a_name_as_it_is(folder: Path) -> None:
    commands = [[word for word in words if "\0" not in word] for words in ERRORS]
    for words, (text, code) in zip(commands, commands_on_terminal(commands, folder), strict=True):
        assert code in (1, 2) or "rewrite" in words, (words, text)
        assert faults(text, bars=words[0] in BARS) == [], (words, text)
        assert "Traceback" not in text, (words, text)


@pytest.mark.parametrize(
    "character",
    sorted(
        {*EVIL, *"\x00\x7f\x85\x9d\u2067\u2060\u206f\ud800\udcff\U000e0041\u3164\u115f\u180e\ufe00"}
        - {*map(chr, range(32, 127))}
    ),
)
def test_a_character_that_misleads_is_escaped_in_text_and_in_json(character: str) -> None:
    assert printable(f"a{character}b") == f"a{character.encode('unicode_escape').decode()}b"
    text = json_text([f"a{character}b"])
    assert all(c.isprintable() or c == "\n" for c in text)
    assert json.loads(text) == [f"a{character}b"]


@pytest.mark.parametrize(
    "text", ["Hündin, 30 °C", "柴犬　2", "नमस्ते", "\u0645\u06cc\u200c\u062e", "👩\u200d👧 ❤\ufe0f", "C:\\new [x]"]
)
def test_names_in_any_script_stay_as_they_are(text: str) -> None:
    assert printable(text) == text
    assert json.loads(json_text(text)) == text


def test_joiners_are_shown_only_where_they_are_spelling() -> None:
    assert printable("ca\u200dt\ufe0f") == "ca\\u200dt\\ufe0f"
    marks = printable("z" + "\u0301" * 50)
    assert marks.count("\u0301") < 10
    assert unicodedata.category(marks[-1]) != "Mn"


def test_what_is_endless_is_cut_in_its_middle() -> None:
    for name in ("a" * 10**6, "a b" * 10**6, "\x1b" * 10**6, "\u202e " * 10**6):
        line = one_line(f"  input  {name}  1x3x224x224")
        assert len(line) <= LONGEST_LINE
        assert line.startswith("  input  ")
        assert line.endswith("1x3x224x224")
        assert re.search(r"\[\.\.\.[0-9,]+ characters\.\.\.\]", line)
    assert one_line("a" * LONGEST_WORD) == "a" * LONGEST_WORD


PRINTER = "printing.py"
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}


def test_the_pages_of_every_list_fit_an_80_column_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    page = methods.page([methods.description(one) for one in available()])
    assert max(map(len, page)) > 80
    lines = wrapped_lines(page, methods.COLUMN)
    assert max(map(len, lines)) <= 80
    assert [word for line in lines for word in line.split()] == [word for line in page for word in line.split()]
    assert all(line[:2] != "  " or line[2] != " " or line.startswith(" " * methods.COLUMN) for line in lines)


def test_a_name_is_cut_before_it_is_broken_into_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = wrapped("  features    ", "\x1b" + "w" * 1_000_000)
    assert sum(map(len, lines)) < 2 * LONGEST_WORD
    assert lines[0].startswith("  features    \\x1bw")


def test_nothing_prints_past_the_printer() -> None:
    """Only printing.py writes; a stream may be asked what it is, and streams.py puts it in place."""
    for path in Path(onnxcam.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Name) and path.name != PRINTER:
                assert node.id not in ("print", "Console", "pprint"), where
            if isinstance(node, ast.Attribute) and path.name != PRINTER:
                assert node.attr not in ("echo", "secho", "echo_via_pager", "rprint", "print_exc"), where
                owner = getattr(node.value, "attr", "")
                assert not (owner in STREAMS and node.attr in ("write", "writelines", "buffer")), where
            if isinstance(node, ast.ImportFrom) and path.name != PRINTER:
                assert node.module not in ("rich.console", "rich", "click"), where


FAULTY = """
import sys, threading, warnings
from onnxcam.cli import main
from onnxcam.cli.start import start
def faulty(**options):
    warnings.warn({evil!r})
    thread = threading.Thread(target=lambda: int({evil!r}))
    thread.start()
    thread.join()
    raise ValueError({evil!r})
main.typer.main.get_command = lambda app: faulty
start()
"""


def test_tracebacks_of_bugs_and_warnings_print_no_name_as_it_is(tmp_path: Path) -> None:
    data, code = on_terminal([sys.executable, "-c", FAULTY.format(evil=EVIL)], tmp_path)
    text = data.decode()
    assert code == 1
    assert faults(text) == [], text
    assert text.count("Traceback") == 2
    assert "warning: \\x1b]0;title" in text
    assert "ValueError: \\x1b]0;title" in text


def test_the_words_of_a_bar_fit_into_their_columns() -> None:
    assert bar_text("a" * 20, 20) == "a" * 20
    assert bar_text("a" * 21, 20) == "a" * 17 + "..."
    assert bar_text("\u67f4" * 20, 20) == "\u67f4" * 7 + "..."
