"""Text that people read, without what steers a terminal or misleads its reader.

Names of tensors, labels, metadata and files come from strangers. Here they lose escapes and other control codes, line
breaks, marks that reverse the order of letters, invisible characters, and halves of surrogate pairs. Each becomes its
escape, as in \\x1b or \\u202e.
"""

import re
import unicodedata
from collections.abc import Callable

MOST_MARKS = 8
"""Accents on one letter; more of them grow over the lines above."""
JOINERS = "\u200c\u200d\ufe0e\ufe0f"
"""Invisible, but spelling in several scripts, and the glue of emoji. Shown behind a letter that is not ASCII."""
INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that leave no ink, beside those that Python calls not printable."""
NOT_ASCII = re.compile(r"[^ -~]+")


def printable(text: str) -> str:
    """The text as one line, with the escape of each character that could steer a terminal or mislead a reader."""
    return NOT_ASCII.sub(lambda run: escaped(run[0], _escape), text)


def escaped(run: str, escape: Callable[[str], str]) -> str:
    """The run of characters that are not ASCII, or control codes, with the escapes of those that mislead."""
    shown, before, marks = [], "", 0
    for character in run:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        safe = before not in ("", *JOINERS) if character in JOINERS else _is_safe(character, category)
        safe = safe and marks <= MOST_MARKS
        shown.append(character if safe else escape(character))
        before = character if safe else ""
    return "".join(shown)


def _is_safe(character: str, category: str) -> bool:
    return (character.isprintable() or category == "Zs") and not INVISIBLE.match(character)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
