"""The command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def onnxcam(*words: object, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnxcam", *map(str, words)]
    settings = {**os.environ, "COLUMNS": "200", **(env or {})}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=settings)


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
