"""Feature maps that stay on the device give what NumPy gives, and nothing large is copied."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import filled

from onnxcam import Explainer, score_cam
from onnxcam.engine.devices import Device
from onnxcam.engine.io_binding import BoundSession
from onnxcam.engine.options import EngineOptions
from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError, UndefinedSaliency
from onnxcam.methods.blocks import Method, live, live_channels
from onnxcam.network.device_features import DeviceFeatures, DeviceOps
from onnxcam.network.device_scorer import DeviceScorer
from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.analysis.factors import Axes, Factor, Factored, tokens
from onnxcam.surgeon.graphs.device_kernels import picking_model
from onnxcam.surgeon.ir import to_bytes

OrtValue = onnxruntime.OrtValue
CPU = Device("cpu")
RNG = np.random.default_rng(4)
WINDOWS = Factored((Factor("H", 2, 2, 4), Factor("W", 3, 1, 3))), Factored((Factor("H", 2, 1, 4),))
ROLLED, MIRRORED = Factored((Factor("H", 4, 1, 4, shift=3),)), Factored((Factor("W", 3, 1, 3, mirrored=True),))
TENSORS: dict[str, tuple[tuple[int, ...], Axes]] = {
    "NCHW": ((1, 7, 4, 3), ("N", "C", "H", "W")),
    "NHWC": ((1, 4, 3, 7), ("N", "H", "W", "C")),
    "a batch of two": ((2, 7, 4, 3), ("N", "C", "H", "W")),
    "tokens": ((1, 14, 7), ("N", tokens((4, 3), 1, 1), "C")),
    "heads of tokens": ((1, 2, 13, 5), ("N", "C", tokens((4, 3), 1, 0), None)),
    "signal": ((1, 9, 6), ("N", "C", "W")),
    "on its side": ((1, 3, 4, 7), ("N", "W", "H", "C")),
    "columns": ((1, 7, 12), ("N", "C", tokens((3, 4), letters="WH"))),
    "windows": ((1, 6, 2, 7), ("N", *WINDOWS, "C")),
    "unrolled": ((1, 12, 7), ("N", Factored((*WINDOWS[1].factors, *WINDOWS[0].factors)), "C")),
    "mirrored and rolled": ((1, 7, 4, 3), ("N", "C", ROLLED, MIRRORED)),
    "volume": ((1, 2, 3, 4, 7), ("N", "D", "H", "W", "C")),
}


def device_features(name: str, array: np.ndarray | None = None) -> tuple[DeviceFeatures, np.ndarray]:
    """Device features of random numbers of that shape, and the same maps in NumPy (K,*grid)."""
    shape, axes = TENSORS[name]
    tensor = FeatureTensor("features", (1, *shape[1:]), axes, "", "")
    values = array if array is not None else RNG.standard_normal(shape).astype(np.float32)
    return DeviceFeatures(ops(tensor), OrtValue.ortvalue_from_numpy(values)), tensor.to_channels(values)[0]


def ops(tensor: FeatureTensor) -> DeviceOps:
    """Operations that share the lock of an unused session."""
    session = Session(to_bytes(picking_model(4)), ("cpu",), 1)
    return DeviceOps(tensor, CPU, BoundSession(session, CPU), EngineOptions())


@pytest.mark.parametrize("name", TENSORS)
def test_maps_masks_and_sums_are_numpys(name: str) -> None:
    features, expected = device_features(name)
    assert features.shape == expected.shape
    np.testing.assert_array_equal(features.host, expected)
    chosen, weights = np.array([5, 0, 3]), RNG.standard_normal((3, 2))
    masks = features.masks(chosen)
    assert (len(masks), masks.shape) == (3, (3, 1, *expected.shape[1:]))
    np.testing.assert_array_equal(masks.gathered(np.arange(3)).numpy(), expected[chosen][:, None])
    rows = (-masks[1:]).gathered(np.array([0, 1, 1, 1])).numpy()
    np.testing.assert_array_equal(rows, -expected[[0, 3, 3, 3]][:, None])
    hand = sum(weights[i, :, None] * expected[k].reshape(-1).astype(np.float64) for i, k in enumerate(chosen))
    np.testing.assert_allclose(masks.summed(weights).reshape(2, -1), hand, rtol=1e-6)
    np.testing.assert_allclose((-masks).summed(weights).reshape(2, -1), -hand, rtol=1e-6)
    assert masks.summed(weights).shape == (2, *expected.shape[1:])
    np.testing.assert_array_equal(np.asarray(-masks), -expected[chosen][:, None])
    twice = features.masks(np.array([1, 1, 2]))
    np.testing.assert_allclose(twice.summed(np.ones((3, 1)))[0], 2 * expected[1] + expected[2], rtol=1e-6)


def test_masks_are_written_into_a_value_that_is_there() -> None:
    features, expected = device_features("NCHW")
    buffer = OrtValue.ortvalue_from_numpy(np.zeros((2, 1, 4, 3), np.float32))
    assert features.masks(np.array([2, 6])).gathered(np.array([1, 0]), into=buffer) is buffer
    np.testing.assert_array_equal(buffer.numpy(), expected[[6, 2]][:, None])


def test_a_picture_gets_the_batch_axis_that_it_lacks() -> None:
    image = RNG.standard_normal((3, 4, 5)).astype(np.float32)
    features, _ = device_features("NCHW")
    batch = features.ops.with_batch_axis(OrtValue.ortvalue_from_numpy(image.copy()))
    np.testing.assert_array_equal(batch.numpy(), image[None])


@pytest.mark.parametrize("name", TENSORS)
def test_the_maps_that_vary_are_those_of_numpy(name: str) -> None:
    """Constant maps, one that varies by rounding, one by a little more than rounding, and one of zeros."""
    shape, axes = TENSORS[name]
    tensor = FeatureTensor("features", (1, *shape[1:]), axes, "", "")
    cells = int(np.prod(tensor.grid))
    maps = RNG.standard_normal((tensor.channels, cells)).astype(np.float32)
    maps[0], maps[1], maps[2], maps[3] = 3, -3, 3, 0
    maps[1, 0], maps[2, 0] = np.nextafter(np.float32(-3), np.float32(0)), 3 + 16 * np.spacing(np.float32(3))
    values = tensor.from_channels(maps.reshape(1, -1, *tensor.grid), np.ones((1, *shape[1:]), np.float32))
    features, expected = device_features(name, np.repeat(values, shape[0], axis=0))
    indices = live_channels(SimpleNamespace(device_features=features))  # type: ignore[arg-type]
    np.testing.assert_array_equal(indices, np.flatnonzero(live(expected)))
    np.testing.assert_array_equal(indices[:3], [2, 4, 5])
    np.testing.assert_array_equal(features.extent, np.ptp(expected.reshape(len(expected), -1), axis=1))
    np.testing.assert_array_equal(features.peak, np.abs(expected).reshape(len(expected), -1).max(axis=1))
    assert features.finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_overflow_is_reported(value: float) -> None:
    array = RNG.standard_normal((1, 7, 4, 3)).astype(np.float32)
    array[0, 5, 2, 1] = value
    assert not device_features("NCHW", array)[0].finite


def test_values_outside_the_grid_do_not_count() -> None:
    """The class token of a transformer, and the second image of a fixed batch."""
    tokens = RNG.standard_normal((1, 14, 7)).astype(np.float32)
    tokens[0, [0, 13]] = np.nan
    assert device_features("tokens", tokens)[0].finite
    two = RNG.standard_normal((2, 7, 4, 3)).astype(np.float32)
    two[1] = np.inf
    assert device_features("a batch of two", two)[0].finite


def test_operations_after_closing_are_errors() -> None:
    features, _ = device_features("NCHW")
    features.masks(np.arange(2)).summed(np.ones((2, 1)))
    features.ops.close()
    for run in (lambda: features.masks(np.arange(2)).summed(np.ones((2, 1))),
                lambda: features.masks(np.arange(2)).gathered(np.arange(2)),
                lambda: features.ops.stats(OrtValue.ortvalue_from_numpy(np.zeros((1, 7, 4, 3), np.float32)))):  # fmt: skip
        with pytest.raises(InferenceError, match="closed"):
            run()


X = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of all arrays that are copied to the device and back."""
    shapes: dict[str, list[tuple[int, ...]]] = {"up": [], "down": []}
    make, read = OrtValue.ortvalue_from_numpy, OrtValue.numpy

    def up(array: np.ndarray, *device: Any) -> Any:
        shapes["up"].append(array.shape)
        return make(array, *device)

    def down(value: Any) -> np.ndarray:
        shapes["down"].append(tuple(value.shape()))
        return read(value)

    monkeypatch.setattr(OrtValue, "ortvalue_from_numpy", up)
    monkeypatch.setattr(OrtValue, "numpy", down)
    return shapes


