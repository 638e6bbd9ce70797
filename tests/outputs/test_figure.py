"""A figure for print: no two texts meet, none leaves the paper, none is smaller than 6 points, and files hold text."""

import io
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from results import provenance

from onnxcam.errors import OptionError
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.registry import METRICS as METRICS_OF_TABLE
from onnxcam.outputs import figure as module
from onnxcam.outputs.comparison import (
    Axis,
    Best,
    ComparedMap,
    ComparedMethod,
    ComparedMetric,
    Comparison,
    ComparisonRow,
)
from onnxcam.outputs.figure import COLUMN, check_matplotlib, figure, figure_bytes
from onnxcam.outputs.figure_cells import SHORT, shown_numbers
from onnxcam.outputs.figure_text import LEAST, Words, broken, fitted, width
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.types import Note, NoteCode, Placement

RANDOM = np.random.default_rng(4)
LABELS = ["tiger cat", "a label that is far too long for any cell of a column of print", "$x_1$ \n 東京 \t 🐱", "æ"]
METHODS = ["score-cam", "grad-cam", "integrated-gradients", "guided-backprop", "opti-cam", "rise", "cam", "mask"]
CURVE = np.stack([np.linspace(0, 1, 9), np.linspace(0.83, 0, 9)], 1).astype(np.float32)
METRICS = (
    ComparedMetric("deletion", Best.LOWEST),
    ComparedMetric("insertion:blur-gaussian", Best.HIGHEST),
    ComparedMetric("average-drop", Best.LOWEST, "%"),
    ComparedMetric("faithfulness-correlation", Best.HIGHEST),
)
SIZES = {"wide": (300, 451), "tall": (500, 200), "square": (224, 224), "flat": (60, 900)}


def measured(value: float | None) -> dict[str, Measurement]:
    one = Measurement("deletion", value, reason=None if value is not None else "it is constant", curve=CURVE)
    return {"deletion": one, **{m.name: Measurement(m.name, value) for m in METRICS[1:]}}


def saliency_of(shape: tuple[int, ...], placement: Placement | None, target: ScoredTarget) -> Saliency:
    values = RANDOM.random(shape, np.float32)
    return Saliency(values, values, target, target.probability, placement, provenance())


def row(i: int, methods: int, size: tuple[int, int] = (300, 451), box: Any = None) -> ComparisonRow:
    height, width_ = size
    side = min(size)
    left, top = (width_ - side) / 2, (height - side) / 2
    target = ScoredTarget(i, LABELS[i % len(LABELS)], 0.123, 4.0, box=box)
    maps = [
        saliency_of((14, 14), Placement(size, (left, top, left + side, top + side)), target) for _ in range(methods)
    ]
    cells = tuple(ComparedMap(m, metrics=measured(0.1 * k if k else None)) for k, m in enumerate(maps))
    picture = RANDOM.integers(0, 256, (height, width_, 3)).astype(np.uint8)
    return ComparisonRow(f"/features/block.{i}/Relu_output_0", f"{i}.jpg", picture, target, cells)


def comparison(methods: int, rows: int, axis: Axis = Axis.TARGETS, size: str = "wide", **changed: Any) -> Comparison:
    names = tuple(
        ComparedMethod(METHODS[i % len(METHODS)], ("budget 20", "blur (sigma 10)") if i == 2 else ())
        for i in range(methods)
    )
    values = {"axis": axis, "methods": names, "metrics": METRICS} | changed
    return Comparison(rows=tuple(row(i, methods, SIZES[size]) for i in range(rows)), **values)


def texts(drawn: Figure) -> list[Any]:
    return [t for t in drawn.findobj(matplotlib.text.Text) if t.get_text() and t.get_visible()]


def assert_legible(drawn: Figure) -> None:
    renderer = FigureCanvasAgg(drawn).get_renderer()
    boxes = {
        t: t.get_window_extent(renderer)
        for t in texts(drawn)
        if t.axes is None or t.axes.axison or t.get_text() == "no map"
    }
    paper = drawn.bbox
    for text, box in boxes.items():
        assert text.get_fontsize() >= LEAST, text.get_text()
        inside = box.x0 >= paper.x0 and box.x1 <= paper.x1 and box.y0 >= paper.y0 and box.y1 <= paper.y1
        assert inside, f"{text.get_text()!r} leaves the paper"
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        meet = min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5
        assert not meet, f"{one.get_text()!r} over {other.get_text()!r}"
    pictures = [axes.get_window_extent(renderer) for axes in drawn.axes if axes.images]
    for (one, a), b in ((pair, picture) for pair in boxes.items() for picture in pictures):
        meet = min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5
        assert not meet or one.get_text() == "no map", f"{one.get_text()!r} over a picture"
    for a, b in combinations(pictures, 2):
        assert not (min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5)


