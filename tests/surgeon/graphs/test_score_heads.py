"""The score of each kind of head, against numpy on the original model's output; and masks on signals and volumes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import CLASSIFIER, Make, network_over

from onnxcam import resampling
from onnxcam.resampling import upsample
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.analysis.locate import locate
from onnxcam.surgeon.graphs.masked_score import (
    IMAGE,
    LOGIT,
    MAPS,
    PROBABILITY,
    REFERENCES,
    REGIONS,
    TARGETS,
    scoring_model,
)

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]>\n'
RNG = np.random.default_rng(3)


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], **options: object) -> tuple[np.ndarray, np.ndarray]:
    model = ir.from_proto(proto)
    anatomy = locate(model, **options)  # type: ignore[arg-type]
    size = tuple(int(s) for s in anatomy.image.sides if s)
    scoring = scoring_model(model, anatomy, size, with_fill=False)
    onnx.checker.check_model(ir.to_proto(scoring), full_check=True)
    session = ort.InferenceSession(ir.to_bytes(scoring), providers=["CPUExecutionProvider"])
    logit, probability = session.run([LOGIT, PROBABILITY], feeds)
    return logit, probability


def plain(proto: onnx.ModelProto, image: np.ndarray, maps: np.ndarray, output: str) -> np.ndarray:
    """The original model's output for the image under each mask, masked in numpy."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    size, outputs = image.shape[2:], []
    for grid_map in maps[:, 0]:
        up = upsample(grid_map, size)
        mask = (up - up.min()) / np.ptp(up)
        outputs.append(session.run([output], {"x": image * mask})[0][0])
    return np.stack(outputs)


def softmax(values: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(values - values.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize("opset", [9, 12, 13, 18])
def test_a_class_is_averaged_over_its_region(make: Make, opset: int) -> None:
    text = f"""{HEAD.format(opset=opset)}net (float[N,3,8,6] x) => (float[N,5,4,3] classes)
    <float[8,3,3,3] w, float[5,8,1,1] u>
    {{
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
      f = Relu (c)
      classes = Conv (f, u)
    }}"""
    proto = make(text)
    image, maps = (RNG.standard_normal(s).astype(np.float32) for s in ((1, 3, 8, 6), (4, 1, 4, 3)))
    regions = RNG.random((12, 2), np.float32)
    regions /= regions.sum(axis=0)
    feeds = {IMAGE: image, MAPS: maps, TARGETS: np.array([4, 1]), REGIONS: regions}
    logit, probability = run(proto, feeds)
    expected = plain(proto, image, maps, "classes").reshape(4, 5, 12)
    for t, c in enumerate((4, 1)):
        np.testing.assert_allclose(logit[:, t], expected[:, c] @ regions[:, t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(probability[:, t], softmax(expected, 1)[:, c] @ regions[:, t], rtol=1e-4, atol=1e-5)


def test_an_element_is_scored_by_its_number_in_the_output(make: Make) -> None:
    proto = make(CLASSIFIER)
    image, maps = (RNG.standard_normal(s).astype(np.float32) for s in ((1, 3, 16, 12), (4, 1, 4, 3)))
    feeds = {IMAGE: image, MAPS: maps, TARGETS: np.array([2])}
    logit, probability = run(proto, feeds, output="logits", kind=Kind.ELEMENTS)
    expected = plain(proto, image, maps, "logits")[:, 2:3]
    np.testing.assert_allclose(logit, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(logit, probability)


def test_an_embedding_is_compared_by_its_cosine(make: Make) -> None:
    proto = make(CLASSIFIER)
    image, maps = (RNG.standard_normal(s).astype(np.float32) for s in ((1, 3, 16, 12), (4, 1, 4, 3)))
    references = RNG.standard_normal((2, 5)).astype(np.float32)
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    cosine, _ = run(proto, {IMAGE: image, MAPS: maps, REFERENCES: references}, kind=Kind.EMBEDDING)
    vectors = plain(proto, image, maps, "logits").astype(np.float64)
    expected = vectors @ references.T / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(cosine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("matrices", [True, False])
@pytest.mark.parametrize("opset", [9, 18])
def test_signals_and_volumes_are_masked_along_all_their_sides(
    make: Make, opset: int, matrices: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not matrices:
        monkeypatch.setattr(resampling, "LARGEST_MATRIX", 0)
    for sides in ((16,), (4, 8, 6)):
        proto = make(network_over(sides, channels=3, batch="N", opset=opset))
        half = tuple(s // 2 for s in sides)
        image, maps = (RNG.standard_normal(s).astype(np.float32) for s in ((1, 3, *sides), (4, 1, *half)))
        logit, _ = run(proto, {IMAGE: image, MAPS: maps, TARGETS: np.arange(5)})
        np.testing.assert_allclose(logit, plain(proto, image, maps, "logits"), rtol=1e-4, atol=1e-5)
