"""The journal: rows come back as they went in, each once; what is damaged, foreign, newer or taken is refused."""

import dataclasses
import hashlib
import math
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated_rows import MODEL, OPENING, key_of, keys_of, plain_row, result_of, row_of_key

from onnxcam.errors import OnnxCamError, OutputError, PictureError
from onnxcam.evaluation import hashes, journal_file
from onnxcam.evaluation.journal import Journal
from onnxcam.evaluation.map_files import PictureMaps, joined, read_maps, write_maps
from onnxcam.evaluation.model_request import ModelIdentity
from onnxcam.evaluation.row_keys import without_map
from onnxcam.evaluation.rows import ItemResult
from onnxcam.evaluation.run_record import RunRecord
from onnxcam.evaluation.runs import RunState
from onnxcam.files import PICTURE, file_sha256
from onnxcam.types import Placement


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "journal.sqlite"


def planned(journal: Journal, *keys: Any, **options: Any) -> int:
    """A run with the plans of these pictures."""
    run = journal.begin_run(RunRecord())
    for position, keys_of_picture in enumerate(keys):
        journal.plan(run, position, keys_of_picture, **options)
    return run


def test_rows_come_back_as_they_went_in(path: Path) -> None:
    keys = keys_of("cats/a.jpg")
    values: list[dict[str, Any]] = [
        {}, {"value": None, "reason": "a constant map", "note": "doubtful", "label": 7, "curve": None},
        {"value": math.inf, "probability": None, "target_index": None, "target_name": None, "label": None},
        {"value": np.float32(0.1), "passes": np.int64(4), "label": np.int64(2), "probability": np.float32(0.3)},
        {"value": 1e-300, "target_name": "naïve 猫\0", "curve": np.zeros((0, 2), np.float32)}, {"value": -0.0},
    ]  # fmt: skip
    rows = tuple(row_of_key(key, **changed) for key, changed in zip(keys, values, strict=True))
    with Journal(path) as journal:
        journal.add(ItemResult("cats/a.jpg", rows))
        assert [plain_row(row) for row in journal.rows()] == [plain_row(row) for row in rows]
    with Journal(path, read_only=True) as journal:
        assert [plain_row(row) for row in journal.rows()] == [plain_row(row) for row in rows]


def test_a_value_that_is_no_number_stays_one(path: Path) -> None:
    with Journal(path) as journal:
        journal.add(ItemResult("a", (row_of_key(key_of("a"), value=math.nan, probability=math.nan),)))
        (row,) = journal.rows()
    assert row.value is not None
    assert math.isnan(row.value)
    assert row.probability is not None
    assert math.isnan(row.probability)


def test_names_that_are_no_text_are_escaped(path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    with Journal(path) as journal:
        run = planned(journal, keys_of(name))
        journal.add(result_of(keys_of(name)))
        assert not journal.plan(run, 1, keys_of(name))
        assert {row.key.picture for row in journal.rows()} == {"caf\\udce9.jpg"}


def test_a_row_is_stored_once_and_the_first_one_stays(path: Path) -> None:
    keys = keys_of("a")
    with Journal(path) as journal:
        journal.add(result_of(keys))
        journal.add(ItemResult("a", tuple(row_of_key(key, value=-1.0) for key in keys)))
        assert [plain_row(row) for row in journal.rows()] == [plain_row(row) for row in result_of(keys).rows]


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(key_of("a"))])
def test_every_field_of_the_key_makes_another_row(path: Path, field: str) -> None:
    key = key_of("a")
    other = dataclasses.replace(key, **{field: '{"other":1}'})
    with Journal(path) as journal:
        journal.add(ItemResult("a", (row_of_key(key, value=1.0),)))
        assert journal.plan(journal.begin_run(RunRecord()), 0, (other,)) == (other,)
        journal.add(ItemResult("a", (row_of_key(other, value=2.0),)))
        assert {row.key: row.value for row in journal.rows()} == {key: 1.0, other: 2.0}


