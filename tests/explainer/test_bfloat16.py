"""Masked passes in bfloat16 on onnxruntime's OpenVINO provider; the rest stays float32.

It is another build of onnxruntime than the other tests run on: `pip install "onnxcam[openvino,test]"` in its own place.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CLASSIFIER, SCALED_BY_BATCH, filled
from typer.testing import CliRunner

from onnxcam import Explainer, NoteCode, Saliency, grad_cam, score_cam
from onnxcam.cli.main import app
from onnxcam.engine import precision
from onnxcam.engine.options import EngineOptions
from onnxcam.errors import OnnxCamError, OptionError, OutputError
from onnxcam.inputs import bundled
from onnxcam.methods.estimate import rounding
from onnxcam.methods.estimate.rounding import LIMIT
from onnxcam.outputs.record import record

pytestmark = pytest.mark.ort_openvino
PICTURE = bundled.pictures()["coffee"]
BF16 = EngineOptions(precision="bf16")
BUDGET = score_cam(budget=40)


def opened(model: Any, method: Any = None, engine: EngineOptions | None = BF16, **options: Any) -> Explainer:
    try:
        precision.check_processor()
    except OptionError as error:
        pytest.skip(str(error))
    return Explainer(
        model, method, providers=options.pop("providers", ["openvino"]), engine=engine, cache=False, **options
    )


def test_the_map_is_nearly_that_of_float32_and_says_how_near() -> None:
    with opened(bundled.model()) as reduced, opened(bundled.model(), engine=None) as full:
        saliency, expected = reduced(PICTURE), full(PICTURE)
    off = float(np.sqrt(np.square(saliency.map - expected.map).mean()))
    assert 0 < off <= saliency.provenance.error  # type: ignore[operator]
    assert saliency.provenance.error <= LIMIT  # type: ignore[operator]
    assert np.corrcoef(saliency.map.ravel(), expected.map.ravel())[0, 1] > 0.9994
    assert expected.provenance.error is None
    assert saliency.provenance.forwards - expected.provenance.forwards == in_float32(saliency)


def in_float32(saliency: Saliency) -> int:
    """Masks that were scored in float32 too, as the note says; without a note those that measure."""
    (note,) = [str(n) for n in saliency.provenance.notes if n.code is NoteCode.IN_FLOAT32] or ["8 of"]
    return int(re.findall(r"(\d+) of", note)[0])


def test_a_picture_that_rounding_moves_too_far_is_scored_in_float32(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rounding, "LIMIT", 1e-9)
    with opened(filled(CLASSIFIER)) as reduced, opened(filled(CLASSIFIER), engine=None) as full:
        made, expected = reduced(PICTURE), full(PICTURE)
    np.testing.assert_array_equal(made.map, expected.map)
    assert made.provenance.error is None
    assert [n.code for n in made.provenance.notes if "all masks" in str(n)] == [NoteCode.IN_FLOAT32]
    assert made.provenance.forwards == 2 * expected.provenance.forwards - 1  # the unmasked picture's pass is one
    (tmp_path / "classifier.onnx").write_bytes(filled(CLASSIFIER).SerializeToString())
    words = [
        "explain",
        str(tmp_path / "classifier.onnx"),
        str(PICTURE),
        "--providers",
        "openvino",
        "-o",
        f"{tmp_path}/",
    ]
    done = CliRunner().invoke(app, [*words, "--precision", "bf16"], catch_exceptions=False)
    assert "all masks were scored in float32" in " ".join(done.output.split())
    done = CliRunner().invoke(app, [*words, "--precision", "bf16", "--json", "--overwrite"], catch_exceptions=False)
    assert "in-float32" in [note["code"] for note in json.loads(done.stdout)[0]["notes"]]


def test_scores_that_are_shown_are_float32s_to_the_last_bit() -> None:
    with opened(bundled.model(), BUDGET) as reduced, opened(bundled.model(), BUDGET, engine=None) as full:
        saliencies, expected = ([s.target for s in each.explain(PICTURE, "top5")] for each in (reduced, full))
        assert saliencies == expected
        assert reduced.predict(PICTURE) == full.predict(PICTURE)
        shown, wanted = ([record(each(PICTURE))[name] for name in ("target", "score")] for each in (reduced, full))
        assert shown == wanted


def test_metrics_are_computed_in_float32() -> None:
    with opened(bundled.model(), BUDGET) as reduced, opened(bundled.model(), BUDGET, engine=None) as full:
        saliency = full(PICTURE)
        measured, expected = (each.measure(saliency, "average-drop", "deletion") for each in (reduced, full))
    assert {name: one.value for name, one in measured.items()} == {name: one.value for name, one in expected.items()}


def test_an_estimates_bound_holds_both_errors() -> None:
    with opened(bundled.model(), BUDGET) as reduced, opened(bundled.model(), BUDGET, engine=None) as full:
        both, alone = (each(PICTURE).provenance.error for each in (reduced, full))
    assert alone is not None
    assert both is not None
    assert both > 0.9 * alone


def test_the_record_says_so() -> None:
    with opened(bundled.model(), BUDGET) as reduced:
        made = reduced(PICTURE)
        assert record(made)["precision"] == made.provenance.precision == "bf16"
        assert record(made)["provider_options"]["precision"] == "FP32"  # of the session that gave the scores
        assert any("precision bf16" in str(note) for note in made.provenance.notes)
    with opened(bundled.model(), BUDGET, engine=None) as full:
        assert "precision" not in record(full(PICTURE))


def test_several_pictures_streams_and_other_processes_give_the_same_bound() -> None:
    with opened(bundled.model(), BUDGET) as reduced:
        alone = reduced(PICTURE)
        *_, last = reduced.stream(PICTURE)
        together = reduced.batch([PICTURE, bundled.pictures()["chelsea"]])[0]
    with opened(bundled.model(), BUDGET, isolated=True) as isolated:
        apart = isolated(PICTURE)
    for other in (last, together, apart):
        assert other.provenance.precision == "bf16"
        np.testing.assert_allclose(other.map, alone.map, atol=0.02)
        assert other.provenance.error == pytest.approx(alone.provenance.error, rel=0.3)


def test_a_batch_that_mixes_its_samples_is_scored_one_by_one_in_both() -> None:
    with opened(filled(SCALED_BY_BATCH)) as reduced:
        assert reduced.batching.mode == "looped"
        made = reduced(PICTURE).provenance
    assert made.error is not None
    assert made.error < 0.5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"providers": ["cpu"]}, "use --providers openvino"),
        ({"method": grad_cam()}, "score-cam"),
        ({"method": score_cam(variant="paper")}, "as they are by default"),
        ({"providers": [("openvino", {"load_config": "{}"})]}, "load_config"),
    ],
)
def test_what_cannot_be_reduced_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OnnxCamError, match=said):
        opened(filled(CLASSIFIER), **options)


def test_another_method_of_the_same_model_is_refused_too() -> None:
    with opened(filled(CLASSIFIER)) as reduced, pytest.raises(OptionError, match="leave it out for grad-cam"):
        reduced.with_method("grad-cam")


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    words = ["explain", str(bundled.model()), str(PICTURE), "--budget", "40", "--providers", "openvino", "--json"]
    opened(filled(CLASSIFIER)).close()
    done = CliRunner().invoke(app, [*words, "--precision", "bf16", "-o", f"{tmp_path}/"], catch_exceptions=False)
    (made,) = json.loads(done.stdout)
    assert made["precision"] == "bf16"
    with pytest.raises(OutputError, match="of another call"):  # the file of the other precision is not this one's
        CliRunner().invoke(app, [*words, "-o", f"{tmp_path}/", "--resume"], catch_exceptions=False)
