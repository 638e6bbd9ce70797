"""Bound runs give what plain runs give. The device is the CPU: the code is the same for every device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnxcam.engine.devices import Device
from onnxcam.engine.io_binding import MAX_GRAPHS, MAX_UPLOADS, BoundSession, ScoreRequest
from onnxcam.engine.options import EngineOptions
from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError, OutOfMemory

WEIGHED = """
<ir_version: 8, opset_import: ["" : 17]>
weighed (float[1,2,3] image, float[N,1,3] maps, int64[T] targets, float scale) => (float[N,T] score, float[N,2] all)
{
  axes = Constant <value_ints = [2]> ()
  masked = Mul (image, maps)
  sums = ReduceSum <keepdims = 0> (masked, axes)
  all = Mul (sums, scale)
  score = Gather <axis = 1> (all, targets)
}
"""
"""Masked sums of an image with two colours and three pixels, times a number."""
RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((1, 2, 3)).astype(np.float32)
MASKS = RNG.random((7, 1, 3)).astype(np.float32)
FEEDS = {"image": IMAGE, "targets": np.array([1, 0, 1]), "scale": np.array(2, np.float32), "unread": np.zeros(1)}
EXPECTED = 2 * (IMAGE * MASKS).sum(2)[:, [1, 0, 1]]
REQUEST = ScoreRequest("maps", MASKS, "score", 3)
CPU = Device("cpu")
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def weighed(make: Run) -> bytes:
    return bytes(make(WEIGHED).SerializeToString())


def opened(model: bytes, graphs: bool = False) -> Session:
    session = Session(model, ["cpu"])
    session.engine = EngineOptions(cuda_graph=graphs)  # refused on a CPU, where it changes which buffers are used
    return session


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("pad_to_batch", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 7, 64])
def test_chunks_on_the_device_give_the_hand_sum(weighed: bytes, graphs: bool, pad_to_batch: bool, batch: int) -> None:
    bound = BoundSession(opened(weighed, graphs), CPU, pad_to_batch=pad_to_batch)
    seen: list[tuple[int, int]] = []
    scores, fitted = bound.score(FEEDS, REQUEST, batch, lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(scores, EXPECTED, rtol=1e-6)
    assert fitted == batch
    assert seen[-1] == (7, 7)


@pytest.mark.parametrize(("graphs", "pad_to_batch", "sizes"), [(False, False, [3, 3, 1]), (False, True, [3, 3, 3]), (True, False, [3, 3, 3])])  # fmt: skip
def test_which_sizes_run(weighed: bytes, graphs: bool, pad_to_batch: bool, sizes: list[int]) -> None:
    session = opened(weighed, graphs)
    sizes_run = record_runs(session)
    BoundSession(session, CPU, pad_to_batch=pad_to_batch).score(FEEDS, REQUEST, 3)
    assert sizes_run == sizes


def record_runs(session: Session, largest: int = 10**6) -> list[int]:
    """Batch sizes of the bound runs; more than `largest` samples do not fit into memory."""
    plain, sizes = session.run_bound, []

    def run_bound(binding: Any, **options: Any) -> None:
        plain(binding, **options)
        size = binding.get_outputs()[0].shape()[0]
        sizes.append(size)
        if size > largest:
            raise OutOfMemory("too much")

    session.run_bound = run_bound  # type: ignore[method-assign]
    return sizes


@pytest.mark.parametrize("graphs", [False, True])
def test_memory_that_runs_out_halves_the_batch_which_is_returned(weighed: bytes, graphs: bool) -> None:
    session = opened(weighed, graphs)
    sizes_run = record_runs(session, largest=3)
    scores, fitted = BoundSession(session, CPU).score(FEEDS, REQUEST, 6)
    np.testing.assert_allclose(scores, EXPECTED, rtol=1e-6)
    assert fitted == 3
    assert sizes_run == ([6, 3, 3, 3] if graphs else [6, 3, 3, 1])


@pytest.mark.parametrize("graphs", [False, True])
def test_one_mask_that_does_not_fit_is_an_error(weighed: bytes, graphs: bool) -> None:
    session = opened(weighed, graphs)
    record_runs(session, largest=0)
    with pytest.raises(OutOfMemory, match="one picture alone does not fit"):
        BoundSession(session, CPU).score(FEEDS, REQUEST, 4)


def test_a_graph_that_is_fixed_to_a_batch_is_not_halved(weighed: bytes) -> None:
    session = opened(weighed)
    record_runs(session, largest=2)
    with pytest.raises(OutOfMemory, match="the 4 pictures that the model is fixed to"):
        BoundSession(session, CPU, fixed=True).score(FEEDS, REQUEST, 4)


def test_an_image_is_uploaded_once(weighed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads: list[int] = []
    make = onnxruntime.OrtValue.ortvalue_from_numpy
    monkeypatch.setattr(
        onnxruntime.OrtValue,
        "ortvalue_from_numpy",
        lambda a, *device: uploads.append(a.ctypes.data) or make(a, *device),
    )
    bound = BoundSession(opened(weighed), CPU)
    bound.run(["all"], {**FEEDS, "maps": MASKS[:1]})
    bound.score(FEEDS, REQUEST, 2)
    bound.score(FEEDS, REQUEST, 2)
    assert uploads.count(IMAGE.ctypes.data) == 1


def test_an_array_that_is_filled_anew_is_uploaded_again(weighed: bytes) -> None:
    image = IMAGE.copy()
    bound = BoundSession(opened(weighed), CPU)
    value = onnxruntime.OrtValue.ortvalue_from_numpy(IMAGE.copy())
    bound.register_device_copy(image, value)
    image[:] = 0
    np.testing.assert_allclose(bound.score({**FEEDS, "image": image}, REQUEST, 4)[0], EXPECTED, rtol=1e-6)
    bound.forget([image])
    assert not bound.score({**FEEDS, "image": image}, REQUEST, 4)[0].any()


def test_a_device_copy_stands_for_the_array(weighed: bytes) -> None:
    bound = BoundSession(opened(weighed), CPU)
    placeholder = np.zeros_like(IMAGE)
    bound.register_device_copy(placeholder, onnxruntime.OrtValue.ortvalue_from_numpy(IMAGE.copy()))
    scores, _ = bound.score({**FEEDS, "image": placeholder}, REQUEST, 4)
    np.testing.assert_allclose(scores, EXPECTED, rtol=1e-6)


def test_at_most_max_uploads_arrays_are_kept(weighed: bytes) -> None:
    bound = BoundSession(opened(weighed), CPU)
    for _ in range(2 * MAX_UPLOADS):
        bound.score({**FEEDS, "image": IMAGE.copy()}, REQUEST, 4)
    assert len(bound._uploads) == MAX_UPLOADS


def test_a_recorded_graph_always_sees_the_same_addresses_and_new_numbers(
    weighed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(weighed, graphs=True)
    plain, seen = session.run_bound, []
    bound_to: dict[int, dict[tuple[str, str], int]] = {}

    def recorded(name: str) -> None:
        real = getattr(onnxruntime.IOBinding, name)

        def bind(binding: Any, tensor: str, value: Any) -> None:
            bound_to.setdefault(id(binding), {})[name, tensor] = value.data_ptr()
            real(binding, tensor, value)

        monkeypatch.setattr(onnxruntime.IOBinding, name, bind)

    recorded("bind_ortvalue_input")
    recorded("bind_ortvalue_output")

    def run_bound(binding: Any, *, graph: int | None = None, pictures: int = 1) -> None:
        seen.append((graph, dict(bound_to[id(binding)])))
        plain(binding, graph=graph)

    session.run_bound = run_bound  # type: ignore[method-assign]
    bound = BoundSession(session, CPU)
    bound.score(FEEDS, REQUEST, 3)
    scores, _ = bound.score({**FEEDS, "image": -IMAGE}, REQUEST, 3)
    np.testing.assert_allclose(scores, -EXPECTED, rtol=1e-6)
    assert len(seen) == 6
    assert all(call == seen[0] for call in seen)
    assert seen[0][0] == 1
    assert len(seen[0][1]) >= 2
    bound.score(FEEDS, REQUEST, 2)
    assert {call[0] for call in seen} == {1, 2}


def test_at_most_max_graphs_are_recorded_and_the_rest_run_without(weighed: bytes) -> None:
    bound = BoundSession(opened(weighed, graphs=True), CPU)
    for count in range(1, MAX_GRAPHS + 4):
        targets = np.zeros(count, np.int64)
        scores, _ = bound.score({**FEEDS, "targets": targets}, ScoreRequest("maps", MASKS, "score", count), 4)
        np.testing.assert_allclose(scores, np.repeat(EXPECTED[:, 1:2], count, 1), rtol=1e-6)
    assert [s.number for s in bound._graph_buffers.values()] == list(range(1, MAX_GRAPHS + 1))


def test_what_is_kept_on_the_device_outlives_the_session(weighed: bytes) -> None:
    session = opened(weighed)
    bound = BoundSession(session, CPU)
    value = bound.new(EXPECTED.shape)
    assert bound.run([], {**FEEDS, "maps": MASKS}, device_outputs={"score": value}) == []
    session.close()
    np.testing.assert_allclose(value.numpy(), EXPECTED, rtol=1e-6)


def test_errors_of_the_runtime_are_onnxcams(weighed: bytes, classifier: onnx.ModelProto) -> None:
    session = opened(weighed)
    bound = BoundSession(session, CPU)
    with pytest.raises(InferenceError, match="could not run"):
        bound.score({**FEEDS, "image": np.zeros((1, 2, 5), np.float32)}, REQUEST, 4)
    session.close()
    with pytest.raises(InferenceError, match="closed"):
        bound.score(FEEDS, REQUEST, 4)


def test_what_a_progress_callback_raises_is_its_own(weighed: bytes) -> None:
    def progress(done: int, total: int) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        BoundSession(opened(weighed), CPU).score(FEEDS, REQUEST, 4, progress)


def test_twenty_inputs_stay_alive_until_the_run_is_over() -> None:
    """Each non-contiguous input is uploaded from a copy, which must not be freed before the run has read it."""
    names = [f"x{i}" for i in range(20)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, 2]) for n in names]
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])]
    graph = helper.make_graph([helper.make_node("Sum", names, ["y"])], "sum", values, output)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    bound = BoundSession(Session(model.SerializeToString(), ["cpu"]), CPU)
    arrays = {n: np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2] + 10**i % 7 for i, n in enumerate(names)}
    sliced = {n: np.repeat(a, 2, axis=1)[:, ::2] for n, a in arrays.items()}
    assert not any(a.flags.c_contiguous for a in sliced.values())
    for _ in range(3):
        (sums,) = bound.run(["y"], sliced)
        np.testing.assert_allclose(sums, sum(arrays.values()))


def test_closing_frees_what_was_uploaded(weighed: bytes) -> None:
    bound = BoundSession(opened(weighed), CPU)
    bound.score(FEEDS, REQUEST, 3)
    assert bound._uploads
    bound.close()
    assert not bound._uploads