def test_a_run_has_the_rows_of_its_plan_alone_in_the_order_of_its_pictures(path: Path) -> None:
    with Journal(path) as journal:
        journal.add(result_of(keys_of("a", options='{"step":9}')))
        for picture in "cab":
            journal.add(result_of(keys_of(picture)))
        first = planned(journal, keys_of("a"), keys_of("b"))
        second = planned(journal, keys_of("c", ("grad-cam",)), keys_of("a", options='{"step":9}'))
        assert [row.key for row in journal.rows(run=first)] == [*keys_of("a"), *keys_of("b")]
        assert {row.key for row in journal.rows(run=second)} == {
            *keys_of("c", ("grad-cam",)), *keys_of("a", options='{"step":9}'),
        }  # fmt: skip
        assert [row.key.picture for row in journal.rows(run=second)][:3] == ["c"] * 3
        assert len(list(journal.rows())) == 24


def test_rows_are_filtered(path: Path) -> None:
    with Journal(path) as journal:
        for picture in "ab":
            journal.add(result_of(keys_of(picture)))
        run = planned(journal, keys_of("a"))
        assert [row.key for row in journal.rows(picture="b", metric="road")] == [
            key for key in keys_of("b") if key.metric == "road"
        ]
        assert len(list(journal.rows(run=run, method="score-cam"))) == 3
        assert len(list(journal.rows(model=MODEL))) == 12
        assert not list(journal.rows(model=OPENING))


def test_rows_of_a_run_have_the_order_of_its_request_whatever_earlier_runs_had(path: Path) -> None:
    methods = ("layer-cam", "grad-cam", "score-cam")
    error = row_of_key(without_map(key_of("a", "layer-cam")), value=None, curve=None, error="no gradient rule")
    with Journal(path) as journal:
        planned(journal, keys_of("a", ("grad-cam",)), keys_of("b", methods[::-1]))
        run = planned(journal, keys_of("a", methods), keys_of("b", methods))
        journal.add(result_of(keys_of("b", methods[::-1])))
        journal.add(ItemResult("a", (*result_of(keys_of("a", methods[1:])).rows, error)))
        rows = [row.key for row in journal.rows(run=run)]
        assert rows == [error.key, *keys_of("a", methods[1:]), *keys_of("b", methods)]
        assert [row.key for row in journal.rows_at(run, 1)] == list(keys_of("b", methods))


def test_what_is_missing_is_named(path: Path) -> None:
    with Journal(path) as journal:
        run = journal.begin_run(RunRecord())
        keys = keys_of("a")
        assert journal.plan(run, 0, keys) == keys
        journal.add(result_of(keys[:4]))
        assert journal.plan(run, 0, keys) == keys[4:]
        journal.add(result_of(keys[4:]))
        assert journal.plan(run, 0, keys) == ()
        changed = tuple(dataclasses.replace(key, picture_sha256="other") for key in keys)
        assert journal.plan(run, 1, changed) == changed


def test_a_row_without_a_map_stands_for_all_metrics_of_the_method(path: Path) -> None:
    keys = keys_of("a", options='{"label":"cat","step":3}')
    error = row_of_key(without_map(keys[0]), value=None, curve=None, error="no gradient rule")
    with Journal(path) as journal:
        journal.add(ItemResult("a", (error, *(row_of_key(key) for key in keys[3:]))))
        run = journal.begin_run(RunRecord())
        assert journal.plan(run, 0, keys) == ()
        assert {row.key for row in journal.rows(run=run)} == {error.key, *keys[3:]}
        assert journal.plan(run, 0, keys, retry_errors=True) == keys[:3]


def test_an_error_of_time_or_memory_is_tried_again(path: Path) -> None:
    keys = keys_of("a", ("grad-cam", "rise"))
    late = row_of_key(without_map(keys[0]), value=None, curve=None, error="took more than 120 s", transient=True)
    full = row_of_key(keys[3], value=None, curve=None, error="out of memory", transient=True)
    with Journal(path) as journal:
        journal.add(ItemResult("a", (late, full, *(row_of_key(key) for key in keys[4:]))))
        run = journal.begin_run(RunRecord())
        assert {row.key for row in journal.rows() if row.transient} == {late.key, full.key}
        assert journal.plan(run, 0, keys) == keys[:4]
        journal.add(result_of(keys[:4]))
        assert journal.plan(run, 0, keys) == ()
        assert not [row for row in journal.rows() if row.transient or row.error]


