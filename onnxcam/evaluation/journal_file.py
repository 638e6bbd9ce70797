"""The file of a Journal: its schema, how it is opened, who may write it, and what goes wrong with it, in sentences.

SQLite in WAL mode with synchronous=FULL. A commit is one write to the log that ends in an fsync, so neither a kill of
the process nor a loss of power takes what was committed; the transaction that was under way is rolled back when the
file is next opened. With synchronous=NORMAL a loss of power could take every commit since the last checkpoint, which
may be a night's: an fsync costs milliseconds, a picture more.

One process writes a journal at a time, any number may read it meanwhile. The writer holds a lock of the system on the
empty file beside it (NAME-lock), which ends with the process, however that ends. The lock is SQLite's own on a database
without content, since that is the same on every system.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onnxcam.errors import OnnxCamError, OutputError
from onnxcam.files import first_bytes
from onnxcam.logs import module_logger
from onnxcam.outputs.atomic import check_writable

log = module_logger(__name__)

APPLICATION = int.from_bytes(b"ocam", "big")
"""Marks the file as a journal of onnxcam: its application_id."""
SCHEMA_VERSION = 2
"""Its user_version. Raise it with every change of SCHEMA; older files are refused until there is a way from them."""
SCHEMA = """
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, started TEXT NOT NULL, finished TEXT NOT NULL, state TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE run_models (
  run INTEGER NOT NULL, model INTEGER NOT NULL, description TEXT NOT NULL, PRIMARY KEY (run, model)) WITHOUT ROWID;
CREATE TABLE files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE models (
  id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL, opening TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (sha256, opening));
CREATE TABLE pictures (id INTEGER PRIMARY KEY, key TEXT NOT NULL, sha256 TEXT NOT NULL, UNIQUE (key, sha256));
CREATE TABLE settings (
  id INTEGER PRIMARY KEY, model INTEGER NOT NULL, method TEXT NOT NULL, target TEXT NOT NULL, metric TEXT NOT NULL,
  protocol TEXT NOT NULL, options TEXT NOT NULL, method_name TEXT NOT NULL,
  UNIQUE (model, method, target, metric, protocol, options));
CREATE TABLE rows (
  id INTEGER PRIMARY KEY, picture INTEGER NOT NULL, setting INTEGER NOT NULL, value, reason TEXT, note TEXT, error TEXT,
  curve BLOB, label, target_index INTEGER, target_name TEXT, probability, passes INTEGER NOT NULL,
  seconds REAL NOT NULL, method_passes INTEGER NOT NULL, method_seconds REAL NOT NULL,
  transient INTEGER NOT NULL, UNIQUE (picture, setting));
CREATE TABLE maps (picture INTEGER NOT NULL, setting INTEGER NOT NULL, file TEXT NOT NULL,
  PRIMARY KEY (picture, setting)) WITHOUT ROWID;
CREATE TABLE plans (id INTEGER PRIMARY KEY, settings TEXT NOT NULL UNIQUE);
CREATE TABLE plan_settings (plan INTEGER NOT NULL, place INTEGER NOT NULL, setting INTEGER NOT NULL,
  PRIMARY KEY (plan, place)) WITHOUT ROWID;
CREATE TABLE run_pictures (
  run INTEGER NOT NULL, position INTEGER NOT NULL, picture INTEGER NOT NULL, plan INTEGER NOT NULL,
  PRIMARY KEY (run, position)) WITHOUT ROWID;
CREATE VIEW measurements AS
  SELECT models.name AS model, pictures.key AS picture, settings.method_name AS method, settings.target, metric,
    protocol, value, reason, note, error, label, target_index, target_name, probability, passes, seconds, method_passes,
    method_seconds, settings.options, models.sha256 AS model_sha256, opening, pictures.sha256 AS picture_sha256
  FROM rows JOIN pictures ON pictures.id = rows.picture JOIN settings ON settings.id = rows.setting
    JOIN models ON models.id = settings.model;
