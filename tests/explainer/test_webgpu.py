"""Whole explanations on WebGPU, against the CPU's. A software adapter is enough; .ci/run has one.

It needs `pip install "onnxcam[webgpu,test]"`, and a GPU or a Vulkan driver in software, with
ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1.
"""

import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from small_models import CLASSIFIER, filled

from onnxcam import Explainer, grad_cam, opti_cam, rise, score_cam, smooth_grad
from onnxcam.engine.devices import Device
from onnxcam.engine.io_binding import BoundSession
from onnxcam.engine.session import Session, runtime
from onnxcam.errors import InferenceError, OutOfMemory, ProviderError
from onnxcam.methods.blocks import Method

pytestmark = pytest.mark.webgpu
MODELS = (
    "pt_gap_max_ts17_dyn", "pt_gap_attn_ts17_dyn", "tf_twoout_tf2onnx_dyn", "jax_nnx_dyn", "pt_resnet10n_ts17_dynhw",
)  # fmt: skip
"""With a MaxPool, with attention, from TensorFlow, with channels last, and with residuals and overlapping windows."""
SIZES = {"pt_resnet10n_ts17_dynhw": (96, 96)}
"""Smaller inputs than usual, of models that take any."""
METHODS: dict[str, Method] = {
    "score-cam": score_cam(budget=6),
    "score-cam, destructive": score_cam(budget=6, convention="destructive"),
    "rise": rise(masks=6, seed=0),
    "grad-cam": grad_cam(),
    "smooth-grad": smooth_grad(samples=2, seed=0),
    "opti-cam": opti_cam(max_iter=2),
}
X = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)
OrtValue = onnxruntime.OrtValue


def opened(model: Any, method: Method | str = "score-cam", provider: str = "webgpu", **options: Any) -> Explainer:
    return Explainer(model, method, providers=[provider], preset="unit", cache=False, **options)


def device_types() -> list[Any]:
    return [d.device.type for d in runtime().get_ep_devices() if d.ep_name == "WebGpuExecutionProvider"]


