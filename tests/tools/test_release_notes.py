"""The notes of a release are the section of its version, as a page of releases shows it."""

import pytest
from programs import tool

notes = tool("release_notes")

CHANGELOG = """# Changelog

## [Unreleased]

## [0.2.0] - 2027-01-31

### Added

- One thing that
  takes two lines ([docs/a.md](docs/a.md), [site](https://e.org/x)).
- Another:

  ```sh
  one
  two
  ```

A paragraph
of two lines.

## [0.1.0]

The first.
"""


def test_a_section_ends_where_the_next_version_begins() -> None:
    assert notes.section(CHANGELOG, "0.1.0") == "The first."
    assert notes.section(CHANGELOG, "v0.2.0").startswith("### Added\n\n- One thing")
    assert notes.section(CHANGELOG, "v0.2.0").endswith("of two lines.")


@pytest.mark.parametrize(
    ("version", "message"),
    [("0.3.0", "it has unreleased, 0.2.0, 0.1.0"), ("0.2", "no section"), ("unreleased", "is empty")],
)
def test_a_version_without_notes_is_an_error(version: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        notes.section(CHANGELOG, version)


def test_paragraphs_and_items_are_joined_and_code_is_not() -> None:
    assert notes.joined(notes.section(CHANGELOG, "0.2.0")).splitlines() == [
        "### Added",
        "",
        "- One thing that takes two lines ([docs/a.md](docs/a.md), [site](https://e.org/x)).",
        "- Another:",
        "",
        "  ```sh",
        "  one",
        "  two",
        "  ```",
        "",
        "A paragraph of two lines.",
    ]


def test_relative_links_alone_get_the_address_of_the_version() -> None:
    text = "[a](docs/a.md) [b](https://e.org/x) [c](#here) [d](docs/d.md#part)"
    assert notes.with_links(text, "https://h/v1/") == (
        "[a](https://h/v1/docs/a.md) [b](https://e.org/x) [c](#here) [d](https://h/v1/docs/d.md#part)"
    )


def test_the_changelog_of_this_repository_has_notes() -> None:
    text = notes.joined(notes.section(notes.CHANGELOG.read_text("utf-8"), "unreleased"))
    assert text.startswith("### Added\n\n- ")
    assert all(line == "" or line.startswith(("#", "- ", "  ")) for line in text.splitlines())
