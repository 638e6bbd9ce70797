"""The records of the folder of exported models that ONNXCAM_ZOO names; empty where it is unset."""

import json
import os
from pathlib import Path
from typing import Any

HEAVY = frozenset(
    f"caffe2_{name}" for name in ("bvlc_alexnet", "densenet121", "inception_v1", "resnet50", "vgg19")
)  # fmt: skip
"""Each takes minutes to explain, so they are only opened here; vgg19 (half a gigabyte of equal weights) is not."""
CLASS_MAP = {"caffe2_squeezenet"}
"""The record names the class map. onnxcam takes the input of its convolution, with a note."""
BLOCKED = {"ort_resnet10n_all"}
NAN = {"pt_hardb_index0_dy18_b1", "pt_hardb_index0_ts17_b1"}
"""Their classifier's weights are NaN."""


def listed() -> list[dict[str, Any]]:
    folder = os.environ.get("ONNXCAM_ZOO")
    return json.loads((Path(folder) / "zoo.json").read_text())["models"] if folder else []


def name_of(record: dict[str, Any]) -> str:
    return Path(record["file"]).stem


MAPPED = [r for r in listed() if r.get("target") and name_of(r) not in BLOCKED]
