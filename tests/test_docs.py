"""The snippets of the documentation run, one after another, as a reader would type them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onnxcam.inputs import bundled

ROOT = Path(__file__).parents[1]


def snippets(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "docs/compare.md",
        "docs/compile.md",
        "docs/evaluate.md",
        "docs/extending.md",
        "docs/journal.md",
        "docs/logging.md",
        "docs/metrics.md",
        "docs/record.md",
        "docs/start.md",
        "docs/workers.md",
        "README.md",
    ],
)
def test_the_snippets_of_a_page_run(name: str, tmp_path: Path) -> None:
    blocks = snippets(ROOT / name)
    assert blocks
    shutil.copy(bundled.model(), tmp_path / "model.onnx")
    for photo in ("photo.jpg", "other.jpg"):
        shutil.copy(bundled.pictures()["coffee"], tmp_path / photo)
    script = tmp_path / "snippets.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