@pytest.mark.parametrize(
    ("methods", "rows", "axis", "size"),
    [
        (1, 1, Axis.TARGETS, "wide"),
        (6, 1, Axis.TARGETS, "tall"),
        (8, 1, Axis.TARGETS, "square"),
        (3, 3, Axis.TARGETS, "wide"),
        (5, 3, Axis.TARGETS, "tall"),
        (1, 3, Axis.TARGETS, "square"),
        (2, 2, Axis.LAYERS, "flat"),
        (1, 5, Axis.LAYERS, "wide"),
        (1, 3, Axis.MODELS, "wide"),
        (4, 3, Axis.MODELS, "square"),
        (1, 4, Axis.PICTURES, "tall"),
        (2, 4, Axis.PICTURES, "flat"),
        (5, 2, Axis.PICTURES, "wide"),
        (6, 6, Axis.TARGETS, "square"),
        (17, 4, Axis.TARGETS, "square"),
    ],
)
def test_every_layout_is_legible(methods: int, rows: int, axis: Axis, size: str) -> None:
    assert_legible(figure(comparison(methods, rows, axis, size), curves=rows < 4))


@pytest.mark.parametrize("inches", [2.0, COLUMN, 7.0])
def test_every_width_is_legible(inches: float) -> None:
    drawn = figure(comparison(3, 2), width=inches, curves=True)
    assert drawn.get_size_inches()[0] == pytest.approx(inches)
    assert_legible(drawn)


def test_four_cells_beside_each_other_take_a_column_and_more_a_page() -> None:
    assert figure(comparison(3, 3)).get_size_inches()[0] == pytest.approx(3.4)
    assert figure(comparison(6, 1)).get_size_inches()[0] == pytest.approx(3.4), "one line is broken"
    assert figure(comparison(6, 6)).get_size_inches()[0] == pytest.approx(7.0)
    for methods, rows in ((5, 2), (4, 2), (5, 3)):
        assert figure(comparison(methods, rows, Axis.PICTURES, "square")).get_size_inches()[1] < 9.5, "a page"


@pytest.mark.parametrize("shape", [(2, 500), (1, 5000), (3, 6, 20, 30), (3, 40, 50)])
def test_signals_volumes_and_arrays_are_drawn(shape: tuple[int, ...]) -> None:
    target = ScoredTarget(1, "a", 0.5, 1.0)
    maps = tuple(ComparedMap(saliency_of(shape[1:], None, target)) for _ in range(3))
    array = RANDOM.standard_normal(shape).astype(np.float32)
    one = Comparison(
        Axis.TARGETS, tuple(map(ComparedMethod, METHODS[:3])), (ComparisonRow("a", "x.npy", array, target, maps),)
    )
    assert_legible(figure(one))


def test_a_volume_shows_the_slice_whose_maps_are_largest() -> None:
    values = np.zeros((6, 8, 8), np.float32)
    values[4, 2, 2] = 1
    target = ScoredTarget(1, "a", 0.5, 1.0)
    saliency = Saliency(values, values, target, 0.5, None, provenance())
    array = np.zeros((1, 6, 8, 8), np.float32)
    one = Comparison(
        Axis.TARGETS, (ComparedMethod("rise"),), (ComparisonRow("a", "x", array, target, (ComparedMap(saliency),)),)
    )
    assert "slice 4" in [t.get_text() for t in texts(figure(one))]


def test_a_map_that_there_is_none_of_is_said() -> None:
    full = row(0, 3)
    holes = ComparisonRow(
        full.name, full.picture, full.original, full.target, (*full.maps[:2], ComparedMap(None, "why"))
    )
    none = ComparisonRow("b", "b", full.original, None, (ComparedMap(None, "why"),) * 3)
    drawn = figure(
        comparison(3, 1, axis=Axis.PICTURES, metrics=()).__class__(
            Axis.PICTURES, tuple(map(ComparedMethod, METHODS[:3])), (holes, none), METRICS
        )
    )
    assert [t.get_text() for t in texts(drawn)].count("no map") == 4
    assert_legible(drawn)


