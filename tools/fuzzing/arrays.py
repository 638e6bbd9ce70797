"""Damaged .npy and .npz files. What onnxcam reads must be, to the bit, what numpy.load reads without pickles.

The arrays are also given to two models, as a picture or as preprocessed.
"""

import functools
import re
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.kept import Bounds
from fuzzing.odd import FIELDS
from fuzzing.odd import TEXTS as ODD
from fuzzing.raw import RAW
from fuzzing.seeds import MODEL, built_in
from fuzzing.subject import Case, Files, Rng, Subject, subject
from fuzzing.verdict import ANSWER, Verdict, Wrong

FILE = "array.npy"
TYPES = ("u1", "<f4", ">f4", "<f8", "<f2", "<i2", "<u2", "<i8", "|b1", "<u8", "i1")
ODD_TYPES = ("|O", "<c8", "<U5", "S3", "V8", "<M8[D]", "f3", "<f16", "x", "", "i,i", "('<f4', (2,))", "[('a','<f4')]",
             "u0", "u99", "?", "=f4", "|u1", "\u00e9")  # fmt: skip
SIZE = (16, 12)
"""Of the built-in models."""
SIDES = (0, 1, 2, 3, 5, 12, 16, 2**16, 2**31, 2**32, 2**62, 2**63, 10**30, -1)


def seeds() -> dict[str, Files]:
    generator = np.random.default_rng(0)
    arrays = {}
    for kind in TYPES:
        values = generator.uniform(0, 2 if kind == "|b1" else 1 if "f" in kind else 120, (3, *SIZE))
        arrays[f"npy{kind}"] = values.astype(kind)
    arrays["fortran"] = np.asfortranarray(generator.uniform(0, 1, (*SIZE, 3)).astype("f4"))
    arrays["photo"] = generator.integers(0, 256, (*SIZE, 3)).astype("u1")
    arrays["scalar"] = np.asarray(3.5, "f4")
    arrays["batch"] = generator.standard_normal((1, 3, *SIZE)).astype("f4")
    files = {name: {FILE: saved(array)} for name, array in arrays.items()}
    for version in ((2, 0), (3, 0)):
        files[f"version-{version[0]}"] = {FILE: saved(arrays["photo"], version)}
    archive = BytesIO()
    np.savez(archive, a=arrays["photo"], b=arrays["npy<f4"])
    return {**files, "npz": {FILE: archive.getvalue()}}


def saved(array: Any, version: tuple[int, int] = (1, 0)) -> bytes:
    file = BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=False)
    return file.getvalue()


def make(rng: Rng, models: dict[str, Files]) -> Case:
    origin = rng.choice(sorted(models))
    data = models[origin][FILE]
    if rng.random() < 0.02:
        return Case(origin, {FILE: data})
    changes = []
    for _ in range(rng.choice((1, 1, 2))):
        if rng.random() < 0.6 and data[:6] == b"\x93NUMPY":
            data, change = with_header(rng, data)
        else:
            data, change = RAW[rng.choice(sorted(set(RAW) - {"nest_deeply", "nest_types"}))](rng, data)
        changes.append(change)
        if not data:
            break
    return Case(origin, {FILE: data}, tuple(changes))


def with_header(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """Another header before the same numbers."""
    begin = 10 if data[6] == 1 else 12
    length = int.from_bytes(data[8:begin], "little")
    text, rest = data[begin : begin + length].decode("latin-1"), data[begin + length :]
    how = rng.randrange(9)
    if how == 0:
        text = re.sub(r"'descr': *'[^']*'", f"'descr': {rng.choice((*TYPES, *ODD_TYPES))!r}", text)
    elif how == 1:
        shape = tuple(rng.choice(SIDES) for _ in range(rng.choice((0, 1, 2, 3, 4, 40))))
        text = re.sub(r"\([^)]*\)", str(shape), text)
    elif how == 2:
        text = re.sub(r"True|False", rng.choice(("True", "False", "1", "None", "'x'")), text)
    elif how == 3:
        text = text.replace("}", f"{rng.choice(ODD)!r}: 1, }}", 1)
    elif how == 4:
        text = rng.choice(
            (*ODD, "{" * 3000, "(" * 90, "-" * 9000 + "1", "{'a':1}", "__import__('os')", "{**{}}", "1" * 9000)
        )
    elif how == 5:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(("\0", "'", "(", "L", "#", "\n", "\\", ",", "9" * 30, "é")) + text[at:]
    elif how == 6:
        rest = rest[: rng.randrange(len(rest) + 1)]
    elif how == 7:
        rest += rest[: rng.randrange(len(rest) + 1)]
    else:
        text = text.replace("descr", rng.choice(("descr", "Descr", "fortran_order", "shape")), 1)
    body = text.encode("latin-1", "replace")
    size = len(body) if rng.random() < 0.9 else rng.choice(FIELDS)
    version = data[6:8] if rng.random() < 0.9 else bytes([rng.choice((0, 1, 2, 3, 4, 255)), rng.choice((0, 0, 1))])
    wide = version[0] != 1
    count = struct.pack("<I" if wide else "<H", size % (2**32 if wide else 2**16))
    return b"\x93NUMPY" + version + count + body + rest, f"has the header {text[:120]!r}"


@functools.cache
def of(name: str) -> Any:
    """An explainer of a built-in model, opened once in a process."""
    from onnxcam import Explainer

    return Explainer(built_in()[name][MODEL], cache=False, threads=1)


def check(files: Files, folder: Path) -> Verdict:
    from onnxcam import read_picture
    from onnxcam.errors import OnnxCamError
    from onnxcam.inputs.loader import read_array

    data = files[FILE]
    (folder / FILE).write_bytes(data)
    try:
        reference = np.load(BytesIO(data), allow_pickle=False)
    except Exception:  # noqa: BLE001 - NumPy does not read the file
        reference = None
    array = read_array(folder / FILE)
    if not isinstance(reference, np.ndarray):
        raise Wrong("reads an array that NumPy refuses", array.dtype, array.shape)
    if array.dtype.newbyteorder("=") != reference.dtype.newbyteorder("=") or array.shape != reference.shape:
        raise Wrong("another array than NumPy's", array.dtype, array.shape, reference.dtype, reference.shape)
    if array.dtype.kind != "b" and array.tobytes() != reference.tobytes():
        raise Wrong("other numbers than NumPy's", array.dtype, array.shape)
    if array.dtype.kind == "b" and not np.array_equal(array, reference.view(np.uint8) != 0):
        raise Wrong("other truth values than NumPy's")
    for explainer in (of("cnn"), of("nhwc")):
        try:
            image = explainer.prepare(folder / FILE).image
        except OnnxCamError:
            continue
        if image.shape != (3, *SIZE) or image.dtype != np.float32 or not np.isfinite(image).all():
            raise Wrong("prepares no image of the model", image.shape, image.dtype)
        if array.dtype.kind == "f" and array.shape == image.shape and not np.array_equal(image, array.astype("f4")):
            raise Wrong("changes an array that is preprocessed", array.dtype)
    try:
        picture = read_picture(folder / FILE)
    except OnnxCamError as error:
        return Verdict("answer", "", f"no picture: {error}"[:200])
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise Wrong("no picture", picture.dtype, picture.shape)
    return ANSWER


subject(Subject("arrays", seeds, make, check, Bounds(seconds=20, peak=2**29)))