def test_a_second_try_replaces_errors(path: Path) -> None:
    keys = keys_of("a", ("grad-cam",))
    failed = (
        row_of_key(without_map(keys[0]), value=None, curve=None, error="out of memory"),
        row_of_key(key_of("a", "rise"), value=None, error="too slow"),
    )
    with Journal(path) as journal:
        journal.add(ItemResult("a", failed))
        journal.add(ItemResult("a", (*(row_of_key(key) for key in keys), row_of_key(failed[1].key))))
        assert sorted(map(plain_row, journal.rows()), key=str) == sorted(
            [plain_row(row_of_key(key)) for key in (*keys, failed[1].key)], key=str
        )


def test_a_result_is_stored_whole_or_not_at_all(path: Path) -> None:
    keys = keys_of("b")
    broken = [*(row_of_key(key) for key in keys[:5]), row_of_key(keys[5], passes="many")]
    with Journal(path) as journal:
        run = planned(journal, keys_of("a"))
        journal.add(result_of(keys_of("a")))
        with pytest.raises(ValueError, match="many"):
            journal.add(ItemResult("b", tuple(broken)))
        assert {row.key.picture for row in journal.rows()} == {"a"}
        assert journal.plan(run, 1, keys) == keys
        journal.add(result_of(keys))  # numbers of what was undone are not used again
        assert {row.key for row in journal.rows(run=run)} == {*keys_of("a"), *keys}


def test_a_reader_sees_what_is_committed_while_a_picture_is_written(path: Path) -> None:
    with Journal(path) as journal:
        for picture in "abc":
            journal.add(result_of(keys_of(picture)))
        rows = journal.rows()
        seen = [next(rows)]
        journal.add(result_of(keys_of("d")))
        with Journal(path, read_only=True) as other:
            assert len(list(other.rows())) == 24
        assert len([*seen, *rows]) == 18


def test_rows_and_plans_survive_a_kill(path: Path) -> None:
    """What was committed is there; what was under way is not. The run that died is marked by the next one."""
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from evaluated_rows import keys_of, result_of
from onnxcam.evaluation.journal import Journal
from onnxcam.evaluation.run_record import RunRecord
journal = Journal({str(path)!r})
run = journal.begin_run(RunRecord(command="evaluate"))
for position, picture in enumerate("ab"):
    journal.plan(run, position, keys_of(picture))
    journal.add(result_of(keys_of(picture)))
journal.plan(run, 2, keys_of("c"))
journal._connection.execute("INSERT INTO pictures VALUES (77, 'half', 'done')")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with Journal(path) as journal:
        (run,) = journal.runs()
        assert (run.state, run.record.command, run.record.finished) == (RunState.KILLED, "evaluate", "")
        assert [row.key.picture for row in journal.rows(run=run.number)] == [*"aaaaaabbbbbb"]
        assert not journal._connection.execute("SELECT * FROM pictures WHERE key IN ('half', 'c')").fetchall()


def test_commits_reach_the_disk(path: Path) -> None:
    """FULL: every commit to the write-ahead log is synchronised, so that a loss of power costs none."""
    with Journal(path) as journal:
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_closed_journal_is_one_file_that_is_whole(path: Path) -> None:
    with Journal(path) as journal:
        run = planned(journal, keys_of("a"))
        journal.add(result_of(keys_of("a")))
        journal.plan(run, 1, keys_of("b"))
    assert sorted(file.name for file in path.parent.iterdir()) == ["journal.sqlite", "journal.sqlite-lock"]
    assert path.read_bytes()[18:20] == b"\1\1"  # no write-ahead log, which read-only media could not hold
    with sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True) as connection:
        assert connection.execute("SELECT count(*) FROM measurements").fetchone() == (6,)
        assert connection.execute("SELECT count(*) FROM run_pictures").fetchone() == (2,)


def test_what_was_run_is_recorded(path: Path) -> None:
    record = RunRecord(
        "onnxcam evaluate m.onnx data", engine="local, 2 workers", versions={"onnxcam": "1"}, data="photos",
        format="folder", options={"methods": ["grad-cam"], "step": None}, skipped={"x.jpg": "no such file"},
    )  # fmt: skip
    with Journal(path) as journal:
        number = journal.begin_run(record)
        journal.add_model(number, ModelIdentity(MODEL, OPENING, '{"layer":"last-conv"}', "m.onnx"))
        (run,) = journal.runs()
        assert (run.number, run.state, run.record.finished) == (number, RunState.RUNNING, "")
        journal.end_run(number, RunState.FINISHED)
        second = journal.begin_run(RunRecord())
        journal.end_run(second, RunState.STOPPED)
        run, stopped = journal.runs()
    openings = {OPENING: {"layer": "last-conv"}}
    assert run.record == dataclasses.replace(
        record, openings=openings, started=run.record.started, finished=run.record.finished
    )
    assert run.record.started <= run.record.finished
    assert (run.state, stopped.state, stopped.record.finished) == (RunState.FINISHED, RunState.STOPPED, "")


