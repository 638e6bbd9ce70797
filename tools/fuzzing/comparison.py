"""The commands that run on a case, the checks of their answers, and the comparison with a plain onnxruntime run."""

import json
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from fuzzing.seeds import MODEL
from fuzzing.verdict import Wrong

TOLERANCE = 1e-2
"""Share of the largest number. Mutated weights lose digits when the runtime fuses operators in another order."""

LIMITS: Any = {"pixels": 2**24, "seconds": 3.0, "memory": 2**26}
"""Far below the defaults, so that what passes them shows soon."""
OPTIONS = ("--max-pixels", str(LIMITS["pixels"]), "--timeout", "3", "--max-memory", "64M")
EXPLAIN = ("explain", MODEL, "picture.png", "--quiet", "--format", "png,npy,json", "-o", "out/", *OPTIONS)
COMMANDS = {
    "explain": EXPLAIN,
    "inspect": ("inspect", MODEL, "--json", *OPTIONS),
    "rewrite": ("rewrite", MODEL, "-o", "rewritten.onnx", *OPTIONS),
}


def fault_of_explanation(folder: Path) -> str | None:
    """What is wrong with the files of explain, or None.

    The map must be finite, from 0 to 1 and not constant; the record and the overlay must be readable.
    """
    files = {p.suffix: p for p in (folder / "out").iterdir()} if (folder / "out").is_dir() else {}
    if set(files) != {".png", ".npy", ".json"}:
        return f"files {sorted(files)}"
    saliency = np.load(files[".npy"], allow_pickle=False)
    low, high = saliency.min(), saliency.max()
    if not np.isfinite(saliency).all() or low < 0 or high > 1 or low == high:
        return "the map is not finite, not within 0 to 1, or constant"
    strict_json(files[".json"].read_text())
    with Image.open(files[".png"]) as drawn:
        drawn.load()
    return None


def strict_json(text: str) -> Any:
    """The parsed text. Raises ValueError for NaN and infinities too."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def fault_of(name: str, folder: Path, out: str) -> str | None:
    """What is wrong with the answer of the named command, or None."""
    try:
        if name == "explain":
            return fault_of_explanation(folder)
        if name == "inspect":
            strict_json(out)
        elif not (folder / "rewritten.onnx").is_file():
            return "no file was written"
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def answer_of(path: Path, picture: Any) -> str:
    """Explains the picture with the file's model, checks the map, and compares the score with a plain run.

    Returns how the comparison ended. Raises Wrong for an answer that is not right. The library preprocesses the picture
    and chooses the output; the numbers come from onnxruntime alone.
    """
    from onnxcam import Explainer
    from onnxcam.limits import Limits
    from onnxcam.network.export import rewrite
    from onnxcam.network.opening import OpenOptions
    from onnxcam.outputs.record import record

    limits = Limits(**LIMITS)
    with Explainer(path, providers=["cpu"], cache=False, threads=1, limits=limits) as explainer:
        anatomy, image = explainer.anatomy, explainer.prepare(picture).image
        saliency = explainer.explain(picture)[0]
    low, high = saliency.map.min(), saliency.map.max()
    if not np.isfinite(saliency.map).all() or low < 0 or high > 1 or low == high:
        raise Wrong("the map is not finite, not within 0 to 1, or constant")
    described = strict_json(json.dumps(record(saliency)))
    again = path.with_name("rewritten.onnx")
    if zlib.crc32(path.read_bytes()) % 3 == 0:
        again.write_bytes(rewrite(path, OpenOptions(threads=1, cache=False, limits=limits)).data)
    agreed = compared(path, again if again.exists() else None, anatomy, image, described)
    if agreed.startswith("differs"):
        raise Wrong("differs from a plain run", agreed)
    return agreed


def compared(path: Path, rewritten: Path | None, anatomy: Any, image: Any, record: Any) -> str:
    """The agreement of the record with plain runs of both files, or 'not comparable: ...'."""
    import onnxruntime

    plain = "NC" + "".join(letter for letter in anatomy.image.layout if letter not in "NC")
    images = np.repeat(
        image[None].transpose([plain.index(a) for a in anatomy.image.layout]),
        anatomy.image.batch or 1,
        plain.index("N"),
    )
    images = np.floor(np.clip(images, 0, 255) + 0.5) if anatomy.image.dtype == "uint8" else images
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    feeds = {anatomy.image.name: images.astype(anatomy.image.dtype)}
    outputs = []
    for file in (path, path, rewritten)[: 2 if rewritten is None else 3]:
        try:
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            output = np.asarray(session.run([anatomy.logits.output], feeds)[0], np.float64)
        except Exception as error:  # noqa: BLE001 - onnxruntime's many
            if file == rewritten:
                return f"differs: the rewritten model does not run ({error})"
            return f"not comparable: {str(error)[:200]}"
        outputs.append((output if output.ndim == 1 else output[:1]).ravel())  # some exports squeeze the batch away
    if record["target"].get("side") is not None:
        outputs = [both_sides(o, record["logits"]["activation"]) for o in outputs]
    if record["target"]["kind"] == "region":
        outputs = [region_means(o, anatomy.logits, record["target"]["index"]) for o in outputs]
    return agreement(record, *outputs)


def both_sides(numbers: Any, activation: str) -> Any:
    """Numbers of the negative and the positive class of an output of one class, side by side."""
    return np.stack([-numbers if activation == "none" else 1 - numbers, numbers], axis=-1).ravel()


def region_means(numbers: Any, logits: Any, index: int) -> Any:
    """(classes,) means of the output over the places where class `index` is predicted."""
    table = numbers.reshape(-1, 2)
    if not logits.two_sided:
        shape = logits.shape[1:]
        table = np.moveaxis(numbers.reshape(shape), logits.channel_axis - 1, -1).reshape(-1, logits.classes)
    return table[table.argmax(axis=1) == index].mean(axis=0)


def agreement(record: Any, numbers: Any, again: Any, rewritten: Any = None) -> str:
    """'same', 'differs: ...' or 'not comparable: ...'.

    numbers (classes,): the plain output that the record is about; again: that of a second run; rewritten: that of the
    rewritten model.
    """
    if not np.array_equal(numbers, again, equal_nan=True):
        return "not comparable: two plain runs differ"
    if rewritten is not None and not close(numbers, rewritten):
        return "differs: the rewritten model returns other numbers"
    index, activation = record["target"]["index"], record["logits"]["activation"]
    key = "value" if activation == "none" or record["target"]["probability"] is None else "probability"
    plain = np.exp(numbers) if activation == "log_softmax" else numbers
    if index >= len(plain):
        return f"differs: class {index} of {len(plain)}"
    recorded = np.array(plain)
    recorded[index] = record["target"][key]
    return "same" if close(plain, recorded) else f"differs: {key} {record['target'][key]}, plain run {plain[index]}"


def close(a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE * float(np.abs(a).max(initial=0)) + 1e-6, equal_nan=True))
