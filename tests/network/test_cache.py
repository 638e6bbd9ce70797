"""Records are read as they were written; anything else is no record, and the map stays what it is without one."""

import builtins
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_models import Make

from onnxcam import Explainer
from onnxcam.network import cache, first_opening, recorded, stored_graphs
from onnxcam.network.dry_run import run_trace
from onnxcam.surgeon.loading import read_model
from onnxcam.surgeon.preparation import prepare_model
from onnxcam.temporary import temporary
from onnxcam.types import BatchMode

RECORD = cache.ModelRecord({"x": (1, 3), "s": ()}, BatchMode.REWRITTEN, "why")
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "deep" / "cache"))
    monkeypatch.setattr(stored_graphs, "LARGEST", 0)  # records alone: a stored graph would be used in their place
    return tmp_path / "deep" / "cache"


def test_a_record_is_read_as_it_was_written(folder: Path) -> None:
    assert cache.load("a") is None
    cache.store("a", RECORD)
    assert cache.load("a") == RECORD
    assert [p.name for p in folder.iterdir()] == ["a.json"]


TEXTS: dict[str, bytes] = {
    "nothing": b"", "an open brace": b"{", "a list": b"[]", "an object": b"{}", "null": b"null", "a null byte": b"\0", "nested": b"[" * 10**5, "nested objects": b'{"a":' * 990 + b"1" + b"}" * 990,
    "no text": b"\xff\xfe", "nested as deep as may be": b'{"format": 4, "sha256": "x", "record": ' + b"[" * 900 + b"]" * 900 + b"}", "an endless line": b"1" * 10**6, "too large": b" " * (cache.LARGEST + 1),
    "a record of before": json.dumps({"shapes": {}, "values": {}, "taken": {}, "mode": "dynamic", "reason": "r"}).encode(), "a repeated key": b'{"format": 4, "format": 4, "sha256": "", "record": {}}',
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_damaged_record_is_none(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / "a.json").write_bytes(TEXTS[name])
    assert cache.load("a") is None
    cache.store("a", RECORD)
    assert cache.load("a") == RECORD


def test_every_changed_byte_makes_a_record_none(folder: Path) -> None:
    """Of a byte that only spaces out the text nothing follows."""
    cache.store("a", RECORD)
    path = folder / "a.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        for change in (bytes([whole[place] ^ 1]), b"", b"0"):
            data = whole[:place] + change + whole[place + 1 :]
            path.write_bytes(data)
            read = cache.load("a")
            assert read is None or (read == RECORD and json.loads(data) == json.loads(whole)), (place, change)


def test_a_record_counts_under_its_own_name_only(folder: Path) -> None:
    cache.store("a", RECORD)
    (folder / "a.json").rename(folder / "b.json")
    assert cache.load("b") is None


SEALED: dict[str, Any] = {
    "another field": {"shapes": {}, "mode": "dynamic", "reason": "r", "x": 1}, "no mode": {"shapes": {}, "reason": "r"}, "an unknown mode": {"shapes": {}, "mode": "m", "reason": "r"}, "a list as mode": {"shapes": {}, "mode": [], "reason": "r"},
    "shapes as a list": {"shapes": [], "mode": "dynamic", "reason": "r"}, "a text as shape": {"shapes": {"x": "1,3"}, "mode": "dynamic", "reason": "r"}, "a negative side": {"shapes": {"x": [-1]}, "mode": "dynamic", "reason": "r"},
    "a huge side": {"shapes": {"x": [10**30]}, "mode": "dynamic", "reason": "r"}, "a float": {"shapes": {"x": [1.0]}, "mode": "dynamic", "reason": "r"}, "a bool": {"shapes": {"x": [True]}, "mode": "dynamic", "reason": "r"},
    "many axes": {"shapes": {"x": [1] * 65}, "mode": "dynamic", "reason": "r"}, "escapes": {"shapes": {}, "mode": "dynamic", "reason": "\x1b[2J"}, "a long reason": {"shapes": {}, "mode": "dynamic", "reason": "r" * 10**5},
    "a list as shape of shapes": {"shapes": {"x": [[1]]}, "mode": "dynamic", "reason": "r"}, "no object": 3, "a number as reason": {"shapes": {}, "mode": "dynamic", "reason": 3},
}  # fmt: skip
"""Records with the right checksum that say something else."""


@pytest.mark.parametrize("name", SEALED)
def test_a_record_with_its_checksum_is_still_validated(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    path = folder / "a.json"
    path.write_text(cache._sealed("a", SEALED[name]))
    path.chmod(0o600)
    assert cache.load("a") is None


@posix
def test_only_a_regular_file_of_this_user_that_nobody_else_writes_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store("a", RECORD)
    path = folder / "a.json"
    assert path.stat().st_mode & 0o777 == 0o600
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        assert cache.load("a") is None
    path.chmod(0o644)
    assert cache.load("a") == RECORD
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert cache.load("a") is None
    monkeypatch.undo()
    monkeypatch.setenv("ONNXCAM_CACHE", str(folder))
    for name, make in {
        "link": lambda p: p.symlink_to(path),
        "pipe": os.mkfifo,
        "folder": lambda p: p.mkdir(),
        "device": lambda p: p.symlink_to("/dev/zero"),
    }.items():
        make(folder / f"{name}.json")
        assert cache.load(name) is None, name


def test_a_cache_that_others_made_readable_is_made_anew_for_this_user_only(folder: Path) -> None:
    cache.store("a", RECORD)
    assert folder.stat().st_mode & 0o077 == 0 or os.name != "posix"


def test_off_stores_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for word in ("off", "OFF", "0", "", " "):
        monkeypatch.setenv("ONNXCAM_CACHE", word)
        cache.store("a", RECORD)
        assert cache.load("a") is None
    assert not folder.exists()


def test_a_folder_of_any_kind_is_no_error(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home is expanded, a relative path is one of the working directory; a place that cannot be is none."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    for chosen, place in {"~/x": "home/x", "~": "home", "some/where": "some/where", ".": "."}.items():
        monkeypatch.setenv("ONNXCAM_CACHE", chosen)
        cache.store("a", RECORD)
        assert cache.load("a") == RECORD
        assert (tmp_path / place / "a.json").is_file()
    before = sorted(tmp_path.rglob("*"))
    for chosen in ("/proc/onnxcam", "file", "file/x", "/dev/null", "n" * 5000, "~nobody-of-this-name/x"):
        monkeypatch.setenv("ONNXCAM_CACHE", chosen)
        cache.store("a", RECORD)
        assert cache.load("a") is None
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_home_nothing_is_written_into_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ONNXCAM_CACHE")
    for path in ("~/.cache/onnxcam", "cache/onnxcam"):
        monkeypatch.setattr(cache, "user_cache_path", lambda *_, path=path, **__: Path(path))
        assert cache.folder() is None
        cache.store("a", RECORD)
    assert list(tmp_path.iterdir()) == []


STEPS = ("mkdir", "scandir", "open", "write", "close", "replace")


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt()], ids=type
)
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", STEPS)
def test_no_step_that_fails_leaves_a_file_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, before: bool, error: BaseException
) -> None:
    """Each operating system call fails in turn, before it does its work or after; the record of before stays."""
    cache.store("a", RECORD)
    other = cache.ModelRecord({"x": (2, 3)}, BatchMode.DYNAMIC, "other")
    with monkeypatch.context() as patched:
        fail_at(step, before, error, patched)
        if isinstance(error, OSError):
            cache.store("a", other)
        else:
            with pytest.raises(type(error)):
                cache.store("a", other)
    assert [p.name for p in folder.iterdir()] == ["a.json"]
    stored = (step == "replace" and not before) or (step == "scandir" and isinstance(error, OSError))
    assert cache.load("a") == (other if stored else RECORD), "a folder that cannot be swept takes records all the same"


