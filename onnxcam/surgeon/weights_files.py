"""Names the files of weights of a model that is not read yet, so that no output takes the place of one.

external_data.py reads them. The bytes of the model are searched here and not parsed: this is safe for any file, and
takes a small part of the time of reading the model.
"""

import os
import re
from pathlib import Path

from onnxcam.errors import ModelError
from onnxcam.files import MODEL, read_bytes

LOCATION = re.compile(rb"\n\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])", re.DOTALL)
"""How protobuf writes the key of a tensor's location, and the length of the text behind it, below 2**14 bytes."""


def weights_files(model: str | os.PathLike[str]) -> list[Path]:
    """Where the files of weights lie that a model names, whether they exist or not; none where it cannot be read."""
    try:
        data = read_bytes(model, MODEL)
    except ModelError:
        return []
    names = set()
    for entry in LOCATION.finditer(data):
        length = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(entry[1]))
        names.add(data[entry.end() : entry.end() + length])
    folders = {Path(os.path.realpath(model)).parent, Path(os.path.realpath(Path(model).absolute().parent))}
    return sorted(folder / os.fsdecode(name) for folder in folders for name in names)
