"""What a user does with a model, what the answers must look like, and the comparison with a plain run."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from fuzzing.judging import Ended, Limits, sandboxed
from fuzzing.seeds import MODEL

TOLERANCE = 1e-2
"""Of the largest number: mutated weights lose digits when the runtime fuses operators in another order."""

EXPLAIN = ("explain", MODEL, "picture.png", "--quiet", "--format", "png,npy,json", "-o", "out/")
COMMANDS = {
    "explain": EXPLAIN,
    "inspect": ("inspect", MODEL, "--json"),
    "rewrite": ("rewrite", MODEL, "-o", "rewritten.onnx"),
}


def command(*words: str) -> Callable[[], None]:
    def act() -> None:
        from onnxcam.cli.main import run

        sys.argv = ["onnxcam", *words]
        run()

    return act


def wrong_with_explanation(folder: Path) -> str | None:
    """None where the map is finite, from 0 to 1 and not constant, and the record and the overlay can be read."""
    made = {p.suffix: p for p in (folder / "out").iterdir()} if (folder / "out").is_dir() else {}
    if set(made) != {".png", ".npy", ".json"}:
        return f"files {sorted(made)}"
    found = np.load(made[".npy"], allow_pickle=False)
    if not np.isfinite(found).all() or found.min() < 0 or found.max() > 1 or found.min() == found.max():
        return "the map is not finite, not within 0 to 1, or constant"
    strict_json(made[".json"].read_text())
    with Image.open(made[".png"]) as drawn:
        drawn.load()
    return None


def strict_json(text: str) -> Any:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def wrong_with(name: str, folder: Path, ended: Ended) -> str | None:
    try:
        if name == "explain":
            return wrong_with_explanation(folder)
        if name == "inspect":
            strict_json(ended.out)
        elif not (folder / "rewritten.onnx").is_file():
            return "no file was written"
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def compare(folder: Path) -> None:
    """In a process of its own: the record against a plain run of the file; prints 'same', 'differs ...' or why not.

    The preprocessing is the library's own, as is the choice of the output; the numbers are the runtime's.
    """
    import onnxruntime

    from onnxcam import Explainer

    record = json.loads(next((folder / "out").glob("*.json")).read_text())
    with Explainer(folder / MODEL, providers=["cpu"]) as explainer:
        anatomy, image = explainer.anatomy, explainer.prepare(folder / "picture.png").image
    plain = "NC" + "".join(letter for letter in anatomy.image.layout if letter not in "NC")
    fed = np.repeat(
        image[None].transpose([plain.index(a) for a in anatomy.image.layout]),
        anatomy.image.batch or 1,
        plain.index("N"),
    )
    fed = np.floor(np.clip(fed, 0, 255) + 0.5) if anatomy.image.dtype == "uint8" else fed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    feeds = {anatomy.image.name: fed.astype(anatomy.image.dtype)}
    answers = []
    for file in (MODEL, MODEL, "rewritten.onnx"):
        if (folder / file).is_file():
            session = onnxruntime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
            found = np.asarray(session.run([anatomy.logits.output], feeds)[0], np.float64)
            answers.append((found if found.ndim == 1 else found[:1]).ravel())  # some exports squeeze the batch away
    if record["target"]["kind"] == "region":
        answers = [of_region(a, anatomy.logits, record["target"]["index"]) for a in answers]
    print(agreement(record, *answers))


def of_region(numbers: Any, logits: Any, index: int) -> Any:
    """(classes,) the means over the places where class `index` is predicted."""
    table = np.moveaxis(numbers.reshape(logits.shape[1:]), logits.channel_axis - 1, -1).reshape(-1, logits.classes)
    return table[table.argmax(axis=1) == index].mean(axis=0)


def agreement(record: Any, numbers: Any, again: Any, rewritten: Any = None) -> str:
    """numbers: (classes,) of the output that the record is about; again: of a second run."""
    if not np.array_equal(numbers, again, equal_nan=True):
        return "not comparable: two plain runs differ"
    if rewritten is not None and not close(numbers, rewritten):
        return "differs: the rewritten model returns other numbers"
    index, activation = record["target"]["index"], record["logits"]["activation"]
    key = "value" if activation == "none" or record["target"]["probability"] is None else "probability"
    wanted = np.exp(numbers) if activation == "log_softmax" else numbers
    if index >= len(wanted):
        return f"differs: class {index} of {len(wanted)}"
    expected = np.array(wanted)
    expected[index] = record["target"][key]
    return "same" if close(wanted, expected) else f"differs: {key} {record['target'][key]}, plainly {wanted[index]}"


def close(a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE * float(np.abs(a).max(initial=0)) + 1e-6, equal_nan=True))


def compared(folder: Path, limits: Limits) -> str:
    ended = sandboxed(lambda: compare(folder), folder, limits)
    if ended.code == 0:
        return ended.out.strip()
    last = ended.err.strip().splitlines()[-1:] or [f"ended with {ended.code or ended.signal}"]
    return f"not comparable: {last[0][:200]}"
