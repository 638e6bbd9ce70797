"""report.html as text: what it says, what it never says, how large it is. test_report_page.py opens it in a browser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import curve, row, rows
from PIL import Image
from report_rows import HOSTILE, HOSTILE_LABEL, HOSTILE_TEXT, METHODS, maps_of, pictures, rows_of, saliency_map

from onnxcam.errors import OptionError, OutputError
from onnxcam.evaluation import report as reporting
from onnxcam.evaluation.collection import Explained, collect
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.map_files import PictureMaps
from onnxcam.evaluation.report import write_report
from onnxcam.evaluation.report_facts import lists_of, run_facts
from onnxcam.evaluation.report_figures import axis, distribution, mean_curves, number
from onnxcam.evaluation.report_gallery import agrees, sampled
from onnxcam.evaluation.report_pictures import embed_picture, reduced
from onnxcam.evaluation.run_record import RunRecord
from onnxcam.outputs.printable import printable


class Reader(HTMLParser):
    """The elements, their attributes, and the text of the page outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        last = self.tags[-1][0] if self.tags else ""
        (self.scripts if last == "script" else self.text).append(data)


def read(path: Path) -> tuple[Reader, str]:
    html, reader = path.read_text(encoding="utf-8"), Reader()
    reader.feed(html)
    return reader, html


def data_of(reader: Reader) -> Any:
    return json.loads(next(text for text in reader.scripts if text.startswith("{")))


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[DataItem]:
    return pictures(tmp_path_factory.mktemp("pictures"), 8)


