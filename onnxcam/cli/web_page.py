"""The server of `onnxcam demo --web`: static files, on this machine's own address, until it is stopped.

The page is 14 MB with the runtime for browsers, so it is not in the package. It is built in a checkout.
"""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from onnxcam.cli.parsing import parse_path
from onnxcam.cli.printing import print_json, print_lines
from onnxcam.cli.stopping import stoppable
from onnxcam.errors import OptionError
from onnxcam.logs import module_logger

HOST, FIRST = "127.0.0.1", "index.html"
BUILT = Path(__file__).parents[2] / "examples" / "web" / "dist"
"""Of a checkout, where it was built."""
HOW = "cd examples/web && npm install --ignore-scripts && python build.py -o dist"
log = module_logger(__name__)


class _Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder; says nothing on the terminal."""

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("%r", format % args)


def serve(folder: str | None, *, open_browser: bool, quiet: bool, json: bool) -> None:
    """Serves the page on a free port until a signal ends it. Raises OptionError where there is no page."""
    page = _page(folder)
    with (
        stoppable(),
        ThreadingHTTPServer((HOST, 0), partial(_Handler, directory=str(page))) as server,
    ):
        address = f"http://{HOST}:{server.server_port}/"
        if json:
            print_json({"url": address, "page": str(page)})
        elif not quiet:
            print_lines([f"{page} at {address}", "  Ctrl-C ends the server; what is explained stays in the browser."])
        if open_browser:
            import webbrowser

            webbrowser.open(address)
        server.serve_forever()


def _page(folder: str | None) -> Path:
    page = parse_path(folder) if folder is not None else BUILT
    if not (page / FIRST).is_file():
        raise OptionError(
            f"{page}: no {FIRST} is there, and the page is not part of the package, since it is large; build it in a "
            f"checkout of onnxcam ({HOW}), and give its folder with --page"
        )
    return page
