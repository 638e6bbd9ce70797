"""The command line, in a process of its own or in this one, and the files that its tests give it and look for."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO
from unittest import mock

import numpy as np
from PIL import Image

from onnxcam.cli.main import run


def onnxcam(*words: object, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnxcam", *map(str, words)]
    settings = {**os.environ, "COLUMNS": "200", **(env or {})}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=settings)


def onnxcam_here(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As onnxcam(), but in this process, which spares the imports: for what a command says and writes, not for how its
    process starts and ends."""
    command, code = ["onnxcam", *map(str, words)], 0
    columns = mock.patch.dict(os.environ, {"COLUMNS": "200"})
    with mock.patch.object(sys, "argv", command), columns, contextlib.chdir(cwd), taken(1) as out, taken(2) as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                run()
            except SystemExit as end:
                code = int(end.code or 0)
        return subprocess.CompletedProcess(command, code, text_of(out), text_of(err))


@contextlib.contextmanager
def taken(descriptor: int) -> Iterator[TextIO]:
    """A file to which all goes that is written to a descriptor, by libraries in C too."""
    before = os.dup(descriptor)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        os.dup2(file.fileno(), descriptor)
        try:
            yield file
        finally:
            os.dup2(before, descriptor)
            os.close(before)


def text_of(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def write_photos(folder: Path, names: Sequence[str]) -> None:
    """Pictures of 30 x 40 pixels with these names, each of other pixels; sub-folders are made."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 30, 3)).astype(np.uint8)).save(path)
