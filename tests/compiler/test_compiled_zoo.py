"""Real exports of every kind: each method's file against an Explainer, on three pictures and two classes.

`tools/compile_report.py` walks all of them, which takes hours.
"""

from pathlib import Path
from typing import Any

import pytest
from programs import tool
from zoo_records import MAPPED, name_of

from onnxcam.compiler.batch_methods import BATCH_METHODS
from onnxcam.compiler.loop_methods import LOOP_METHODS

pytestmark = [pytest.mark.slow, pytest.mark.zoo]
KINDS = {
    "fp16_efflite0_keepio", "jax_nnx_dyn", "paddle_mobilenetv3s_b1", "pt_crnn_lstm_ts17_dyn", "pt_gapnet_localfn",
    "pt_gray_cnn_dy18_dyn", "pt_twoin_meta_dy18_dyn", "pt_uint8_nhwc_ts17_dyn", "pt_vit_n_ts17_dyn",
    "q_efflite0_qdq_s8s8", "tf_mobilenetv2_035_tf2onnx_b1", "tf_seq_flatten_tf2onnx_dyn",
}  # fmt: skip
RECORDS = [r for r in MAPPED if name_of(r) in KINDS]
LIGHT = [r for r in RECORDS if not name_of(r).startswith(("fp16_eff", "q_eff", "tf_mobile", "paddle"))]
"""Of few enough maps for whole loops."""
REFUSED = (
    "NoSpatialFeatures",
    "MissingGradient",
    "CompileError: the method has no map",
    "CompileError: this model's",
    "CompileError: guided",
)
UNSTABLE = {"pt_vit_n_ts17_dyn": ("hires-cam", "opti-cam")}
"""Maps that another rounding of the model's numbers turns over."""
ONE_BY_ONE = (
    "CompileError: recipro-cam runs many",
    "CompileError: ablation-cam",
    "CompileError: integrated-",
)


def is_unstable(row: Any, method: str) -> bool:
    return method in UNSTABLE.get(row.model, ()) and "are rounded another way" in row.error


@pytest.mark.parametrize("method", [m for m in BATCH_METHODS if m != "integrated-gradients"])
@pytest.mark.parametrize("record", RECORDS or [None], ids=lambda r: name_of(r) if r else "zoo")
def test_a_compiled_export_gives_the_maps_of_the_product(zoo: Path, record: dict[str, Any], method: str) -> None:
    row = tool("compile_report").examine(zoo, record, method)
    if name_of(record) == "q_efflite0_qdq_s8s8" and method == "gradient":
        # Where the gradient reads inner tensors, the runtime computes in float, and the logits move by 2 %.
        assert row.error.startswith("CompileError: the compiled file changes the model's output")
        return
    if row.error:
        assert is_unstable(row, method) or row.error.startswith((*REFUSED, *ONE_BY_ONE)), row.error
        return
    assert row.pictures >= 1
    assert row.ratio <= 1.01


SEARCHES = ("opti-cam", "mask")
"""Their file holds the gradient of the whole network."""


@pytest.mark.parametrize("method", LOOP_METHODS)
@pytest.mark.parametrize("record", LIGHT or [None], ids=lambda r: name_of(r) if r else "zoo")
def test_a_compiled_export_with_a_loop_gives_the_maps_of_the_product(
    zoo: Path, record: dict[str, Any], method: str
) -> None:
    row = tool("compile_report").examine(zoo, record, method)
    if row.error:
        quantised = name_of(record).startswith("q_") and method in SEARCHES
        assert quantised or is_unstable(row, method) or row.error.startswith(REFUSED), row.error
        return
    assert row.pictures >= 1
    assert row.ratio <= (1.02 if method == "opti-cam" else 1.01)