def fail_at(step: str, before: bool, error: BaseException, patch: pytest.MonkeyPatch) -> None:
    def failing(call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            if before:
                raise error
            result = call(*args, **kwargs)
            if hasattr(result, "close"):
                result.close()
            raise error

        return inner

    if step in ("write", "close"):
        real = builtins.open

        def opened(*args: Any, **kwargs: Any) -> Any:
            file = real(*args, **kwargs)
            method = failing(getattr(file, step))

            class Wrapped:
                def __enter__(self) -> "Wrapped":
                    return self

                def __exit__(self, *_: object) -> None:
                    file.close()
                    if step == "close":
                        raise error

                def write(self, data: bytes) -> Any:
                    return method(data) if step == "write" else file.write(data)

            return Wrapped()

        patch.setattr(builtins, "open", opened)
    elif step == "mkdir":
        patch.setattr(Path, "mkdir", failing(Path.mkdir))
    else:
        patch.setattr(cache.os, step, failing(getattr(os, step)))


@posix
def test_what_a_killed_process_left_is_removed_and_a_living_ones_file_stays(folder: Path) -> None:
    cache.store("a", RECORD)
    dead = os.fork()
    if not dead:
        os._exit(0)
    os.waitpid(dead, 0)
    kept = temporary(folder)
    foreign = folder / "notes.tmp"
    left = folder / kept.name.replace(str(os.getpid()), str(dead), 1)
    for path in (left, kept, foreign):
        path.write_text("half a rec")
    cache.store("b", RECORD)
    assert {p.name for p in folder.iterdir()} == {"a.json", "b.json", kept.name, foreign.name}


def test_keys_differ_with_every_part() -> None:
    names = {cache.key("a", "b"), cache.key("ab"), cache.key("a", "c"), cache.key("b", "a")}
    assert len(names) == 4


MODEL = """<ir_version: 8, opset_import: ["": 17]> g (float[BATCH,3,24,24] x) => (float[BATCH,5] y)
<int64[2] tail = {4, -1}, int64[1] zero = {0}, int64[1] one = {1}>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  r = Relu (c)
  s = Shape (r)
  n = Slice (s, zero, one, zero)
  to = Concat <axis=0> (n, tail)
  flat = Reshape (r, to)
  pooled = ReduceMean <axes=[2], keepdims=0> (flat)
  y = MatMul (pooled, v)
}"""
"""Its Reshape takes the batch from a Shape, so that some values follow from shapes."""


def model(make: Make, batch: str) -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    built = make(MODEL.replace("BATCH", batch), check=False)
    for name, shape in {"w": (4, 3, 3, 3), "v": (4, 5)}.items():
        built.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        )
    return built