# Files that are hashed.


def test_a_file_is_read_again_only_where_it_changed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, reads = tmp_path / "a.png", list[str]()

    def counted(place: Any, kind: Any, real: Any = file_sha256) -> str:
        reads.append(str(place))
        return str(real(place, kind))

    monkeypatch.setattr("onnxcam.evaluation.journal.file_sha256", counted)
    monkeypatch.setattr(hashes, "SETTLED", -1.0)  # of the inode's time, which no test can set back
    picture.write_bytes(b"one")
    long_ago = time.time() - 100
    os.utime(picture, (long_ago, long_ago))
    with Journal(path) as journal:
        first = journal.sha256(picture)
        assert journal.sha256(picture) == first
    assert len(reads) == 1
    with Journal(path) as journal:
        assert journal.sha256(picture) == first
        assert len(reads) == 1
        picture.write_bytes(b"two")  # of the same size
        os.utime(picture, (long_ago + 1, long_ago + 1))
        assert journal.sha256(picture) == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
        replaced = tmp_path / "b.png"
        replaced.write_bytes(b"six")
        os.utime(replaced, (long_ago + 1, long_ago + 1))
        replaced.rename(picture)  # of the same size and time
        assert journal.sha256(picture) == file_sha256(picture, PICTURE)
    assert len(reads) == 3


@pytest.mark.skipif(os.name == "nt", reason="Windows tells no time of an inode's change")
def test_a_file_changed_in_place_with_its_old_size_and_time_is_read_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED", -1.0)
    picture, long_ago = tmp_path / "a.png", time.time() - 100
    with Journal(path) as journal:
        for content in (b"one", b"two"):
            with open(picture, "wb") as file:
                file.write(content)
            os.utime(picture, (long_ago, long_ago))
            assert journal.sha256(picture) == hashlib.sha256(content).hexdigest()
            time.sleep(0.05)  # a tick of the file system's clock


def test_a_file_that_just_changed_is_read_again(path: Path, tmp_path: Path) -> None:
    """It may change once more within one tick of the file system's clock, without another time."""
    picture = tmp_path / "a.png"
    picture.write_bytes(b"one")
    now = time.time()
    os.utime(picture, (now, now))
    with Journal(path) as journal:
        first = journal.sha256(picture)
        with open(picture, "r+b") as file:
            file.write(b"two")
        os.utime(picture, (now, now))
        assert journal.sha256(picture) != first


def test_a_picture_that_cannot_be_read_is_an_error(path: Path, tmp_path: Path) -> None:
    with Journal(path) as journal, pytest.raises(PictureError, match="no such file"):
        journal.sha256(tmp_path / "missing.png")


# Maps that are kept.


def maps_of(*methods: str, value: float = 0.5) -> PictureMaps:
    place = Placement((40, 30), (0.5, 0.0, 30.0, 29.5))
    return PictureMaps({m: np.full((4, 3), value, np.float32) for m in methods}, dict.fromkeys(methods, place))


def kept(picture: str, methods: tuple[str, ...], names: tuple[str, ...]) -> ItemResult:
    maps = maps_of(*names)
    keys = {name: without_map(key_of(picture, name.lower())) for name in names}
    return ItemResult(picture, result_of(keys_of(picture, methods)).rows, maps.maps, maps.placements, keys)


def test_maps_are_kept_in_a_file_for_each_picture(path: Path) -> None:
    with Journal(path) as journal:
        run = planned(journal, keys_of("cats/a.jpg"), keys_of("dogs/a.jpg"))
        for picture in ("cats/a.jpg", "dogs/a.jpg"):
            journal.add(kept(picture, ("grad-cam", "score-cam"), ("Grad-Cam", "Score-Cam")))
        first, second = journal.kept_maps(run=run)
        assert (first.picture, second.picture) == ("cats/a.jpg", "dogs/a.jpg")
        assert first.file.parent == path.parent / "maps"
        assert first.file.name.startswith("a-")
        assert journal.kept_maps(picture="dogs/a.jpg") == (second,)
        maps = read_maps(first.file)
    assert maps.placements == maps_of("Grad-Cam", "Score-Cam").placements
    with np.load(first.file) as arrays:
        np.testing.assert_array_equal(arrays["Score-Cam"], maps.maps["Score-Cam"])


