"""report.html in headless Chromium: it opens alone, sorts, filters, opens pictures by keyboard, and draws maps rightly."""

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import row
from PIL import Image
from report_rows import BOX, HOSTILE, HOSTILE_LABEL, HOSTILE_TEXT, SIZE, maps_of, pictures, rows_of, saliency_map

from onnxcam.evaluation.report import write_report
from onnxcam.evaluation.report_pictures import embed_picture
from onnxcam.evaluation.run_record import RunRecord
from onnxcam.outputs.overlay import overlay
from onnxcam.outputs.printable import printable
from onnxcam.types import Placement

pytestmark = pytest.mark.chromium
HERE = Path(__file__).parent
MODULES = HERE.parents[1] / "examples" / "web" / "node_modules"
COUNT = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def seen(folder: Path) -> Any:
    """What report.mjs saw, in one visit."""
    items = pictures(folder, COUNT)
    run = RunRecord(command=HOSTILE_TEXT, data=HOSTILE, skipped={HOSTILE: HOSTILE_TEXT})
    write_report(rows_of(items), folder / "report.html", run=run, items=items, maps_of=maps_of(items))
    given = [row(f"{i}.png", name, "insertion", 0.5 + i / 10) for name in ("cam", "rise") for i in range(2)]
    given.append(row("2.png", "cam", "insertion", None, error="no memory"))
    write_report(given, folder / "bare.html")
    config = {
        "file": str(folder / "report.html"), "bare": str(folder / "bare.html"), "hostile": HOSTILE,
        "chromium": os.environ.get("CHROMIUM") or shutil.which("chromium"),
        "modules": os.environ.get("ONNXCAM_NODE_MODULES", str(MODULES)),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        ["node", HERE / "report.mjs", folder / "config.json"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_is_requested_nothing_complains_and_no_name_is_code(seen: Any) -> None:
    assert seen["requests"] == []
    assert seen["console"] == []
    assert seen["alerts"] == 0
    assert seen["hostile"] is None
    assert seen["addressed"]["hostile"] is None


def test_it_says_what_it_is_of(seen: Any) -> None:
    assert HOSTILE in seen["title"]
    assert seen["models"] == ["small", "large"]


NAMES = [HOSTILE, *(f"{i}.png" for i in range(1, COUNT))]


def test_the_gallery_sorts_by_any_metric_and_method(seen: Any) -> None:
    assert seen["worst"]["keys"] == NAMES
    assert seen["worst"]["values"] == [f"{(i + 1) / 100:.3f}" for i in range(COUNT)]
    assert seen["best"] == NAMES[::-1]
    rise = [i for i in range(COUNT) if i != 2]
    assert seen["rise"]["keys"] == [*(NAMES[i] for i in rise), "2.png"]
    assert seen["rise"]["values"] == [*(f"{(i + 1) / 100 + 0.1:.3f}" for i in rise), "\u2013"]
    assert seen["named"] == NAMES


def test_disagreements_come_first(seen: Any) -> None:
    """Without baselines the methods differ by 0.2 on every picture."""
    assert sorted(seen["disagree"]["keys"]) == sorted(NAMES)
    assert set(seen["disagree"]["values"]) == {"Δ 0.200"}
    unlike = [float(text.removeprefix("unlike ")) for text in seen["unlike"]]
    assert unlike == sorted(unlike, reverse=True)
    assert unlike[0] > 0


def test_the_gallery_filters(seen: Any) -> None:
    assert seen["ranged"] == ["4.png", "5.png", "6.png"]
    assert seen["found"] == ["5.png"]
    assert seen["count"] == "1 of 8 pictures"
    assert seen["errors"] == ["2.png"]
    assert seen["group"] == ["1.png", "3.png", "5.png", "7.png"]
    assert seen["differ"] == [HOSTILE, "3.png", "6.png"]


def decoded(folder: Path) -> np.ndarray[Any, Any]:
    source = embed_picture(folder / "3.png", 560).source
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"))


def pixels(canvas: Any) -> np.ndarray[Any, Any]:
    return np.array(canvas["bytes"], np.uint8).reshape(canvas["height"], canvas["width"], 4)[..., :3]


def test_the_map_lies_on_the_picture_as_onnxcam_draws_it(seen: Any, folder: Path) -> None:
    """Enlarged by 4 there, so that small pictures are seen; the colours may differ where a map was compressed."""
    drawn = pixels(seen["overlay"]).astype(float)
    assert drawn.shape == (*SIZE, 3)
    expected = overlay(decoded(folder), saliency_map(3, 0), Placement(SIZE, BOX)).astype(float)
    expected = expected.reshape(SIZE[0], 4, SIZE[1], 4, 3).mean((1, 3))
    inner = (slice(2, -2), slice(int(BOX[0]) + 2, int(BOX[2]) - 2))
    assert np.abs(drawn - expected)[inner].mean() <= 6
    plain = overlay(decoded(folder), saliency_map(5, 2), Placement(SIZE, BOX)).astype(float)
    plain = plain.reshape(SIZE[0], 4, SIZE[1], 4, 3).mean((1, 3))
    assert np.abs(drawn - plain)[inner].mean() >= 15
    outside = np.abs(drawn - expected)[:, : int(BOX[0]) - 2]
    assert outside.mean() <= 2


def test_the_map_fades_with_its_strength(seen: Any, folder: Path) -> None:
    inner = (slice(None), slice(int(BOX[0]) + 2, int(BOX[2]) - 2))
    assert np.abs(pixels(seen["bare"]).astype(int) - decoded(folder))[inner].max() <= 1


def test_the_table_sorts_by_a_metric(seen: Any) -> None:
    methods = ["cam", "rise", "<b>mask</b>", "gaussian"]
    assert seen["table"] == methods
    assert seen["sorted"] == methods[::-1]
    assert seen["reversed"] == methods


def test_the_sorted_column_alone_shows_its_direction(seen: Any) -> None:
    first, second, none = seen["directions"]
    signs = {"ascending": '"▲"', "descending": '"▼"'}
    assert {first[1][0], second[1][0]} == set(signs), "the best first, then the other way round"
    assert all(sign == signs.get(order, "non") for order, sign in (*first, *second, *none))
    assert [[order for order, _ in heads].count(None) for heads in (first, second, none)] == [
        len(first) - 1,
        len(first) - 1,
        len(first),
    ]


def test_the_keyboard_opens_a_picture_moves_on_and_comes_back(seen: Any) -> None:
    assert seen["focused"]["key"] == seen["named"][3] == "3.png"
    assert seen["focused"]["outline"] == "solid"
    page = seen["page"]
    assert (page["open"], page["title"], page["place"]) == (True, "3.png", "4 of 8")
    assert (page["maps"], page["curves"]) == (4, 1)
    assert page["rows"][0] == ["Insertion ↑blur-rise", "0.040", "0.140", "0.240", "0.340"]
    assert page["rows"][2][1:] == ["4.0 %", "14.0 %", "24.0 %", "34.0 %"]
    assert "class-3" in page["text"]
    assert seen["nextPage"]["title"] == "4.png"
    assert (seen["closed"]["key"], seen["closed"]["hash"]) == ("3.png", "")


def test_the_marks_of_a_page_are_explained_where_they_are(seen: Any) -> None:
    legend = " | ".join(seen["page"]["legend"])
    assert "label in red: the class that was explained is another" in legend
    assert "maps disagree by: 1 less the mean rank correlation" in legend
    assert "bold in colour: the best of the methods" in legend
    assert "undefined" not in legend
    assert "label in red" not in " | ".join(seen["nextPage"]["legend"])
    assert seen["page"]["red"] == ["rgb(168, 50, 31)"]
    assert seen["nextPage"]["red"] == []


def test_without_maps_nothing_chooses_or_fades_them(seen: Any) -> None:
    assert seen["controls"] == ["Map and value of", True]
    assert seen["bareControls"] == ["Value of", False]
    assert "--keep-maps" in seen["barePage"]["text"]


def test_an_error_of_a_method_is_said_once(seen: Any) -> None:
    assert seen["second.png"]["failures"] == [["rise", printable(HOSTILE_TEXT)]]
    assert seen["second.png"]["text"].count(printable(HOSTILE_TEXT)) == 1


def test_the_legend_of_a_pages_curves_names_those_that_are_drawn(seen: Any) -> None:
    assert (seen["page"]["curved"], seen["nextPage"]["curved"]) == (["cam", "rise", "<b>mask</b>", "gaussian"],) * 2
    assert seen["second.png"]["curved"] == ["cam", "<b>mask</b>", "gaussian"]


def test_a_metric_that_failed_is_an_error_on_the_page_and_in_the_filter(seen: Any) -> None:
    assert seen["barePage"]["rows"] == [["Insertion ↑", "error", "\u2013"]]
    assert seen["barePage"]["legend"] == ["error: it could not be computed"]
    assert "no memory" in seen["barePage"]["text"]
    assert seen["bareErrors"] == ["2.png"]


def test_an_address_opens_a_picture_of_a_model(seen: Any) -> None:
    assert (seen["addressed"]["title"], seen["addressed"]["open"]) == (HOSTILE, True)
    assert HOSTILE_LABEL in seen["addressed"]["text"]
    assert "not in the gallery" in seen["absent"]["text"]


def test_the_models_are_shown_one_at_a_time(seen: Any) -> None:
    assert set(seen["second"]) == {"1"}


def test_light_and_dark_follow_the_system_and_the_switch(seen: Any) -> None:
    assert seen["light"] == "rgb(247, 245, 241)"
    assert seen["dark"] == seen["addressed"]["ground"] == "rgb(18, 17, 15)"


def test_every_control_has_a_name(seen: Any) -> None:
    assert seen["nameless"] == []


def test_no_width_scrolls_sideways(seen: Any) -> None:
    assert {int(width): sizes for width, sizes in seen["widths"].items()} == {w: [w, w] for w in (320, 390, 768, 1400)}
