"""The metrics of a map in its record: under the names by which they were requested, undefined ones with a reason."""

import json
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from results import saliency

from onnxcam.outputs.formats import FORMATS
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.record import record
from onnxcam.types import Floats

VALIDATOR = Draft202012Validator(json.loads(files("onnxcam.outputs").joinpath("record.schema.json").read_text("utf-8")))


@dataclass(frozen=True, eq=False)
class Number:
    """What record() reads of a metric."""

    value: float | None
    protocol: str | None = None
    reason: str | None = None
    curve: Floats | None = None
    options: dict[str, Any] = field(default_factory=dict)
    passes: int = 0
    better: str | None = "lower"
    unit: str = ""
    note: str | None = None


CURVE = np.array([[0, 0.5], [0.5, 0.25], [1, 0.125]], np.float32)
METRICS = {
    "average-drop": Number(12.5, "mult", passes=2, unit="%"),
    "average_drop:half-soft": Number(None, "half-soft", "the probability is 0, so there is nothing to lose"),
    "deletion:zero": Number(0.28125, "zero", curve=CURVE, options={"step": np.int64(4)}, passes=3),
    "deletion:mean": Number(0.25, "mean", curve=CURVE, options={"step": 4}),
    "sparseness": Number(np.float32(0.5), better=None, note="odd"),  # type: ignore[arg-type]
}


def test_the_record_holds_each_metric_under_the_name_by_which_it_was_requested() -> None:
    values = record(saliency(), metrics=METRICS)
    VALIDATOR.validate(values)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert list(values["metrics"]) == [
        "average_drop", "average_drop:half-soft", "deletion:zero", "deletion:mean", "sparseness",
    ]  # fmt: skip
    assert values["metrics"]["average_drop"] == {
        "value": 12.5, "protocol": "mult", "reason": None, "options": {}, "passes": 2, "better": "lower", "unit": "%",
    }  # fmt: skip
    assert values["metrics"]["deletion:zero"] == {
        "value": 0.28125, "protocol": "zero", "reason": None, "curve": [[0, 0.5], [0.5, 0.25], [1, 0.125]],
        "options": {"step": 4}, "passes": 3, "better": "lower", "unit": "",
    }  # fmt: skip
    assert values["metrics"]["sparseness"]["value"] == 0.5
    assert (values["metrics"]["sparseness"]["better"], values["metrics"]["sparseness"]["note"]) == (None, "odd")


def test_a_record_of_before_direction_and_unit_still_fits() -> None:
    values = record(saliency(), metrics=METRICS)
    for one in values["metrics"].values():
        del one["better"], one["unit"]
    VALIDATOR.validate(values)


def test_an_undefined_metric_is_null_with_its_reason() -> None:
    one = record(saliency(), metrics=METRICS)["metrics"]["average_drop:half-soft"]
    assert (one["value"], one["reason"]) == (None, "the probability is 0, so there is nothing to lose")


def test_the_json_file_holds_the_metrics_too_and_other_files_do_not_change() -> None:
    one = saliency()
    written = json.loads(FORMATS["json"].write(one, None, Style(), METRICS))
    VALIDATOR.validate(written)
    assert written == record(one, raw=True, metrics=METRICS)
    for name in ("png", "npy"):
        assert FORMATS[name].write(one, None, Style(), METRICS) == FORMATS[name].write(one, None, Style())


def test_without_a_metric_there_is_no_such_field() -> None:
    assert "metrics" not in record(saliency())
    assert "metrics" not in record(saliency(), metrics={})


@pytest.mark.parametrize(
    "wrong", [{"value": 1.0}, {"value": "high"}, {"reason": 3}, {"more": 1}, {"curve": [[0.5]]}, {"passes": -1}]
)
def test_a_metric_that_is_not_as_the_schema_says_does_not_fit(wrong: dict[str, Any]) -> None:
    values = record(saliency(), metrics=METRICS)
    whole = {**values["metrics"]["deletion:zero"], **wrong} if wrong != {"value": 1.0} else wrong
    assert not VALIDATOR.is_valid({**values, "metrics": {"deletion": whole}})
