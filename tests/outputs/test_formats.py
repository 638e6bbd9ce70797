"""Every format comes back as it was written, and the record is plain JSON."""

import io
import json
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from onnxcam import METHODS
from onnxcam.errors import PictureError
from onnxcam.outputs import overlay, signal, volume
from onnxcam.outputs.formats import FORMATS, Original, draw, percent
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.record import plain, record
from onnxcam.outputs.saliency import Channels, Provenance, Saliency, ScoredTarget
from onnxcam.types import Image, Picture, Placement

PLAIN = Style()


def provenance(**changed: Any) -> Provenance:
    values: dict[str, Any] = {
        "versions": {"onnxcam": "0.1.0", "onnx": "1.23.2"},
        "model": "net.onnx",
        "model_sha256": "ab" * 32,
        "image": "cat.jpg",
        "layer": "/features/conv/Relu_output_0",
        "layer_reason": "the last tensor with a grid",
        "logits": "logits",
        "activation": "softmax",
        "preset": {"name": "torch", "mean": (0.5, 0.25, np.float32(0.125)), "size": (224, 224)},
        "preset_source": "metadata",
        "fill": "zero",
        "method": "score-cam",
        "options": {"score": "logit", "sigma": np.float64(0.5), "keep": np.bool_(True)},
        "provider": "CPUExecutionProvider",
        "batch": 16,
        "batch_mode": "dynamic",
        "channels": Channels(320, 40, 260),
        "error": 0.0125,
        "forwards": 301,
        "steps": 0,
        "features": "8 maps of 4x3",
        "seconds": 1.25,
        "notes": ("one", "two"),
    }
    return Provenance(**(values | changed))


def saliency(*, placed: bool = True, label: str | None = "tabby", **changed: Any) -> Saliency:
    generator = np.random.default_rng(3)
    return Saliency(
        map=generator.random((224, 230), np.float32),
        raw=generator.standard_normal((7, 8)).astype(np.float32),
        target=ScoredTarget(281, label, 0.25, 3.5),
        score=3.5,
        placement=Placement((240, 300), (30.0, 0.5, 269.5, 240.0)) if placed else None,
        provenance=provenance(**changed),
    )


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
    assert texts["onnxcam:layer"] == one.provenance.layer
    assert texts["onnxcam:model_sha256"] == "ab" * 32
    assert json.loads(texts["onnxcam:target"])["index"] == 281
    assert json.loads(texts["onnxcam:preset"])["mean"] == [0.5, 0.25, 0.125]
    assert json.loads(texts["onnxcam:options"]) == {"score": "logit", "sigma": 0.5, "keep": True}
    return pixels


def reads_npy(data: bytes, one: Saliency) -> np.ndarray:
    back: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    assert back.dtype == np.float32
    return back


def reads_json(data: bytes, one: Saliency) -> np.ndarray:
    back = strict(data)
    assert back["map_shape"] == [224, 230]
    assert back["target"] == {
        "index": 281,
        "label": one.target.label,
        "probability": 0.25,
        "logit": 3.5,
        "kind": "classes",
    }
    assert back["score"] == 3.5
    if one.placement is None:
        assert back["placement"] is None
    else:
        assert back["placement"] == {"picture": [240, 300], "box": [30.0, 0.5, 269.5, 240.0]}
    assert set(back["provenance"]) == set(Provenance.__dataclass_fields__)
    assert back["provenance"]["channels"] == {"total": 320, "scored": 40, "estimated": 260, "left": 0}
    assert back["provenance"]["notes"] == ["one", "two"]
    return np.array(back["raw"], np.float32)


READERS = {"png": reads_png, "npy": reads_npy, "json": reads_json}
"""Format -> what checks the words in a file and gives its numbers back."""


def numbers(name: str, one: Saliency, picture: Original | None) -> np.ndarray:
    """Those that a file of the format has to hold."""
    return {"png": draw(one, picture, PLAIN), "npy": one.map, "json": one.raw}[name]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("label", ["tabby", None, 'a "quoted"\n猫\0'])