def explained(proto: onnx.ModelProto) -> tuple[bytes, str]:
    picture = np.random.default_rng(4).integers(0, 256, (24, 24, 3), np.uint8)
    with Explainer(proto, preset="imagenet", providers=["cpu"], threads=1, batch=4) as explainer:
        saliency = explainer(picture, 2)
        return saliency.map.tobytes(), explainer.batching.reason


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 10**30, 1.5, float("nan"), "", "x", "\x1b[2J", "dynamic", "rewritten", "looped", "r" * 10**5, [], [1], [[1]], [None], [0], [-1], [1] * 99, [1, 3, 24, 24], [2, 3, 24, 24],
    [1, 3, 24], [1, 3, 48, 48], [1, 4, 12, 12], [1, 4, 144], [1, 1], [4], [3], {}, {"x": [1]}, {"x": [1, 3, 24, 24]},
]  # fmt: skip


def mutants(value: Any) -> list[Any]:
    """Every copy of a JSON value with one part changed, removed, doubled or renamed."""
    changed: list[Any] = [other for other in VALUES if other != value or type(other) is not type(value)]
    if isinstance(value, int) and not isinstance(value, bool):
        changed += [value + 1, value - 1, value * 2, -value, str(value), float(value)]
    if isinstance(value, dict):
        for key, inner in value.items():
            rest = {k: v for k, v in value.items() if k != key}
            changed += [rest, {**rest, key + "_": inner}, *({**value, key: other} for other in mutants(inner))]
    if isinstance(value, list):
        for place, inner in enumerate(value):
            changed += [value[:place] + value[place + 1 :], [*value[:place], inner, *value[place:]]]
            changed += [[*value[:place], other, *value[place + 1 :]] for other in mutants(inner)]
    return changed


