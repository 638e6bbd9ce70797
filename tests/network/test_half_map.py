"""A whole explanation in half precision, on the CPU, where it is slow and otherwise refused."""

import numpy as np
import pytest

from onnxcam import EngineOptions, Explainer
from onnxcam.inputs import bundled


def test_half_precisions_map_is_single_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = bundled.pictures()["chelsea"]
    with Explainer(bundled.model(), providers=["cpu"]) as explain:
        expected = explain(picture)
    monkeypatch.setattr(EngineOptions, "check", lambda self, provider: None)
    with Explainer(bundled.model(), providers=["cpu"], engine=EngineOptions(half=True)) as explain:
        found = explain(picture)
    assert np.corrcoef(found.map.ravel(), expected.map.ravel())[0, 1] >= 0.999
    assert found.target.index == expected.target.index
    assert found.score == pytest.approx(expected.score, abs=0.01)
    assert not np.array_equal(found.map, expected.map)
    assert "engine: half on" in found.provenance.notes
