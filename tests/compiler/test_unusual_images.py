"""Compiled files on images with numbers that are none, and on no image at all."""

import numpy as np
import onnxruntime
import pytest
from small_models import CLASSIFIER, filled

from onnxcam.compiler.batch_methods import BATCH_METHODS
from onnxcam.compiler.compiled import compile

IMAGES = np.random.default_rng(3).standard_normal((3, 3, 16, 12)).astype(np.float32)


@pytest.mark.parametrize("method", BATCH_METHODS)
def test_an_image_that_is_not_finite_has_zeros_and_the_others_their_maps(method: str) -> None:
    session = onnxruntime.InferenceSession(
        compile(filled(CLASSIFIER), method).bytes, providers=["CPUExecutionProvider"]
    )
    names = ["saliency_map", "saliency_range"]
    broken = IMAGES.copy()
    broken[0], broken[2] = np.nan, np.inf
    maps, ends = session.run(names, {"x": broken, "target": np.asarray([1, 2, 3])})
    assert not maps[[0, 2]].any()
    np.testing.assert_array_equal(ends[[0, 2], 0], ends[[0, 2], 1])
    (alone, _) = session.run(names, {"x": IMAGES[1:2], "target": np.asarray([2])})
    np.testing.assert_allclose(maps[1], alone[0], atol=1e-6)
    broken[1, 0, 4, 4] = np.nan
    assert np.isfinite(session.run(names, {"x": broken, "target": np.asarray([1, 2, 3])})[0]).all()


@pytest.mark.parametrize(
    "method", [name for name in BATCH_METHODS if name not in ("ablation-cam", "integrated-gradients")]
)
@pytest.mark.parametrize(("images", "targets"), [(0, 0), (0, 1), (1, 0)])
def test_no_image_or_no_target_is_no_map(method: str, images: int, targets: int) -> None:
    session = onnxruntime.InferenceSession(
        compile(filled(CLASSIFIER), method).bytes, providers=["CPUExecutionProvider"]
    )
    feeds = {"x": IMAGES[:images], "target": np.zeros(targets, np.int64)}
    assert session.run(["saliency_map"], feeds)[0].shape == (0, 16, 12)
