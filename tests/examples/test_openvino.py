"""The same files in OpenVINO, and in its Model API, which looks for an output `saliency_map`."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hosts import PICTURE, TARGETS, HostCase, host_case
from PIL import Image
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam.compiler.registry import COMPILABLE
from onnxcam.inputs import bundled
from onnxcam.inputs.presets import PRESETS
from onnxcam.methods.blocks import Convention
from onnxcam.methods.weighting import Variant

pytestmark = pytest.mark.openvino
PRECISE = {"INFERENCE_PRECISION_HINT": "f32"}
"""Some processors would compute in bfloat16."""
MANY = CLASSIFIER.replace("float[8,6,3,3] w2", "float[90,6,3,3] w2").replace("float[5,8] w3", "float[5,90] w3")
"""90 feature maps."""

SEARCHES = {"opti-cam": onnxcam.opti_cam(max_iter=5), "mask": onnxcam.mask(max_iter=20)}
"""Methods that search, whose rounding grows with every step."""


def compiled_model(path: Path) -> Any:
    import openvino

    return openvino.Core().compile_model(path, "CPU", PRECISE)


def answer(model: Any, feeds: dict[str, np.ndarray], target: int) -> dict[str, np.ndarray]:
    results = model({**feeds, "target": np.array([target], np.int64)})
    return {output.get_any_name(): array for output, array in results.items()}


@pytest.mark.parametrize("raw", [False, True], ids=["image", "picture"])
@pytest.mark.parametrize("method", [name for name in COMPILABLE if name not in SEARCHES])
def test_openvino_gives_the_product_s_map(method: str, raw: bool, tmp_path: Path) -> None:
    case: HostCase = host_case(method, raw=raw)
    model = compiled_model(case.compiled.save(tmp_path / "model.onnx"))
    for number, target in enumerate(TARGETS):
        results = answer(model, case.feeds, target)
        case.check(number, results["saliency_map"][0], int(results["saliency_target"][0]), 1e-4)


@pytest.mark.parametrize("method", SEARCHES)
def test_openvino_searches_as_onnxruntime_does(method: str, tmp_path: Path) -> None:
    path = onnxcam.compile(filled(CLASSIFIER), SEARCHES[method], preset=PRESETS["imagenet"]).save(
        tmp_path / "model.onnx"
    )
    image = host_case("grad-cam", raw=False).feeds["x"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["saliency_map"], {"x": image, "target": np.array([-1])})
    assert np.ptp(expected) > 0.9
    np.testing.assert_allclose(answer(compiled_model(path), {"x": image}, -1)["saliency_map"], expected, atol=1e-3)


@pytest.mark.parametrize("variant", list(Variant))
@pytest.mark.parametrize("convention", list(Convention))
@pytest.mark.parametrize("budget", [None, 24])
def test_openvino_scores_the_masks_that_onnxruntime_scores(
    budget: int | None, convention: Convention, variant: Variant, tmp_path: Path
) -> None:
    method = onnxcam.score_cam(convention=convention, variant=variant, budget=budget)
    path = onnxcam.compile(filled(MANY), method, preset=PRESETS["imagenet"]).save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    model = compiled_model(path)
    for image in np.random.default_rng(3).standard_normal((3, 1, 3, 16, 12), np.float32):
        for target in TARGETS:
            (expected,) = session.run(["saliency_map"], {"x": image, "target": np.array([target])})
            assert np.ptp(expected) == 1
            np.testing.assert_allclose(answer(model, {"x": image}, target)["saliency_map"], expected, atol=1e-4)


def test_openvino_estimates_the_map_of_the_bundled_model(tmp_path: Path) -> None:
    path = onnxcam.compile(bundled.model(), onnxcam.score_cam(budget=64)).save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    model = compiled_model(path)
    with onnxcam.Explainer(bundled.model(), "grad-cam", providers=["cpu"]) as explain:
        for picture in bundled.pictures().values():
            feeds = {"images": explain.prepare(picture).image[None]}
            (expected,) = session.run(["saliency_map"], {**feeds, "target": np.array([-1])})
            np.testing.assert_allclose(answer(model, feeds, -1)["saliency_map"], expected, atol=1e-4)


@pytest.mark.parametrize("raw", [False, True], ids=["image", "picture"])
@pytest.mark.parametrize("method", ["grad-cam", "recipro-cam", "eigen-cam"])
def test_openvino_gives_the_product_s_map_of_the_bundled_model(method: str, raw: bool, tmp_path: Path) -> None:
    model = compiled_model(onnxcam.compile(bundled.model(), method, raw=raw).save(tmp_path / "model.onnx"))
    with onnxcam.Explainer(bundled.model(), method, providers=["cpu"]) as explain:
        for path in bundled.pictures().values():
            image = explain.prepare(path)
            feeds = {"picture": image.picture} if raw else {"images": image.image[None]}
            for target in (-1, 504):
                (expected,) = explain.explain(path, [None if target < 0 else target])
                results = answer(model, feeds, target)
                assert int(results["saliency_target"][0]) == expected.target.index
                assert np.abs(results["saliency_map"][0] - expected.map).max() <= 1e-4


def test_the_model_api_finds_the_map(tmp_path: Path) -> None:
    from model_api.adapters import OpenvinoAdapter, create_core
    from model_api.models import ClassificationModel

    compiled = onnxcam.compile(filled(CLASSIFIER), "grad-cam", target="top1", preset=PRESETS["imagenet"])
    path = compiled.save(tmp_path / "model.onnx")
    adapter = OpenvinoAdapter(create_core(), str(path), plugin_config=PRECISE)
    model = ClassificationModel(adapter, preload=True)
    image = np.asarray(Image.fromarray(PICTURE).resize((12, 16)))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["saliency_map"], {"x": image.transpose(2, 0, 1)[None].astype(np.float32)})
    saliency = model(image).saliency_map
    assert saliency.shape == (1, 16, 12)
    np.testing.assert_allclose(saliency, expected, atol=1e-4)
    assert np.ptp(saliency) > 0.9
