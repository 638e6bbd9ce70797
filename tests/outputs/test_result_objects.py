"""A result shows, saves and converts itself: what notebooks show, files by their endings, rows, other tools' words."""

import base64
import copy
import io
import json
import pickle
import re
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from results import saliency

from onnxcam import to_coco, to_detections, to_label_studio
from onnxcam.errors import OptionError, OutputError, PictureError
from onnxcam.outputs.drawing import draw
from onnxcam.outputs.explanations import Explanations
from onnxcam.outputs.formats import FORMATS
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.saliency import Saliency
from onnxcam.types import Note, NoteCode, Picture, Placement


def photograph() -> Picture:
    return np.random.default_rng(4).integers(0, 256, (240, 300, 3), np.uint8)


def kept(**changed: Any) -> Saliency:
    """A result that keeps its photograph."""
    return replace(saliency(**changed), picture=photograph())


def corner() -> Saliency:
    """A map of 100 x 100 on the middle of a picture 300 wide, with one square that is high, and a hole in it."""
    values = np.zeros((100, 100), np.float32)
    values[40:70, 30:60] = 1
    values[50:60, 40:50] = 0
    return replace(saliency(), map=values, raw=values, placement=Placement((100, 300), (100.0, 0.0, 200.0, 100.0)))


def test_the_overlay_is_over_the_picture_that_was_kept() -> None:
    one = kept()
    np.testing.assert_array_equal(one.overlay(), draw(one, photograph(), Style()))
    styled = one.overlay(colormap="cividis", alpha=0.3, caption=True)
    np.testing.assert_array_equal(styled, draw(one, photograph(), Style("cividis", 0.3, caption=True)))
    np.testing.assert_array_equal(saliency().overlay(photograph()), one.overlay())


def test_a_photograph_is_read_again_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    Pillow.fromarray(photograph()).save(path)
    one = replace(saliency(), picture=path)
    np.testing.assert_array_equal(one.overlay(), kept().overlay())
    Pillow.fromarray(photograph()[:100]).save(path)
    with pytest.raises(PictureError, match="the picture is 300x100, the one explained 300x240"):
        one.overlay()
    path.unlink()
    with pytest.raises(PictureError, match=r"cat\.png: no such file.*picture="):
        one.overlay()


def test_a_jpeg_that_was_read_reduced_is_drawn_as_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Pillow.fromarray(np.zeros((480, 600, 3), np.uint8)).save(path)
    reduced = saliency(notes=(Note(NoteCode.READ_REDUCED, "..."),))
    assert replace(reduced, picture=path).overlay().shape == (240, 300, 3)
    with pytest.raises(PictureError, match="the picture is 600x480"):
        replace(saliency(), picture=path).overlay()


def test_without_a_picture_the_way_out_is_named() -> None:
    for call in (saliency().overlay, lambda: saliency().save("x.png"), saliency().plot):
        with pytest.raises(PictureError, match=r"keeps no picture; pass what was explained as picture="):
            call()


