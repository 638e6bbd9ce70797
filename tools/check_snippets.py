"""Checks the types of the Python snippets in README.md and docs/, as a reader's own type checker would.

    pip install ".[cpu,dev]" basedpyright
    python tools/check_snippets.py mypy          # mypy --strict
    python tools/check_snippets.py basedpyright  # pyright's rules, from a package that brings its own Node.js

The blocks of a page are one program, in a file whose lines have the numbers that they have on the page. Prints what the
checker says, with the names of pages; exits with 1 where it says anything.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)

RULES = {
    "typeCheckingMode": "standard",  # pyright's own default
    "pythonVersion": "3.11",
    "extraPaths": [str(ROOT)],
    "reportMissingImports": False,  # of packages that are not installed here
    "reportMissingModuleSource": False,
    "reportUnusedExpression": False,  # `saliency.map  # (H, W)` shows what there is
}


def pages(root: Path) -> list[Path]:
    """The pages whose snippets are checked."""
    return [page for page in (root / "README.md", *sorted((root / "docs").rglob("*.md"))) if program(page)]


def program(page: Path) -> str:
    """The snippets of a page as one program, each line at its number; '' where there are none."""
    text = page.read_text("utf-8")
    lines: list[str] = []
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        lines += [""] * (first - len(lines)) + block[1].splitlines()
    return "\n".join([*lines, ""]) if lines else ""


def module(page: Path, root: Path) -> str:
    """The name of the file that holds the snippets of a page, such as docs_workers_md.py."""
    return re.sub(r"\W", "_", page.relative_to(root).as_posix()) + ".py"


def command(checker: str, folder: Path) -> list[str]:
    """What checks the files of the folder."""
    if checker == "mypy":
        words = [
            "--strict",
            "--ignore-missing-imports",
            "--allow-untyped-decorators",
            "--no-error-summary",
            "--config-file",
            "",
            "--cache-dir",
        ]
        files = [path.name for path in sorted(folder.glob("*.py"))]
        return [sys.executable, "-m", "mypy", *words, str(ROOT / ".mypy_cache/snippets"), *files]
    (folder / "pyrightconfig.json").write_text(json.dumps(RULES), "utf-8")
    return [checker, "--pythonpath", sys.executable, "--project", str(folder)]


def findings(checker: str, sources: Sequence[Path], root: Path) -> list[str]:
    """What the checker says of the pages, a line each; [] where it finds nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for page in sources:
            (folder / module(page, root)).write_text(program(page), "utf-8")
        done = subprocess.run(
            command(checker, folder),
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "MYPYPATH": str(ROOT)},
        )
    if done.returncode == 0:
        return []
    said = (done.stdout + done.stderr).replace(f"{folder}/", "")
    for page in sources:
        said = said.replace(module(page, root), page.relative_to(root).as_posix())
    return [line for line in said.splitlines() if line.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checker", help="mypy, basedpyright or pyright")
    checker = parser.parse_args().checker
    sources = pages(ROOT)
    lines = findings(checker, sources, ROOT)
    if lines:
        raise SystemExit("\n".join(lines))
    print(f"{checker}: the snippets of {len(sources)} pages have no error")


if __name__ == "__main__":
    main()
