"""PNG files: what Pillow reads of them is what was written."""

import io

import numpy as np
import pytest
from PIL import Image

from onnxcam.outputs.png import png


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (1, 9, 3), (6, 4, 3), (3, 1, 4)])
def test_the_pixels_come_back(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(png(pixels, {}))) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), pixels)
        assert image.mode == ("L" if pixels.ndim == 2 else {3: "RGB", 4: "RGBA"}[pixels.shape[2]])


def test_a_part_of_an_array_is_written_as_it_is_seen() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)[::-1, 1::2, :3]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels, {})))), pixels)


def test_texts_come_back_before_the_pixels_are_read() -> None:
    texts = {"Title": "plain", "Accents": "né à 5 µm", "Beyond": "猫 · ü", "Empty": "", "Lines": "one\ntwo"}
    with Image.open(io.BytesIO(png(np.zeros((2, 2), np.uint8), texts))) as image:
        assert {key: image.info[key] for key in texts} == texts
