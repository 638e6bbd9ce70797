"""The program behind the tables of docs/metrics.md, on one photograph."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onnxcam.inputs.bundled import pictures

TOOL = Path(__file__).parents[2] / "tools" / "metric_tables.py"


@pytest.mark.slow
def test_rows_hold_each_metric_and_a_second_run_measures_nothing_again(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    photograph = pictures()["coffee"]
    (folder / photograph.name).write_bytes(photograph.read_bytes())
    boxes = {"images": {"coffee.jpg": {"box": [100, 40, 480, 360], "class_index": 967}}}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    command = [sys.executable, TOOL, folder, "--boxes", tmp_path / "boxes.json", "--methods", "grad-cam", "--quiet"]
    command += ["--json", tmp_path / "rows.json"]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    before = (tmp_path / "rows.json").read_text()
    rows = json.loads(before)
    assert {row["method"] for row in rows} == {"grad-cam", "ones", "gaussian"}
    assert len(rows) == 3 * 16
    assert {row["target"] for row in rows} == {967}
    kept = {row["metric"]: row["value"] for row in rows if row["method"] == "ones"}
    assert kept["average-drop:mult"] == kept["average-increase:mult"] == 0
    assert kept["deletion:zero"] is None
    assert kept["energy_pointing_game"] == pytest.approx(0.6, abs=0.4)
    assert first.stdout.count("| grad-cam |") == 4
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "rows.json").read_text() == before
    assert second.stdout == first.stdout
