"""Mutations of the bytes of a file. Each returns the new bytes and the change in words."""

import random
import re
from collections.abc import Callable

from fuzzing.odd import FIELDS

Rng = random.Random
RAW: dict[str, Callable[[Rng, bytes], tuple[bytes, str]]] = {}


def raw(change: Callable[[Rng, bytes], tuple[bytes, str]]) -> Callable[[Rng, bytes], tuple[bytes, str]]:
    """Adds the mutation to the table, under its function's name."""
    RAW[change.__name__] = change
    return change


@raw
def truncate(rng: Rng, data: bytes) -> tuple[bytes, str]:
    end = rng.randrange(len(data))
    return data[:end], f"is cut off after {end} of {len(data)} bytes"


@raw
def flip_bytes(rng: Rng, data: bytes) -> tuple[bytes, str]:
    changed, count = bytearray(data), rng.randrange(1, 21)
    # Most of a file is weights; what describes the graph is at the front as a rule.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 600)
    places = [rng.randrange(reach) for _ in range(count)]
    for place in places:
        changed[place] ^= rng.randrange(1, 256)
    return bytes(changed), f"has other bytes at {sorted(places)}"


@raw
def move_chunk(rng: Rng, data: bytes) -> tuple[bytes, str]:
    a, b = sorted(rng.sample(range(len(data) + 1), 2))
    b = min(b, a + rng.choice((1, 16, 500, len(data))))
    to, how = rng.randrange(len(data)), rng.randrange(3)
    if how == 0:
        return data[:a] + data[b:], f"lacks the bytes {a} to {b}"
    if how == 1:
        return data[:to] + data[a:b] + data[to:], f"repeats the bytes {a} to {b} at {to}"
    rest = data[:a] + data[b:]
    return rest[:to] + data[a:b] + rest[to:], f"has the bytes {a} to {b} moved to {to}"


@raw
def append_something(rng: Rng, data: bytes) -> tuple[bytes, str]:
    what = rng.randrange(3)
    if what == 0:
        return data + data, "is there twice"
    if what == 1:
        return data + bytes(1000), "ends in zeros"
    return data + bytes(rng.randrange(256) for _ in range(200)), "ends in noise"


@raw
def spoil_text(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """Puts bytes that are not UTF-8, of the same number, in place of a name."""
    words = sorted({m.group() for m in re.finditer(rb"[A-Za-z_./][A-Za-z0-9_./]{2,}", data[:20_000])} | {b"x"})
    word = rng.choice(words)
    new = bytes(rng.choice((0xFF, 0xC0, 0x80)) for _ in word)
    everywhere = rng.random() < 0.7
    return data.replace(word, new, -1 if everywhere else 1), f"spells {word!r} as bytes that are not UTF-8"


@raw
def nest_deeply(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """Adds an If in an If and so on. Protobuf takes a hundred levels, and each If takes three."""
    depth = rng.choice((5, 20, 28, 31, 32, 33, 34, 60, 200, 5000))
    inner = chunk(1, node_bytes("Identity", b"x", b"o")) + chunk(2, b"deep") + chunk(12, chunk(1, b"o"))
    for _ in range(depth):
        branches = b"".join(
            chunk(5, chunk(1, name) + chunk(6, inner if name[:1] == b"t" else LEAF) + b"\xa0\x01\x05")
            for name in (b"then_branch", b"else_branch")
        )
        node = node_bytes("If", b"c", b"o") + branches
        inner = chunk(1, node) + chunk(2, b"deep") + chunk(12, chunk(1, b"o"))
    return data + chunk(7, chunk(1, node.replace(b"\x0a\x01c", b"\x0a\x01x", 1))), f"ends in {depth} nested Ifs"


@raw
def nest_types(rng: Rng, data: bytes) -> tuple[bytes, str]:
    depth = rng.choice((3, 40, 48, 60, 5000))
    kind = chunk(1, b"\x08\x01")
    for _ in range(depth):
        kind = chunk(4, chunk(1, kind))
    return data + chunk(
        7, chunk(rng.choice((11, 12, 13)), chunk(1, b"deep") + chunk(2, kind))
    ), f"has {depth} nested types"


def chunk(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    size, length = b"", len(content)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    tag = number << 3 | 2
    assert tag < 128
    return bytes([tag]) + size + bytes([length]) + content


def node_bytes(op_type: str, *names: bytes) -> bytes:
    return chunk(1, names[0]) + chunk(2, names[1]) + chunk(4, op_type.encode())


LEAF = chunk(1, node_bytes("Identity", b"x", b"o")) + chunk(2, b"leaf") + chunk(12, chunk(1, b"o"))


@raw
def flip_bits(rng: Rng, data: bytes) -> tuple[bytes, str]:
    changed = bytearray(data)
    places = [rng.randrange(len(data)) for _ in range(rng.choice((1, 1, 1, 2, 5)))]
    for place in places:
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed), f"has a bit flipped at {sorted(places)}"


@raw
def write_magic_number(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """Writes a number at the edge of what its field holds, more often among the first bytes."""
    size, order, value = rng.choice((1, 2, 4, 4, 8)), rng.choice(("little", "big")), rng.choice(FIELDS)
    reach = len(data) if rng.random() < 0.3 else min(len(data), 80)
    place, value = rng.randrange(reach), value % 256**size
    new = value.to_bytes(size, order)  # type: ignore[arg-type]
    return data[:place] + new + data[place + size :], f"has {value} in {size} bytes ({order} end first) at {place}"


@raw
def fill_range(rng: Rng, data: bytes) -> tuple[bytes, str]:
    start = rng.randrange(len(data))
    end, value = min(len(data), start + rng.choice((1, 4, 16, 200, 5000))), rng.choice((0, 255, 65))
    return data[:start] + bytes([value]) * (end - start) + data[end:], f"has {value} from {start} to {end}"
