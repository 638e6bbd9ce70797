"""Prints what CHANGELOG.md says of one version, as the text of a release.

    python tools/release_notes.py v0.1.0 --links https://example.org/onnxcam/blob/v0.1.0/ > notes.md

Lines of one paragraph or list item are joined, because pages of releases show every line break. Needs nothing but
Python.
"""

import argparse
import re
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"
HEADING = re.compile(r"^## \[([^]]+)\].*$", re.MULTILINE)
NEW_BLOCK = re.compile(r"\s*$|#|\s*[-*] ")
RELATIVE_LINK = re.compile(r"(\]\()(?![a-z][a-z+.-]*:|#)([^)]+\))")


def section(changelog: str, version: str) -> str:
    """The text below the heading of the version ('0.1.0', 'v0.1.0' or 'unreleased'), up to the next one.

    Raises ValueError, with the versions that are there, where there is no such heading or nothing below it.
    """
    headings = list(HEADING.finditer(changelog))
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    sections = {h[1].lower(): changelog[h.end() : end].strip() for h, end in zip(headings, ends, strict=True)}
    text = sections.get(version.lower().removeprefix("v"))
    if text is None:
        raise ValueError(f"CHANGELOG.md has no section {version!r}; it has {', '.join(sections)}")
    if not text:
        raise ValueError(f"the section {version!r} of CHANGELOG.md is empty")
    return text


def joined(text: str) -> str:
    """The text with each paragraph, heading and list item on one line; fenced blocks stay as they are."""
    lines: list[str] = []
    fenced = follows = False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        if follows and not fenced and not fence and not NEW_BLOCK.match(line):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line.rstrip())
        fenced ^= fence
        follows = not fenced and not fence and bool(line.strip()) and not line.startswith("#")
    return "\n".join(lines)


def with_links(text: str, base: str) -> str:
    """The text with its relative links made absolute: base is put before each."""
    return RELATIVE_LINK.sub(rf"\g<1>{base}\g<2>", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="0.1.0, v0.1.0 or unreleased")
    parser.add_argument("--links", default="", help="address of the files of this version, put before relative links")
    arguments = parser.parse_args()
    try:
        text = section(CHANGELOG.read_text("utf-8"), arguments.version)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    print(with_links(joined(text), arguments.links))


if __name__ == "__main__":
    main()
