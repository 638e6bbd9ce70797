"""A stored graph is read as it was written; anything else is none, never an error and never another graph."""

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

import numpy as np
import onnx
import pytest
from forked import in_fork
from small_models import CLASSIFIER, filled

from onnxcam.network import stored_graphs
from onnxcam.network.stored_graphs import Stored, load, refers_to_files, store

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes")


@dataclass(frozen=True)
class Data:
    """What the tests store beside a graph."""

    name: str
    sides: tuple[int | None, ...]


DATA, GRAPH = Data("x", (1, None)), bytes(range(256))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


def test_a_graph_is_read_as_it_was_written(folder: Path) -> None:
    assert load("a", Data) is None
    store("a", GRAPH, DATA)
    assert load("a", Data) == Stored(GRAPH, DATA)
    assert [p.name for p in folder.iterdir()] == ["a.graph"]


def test_arrays_come_back_with_the_graph() -> None:
    store("a", GRAPH, {"x": np.arange(6, dtype=np.float32).reshape(2, 3)})
    stored = load("a", dict[str, np.ndarray])  # of another type than it was written with
    assert stored is None


def test_every_changed_byte_makes_it_none(folder: Path) -> None:
    store("a", GRAPH, DATA)
    path = folder / "a.graph"
    whole = path.read_bytes()
    for place in range(len(whole)):
        for change in (bytes([whole[place] ^ 1]), bytes([whole[place] ^ 0x80]), b"", b"\0\0"):
            data = whole[:place] + change + whole[place + 1 :]
            path.write_bytes(data)
            assert data == whole or load("a", Data) is None, (place, change)


def test_every_truncated_file_is_none(folder: Path) -> None:
    store("a", GRAPH, DATA)
    path = folder / "a.graph"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert load("a", Data) is None, size
    path.write_bytes(whole + b"\0")
    assert load("a", Data) is None


def test_a_file_that_claims_a_huge_length_is_none(folder: Path) -> None:
    store("a", GRAPH, DATA)
    path = folder / "a.graph"
    whole = path.read_bytes()
    start = stored_graphs.HEAD - 8
    path.write_bytes(whole[:start] + struct.pack("<Q", 2**63) + whole[start + 8 :])
    assert load("a", Data) is None


def test_a_graph_counts_under_its_own_name_and_type_only(folder: Path) -> None:
    store("a", GRAPH, DATA)
    assert load("a", NoneType) is None
    (folder / "a.graph").rename(folder / "b.graph")
    assert load("b", Data) is None


def test_a_key_depends_on_its_parts_and_on_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    key = stored_graphs.key("a", "b")
    assert key == stored_graphs.key("a", "b")
    assert key != stored_graphs.key("ab")
    monkeypatch.setattr(stored_graphs, "code_of", lambda packages: "other code")
    assert stored_graphs.key("a", "b") != key


def external(graph: onnx.ModelProto) -> bytes:
    """The model with its first weights in a file, as ONNX writes it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    onnx.external_data_helper.set_external_data(copy.graph.initializer[0], "/etc/passwd")
    copy.graph.initializer[0].ClearField("raw_data")
    return copy.SerializeToString()


def test_a_graph_that_names_a_file_is_neither_stored_nor_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = external(filled(CLASSIFIER))
    assert refers_to_files(graph)
    assert not refers_to_files(filled(CLASSIFIER).SerializeToString())
    store("a", graph, DATA)
    assert load("a", Data) is None
    assert not list(folder.glob("*"))
    with monkeypatch.context() as patch:  # a program that runs as this user can write one with a right checksum
        patch.setattr(stored_graphs, "refers_to_files", lambda graph: False)
        store("a", graph, DATA)
        assert load("a", Data) is not None
    assert load("a", Data) is None


def test_a_graph_that_loads_a_compiled_one_is_refused() -> None:
    node = onnx.helper.make_node("EPContext", [], ["y"], domain="com.microsoft", ep_cache_context="/tmp/x")
    assert refers_to_files(node.SerializeToString())


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_none(folder: Path, mode: int) -> None:
    store("a", GRAPH, DATA)
    (folder / "a.graph").chmod(mode)
    assert load("a", Data) is None


@posix
def test_only_its_user_may_read_it_and_links_are_not_followed(folder: Path) -> None:
    store("a", GRAPH, DATA)
    assert (folder / "a.graph").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "a.graph").rename(folder / "elsewhere")
    (folder / "a.graph").symlink_to(folder / "elsewhere")
    assert load("a", Data) is None
    os.unlink(folder / "a.graph")
    os.mkfifo(folder / "a.graph")
    assert load("a", Data) is None


@posix
def test_a_folder_that_cannot_be_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "file" / "cache"))
    store("a", GRAPH, DATA)
    assert load("a", Data) is None


def test_a_cache_that_is_off_stores_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", "off")
    store("a", GRAPH, DATA)
    assert load("a", Data) is None
    assert not folder.exists()


def test_the_files_that_were_not_used_for_longest_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store("a", GRAPH, DATA)
    size = (folder / "a.graph").stat().st_size
    monkeypatch.setattr(stored_graphs, "MOST", 3 * size)
    for age, name in ((3, "a"), (2, "b"), (1, "c")):
        store(name, GRAPH, DATA)
        os.utime(folder / f"{name}.graph", (1e9 - age, 1e9 - age))
    assert load("a", Data) is not None  # used now
    store("d", GRAPH, DATA)
    assert {p.name for p in folder.iterdir()} == {"a.graph", "c.graph", "d.graph"}


def test_a_graph_that_is_too_large_is_not_stored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_graphs, "LARGEST", 400)
    store("a", bytes(400), DATA)
    assert load("a", Data) is None


def test_threads_that_write_and_read_at_once_see_whole_graphs() -> None:
    graphs = {bytes([i]) * 10_000 for i in range(4)}

    def work(graph: bytes) -> None:
        for _ in range(25):
            store("a", graph, DATA)
            stored = load("a", Data)
            assert stored is not None
            assert stored.graph in graphs

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, graphs))


@posix
def test_processes_that_write_at_once_leave_one_whole_graph(folder: Path) -> None:
    def work(graph: bytes) -> bool:
        for _ in range(25):
            store("a", graph, DATA)
        return load("a", Data) is not None

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda i: in_fork(lambda: work(bytes([i]) * 10_000)), range(2))) == [True, True]
    stored = load("a", Data)
    assert stored is not None
    assert len(set(stored.graph)) == 1
    assert [p.name for p in folder.iterdir()] == ["a.graph"]
