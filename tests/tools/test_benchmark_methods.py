"""The benchmark of time against quality: no method is dropped, qualities are of the maps, and the figure shows all."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from programs import tool

from onnxcam import METHODS

TOOLS = Path(__file__).parents[2] / "tools" / "benchmarks"


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return tool("benchmarks/methods")


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return tool("benchmarks/figure")


def test_every_method_is_a_subject_once_the_exact_one_first(methods: ModuleType) -> None:
    subjects = list(methods.subjects())
    assert subjects[0] == ("onnxcam", "score-cam")
    assert len(set(subjects)) == len(subjects)
    assert {name for tool_, name in subjects if tool_ == "onnxcam"} == {*METHODS, "score-cam --fast"}
    assert {tool_ for tool_, _ in subjects} == {"onnxcam", "pytorch-grad-cam", "TorchCAM"}
    assert set(methods.LONG) <= set(subjects)


def test_what_cannot_be_measured_says_why(methods: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "find_spec", lambda name: None if name == "torchcam" else name)
    assert methods.why_not("TorchCAM", "CAM", False) == "TorchCAM is not installed"
    monkeypatch.setattr(methods, "find_spec", lambda name: name)
    assert "35 times" in methods.why_not("TorchCAM", "SSCAM", False)
    assert methods.why_not("TorchCAM", "SSCAM", True) is None
    assert methods.why_not("onnxcam", "rise", False) is None


def test_a_process_that_fails_gives_its_last_line(methods: ModuleType, tmp_path: Path) -> None:
    drawn, times, error = methods.drawn_by("onnxcam", "no-such-method", tmp_path)
    assert (drawn, times) == (None, {})
    assert "no-such-method" in error or "about.json" in error


def test_a_map_correlates_with_itself_and_a_constant_one_with_nothing(methods: ModuleType) -> None:
    ramp = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert methods.correlation(ramp, ramp) == pytest.approx(1)
    assert methods.correlation(ramp.max() - ramp, ramp) == pytest.approx(-1)
    assert methods.correlation(np.ones_like(ramp), ramp) is None


def test_a_row_has_the_median_of_the_later_maps_and_the_qualities(methods: ModuleType) -> None:
    times = {"first": 9.0, "seconds": [2.0, 1.0, 3.0], "processor": [4.0]}
    row = methods.row_of("onnxcam", "rise", times, {"pearson": 0.5, "insertion": None, "deletion": 0.25}, "")
    assert (row["value"], row["first"], row["processor"], row["rounds"]) == (2.0, 9.0, 4.0, 3)
    assert (row["pearson"], row["insertion"], row["note"]) == (0.5, None, "pearson 0.500, deletion 0.250")
    missing = methods.row_of("TorchCAM", "CAM", {}, {}, "TorchCAM is not installed")
    assert (missing["value"], missing["note"]) == (None, "TorchCAM is not installed")


def rows(*given: tuple[str, str, float | None, float | None]) -> list[dict[str, Any]]:
    """Rows of (tool, method, seconds, Pearson)."""
    return [
        {
            "tool": t,
            "method": m,
            "value": s,
            "processor": s,
            "pearson": q,
            "insertion": q,
            "deletion": 0.1 if q else None,
        }
        for t, m, s, q in given
    ]


def test_methods_that_lie_together_share_a_label(figure: ModuleType) -> None:
    """Of one tool only, of one quality, and of times that differ by less than 1.6."""
    given = rows(
        ("onnxcam", "cam", 0.010, 0.9), ("onnxcam", "grad-cam", 0.012, 0.9), ("onnxcam", "rise", 2.0, 0.9),
        ("TorchCAM", "CAM", 0.011, 0.9), ("onnxcam", "score-cam", 2.0, 1.0), ("onnxcam", "broken", None, None),
        ("onnxcam", "constant", 1.0, None),
    )  # fmt: skip
    gathered = figure.points(given, "pearson")
    assert [(p.tool, p.methods) for p in gathered] == [
        ("onnxcam", ["cam", "grad-cam"]), ("TorchCAM", ["CAM"]), ("onnxcam", ["rise"]), ("onnxcam", ["score-cam"]),
    ]  # fmt: skip


def test_labels_cover_neither_each_other_nor_markers(figure: ModuleType) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    crowd = rows(*(("onnxcam", f"method-{i}", 0.01 * 1.05**i, 0.9 + i / 200) for i in range(12)))
    drawing = Figure(figsize=(9, 6))
    axis = drawing.subplots()
    gathered = figure.points(crowd, "pearson")
    figure.draw_panel(axis, gathered, "quality")
    figure.place_labels(drawing, axis, gathered)
    renderer = drawing.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in axis.texts]
    assert len(boxes) == len(gathered)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    centres = axis.transData.transform([(p.seconds, p.quality) for p in gathered])
    assert not any(box.contains(*centre) for box in boxes for centre in centres)


@pytest.mark.slow
def test_a_method_is_measured_in_a_process_of_its_own(
    methods: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "subjects", lambda: [("onnxcam", "grad-cam"), ("onnxcam", "cam")])
    measured = list(methods.measure(tmp_path, False))
    assert [row["pearson"] for row in measured] == pytest.approx([1, 1], abs=1e-5)
    assert all(0 < row["value"] < row["first"] + 10 for row in measured)
    (tmp_path / "rows.json").write_text(json.dumps({"methods": {"rows": measured}}))
    pytest.importorskip("matplotlib")
    file = tmp_path / "figure.png"
    subprocess.run([sys.executable, TOOLS / "figure.py", tmp_path / "rows.json", file], check=True, timeout=120)
    assert file.read_bytes().startswith(b"\x89PNG")