def test_maps_of_a_later_method_are_added_to_the_file(path: Path) -> None:
    with Journal(path) as journal:
        journal.add(kept("a", ("grad-cam",), ("Grad-Cam",)))
        journal.add(kept("a", ("score-cam",), ("Score-Cam",)))
        (file,) = journal.kept_maps()
    assert set(read_maps(file.file).maps) == {"Grad-Cam", "Score-Cam"}


def test_each_label_and_each_map_of_another_tool_has_its_file(path: Path) -> None:
    options = ('{"label":1}', '{"label":2}', '{"label":2,"map":"00ff"}', '{"label":2,"map":"11ff"}')
    with Journal(path) as journal:
        runs = [planned(journal, keys_of("a", ("ours",), options=each)) for each in options]
        for value, each in enumerate(options):
            rows = result_of(keys_of("a", ("ours",), options=each)).rows
            maps = maps_of("Ours", value=value / 4)
            journal.add(ItemResult("a", rows, maps.maps, maps.placements, {"Ours": without_map(rows[0].key)}))
        for value, (run, each) in enumerate(zip(runs, options, strict=True)):
            (kept_file,) = journal.kept_maps(run=run)
            assert kept_file.options == each
            np.testing.assert_array_equal(read_maps(kept_file.file).maps["Ours"], np.float32(value / 4))


def test_maps_of_several_files_of_a_picture_are_joined() -> None:
    both = joined([maps_of("a", value=0.25), maps_of("b")])
    assert both is not None
    assert both.placements == maps_of("a", "b").placements
    assert {name: float(values[0, 0]) for name, values in both.maps.items()} == {"a": 0.25, "b": 0.5}
    assert joined([]) is None


def test_a_map_that_is_to_be_kept_and_is_not_there_is_computed_alone(path: Path) -> None:
    keys = keys_of("a")
    with Journal(path) as journal:
        run = planned(journal, keys)
        journal.add(result_of(keys))
        assert journal.plan(run, 0, keys) == ()
        alone = (without_map(keys[3]),)
        assert journal.plan(run, 0, keys, maps_of={"score-cam"}) == alone
        more = key_of("a", "score-cam", "adcc", "")
        assert journal.plan(run, 0, (*keys, more), maps_of={"score-cam"}) == (more,), "which gives the map too"
        journal.add(dataclasses.replace(kept("a", ("score-cam",), ("Score-Cam",)), rows=()))
        assert journal.plan(run, 0, keys, maps_of={"score-cam"}) == ()
        assert [row.key for row in journal.rows(run=run)] == list(keys)
        journal.kept_maps()[0].file.unlink()
        assert journal.plan(run, 0, keys, maps_of={"score-cam"}) == alone


def test_a_method_called_as_an_argument_of_numpy_keeps_its_map(tmp_path: Path) -> None:
    write_maps(tmp_path / "a.npz", maps_of("file", "arr_0", "a/b"))
    assert set(read_maps(tmp_path / "a.npz").maps) == {"file", "arr_0", "a/b"}


def test_damaged_maps_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(OutputError, match="damaged maps"):
        write_maps(tmp_path / "a.npz", maps_of("grad-cam"))


# What is refused.


def test_a_second_writer_is_refused_in_this_process_and_another(path: Path) -> None:
    with Journal(path):
        with pytest.raises(OutputError, match=r"is being written by another run; wait until"):
            Journal(path)
        code = f"from pathlib import Path; from onnxcam.evaluation.journal_file import open_writer; open_writer(Path({str(path)!r}))"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "is being written by another run" in ended.stderr
    Journal(path).close()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (99, "of a newer onnxcam, and this one needs {}; update"),
        (1, "of an older onnxcam, and this one needs {}; name"),
    ],
)
def test_a_journal_of_another_schema_is_refused_with_the_way_out(path: Path, version: int, words: str) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(OutputError) as refusal:
            Journal(path, read_only=read_only)
        assert f"{path} has the schema {version} {words.format(journal_file.SCHEMA_VERSION)}" in str(refusal.value)
        assert ("update onnxcam" in str(refusal.value)) is (version > journal_file.SCHEMA_VERSION)
        assert "another folder with -o" in str(refusal.value)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_stays_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(OutputError, match="another program's database"):
        Journal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a text file\n", b"\0" * 5000, b"SQLite format 4\0" + b"\1" * 5000])
