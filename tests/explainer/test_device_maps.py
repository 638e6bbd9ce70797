"""Pictures that come through DLPack, maps that stay where the network runs; the device is the CPU here."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import SCALED_BY_BATCH, filled

from onnxcam import EngineOptions, Explainer, MemoryCap, grad_cam, rise, score_cam
from onnxcam.engine.devices import Device
from onnxcam.errors import InferenceError, OptionError, OutOfMemory, PictureError, TargetError
from onnxcam.explainer.device_maps import DeviceSaliency, Finisher
from onnxcam.explainer.results import PREPROCESSED
from onnxcam.inputs.dlpack import from_device, is_device_array
from onnxcam.methods.blocks import Method
from onnxcam.network.device_scorer import DeviceScorer
from onnxcam.surgeon.graphs.masked_score import LOGIT, TARGETS
from onnxcam.surgeon.vmap.task import CannotBatch
from onnxcam.types import BatchMode, Note, NoteCode, Score

X = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)
CPU = Device("cpu")
OrtValue = onnxruntime.OrtValue
VALUE = OrtValue.ortvalue_from_numpy(X.copy())


class Exporting:
    """Any library's array: exports DLPack and nothing else. device: what it says of where it lies."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack__(self) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


@pytest.fixture(scope="module")
def explain(classifier: onnx.ModelProto) -> Iterator[Explainer]:
    with Explainer(classifier, providers=["cpu"], preset="unit") as explainer:
        yield explainer


@pytest.mark.parametrize(
    "image",
    [Exporting(X.copy()), Exporting(X[None].copy()), OrtValue.ortvalue_from_numpy(X.copy()),
     VALUE._get_c_value()],
    ids=["dlpack", "a batch of one", "OrtValue", "the C OrtValue"],
)  # fmt: skip
def test_an_array_on_the_device_is_explained_as_its_numbers_are(explain: Explainer, image: Any) -> None:
    expected, saliency = explain(X), explain(image)
    np.testing.assert_array_equal(saliency.map, expected.map)
    assert saliency.placement is None
    assert saliency.provenance.preset_origin == PREPROCESSED
    assert saliency.provenance.image == "<device array 3x16x12>"


class Copying(Exporting):
    """An array on a GPU whose library copies it to the host when asked."""

    def __dlpack__(self, *, dl_device: tuple[int, int] | None = None, **_: Any) -> Any:
        if dl_device != (1, 0):
            raise BufferError("only a copy reaches the host")
        return self.array.__dlpack__()


@pytest.mark.parametrize(
    ("image", "tolerance"),
    [
        (Exporting(X.astype(np.float64)), 0),
        (Exporting(X.astype(np.float16)), 1e-3),
        (Exporting(np.repeat(X, 2, 2)[..., ::2]), 0),
        (Exporting(np.ascontiguousarray(X.T).T), 0),
        (Copying(X.copy(), (2, 1)), 0),
    ],
    ids=["float64", "half", "strides", "permuted", "another device"],
)
def test_any_librarys_array_is_taken_as_its_numbers(explain: Explainer, image: Any, tolerance: float) -> None:
    np.testing.assert_allclose(explain.prepare(image).image, X, atol=tolerance * 4)


def test_numpy_arrays_are_no_device_arrays_although_they_export_dlpack() -> None:
    assert not is_device_array(X)
    assert not is_device_array("photo.jpg")
    assert is_device_array(Exporting(X))


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (Exporting(X[:2].copy()), r"shape \(3, 16, 12\) .*, not float32 \(2, 16, 12\)"),
        (Exporting(np.stack([X, X])), r"not float32 \(2, 3, 16, 12\)"),
        (Exporting(X, (2, 1)), r"lies on cuda:1, and cannot be brought to the host .*; give it there, such as tensor.cpu"),
        (Exporting(X, (10, 0)), "lies on rocm:0, and"),
        (Exporting(X, (99, 0)), "a device of type 99"),
        (Exporting(np.full_like(X, np.nan)), "NaN or infinity"),
    ],
    ids=["shape", "two pictures", "cuda", "rocm", "unknown", "NaN"],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(explain: Explainer, image: Any, complaint: str) -> None:
    with pytest.raises(PictureError, match=complaint) as error:
        explain(image)
    assert "\n" not in str(error.value)


