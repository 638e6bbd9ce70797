"""What an isolated process sends is read by the expected types; anything else is refused, and nothing is unpickled."""

import contextlib
import json
import pickle
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import saliency

from onnxcam.explainer.isolated_process import Answer
from onnxcam.inputs.presets import Preset
from onnxcam.network.plain_data import LARGEST_TEXT, DamagedData, packed, unpacked
from onnxcam.outputs.saliency import Saliency
from onnxcam.types import Note, NoteCode


def reader(data: bytes) -> Callable[[int], bytearray]:
    file = BytesIO(data)

    def read(size: int) -> bytearray:
        if size > len(data):
            raise DamagedData("more than there is")
        return bytearray(file.read(size))

    return read


def sent(value: Any, hint: Any) -> Any:
    return unpacked(hint, reader(b"".join(packed(value))))


def message(value: object, arrays: bytes = b"") -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text + arrays


@dataclass(frozen=True, eq=False)
class Every:
    number: float
    word: Literal["a", "b"]
    code: NoteCode
    either: tuple[float, float] | str | None
    notes: tuple[Note, ...] = ()
    names: Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    first: np.ndarray | None = None
    second: np.ndarray | None = None


def test_values_of_every_type_come_back_with_their_arrays_in_place() -> None:
    value = Every(
        float("inf"), "b", NoteCode.LOOPED, (0.1, 2), (Note(NoteCode.PARTIAL, "ü\x1b"),), ["x", "y"],
        {"a": (1, (2.5, "x")), "b": None, "c": True}, np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((0, 2)),
    )  # fmt: skip
    back = sent(value, Every)
    assert (back.number, back.word, back.code, back.either) == (value.number, "b", NoteCode.LOOPED, (0.1, 2.0))
    assert (back.notes, back.names, back.options) == (value.notes, ("x", "y"), value.options)
    for one, other in ((back.first, value.first), (back.second, value.second)):
        assert (one.dtype, one.tolist(), one.shape) == (other.dtype, other.tolist(), other.shape)
    assert sent(Every(1, "a", NoteCode.LOOPED, "text"), Every).either == "text"
    assert sent(float("nan"), float) != sent(float("nan"), float)


def test_a_saliency_comes_back_as_it_was() -> None:
    original = saliency()
    back = sent(original, Saliency)
    assert np.array_equal(back.map, original.map)
    assert (back.target, back.score, back.placement, back.finish) == (
        original.target, original.score, original.placement, original.finish,
    )  # fmt: skip
    assert {**vars(back.provenance)} == {**vars(original.provenance)}


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("1", int), (1, str), (True, int), (1, bool), (None, int), ([1], int), ({}, int), (1.5, int),
        ("c", Literal["a", "b"]), ("no-code", NoteCode), ([1, 2, 3], tuple[float, float]), (["x"], tuple[float, ...]),
        ({"code": "looped"}, Note), ({"code": "looped", "text": "x", "more": 1}, Note), ([], Note), (5, str | None),
        ({"array": ["<f4", 2, 3]}, int), ({"array": ["O", 1]}, np.ndarray), ({"array": ["<U4", 1]}, np.ndarray),
        ({"array": ["<f4", -1]}, np.ndarray), ({"array": ["<f4", 0, 2**70]}, np.ndarray), ({"array": ["<f4", *[1] * 9]}, np.ndarray), ({"array": ["<f4", 2.0]}, np.ndarray), ({"array": []}, np.ndarray),
        ({"array": ["no", 1]}, np.ndarray), ({"array": ["V8", 1]}, np.ndarray), ({"array": ["<f8", 10**9]}, np.ndarray),
        ({"array": ["<M8[s]", 1]}, np.ndarray), ([["<f4", 1]], np.ndarray), ("<f4", np.ndarray),
    ],
)  # fmt: skip
def test_what_is_not_of_the_expected_type_is_refused(value: object, hint: Any) -> None:
    with pytest.raises(DamagedData):
        unpacked(hint, reader(message(value, bytes(64))), most=1000)


def test_pickles_and_lengths_that_lie_are_refused() -> None:
    dangerous = pickle.dumps(print)
    for data in (
        dangerous,
        struct.pack("<Q", len(dangerous)) + dangerous,
        struct.pack("<Q", LARGEST_TEXT + 1) + b"{}",
        message("x")[:-1] + b"\xff",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 5000) + b"1" * 5000,
    ):
        with pytest.raises(DamagedData):
            unpacked(Answer, reader(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_damaged(data: bytes) -> None:
    try:
        unpacked(Answer, reader(struct.pack("<Q", len(data)) + data))
    except DamagedData:
        return
    raise AssertionError("random bytes were read as an answer")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(Answer.__dataclass_fields__)), inner)
    ),
    max_leaves=10,
)


@given(st.fixed_dictionaries(dict.fromkeys(Answer.__dataclass_fields__, JSON)))
def test_any_json_is_an_answer_or_damaged(value: dict[str, Any]) -> None:
    with contextlib.suppress(DamagedData):
        assert isinstance(unpacked(Answer, reader(message(value, bytes(100)))), Answer)


OUT_OF_RANGE = [
    (10**400, float),
    ({"name": "x", "order": "RGB", "scale": 0}, Preset),
    ({"array": ["<f4,<f4", 1]}, np.ndarray),
    ({"array": ["(1," * 50, 1]}, np.ndarray),
    ({"array": ["\ud800", 1]}, np.ndarray),
    ({"array": ["<f3", 1]}, np.ndarray),
]


@pytest.mark.parametrize(("value", "hint"), OUT_OF_RANGE, ids=str)
def test_values_that_their_type_does_not_have_are_refused(value: object, hint: Any) -> None:
    with pytest.raises(DamagedData):
        unpacked(hint, reader(message(value, bytes(64))), most=1000)


def mutated(value: Any, draw: random.Random) -> Any:
    """The value with one part of it replaced, left out or added."""
    odd = draw.choice(
        [None, True, -1, 2**63, 10**400, float("nan"), "", "\ud800", [], {}, {"array": ["<f8", 2]}, "[" * 99]
    )
    inner = dict(value) if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
    if not inner or draw.random() < 0.15:
        return odd
    key = draw.choice(list(inner))
    if draw.random() < 0.1:
        del inner[key]
    else:
        inner[key] = mutated(inner[key], draw)
    return inner if isinstance(value, dict) else list(inner.values())


def test_mutated_answers_are_answers_or_damaged() -> None:
    kept = saliency()
    for seed in range(500):
        draw = random.Random(seed)
        _, text, *arrays = packed(Answer("done", (1,), saliencies=(kept,)))
        value = json.loads(text)
        for _ in range(draw.randint(1, 3)):
            value = mutated(value, draw)
        data = bytearray(message(value, b"".join(arrays) + bytes(1000)))
        if seed % 3 == 0:
            data[draw.randrange(len(data))] = draw.randrange(256)
        with contextlib.suppress(DamagedData, struct.error):
            assert isinstance(unpacked(Answer, reader(bytes(data)), 2**32), Answer)
