"""Every export of the zoo: the right feature tensor, the same numbers in a batch, and a map."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from programs import tool
from zoo_records import BLOCKED, CLASS_MAP, HEAVY, MAPPED, NAN, listed, name_of

from onnxcam.types import BatchMode


def report() -> ModuleType:
    return tool("zoo_report")


pytestmark = pytest.mark.slow
LIGHT = [r for r in MAPPED if name_of(r) not in HEAVY] + [r for r in listed() if name_of(r) == "pt_gapnet_if"]
OTHERS = [r for r in listed() if (not r.get("target") and name_of(r) != "pt_gapnet_if") or name_of(r) in BLOCKED]


@pytest.mark.parametrize("record", LIGHT or [None], ids=lambda r: name_of(r) if r else "zoo")
def test_the_features_are_right_the_batch_is_sound_and_a_map_comes_out(zoo: Path, record: dict[str, Any]) -> None:
    module, name = report(), name_of(record)
    row = module.examine(zoo, record, explain=name not in NAN)
    assert not row.error
    if name in CLASS_MAP or not record.get("target"):
        assert row.notes, "another tensor than the record's needs a note"
    else:
        assert row.features == "right", row.tensor
    assert row.difference is not None
    assert row.difference <= module.TOLERANCE
    if row.fixed:
        assert row.batch == BatchMode.REWRITTEN
    assert row.batch == BatchMode.LOOPED or name != "q_efflite0_dyn"
    assert row.explained == "yes" or name in NAN


@pytest.mark.parametrize(
    "record",
    [r for r in MAPPED if name_of(r) in HEAVY - {"caffe2_vgg19"}] or [None],
    ids=lambda r: name_of(r) if r else "zoo",
)
def test_heavy_models_whose_weights_are_computed_by_nodes_are_opened_with_an_open_batch(
    zoo: Path, record: dict[str, Any]
) -> None:
    module, path = report(), zoo / record["file"]
    opened = module.open_model(module.read_model(path), module.options_for(path, record))
    opened.network.close()
    assert opened.anatomy.features.tensor in (record["target"], record.get("pool_input"))
    assert opened.batching.mode is BatchMode.REWRITTEN


@pytest.mark.parametrize("record", OTHERS or [None], ids=lambda r: name_of(r) if r else "zoo")
def test_a_model_without_a_spatial_map_is_refused_with_the_reason(zoo: Path, record: dict[str, Any]) -> None:
    row = report().examine(zoo, record)
    assert row.features == "refused"
    assert row.error.split(":")[0] in ("ModelError", "NoSpatialFeatures")
    reasons = ("takes no picture", ".ort file", "NCHWc")
    assert any(reason in row.error for reason in reasons), row.error


def test_variants_give_the_maps_of_the_fp32_export(zoo: Path) -> None:
    module = report()
    files = {name: file for name, file in module.VARIANTS.items() if name != "dynamic int8"}  # takes minutes
    correlations = {name: mean for name, mean, _ in module.variants(zoo, files=files)}
    assert correlations["fp16"] >= 0.999
    assert min(correlations.values()) >= 0.98, correlations