"""
"""files: a stamp is size, times of the last change in ns, and inode. settings: all of a RowKey but the picture; one
without metric is that of a map: rows that say why there is none, and the maps that are kept, have it. plans: the
settings that a run requests of a picture, in the order of the request. value and probability: a number, NULL, or 'nan',
which SQLite has not. measurements: for people who open the file themselves."""
HEADER = b"SQLite format 3\0"
BUSY = 10.0
"""Seconds that a reader waits for a lock, and the writer for one that is no writer's."""


def open_writer(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """The journal, made if it is missing, and the connection that holds the lock. Raises OutputError."""
    check_writable([path])
    with sentences(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
        try:
            return _opened(path), lock
        except BaseException:
            lock.close()
            raise


def open_reader(path: Path) -> sqlite3.Connection:
    """The journal for reading. Raises OnnxCamError where there is none."""
    if not path.is_file():
        raise OnnxCamError(f"{path}: no such journal; name the folder that `onnxcam evaluate` wrote")
    with sentences(path):
        _check_header(path)
        connection = _connected(path, "ro", BUSY)
        try:
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def close_writer(connection: sqlite3.Connection, lock: sqlite3.Connection) -> None:
    """Closes both. The log goes into the file, so that it is whole without others, also on read-only media."""
    try:
        with suppress(sqlite3.Error):  # someone reads: the log stays, and whoever opens the file next reads it too
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.close()
    finally:
        lock.close()


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Errors of SQLite and of the system within the block become OutputError."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:  # a wrong call, such as after close()
            raise
        raise OutputError(_sentence(path, code & 0xFF, error)) from error
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; choose another folder or make room") from error


def _sentence(path: Path, code: int, error: sqlite3.Error) -> str:
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"{path}: a damaged journal ({error}); move it away to begin a new one"
    if code == sqlite3.SQLITE_FULL:
        return f"cannot write {path}: the disk is full; make room and run the same again: finished pictures are kept"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"{path}: another program holds the journal for too long ({error}); close it, and run the same again"
    return f"cannot read or write {path}: {error}; choose another folder, or make this one writable"


def _connected(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
    # A generator that writes the journal may be resumed by another thread than the one that began it.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", timeout, uri=True, isolation_level=None, check_same_thread=False
    )


def _locked(path: Path) -> sqlite3.Connection:
    """A connection that is the journal's only writer until it is closed. Raises OutputError where there is one."""
    lock = _connected(path.with_name(f"{path.name}-lock"), "rwc", 0.0)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        raise OutputError(
            f"{path} is being written by another run; wait until that ends, or give this one a folder of its own"
        ) from None
    return lock


def _opened(path: Path) -> sqlite3.Connection:
    if path.exists() and path.stat().st_size:
        _check_header(path)
    connection = _connected(path, "rwc", BUSY)
    try:
        is_new = not connection.execute("PRAGMA schema_version").fetchone()[0]
        if not is_new:
            _check(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":  # as safe, but readers and the writer wait for each other
            log.warning("%s: its file system takes no write-ahead log; SQLite uses the mode %s", path, mode)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # on macOS an fsync alone does not reach the disk
        if is_new:
            marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA_VERSION};"
            connection.executescript(f"BEGIN; {SCHEMA} {marks} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(path: Path) -> None:
    """Raises OutputError for what is no database, before SQLite writes to it."""
    if first_bytes(path, len(HEADER)) != HEADER:
        raise OutputError(f"{path} is no journal of onnxcam; move it away, or give the run a folder of its own")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises OutputError for another program's database, and for a schema that this version does not know."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise OutputError(f"{path} is another program's database; give the run a folder of its own")
    if version > SCHEMA_VERSION:
        raise OutputError(
            f"{path} has the schema {version} of a newer onnxcam, and this one needs {SCHEMA_VERSION}; update onnxcam, "
            "or name another folder with -o"
        )
    if version < SCHEMA_VERSION:
        raise OutputError(
            f"{path} has the schema {version} of an older onnxcam, and this one needs {SCHEMA_VERSION}; name another "
            "folder with -o, or delete the file to measure everything again"
        )
