"""OpenCV that is missing, lacks libGL or is broken by two builds: one sentence that says what to do, before any work."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import files, onnxcam

from onnxcam import Explainer, score_cam
from onnxcam.errors import RuntimeMissing
from onnxcam.inputs.opencv import opencv

NO_LIBGL = 'raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")'
BUILDS = {
    "missing": ('raise ModuleNotFoundError("No module named \'cv2\'", name="cv2")', "is not installed"),
    "without libGL": (NO_LIBGL, "libGL.so.1.*pip install opencv-python-headless"),
    "half removed": ("", "two builds overwrote each other.*then install one of them"),
    "mixed": ("from types import ModuleType; ModuleType('x').gapi", "two builds overwrote each other"),
}
"""Name -> the text of cv2/__init__.py, and what is said."""


@pytest.fixture
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    package = tmp_path / "site" / "cv2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(BUILDS[request.param][0])
    return package.parent


@pytest.mark.parametrize(
    ("fake", "said"), [(name, said) for name, (_, said) in BUILDS.items()], indirect=["fake"], ids=list(BUILDS)
)
def test_what_to_install_is_said(fake: Path, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(fake)
    for name in [name for name in sys.modules if name.partition(".")[0] == "cv2"]:
        monkeypatch.delitem(sys.modules, name)
    opencv.cache_clear()
    with pytest.raises(RuntimeMissing, match=said):
        opencv()
    for name in [name for name in sys.modules if name.partition(".")[0] == "cv2"]:
        del sys.modules[name]  # before monkeypatch puts the real ones back


def test_a_map_that_needs_no_opencv_is_made_without_it(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.cache_clear()
    with Explainer(classifier, score_cam(), preset="unit", providers=["cpu"]) as explain:
        saliency = explain(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8))
    assert saliency.map.max() == 1


@pytest.mark.parametrize("command", ["explain", "sanity", "compare"])
@pytest.mark.parametrize("fake", ["without libGL"], indirect=True)
def test_a_command_says_it_before_any_work(fake: Path, classifier_file: Path, command: str) -> None:
    folder = classifier_file.parent
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(b"never decoded")
    before = files(folder)
    words = [command, classifier_file, *(folder / name for name in ("a.png", "b.png", "c.png"))]
    ended = onnxcam(
        *words,
        "--method",
        "grad-cam",
        cwd=folder,
        env={
            "PYTHONPATH": f"{fake}:{Path(__file__).parents[2]}",
            "ONNXCAM_CACHE": str(folder / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, ended.stderr
    assert "libGL.so.1" in lines[0]
    assert "opencv-python-headless" in lines[0]
    assert files(folder) == before