def test_a_map_shows_what_the_model_saw_and_the_picture_all_of_it() -> None:
    drawn = figure(comparison(1, 1))
    picture, saliency = (axes for axes in drawn.axes[:2])
    assert (picture.get_xlim(), picture.get_ylim()) == ((0, 451), (300, 0))
    assert (saliency.get_xlim(), saliency.get_ylim()) == ((75.5, 375.5), (300, 0))


@pytest.mark.parametrize(
    ("values", "unit", "shown"),
    [
        ([0.1, 0.25], "", ["0.100", "0.250"]),
        ([0.12341, 0.12344, 0.5], "", ["0.12341", "0.12344", "0.50000"]),
        ([0.1234, 0.1232, 12.0], "", ["0.1234", "0.1232", "12.00"]),
        ([0.5, 0.5], "", ["0.500", "0.500"]),
        ([0.5, 0.5000001], "", ["0.500", "0.500"]),
        ([3.04, 3.01], "%", ["3.04%", "3.01%"]),
        ([], "", []),
    ],
)
def test_numbers_that_look_the_same_get_more_decimals(values: list[float], unit: str, shown: list[str]) -> None:
    assert shown_numbers(values, unit) == shown


def test_the_best_value_of_a_row_is_bold() -> None:
    drawn = figure(comparison(4, 1, metrics=METRICS[:2]))
    bold = {t.get_text() for t in texts(drawn) if t.get_fontproperties().get_weight() == "bold"}
    assert bold == {"0.100", "0.300"}, "the lowest deletion, the highest insertion; their names are not"
    assert any("n/a" in t.get_text() for t in texts(drawn)), "an undefined metric has no number"


def test_a_label_is_text_and_no_formula() -> None:
    with warnings.catch_warnings(action="error"):  # of letters that no font has
        drawn = figure(comparison(1, 3))
        figure(comparison(2, 3))
    labels = [t.get_text() for t in texts(drawn)]
    assert any("$x_1$" in label for label in labels)
    assert not any("\n" in label or "\t" in label for label in labels)
    assert any(label.endswith("…") for label in labels)


def test_words_are_made_smaller_before_they_are_cut_and_an_end_stays() -> None:
    assert fitted(Words("score-cam", size=7), 100).size == 7
    assert str(fitted(Words("a rather long heading", size=7), 69)) == "a rather long heading"
    cut = fitted(Words("a rather long label", "12.3%"), 60)
    assert str(cut).endswith("… 12.3%")
    assert width(cut) <= 60
    assert str(fitted(Words("/a/very/long/layer/name", from_start=True), 50)).startswith("…")
    marked = fitted(Words("a rather long label", "12.3%", "\N{UPWARDS ARROW}"), 60)
    assert str(marked).endswith("…\N{UPWARDS ARROW} 12.3%")
    assert width(Words("a", "12.3%", bold=True)) > width(Words("a", "12.3%"))


def test_a_heading_that_is_too_long_is_broken_at_a_hyphen_and_stays_in_line() -> None:
    assert [str(part) for part in broken(Words("integrated-gradients", size=7), 57)] == ["integrated-", "gradients"]
    assert broken(Words("integrated-gradients", size=7), 70) == (Words("integrated-gradients", size=7),)
    assert broken(Words("anunbrokenlongnameofamethod"), 30) == (Words("anunbrokenlongnameofamethod"),)
    methods = tuple(map(ComparedMethod, ["rise", "integrated-gradients", "guided-backprop"]))
    drawn = figure(replace(comparison(3, 1, metrics=()), methods=methods))
    baseline = {text.get_text(): text.get_position()[1] for text in texts(drawn)}
    heads = [baseline[name] for name in ("input", "rise", "integrated-", "guided-backprop")]
    assert heads == [heads[0]] * 4, "smaller letters too"


