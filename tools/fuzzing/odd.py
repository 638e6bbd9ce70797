"""Odd values that all mutations share: numbers at the edges of what fields hold, names and texts that steer."""

INTEGERS = (
    -1, 0, 1, 2, 3, 7, 255, 1000, 2**16, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -2, -7, -(2**31), -(2**63),
)  # fmt: skip
FIELDS = (
    0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 127, 128, 255, 256, 257, 511, 1023, 4095, 4096, 16383,
    16384, 32767, 32768, 65534, 65535, 65536, 70_000, 2**20, 2**24 - 1, 2**24, 2**27, 2**28, 2**30, 2**31 - 1, 2**31,
    2**32 - 2, 2**32 - 1, 2**33, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
"""Of unsigned fields of a file's header; cut to the field's width."""
FLOATS = (0.0, -1.0, 1e-45, 1e30, float("inf"), float("-inf"), float("nan"))
NAMES = ("", "nowhere", "x", "y", "a b", "../../x", "[red]x[/red]", "line\nbreak", "\x1b[31mred", "é中", "n" * 20_000)
TEXTS = (
    "", " ", "{", "null", "[]", "5", "-0", "1e400", "NaN", "Infinity", "true", '""', "[" * 3000, "9" * 5000, "\x00",
    "\\ud800", "\u202e", "\x9b31m", "\ufeff", "../..", "0x10", "1_000", "é", "{0: 'a'}", "\r", "\x85", "a=b;c",
)  # fmt: skip
