"""Prints pip constraints that pin every dependency to the lowest version that pyproject.toml allows.

    python tools/lowest_versions.py cpu test > lowest.txt
    pip install -c lowest.txt ".[cpu,test]"

The words are extras. Needs nothing but Python, so that it runs before anything is installed.
"""

import argparse
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
LOWEST = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*(?:>=|==)\s*([0-9][0-9A-Za-z.]*)\s*")


def constraints(project: Mapping[str, Any], extras: Iterable[str]) -> list[str]:
    """'name==version' of each requirement of the project and of its extras; an extra may name others.

    Raises ValueError for a requirement without a lower bound, or with more than that.
    """
    lines = [pinned(text) for text in project["dependencies"]]
    waiting, seen = list(extras), set[str]()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for text in project["optional-dependencies"][extra]:
            inner = re.fullmatch(rf"{re.escape(project['name'])}\[([^]]*)\]", text)
            if inner is not None:
                waiting += [name.strip() for name in inner[1].split(",")]
            else:
                lines.append(pinned(text))
    return sorted(lines)


def pinned(requirement: str) -> str:
    parts = LOWEST.fullmatch(requirement)
    if parts is None:
        raise ValueError(f"{requirement!r} does not read NAME>=VERSION: the lowest version cannot be installed")
    return f"{parts[1]}=={parts[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", help="extras of the project")
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    print("\n".join(constraints(project, parser.parse_args().extras)))


if __name__ == "__main__":
    main()
