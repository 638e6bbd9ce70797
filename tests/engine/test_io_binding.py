"""Bound runs give what plain runs give. The device is the CPU here: the binding is the same code for every device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnxcam.engine.devices import Device
from onnxcam.engine.io_binding import HELD, MOST_GRAPHS, BoundSession
from onnxcam.engine.options import EngineOptions
from onnxcam.engine.session import Session
from onnxcam.engine.views import Rows, Span
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
"""Masked sums of a picture with two colours and three pixels, times a number."""
RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((1, 2, 3)).astype(np.float32)
MASKS = RNG.random((7, 1, 3)).astype(np.float32)
FEEDS = {"image": IMAGE, "targets": np.array([1, 0, 1]), "scale": np.array(2, np.float32), "unread": np.zeros(1)}
EXPECTED = 2 * (IMAGE * MASKS).sum(2)[:, [1, 0, 1]]
ROWS = Rows("maps", MASKS, "score", 3)
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
    resident = BoundSession(opened(weighed, graphs), CPU, pad_to_batch=pad_to_batch)
    seen: list[tuple[int, int]] = []
    found, fitted = resident.score(FEEDS, ROWS, batch, lambda done, all_: seen.append((done, all_)))
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-6)
    assert fitted == batch
    assert seen[-1] == (7, 7)


@pytest.mark.parametrize(("graphs", "pad_to_batch", "sizes"), [(False, False, [3, 3, 1]), (False, True, [3, 3, 3]), (True, False, [3, 3, 3])])  # fmt: skip
def test_which_sizes_run(weighed: bytes, graphs: bool, pad_to_batch: bool, sizes: list[int]) -> None:
    session = opened(weighed, graphs)
    ran = record_runs(session)
    BoundSession(session, CPU, pad_to_batch=pad_to_batch).score(FEEDS, ROWS, 3)
    assert ran == sizes


def record_runs(session: Session, largest: int = 10**6) -> list[int]:
    """Rows of every bound run; more than `largest` do not fit into memory."""
    plain, sizes = session.run_bound, []

    def run_bound(binding: Any, **how: Any) -> None:
        plain(binding, **how)
        size = binding.get_outputs()[0].shape()[0]
        sizes.append(size)
        if size > largest:
            raise OutOfMemory("too much")

    session.run_bound = run_bound  # type: ignore[method-assign]
    return sizes


@pytest.mark.parametrize("graphs", [False, True])
def test_memory_that_runs_out_halves_the_batch_and_that_is_told(weighed: bytes, graphs: bool) -> None:
    session = opened(weighed, graphs)
    ran = record_runs(session, largest=3)
    found, fitted = BoundSession(session, CPU).score(FEEDS, ROWS, 6)
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-6)
    assert fitted == 3
    assert ran == ([6, 3, 3, 3] if graphs else [6, 3, 3, 1])


@pytest.mark.parametrize("graphs", [False, True])
def test_one_row_that_does_not_fit_is_an_error(weighed: bytes, graphs: bool) -> None:
    session = opened(weighed, graphs)
    record_runs(session, largest=0)
    with pytest.raises(OutOfMemory, match="one picture alone does not fit"):
        BoundSession(session, CPU).score(FEEDS, ROWS, 4)


def test_a_graph_that_is_fixed_to_a_batch_is_not_halved(weighed: bytes) -> None:
    session = opened(weighed)
    record_runs(session, largest=2)
    with pytest.raises(OutOfMemory, match="the 4 pictures that the model is fixed to"):
        BoundSession(session, CPU, fixed=True).score(FEEDS, ROWS, 4)


def test_a_picture_is_uploaded_once(weighed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads: list[int] = []
    make = onnxruntime.OrtValue.ortvalue_from_numpy
    monkeypatch.setattr(
        onnxruntime.OrtValue,
        "ortvalue_from_numpy",
        lambda a, *device: uploads.append(a.ctypes.data) or make(a, *device),
    )
    resident = BoundSession(opened(weighed), CPU)
    resident.run(["all"], {**FEEDS, "maps": MASKS[:1]})
    resident.score(FEEDS, ROWS, 2)
    resident.score(FEEDS, ROWS, 2)
    assert uploads.count(IMAGE.ctypes.data) == 1


def test_an_array_that_is_filled_anew_is_uploaded_again(weighed: bytes) -> None:
    picture = IMAGE.copy()
    resident = BoundSession(opened(weighed), CPU)
    value = onnxruntime.OrtValue.ortvalue_from_numpy(IMAGE.copy())
    resident.register_device_copy(picture, value)
    picture[:] = 0
    np.testing.assert_allclose(resident.score({**FEEDS, "image": picture}, ROWS, 4)[0], EXPECTED, rtol=1e-6)
    resident.forget([picture])
    assert not resident.score({**FEEDS, "image": picture}, ROWS, 4)[0].any()


def test_an_adopted_value_stands_for_the_array_without_a_batch_axis_too(weighed: bytes) -> None:
    resident = BoundSession(opened(weighed), CPU)
    stand_in = np.zeros_like(IMAGE)
    resident.register_device_copy(stand_in, onnxruntime.OrtValue.ortvalue_from_numpy(IMAGE[0].copy()))
    found, _ = resident.score({**FEEDS, "image": stand_in}, ROWS, 4)
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-6)


def test_few_arrays_are_kept(weighed: bytes) -> None:
    resident = BoundSession(opened(weighed), CPU)
    for _ in range(2 * HELD):
        resident.score({**FEEDS, "image": IMAGE.copy()}, ROWS, 4)
    assert len(resident._held) == HELD


def test_a_recorded_graph_always_sees_the_same_addresses_and_new_numbers(weighed: bytes) -> None:
    session = opened(weighed, graphs=True)
    plain, seen = session.run_bound, []

    def run_bound(binding: Any, *, graph: int | None = None, wait: bool = True) -> None:
        inputs = {name: value.data_ptr() for name, value in binding._bound_inputs.items()}
        outputs = {name: value.data_ptr() for name, value in binding._bound_outputs.items()}
        seen.append((graph, wait, inputs, outputs))
        plain(binding, graph=graph, wait=wait)

    session.run_bound = run_bound  # type: ignore[method-assign]
    resident = BoundSession(session, CPU)
    resident.score(FEEDS, ROWS, 3)
    found, _ = resident.score({**FEEDS, "image": -IMAGE}, ROWS, 3)
    np.testing.assert_allclose(found, -EXPECTED, rtol=1e-6)
    assert len(seen) == 6
    assert all(call == seen[0] for call in seen)
    assert seen[0][:2] == (1, True)
    resident.score(FEEDS, ROWS, 2)
    assert {call[0] for call in seen} == {1, 2}


def test_so_many_graphs_are_recorded_and_the_rest_run_without(weighed: bytes) -> None:
    resident = BoundSession(opened(weighed, graphs=True), CPU)
    for count in range(1, MOST_GRAPHS + 4):
        targets = np.zeros(count, np.int64)
        found, _ = resident.score({**FEEDS, "targets": targets}, Rows("maps", MASKS, "score", count), 4)
        np.testing.assert_allclose(found, np.repeat(EXPECTED[:, 1:2], count, 1), rtol=1e-6)
    assert [s.number for s in resident._staged.values()] == list(range(1, MOST_GRAPHS + 1))


def test_what_is_kept_on_the_device_outlives_the_session(weighed: bytes) -> None:
    session = opened(weighed)
    resident = BoundSession(session, CPU)
    value = resident.new(EXPECTED.shape)
    assert resident.run([], {**FEEDS, "maps": MASKS}, device_outputs={"score": Span(value, EXPECTED.shape)}) == []
    session.close()
    np.testing.assert_allclose(value.numpy(), EXPECTED, rtol=1e-6)


def test_errors_of_the_runtime_are_onnxcams(weighed: bytes, classifier: onnx.ModelProto) -> None:
    session = opened(weighed)
    resident = BoundSession(session, CPU)
    with pytest.raises(InferenceError, match="could not run"):
        resident.score({**FEEDS, "image": np.zeros((1, 2, 5), np.float32)}, ROWS, 4)
    session.close()
    with pytest.raises(InferenceError, match="closed"):
        resident.score(FEEDS, ROWS, 4)


def test_what_a_progress_callback_raises_is_its_own(weighed: bytes) -> None:
    def progress(done: int, all_: int) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        BoundSession(opened(weighed), CPU).score(FEEDS, ROWS, 4, progress)


def test_more_inputs_than_are_kept_are_all_read() -> None:
    """Twenty inputs, each uploaded to a buffer of its own: none may be let go before the run is over."""
    names = [f"x{i}" for i in range(20)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, 2]) for n in names]
    total = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])]
    graph = helper.make_graph([helper.make_node("Sum", names, ["y"])], "sum", values, total)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    resident = BoundSession(Session(model.SerializeToString(), ["cpu"]), CPU)
    arrays = {n: np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2] + 10**i % 7 for i, n in enumerate(names)}
    sliced = {n: np.repeat(a, 2, axis=1)[:, ::2] for n, a in arrays.items()}
    assert not any(a.flags.c_contiguous for a in sliced.values())
    for _ in range(3):
        (found,) = resident.run(["y"], sliced)
        np.testing.assert_allclose(found, sum(arrays.values()))


def test_closing_lets_go_of_what_was_uploaded(weighed: bytes) -> None:
    resident = BoundSession(opened(weighed), CPU)
    resident.score(FEEDS, ROWS, 3)
    assert resident._held
    resident.close()
    assert not resident._held