@pytest.mark.parametrize("batch", ["N", "1"])
def test_a_changed_record_gives_the_map_that_comes_without_one(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch, batch: str
) -> None:
    """Every field in turn, to many values, as somebody would who does not know of the checksum."""
    proto = model(make, batch)
    expected = explained(proto)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    assert explained(proto) == expected
    for number, mutant in enumerate(mutants(json.loads(whole))):
        path.write_text(json.dumps(mutant))
        assert cache.load(path.stem) is None, mutant
        if number % 2000 == 0:
            assert explained(proto) == expected
            assert path.read_bytes() == whole, "it is not learnt again"


@pytest.mark.parametrize("batch", ["N", pytest.param("1", marks=pytest.mark.slow)])
def test_a_changed_record_with_its_checksum_gives_the_map_that_comes_without_one(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch, batch: str
) -> None:
    """As somebody would who knows of the checksum; the modes that fit the model are as good as one another."""
    proto = model(make, batch)
    expected = explained(proto)
    (path,) = folder.iterdir()
    record = json.loads(path.read_text())["record"]
    accepted = []
    real = first_opening.trace_of

    def counted(*args: Any, **kwargs: Any) -> Any:
        trace = real(*args, **kwargs)
        accepted.append(trace is not None)
        return trace

    monkeypatch.setattr(first_opening, "trace_of", counted)
    every = 400 if batch == "N" else 1  # explained; of the others only what the record is taken for
    prepared = prepare_model(read_model(proto).model)
    for number, mutant in enumerate(mutants(record)):
        path.write_text(cache._sealed(path.stem, mutant))
        path.chmod(0o600)
        read = cache.load(path.stem)
        if read is None:
            continue
        if number % every and mutant["shapes"] != record["shapes"]:
            assert recorded.trace_of(read, prepared.model, prepared.image, (24, 24), assumed=False) is None, mutant
            continue
        accepted.clear()
        result = explained(proto)
        if accepted[0]:
            assert mutant["shapes"] == record["shapes"], "wrong shapes are taken"
            assert np.allclose(*(np.frombuffer(one, np.float32) for one in (result[0], expected[0])), atol=1e-5)
        else:
            assert result == expected, mutant


def test_the_values_that_follow_from_shapes_are_computed_again(make: Make) -> None:
    prepared = prepare_model(read_model(model(make, "N")).model)
    trace = run_trace(prepared.model, prepared.image, (24, 24), {})
    assert {"s", "n", "to"} <= set(trace.values)
    record = cache.ModelRecord(trace.shapes, BatchMode.DYNAMIC, "r")
    again = recorded.trace_of(record, prepared.model, prepared.image, (24, 24), assumed=False)
    assert again is not None
    assert {n: (v.dtype, v.tolist()) for n, v in again.values.items()} == {
        n: (v.dtype, v.tolist()) for n, v in trace.values.items()
    }


def test_a_record_in_a_folder_that_others_may_write_counts_under_its_own_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("ONNXCAM_CACHE", str(folder))
    record = cache.ModelRecord({"x": (1, 3, 4, 4)}, BatchMode.DYNAMIC, "as it was")
    cache.store("a" * 64, record)
    os.link(folder / f"{'a' * 64}.json", folder / f"{'b' * 64}.json")
    (folder / f"{'c' * 64}.json").symlink_to(folder / f"{'a' * 64}.json")
    assert cache.load("a" * 64) == record
    assert cache.load("b" * 64) is None
    assert cache.load("c" * 64) is None
