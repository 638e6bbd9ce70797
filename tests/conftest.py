"""Fixtures that tests of several rooms use."""

import os
from pathlib import Path

import onnx
import pytest
from small_models import CLASSIFIER, Make, filled

pytest.register_assert_rewrite("batched", "differentiated", "programs")
os.environ["ONNXCAM_CACHE"] = "off"  # what one test measured must not help the next one; commands inherit it


@pytest.fixture(scope="session")
def make() -> Make:
    return filled


@pytest.fixture(scope="session")
def classifier() -> onnx.ModelProto:
    return filled(CLASSIFIER)


@pytest.fixture
def classifier_file(classifier: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    onnx.save(classifier, path)
    return path


@pytest.fixture(scope="session")
def zoo() -> Path:
    folder = os.environ.get("ONNXCAM_ZOO")
    if not folder:
        pytest.skip("ONNXCAM_ZOO names no folder of exported models")
    return Path(folder)