def test_what_is_kept_is_read_only_and_survives_copies() -> None:
    one = kept()
    for each in (one, pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert isinstance(each.picture, np.ndarray)
        assert not each.picture.flags.writeable
        np.testing.assert_array_equal(each.picture, photograph())
    assert "picture=array" not in repr(one)


def test_a_notebook_shows_the_overlay_with_its_caption_at_most_640_pixels_large() -> None:
    with Pillow.open(io.BytesIO(kept()._repr_png_())) as shown:
        np.testing.assert_array_equal(np.asarray(shown), kept().overlay(caption=True))
    wide = replace(corner(), picture=np.zeros((100, 300, 3), np.uint8))
    large = replace(
        wide,
        placement=Placement((1000, 3000), (1000.0, 0.0, 2000.0, 1000.0)),
        picture=np.zeros((1000, 3000, 3), np.uint8),
    )
    with Pillow.open(io.BytesIO(large._repr_png_())) as shown:
        assert shown.width == 640


def blocks_of_8(pixels: np.ndarray) -> np.ndarray:
    """The mean colour of each block of 8x8 pixels, which JPEG keeps whatever the noise within."""
    rows, columns = pixels.shape[0] // 8, pixels.shape[1] // 8
    return pixels[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8, 3).mean(axis=(1, 3))


def test_the_html_holds_the_picture_and_the_provenance_folded_and_no_markup_of_others() -> None:
    one = kept(label="<b>&tabby")
    text = one._repr_html_()
    (encoded,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    with Pillow.open(io.BytesIO(base64.b64decode(encoded))) as shown:
        jpeg = np.asarray(shown).astype(float)
    np.testing.assert_allclose(blocks_of_8(jpeg), blocks_of_8(one.overlay(caption=True)), atol=4)
    assert "<b>" not in text
    assert text.count("<details>") == text.count("</details>") == 1
    folded = text[text.index("<pre") : text.index("</pre>")]
    assert "score-cam" in folded
    assert "a transparent" not in text
    assert "The map alone" not in text
    assert "The map alone: the map of cat.jpg keeps no picture" in saliency()._repr_html_()


def test_several_are_a_row_of_figures() -> None:
    both = Explanations([kept(), kept()])._repr_html_()
    assert both.count("<figure") == 2
    assert "max-width:984px" in both, "two of 480 pixels, and what lies between them"
    assert "max-width:492px" in kept()._repr_html_()
    many = Explanations([kept()] * 26)._repr_html_()
    assert many.count("<figure") == 24
    assert "and 2 more" in many


def as_png(several: Explanations) -> Picture:
    with Pillow.open(io.BytesIO(several._repr_png_() or b"")) as png:
        return np.asarray(png)


def test_several_are_one_picture_where_no_html_is_shown() -> None:
    other = replace(kept(), picture=photograph()[::-1].copy())
    shown = as_png(Explanations([kept(), other]))
    tiles = [each.overlay(caption=True, max_size=480) for each in (kept(), other)]
    height, width = tiles[0].shape[:2]
    assert shown.shape == (height + 16, 2 * width + 24, 3)
    for i, tile in enumerate(tiles):
        left = 8 + i * (width + 8)
        np.testing.assert_array_equal(shown[8 : 8 + height, left : left + width], tile)
    assert (shown[:, :8] == 255).all()
    assert Explanations()._repr_png_() is None


def test_one_picture_of_several_has_white_beside_the_smaller_and_says_how_many_it_leaves_out() -> None:
    small = replace(saliency(), placement=Placement((40, 60), (0.0, 0.0, 60.0, 40.0)))
    small = replace(small, picture=np.zeros((40, 60, 3), np.uint8))
    pair = as_png(Explanations([kept(), small]))
    large, drawn = (each.overlay(caption=True) for each in (kept(), small))
    assert pair.shape[:2] == (large.shape[0] + 16, 2 * large.shape[1] + 24)
    left = 16 + large.shape[1]
    np.testing.assert_array_equal(pair[8 : 8 + drawn.shape[0], left : left + drawn.shape[1]], drawn)
    assert (pair[8 + drawn.shape[0] :, left:] == 255).all()
    full, cut = as_png(Explanations([small] * 24)), as_png(Explanations([small] * 25))
    np.testing.assert_array_equal(cut[: len(full)], full)
    assert (cut[len(full) :] < 128).any(), "and 1 more"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ending", ["suffix", "others"])
def test_a_file_is_written_by_its_ending(name: str, ending: str, tmp_path: Path) -> None:
    one = kept()
    for suffix in [FORMATS[name].suffix] if ending == "suffix" else FORMATS[name].others:
        for spelled in (suffix, suffix.upper()):
            path = one.save(tmp_path / f"cat{spelled}")
            assert path.read_bytes() == FORMATS[name].write(one, photograph(), Style(caption=True))


def test_an_ending_that_names_no_format_lists_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"its ending names no format; use \.png, \.jpg, .*\.json"):
        kept().save(tmp_path / "cat.bmp")
    assert list(tmp_path.iterdir()) == []


def test_the_picture_itself_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    Pillow.fromarray(photograph()).save(path)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="is an input"):
        replace(saliency(), picture=path).save(path)
    assert path.read_bytes() == before