@pytest.fixture(scope="module")
def small() -> Any:
    return filled(CLASSIFIER)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of all arrays that are copied to the device and back, or fed and read by a plain run."""
    shapes: list[tuple[int, ...]] = []
    make, read, run = OrtValue.ortvalue_from_numpy, OrtValue.numpy, onnxruntime.InferenceSession.run

    def up(array: np.ndarray, *device: Any) -> Any:
        shapes.append(array.shape)
        return make(array, *device)

    def down(value: Any) -> np.ndarray:
        shapes.append(tuple(value.shape()))
        return read(value)

    def plain(session: Any, outputs: Any, feeds: Any, options: Any = None) -> Any:
        results = run(session, outputs, feeds, options)
        shapes.extend(np.shape(array) for array in [*feeds.values(), *results])
        return results

    monkeypatch.setattr(OrtValue, "ortvalue_from_numpy", up)
    monkeypatch.setattr(OrtValue, "numpy", down)
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", plain)
    return shapes


@pytest.mark.parametrize("path", ["bound", "plain"])
@pytest.mark.parametrize("name", MODELS)
def test_six_methods_on_real_models_give_the_cpus_maps(name: str, path: str) -> None:
    if "ONNXCAM_ZOO" not in os.environ:
        pytest.skip("ONNXCAM_ZOO is not set")
    model = Path(os.environ["ONNXCAM_ZOO"]) / "models" / f"{name}.onnx"
    size = SIZES.get(name)
    with opened(model, provider="cpu", size=size) as cpu, opened(model, batch=3, size=size) as gpu:
        image = np.random.default_rng(1).standard_normal((3, *cpu.size)).astype(np.float32)
        network = gpu._heads.first.network
        assert network._device_scorer is not None
        if path == "plain":
            network._device_scorer = None
        for label, method in METHODS.items():
            expected = cpu.with_method(method)(image)
            saliency = gpu.with_method(method)(image)
            assert saliency.provenance.provider == "webgpu"
            assert np.ptp(expected.map) > 0.9
            np.testing.assert_allclose(saliency.map, expected.map, atol=1e-4, err_msg=label)


@pytest.mark.parametrize("convention", ["constructive", "destructive"])
def test_no_feature_map_and_no_mask_travels(small: Any, convention: str, traffic: list[tuple[int, ...]]) -> None:
    """Of 8 maps of 4x3: only the mask of ones that keeps the picture goes there, and one sum for each target back."""
    method = score_cam(convention=convention)
    with opened(small, method, "cpu") as cpu, opened(small, method, batch=3) as gpu:
        expected = cpu.explain(X, [0, 3])
        gpu(2 * X)
        traffic.clear()
        for one, other in zip(gpu.explain(X, [0, 3]), expected, strict=True):
            np.testing.assert_allclose(one.map, other.map, atol=1e-5)
            np.testing.assert_allclose(one.raw, other.raw, rtol=1e-4)
    scored = expected[0].provenance.channels.scored
    chunks = [3] * (scored // 3) + ([scored % 3] if scored % 3 else [])
    sent = [(1, 3, 16, 12), (1, 1, 4, 3), (1,), (2,), *((size,) for size in chunks), *[()] * len(chunks), (2, 8)]
    read = [(1, 5), (), (8,), (8,), *((size, 2) for size in chunks), (2, 12)]
    assert sorted(traffic) == sorted([*sent, *read])


def test_what_overflows_is_seen_there(small: Any) -> None:
    with opened(small) as gpu:
        ops = gpu._heads.first.network._device_scorer._ops
        for value, finite in ((np.nan, False), (np.inf, False), (-np.inf, False), (3e38, True)):
            features = np.ones((1, 8, 4, 3), np.float32)
            features[0, 5, 2, 1] = value
            assert ops.stats(OrtValue.ortvalue_from_numpy(features, "webgpu")).finite is finite


def test_a_map_stays_there(small: Any) -> None:
    with opened(small) as gpu:
        expected = gpu(X)
        (saliency,) = gpu.explain_on_device(OrtValue.ortvalue_from_numpy(X, "webgpu"))
    assert saliency.map.device_name() == "webgpu"
    np.testing.assert_allclose(saliency.map.numpy(), expected.map, atol=1e-6)


OUTER = """
<ir_version: 8, opset_import: ["" : 17]>
outer (float[N,1024,1] x, float[N,1,1024] y) => (float[N,1024,1024] z) { z = Mul (x, y) }
"""
"""4 MB a sample."""


@pytest.mark.parametrize("samples", [600, 1100])
def test_a_buffer_that_cannot_be_had_is_memory_that_runs_out(samples: int) -> None:
    """600 samples are more than the software adapter gives at once, 1,100 more than a buffer may hold."""
    session = Session(onnx.parser.parse_model(OUTER).SerializeToString(), "webgpu")

    def run(count: int) -> np.ndarray:
        x = np.ones((count, 1024, 1), np.float32)
        return session.run(["z"], {"x": x, "y": x.reshape(count, 1, 1024)})[0]

    if runtime().OrtHardwareDeviceType.GPU in device_types():
        pytest.skip("a GPU may have the room")
    with pytest.raises(OutOfMemory):
        run(samples)
    assert run(2).sum() == 2 * 2**20


def test_a_tensor_is_freed_when_no_other_thread_works(small: Any) -> None:
    bound = BoundSession(Session(small.SerializeToString(), "webgpu"), Device("webgpu"))
    values = [bound.new((1, 3))]
    dropping = threading.Thread(target=values.clear)
    with bound.lock:
        dropping.start()
        dropping.join(0.2)
        assert dropping.is_alive()
    dropping.join(30)
    assert not dropping.is_alive()


def test_memory_that_runs_out_halves_the_batch(small: Any) -> None:
    with opened(small, batch=8) as gpu:
        expected, session = gpu(X), gpu._heads.first.network._session
        session.run_bound = limited(session.run_bound, 3)
        saliency = gpu(X)
        np.testing.assert_allclose(saliency.map, expected.map, atol=1e-6)
        assert saliency.provenance.batch == 2


def limited(run: Callable[..., Any], largest: int) -> Callable[..., Any]:
    """Runs of more rows than that run out of memory, after they used it."""

    def run_bound(binding: Any, **options: Any) -> None:
        run(binding, **options)
        if binding.get_outputs()[0].shape()[0] > largest:
            raise OutOfMemory("too much")

    return run_bound


def test_a_closed_explainer_says_so_and_another_opens(small: Any) -> None:
    gpu = opened(small)
    expected = gpu(X)
    gpu.close()
    with pytest.raises(InferenceError, match="closed"):
        gpu(X)
    del gpu
    gc.collect()
    for _ in range(3):
        with opened(small) as another:
            np.testing.assert_allclose(another(X).map, expected.map, atol=1e-6)


def test_threads_share_an_explainer_and_the_device(small: Any) -> None:
    """Four threads, two explainers, and sessions for masks and gradients in each."""
    pictures = [np.float32(k) * X for k in range(1, 9)]
    with opened(small, provider="cpu") as cpu, opened(small, batch=3) as one, opened(small, batch=3) as two:
        expected = [[cpu.with_method(m)(x).map for x in pictures] for m in ("score-cam", "grad-cam")]
        for _ in range(2):
            with ThreadPoolExecutor(4) as pool:
                jobs = [
                    [pool.submit(explain.with_method(method), x) for x in pictures]
                    for explain in (one, two)
                    for method in ("score-cam", "grad-cam")
                ]
                for group, maps in zip(jobs, expected * 2, strict=True):
                    for job, map_ in zip(group, maps, strict=True):
                        np.testing.assert_allclose(job.result().map, map_, atol=1e-5)


def test_auto_takes_no_software_adapter(small: Any) -> None:
    if runtime().OrtHardwareDeviceType.GPU in device_types():
        pytest.skip("this machine has a GPU, which auto takes")
    with opened(small, provider="auto") as explain:
        assert explain.provider == "cpu"


def in_child(model: bytes, answers: Any) -> None:
    for providers in ("webgpu", "auto"):
        try:
            with Explainer(model, providers=[providers], preset="unit", cache=False) as explain:
                answers.put(explain.provider)
        except ProviderError as error:
            answers.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_is_told_and_auto_goes_on_there(small: Any) -> None:
    with opened(small):
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=in_child, args=(small.SerializeToString(), answers))
        child.start()
        assert "webgpu was loaded before the process forked" in answers.get(timeout=120)
        assert answers.get(timeout=120) == "cpu"
        child.join(60)
    assert child.exitcode == 0
