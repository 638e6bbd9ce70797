"""The bar of several pictures that are on their way at one time."""

import sys
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

from onnxcam.cli.progress import progress_bar


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the bar is told, on a terminal."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    own = Progress.update
    monkeypatch.setattr(
        Progress, "update", lambda self, task, **given: (seen.append(given), own(self, task, **given))[1]
    )
    return seen


def test_shares_of_all_pictures_add_up_and_skipped_ones_are_done_with(shown: list[dict[str, Any]]) -> None:
    with progress_bar(7, quiet=False) as advance:
        first, second = advance({0: Path("0.jpg"), 1: Path("1.jpg")})
        assert first is not None
        assert second is not None
        first(5, 10)
        second(2, 10)
        second(2, 100)
        first(10, 10)
        _, fourth = advance({3: Path("3.jpg"), 5: Path("5.jpg")})  # 1 ended early, 2 and 4 could not be read
        assert fourth is not None
        fourth(1, 4)
        advance({6: Path("6.jpg")})
    done = [given["completed"] for given in shown]
    assert done == pytest.approx([0, 0.5, 0.7, 0.7, 1.2, 4, 4.25, 6]), "it never goes back"
    names = [given["description"] for given in shown if "description" in given]
    assert names == ["1.jpg (1 to 2 of 7)", "5.jpg (4 to 6 of 7)", "6.jpg (7 of 7)"]


def test_nothing_is_shown_in_a_pipe_or_when_quiet(shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress_bar(2, quiet=True) as advance:
        assert advance({0: Path("a.jpg"), 1: Path("b.jpg")}) == [None, None]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with progress_bar(1, quiet=False) as advance:
        assert advance({0: Path("a.jpg")}) == [None]
    assert not shown
