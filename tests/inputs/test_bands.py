"""Pictures with many bands: a model of as many channels takes their numbers, and three of them are drawn."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tifffile
from PIL import Image
from small_models import CLASSIFIER, Make, filled, network_over
from typer.testing import CliRunner

from onnxcam import Explainer, NoteCode, grad_cam, read_picture
from onnxcam.cli.main import app
from onnxcam.errors import OptionError, PictureError
from onnxcam.inputs.presets import override
from onnxcam.outputs.record import record

RNG = np.random.default_rng(0)
BANDS = RNG.integers(0, 10_000, (7, 24, 20)).astype(np.uint16)


def tiff(bands: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, bands, photometric="minisblack", **options)
    return file.getvalue()


def pages(bands: np.ndarray) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for band in bands:
            writer.write(band)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


LAST = np.ascontiguousarray(np.moveaxis(BANDS, 0, -1))
FILES = {
    "bands in planes": tiff(BANDS, planarconfig="separate"),
    "bands in each pixel": tiff(LAST, planarconfig="contig"),
    "LZW": tiff(BANDS, planarconfig="separate", compression="lzw"),
    "deflate": tiff(LAST, planarconfig="contig", compression="zlib"),
    "a page a band": pages(BANDS),
    "floats": tiff(BANDS.astype(np.float32), planarconfig="separate"),
    "npy": npy(BANDS),
    "npy, bands last": npy(LAST),
}


@pytest.fixture(scope="module")
def seven(make: Make) -> onnx.ModelProto:
    return make(network_over((24, 20), channels=7, batch="N"))


def explainer(model: onnx.ModelProto, **options: Any) -> Explainer:
    return Explainer(model, "grad-cam", providers=["cpu"], **options)


@pytest.mark.parametrize("kind", FILES)
def test_a_model_of_as_many_channels_takes_the_bands_numbers(seven: onnx.ModelProto, kind: str) -> None:
    scaled = {"adjust": lambda preset: override(preset, scale=1e-4)}
    with explainer(seven, **scaled) as explain:
        expected = explain(BANDS.astype(np.float32), 1)
        saliency = explain(FILES[kind], 1)
        np.testing.assert_allclose(explain.prepare(FILES[kind]).image, BANDS / np.float32(10_000), rtol=1e-6)
    np.testing.assert_allclose(saliency.map, expected.map, atol=1e-5)


def test_bands_of_another_size_are_resized_each_alone(seven: onnx.ModelProto) -> None:
    doubled = BANDS.repeat(2, 1).repeat(2, 2)
    with explainer(seven, adjust=lambda preset: override(preset, interpolation="nearest")) as explain:
        prepared = explain.prepare(tiff(doubled, planarconfig="separate"))
        np.testing.assert_array_equal(prepared.image, BANDS)
        np.testing.assert_array_equal(explain.prepare(doubled).image, BANDS)
        assert prepared.placement is not None
        assert prepared.placement.picture == (48, 40)


def test_the_bands_that_are_drawn_are_chosen(seven: onnx.ModelProto) -> None:
    chosen = BANDS[[3, 2, 1]].astype(np.float64)
    low, high = np.percentile(chosen, (1, 99))
    drawn = np.moveaxis(np.rint(255 * np.clip((chosen - low) / (high - low), 0, 1)), 0, -1)
    np.testing.assert_array_equal(read_picture(FILES["bands in planes"], bands=(4, 3, 2)), drawn)
    np.testing.assert_array_equal(read_picture(BANDS, bands=(4, 3, 2)), drawn)
    grey = read_picture(FILES["a page a band"], bands=[5], window=(0, 10_000))
    np.testing.assert_array_equal(grey[..., 2], np.rint(BANDS[4] / 10_000 * 255))
    with explainer(seven, bands=(4, 3, 2)) as explain:
        np.testing.assert_array_equal(explain.prepare(FILES["LZW"]).drawn, drawn)
        floats = BANDS.astype(np.float32)
        np.testing.assert_array_equal(explain.prepare(floats).drawn, floats[[3, 2, 1]])


def test_the_command_line_draws_bands(seven: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(seven, tmp_path / "m.onnx")
    (tmp_path / "a.tif").write_bytes(FILES["LZW"])
    np.save(tmp_path / "b.npy", BANDS.astype(np.float32))
    words = [str(tmp_path / name) for name in ("m.onnx", "a.tif", "b.npy")]
    options = [
        "--bands",
        "4,3,2",
        "--scale",
        "1/10000",
        "-m",
        "grad-cam",
        "--target",
        "1",
        "-o",
        f"{tmp_path / 'out'}/",
    ]
    done = CliRunner().invoke(app, ["explain", *words, *options])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_a_picture_model_takes_three_bands_only_if_they_are_named(classifier: onnx.ModelProto) -> None:
    with explainer(classifier, preset="unit") as explain:
        for kind in ("bands in planes", "bands in each pixel", "LZW", "deflate"):
            with pytest.raises(PictureError, match=r"--bands 4,3,2"):
                explain(FILES[kind])
    with explainer(classifier, preset="unit", bands=(4, 3, 2)) as explain:
        drawn = read_picture(BANDS, bands=(4, 3, 2))
        for kind in FILES:
            np.testing.assert_array_equal(explain.prepare(FILES[kind]).picture, drawn)


def test_what_does_not_fit_is_refused(seven: onnx.ModelProto) -> None:
    with explainer(seven) as explain:
        for wrong, message in (
            (tiff(BANDS[:5], planarconfig="separate"), r"has 5 band\(s\), but the model takes 7"),
            (BANDS[:5], r"shape \(7, 24, 20\)"),
            (FILES["bands in planes"][:3000], "bands cannot be read|cut short"),
            (FILES["LZW"][:3000], "bands cannot be read|cut short"),
            (tiff(np.full((7, 24, 20), np.nan, np.float32), planarconfig="separate"), "NaN"),
        ):
            with pytest.raises(PictureError, match=message):
                explain(wrong)
    with pytest.raises(PictureError, match="has 7 bands, so there is no band 9"):
        read_picture(BANDS, bands=(9, 2, 1))
    for bands in ((1, 2), (0, 1, 2), "123", (1.5, 2, 3), ()):
        with pytest.raises(OptionError, match="bands are three numbers"):
            read_picture(BANDS, bands=bands)  # type: ignore[arg-type]


def test_without_tifffile_the_error_says_what_to_install(
    seven: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with explainer(seven) as explain, pytest.raises(PictureError, match=r'pip install "onnxcam\[tiff\]"'):
        explain(FILES["LZW"])


def test_whole_numbers_that_stay_are_noted(seven: onnx.ModelProto) -> None:
    with explainer(seven) as explain:
        assert NoteCode.WHOLE_NUMBERS in {note.code for note in explain(BANDS, 1).provenance.notes}


def as_png(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def test_chosen_bands_of_an_ordinary_picture_are_upright_and_in_colours() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    for content in (as_png(image, exif=exif.tobytes()), as_png(image.quantize())):
        expected = read_picture(content)
        assert np.array_equal(read_picture(content, bands=(1, 2, 3)), expected)
        assert np.array_equal(read_picture(Image.open(io.BytesIO(content)), bands=(3, 2, 1)), expected[..., ::-1])


def test_a_composite_for_three_channels_says_what_became_black_and_white_and_can_be_made_again() -> None:
    values = np.random.default_rng(0).integers(0, 10000, (5, 40, 30)).astype(np.uint16)
    with Explainer(filled(CLASSIFIER), grad_cam(), bands=(3, 2, 1), providers=["cpu"]) as explain:
        one = explain(values)
    low, high = np.percentile(values[:3], (1, 99))
    (note,) = (note for note in one.provenance.notes if note.code is NoteCode.WINDOW_ASSUMED)
    assert f"{low:g} becomes black and {high:g} white" in note.text
    assert record(one)["bands"] == [3, 2, 1] == list(one.provenance.bands or ())
    bands, window = one.provenance.bands, (low, high)
    with Explainer(filled(CLASSIFIER), grad_cam(), bands=bands, window=window, providers=["cpu"]) as explain:
        again = explain(values)
    assert np.array_equal(again.map, one.map)
    assert not [note for note in again.provenance.notes if note.code is NoteCode.WINDOW_ASSUMED]


def test_a_composite_with_nan_is_refused() -> None:
    values = np.ones((5, 40, 30), np.float32)
    values[1, 3, 4] = np.nan
    with pytest.raises(PictureError, match="NaN"):
        read_picture(values, bands=(3, 2, 1))
