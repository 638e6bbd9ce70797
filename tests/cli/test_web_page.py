"""`onnxcam demo --web` serves a folder on this machine alone, and says where the page comes from if it is missing."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onnxcam.cli.main import app
from onnxcam.errors import OptionError


def test_the_page_is_served_until_a_signal_ends_it(tmp_path: Path) -> None:
    page = tmp_path / "page"
    (page / "js").mkdir(parents=True)
    (page / "index.html").write_text("<p>the page</p>")
    (page / "js" / "app.js").write_bytes(b"export {}")
    (tmp_path / "secret.txt").write_text("not of the page")
    words = ["demo", "--web", "--page", str(page), "--no-browser", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "onnxcam", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline().decode()
            assert line, "it ended"
            text += line
        address = json.loads(text)["url"]
        assert address.startswith("http://127.0.0.1:")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(address).read() == b"<p>the page</p>"
        script = opener.open(f"{address}js/app.js")
        assert (script.read(), script.headers.get_content_type()) == (b"export {}", "text/javascript")
        for path in ("../secret.txt", "%2e%2e/secret.txt"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                opener.open(f"{address}{path}")
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
        assert process.stderr is not None
        assert process.stderr.read() == b"", "requests are not printed"
    finally:
        process.kill()


def test_without_a_page_the_error_says_how_it_is_made(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--web", "--page", str(tmp_path), "--no-browser"])
    assert isinstance(done.exception, OptionError)
    assert "npm install --ignore-scripts && python build.py" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--web", "-m", "grad-cam"], "leave out the other options"),
        (["--page", "dist"], "give --web too"),
        (["--no-browser"], "give --web too"),
    ],
)
def test_options_of_the_maps_and_of_the_page_are_not_mixed(words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["demo", *words])
    assert isinstance(done.exception, OptionError)
    assert message in str(done.exception)