def test_an_array_that_may_not_be_shared_is_refused(explain: Explainer) -> None:
    frozen = X.copy()
    frozen.setflags(write=False)
    with pytest.raises(PictureError, match=r"cannot be shared through DLPack: .*readonly"):
        explain(Exporting(frozen))


def test_a_host_array_is_refused_where_the_model_runs_on_a_gpu() -> None:
    with pytest.raises(PictureError, match="lies on cpu, but the model runs on cuda:0"):
        from_device(Exporting(X), Device("cuda"), "cuda", (3, 16, 12))


def test_a_provider_whose_tensors_cannot_be_bound_says_so() -> None:
    with pytest.raises(OptionError, match="need the provider cpu, cuda, tensorrt or webgpu, not directml"):
        from_device(Exporting(X), None, "directml", (3, 16, 12))


def test_an_onnxruntime_without_dlpack_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(OrtValue, "from_dlpack")
    with pytest.raises(OptionError, match="does not read DLPack"):
        from_device(Exporting(X), CPU, "cpu", (3, 16, 12))


@pytest.mark.parametrize(
    "method", [score_cam(), score_cam(fill="mean"), grad_cam(), rise(masks=40, seed=0)],
    ids=["rectified", "fill", "coarse", "its own"],
)  # fmt: skip
def test_the_map_on_the_device_is_the_map(classifier: onnx.ModelProto, method: Method) -> None:
    with Explainer(classifier, method, providers=["cpu"], preset="unit") as explain:
        expected = explain.explain(X, [0, 1])
        on_device = explain.explain_on_device(Exporting(X.copy()), [0, 1])
    for one, other in zip(on_device, expected, strict=True):
        assert isinstance(one, DeviceSaliency)
        assert isinstance(one.map, OrtValue)
        np.testing.assert_allclose(np.from_dlpack(one.map), other.map, atol=1e-6)
        np.testing.assert_array_equal(one.raw, other.raw)
        assert (one.target, one.score) == (other.target, other.score)


def test_writing_to_the_map_on_the_device_changes_nothing_else(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, rise(masks=40, seed=0), providers=["cpu"], preset="unit") as explain:
        (saliency,) = explain.explain_on_device(X)
    raw = np.array(saliency.raw)
    np.from_dlpack(saliency.map)
    saliency.map.update_inplace(np.zeros(saliency.map.shape(), np.float32))
    np.testing.assert_array_equal(saliency.raw, raw)


def test_a_closed_explainer_says_so(classifier: onnx.ModelProto) -> None:
    explain = Explainer(classifier, providers=["cpu"], preset="unit")
    saliency = explain(X)
    explain.close()
    with pytest.raises(InferenceError, match="closed"):
        explain._finisher.on_device(saliency)
    with pytest.raises(
        OptionError, match="maps on a device need the provider cpu, cuda, tensorrt or webgpu, not directml"
    ):
        Finisher("directml", None).on_device(saliency)


def test_what_a_result_says_about_the_providers(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, providers=["cpu"], preset="unit") as explain:
        network = explain._heads.first.network
        assert network.notes == ()
        network._session.provider, network._session.companions = "tensorrt", ("cuda",)
        network._session.engine = EngineOptions(MemoryCap(share=0.5), half=True)
        lacks, engine = network._engine_notes()
    assert lacks.code is NoteCode.PROVIDER_FALLBACK
    assert lacks.text.startswith("operators that TensorRT lacks run on the CUDA provider; it may use TF32")
    assert engine == Note(NoteCode.ENGINE_OPTIONS, "engine: gpu_mem 0.5 of the free memory, half on")