def test_a_drawing_is_at_most_so_large_and_the_map_stays_in_place(tmp_path: Path) -> None:
    picture = np.full((300, 900, 3), 90, np.uint8)
    one = replace(corner(), placement=Placement((300, 900), (300.0, 0.0, 600.0, 300.0)), picture=picture)
    small = one.overlay(max_size=300, alpha=1.0)
    assert small.shape == (100, 300, 3)
    coloured = np.ptp(small.astype(int), axis=2) > 40
    rows, columns = np.nonzero(coloured)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (130, 40, 160, 70)
    np.testing.assert_array_equal(one.overlay(max_size=900), one.overlay())
    with Pillow.open(one.save(tmp_path / "a.mask.png", max_size=300)) as mask:
        np.testing.assert_array_equal(np.asarray(mask) > 0, corner().mask())
    for wrong in (100, 1.5, True):
        with pytest.raises(OptionError, match="from 224 on"):
            one.overlay(max_size=wrong)  # type: ignore[arg-type]


def test_axes_of_matplotlib_are_in_pixels_of_the_picture() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert kept().plot(axes) is axes
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 300), (240, 0))
    np.testing.assert_array_equal(axes.images[0].get_array(), kept().overlay())
    assert axes.get_title().startswith("tabby\n25.0%")


def test_all_are_saved_under_names_that_differ_where_the_maps_do(tmp_path: Path) -> None:
    cat, dog = kept(), kept(image="dog.jpg")
    other = replace(cat, target=replace(cat.target, index=5, label="lynx"))
    written = Explanations([cat, dog, other]).save_all(tmp_path / "maps", ["png", "mask", "json"])
    assert sorted(path.name for path in written) == [
        "cat.lynx.score-cam.json", "cat.lynx.score-cam.mask.png", "cat.lynx.score-cam.png",
        "cat.tabby.score-cam.json", "cat.tabby.score-cam.mask.png", "cat.tabby.score-cam.png",
        "dog.tabby.score-cam.json", "dog.tabby.score-cam.mask.png", "dog.tabby.score-cam.png",
    ]  # fmt: skip
    assert json.loads((tmp_path / "maps/cat.lynx.score-cam.json").read_text())["target"]["label"] == "lynx"
    methods = Explanations([cat, kept(method="rise")]).save_all(tmp_path, ["npy"])
    assert sorted(path.name for path in methods) == ["cat.rise.npy", "cat.score-cam.npy"]
    layers = Explanations([cat, kept(layer="late", model="b.onnx")]).save_all(tmp_path, ["npy"])
    assert layers[1].name == "cat.late-b.score-cam.npy"
    assert Explanations().save_all(tmp_path) == []
    with pytest.raises(OptionError, match="a list of names"):
        Explanations([cat]).save_all(tmp_path, "png")
    with pytest.raises(OptionError, match="unknown format"):
        Explanations([cat]).save_all(tmp_path, ["pmg"])


def test_a_row_says_where_the_map_is_highest() -> None:
    (row,) = Explanations([corner()]).to_rows()
    assert (row["peak_x"], row["peak_y"]) == (130.5, 40.5)
    assert row["area"] == pytest.approx(0.08)
    assert row["hidden"] == pytest.approx(2 / 3)
    assert (row["target"], row["index"], row["method"], row["passes"]) == ("tabby", 281, "score-cam", 301)
    assert row["probability"] == 0.25
    json.dumps(row)


