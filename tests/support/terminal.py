"""Commands on a pseudo-terminal, and models whose every name is hostile to one."""

import os
import pty
import select
import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import onnx
from small_models import CLASSIFIER, filled

EVIL = "\x1b]0;title\x07\x1b[31mred\x9b32mgreen\r\nFORGED line\rFORGED\u2028FORGED\u202egnp.\u2066a\u2069\u200e\u061c\u200b\ufeff\u00ad[bold]b[/bold][link=http://e]:bomb:$\\frac$"
"""A name that sets the title, colours, forges lines, reverses text, hides, and is markup for rich."""
EVIL_FILE = EVIL.replace("/", "\\") + "\udcff"
"""The same as a file's name: without slashes, and not UTF-8."""
LOOP = """
import os, sys
from onnxcam.cli.start import start
for number, words in enumerate({commands!r}):
    sys.argv = ["onnxcam", *words]
    code = 0
    try:
        start()
    except SystemExit as end:
        code = end.code or 0
    os.write(1, b"\\n<<%d: %d>>" % (number, code))
"""


def hostile_model() -> onnx.ModelProto:
    """CLASSIFIER with names of everything that end in EVIL: inputs, outputs, tensors, nodes, dimensions, labels."""
    model = filled(CLASSIFIER)
    graph = model.graph
    graph.name = f"graph{EVIL}"
    for i, node in enumerate(graph.node):
        node.name = f"node{i}{EVIL}"
        node.doc_string = EVIL
        node.input[:] = [f"{name}{EVIL}" for name in node.input]
        node.output[:] = [f"{name}{EVIL}" for name in node.output]
    for named in (*graph.initializer, *graph.input, *graph.output):
        named.name += EVIL
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = f"N{EVIL}"
    labels = {i: f"label {i} {EVIL}" for i in range(5)}
    for key, text in {"names": repr(labels), f"key{EVIL}": EVIL, "task": EVIL}.items():
        model.metadata_props.add(key=key, value=text)
    model.producer_name = model.domain = EVIL
    return model


def on_terminal(
    command: Sequence[str], cwd: Path, *, stdout: int | None = None, timeout: float = 240
) -> tuple[bytes, int]:
    """What a process writes to a terminal of 80 columns, its standard output (unless given) and error; its exit code."""
    master, slave = pty.openpty()
    settings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "PYTHONUTF8": "1"}
    process = subprocess.Popen(
        command, cwd=cwd, stdin=slave, stdout=slave if stdout is None else stdout, stderr=slave, env=settings
    )
    os.close(slave)
    data, until = b"", time.monotonic() + timeout
    while time.monotonic() < until:
        if select.select([master], [], [], 0.2)[0]:
            try:
                data += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
    os.close(master)
    return data, process.wait(timeout=10)


def commands_on_terminal(commands: Sequence[Sequence[str]], cwd: Path) -> list[tuple[str, int]]:
    """Text and exit code of each command, which run one after another in one process on one terminal."""
    data, _ = on_terminal([sys.executable, "-c", LOOP.format(commands=[list(words) for words in commands])], cwd)
    outcomes, rest = [], data.decode("utf-8", "surrogateescape")
    for number in range(len(commands)):
        text, _, rest = rest.partition(f"\r\n<<{number}: ")
        code, _, rest = rest.partition(">>")
        outcomes.append((text, int(code)))
    return outcomes


def faults(text: str, *, bars: bool = False) -> list[str]:
    """What of a terminal's text could steer it or mislead a reader. bars: rich draws some, with codes of its own."""
    plain = text.replace("\r\n", "\n")
    allowed = "\n\r\x1b" if bars else "\n"
    wrong = {repr(c) for c in plain if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in allowed}
    wrong |= {repr(code) for code in ("\x1b]", "\x1b[31mred") if code in plain}
    wrong |= {line for line in plain.splitlines() if line.startswith("FORGED")}
    return sorted(wrong)
