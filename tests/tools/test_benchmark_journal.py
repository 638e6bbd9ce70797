"""The benchmark of the journal: every row has a value, and a rerun gives what was stored."""

import sys
from pathlib import Path

import pytest
from programs import tool


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_every_row_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools" / "benchmarks")
    rows = tool("benchmarks/journal").measure(11, 2, tmp_path)
    assert len(rows) == 6
    assert all(row["value"] is not None and row["value"] > 0 for row in rows)
    assert rows[4]["note"] == "240 rows"  # all but the picture that is missing: 10 x 3 x 8