def test_what_is_no_database_is_refused_and_stays_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(OutputError, match="is no journal of onnxcam"):
            Journal(path, read_only=read_only)
    assert path.read_bytes() == content


@pytest.mark.parametrize("at", [0, 100, 5000])
def test_a_damaged_journal_is_a_sentence(path: Path, at: int) -> None:
    with Journal(path) as journal:
        run = planned(journal, *(keys_of(str(i)) for i in range(60)))
        for i in range(60):
            journal.add(result_of(keys_of(str(i))))
    content = path.read_bytes()
    path.write_bytes(content[:at] + b"\xff" * (len(content) - at))
    with pytest.raises(OutputError, match=r"a damaged journal|is no journal of onnxcam"), Journal(path) as journal:
        list(journal.rows(run=run))


def test_half_a_journal_is_a_sentence(path: Path) -> None:
    with Journal(path) as journal:
        for i in range(100):
            journal.add(result_of(keys_of(str(i))))
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(OutputError, match="a damaged journal"), Journal(path) as journal:
        list(journal.rows())


def test_a_file_that_a_kill_left_empty_is_begun(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with Journal(path) as journal:
        journal.add(result_of(keys_of("a")))
        assert len(list(journal.rows())) == 6


def test_a_full_disk_is_a_sentence_and_what_is_finished_stays(path: Path) -> None:
    with Journal(path) as journal:
        run = planned(journal, keys_of("a"))
        journal.add(result_of(keys_of("a")))
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        long = tuple(row_of_key(key, reason="x" * 100_000) for key in keys_of("b"))
        with pytest.raises(OutputError, match="the disk is full; make room and run the same again"):
            journal.add(ItemResult("b", long))
        assert {row.key.picture for row in journal.rows(run=run)} == {"a"}
        journal._connection.execute("PRAGMA max_page_count = 1000000")
        journal.add(ItemResult("b", long))
        assert len(list(journal.rows())) == 12


def test_a_file_in_the_way_of_the_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        Journal(tmp_path / "results" / "journal.sqlite")


def test_a_folder_in_the_place_of_the_journal_is_a_sentence(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(OutputError, match="a folder of this name is in the way"):
        Journal(path)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has other rights")
def test_a_folder_that_may_not_be_written_is_a_sentence_and_can_be_read(path: Path) -> None:
    with Journal(path) as journal:
        journal.add(result_of(keys_of("a")))
    for folder in (path.parent, *path.parents[1:4]):
        folder.chmod(0o755)
    path.parent.chmod(0o555)
    path.chmod(0o444)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def try_it() -> None:
        if os.geteuid() == 0:
            os.setegid(65534)
            os.seteuid(65534)
        with Journal(path, read_only=True) as journal:
            answers.put(len(list(journal.rows())))
        try:
            Journal(path)
        except OnnxCamError as error:
            answers.put(str(error))

    process = context.Process(target=try_it)
    process.start()
    process.join(30)
    path.parent.chmod(0o755)
    assert not process.exitcode
    assert answers.get() == 6
    assert "cannot write" in answers.get()


def test_reading_what_is_not_there_is_a_sentence(path: Path) -> None:
    with pytest.raises(OnnxCamError, match="no such journal"):
        Journal(path, read_only=True)
    assert not path.parent.exists()


def test_a_journal_that_is_read_cannot_be_written(path: Path) -> None:
    Journal(path).close()
    with Journal(path, read_only=True) as journal, pytest.raises(OnnxCamError, match="opened for reading, or closed"):
        journal.add(result_of(keys_of("a")))


def test_a_path_with_signs_of_an_address_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "50% #1?mode=memory" / "journal.sqlite"
    with Journal(path) as journal:
        journal.add(result_of(keys_of("a")))
    assert path.stat().st_size > journal_file.BUSY
