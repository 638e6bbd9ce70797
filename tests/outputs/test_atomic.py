"""All files or none, and no temporary file stays."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from timing import growth

from onnxcam.errors import OutputError
from onnxcam.outputs.atomic import Staging, check_writable, write_together


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below folder: the content of a file, None for a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def failing(call: Callable[..., Any], at: int, error: BaseException) -> Callable[..., Any]:
    """call, but its at-th time (from 1) raises error."""
    count = 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise error
        return call(*arguments, **options)

    return wrapped


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def old(tmp_path: Path) -> dict[str, bytes | None]:
    """What lies in the folder before: two of the files that stage_three writes."""
    (tmp_path / "a.png").write_bytes(b"old a")
    (tmp_path / "b.png").write_bytes(b"old b")
    return tree(tmp_path)


def stage_three(staging: Staging, folder: Path) -> None:
    staging.stage(folder / "a.png", b"new a")
    staging.stage(folder / "new" / "deep" / "c.png", b"new c")
    staging.stage(folder / "b.png", b"new b")


NEW = {"a.png": b"new a", "b.png": b"new b", "new": None, "new/deep": None, "new/deep/c.png": b"new c"}


def test_a_commit_moves_everything_into_place(tmp_path: Path, old: dict[str, bytes | None]) -> None:
    with Staging() as staging:
        stage_three(staging, tmp_path)
        during = {name: content for name, content in tree(tmp_path).items() if not name.endswith(".tmp")}
        assert during == old, "nothing is touched before the commit"
        staging.commit()
    assert tree(tmp_path) == NEW


def test_without_a_commit_nothing_happened(tmp_path: Path, old: dict[str, bytes | None]) -> None:
    with Staging() as staging:
        stage_three(staging, tmp_path)
    assert tree(tmp_path) == old


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_an_interrupt_before_the_commit_leaves_what_was_there(
    tmp_path: Path, old: dict[str, bytes | None], error: type[BaseException]
) -> None:
    with pytest.raises(error), Staging() as staging:  # noqa: PT012
        stage_three(staging, tmp_path)
        raise error
    assert tree(tmp_path) == old


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("error", [full(), PermissionError(errno.EACCES, "Permission denied")], ids=str)
def test_a_move_that_fails_midway_puts_everything_back(
    tmp_path: Path,
    old: dict[str, bytes | None],
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    error: OSError,
) -> None:
    with pytest.raises(OutputError, match=str(error.strerror)), Staging() as staging:  # noqa: PT012
        stage_three(staging, tmp_path)
        monkeypatch.setattr(os, "replace", failing(os.replace, at, error))
        staging.commit()
    assert tree(tmp_path) == old


@pytest.mark.parametrize("name", ["replace", "link", "mkdir"])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_within_the_commit_puts_everything_back(
    tmp_path: Path,
    old: dict[str, bytes | None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    at: int,
    late: bool,
) -> None:
    """late: the interrupt comes as soon as the call has done its work."""
    real, count = getattr(os, name), 0

    def interrupted(*arguments: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        if count == at and not late:
            raise KeyboardInterrupt
        real(*arguments, **options)
        if count == at:
            raise KeyboardInterrupt

    expected = at <= {"replace": 3, "link": 2, "mkdir": 2}[name]
    try:
        with Staging() as staging:
            stage_three(staging, tmp_path)
            monkeypatch.setattr(os, name, interrupted)
            staging.commit()
        assert not expected
    except KeyboardInterrupt:
        assert expected
    assert tree(tmp_path) == (old if expected else NEW)


def test_without_links_the_backup_is_a_copy(
    tmp_path: Path, old: dict[str, bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OutputError), Staging() as staging:  # noqa: PT012
        stage_three(staging, tmp_path)
        monkeypatch.setattr(os, "replace", failing(os.replace, 3, full()))
        staging.commit()
    assert tree(tmp_path) == old


def test_what_cannot_be_put_back_is_kept_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"old a")
    (tmp_path / "b.png").write_bytes(b"old b")
    real, calls = os.replace, 0

    def only_once(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise full()
        real(*arguments)

    with pytest.raises(OutputError, match="kept in") as caught, Staging() as staging:  # noqa: PT012
        staging.stage(tmp_path / "a.png", b"new a")
        staging.stage(tmp_path / "b.png", b"new b")
        monkeypatch.setattr(os, "replace", only_once)
        staging.commit()
    kept = {path.read_bytes() for path in tmp_path.glob("*.kept-*") if str(path) in str(caught.value)}
    assert b"old a" in kept


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_disk_that_is_full_while_staging_leaves_what_was_there(
    tmp_path: Path, old: dict[str, bytes | None], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with pytest.raises(OutputError, match=r"b\.png.*No space left"), Staging() as staging:  # noqa: PT012
        staging.stage(tmp_path / "a.png", b"new a")
        if call == "open":
            monkeypatch.setattr("builtins.open", failing(open, 1, full()))
        else:
            monkeypatch.setattr(os, "fsync", failing(os.fsync, 1, full()))
        staging.stage(tmp_path / "b.png", b"new b")
    monkeypatch.undo()
    assert tree(tmp_path) == old


def blocked_by_a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"")
    return folder / "file" / "sub" / "out.png"


def blocked_by_a_folder(folder: Path) -> Path:
    (folder / "out.png").mkdir()
    return folder / "out.png"


def blocked_by_a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png"


def blocked_by_a_loop(folder: Path) -> Path:
    (folder / "loop.png").symlink_to(folder / "loop.png")
    return folder / "loop.png"


def blocked_by_the_system(folder: Path) -> Path:
    return Path("/proc/out.png")


def blocked_by_its_length(folder: Path) -> Path:
    return folder / ("x" * 300 + ".png")


OBSTACLES = [blocked_by_a_file, blocked_by_a_folder, blocked_by_a_pipe, blocked_by_a_loop]


@pytest.mark.parametrize("obstacle", [*OBSTACLES, blocked_by_the_system, blocked_by_its_length])
def test_what_cannot_be_written_is_refused_early_and_when_staged(
    tmp_path: Path, obstacle: Callable[[Path], Path]
) -> None:
    path = obstacle(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=path.name):
        check_writable([tmp_path / "good.png", path])
    with pytest.raises(OutputError, match=path.name), Staging() as staging:  # noqa: PT012
        staging.stage(tmp_path / "good.png", b"")
        staging.stage(path, b"")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_read_only_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"mine")
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for anybody but root
    with pytest.raises(OutputError, match="read-only"):
        check_writable([path])


def test_checking_leaves_nothing_behind_and_makes_no_folder(tmp_path: Path) -> None:
    check_writable([tmp_path / "a.png", tmp_path / "new" / "deep" / "b.png", str(tmp_path / "c.png")])
    assert tree(tmp_path) == {}


def test_one_place_is_not_staged_twice(tmp_path: Path) -> None:
    with Staging() as staging:
        staging.stage(tmp_path / "a.png", b"1")
        with pytest.raises(OutputError, match="twice"):
            staging.stage(tmp_path / "x" / ".." / "a.png", b"2")


def test_a_link_is_written_through_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    with Staging() as staging:
        staging.stage(tmp_path / "link.png", b"new")
        staging.commit()
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes() == b"new"


def test_a_new_file_has_the_usual_permissions_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    (tmp_path / "old.png").write_bytes(b"")
    (tmp_path / "old.png").chmod(0o640)
    with Staging() as staging:
        staging.stage(tmp_path / "new.png", b"")
        staging.stage(tmp_path / "old.png", b"")
        staging.commit()
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "new.png", "old.png")}
    assert modes["new.png"] == modes["usual"]
    assert modes["old.png"] == 0o640


def test_a_relative_path_is_meant_from_where_it_was_staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Staging() as staging:
        staging.stage("a.png", b"a")
        monkeypatch.chdir(tmp_path / "elsewhere")
        staging.commit()
    assert tree(tmp_path) == {"a.png": b"a", "elsewhere": None}


def test_somebody_elses_file_in_a_new_folder_survives_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError), Staging() as staging:  # noqa: PT012
        staging.stage(tmp_path / "new" / "a.png", b"a")

        def replace(*arguments: Any) -> None:
            (tmp_path / "new" / "theirs").write_bytes(b"theirs")
            raise full()

        monkeypatch.setattr(os, "replace", replace)
        staging.commit()
    assert tree(tmp_path) == {"new": None, "new/theirs": b"theirs"}


def test_files_are_written_together_or_not_at_all(tmp_path: Path, old: dict[str, bytes | None]) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder"):
        write_together({tmp_path / "a.png": b"new a", tmp_path / "folder": b""})
    assert tree(tmp_path) == old | {"folder": None}
    write_together({tmp_path / "a.png": b"new a", tmp_path / "new" / "c.png": b"new c"})
    assert tree(tmp_path) == {"a.png": b"new a", "b.png": b"old b", "folder": None, "new": None, "new/c.png": b"new c"}


def test_a_set_that_fails_leaves_the_sets_before_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        for i in range(3):
            with Staging() as staging:
                staging.stage(tmp_path / "out" / f"{i}.png", bytes([i]))
                staging.stage(tmp_path / "out" / f"{i}.npy", bytes([i]))
                if i == 2:
                    raise ZeroDivisionError
                staging.commit()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.npy", "0.png", "1.npy", "1.png"]


@pytest.mark.slow
def test_twice_as_many_files_take_about_twice_as_long_to_check_and_to_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the disk's own time, which other processes share."""
    paths = [tmp_path / f"{i}.png" for i in range(10_000)]
    assert growth(lambda n: check_writable(paths[:n]), 10_000) < 3
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("onnxcam.outputs.atomic.open", lambda *_: open(os.devnull, "wb"), raising=False)  # noqa: SIM115

    def stage(count: int) -> None:
        with Staging() as staging:
            for path in paths[:count]:
                staging.stage(path, b"x")

    assert growth(stage, 10_000) < 3


def test_each_folder_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    touched: list[Path] = []
    touch = Path.touch

    def counted(path: Path, **options: Any) -> None:
        touched.append(path.parent)
        touch(path, **options)

    monkeypatch.setattr(Path, "touch", counted)
    check_writable([tmp_path / folder / f"{i}.png" for i in range(100) for folder in ("", "there", "new/deep")])
    assert sorted(touched) == sorted([tmp_path, tmp_path, tmp_path / "there"])


def test_a_link_to_a_place_that_cannot_be_written_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to("folder")
    (tmp_path / "dangling.png").symlink_to("new/a.png")
    check_writable([tmp_path / "dangling.png"])
    with pytest.raises(OutputError, match=r"link\.png.*a folder of this name"):
        check_writable([tmp_path / "good.png", tmp_path / "link.png"])
