"""The metadata of a compiled file: what is not whole is refused in a sentence, and shown nowhere."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import onnx
import pytest
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam.cli.compiled_summary import compiled_lines
from onnxcam.compiler.batch_methods import BATCH_METHODS
from onnxcam.compiler.compiled import compile
from onnxcam.compiler.metadata import read_compiled
from onnxcam.errors import ModelError
from onnxcam.surgeon.metadata import COMPILED

OTHERS: list[Any] = [None, True, 3, -1, 1.5, "text", [], [3], [[]], ["a"], {}, {"a": 1}, 10**39, float("nan")]
Path = tuple[str | int, ...]


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    compiled = compile(filled(CLASSIFIER), onnxcam.grad_cam_plus_plus(epsilon=0.5), labels=list("abcde"), target=2)
    read: dict[str, Any] = json.loads(json.dumps(compiled.record))
    return read


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The way to every value inside."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from paths(value[key], (*path, key))


def changed(record: dict[str, Any], path: Path, *values: Any) -> dict[str, Any]:
    """A copy with another value at the end of the way, or without any."""
    changed = copy.deepcopy(record)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    if values:
        place[path[-1]] = values[0]
    else:
        del place[path[-1]]
    return changed


def shown(record: Any) -> list[str] | None:
    """The lines of what is read; None where it is refused."""
    try:
        read = read_compiled({COMPILED: record if isinstance(record, str) else json.dumps(record)})
    except ModelError as error:
        assert "\n" not in str(error)
        return None
    assert read is not None
    json.dumps(read)
    return compiled_lines("m.onnx", read)


def test_no_change_of_a_value_is_more_than_a_refusal(record: dict[str, Any]) -> None:
    refusals = 0
    for path in paths(record):
        for value in OTHERS:
            refusals += shown(changed(record, path, value)) is None
    assert refusals > 300


def test_a_record_that_lacks_a_field_is_refused(record: dict[str, Any]) -> None:
    assert shown(record) is not None
    for path in paths(record):
        optional = path[0] in ("options", "grid", "size", "labels") or "shape" in path or isinstance(path[-1], int)
        if len(path) == 1 or not (optional or path[0] == "preset"):
            assert shown(changed(record, path)) is None, path


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", "null", '{"schema": 1}', '{"schema": true}', '{"schema": 0}', '{"schema": -1}',
        '{"schema": 1.0}', '{"schema": "1"}', '{"schema": 1, "schema": 1}', '{"schema": ' + "9" * 5000 + "}",
        '{"schema": 1, "interface": {"inputs": 3}}', "[" * 100_000, '{"schema": 1, "options": ' + "[" * 100_000,
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_record_is_refused(text: str) -> None:
    assert shown(text) is None


def test_fields_that_later_versions_add_are_left_out(record: dict[str, Any]) -> None:
    deep = json.dumps(record)[:-1] + ', "later": ' + "[" * 900 + "]" * 900 + "}"
    assert shown(deep) == shown(record)


@pytest.mark.parametrize("method", BATCH_METHODS)
def test_the_record_of_every_method_is_read(method: str) -> None:
    compiled = compile(filled(CLASSIFIER), method)
    metadata = {p.key: p.value for p in onnx.load_from_string(compiled.bytes).metadata_props}
    assert read_compiled(metadata) == json.loads(json.dumps(compiled.record))
