"""Journal: the rows of evaluations in one SQLite file, each once, so that a run which was stopped or killed goes on.

The driver (evaluate.py) writes it: a transaction for each picture, which has all of its rows or none. What a run
requests of a picture is its plan; `rows(run=...)` gives the rows of the plans of that run and no others, so that rows
of other options, which lie in the same file, are not mixed in. journal_file.py has the schema, and says who may write
it and what survives a kill; map_files.py the files of maps that are kept.
"""

import os
import sqlite3
from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from onnxcam.errors import OnnxCamError
from onnxcam.evaluation.hashes import Stamp, stamp_of
from onnxcam.evaluation.journal_file import close_writer, open_reader, open_writer, sentences
from onnxcam.evaluation.journal_rows import (
    ORDER,
    ORDER_RUN,
    SELECT,
    SELECT_MAPS,
    SELECT_MAPS_OF_RUN,
    SELECT_RUN,
    UPSERT,
    plain,
    row_of,
    values_of,
)  # fmt: skip
from onnxcam.evaluation.map_files import PictureMaps, map_file_name, write_maps
from onnxcam.evaluation.model_request import ModelIdentity, canonical_json
from onnxcam.evaluation.row_keys import without_map
from onnxcam.evaluation.rows import ItemResult, Row, RowKey
from onnxcam.evaluation.run_record import RunRecord
from onnxcam.evaluation.runs import KeptMaps, Run, RunState
from onnxcam.files import PICTURE, file_sha256, parse_json

NAME = "journal.sqlite"
"""Of the file in a folder of results."""
MAPS = "maps"
"""The folder of maps beside it."""
MOST_CACHED = 50_000
"""Settings and plans that are remembered, so that memory is constant where each picture has its own."""
PLANNED_AT_ONCE = 1_000
"""Pictures whose plans share a transaction where nothing is computed: a commit waits for the disk."""


@dataclass
class _Known:
    """Numbers of what the file has, so that it is not asked for each row."""

    models: dict[tuple[str, str], int] = field(default_factory=dict)
    settings: dict[tuple[str, ...], tuple[int, int]] = field(default_factory=dict)
    plans: dict[tuple[int, ...], int] = field(default_factory=dict)
    names: dict[tuple[str, int], str] = field(default_factory=dict)

    def clear(self) -> None:
        for table in (self.models, self.settings, self.plans, self.names):
            table.clear()