@pytest.fixture(scope="module")
def report(items: list[DataItem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    run = RunRecord(
        command=f"onnxcam evaluate {HOSTILE_TEXT}", started="2026-01-02T03:04:05+00:00", engine="local",
        versions={"onnxcam": "1.2.3"}, data=HOSTILE, format="folder", options={"seed": 3, "methods": ["cam", "rise"]},
        skipped={"x.png": HOSTILE_TEXT},
    )  # fmt: skip
    write_report(rows_of(items), path, against="rise", run=run, items=items, maps_of=maps_of(items))
    return path


def test_names_are_never_markup(report: Path) -> None:
    reader, html = read(report)
    assert [tag for tag, _ in reader.tags].count("script") == 2
    assert "img" not in [tag for tag, _ in reader.tags]
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    assert html.count("</script>") == 2
    text = "".join(reader.text)
    assert HOSTILE in text
    assert printable(f"onnxcam evaluate {HOSTILE_TEXT}") in text
    assert "<b>mask</b>" in text
    data = data_of(reader)
    assert data["pictures"][0]["key"] == HOSTILE
    assert data["pictures"][0]["results"][0]["label"] == HOSTILE_LABEL
    assert data["pictures"][2]["results"][0]["errors"]["1"] == printable(HOSTILE_TEXT)


STEERING = "\x1b[31mred\x1b[0m\x07\x9b2J\u202eback\u200b\ud800"


def test_no_control_code_of_a_name_or_an_error_reaches_the_page(tmp_path: Path) -> None:
    """Nor a mark that turns the order of letters round: each is its escape, as on a terminal."""
    about = {"model": f"m{STEERING}", "label": f"l{STEERING}", "target_name": f"t{STEERING}"}
    given = [
        row(f"p{STEERING}", "a", "insertion", 0.5, **about),
        row(f"p{STEERING}", f"b{STEERING}", "", None, error=f"e{STEERING}", **about),
        row(f"p{STEERING}", "a", "deletion", None, error=f"f{STEERING}", **about),
        row(f"p{STEERING}", "a", "road", None, reason=f"r{STEERING}", **about),
    ]
    run = RunRecord(command=f"c{STEERING}", data=f"d{STEERING}", skipped={f"s{STEERING}": STEERING})
    write_report(given, tmp_path / "report.html", run=run)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    strings = [html]

    def collect_strings(value: Any) -> None:
        if isinstance(value, str):
            strings.append(value)
        elif isinstance(value, dict | list):
            for part in value.values() if isinstance(value, dict) else value:
                collect_strings(part)

    collect_strings(data_of(read(tmp_path / "report.html")[0]))
    assert [c for text in strings for c in text if not c.isprintable() and c not in "\n\u00a0"] == []
    escaped = "\\x1b[31mred\\x1b[0m\\x07\\x9b2J\\u202eback\\u200b\\ud800"
    assert all(f"{letter}{escaped}" in html for letter in "mbefrcds")
    assert f"t{escaped}" in strings


def test_what_each_model_was_given_is_a_fact_and_whether_it_was_assumed(tmp_path: Path) -> None:
    given = [
        row("0.jpg", "a", "insertion", 0.5, model="m"),
        row("0.jpg", "a", "insertion", 0.5, model="n", opening="o"),
    ]
    one = {"preprocessing": "imagenet (given)"}
    run = RunRecord(openings={given[0].key.opening: one, "o": {"preprocessing": "tf", "assumed": True}})
    collection = collect(given)
    assert ("preprocessing", "m: imagenet (given); n: tf, assumed: nothing says that it is right") in run_facts(
        run, collection
    )
    assert ("preprocessing", "imagenet (given)") in run_facts(run, collect(given[:1]))
    assert "preprocessing" not in dict(run_facts(RunRecord(), collection))


def test_options_are_said_as_people_read_them() -> None:
    given = [row("0.jpg", 'cam {"tolerance":0.02}', "insertion", 0.5, method_name="cam (tolerance 0.02)")]
    run = RunRecord(options={"methods": ['cam {"tolerance":0.02}', "other"], "keep_maps": False})
    facts = dict(run_facts(run, collect(given)))
    assert (facts["methods"], facts["keep maps"]) == ("cam (tolerance 0.02), other", "no")


def test_why_values_are_undefined_is_not_said_of_an_error(tmp_path: Path) -> None:
    given = [row("0.jpg", "a", "insertion", None, reason="it is constant"), row("0.jpg", "b", "insertion", 0.5)]
    given += [row("1.jpg", name, "", None, error="damaged") for name in "ab"]
    write_report(given, tmp_path / "report.html")
    assert "1 undefined (it is constant), 1 error" in "".join(read(tmp_path / "report.html")[0].text)


def test_errors_of_metrics_are_listed_apart_from_undefined_values() -> None:
    given = [
        row("0.jpg", "a", "insertion", None, error="no memory", protocol="p"),
        row("0.jpg", "a", "deletion", None, error="no memory"),
        row("0.jpg", "b", "deletion", None, reason="the map is constant"),
        row("1.jpg", "b", "deletion", None, reason="the map is constant"),
        row("2.jpg", "b", "", None, error="no gradient"),
    ]
    collection = collect(given)
    assert dict(lists_of(collection, RunRecord())) == {
        "2 errors": [("2.jpg", "b: no gradient"), ("0.jpg", "a · insertion:p, deletion: no memory")],
        "1 reason of undefined values": [("b · deletion", "2 × the map is constant")],  # noqa: RUF001
    }
    given.append(row("0.jpg", "b", "deletion", None, reason="the map is constant", model="tiny"))
    lists = dict(lists_of(collect(given), RunRecord()))
    assert [where for where, _ in lists["2 reasons of undefined values"]] == [
        "small · b · deletion",
        "tiny · b · deletion",
    ]


def test_only_its_own_script_may_run_and_nothing_is_requested(report: Path) -> None:
    reader, html = read(report)
    policy = next(a["content"] for tag, a in reader.tags if tag == "meta" and a.get("http-equiv"))
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert policy.split("; ") == [
        "default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'",
        "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    addresses = [a[name] for _, a in reader.tags for name in ("src", "href", "action", "data") if a.get(name)]
    assert all(address.startswith(("#", "data:")) for address in addresses if address)
    assert re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)(?!example\.com)", html) == []


def test_the_values_are_those_of_the_rows(report: Path, items: list[DataItem]) -> None:
    data = data_of(read(report)[0])
    measures = [measure["title"] for measure in data["models"][0]["measures"]]
    assert measures == ["Insertion", "Deletion", "Average drop"]
    assert [method["name"] for method in data["models"][1]["methods"]] == list(METHODS)
    result = data["pictures"][4]["results"][0]
    assert result["values"] == [
        [pytest.approx(0.05 + m / 10), pytest.approx(0.95 - m / 10), pytest.approx(5 + 10 * m)] for m in range(4)
    ]
    assert data["pictures"][2]["results"][0]["values"][1] == [None, None, None]
    assert data["pictures"][1]["results"][0]["reasons"]["0,1"] == printable(HOSTILE_TEXT)
    scores = result["curves"]["0,0"]
    assert (scores[0], scores[20], scores[30], scores[40]) == (0, 50, 525, 1000)


def test_the_run_is_told(report: Path) -> None:
    text = "".join(read(report)[0].text)
    assert all(word in text for word in ("onnxcam 1.2.3", "2026-01-02T03:04:05", "s" * 64, "cam, rise", "2 models"))
    assert "1 entry of the data was left out" in text


def test_pictures_that_cannot_be_read_have_the_reason(report: Path) -> None:
    last = data_of(read(report)[0])["pictures"][-1]
    assert last["image"] is None
    assert last["why"].startswith("7.png: ")
    assert last["results"][0]["maps"].keys() == {"0", "1", "2"}


@pytest.mark.parametrize("name", ["7.png", "7\x1b.png", f"{'7' * 200}.png"])
def test_why_a_picture_cannot_be_read_names_no_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / ("folder" * 30)
    folder.mkdir()
    (folder / name).write_bytes(b"no picture")
    write_report([row("7", "a", "insertion", 0.5)], tmp_path / "r.html", items=[DataItem(folder / name, "7")])
    why = data_of(read(tmp_path / "r.html")[0])["pictures"][0]["why"]
    assert why.startswith(f"{printable(name)}: ")
    assert "folder" not in why


def test_without_maps_it_says_how_to_keep_them(items: list[DataItem], tmp_path: Path) -> None:
    write_report(rows_of(items), tmp_path / "report.html", items=items)
    reader, _ = read(tmp_path / "report.html")
    assert "Maps were not kept; run the evaluation with --keep-maps" in "".join(reader.text)


def test_two_pictures_have_no_interval_whisker_or_band(tmp_path: Path) -> None:
    given = [
        row(f"{i}.jpg", method, "insertion", value + i / 10, curve=curve([0, value]))
        for method, value in (("a", 0.1), ("b", 0.5)) for i in range(6)
    ]  # fmt: skip
    counts = []
    for part in (given, [one for one in given if one.key.picture in ("0.jpg", "1.jpg")]):
        write_report(part, tmp_path / "report.html")
        classes = [attributes.get("class") for _, attributes in read(tmp_path / "report.html")[0].tags]
        counts.append([classes.count("whisker"), classes.count("band"), classes.count("change clear gain")])
    assert counts == [[2, 2, 1], [0, 0, 0]]


def test_fewer_pictures_than_were_measured_are_said(tmp_path: Path) -> None:
    write_report(rows({"a": {"insertion": [0.1] * 7}, "b": {"insertion": [*[0.2] * 6, None]}}), tmp_path / "r.html")
    text = "".join(read(tmp_path / "r.html")[0].text)
    assert (text.count("n = 6"), text.count("n = 7")) == (1, 0)


def test_a_method_that_failed_everywhere_is_in_the_sentence_and_the_tables(tmp_path: Path) -> None:
    given = [*rows({"a": {"insertion": [0.1, 0.2]}})]
    given += [row(f"{i}.jpg", "b", "", None, error="no gradient") for i in range(2)]
    write_report(given, tmp_path / "report.html", against="b")
    text = "".join(read(tmp_path / "report.html")[0].text)
    assert "2 values; 0 undefined; 2 without one for an error; 2 maps failed with an error." in text
    assert "There are no differences: b has no value." in text
    write_report(given[2:], tmp_path / "report.html")
    text = "".join(read(tmp_path / "report.html")[0].text)
    assert "2 maps failed with an error." in text
    assert "no errors" not in text


def test_a_report_without_rows_says_so(tmp_path: Path) -> None:
    write_report([], tmp_path / "report.html")
    assert "Nothing was measured" in "".join(read(tmp_path / "report.html")[0].text)


@pytest.mark.slow
def test_36_pictures_and_6_methods_take_less_than_6_mb(tmp_path: Path) -> None:
    """Photographs full of detail, four smooth maps of each, and two of single pixels as those of gradients."""
    random, items = np.random.default_rng(0), []
    for i in range(36):
        detailed = Image.fromarray(random.integers(0, 256, (150, 200, 3), np.uint8)).resize((1200, 800))
        detailed.save(tmp_path / f"{i}.jpg")
        items.append(DataItem(tmp_path / f"{i}.jpg", f"{i}.jpg"))
    names = [f"method-{m}" for m in range(6)]
    given = [
        row(f"{i}.jpg", name, "insertion", 0.5, protocol=protocol, curve=curve(list(random.random(30))))
        for name in names for i in range(36) for protocol in ("a", "b", "c", "d")
    ]  # fmt: skip
    pixels = random.random((224, 224), np.float32) ** 8
    maps = {name: saliency_map(5, m) if m < 4 else pixels for m, name in enumerate(names)}
    kept = PictureMaps(maps, dict.fromkeys(names))
    write_report(given, tmp_path / "report.html", items=items, maps_of=lambda *_: kept)
    assert (tmp_path / "report.html").stat().st_size <= 6_000_000


def test_damaged_maps_are_a_sentence_on_the_page(items: list[DataItem], tmp_path: Path) -> None:
    def damaged(*_: Any) -> PictureMaps | None:
        raise OutputError("x.npz: damaged maps; remove the file")

    write_report(rows_of(items), tmp_path / "report.html", items=items, maps_of=damaged)
    assert data_of(read(tmp_path / "report.html")[0])["pictures"][0]["results"][0]["mapsWhy"].startswith(
        "x.npz: damaged"
    )


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"onnxcam\[evaluate\]"):
        write_report([], tmp_path / "report.html")


def test_a_large_gallery_is_a_sample_with_the_extremes() -> None:
    values = np.random.default_rng(0).random(1000)
    steady = [0.5] * 1000
    collection = collect(rows({"a": {"insertion": list(values)}, "b": {"insertion": steady}}))
    shown = sampled(collection, 40)
    assert len(shown) == len(set(shown)) == 40
    assert {int(values.argmax()), int(values.argmin()), int(np.abs(values - 0.5).argmax())} <= set(shown)
    assert sampled(collection, 40) == shown
    assert sampled(collection, 40, seed=1) != shown
    assert sampled(collection, 1000) == list(range(1000))


def test_the_axis_has_round_ticks_around_the_values() -> None:
    assert axis(0.13, 0.87).ticks == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert axis(0, 100).labels == ((0, "0"), (25, "25"), (50, "50"), (75, "75"), (100, "100"))
    one = axis(-0.2, 0.3)
    assert one.percent(0) == pytest.approx(100 * 0.2 / 0.6, abs=0.01)
    assert (one.percent(-9), one.percent(9)) == (0, 100)
    assert axis(0.4, 0.4).low < 0.4 < axis(0.4, 0.4).high


def test_numbers_have_a_minus_sign_and_never_minus_zero() -> None:
    assert (number(-0.25, 2), number(-0.001, 2), number(1.005, 1)) == ("\u22120.25", "0.00", "1.0")


def test_the_distribution_is_the_histogram() -> None:
    along = axis(0, 1)
    path = distribution(np.array([0.01, 0.02, 0.99, np.nan]), along)
    heights = [float(h) for h in re.findall(r"V([\d.]+)H", path)]
    assert (heights[0], heights[-1]) == (0, 50)
    assert set(heights[1:-1]) == {100}
    assert distribution(np.array([np.nan]), along) == ""


def test_the_mean_curve_is_the_mean_of_the_pictures(items: list[DataItem]) -> None:
    collection = collect(rows_of(items, ("small",)), curves=True)
    figure = mean_curves([c for c in collection.columns if c.measure.metric == "insertion"])
    assert figure is not None
    assert [line.n for line in figure.lines] == [8, 7, 8, 8]
    points = [tuple(map(float, point.split())) for point in figure.lines[0].path[1:].split("L")]
    bottom, top = (next(place for place, text in figure.up if float(text) == value) for value in (0, 1))
    middle = np.mean([(i + 1) / 100 for i in range(8)])
    assert points[20][1] == pytest.approx(bottom + middle * (top - bottom), abs=0.1)
    assert mean_curves([c for c in collection.columns if c.measure.metric == "deletion"]) is None


def test_labels_agree_by_number_or_by_name() -> None:
    assert agrees(Explained(281, 281, "tabby", 0.5)) is True
    assert agrees(Explained("Tiger cat", 282, "tiger_cat", 0.5)) is True
    assert agrees(Explained("dog", 282, "tiger_cat", 0.5)) is False
    assert agrees(Explained(None, 282, "tiger_cat", 0.5)) is None


def test_pictures_are_reduced_and_maps_keep_their_means(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500), (200, 30, 30)).save(tmp_path / "red.png")
    embedded = embed_picture(tmp_path / "red.png", 200)
    assert (embedded.width, embedded.height) == (200, 100)
    assert embedded.source.startswith("data:image/webp;base64,")
    values = np.random.default_rng(0).random((224, 224)).astype(np.float32)
    small = reduced(values, 112)
    assert small == pytest.approx(values.reshape(112, 2, 112, 2).mean((1, 3)), abs=1e-6)
    assert reduced(values[:50, :50], 112) == pytest.approx(values[:50, :50])
