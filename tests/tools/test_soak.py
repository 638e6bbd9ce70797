"""The soak in small: maps stay bit for bit, and growth of memory, files or threads is found."""

from pathlib import Path

import numpy as np
import pytest
from programs import tool

soak = tool("soak")
MIB = soak.MEBIBYTE


def test_growth_after_the_warm_up_is_found() -> None:
    flat = [soak.Sample(i, (100 + i % 3) * MIB, 6, 3) for i in range(9)]
    assert soak.grown(flat) == []
    assert soak.grown([*flat, soak.Sample(9, 200 * MIB, 7, 4)]) == [
        "memory grew from 102 to 200 MiB", "open files grew from 6 to 7", "threads grew from 3 to 4",
    ]  # fmt: skip


def test_free_memory_that_the_allocator_keeps_is_no_growth() -> None:
    kept = [soak.Sample(i, (100 + 50 * i) * MIB, 6, 3, 90 * MIB) for i in range(9)]
    assert soak.grown(kept) == []
    assert soak.grown([*kept, soak.Sample(9, 600 * MIB, 6, 3, 200 * MIB)]) == ["memory grew from 90 to 200 MiB"]
    before = soak.memory_in_use()
    block = np.ones(2**20)
    assert before < 0 or soak.memory_in_use() - before >= block.nbytes


@pytest.mark.slow
def test_a_short_soak_finds_nothing(tmp_path: Path) -> None:
    done, samples = soak.run(soak.small_models(tmp_path, 6), 300, 8, 1)
    assert done.problems == []
    assert done.done.total() >= 300
    assert len(done.exact) >= 20
    assert set(done.done) == set(soak.ACTS)
    assert soak.grown(samples) == []
