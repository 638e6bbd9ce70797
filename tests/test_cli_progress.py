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
    with progress_bar(6, quiet=False) as advance:
        told = [advance(i, Path(f"{i}.jpg")) for i in (0, 1)]
        for tell in told:
            assert tell is not None
        told[0](5, 10)  # type: ignore[misc]
        told[1](2, 10)  # type: ignore[misc]
        told[1](2, 100)  # type: ignore[misc]
        told[0](10, 10)  # type: ignore[misc]
        late = advance(4, Path("4.jpg"))  # 1 ended early, 2 and 3 could not be read
        assert late is not None
        late(1, 4)
    done = [given["completed"] for given in shown if "completed" in given]
    assert done == pytest.approx([0, 0, 0.5, 0.7, 0.7, 1.02, 4, 4.25]), "it never goes back"
    assert {given["total"] for given in shown if "total" in given} == {6}
    names = [given["description"] for given in shown if "description" in given]
    assert names == ["0.jpg (1 of 6)", "1.jpg (1 to 2 of 6)", "4.jpg (5 of 6)"]


def test_nothing_is_shown_in_a_pipe_or_when_quiet(shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress_bar(1, quiet=True) as advance:
        assert advance(0, Path("a.jpg")) is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with progress_bar(1, quiet=False) as advance:
        assert advance(0, Path("a.jpg")) is None
    assert not shown
