"""The engine of Ray: what it refuses at once, and, with Ray installed (-m ray), that nothing is lost with a worker."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ray_evaluators import FakeEvaluator, FakeOptions, FakeRequest, Named, keys

from onnxcam.errors import ModelError, OptionError
from onnxcam.evaluation import ray_runner
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.ray_runner import RayEngine
from onnxcam.evaluation.ray_worker import MOST_ATTEMPTS, Opening, opened
from onnxcam.evaluation.runner import Task, Work

LIMIT = 60.0
"""Seconds without a result that a loss may cost."""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Ray were installed, for what comes before its use."""
    monkeypatch.setattr(ray_runner, "find_spec", lambda name: object())


def fake_work(folder: Path, options: FakeOptions, model: bytes = b"a model") -> Work:
    (folder / "model.onnx").write_bytes(model)
    (folder / "log").touch()
    return Work(FakeRequest(folder / "model.onnx", folder / "log"), options, Named(), keys, pytest.fail)


def fake_tasks(folder: Path, number: int) -> list[Task]:
    tasks = [Task(DataItem(folder / f"{i}.jpg", f"{i}.jpg"), "sha") for i in range(number)]
    for task in tasks:
        task.item.path.touch()
    return tasks


def begun(folder: Path) -> list[list[str]]:
    """Key, process, time and threads of each picture that a worker began."""
    return [line.split() for line in (folder / "log").read_text().splitlines()]


def is_running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def within(seconds: float, reached: Callable[[], Any]) -> Any:
    """Waits until reached() is true and returns it."""
    end = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return value


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_runner, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r'pip install "onnxcam\[ray\]"'):
        RayEngine()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"actors": 0}, "from 1 on, not 0"),
        ({"actors": 1.5}, "from 1 on, not 1.5"),
        ({"num_cpus": 0}, "more than 0, not 0"),
        ({"num_gpus": -1}, "num_gpus is a fraction of a GPU"),
        ({"num_gpus": 1.5}, "or a whole number of them, not 1.5"),
        ({"num_gpus": float("nan")}, "num_gpus is a fraction of a GPU"),
        ({"address": "ray://head:10001"}, "as a Ray job, with the address 'auto'"),
    ],
)
def test_values_that_make_no_sense_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        RayEngine(**options)


@pytest.mark.usefixtures("installed")
def test_a_run_without_tasks_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_runner, "ChildProcess", pytest.fail)
    assert list(RayEngine()([], fake_work(tmp_path, FakeOptions()))) == []


def test_a_node_says_which_file_it_lacks_and_which_version_it_has(tmp_path: Path) -> None:
    work = fake_work(tmp_path, FakeOptions())
    opening = Opening(FakeEvaluator, work.request, work.options, work.identity, (tmp_path / "maps",), "0.0.1")
    with pytest.raises(OptionError, match=r"is installed there, and 0\.0\.1 where the run was started"):
        opened(opening)
    with pytest.raises(OptionError, match=r"there is no .*/maps.*storage that every node sees"):
        opened(replace(opening, version=ray_runner.onnxcam.__version__))


@pytest.mark.ray
def test_a_killed_worker_costs_no_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    work, tasks = fake_work(tmp_path, FakeOptions(seconds=0.2)), fake_tasks(tmp_path, 40)
    results, times, killed = [], [], ""
    for result in RayEngine(opener=FakeEvaluator)(tasks, work):
        results.append(result)
        times.append(time.monotonic())
        if len(results) == 10:
            killed = begun(tmp_path)[-1][1]
            os.kill(int(killed), signal.SIGKILL)
    assert sorted(result.item for result in results) == sorted(task.item.key for task in tasks)
    assert all(row.value == len(row.key.picture) for result in results for row in result.rows)
    assert max(later - earlier for earlier, later in pairwise(times)) < LIMIT
    workers = {process for _, process, _, _ in begun(tmp_path)}
    assert killed in workers
    assert len(workers) == 3  # two, and the one in the place of the killed one
    attempts = Counter(key for key, *_ in begun(tmp_path))
    again = {key for key, count in attempts.items() if count > 1}
    by_killed = {key for key, process, *_ in begun(tmp_path) if process == killed}
    assert again <= by_killed - {result.item for result in results[:10]}  # what it was at, or had not handed over
    assert max(attempts.values()) <= 2
    assert {threads for *_, threads in begun(tmp_path)} == {"1"}
    assert capfd.readouterr() == ("", "")
    within(20, lambda: not any(is_running(int(process)) for process in workers))


