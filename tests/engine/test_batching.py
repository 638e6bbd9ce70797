from types import SimpleNamespace

import numpy as np
import pytest

from onnxcam.engine.batching import choose_batch, chunk_sizes, free_memory, in_chunks, trim_heap
from onnxcam.errors import OptionError, OutOfMemory
from onnxcam.types import Floats, Masks

MASKS = np.arange(20, dtype=np.float32).reshape(20, 1, 1, 1)


def test_chunks_give_what_one_run_gives_in_order() -> None:
    sizes = []

    def run(chunk: Masks) -> Floats:
        sizes.append(len(chunk))
        return chunk.reshape(len(chunk), 1) * 2

    result = in_chunks(run, MASKS, 8)
    np.testing.assert_array_equal(result[:, 0], MASKS.ravel() * 2)
    assert sizes == [8, 8, 4]


def test_out_of_memory_is_tried_again_at_half_the_batch() -> None:
    sizes = []

    def run(chunk: Masks) -> Floats:
        sizes.append(len(chunk))
        if len(chunk) > 5:
            raise OutOfMemory("too much")
        return chunk.reshape(len(chunk), 1)

    result = in_chunks(run, MASKS, 16)
    np.testing.assert_array_equal(result, MASKS.reshape(20, 1))
    assert sizes == [16, 8, 4, 4, 4, 4, 4]


def test_one_mask_that_does_not_fit_is_an_error() -> None:
    def run(chunk: Masks) -> Floats:
        raise OutOfMemory("Failed to allocate 9 GB")

    with pytest.raises(OutOfMemory, match="one picture alone does not fit"):
        in_chunks(run, MASKS, 16)


def test_progress_ends_with_all() -> None:
    seen: list[tuple[int, int]] = []
    in_chunks(lambda chunk: chunk.reshape(-1, 1), MASKS, 8, lambda done, total: seen.append((done, total)))
    assert seen == [(8, 20), (16, 20), (20, 20)]


def test_the_batch_follows_memory_between_one_and_the_largest() -> None:
    assert choose_batch(10, free=400, most=16, requested=None) == 10
    assert choose_batch(10, free=0, most=16, requested=None) == 1
    assert choose_batch(10, free=10**9, most=16, requested=None) == 16
    assert choose_batch(10, free=0, most=16, requested=64) == 64
    with pytest.raises(OptionError, match="1 or more"):
        choose_batch(10, free=0, most=16, requested=0)


def test_free_memory_is_a_plausible_number_of_bytes() -> None:
    assert 2**20 < free_memory() < 2**50


def test_chunks_are_full_until_the_workers_share_the_rest_evenly() -> None:
    assert list(chunk_sizes(19, 2, 4)) == [2] * 8 + [1] * 3
    assert list(chunk_sizes(14, 4, 2)) == [4, 4, 3, 3]
    assert list(chunk_sizes(7, 3, 1)) == [3, 3, 1]
    assert list(chunk_sizes(3, 8, 4)) == [1, 1, 1]
    for count in range(60):
        for batch in range(1, 9):
            for workers in range(1, 6):
                sizes = list(chunk_sizes(count, batch, workers))
                assert sum(sizes) == count
                assert all(1 <= n <= batch for n in sizes)
                assert len(sizes) <= -(-count // (batch * workers)) * workers


def test_trimming_the_heap_is_harmless_where_the_c_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries: list[str | None] = []
    monkeypatch.setattr("ctypes.CDLL", lambda name: libraries.append(name) or object())  # which has no malloc_trim
    trim_heap()
    assert libraries == [None], "the C library that the process runs on"


def test_the_heap_is_trimmed_to_the_last_page(monkeypatch: pytest.MonkeyPatch) -> None:
    pads: list[int] = []
    monkeypatch.setattr("ctypes.CDLL", lambda name: SimpleNamespace(malloc_trim=pads.append))
    trim_heap()
    assert pads == [0]
