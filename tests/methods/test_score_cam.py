"""Whole Score-CAM maps of the embedded model against a loop over channels that shares no code with it."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from programs import tool

from onnxcam import Explainer, score_cam
from onnxcam.inputs import bundled
from onnxcam.outputs.saliency import Saliency

TOLERANCE = 1e-4


def plain_session(output: str) -> onnxruntime.InferenceSession:
    model = onnx.load(bundled.model())
    model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def minmax(a: np.ndarray) -> np.ndarray:
    return (a - a.min()) / (a.max() - a.min())


def naive(image: np.ndarray, layer: str, target: int, variant: str, convention: str) -> np.ndarray:
    """One channel after another, upsampled by OpenCV, one forward pass each."""
    session = plain_session(layer)
    features = session.run([layer], {"images": image[None]})[0]

    def score(x: np.ndarray) -> float:
        out = session.run(["logits"], {"images": x[None].astype(np.float32)})[0][0].astype(np.float64)
        if variant == "paper":
            return float(out[target])
        e = np.exp(out - out.max())
        return float(e[target] / e.sum())

    whole = score(image)
    ups, weights = [], []
    for channel in features[0]:
        up = cv2.resize(channel, (224, 224), interpolation=cv2.INTER_LINEAR)
        if up.max() == up.min():
            continue
        ups.append(up)
        mask = minmax(up)
        weights.append(score(image * mask) if convention == "constructive" else whole - score(image * (1 - mask)))
    a = np.array(weights)
    if variant == "paper":
        a = np.exp(a - a.max())
        a /= a.sum()
    return minmax(np.maximum(np.tensordot(a, np.array(ups, np.float64), 1), 0))


def pictures(folder: Path | None) -> list[Path]:
    if folder is None:
        return list(bundled.pictures().values())
    return [folder / "images" / f"imagenet_{i}.jpg" for i in ("00_243", "03_990", "06_609", "09_455", "10_541")]


def difference(explainer: Explainer, picture: Path, variant: str, convention: str) -> float:
    saliency: Saliency = explainer(picture)
    image = explainer.prepare(picture).image
    expected = naive(image, explainer.anatomy.features.tensor, saliency.target.index, variant, convention)
    return float(np.abs(saliency.map - expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["official", "paper"])
@pytest.mark.parametrize("convention", ["constructive", "destructive"])
def test_the_map_equals_a_naive_loop_over_channels(variant: str, convention: str) -> None:
    with Explainer(bundled.model(), score_cam(variant=variant, convention=convention)) as explainer:
        assert difference(explainer, bundled.pictures()["coffee"], variant, convention) <= TOLERANCE


@pytest.mark.slow
def test_the_map_equals_a_naive_loop_on_five_photographs(zoo: Path) -> None:
    with Explainer(bundled.model(), score_cam()) as explainer:
        for picture in pictures(zoo):
            assert difference(explainer, picture, "official", "constructive") <= TOLERANCE, picture.name


@pytest.mark.slow
def test_batch_size_does_not_change_the_map() -> None:
    maps = []
    for batch in (1, 7, 64):
        with Explainer(bundled.model(), score_cam(), batch=batch) as explainer:
            maps.append(explainer(bundled.pictures()["coffee"]).map)
    assert np.abs(maps[0] - maps[1]).max() <= 1e-5
    assert np.abs(maps[0] - maps[2]).max() <= 1e-5


@pytest.mark.slow
def test_five_targets_in_one_call_give_the_maps_of_five_calls() -> None:
    targets = [f"rank{i}" for i in range(1, 6)]
    picture = bundled.pictures()["chelsea"]
    with Explainer(bundled.model(), score_cam()) as explainer:
        together = explainer.explain(picture, targets)
        apart = [explainer(picture, t) for t in targets]
    assert len({s.target.index for s in together}) == 5
    assert [s.target for s in together] == [s.target for s in apart]
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.map, other.map, atol=1e-6)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_the_map_equals_the_authors_algorithm_in_pytorch() -> None:
    """Same float32 weights; the loop of Score-CAM's authors: interpolate, skip constants, softmax probability, ReLU."""
    import torch
    import torch.nn.functional as functional

    builder = tool("build_models")
    network = builder.module()
    exported = builder.export(network)
    with Explainer(exported, score_cam(), preset="efficientnet-lite") as explainer, torch.no_grad():
        for picture in bundled.pictures().values():
            saliency = explainer(picture)
            x = torch.from_numpy(np.array(explainer.prepare(picture).image))[None]
            features = network.extract_features(x)
            index = int(network(x).argmax())
            total = torch.zeros(1, 1, 224, 224)
            for k in range(features.shape[1]):
                up = functional.interpolate(
                    features[:, k : k + 1], size=(224, 224), mode="bilinear", align_corners=False
                )
                if up.max() == up.min():
                    continue
                mask = (up - up.min()) / (up.max() - up.min())
                total += functional.softmax(network(x * mask), dim=1)[0, index] * up
            expected = minmax(functional.relu(total)[0, 0].numpy())
            assert saliency.target.index == index
            assert np.corrcoef(saliency.map.ravel(), expected.ravel())[0, 1] >= 0.9999
