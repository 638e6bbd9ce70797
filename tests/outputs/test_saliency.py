"""Results are values: they pickle and copy, and their arrays cannot be changed by mistake."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from results import provenance, saliency

from onnxcam import PRESETS, Placement
from onnxcam.errors import OptionError
from onnxcam.outputs.saliency import Channels, Saliency, ScoredTarget

VALUES = {
    "target": ScoredTarget(281, "tabby", 0.25, 3.5),
    "channels": Channels(320, 40, 260, 3),
    "provenance": provenance(),
    "preset": PRESETS["clip"],
    "placement": Placement((240, 300), (30.0, 0.5, 269.5, 240.0)),
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "oldest pickle": lambda value: pickle.loads(pickle.dumps(value, 0)),
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", VALUES)
def test_values_come_back_equal_from_pickle_and_copy(name: str, way: str) -> None:
    assert WAYS[way](VALUES[name]) == VALUES[name]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("placed", [True, False])
def test_a_saliency_comes_back_equal_and_read_only_from_pickle_and_copy(way: str, placed: bool) -> None:
    one = saliency(placed=placed)
    other = WAYS[way](one)
    assert type(other) is Saliency
    for name in ("map", "raw"):
        np.testing.assert_array_equal(getattr(other, name), getattr(one, name), strict=True)
        with pytest.raises(ValueError, match="read-only"):
            getattr(other, name)[0, 0] = 1
    for name in ("target", "score", "placement", "provenance", "finish"):
        assert getattr(other, name) == getattr(one, name)


@pytest.mark.parametrize("field", ["map", "raw"])
@pytest.mark.parametrize("value", [None, [[0.5]], 1.0, "map"], ids=repr)
def test_a_map_is_an_array(field: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"{field} of a Saliency is a numpy array"):
        replace(saliency(), **{field: value})


def test_the_callers_arrays_stay_writable() -> None:
    array, raw = np.zeros((4, 3), np.float32), np.zeros((2, 2), np.float32)
    one = replace(saliency(), map=array, raw=raw)
    array[0, 0] = raw[0, 0] = 0.5
    assert one.map[0, 0] == one.raw[0, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        one.map[0, 0] = 1


def test_fields_cannot_be_set() -> None:
    with pytest.raises(FrozenInstanceError):
        saliency().score = 1  # type: ignore[misc]


def test_what_was_neither_scored_nor_estimated_nor_pending_was_skipped() -> None:
    assert Channels(320, 40, 260).skipped == 20
    assert Channels(320, 40, 260, 15).skipped == 5


def test_a_target_without_a_label_is_named_by_its_index() -> None:
    assert ScoredTarget(7, None, 0.5, 1).name == "class 7"
    assert ScoredTarget(7, "fox", 0.5, 1).name == "fox"