def test_metrics_of_a_figure_have_short_names_all_or_none_with_arrows() -> None:
    names = ["average_drop", "deletion", "insertion", "road", "adcc", "sparseness"]
    metrics = tuple(ComparedMetric(name, best) for name, best in zip(names, [*Best, *Best], strict=True))
    cells = tuple(
        ComparedMap(c.saliency, metrics=dict.fromkeys(names, measured(0.25)["deletion"])) for c in row(0, 3).maps
    )
    rows = (replace(row(0, 3), maps=cells),)
    one = comparison(3, 1, metrics=metrics)
    narrow = {text.get_text() for text in texts(figure(replace(one, rows=rows)))}
    assert narrow >= {"AD↑ 0.250", "Del↓ 0.250", "Ins 0.250", "ROAD↑ 0.250", "ADCC↓ 0.250", "Gini 0.250"}
    wide = {text.get_text() for text in texts(figure(replace(one, rows=rows), width=7))}
    assert wide >= {"average-drop↑ 0.250", "deletion↓ 0.250", "ROAD↑ 0.250", "ADCC↓ 0.250", "sparseness 0.250"}


def test_every_metric_has_a_short_name_of_its_own() -> None:
    assert set(SHORT) == set(METRICS_OF_TABLE)
    assert len(set(SHORT.values())) == len(SHORT)


def test_a_name_is_the_same_below_each_map_whichever_number_is_bold() -> None:
    for inches, name in ((2.8, "Ins, blur-gaussian↑"), (7, "insertion, blur-gaussian↑")):
        drawn = figure(comparison(4, 1, metrics=METRICS[1:2]), width=inches)
        shown = [text.get_text() for text in texts(drawn) if "↑" in text.get_text()]
        assert len(shown) == 4
        assert all(text.startswith(name) for text in shown), shown
        assert_legible(drawn)


def test_a_class_has_its_number_where_another_model_has_no_labels() -> None:
    one = comparison(2, 2, Axis.MODELS, metrics=())
    rows = tuple(
        replace(r, target=replace(r.target, index=243, label=label))
        for r, label in zip(one.rows, ("dog", None), strict=True)
        if r.target is not None
    )
    shown = [text.get_text() for text in texts(figure(replace(one, rows=rows)))]
    assert [text for text in shown if "243" in text] == ["dog (243)", "class 243"]


def test_a_score_that_is_low_is_said_to_be() -> None:
    one = comparison(1, 1, metrics=())
    saliency = one.rows[0].maps[0].saliency
    assert saliency is not None
    low = replace(saliency, provenance=provenance(notes=(Note(NoteCode.LOW_SCORE, "it hardly sees it"),)))
    drawn = figure(replace(one, rows=(replace(one.rows[0], maps=(ComparedMap(low),)),)))
    assert "only 12.3%" in {text.get_text() for text in texts(drawn)}
    assert "12.3%" in {text.get_text() for text in texts(figure(one))}


def test_the_box_of_the_object_is_drawn_on_the_picture_and_the_maps() -> None:
    drawn = figure(comparison(2, 1, boxes=((90.0, 20.0, 200.0, 250.0),)))
    for axes in drawn.axes[:3]:
        dark, dashes = axes.lines
        assert (min(dark.get_xdata()), max(dark.get_ydata())) == (90, 250)
        assert dashes.is_dashed()
    assert not any(axes.lines for axes in figure(comparison(2, 1)).axes)


def test_the_file_holds_letters_and_is_the_same_each_time() -> None:
    one = comparison(1, 1)
    pdf = figure_bytes(figure(one), ".pdf")
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf, "fonts are embedded as TrueType"
    assert b"/Type3" not in pdf
    svg = figure_bytes(figure(one), ".svg").decode()
    assert re.search(r"<text[^>]*>[^<]*score-cam", svg) or "score-cam</text>" in svg
    png = Image.open(io.BytesIO(figure_bytes(figure(one), ".PNG")))
    assert png.width == round(3.4 * 300)
    assert figure_bytes(figure(one), ".pdf") == pdf
    assert figure_bytes(figure(one), ".svg").decode() == svg
    with pytest.raises(OptionError, match=r"\.png, \.pdf, \.svg"):
        figure_bytes(figure(one), ".gif")


@pytest.fixture
def strange_settings() -> Iterator[None]:
    with matplotlib.rc_context(
        {
            "font.family": "serif",
            "axes.facecolor": "red",
            "figure.facecolor": "black",
            "lines.linewidth": 9,
            "text.color": "white",
        }
    ):
        yield