def bound(explainer: Explainer, *, graphs: bool = False, pad_to_batch: bool = False) -> None:
    network = explainer._heads.first.network
    network._session.engine = EngineOptions(cuda_graph=graphs)
    network._device_scorer = DeviceScorer(network._session, CPU, network.anatomy.features, pad_to_batch=pad_to_batch)


WAYS = [{}, {"graphs": True}, {"pad_to_batch": True}]
EXACT = [
    score_cam(), score_cam(convention="destructive"), score_cam(variant="paper"),
    score_cam(convention="destructive", variant="paper"),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("method", EXACT, ids=lambda m: "-".join(map(str, m.options.values())))
def test_an_exact_explanation_uploads_an_image_and_downloads_scores_and_a_map(
    classifier: onnx.ModelProto, traffic: dict[str, list[tuple[int, ...]]], method: Method, way: dict[str, bool]
) -> None:
    """8 maps of 4x3, 5 classes, 2 targets: no feature map and no mask is copied."""
    with Explainer(classifier, method, providers=["cpu"], preset="unit", batch=3) as explain:
        expected = explain.explain(X, [0, 3])
        scored = expected[0].provenance.channels.scored
        bound(explain, **way)
        for copied in traffic.values():
            copied.clear()
        saliencies = explain.explain(X, [0, 3])
        for one, other in zip(saliencies, expected, strict=True):
            np.testing.assert_allclose(one.map, other.map, atol=1e-6)
            np.testing.assert_allclose(one.raw, other.raw, rtol=1e-5)
            assert one.provenance.features == other.provenance.features == (8, 4, 3)
            assert one.provenance.channels == other.provenance.channels
    # The image (a graph has its own copy), the mask of ones, targets; indices and a sign for each chunk of masks that
    # are picked, and a weight for each map and target.
    chunks = [3] * (scored // 3) + ([] if scored % 3 == 0 else [3 if way else scored % 3])
    again = [(1, 3, 16, 12)] if way.get("graphs") else []
    sent = [
        (1, 3, 16, 12),
        (1, 1, 4, 3),
        (1,),
        (2,),
        *again,
        *((size,) for size in chunks),
        *[()] * len(chunks),
        (2, 8),
    ]
    assert sorted(traffic["up"]) == sorted(sent)
    # Logits, whether all maps are finite, extent and peak of each, scores, the weighted sum of the maps.
    assert sorted(traffic["down"]) == sorted([(1, 5), (), (8,), (8,), *((size, 2) for size in chunks), (2, 12)])


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_estimate_downloads_the_maps_once_and_uploads_no_masks(
    classifier: onnx.ModelProto, traffic: dict[str, list[tuple[int, ...]]], way: dict[str, bool]
) -> None:
    for method in (score_cam(budget=5), score_cam(budget=5, convention="destructive")):
        with Explainer(classifier, method, providers=["cpu"], preset="unit", batch=3) as explain:
            expected = explain(X)
            streamed = [s.map for s in explain.stream(X)]
            bound(explain, **way)
            for copied in traffic.values():
                copied.clear()
            np.testing.assert_allclose(explain(X).map, expected.map, atol=1e-6)
            assert traffic["down"].count((8, 1, 4, 3)) == 1
            assert {shape for shape in traffic["up"] if len(shape) == 4} == {(1, 3, 16, 12), (1, 1, 4, 3)}
            for one, other in zip(explain.stream(X), streamed, strict=True):
                np.testing.assert_allclose(one.map, other, atol=1e-6)


def test_errors_about_the_maps_are_those_on_the_host(classifier: onnx.ModelProto) -> None:
    flat = filled(
        """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,4] logits)
<float[4,3,2,2] w>
{
  c = Conv <kernel_shape=[2,2], strides=[2,2]> (x, w)
  f = Relu (c)
  p = GlobalAveragePool (f)
  logits = Flatten (p)
}"""
    )
    with Explainer(flat, providers=["cpu"], preset="unit") as explain:
        with pytest.raises(UndefinedSaliency) as plain:
            explain(np.ones_like(X))
        bound(explain)
        with pytest.raises(UndefinedSaliency, match="all 4 feature maps are constant over space") as on_device:
            explain(np.ones_like(X))
        assert str(on_device.value) == str(plain.value)


def test_maps_that_overflow_are_an_error_on_a_device_too() -> None:
    array = np.full((1, 7, 4, 3), np.inf, np.float32)
    with pytest.raises(UndefinedSaliency, match="the feature maps hold NaN or infinity"):
        live_channels(SimpleNamespace(device_features=device_features("NCHW", array)[0]))  # type: ignore[arg-type]
