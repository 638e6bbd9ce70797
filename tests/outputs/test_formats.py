"""Every format comes back as it was written, and a map is drawn by its rank."""

import io
import json
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from results import HASH, saliency

from onnxcam.errors import PictureError
from onnxcam.outputs import overlay, signal, volume
from onnxcam.outputs.captions import caption, percent
from onnxcam.outputs.drawing import DRAWINGS, Original, draw
from onnxcam.outputs.formats import FORMATS
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.record import map_sha256
from onnxcam.outputs.saliency import Saliency
from onnxcam.types import Image, Note, NoteCode, Origin, Picture, Source

PLAIN = Style()


def photograph() -> Picture:
    return np.random.default_rng(4).integers(0, 256, (240, 300, 3), np.uint8)


def strict(text: bytes | str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def reads_png(data: bytes, one: Saliency) -> np.ndarray:
    with Pillow.open(io.BytesIO(data)) as file:
        pixels = np.asarray(file)
        texts = file.text  # type: ignore[attr-defined]
    assert texts["Software"] == "onnxcam 0.1.0"
    assert texts["onnxcam:method"] == "score-cam"
    assert json.loads(texts["onnxcam:model"]) == PurePath(one.provenance.model).name
    assert texts["onnxcam:layer"] == one.provenance.layer
    assert texts["onnxcam:model_sha256"] == HASH
    assert json.loads(texts["onnxcam:target"])["index"] == 281
    assert json.loads(texts["onnxcam:preset"])["mean"] == [0.5, 0.25, 0.125]
    assert json.loads(texts["onnxcam:options"]) == {"score": "logit", "sigma": 0.5, "keep": True}
    return pixels


def reads_npy(data: bytes, one: Saliency) -> np.ndarray:
    back: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    assert back.dtype == np.float32
    return back


def reads_json(data: bytes, one: Saliency) -> np.ndarray:
    values = strict(data)
    assert values["schema"] == 1
    assert values["map"]["shape"] == [224, 230]
    assert values["target"] == {
        "index": 281,
        "label": one.target.label,
        "kind": "classes",
        "probability": 0.25,
        "value": 3.5,
        "output": None,
        "region": None,
        "side": one.target.side,
        "box": None,
        "outline": [],
        "step": one.target.step,
        "class_index": 281,
        "class_label": one.target.label,
        "box_number": None,
    }
    assert values["score"] == 3.5
    if one.placement is None:
        assert values["map"]["placement"] is None
    else:
        assert values["map"]["placement"] == {"picture": [240, 300], "box": [30.0, 0.5, 269.5, 240.0]}
    assert values["channels"] == {"total": 320, "scored": 40, "estimated": 260, "skipped": 20, "pending": 0}
    assert values["notes"] == [{"code": "looped", "text": "one"}, {"code": "partial", "text": "two"}]
    return np.array(values["map"]["raw"], np.float32)


def described(text: str) -> None:
    """Checks the texts that a JPEG, a WebP or a TIFF holds as JSON."""
    texts = strict(text)
    assert texts["Software"] == "onnxcam 0.1.0"
    assert texts["onnxcam:model_sha256"] == HASH
    assert json.loads(texts["onnxcam:target"])["index"] == 281


def reads_lossy(data: bytes, one: Saliency) -> np.ndarray:
    with Pillow.open(io.BytesIO(data)) as file:
        described(file.getexif()[0x010E])
        return np.asarray(file)


def reads_tiff(data: bytes, one: Saliency) -> np.ndarray:
    with Pillow.open(io.BytesIO(data)) as file:
        described(file.tag_v2[270])  # type: ignore[attr-defined]
        return np.asarray(file)


def reads_npz(data: bytes, one: Saliency) -> np.ndarray:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        assert strict(str(arrays["record"]))["target"]["label"] == one.target.label
        np.testing.assert_array_equal(arrays["raw"], one.raw, strict=True)
        values: np.ndarray = arrays["map"]
        return values


def reads_figure(data: bytes, one: Saliency) -> np.ndarray:
    """The words that say what the file was made of: a PDF's and an SVG's picture is checked by eye."""
    assert data.startswith(b"%PDF-1.4") or b"<svg" in data[:400]
    words = f"onnxcam:map_sha256={map_sha256(one.map)}".encode()
    assert data.count(words) == 1
    return np.zeros(0)


READERS = {
    "png": reads_png, "jpg": reads_lossy, "webp": reads_lossy, "pdf": reads_figure, "svg": reads_figure,
    **dict.fromkeys(DRAWINGS, reads_png), "tiff": reads_tiff, "npy": reads_npy, "npz": reads_npz, "json": reads_json,
}  # fmt: skip
"""Format -> what checks the words in a file and gives its numbers back."""
NEEDS_PICTURE = {"contour", "boxes", "side-by-side"}
LOSS = {"jpg": 3.0, "webp": 6.0}
"""How much the mean of a channel over 16 x 16 pixels, of 255, may differ in a format that loses fine detail."""


def coarse(pixels: np.ndarray) -> np.ndarray:
    """The means over blocks of 16 x 16 pixels."""
    height, width = (side // 16 * 16 for side in pixels.shape[:2])
    return pixels[:height, :width].reshape(height // 16, 16, width // 16, 16, 3).mean(axis=(1, 3))


def numbers(name: str, one: Saliency, picture: Original | None) -> np.ndarray:
    """Those that a file of the format has to hold."""
    if name in ("png", "jpg", "webp"):
        return draw(one, picture, PLAIN)
    if name in DRAWINGS:
        return DRAWINGS[name](one, picture, PLAIN)
    if name == "tiff":
        return one.on_picture() if one.placement is not None else one.map
    return {"npy": one.map, "npz": one.map, "json": one.raw}.get(name, np.zeros(0))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("label", ["tabby", None, 'a "quoted"\n猫\0'])
@pytest.mark.parametrize("placed", [True, False])
def test_every_format_comes_back_as_it_was_written(name: str, label: str | None, placed: bool) -> None:
    one, picture = saliency(label=label, placed=placed), photograph() if placed else None
    if name in NEEDS_PICTURE and not placed:
        picture = np.random.default_rng(5).standard_normal((3, *one.map.shape)).astype(np.float32)
    assert name in READERS, f"add how {name} is read to READERS, and what its file holds to numbers()"
    back, written = READERS[name](FORMATS[name].write(one, picture, PLAIN), one), numbers(name, one, picture)
    assert (back.shape, back.dtype) == (written.shape, written.dtype)
    if name in LOSS:
        np.testing.assert_allclose(coarse(back), coarse(written), atol=LOSS[name])
    else:
        np.testing.assert_array_equal(back, written)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_explanation_is_written_as_the_same_bytes(name: str) -> None:
    write = FORMATS[name].write
    assert write(saliency(), photograph(), PLAIN) == write(saliency(), photograph(), PLAIN)


def test_every_suffix_belongs_to_one_format() -> None:
    suffixes = [writer.suffix for writer in FORMATS.values()]
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)


def test_a_picture_is_drawn_over_and_without_one_the_heatmap_stands_alone() -> None:
    one = saliency()
    assert one.placement is not None
    over = overlay.overlay(photograph(), one.map, one.placement, colormap="magma", alpha=0.3)
    np.testing.assert_array_equal(draw(one, photograph(), Style("magma", 0.3)), over)
    np.testing.assert_array_equal(draw(one, None, Style("magma")), overlay.heatmap(one.map, "magma"))


@pytest.mark.parametrize(("options", "error", "expected"), [
    ({"tolerance": 0.02}, 0.0174, "25.0% · score-cam · map error 0.017"),
    ({"tolerance": 0.02, "budget": 64}, 0.0304, "25.0% · score-cam · map error 0.030"),
    ({"tolerance": 0.0003}, 0.00021, "25.0% · score-cam · map error 0.0002"),
    ({"budget": 8}, None, "25.0% · score-cam · budget 8"),
    ({"variant": "paper", "fill": "mean"}, None, "25.0% · score-cam · paper · mean"),
    ({}, None, "25.0% · score-cam"),
])  # fmt: skip
def test_the_caption_shows_the_error_that_was_reached_rather_than_the_limit(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], error: float | None, expected: str
) -> None:
    details: list[str] = []
    caption = overlay.caption

    def recorded(drawn: Picture, title: str, detail: str, **style: Any) -> Picture:
        details.append(detail)
        return caption(drawn, title, detail, **style)

    monkeypatch.setattr(overlay, "caption", recorded)
    defaults = {"convention": "constructive", "variant": "official", "budget": None, "tolerance": None}
    changes = {"options": {**defaults, **options}, "changed": tuple(options), "error": error}
    draw(saliency(**changes, fill=options.get("fill", "zero")), photograph(), Style(caption=True))
    assert details == [expected]


def test_the_caption_is_added_below_only_if_the_style_says_so() -> None:
    bare, captioned = (draw(saliency(), photograph(), Style(caption=c)) for c in (False, True))
    assert bare.shape == (240, 300, 3)
    assert captioned.shape[0] > 240
    np.testing.assert_array_equal(captioned[:240], bare)


def test_a_picture_for_an_image_that_came_preprocessed_is_refused() -> None:
    with pytest.raises(PictureError, match="preprocessed"):
        FORMATS["png"].write(saliency(placed=False), photograph(), PLAIN)


ARRAYS = {1: (2, 90), 2: (13, 40, 60), 3: (1, 5, 30, 20)}
"""The number of the map's axes -> the shape of an array of that rank."""


def preprocessed(rank: int) -> tuple[Saliency, Image]:
    generator = np.random.default_rng(rank)
    shape = ARRAYS[rank][1:]
    one = replace(
        saliency(placed=False),
        map=generator.random(shape, np.float32),
        raw=generator.standard_normal([2] * rank).astype(np.float32),
    )
    return one, generator.standard_normal(ARRAYS[rank]).astype(np.float32)


@pytest.mark.parametrize("rank", ARRAYS)
@pytest.mark.parametrize("alone", [False, True])
def test_every_format_takes_every_rank(rank: int, alone: bool) -> None:
    one, array = preprocessed(rank)
    array_or_none = None if alone else array
    png, npy, text = (FORMATS[name].write(one, array_or_none, PLAIN) for name in ("png", "npy", "json"))
    np.testing.assert_array_equal(reads_png(png, one), numbers("png", one, array_or_none), strict=True)
    np.testing.assert_array_equal(reads_npy(npy, one), one.map, strict=True)
    values = strict(text)
    assert values["map"]["shape"] == list(ARRAYS[rank][1:])
    assert values["map"]["placement"] is None
    np.testing.assert_array_equal(np.array(values["map"]["raw"], np.float32), one.raw)


@pytest.mark.parametrize("rank", ARRAYS)
def test_an_array_is_drawn_by_its_rank_and_in_the_style(rank: int) -> None:
    drawing = {1: signal.draw_signal, 2: volume.plane, 3: volume.contact_sheet}[rank]
    one, array = preprocessed(rank)
    expected = drawing(array, one.map, colormap="magma", alpha=0.3)
    np.testing.assert_array_equal(draw(one, array, Style("magma", 0.3)), expected)
    captioned = draw(one, array, Style("magma", 0.3, caption=True))
    np.testing.assert_array_equal(captioned[: len(expected), : expected.shape[1]], expected)
    assert (captioned[len(expected) :] < 60).all(axis=2).sum() > 100


@pytest.mark.parametrize("name", ["turbo", "gray"])
def test_the_scale_under_a_signal_shows_the_colours_on_the_same_ground(name: str) -> None:
    one, array = preprocessed(1)
    plot = draw(one, array, Style(name, 0.6))
    strip = draw(one, array, Style(name, 0.6, caption=True))[len(plot) :].reshape(-1, 3)
    top = 0.4 * signal.background(name) + 0.6 * overlay.colour_table(name)[255]
    assert (np.abs(strip - top) <= 0.5).all(axis=1).sum() >= 5


def test_an_array_that_does_not_fit_the_map_is_a_bug() -> None:
    for rank in ARRAYS:
        one, array = preprocessed(rank)
        for wrong in (array[0], array[..., 1:], array[:0], array[None]):
            with pytest.raises(ValueError, match=r"is not \(C,\*spatial\)"):
                draw(one, wrong, PLAIN)
    with pytest.raises(ValueError, match="1 to 3 axes"):
        draw(replace(one, map=np.zeros((2, 2, 2, 2), np.float32)), None, PLAIN)


def test_an_array_for_a_photograph_that_has_its_placement_is_refused() -> None:
    with pytest.raises(PictureError, match="the picture is 230x224, the one explained"):
        draw(saliency(), np.zeros((3, 224, 230), np.float32), PLAIN)


def test_a_path_that_is_not_unicode_can_be_written() -> None:
    values = strict(FORMATS["json"].write(saliency(image="caf\udce9.jpg", model="模.onnx"), None, PLAIN))
    assert values["image"] == "caf\udce9.jpg"
    assert values["model"]["name"] == "模.onnx"


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.0, "0.0%"),
        (1e-9, "<0.1%"),
        (0.0006, "0.1%"),
        (0.5, "50.0%"),
        (0.9994, "99.9%"),
        (0.99999, ">99.9%"),
        (1.0, "100.0%"),
    ],
)
def test_a_percentage_is_never_a_certainty_that_it_is_not(probability: float, text: str) -> None:
    assert percent(probability) == text


def test_a_low_score_and_an_assumed_preset_are_in_the_captions_words() -> None:
    assert caption(saliency()).detail == "25.0% · score-cam · map error 0.013"
    low = saliency(notes=(Note(NoteCode.LOW_SCORE, "..."),))
    assert caption(low).detail == "only 25.0% · score-cam · map error 0.013"
    assumed = saliency(preset_origin=Origin(Source.ASSUMED, "..."))
    assert caption(assumed).detail == "25.0% · score-cam · map error 0.013 · torch assumed"
    assert caption(saliency(label=None)).title == "class 281"


def test_the_box_of_a_target_is_drawn_and_labelled_in_every_kind_of_picture() -> None:
    one = saliency()
    boxed = replace(one, target=replace(one.target, box=(60.0, 60.0, 200.0, 200.0)))
    for picture in (photograph(), None):
        plain, drawn = draw(one, picture, PLAIN), draw(boxed, picture, PLAIN)
        assert drawn.shape == plain.shape
        assert (drawn != plain).any(axis=2).sum() > 1000
    array = np.zeros((3, *one.map.shape), np.float32)
    alone = replace(boxed, placement=None)
    assert (draw(alone, array, PLAIN) != draw(replace(one, placement=None), array, PLAIN)).any()