def test_a_figure_does_not_depend_on_settings(strange_settings: None) -> None:
    one = comparison(2, 2)
    there = figure_bytes(figure(one, curves=True), ".png")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        assert figure_bytes(figure(one, curves=True), ".png") == there


def test_no_global_setting_changes_and_pyplot_is_not_loaded() -> None:
    import subprocess
    import sys

    code = "import sys, onnxcam.outputs.figure, matplotlib.figure; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    before = dict(matplotlib.rcParams)
    figure_bytes(figure(comparison(2, 1)), ".pdf")
    assert dict(matplotlib.rcParams) == before


def test_threads_draw_at_the_same_time() -> None:
    one = comparison(2, 1)
    expected, results = figure_bytes(figure(one), ".png"), list[bytes]()
    threads = [threading.Thread(target=lambda: results.append(figure_bytes(figure(one), ".png"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 3


def test_curves_that_were_not_measured_are_refused() -> None:
    with pytest.raises(OptionError, match="no curve was measured"):
        figure(comparison(2, 1, metrics=METRICS[2:]), curves=True)


def test_each_method_has_its_line_in_a_panel() -> None:
    drawn = figure(comparison(3, 1, metrics=METRICS[:1]), curves=True)
    panels = [axes for axes in drawn.axes if len(axes.lines) > 2]
    assert len(panels) == 1
    assert sum(len(line.get_xdata()) == len(CURVE) for line in panels[0].lines) == 3


def test_the_numbers_beside_curves_of_small_scores_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "CURVE", CURVE * np.float32([1, 0.0008]))
    drawn = figure(comparison(2, 1, metrics=METRICS[:2]), curves=True)
    assert "0.0002" in [text.get_text() for text in texts(drawn)]
    assert_legible(drawn)


def test_short_names_keep_their_protocols() -> None:
    metrics = tuple(ComparedMetric(f"average-drop:{p}", Best.LOWEST, "%") for p in ("mult", "half"))
    cells = tuple(
        ComparedMap(c.saliency, metrics={m.name: measured(0.1)["deletion"] for m in metrics})
        for c in row(0, 3, box=None).maps
    )
    rows = (replace(row(0, 3), maps=cells),)
    drawn = figure(replace(comparison(3, 1, metrics=metrics), rows=rows))
    assert {text.get_text() for text in texts(drawn) if "AD" in text.get_text()} == {"AD, mult↓ 0.1%", "AD, half↓ 0.1%"}


def test_only_deletion_and_insertion_have_panels_of_one_width() -> None:
    names = ("deletion", "insertion", "deletion:mean", "road")
    metrics = tuple(ComparedMetric(name, Best.LOWEST) for name in names)
    cells = tuple(
        ComparedMap(c.saliency, metrics=dict.fromkeys(names, measured(0.2)["deletion"])) for c in row(0, 2).maps
    )
    rows = (replace(row(0, 2), maps=cells),)
    drawn = figure(replace(comparison(2, 1, metrics=metrics), rows=rows), curves=True)
    panels = [axes for axes in drawn.axes if len(axes.lines) > 2]
    assert len(panels) == 3
    assert len({round(axes.get_position().width, 6) for axes in panels}) == 1, "the third is as wide as the others"
    assert_legible(drawn)
    alone = figure(replace(comparison(2, 1, metrics=metrics[:1]), rows=rows), curves=True)
    assert max(axes.get_position().width for axes in alone.axes if len(axes.lines) > 2) > 0.8
    with pytest.raises(OptionError, match="no curve was measured"):
        figure(replace(comparison(2, 1, metrics=metrics[3:]), rows=rows), curves=True)


def test_without_matplotlib_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=re.escape('pip install "onnxcam[plot]"')):
        check_matplotlib()


def test_boxes_and_colours_are_drawn() -> None:
    boxed = row(0, 2, box=(20.0, 30.0, 200.0, 250.0))
    one = Comparison(Axis.TARGETS, tuple(map(ComparedMethod, METHODS[:2])), (boxed,))
    plain = Comparison(Axis.TARGETS, one.methods, (row(0, 2),))
    assert sum(len(axes.lines) for axes in figure(one).axes) == 6, "two lines in each picture"
    assert sum(len(axes.lines) for axes in figure(plain).axes) == 0
    assert figure_bytes(figure(one), ".png") != figure_bytes(figure(one, style=Style("viridis")), ".png")
