"""The scoring graph, against numpy masks fed to the original model."""

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import CLASSIFIER, PIXELS, Make

from onnxcam.resampling import upsample
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.locate import locate
from onnxcam.surgeon.graphs.masked_score import (
    FEATURES,
    FILL,
    IMAGE,
    LOGIT,
    LOGITS,
    MAPS,
    PROBABILITY,
    TARGETS,
    scoring_model,
)

SIZE, GRID = (16, 12), (4, 3)


def scoring_session(proto: onnx.ModelProto, with_fill: bool) -> onnxruntime.InferenceSession:
    model = ir.from_proto(proto)
    scoring = scoring_model(model, locate(model), SIZE, with_fill=with_fill)
    onnx.checker.check_model(ir.to_proto(scoring), full_check=True)
    return onnxruntime.InferenceSession(ir.to_bytes(scoring), providers=["CPUExecutionProvider"])


def by_hand(proto: onnx.ModelProto, image: np.ndarray, maps: np.ndarray, fill: np.ndarray) -> np.ndarray:
    plain = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = []
    for grid_map in maps[:, 0]:
        up = upsample(grid_map, SIZE)
        mask = (up - up.min()) / (up.max() - up.min())
        logits.append(plain.run(None, {"x": (image * mask + fill * (1 - mask)).astype(np.float32)})[0][0])
    return np.array(logits)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "image": rng.standard_normal((1, 3, *SIZE)).astype(np.float32),
        "maps": rng.standard_normal((6, 1, *GRID)).astype(np.float32),
        "fill": rng.standard_normal((1, 3, *SIZE)).astype(np.float32),
    }


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 18, 21])
@pytest.mark.parametrize("with_fill", [False, True])
def test_masked_scores_equal_numpys_in_every_opset(
    make: Make, arrays: dict[str, np.ndarray], opset: int, with_fill: bool
) -> None:
    proto = make(CLASSIFIER.replace('"" : 17', f'"" : {opset}'))
    feeds = {IMAGE: arrays["image"], MAPS: arrays["maps"], TARGETS: np.array([3, 0])}
    if with_fill:
        feeds[FILL] = arrays["fill"]
    logit, probability, logits = scoring_session(proto, with_fill).run([LOGIT, PROBABILITY, LOGITS], feeds)
    expected = by_hand(proto, arrays["image"], arrays["maps"], arrays["fill"] if with_fill else np.zeros(1))
    softmax = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    np.testing.assert_allclose(logit, expected[:, [3, 0]], atol=2e-5)
    np.testing.assert_allclose(probability, softmax[:, [3, 0]], atol=2e-6)


def test_a_constant_map_keeps_the_image(classifier: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> None:
    plain = onnxruntime.InferenceSession(classifier.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = plain.run(None, {"x": arrays["image"]})[0]
    for value in (0.0, -2.5, 1e20):
        feeds = {
            IMAGE: arrays["image"],
            MAPS: np.full((1, 1, *GRID), value, np.float32),
            TARGETS: np.array([0]),
        }
        logits, features = scoring_session(classifier, False).run([LOGITS, FEATURES], feeds)
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        assert features.shape == (1, 8, 4, 3)


def test_uint8_images_are_masked_as_floats_and_rounded(make: Make) -> None:
    proto = make(PIXELS)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 16, 12, 3)).astype(np.uint8)
    maps = rng.standard_normal((1, 1, *GRID)).astype(np.float32)
    up = upsample(maps[0, 0], SIZE)
    mask = ((up - up.min()) / (up.max() - up.min()))[None, :, :, None]
    masked = np.floor(image * mask + 0.5).astype(np.uint8)
    plain = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {IMAGE: image.astype(np.float32), MAPS: maps, TARGETS: np.array([0])}
    logits = scoring_session(proto, False).run([LOGITS], feeds)[0]
    # A product that ends in one half may round either way in float32: one grey level in one pixel.
    np.testing.assert_allclose(logits, plain.run(None, {"x": masked})[0], rtol=2e-3)


@pytest.mark.parametrize("activation", ["Softmax <axis=1>", "LogSoftmax <axis=1>"])
def test_a_final_softmax_is_not_applied_twice(make: Make, arrays: dict[str, np.ndarray], activation: str) -> None:
    text = CLASSIFIER.replace("logits = Gemm", "z = Gemm").replace(
        "(flat, w3, b3)\n", f"(flat, w3, b3)\n  logits = {activation} (z)\n"
    )
    feeds = {IMAGE: arrays["image"], MAPS: arrays["maps"], TARGETS: np.arange(5)}
    with_activation = scoring_session(make(text), False).run([PROBABILITY], feeds)[0]
    np.testing.assert_allclose(
        with_activation, scoring_session(make(CLASSIFIER), False).run([PROBABILITY], feeds)[0], atol=1e-6
    )
    np.testing.assert_allclose(with_activation.sum(axis=1), 1, atol=1e-5)


def test_a_sigmoid_model_is_scored_by_its_own_probabilities(make: Make, arrays: dict[str, np.ndarray]) -> None:
    text = CLASSIFIER.replace("logits = Gemm", "z = Gemm").replace(
        "(flat, w3, b3)\n", "(flat, w3, b3)\n  logits = Sigmoid (z)\n"
    )
    proto = make(text)
    feeds = {IMAGE: arrays["image"], MAPS: arrays["maps"], TARGETS: np.arange(5)}
    probability = scoring_session(proto, False).run([PROBABILITY], feeds)[0]
    np.testing.assert_allclose(probability, by_hand(proto, arrays["image"], arrays["maps"], np.zeros(1)), atol=1e-6)
