"""What a type checker says of the snippets is said of the page and the line where a reader sees them."""

import sys
from pathlib import Path

import pytest
from programs import tool

snippets = tool("check_snippets")

PAGE = """# A page

```python
import math
number = math.pi
```

```sh
not python
```

```python
print(number)
```
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(PAGE)
    (tmp_path / "docs/how-to").mkdir(parents=True)
    (tmp_path / "docs/how-to/a.md").write_text(PAGE)
    (tmp_path / "docs/none.md").write_text("# Without code\n")
    return tmp_path


def checker(folder: Path, code: str) -> str:
    """A program that is run as basedpyright would be."""
    path = folder / "checker"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_has_each_line_at_its_number_on_the_page(root: Path) -> None:
    lines = snippets.program(root / "README.md").splitlines()
    page = PAGE.splitlines()
    assert {n: line for n, line in enumerate(lines) if line} == {n: page[n] for n in (3, 4, 12)}
    assert snippets.program(root / "docs/none.md") == ""


def test_every_page_with_snippets_is_checked(root: Path) -> None:
    assert snippets.pages(root) == [root / "README.md", root / "docs/how-to/a.md"]
    assert len(snippets.pages(snippets.ROOT)) > 10


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in starts with #!")
def test_what_is_found_is_said_of_the_page(root: Path) -> None:
    code = """
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--project") + 1])
assert (folder / "pyrightconfig.json").is_file()
for path in sorted(folder.glob("*.py")):
    print(f"{path}:{path.read_text().splitlines().index('print(number)') + 1}: error")
sys.exit(1)"""
    lines = snippets.findings(checker(root, code), snippets.pages(root), root)
    assert lines == ["README.md:13: error", "docs/how-to/a.md:13: error"]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in starts with #!")
def test_a_checker_that_finds_nothing_has_nothing_to_say(root: Path) -> None:
    assert snippets.findings(checker(root, "print('0 errors')"), snippets.pages(root), root) == []


def test_the_last_word_of_a_checker_that_does_not_start_is_an_error(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        snippets.findings("no-such-checker", snippets.pages(root), root)