def test_a_table_needs_pandas_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(OptionError, match=r'pip install "onnxcam\[table\]"'):
        Explanations([corner()]).to_dataframe()
    frames: Any = types.ModuleType("pandas")
    frames.DataFrame = lambda rows: ("frame", rows)
    monkeypatch.setitem(sys.modules, "pandas", frames)
    assert Explanations([corner()]).to_dataframe() == ("frame", Explanations([corner()]).to_rows())


@pytest.mark.ray  # its packages hold pandas
def test_a_table_has_a_row_a_map() -> None:
    frame = Explanations([corner(), kept()]).to_dataframe()
    assert frame["peak_x"].tolist()[0] == 130.5
    assert len(frame) == 2


def test_detections_are_what_supervision_takes() -> None:
    detections = to_detections(corner(), 0.5)
    assert detections["xyxy"].tolist() == [[130, 40, 160, 70]]
    assert detections["mask"].shape == (1, 100, 300)
    assert detections["mask"].sum() == 800
    assert (detections["confidence"].tolist(), detections["class_id"].tolist()) == ([1.0], [281])
    assert detections["data"]["class_name"].tolist() == ["tabby"]
    empty = to_detections(replace(corner(), map=np.zeros((100, 100), np.float32)))
    assert (empty["xyxy"].shape, empty["mask"].shape, len(empty["confidence"])) == ((0, 4), (0, 100, 300), 0)


def test_coco_holds_polygons_and_runs_of_what_has_holes() -> None:
    whole = np.zeros((100, 100), np.float32)
    whole[40:70, 30:60] = 1
    solid = replace(corner(), map=whole)
    data = to_coco([corner(), solid])
    json.dumps(data)
    assert data["images"] == [{"id": 1, "file_name": "cat.jpg", "width": 300, "height": 100}]
    assert data["categories"] == [{"id": 281, "name": "tabby"}]
    holed, plain = data["annotations"]
    assert plain["bbox"] == holed["bbox"] == [130, 40, 30, 30]
    assert (plain["area"], holed["area"]) == (900, 800)
    assert plain["segmentation"] == [[130, 40, 130, 70, 160, 70, 160, 40]]
    assert decoded(holed["segmentation"]).sum() == 800
    assert (decoded(holed["segmentation"]) == corner().mask()).all()


def decoded(code: dict[str, Any]) -> np.ndarray:
    """The mask of a COCO run-length code, written from its definition: runs of 0 and 1 down each column."""
    height, width = code["size"]
    flat = np.concatenate([np.full(run, i % 2, bool) for i, run in enumerate(code["counts"])])
    return flat.reshape(width, height).T


def test_a_code_that_begins_with_a_pixel_begins_with_a_run_of_none() -> None:
    values = np.ones((3, 3), np.float32)
    values[1, 1] = 0
    (annotation,) = to_coco([replace(saliency(placed=False), map=values)])["annotations"]
    assert annotation["segmentation"] == {"size": [3, 3], "counts": [0, 4, 1, 4]}


def test_label_studio_takes_rectangles_in_percent() -> None:
    (task,) = to_label_studio([corner()], prefix="/data/local-files/?d=photos/")
    assert task["data"] == {"image": "/data/local-files/?d=photos/cat.jpg"}
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.25
    (region,) = prediction["result"]
    assert (region["original_width"], region["original_height"]) == (300, 100)
    value = region["value"]
    assert [value[key] for key in ("x", "y", "width", "height")] == pytest.approx([130 / 3, 40, 10, 30])
    assert value["rectanglelabels"] == ["tabby"]


def test_the_record_of_a_result_is_its_dictionary() -> None:
    values = kept().to_dict()
    assert values["target"]["label"] == "tabby"
    assert "raw" not in values["map"]
    np.testing.assert_allclose(kept().to_dict(raw=True)["map"]["raw"], kept().raw)
