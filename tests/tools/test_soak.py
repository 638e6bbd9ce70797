"""The soak in small: maps stay bit for bit, and growth of memory, files or threads is found."""

from pathlib import Path

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


@pytest.mark.slow
def test_a_short_soak_finds_nothing(tmp_path: Path) -> None:
    done, samples = soak.run(soak.small_models(tmp_path, 6), 300, 8, 1)
    assert done.problems == []
    assert done.done.total() >= 300
    assert len(done.exact) >= 20
    assert set(done.done) == set(soak.ACTS)
    assert soak.grown(samples) == []
