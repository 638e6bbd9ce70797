"""An explanation in half precision, on the CPU, where it is slow and normally refused."""

import numpy as np
import pytest

from onnxcam import EngineOptions, Explainer
from onnxcam.inputs import bundled
from onnxcam.types import Note, NoteCode


@pytest.mark.slow
def test_the_map_of_half_precision_is_that_of_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = bundled.pictures()["chelsea"]
    with Explainer(bundled.model(), providers=["cpu"]) as explain:
        expected = explain(picture)
    monkeypatch.setattr(EngineOptions, "check", lambda self, provider: None)
    with Explainer(bundled.model(), providers=["cpu"], engine=EngineOptions(half=True)) as explain:
        saliency = explain(picture)
    assert np.corrcoef(saliency.map.ravel(), expected.map.ravel())[0, 1] >= 0.999
    assert saliency.target.index == expected.target.index
    assert saliency.score == pytest.approx(expected.score, abs=0.01)
    assert not np.array_equal(saliency.map, expected.map)
    assert Note(NoteCode.ENGINE_OPTIONS, "engine: half on") in saliency.provenance.notes
