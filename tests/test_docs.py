"""The snippets of the documentation run, one after another, as a reader would type them.

Python blocks of a page are one program. Of the shell blocks of the pages in COMMANDS, every line that starts with
`onnxcam` is run. A block that starts with `# NAME.py` is that file, and its page has the command of a server and a
request (marked `site`, for their packages are in the extra `docs`). C++ and JavaScript are excerpts of examples that
have tests of their own.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_files import reader_folder

ROOT = Path(__file__).parents[1]
PROGRAMS = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in "compare compile data evaluate extending journal library logging metrics outputs pictures record report start workers".split()
    ),
    *(f"docs/how-to/{name}.md" for name in "detector deep-pictures is-it-true".split()),
]
COMMANDS = [
    "README.md",
    "docs/explain.md",
    "docs/start.md",
    *(f"docs/how-to/{name}.md" for name in "detector deep-pictures cpp browser which-method is-it-true".split()),
]
SERVERS = ["docs/how-to/fastapi.md", "docs/how-to/gunicorn.md"]
EXCERPTS = {"docs/how-to/cpp.md": "examples/cpp/explain_ort.cpp", "docs/how-to/browser.md": "examples/node/explain.mjs"}
BEFORE = {
    "docs/report.md": """
from onnxcam import evaluate, read_data
dataset = read_data("photos")
rows = list(evaluate("model.onnx", dataset, ["grad-cam", "cam"], ["average-drop"]))
"""
}
"""What a page's snippets take for granted."""
READMES = ("README.md", "examples/README.md", "examples/web/README.md")


def snippets(name: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / name).read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run(words: list[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_snippets_of_a_page_run(name: str, tmp_path: Path) -> None:
    blocks = snippets(name)
    assert blocks
    reader_folder(tmp_path)
    (tmp_path / "snippets.py").write_text("\n".join([BEFORE.get(name, ""), *blocks]))
    run([sys.executable, "snippets.py"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_of_a_page_run(name: str, tmp_path: Path) -> None:
    lines = [line for block in snippets(name, "sh") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("onnxcam ")]
    assert commands
    reader_folder(tmp_path)
    shim = tmp_path / "onnxcam"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m onnxcam "$@"\n')
    shim.chmod(0o755)
    run(["bash", "-euo", "pipefail", "-c", f'PATH="$PWD:$PATH"\n{chr(10).join(commands)}'], tmp_path)
    others = {line for line in set(lines) - set(commands) - {""} if not line.startswith("#")}
    tested_elsewhere = "\n".join((ROOT / page).read_text("utf-8") for page in READMES)
    assert [line for line in others if line not in tested_elsewhere] == []


@pytest.mark.parametrize("name", EXCERPTS)
def test_code_of_other_languages_is_an_excerpt_of_an_example(name: str) -> None:
    blocks = snippets(name, "(?:cpp|js)")
    assert blocks
    for block in blocks:
        assert block in (ROOT / EXCERPTS[name]).read_text("utf-8")


def test_every_page_with_a_snippet_is_run() -> None:
    pages = [page.relative_to(ROOT).as_posix() for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]]
    assert {page for page in pages if snippets(page)} == {*PROGRAMS, *SERVERS}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until_it_listens(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens after a minute: {log.read_text()}")


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The folder in which the page's server runs, and the page's request."""
    service, ask = snippets(request.param)
    (command,) = snippets(request.param, "sh")
    assert service.startswith("# service.py\n")
    assert "8000" in command
    assert "127.0.0.1:8000" in ask
    reader_folder(tmp_path)
    (tmp_path / "service.py").write_text(service)
    port = free_port()
    program, *words = shlex.split(command.replace("8000", str(port)))
    log = tmp_path / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", program, *words], cwd=tmp_path, stdout=output, stderr=output, env={**os.environ}
        )
    try:
        wait_until_it_listens(port, server, log)
        yield tmp_path, ask.replace("8000", str(port))
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.site
@pytest.mark.parametrize("served", SERVERS, indirect=True)
def test_the_server_of_a_page_answers_the_request_of_that_page(served: tuple[Path, str]) -> None:
    folder, ask = served
    (folder / "ask.py").write_text(ask)
    run([sys.executable, "ask.py"], folder)
    if "overlay.png" in ask:
        assert (folder / "overlay.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.site
@pytest.mark.parametrize("served", SERVERS[:1], indirect=True)
def test_the_service_refuses_what_is_no_picture(served: tuple[Path, str]) -> None:
    folder, ask = served
    (folder / "photo.jpg").write_bytes(b"no picture")
    (folder / "ask.py").write_text(ask)
    done = subprocess.run([sys.executable, "ask.py"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert "HTTP Error 400: Bad Request" in done.stderr
