"""Whole explanations on onnxruntime's OpenVINO provider, against the CPU's.

It is another build of onnxruntime than the other tests run on: `pip install "onnxcam[openvino,test]"` in its own place.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CLASSIFIER, filled
from typer.testing import CliRunner

from onnxcam import Explainer, opti_cam
from onnxcam.cli.main import app
from onnxcam.errors import ModelError, OptionError, ProviderError
from onnxcam.inputs import bundled
from onnxcam.methods.blocks import Method

pytestmark = pytest.mark.ort_openvino
MODELS = (
    "pt_efflite0_ts", "pt_resnet10n_dy18_b1", "pt_squeezenet_dy18_b1", "tf_mobilenetv2_035_keras3",
    "pt_mobilenetv3s_timm_dy18_b1",
)  # fmt: skip
TOLERANCES = {"score-cam": 5e-4, "grad-cam": 1e-4}
PICTURE = bundled.pictures()["chelsea"]


def maps(model: Any, method: Method | str, providers: Any, **options: Any) -> Any:
    with Explainer(model, method, providers=providers, cache=False, **options) as explain:
        return explain(PICTURE)


@pytest.mark.parametrize("method", TOLERANCES)
@pytest.mark.parametrize("name", MODELS)
def test_real_models_give_the_cpus_maps(name: str, method: str) -> None:
    if "ONNXCAM_ZOO" not in os.environ:
        pytest.skip("ONNXCAM_ZOO is not set")
    model = Path(os.environ["ONNXCAM_ZOO"]) / "models" / f"{name}.onnx"
    expected, saliency = (maps(model, method, [provider]) for provider in ("cpu", "openvino"))
    assert saliency.provenance.provider == "openvino"
    assert np.ptp(expected.map) > 0.9
    np.testing.assert_allclose(saliency.map, expected.map, atol=TOLERANCES[method])


def test_a_search_takes_the_cpus_steps() -> None:
    """Of a few steps on a small model: Adam makes whole steps of rounding errors, so that longer searches part."""
    expected, saliency = (maps(filled(CLASSIFIER), opti_cam(max_iter=5), [name]) for name in ("cpu", "openvino"))
    assert np.ptp(expected.map) > 0.9
    np.testing.assert_allclose(saliency.map, expected.map, atol=1e-3)


@pytest.mark.parametrize("isolated", [False, True], ids=["here", "isolated"])
def test_options_reach_the_provider_and_the_record(isolated: bool) -> None:
    options = {"device_type": "CPU", "num_streams": 1}
    saliency = maps(filled(CLASSIFIER), "score-cam", [("openvino", options)], isolated=isolated, threads=1)
    made = saliency.provenance
    expected = {"precision": "FP32", "num_of_threads": "1", "device_type": "CPU", "num_streams": "1"}
    assert (made.provider, made.provider_options) == ("openvino", expected)


def test_float32_is_computed_where_openvino_would_choose_bfloat16() -> None:
    providers: list[Any] = ["cpu", ("openvino", {"device_type": "AUTO:CPU"})]
    expected, precise = (maps(filled(CLASSIFIER), "score-cam", [provider]).raw for provider in providers)
    np.testing.assert_allclose(precise, expected, rtol=1e-4, atol=1e-6)


def test_words_of_the_command_line_reach_the_provider(tmp_path: Path) -> None:
    words = [
        "explain", "--providers", "openvino", "--provider-option", "device_type=AUTO:CPU", str(bundled.model()),
        str(PICTURE), "--method", "grad-cam", "--json", "-o", f"{tmp_path}/",
    ]  # fmt: skip
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    (record,) = json.loads(done.stdout)
    assert record["provider"] == "openvino"
    assert record["provider_options"]["device_type"] == "AUTO:CPU"
    assert record["provider_options"]["precision"] == "FP32"


def test_bfloat16_that_changes_the_answer_is_refused() -> None:
    options = {"load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}'}
    with pytest.raises(ModelError, match="openvino rounds too much, with these options"):
        maps(bundled.model(), "grad-cam", [("openvino", options)])


def test_an_option_that_openvino_does_not_take_is_an_error() -> None:
    with pytest.raises(ProviderError, match=r"openvino does not start .*bogus"):
        maps(filled(CLASSIFIER), "grad-cam", [("openvino", {"bogus": 1})])


def test_options_of_a_gpu_are_refused() -> None:
    with pytest.raises(OptionError, match="tf32"):
        CliRunner().invoke(
            app, ["explain", str(bundled.model()), str(PICTURE), "--providers", "openvino", "--tf32"],
            catch_exceptions=False,
        )  # fmt: skip
