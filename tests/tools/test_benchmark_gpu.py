"""The GPU benchmark run on the CPU: every row is there, and rows that need a GPU say so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import tool

pytestmark = pytest.mark.torch
TOOL = Path(__file__).parents[2] / "tools" / "benchmarks" / "gpu.py"
WITHOUT_GPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, TOOL, *words], capture_output=True, text=True, timeout=300, env=WITHOUT_GPU)


def test_a_dry_run_has_every_row_and_measures_what_a_cpu_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOL.parent))
    file = tmp_path / "rows.json"
    done = run("--provider", "cpu", "--channels", "32", "--repeats", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads(file.read_text())}
    reaches = {what: row["reach"] for what, row in rows.items()}
    assert reaches.items() >= tool("benchmarks/run_all").NEEDS_A_GPU.items()
    assert rows["operators on cpu"]["value"] == 1
    assert rows["fp32: Pearson with the CPU's map, worst"]["value"] == pytest.approx(1)
    assert rows["DLPack in and out: largest difference of a map"]["value"] <= 1e-5
    assert rows["fp32: pytorch-grad-cam / onnxcam, seconds"]["value"] > 0
    unmeasured = [what for what, row in rows.items() if row["value"] is None]
    assert len(unmeasured) == 10
    assert all(f"| {what} | not measured |" in done.stdout for what in unmeasured)


def test_a_provider_that_does_not_start_ends_the_run_with_one_line() -> None:
    done = run("--channels", "32")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("nothing was measured: the provider cuda is")
