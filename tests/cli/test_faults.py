"""The files of a command, as calls of the operating system fail in turn: all of each picture's, as before or new."""

import io
import json
import os
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from faults import Fault, Machine, faults_of
from PIL import Image
from typer.testing import CliRunner

from onnxcam.cli.main import app
from onnxcam.temporary import sweep_once

NO_PROCESS = 2**31 - 2
OLD = b"of before"
COMMANDS = {
    "explain": ["--method", "grad-cam", "--format", "png,json,npy"],
    "compare": ["--method", "grad-cam,eigen-cam", "--preset", "unit"],
    "sanity": ["--method", "grad-cam", "--preset", "unit"],
}
slow = pytest.mark.slow


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 18, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i}.png")
    return folder


def is_whole(path: Path) -> bool:
    content = path.read_bytes()
    if path.suffix == ".json":
        return isinstance(json.loads(content), dict)
    if path.suffix == ".npy":
        return bool(np.isfinite(np.load(io.BytesIO(content))).all())
    with Image.open(io.BytesIO(content)) as image:
        image.load()
    return True


class Command:
    """One command that writes into a folder, where the first group of its files exists already."""

    def __init__(self, name: str, model: Path, pictures: Path) -> None:
        self.out = pictures.parent / "out"
        self.words = [
            name,
            str(model),
            *map(str, sorted(pictures.iterdir())),
            *COMMANDS[name],
            "-o",
            f"{self.out}/",
            "-q",
            "--overwrite",
        ]
        self.out.mkdir()
        assert self.run() == 0
        self.names = sorted(path.name for path in self.out.iterdir())

    def run(self) -> int:
        sweep_once.cache_clear()
        return CliRunner().invoke(app, self.words).exit_code

    def fresh(self) -> None:
        shutil.rmtree(self.out)
        self.out.mkdir()
        for name in self.names:
            if self.group(name) == self.group(self.names[0]):
                (self.out / name).write_bytes(OLD)

    @staticmethod
    def group(name: str) -> str:
        return name.partition(".")[0]

    def calls(self) -> list[str]:
        self.fresh()
        machine = Machine(self.out)
        assert machine.run(self.run) is None
        return machine.calls

    def check(self, fault: Fault) -> None:
        self.fresh()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: NO_PROCESS)
            Machine(self.out).run(self.run, fault)
        states = defaultdict(set)
        for name in self.names:
            path = self.out / name
            states[self.group(name)].add("none" if not path.exists() else "old" if path.read_bytes() == OLD else "new")
            assert not path.exists() or path.read_bytes() == OLD or is_whole(path), f"{fault}: {name} is damaged"
        assert all(len(state) == 1 for state in states.values()), f"{fault}: {dict(states)}"
        assert self.run() == 0
        assert sorted(path.name for path in self.out.iterdir()) == self.names, f"{fault}: leftovers after the next run"


@pytest.mark.parametrize(
    ("name", "every"),
    [("explain", 60), pytest.param("explain", 12, marks=slow), pytest.param("compare", 25, marks=slow), pytest.param("sanity", 25, marks=slow)],
)  # fmt: skip
def test_a_call_that_fails_leaves_the_files_of_each_picture_as_they_were_or_new(
    name: str, every: int, classifier_file: Path, pictures: Path
) -> None:
    command = Command(name, classifier_file, pictures)
    faults = faults_of(command.calls(), ("full", "interrupt"))
    assert len(faults) >= 60
    for fault in faults[every // 2 :: every]:
        command.check(fault)