class Journal:
    """The journal at `path`, made if it is missing, or opened for reading alone; use it in a `with` statement.

    One writer at a time: a second one is refused, in this process or another. Readers may come and go meanwhile. Not
    for several threads at once. Raises OutputError for what cannot be written, is damaged, is another program's or a
    newer onnxcam's, and OnnxCamError where there is nothing to read.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._known = _Known()
        self._planned = 0
        self._lock: sqlite3.Connection | None = None
        if read_only:
            self._connection = open_reader(self.path)
        else:
            self._connection, self._lock = open_writer(self.path)
            with sentences(self.path):
                self._connection.execute(
                    "UPDATE runs SET state = ? WHERE state = ?", (RunState.KILLED, RunState.RUNNING)
                )

    @property
    def maps_folder(self) -> Path:
        """Where the files of maps lie."""
        return self.path.parent / MAPS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Commits what was planned, and lets others write."""
        if self._lock is None:
            self._connection.close()
            return
        lock, self._lock = self._lock, None
        try:
            with sentences(self.path):
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")
        finally:
            close_writer(self._connection, lock)

    def begin_run(self, record: RunRecord) -> int:
        """Records a run that starts now, and returns its number. options and openings of the record are plain JSON."""
        text = canonical_json(asdict(record))
        with self._transaction():
            number = self._connection.execute(
                "INSERT INTO runs (started, finished, state, record) VALUES (?, '', ?, ?)",
                (_now(), RunState.RUNNING, text),
            ).lastrowid
        assert number is not None
        return number

    def add_model(self, run: int, model: ModelIdentity) -> None:
        """Records that the run is about this model too."""
        with self._transaction():
            number = self._model(model.sha256, model.opening)
            self._name("models", number, model.name)
            self._connection.execute(
                "INSERT OR REPLACE INTO run_models VALUES (?, ?, ?)", (run, number, _opening_shown(model))
            )

    def end_run(self, run: int, state: RunState) -> None:
        """Records how the run ended, now."""
        with self._transaction():
            finished = _now() if state is RunState.FINISHED else ""
            self._connection.execute("UPDATE runs SET finished = ?, state = ? WHERE id = ?", (finished, state, run))

    def runs(self) -> tuple[Run, ...]:
        """All runs, the oldest first."""
        with sentences(self.path), closing(self._reader()) as reader:
            runs = reader.execute("SELECT id, started, finished, state, record FROM runs ORDER BY id").fetchall()
            models = reader.execute(
                "SELECT run, opening, description FROM run_models JOIN models ON models.id = model"
            ).fetchall()
        openings: dict[int, dict[str, Any]] = {}
        for number, opening, description in models:
            openings.setdefault(number, {})[opening] = parse_json(description)
        return tuple(
            Run(number, RunState(state), replace(
                RunRecord(**parse_json(text)), started=started, finished=finished, openings=openings.get(number, {})))
            for number, started, finished, state, text in runs
        )  # fmt: skip

    def sha256(self, path: str | os.PathLike[str]) -> str:
        """The SHA-256 of a file, which is read only where it is new or changed by size, time or inode.

        A file that changed in the last seconds may change again within one tick of its clock, and is read next time.
        Raises PictureError for what cannot be read.
        """
        place, stamp = plain(os.path.abspath(path)), stamp_of(path)
        if stamp is not None:
            with sentences(self.path):
                kept = self._connection.execute(
                    "SELECT sha256 FROM files WHERE path = ? AND stamp = ?", (place, stamp.text)
                ).fetchone()
            if kept is not None:
                return str(kept[0])
        sha256 = file_sha256(path, PICTURE)
        self._keep_hash(place, path, stamp, sha256)
        return sha256

    def _keep_hash(self, place: str, path: str | os.PathLike[str], stamp: Stamp | None, sha256: str) -> None:
        if stamp is not None and stamp.settled and stamp_of(path) == stamp:
            with sentences(self.path):
                self._begin()
                self._connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (place, stamp.text, sha256))

    def plan(
        self,
        run: int,
        position: int,
        keys: Sequence[RowKey],
        *,
        maps_of: Container[str] = (),
        retry_errors: bool = False,
    ) -> tuple[RowKey, ...]:
        """Records what the run requests of one picture; returns the keys of what has to be computed.

        position: of the picture in the run, each once. keys: of one picture. maps_of: methods whose maps are kept.
        retry_errors: rows with an error count as missing; transient ones always do. Where a map alone is missing, the
        key is without_map() of the method's. Plans are committed with the next picture, or by close().
        """
        with sentences(self.path):
            self._begin()
            picture = self._picture(keys[0])
            numbers = [self._setting(key) for key in keys]
            plan = self._plan(tuple(dict.fromkeys(number for pair in numbers for number in pair)))
            self._connection.execute(
                "INSERT OR REPLACE INTO run_pictures VALUES (?, ?, ?, ?)", (run, position, picture, plan)
            )
            stored = self._stored(picture, retry_errors=retry_errors)
            mapped = stored | self._with_maps(picture) if maps_of else set()
            self._planned += 1
            if self._planned >= PLANNED_AT_ONCE:
                self._commit()
        missing = [k for k, pair in zip(keys, numbers, strict=True) if stored.isdisjoint(pair)]
        methods = {key.method for key in missing}  # which give their maps too
        unmapped = [
            without_map(key)
            for key, (_, instead) in zip(keys, numbers, strict=True)
            if key.method in maps_of and key.method not in methods and instead not in mapped
        ]
        return (*missing, *dict.fromkeys(unmapped))

    def add(self, result: ItemResult) -> None:
        """Stores a picture's rows and maps: all of them, or none where this raises or the process ends.

        A row that is there already stays as it is, unless it has an error.
        """
        files = self._write_maps(result)
        with self._transaction():
            picture = self._picture(next(chain((row.key for row in result.rows), result.map_keys.values())))
            explained: set[int] = set()
            for row in result.rows:
                setting, instead = self._setting(row.key)
                self._name("settings", setting, row.method_name)
                self._name("models", self._model(row.key.model, row.key.opening), row.model_name)
                self._connection.execute(UPSERT, (picture, setting, *values_of(row)))
                if setting != instead:
                    explained.add(instead)
            for name, file in files.items():
                setting, _ = self._setting(result.map_keys[name])
                self._name("settings", setting, name)
                self._connection.execute("INSERT OR REPLACE INTO maps VALUES (?, ?, ?)", (picture, setting, file))
                explained.add(setting)
            # An earlier try said that there is no map.
            self._connection.executemany(
                "DELETE FROM rows WHERE picture = ? AND setting = ?", [(picture, instead) for instead in explained]
            )

    def _write_maps(self, result: ItemResult) -> dict[str, str]:
        """Writes the maps; returns the name of the file of each, by the method's name."""
        files = {name: map_file_name(key) for name, key in result.map_keys.items()}
        for file in dict.fromkeys(files.values()):
            names = [name for name, of_name in files.items() if of_name == file]
            maps = {name: result.maps[name] for name in names}
            write_maps(
                self.maps_folder / file, PictureMaps(maps, {name: result.placements.get(name) for name in names})
            )
        return files

    def rows(
        self,
        *,
        run: int | None = None,
        picture: str | None = None,
        model: str | None = None,
        method: str | None = None,
        metric: str | None = None,
    ) -> Generator[Row, None, None]:
        """Yields rows as they are now: of a run in the order of its pictures, else in the order they were stored.

        The others are fields of RowKey, and leave out what differs. Memory is constant. Close the generator to stop
        early.
        """
        conditions = _given(
            {"run": run, "pictures.key": picture, "models.sha256": model, "method": method, "metric": metric}
        )
        select, order = (SELECT_RUN, ORDER_RUN) if run is not None else (SELECT, ORDER)
        text = f"{select}{_where(conditions)}{order}"
        with sentences(self.path), closing(self._reader()) as reader:
            for values in reader.execute(text, tuple(conditions.values())):
                yield row_of(values)

    def count(self) -> int:
        """How many rows there are, of all runs."""
        with sentences(self.path):
            (number,) = self._connection.execute("SELECT count(*) FROM rows").fetchone()
        return int(number)

    def rows_at(self, run: int, position: int) -> list[Row]:
        """The rows of one picture of the run, also those that are planned and not committed."""
        with sentences(self.path):
            selected = self._connection.execute(
                f"{SELECT_RUN} WHERE run = ? AND position = ?{ORDER_RUN}", (run, position)
            ).fetchall()
        return [row_of(values) for values in selected]

    def kept_maps(self, *, run: int | None = None, picture: str | None = None) -> tuple[KeptMaps, ...]:
        """The files of maps, of a run's plans or all, in the order of the pictures."""
        conditions = _given({"run": run, "pictures.key": picture})
        order = " ORDER BY position" if run is not None else " ORDER BY maps.picture"
        text = f"{SELECT_MAPS_OF_RUN if run is not None else SELECT_MAPS}{_where(conditions)}{order}"
        with sentences(self.path), closing(self._reader()) as reader:
            files = reader.execute(text, tuple(conditions.values())).fetchall()
        return tuple(dict.fromkeys(KeptMaps(self.maps_folder / file, *rest) for file, *rest in files))

    def _reader(self) -> sqlite3.Connection:
        """A connection of its own: what it reads is of one moment, and the writer does not wait for it."""
        if self._lock is not None and self._connection.in_transaction:
            self._commit()
        return open_reader(self.path)

    def _begin(self) -> None:
        if self._lock is None:
            raise OnnxCamError(f"{self.path}: the journal is opened for reading, or closed")
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        self._connection.execute("COMMIT")
        self._planned = 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commits what the block did, and what was planned before; undoes both where it raises, whatever that is."""
        with sentences(self.path):
            try:
                self._begin()
                yield
                self._commit()
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self._known.clear()  # it may have numbers that were undone
                raise

    def _picture(self, key: RowKey) -> int:
        return self._number("pictures", {"key": plain(key.picture), "sha256": key.picture_sha256})

    def _model(self, sha256: str, opening: str) -> int:
        number = self._known.models.get((sha256, opening))
        if number is None:
            number = self._number("models", {"sha256": sha256, "opening": opening}, {"name": ""})
            self._known.models[sha256, opening] = number
        return number

    def _setting(self, key: RowKey) -> tuple[int, int]:
        """The numbers of the key without its picture, and of the row that says that there is no map instead."""
        parts = (key.model, key.opening, key.method, key.target, key.metric, key.protocol, key.options)
        numbers = self._known.settings.get(parts)
        if numbers is None:
            if len(self._known.settings) >= MOST_CACHED:
                self._known.clear()
            names = ("method", "target", "metric", "protocol", "options")
            values = {"model": self._model(key.model, key.opening), **{n: plain(getattr(key, n)) for n in names}}
            number = self._number("settings", values, {"method_name": ""})
            numbers = (number, self._setting(without_map(key))[0] if key.metric else number)
            self._known.settings[parts] = numbers
        return numbers

    def _plan(self, settings: tuple[int, ...]) -> int:
        number = self._known.plans.get(settings)
        if number is None:
            if len(self._known.plans) >= MOST_CACHED:
                self._known.plans.clear()
            number = self._number("plans", {"settings": ",".join(map(str, settings))})
            self._connection.executemany(
                "INSERT OR IGNORE INTO plan_settings VALUES (?, ?, ?)",
                [(number, place, setting) for place, setting in enumerate(settings)],
            )
            self._known.plans[settings] = number
        return number

    def _number(self, table: str, key: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> int:
        """The id of the entry with this key, which is made where it is missing."""
        where = " AND ".join(f"{name} = ?" for name in key)
        entry = self._connection.execute(f"SELECT id FROM {table} WHERE {where}", tuple(key.values())).fetchone()
        if entry is not None:
            return int(entry[0])
        values = {**key, **(others or {})}
        marks = ", ".join("?" * len(values))
        number = self._connection.execute(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
        ).lastrowid
        assert number is not None
        return number

    def _name(self, table: str, number: int, name: str) -> None:
        """Keeps the name that people read: the latest, as a file may be renamed."""
        if self._known.names.get((table, number)) != name:
            column = "name" if table == "models" else "method_name"
            self._connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (plain(name), number))
            self._known.names[table, number] = name

    def _stored(self, picture: int, *, retry_errors: bool) -> set[int]:
        """The settings of which there is a row that is not to be tried again."""
        text = f"SELECT setting FROM rows WHERE picture = ? AND {'error IS NULL' if retry_errors else 'NOT transient'}"
        return {setting for (setting,) in self._connection.execute(text, (picture,))}

    def _with_maps(self, picture: int) -> set[int]:
        """The settings, those of maps, of which the file is there."""
        kept = self._connection.execute("SELECT setting, file FROM maps WHERE picture = ?", (picture,)).fetchall()
        there = {file for file in {file for _, file in kept} if (self.maps_folder / file).is_file()}
        return {setting for setting, file in kept if file in there}


def _given(conditions: Mapping[str, Any]) -> dict[str, Any]:
    return {column: value for column, value in conditions.items() if value is not None}


def _where(conditions: Mapping[str, Any]) -> str:
    return f" WHERE {' AND '.join(f'{column} = ?' for column in conditions)}" if conditions else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _opening_shown(model: ModelIdentity) -> str:
    """How the model was opened, as JSON for people: its description, and what its preprocessing is called."""
    called = {"preprocessing": model.preprocessing} if model.preprocessing else {}
    doubt = {"assumed": True} if model.assumed else {}
    return canonical_json({**parse_json(model.description), **called, **doubt})