@pytest.mark.parametrize("placed", [True, False])
def test_every_format_comes_back_as_it_was_written(name: str, label: str | None, placed: bool) -> None:
    one, picture = saliency(label=label, placed=placed), photograph() if placed else None
    back, written = READERS[name](FORMATS[name].write(one, picture, PLAIN), one), numbers(name, one, picture)
    assert (back.shape, back.dtype) == (written.shape, written.dtype)
    assert (back == written).all()


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
    ({"tolerance": "0.02"}, 0.0174, "25.0% · score-cam · map error 0.017"),
    ({"tolerance": "0.02", "budget": "64"}, 0.0304, "25.0% · score-cam · map error 0.030"),
    ({"tolerance": "0.0003"}, 0.00021, "25.0% · score-cam · map error 0.0002"),
    ({"budget": "8"}, None, "25.0% · score-cam · budget 8"),
    ({}, None, "25.0% · score-cam"),
])  # fmt: skip
def test_the_caption_tells_the_error_that_was_reached_rather_than_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str], error: float | None, expected: str
) -> None:
    seen: list[str] = []
    own = overlay.caption
    monkeypatch.setattr(
        overlay,
        "caption",
        lambda drawn, name, detail, **given: (seen.append(detail), own(drawn, name, detail, **given))[1],
    )
    usual = METHODS["score-cam"]().options
    draw(saliency(options={**usual, **options}, error=error), photograph(), Style(caption=True))
    assert seen == [expected]


def test_the_caption_is_added_below_only_if_asked_for() -> None:
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
    back = strict(text)
    assert back["map_shape"] == list(ARRAYS[rank][1:])
    assert back["placement"] is None
    np.testing.assert_array_equal(np.array(back["raw"], np.float32), one.raw)
    json.dumps(record(one, "signal.npy"), allow_nan=False)


@pytest.mark.parametrize("rank", ARRAYS)
def test_an_array_is_drawn_by_its_rank_and_in_the_style(rank: int) -> None:
    drawing = {1: signal.signal, 2: volume.plane, 3: volume.contact_sheet}[rank]
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
    with pytest.raises(PictureError, match="uint8"):
        draw(saliency(), np.zeros((3, 224, 230), np.float32), PLAIN)


def test_numbers_that_are_not_finite_become_null() -> None:
    one = saliency(options={"a": float("nan"), "b": [np.float32(np.inf)]})
    one = replace(one, score=float("nan"), raw=np.array([[np.nan, 1]], np.float32))
    back = strict(FORMATS["json"].write(one, None, PLAIN))
    assert back["score"] is None
    assert back["raw"] == [[None, 1.0]]
    assert back["provenance"]["options"] == {"a": None, "b": [None]}
    assert record(one, "cat.jpg")["score"] is None


def test_a_path_that_is_not_unicode_can_be_written() -> None:
    back = strict(FORMATS["json"].write(saliency(image="caf\udce9.jpg", model="模.onnx"), None, PLAIN))
    assert back["provenance"]["image"] == "caf\udce9.jpg"
    assert back["provenance"]["model"] == "模.onnx"


def test_the_record_names_every_choice_in_plain_json() -> None:
    found = record(saliency(), Path("a/cat.jpg"), [Path("cat.score-cam.png"), "x.npy"])
    assert (
        strict(json.dumps(found, allow_nan=False))
        == found
        == {
            "image": str(Path("a/cat.jpg")),
            "target": {"index": 281, "label": "tabby", "probability": 0.25, "kind": "classes"},
            "score": 3.5,
            "method": "score-cam",
            "options": {"score": "logit", "sigma": 0.5, "keep": True},
            "layer": "/features/conv/Relu_output_0",
            "layer_reason": "the last tensor with a grid",
            "provider": "CPUExecutionProvider",
            "preset": {"name": "torch", "mean": [0.5, 0.25, 0.125], "size": [224, 224]},
            "preset_source": "metadata",
            "fill": "zero",
            "channels": {"total": 320, "scored": 40, "estimated": 260, "skipped": 20},
            "error": 0.0125,
            "forwards": 301,
            "steps": 0,
            "features": "8 maps of 4x3",
            "batch": 16,
            "seconds": 1.25,
            "outputs": ["cat.score-cam.png", "x.npy"],
            "notes": ["one", "two"],
        }
    )


class Kind(StrEnum):
    LOGIT = "logit"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.bool_(False), False),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        ((1, (2.5, None)), [1, [2.5, None]]),
        ({1: Path("a")}, {"1": "a"}),
        (
            ScoredTarget(1, None, 0.5, 2.0),
            {"index": 1, "label": None, "probability": 0.5, "logit": 2.0, "kind": "classes"},
        ),
        (float("-inf"), None),
    ],
)
def test_values_become_plain(value: Any, expected: Any) -> None:
    assert plain(value) == expected


def test_an_enumeration_becomes_a_mere_string() -> None:
    assert type(plain(Kind.LOGIT)) is str


def test_what_has_no_counterpart_in_json_is_a_bug_and_named() -> None:
    with pytest.raises(TypeError, match="object"):
        plain({"a": object()})


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
