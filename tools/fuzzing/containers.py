"""Surgery on the parts of a picture's file: chunks, segments, blocks, boxes and entries, with their lengths kept right.

A container splits a file into its parts and puts it together again. Where the parts of a damaged file cannot be seen,
the rest is one part.
"""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from fuzzing.odd import FIELDS

Rng = random.Random
Part = tuple[bytes, bytes]
"""(kind, content)."""


@dataclass(frozen=True)
class Container:
    """begins: how such a file starts. split, join: to parts and back."""

    begins: Callable[[bytes], bool]
    split: Callable[[bytes], list[Part]]
    join: Callable[[list[Part]], bytes]


def split_png(data: bytes) -> list[Part]:
    parts, at = [], 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        parts.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def join_png(parts: list[Part]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def split_jpeg(data: bytes) -> list[Part]:
    """Segments; that of a scan has its coded data behind its header, and further marker-less bytes are of kind ''."""
    parts, at = [], 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            end = data.find(b"\xff", at)
            end = len(data) if end < 0 else end
            parts.append((b"", data[at:end]))
            at = end
        elif data[at + 1] in (0, *range(0xD0, 0xDA)):
            parts.append((b"", data[at : at + 2]))
            at += 2
        else:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            parts.append((data[at + 1 : at + 2], data[at + 4 : at + 2 + length]))
            at += 2 + max(length, 2)
    return [*parts, (b"", data[at:])]


def join_jpeg(parts: list[Part]) -> bytes:
    return b"\xff\xd8" + b"".join(
        b"\xff" + kind + struct.pack(">H", (len(body) + 2) % 65536) + body if kind else body for kind, body in parts
    )


def split_gif(data: bytes) -> list[Part]:
    def table(flags: int) -> int:
        return 3 << (flags % 8 + 1) if flags & 0x80 else 0

    at = 13 + table(data[10]) if len(data) > 10 else len(data)
    parts = [(b"head", data[:at])]
    while at + 9 < len(data) and data[at] in (0x21, 0x2C):
        end = at + 2 if data[at] == 0x21 else at + 11 + table(data[at + 9])
        while end < len(data) and data[end]:
            end += 1 + data[end]
        parts.append((b"block", data[at : end + 1]))
        at = end + 1
    return [*parts, (b"tail", data[at:])]


def join_gif(parts: list[Part]) -> bytes:
    return b"".join(body for _, body in parts)


def split_riff(data: bytes) -> list[Part]:
    parts, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        parts.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return parts


def join_riff(parts: list[Part]) -> bytes:
    body = b"".join(k + struct.pack("<I", len(b)) + b + b"\0" * (len(b) % 2) for k, b in parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def split_boxes(data: bytes) -> list[Part]:
    """Boxes of JPEG 2000 and AVIF."""
    parts, at = [], 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        length = len(data) - at if length < 8 else length
        parts.append((kind, data[at + 8 : at + length]))
        at += length
    return parts


def join_boxes(parts: list[Part]) -> bytes:
    return b"".join(struct.pack(">I", len(body) + 8) + kind + body for kind, body in parts)


def split_tiff(data: bytes) -> list[Part]:
    """The entries of the first directory, each of 12 bytes; before and behind them the rest."""
    order = "<" if data[:2] == b"II" else ">"
    at = struct.unpack_from(order + "I", data, 4)[0] if len(data) >= 8 else len(data)
    if at + 2 > len(data):
        return [(b"all", data)]
    count = struct.unpack_from(order + "H", data, at)[0]
    end = min(len(data), at + 2 + 12 * count)
    entries = [(b"entry", data[place : place + 12]) for place in range(at + 2, end, 12)]
    return [(b"head", data[: at + 2]), *entries, (b"tail", data[end:])]


CONTAINERS = (
    Container(lambda data: data[:4] == b"\x89PNG", split_png, join_png),
    Container(lambda data: data[:2] == b"\xff\xd8", split_jpeg, join_jpeg),
    Container(lambda data: data[:3] == b"GIF", split_gif, join_gif),
    Container(lambda data: data[:4] == b"RIFF", split_riff, join_riff),
    Container(lambda data: data[4:8] in (b"ftyp", b"jP  "), split_boxes, join_boxes),
    Container(lambda data: data[:4] in (b"II*\0", b"MM\0*"), split_tiff, join_gif),
)


def operate(rng: Rng, data: bytes, other: bytes) -> tuple[bytes, str] | None:
    """One change to the parts of the file, some of which come from another file. None for a file without parts."""
    container = next((c for c in CONTAINERS if c.begins(data)), None)
    parts = container.split(data) if container is not None else []
    if container is None or not parts:
        return None
    i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
    kind, body = parts[i]
    how = rng.choice(
        ("drop", "repeat", "swap", "shuffle", "graft", "cut", "spoil", "field", "field", "field", "rename")
    )
    if how == "drop":
        parts.pop(i)
    elif how == "repeat":
        parts[i:i] = [parts[j]] * rng.choice((1, 1, 2, 50))
    elif how == "swap":
        parts[i], parts[j] = parts[j], parts[i]
    elif how == "shuffle":
        rng.shuffle(parts)
    elif how == "graft" and container.begins(other):
        parts.insert(i, rng.choice(container.split(other) or [(kind, body)]))
    elif how == "cut":
        parts[i] = kind, body[: rng.randrange(len(body) + 1)]
    elif how == "rename":
        parts[i] = parts[j][0], body
    elif body:
        parts[i] = kind, spoiled(rng, body) if how == "spoil" else with_field(rng, body)
    return container.join(parts), f"{how}s part {i} ({kind[:8]!r}) of {len(parts)}"


def spoiled(rng: Rng, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 3))):
        changed[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(changed)


def with_field(rng: Rng, body: bytes) -> bytes:
    """The content with an odd number in one of its first bytes, where sizes stand."""
    size, place = rng.choice((1, 2, 2, 4, 4)), rng.randrange(min(len(body), 24))
    value = rng.choice(FIELDS) % 256**size
    return body[:place] + value.to_bytes(size, rng.choice(("little", "big"))) + body[place + size :]  # type: ignore[arg-type]
