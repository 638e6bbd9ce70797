"""The progress bar, where several pictures are explained at one time."""

import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from rich.progress import Progress
from small_models import CLASSIFIER, filled

from onnxcam.cli.main import app
from onnxcam.cli.progress import progress_bar


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every update of the bar, on a terminal."""
    updates: list[dict[str, Any]] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    update = Progress.update
    monkeypatch.setattr(
        Progress, "update", lambda self, task, **values: (updates.append(values), update(self, task, **values))[1]
    )
    return updates


def test_shares_of_all_pictures_add_up_and_skipped_ones_are_done_with(shown: list[dict[str, Any]]) -> None:
    with progress_bar([Path(f"{i}.jpg") for i in range(7)], quiet=False) as bar:
        first, second = bar.begin([0, 1])
        assert first is not None
        assert second is not None
        first(5, 10)
        second(2, 10)
        second(2, 100)
        first(10, 10)
        _, fourth = bar.begin([3, 5])  # 1 ended early, 2 and 4 could not be read
        assert fourth is not None
        fourth(1, 4)
        bar.begin([6])
    done = [update["completed"] for update in shown]
    assert done == pytest.approx([0, 0.5, 0.7, 0.7, 1.2, 4, 4.25, 6]), "it never goes back"
    names = [update["description"] for update in shown if "description" in update]
    assert names == ["1.jpg (1 to 2 of 7)", "5.jpg (4 to 6 of 7)", "6.jpg (7 of 7)"]


def test_nothing_is_shown_in_a_pipe_or_when_quiet(shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress_bar([Path("a.jpg"), Path("b.jpg")], quiet=True) as bar:
        assert bar.begin([0, 1]) == [None, None]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with progress_bar([Path("a.jpg")], quiet=False) as bar:
        assert bar.begin([0]) == [None]
    assert not shown


def test_the_bar_is_off_the_terminal_while_something_is_printed_there(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for name in ("start", "stop"):
        method = getattr(Progress, name)
        monkeypatch.setattr(Progress, name, lambda self, m=method, n=name: (calls.append(n), m(self))[1])
    with progress_bar([Path("a.jpg")], quiet=False) as bar:
        with bar.hidden():
            calls.append("print")
        calls.append("go on")
    assert calls == ["start", "stop", "print", "start", "go on", "stop"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    with progress_bar([Path("a.jpg")], quiet=False) as bar, bar.hidden():
        calls.append("piped")
    assert calls[-3:] == ["start", "piped", "stop"], "what goes elsewhere leaves the bar alone"


def test_the_bar_of_compile_counts_the_pictures_that_are_checked(shown: list[dict[str, Any]], tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(filled(CLASSIFIER), model)
    app(["compile", str(model), "--preset", "imagenet", "-o", str(tmp_path / "e.onnx")], standalone_mode=False)
    counts = [(update["completed"], update["total"]) for update in shown]
    pictures = counts[0][1]
    assert pictures >= 2
    assert counts == [(done, pictures) for done in range(pictures + 1)]
    words = [update["description"] for update in shown]
    assert words[:2] == [f"checking picture {n} of {pictures}" for n in (1, 2)]
    assert words[-1] == f"checking picture {pictures} of {pictures}"
