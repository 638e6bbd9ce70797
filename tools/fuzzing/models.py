"""Damaged and hostile models. An answer is compared with a plain onnxruntime run of the same file.

Every model is opened and explained by the library; one of eight also by the commands explain, inspect and rewrite.
"""

import io
import logging
import sys
import zlib
from pathlib import Path
from typing import Any

from onnx import ModelProto
from PIL import Image

from fuzzing.comparison import COMMANDS, answer_of, fault_of
from fuzzing.kept import Bounds
from fuzzing.mutations import STRUCTURED
from fuzzing.raw import RAW
from fuzzing.records import picture
from fuzzing.seeds import MODEL, TEXTS, Files, built_in
from fuzzing.subject import Case, Rng, Subject, subject
from fuzzing.verdict import Verdict, fault_of_output

PICTURE = "picture.png"
BY_COMMANDS = 8
"""One of so many models is given to the command line too."""


def make(rng: Rng, models: dict[str, Files]) -> Case:
    """A model with changes to its graph, its bytes or, of few, both. One of fifty is unchanged."""
    origin = rng.choice(sorted(models))
    files = dict(models[origin])
    changes: list[str] = []
    if rng.random() < 0.02:
        return Case(origin, files, must_answer=origin in TEXTS)
    kind = rng.random()
    if kind > 0.2:
        model = ModelProto.FromString(files[MODEL])
        for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
            changes.append(change_structure(rng, model))
        files[MODEL] = model.SerializeToString()
    if kind < 0.25 and files[MODEL]:
        which, target = rng.choice(sorted(RAW)), rng.choice([*files, MODEL, MODEL])
        files[target], change = RAW[which](rng, files[target])
        changes.append(f"{which}: {target} {change}")
    return Case(origin, files, tuple(changes))


def change_structure(rng: Rng, model: ModelProto) -> str:
    """Changes the model by one mutation that applies to it. Returns the change in words."""
    while True:
        name = rng.choice(sorted(STRUCTURED))
        change = STRUCTURED[name](rng, model)
        if change is not None:
            return f"{name}: {change}"


def check(files: Files, folder: Path) -> Verdict:
    for file, data in files.items():
        (folder / file).write_bytes(data)
    if zlib.crc32(files[MODEL]) % BY_COMMANDS == 0:
        verdict = by_commands(folder)
        if verdict is not None:
            return verdict
    return Verdict("answer", "", answer_of(folder / MODEL, picture()))


def by_commands(folder: Path) -> Verdict | None:
    """The first failure of the commands, in a user's order; None if there is none."""
    Image.fromarray(picture()).save(folder / PICTURE)
    for what, words in COMMANDS.items():
        before = {str(p) for p in folder.rglob("*")}
        code, out, err = command(*words)
        left = sorted({str(p.relative_to(folder)) for p in folder.rglob("*") if str(p) not in before})
        reason = None
        if code == 0:
            reason = fault_of(what, folder, out)
        elif code != 1:
            reason = f"exit code {code}"
        else:
            reason = f"files left behind: {left}" if left else fault_of_output(err)
        if reason is not None:
            return Verdict("failure", f"{what}: {reason}", (err or out)[-3000:])
    return None


def command(*words: str) -> tuple[Any, str, str]:
    """(exit code, standard output, standard error) of the command line in this process."""
    from onnxcam.cli.main import run

    kept = sys.argv, sys.stdout, sys.stderr, logging.getLogger().handlers[:]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    sys.argv, sys.stdout, sys.stderr = ["onnxcam", *words], out, err
    code: Any = 0
    try:
        run()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    finally:
        sys.argv, sys.stdout, sys.stderr, logging.getLogger().handlers[:] = kept
    return code, *(stream.buffer.getvalue().decode(errors="replace") for stream in (out, err))


subject(Subject("models", built_in, make, check, Bounds(seconds=60, peak=2**31)))