def test_the_chunk_on_a_gpu_follows_its_memory_the_cap_and_the_precision(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("onnxcam.engine.parallel.chunk_on", lambda *arguments: calls.append(arguments))
    with Explainer(classifier, providers=["cpu"], preset="unit") as explain:
        network = explain._heads.first.network
        needed = network.anatomy.bytes_per_image
        runner = network._runner
        runner.session.provider, runner.session.cap = "cuda", 10**9
        runner._chunk(50, 500)
        runner._limits = replace(runner._limits, batch=7, engine=EngineOptions(half=True))
        runner._chunk(7, 500)
    assert calls == [(Device("cuda"), needed, 500, 10**9, None), (Device("cuda"), needed // 2, 500, 10**9, 7)]


def bound(explain: Explainer, graphs: bool = False) -> Any:
    """The explainer's network, its tensors bound as on a GPU."""
    network = explain._heads.first.network
    network._session.engine = EngineOptions(cuda_graph=graphs)
    network._device_scorer = DeviceScorer(network._session, CPU, network.anatomy.features)
    return network


@pytest.mark.parametrize("graphs", [False, True])
def test_a_whole_explanation_over_bound_tensors_is_the_same(classifier: onnx.ModelProto, graphs: bool) -> None:
    for method in (score_cam(), score_cam(fill="blur"), rise(masks=40, seed=0)):
        with Explainer(classifier, method, providers=["cpu"], preset="unit", batch=3) as explain:
            expected = [explain.explain(x, [0, 3]) for x in (X, 2 * X)]
            bound(explain, graphs)
            for x, pair in zip((X, 2 * X), expected, strict=True):
                for image in (x, Exporting(x.copy())):
                    for one, other in zip(explain.explain(image, [0, 3]), pair, strict=True):
                        np.testing.assert_allclose(one.map, other.map, atol=1e-6)


def test_an_image_that_is_on_the_device_is_not_copied_there(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Explainer(classifier, providers=["cpu"], preset="unit") as explain:
        bound(explain)
        shapes: list[tuple[int, ...]] = []
        make = OrtValue.ortvalue_from_numpy
        monkeypatch.setattr(
            OrtValue, "ortvalue_from_numpy", lambda a, *device: shapes.append(a.shape) or make(a, *device)
        )
        explain(X)
        assert shapes.count((1, 3, 16, 12)) == 1
        explain(Exporting(X.copy()))
        assert shapes.count((1, 3, 16, 12)) == 1


def test_the_callers_array_may_be_filled_anew(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, providers=["cpu"], preset="unit") as explain:
        expected = explain(2 * X)
        bound(explain)
        buffer = X.copy()
        explain(buffer)
        buffer *= 2
        np.testing.assert_allclose(explain(buffer).map, expected.map, atol=1e-6)


@pytest.mark.parametrize("resident", [False, True])
def test_samples_of_a_bound_batch_that_change_each_other_go_alone(resident: bool) -> None:
    """Two pictures a run, which share a number: each mask goes with a copy of itself."""
    masks = np.random.default_rng(1).random((5, 1, 4, 3)).astype(np.float32)
    reports: list[tuple[int, int]] = []
    with Explainer(filled(SCALED_BY_BATCH), providers=["cpu"], preset="unit") as explain:
        network = explain._heads.first.network
        assert network.fixed == 2
        expected = explain.explain(X, [0, 3])
        if resident:
            network._device_scorer = DeviceScorer(network._session, CPU, network.anatomy.features, network.fixed)
        feeds = {**network.feeds(X, X, {}), TARGETS: np.array([0, 3])}
        scores = network.score(feeds, masks, Score.LOGIT, lambda done, of: reports.append((done, of)))
        each = [network.run(feeds, masks[i : i + 1], [LOGIT])[0] for i in range(5)]
        np.testing.assert_allclose(scores, np.concatenate(each), rtol=1e-5)
        mixed = network.run(feeds, masks[:2], [LOGIT])[0]
        assert np.abs(mixed - scores[:2]).max() > 0.01, "the network mixes them, or this tests nothing"
        assert reports == [(i, 5) for i in range(1, 6)]
        for one, other in zip(explain.explain(X, [0, 3]), expected, strict=True):
            np.testing.assert_allclose(one.map, other.map, atol=1e-6)
        notes = {note.code: note.text for note in expected[0].provenance.notes}
        assert "every mask went alone" in notes[NoteCode.SAMPLES_APART]
        assert expected[0].provenance.forwards == expected[0].provenance.channels.scored + 1


def test_samples_of_a_bound_batch_that_leave_each_other_alone_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a graph that, let us say, cannot be made dynamic."""

    def refuse(*_: object) -> None:
        raise CannotBatch("not this one")

    monkeypatch.setattr("onnxcam.network.batch_support.free_batch", refuse)
    apart = SCALED_BY_BATCH.replace("ReduceMean <keepdims=1>", "ReduceMean <axes=[1,2,3], keepdims=1>")
    with Explainer(filled(apart), providers=["cpu"], preset="unit") as explain:
        assert explain.batching.mode is BatchMode.LOOPED
        network = explain._heads.first.network
        assert (network.fixed, network._copies) == (2, 1)
        assert NoteCode.SAMPLES_APART not in {note.code for note in explain(X).provenance.notes}


def test_a_stream_releases_its_picture_even_when_it_is_left_early(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, providers=["cpu"], preset="unit", batch=3) as explain:
        network = bound(explain)
        for count in (1, 100):
            for _, saliency in zip(range(count), stream := explain.stream(X), strict=False):
                assert saliency.map.shape == (16, 12)
            stream.close()
            assert (1, 3, 16, 12) not in {array.shape for array, _ in network._device_scorer.bound._uploads.values()}
        with pytest.raises(TargetError, match="99"):
            next(explain.stream(X, 99))
        assert (1, 3, 16, 12) not in {array.shape for array, _ in network._device_scorer.bound._uploads.values()}


def test_threads_that_share_a_device_get_what_each_gets_alone(classifier: onnx.ModelProto) -> None:
    pictures = [np.float32(k) * X for k in range(1, 25)]
    with Explainer(classifier, providers=["cpu"], preset="unit", batch=3) as explain:
        expected = [explain(x).map for x in pictures]
        bound(explain)
        with ThreadPoolExecutor(4) as pool:
            for saliency, map_ in zip(pool.map(explain, pictures), expected, strict=True):
                np.testing.assert_allclose(saliency.map, map_, atol=1e-6)


@pytest.mark.parametrize("resident", [False, True])
def test_a_batch_that_did_not_fit_stays_halved_for_later_pictures(
    classifier: onnx.ModelProto, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Explainer(classifier, providers=["cpu"], preset="unit", batch=8) as explain:
        expected = explain(X)
        network = bound(explain) if resident else explain._heads.first.network
        limited(network._session, 3)
        saliency = explain(X)
        np.testing.assert_allclose(saliency.map, expected.map, atol=1e-6)
        assert network.batch == 2
        assert saliency.provenance.batch == 2


def limited(session: Any, largest: int) -> None:
    """Runs of more rows than that run out of memory."""

    def guarded(run: Callable[..., Any], rows: Callable[..., int]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if rows(*args) > largest:
                raise OutOfMemory("too much")
            return run(*args, **more)

        return call

    def bound_rows(binding: Any) -> int:
        session_run(binding)
        return int(binding.get_outputs()[0].shape()[0])

    session_run = session.run_bound
    session.run = guarded(session.run, lambda outputs, feeds: len(feeds["onnxcam/maps"]))
    session.run_bound = guarded(session.run_bound, bound_rows)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_map_on_a_device_is_not_pickled_and_says_what_to_send(classifier: onnx.ModelProto, protocol: int) -> None:
    with Explainer(classifier, grad_cam(), providers=["cpu"], preset="unit") as explainer:
        (saliency,) = explainer.explain_on_device(X)
    with pytest.raises(TypeError, match=r"send map.numpy\(\)"):
        pickle.dumps(saliency, protocol)