@pytest.mark.ray
def test_a_picture_that_kills_its_workers_is_a_row_with_an_error(tmp_path: Path) -> None:
    work, tasks = fake_work(tmp_path, FakeOptions(deadly=("3.jpg",))), fake_tasks(tmp_path, 8)
    results = {result.item: result.rows for result in RayEngine(opener=FakeEvaluator)(tasks, work)}
    assert len(results) == len(tasks)
    (row,) = results.pop("3.jpg")
    assert row.error is not None
    assert row.error.startswith(f"{MOST_ATTEMPTS} workers died while they computed this picture")
    assert (row.value, row.key.metric, row.model_name, row.method_name) == (None, "", "model", "CAM")
    assert all(row.error is None for rows in results.values() for row in rows)
    assert Counter(key for key, *_ in begun(tmp_path))["3.jpg"] == MOST_ATTEMPTS


@pytest.mark.ray
def test_a_model_that_no_worker_can_open_raises_its_own_error(tmp_path: Path) -> None:
    work = fake_work(tmp_path, FakeOptions(), b"broken")
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"^on node .*: model\.onnx is no model$"):
        next(iter(RayEngine(opener=FakeEvaluator)(fake_tasks(tmp_path, 4), work)))
    assert time.monotonic() - start < LIMIT
    assert begun(tmp_path) == []


@pytest.mark.ray
def test_an_error_of_the_program_keeps_its_traceback(tmp_path: Path) -> None:
    work = fake_work(tmp_path, FakeOptions(faulty=("0.jpg",)))
    with pytest.raises(RuntimeError, match=r"(?s)ray_evaluators\.py.*ZeroDivisionError: a fault of the program"):
        list(RayEngine(opener=FakeEvaluator)(fake_tasks(tmp_path, 1), work))


@pytest.mark.ray
def test_a_file_that_only_the_driver_has_is_named(tmp_path: Path) -> None:
    work = fake_work(tmp_path, FakeOptions())
    with (tmp_path / "private.jpg").open("w") as private:  # whose descriptor no other process has
        os.dup2(private.fileno(), 321)
        try:
            item = DataItem(Path("/proc/self/fd/321"), "private.jpg")
            with pytest.raises(OptionError, match=r"^node .* has no /proc/self/fd/321, which this machine has; put"):
                list(RayEngine(opener=FakeEvaluator)([Task(item, "sha")], work))
        finally:
            os.close(321)


@pytest.mark.ray
def test_a_cluster_that_is_not_there_or_has_no_room_is_an_error(tmp_path: Path) -> None:
    work, tasks = fake_work(tmp_path, FakeOptions()), fake_tasks(tmp_path, 1)
    with pytest.raises(OptionError, match="this machine has 0 GPUs"):
        list(RayEngine(num_gpus=1, opener=FakeEvaluator)(tasks, work))
    with pytest.raises(OptionError, match=r"cannot join the Ray cluster '127\.0\.0\.1:9': "):
        list(RayEngine("127.0.0.1:9", opener=FakeEvaluator)(tasks, work))


DRIVER = """
import sys
from pathlib import Path
from ray_evaluators import FakeEvaluator, FakeOptions, FakeRequest, Named, keys
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.ray_runner import RayEngine
from onnxcam.evaluation.runner import Task, Work

folder = Path(sys.argv[1])
work = Work(FakeRequest(folder / "model.onnx", folder / "log"), FakeOptions(seconds=0.2), Named(), keys, None)
done = set((folder / "done").read_text().split())
tasks = [Task(DataItem(path, path.name), "sha") for path in sorted(folder.glob("*.jpg")) if path.name not in done]
for result in RayEngine(opener=FakeEvaluator)(tasks, work):
    with (folder / "done").open("a") as done:
        done.write(result.item + "\\n")
"""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """Starts a program that computes the pictures of the folder that are not done."""
    fake_work(tmp_path, FakeOptions())
    (tmp_path / "done").touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", DRIVER, str(tmp_path)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_driver_that_ends_takes_its_cluster_with_it_and_a_rerun_goes_on(
    driver: Callable[[], "subprocess.Popen[bytes]"], number: int, tmp_path: Path
) -> None:
    fake_tasks(tmp_path, 40)

    def done() -> list[str]:
        return (tmp_path / "done").read_text().split()

    first = driver()
    within(2 * LIMIT, lambda: len(done()) >= 10)
    os.killpg(first.pid, number)
    first.wait(LIMIT)
    workers = {int(process) for _, process, _, _ in begun(tmp_path)}
    within(LIMIT, lambda: not any(is_running(process) for process in workers))
    kept, before = set(done()), len(begun(tmp_path))
    assert 10 <= len(kept) < 40
    assert driver().wait(2 * LIMIT) == 0
    assert sorted(done()) == sorted(path.name for path in tmp_path.glob("*.jpg"))
    left = {path.name for path in tmp_path.glob("*.jpg")} - kept
    assert sorted(picture for picture, *_ in begun(tmp_path)[before:]) == sorted(left)  # each once, none that is done
