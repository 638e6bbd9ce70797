"""Evaluations on Ray with a real model: the rows of the local engine, whatever is killed on the way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from evaluated_rows import plain_row
from PIL import Image

from onnxcam import evaluate
from onnxcam.evaluation.journal import NAME, Journal
from onnxcam.evaluation.model_request import ModelRequest
from onnxcam.evaluation.rows import Row
from onnxcam.inputs import bundled

pytestmark = pytest.mark.ray
METHODS, METRICS = ("grad-cam", "layer-cam"), ("deletion", "average-drop", "sparseness")
LIMIT = 60.0
"""Seconds without a result that a loss may cost."""
PICTURES = 14
AUTHENTICATION = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "of this test alone",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""Of the cluster and who joins it; its servers listen on 127.0.0.1 alone."""
DRIVER = f"""
import sys
from pathlib import Path
from onnxcam import evaluate
from onnxcam.evaluation.ray_runner import RayEngine

rows = evaluate(
    sys.argv[1], sys.argv[2], {METHODS!r}, {METRICS!r}, store=Path(sys.argv[3]), stored_rows=False,
    engine=RayEngine(sys.argv[4] if len(sys.argv) > 4 else None),
)
for row in rows:
    print(row.key.picture, flush=True)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of parts of a photograph."""
    folder = tmp_path_factory.mktemp("pictures")
    photograph = np.asarray(Image.open(bundled.pictures()["chelsea"]).convert("RGB"))
    for i in range(PICTURES):
        Image.fromarray(photograph[10 * i : 10 * i + 150, 15 * i : 15 * i + 220]).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def expected(pictures: Path) -> list[Row]:
    """The rows of the local engine, with one thread as each actor has."""
    model = ModelRequest(bundled.model(), {"threads": 1})
    return list(evaluate(model, pictures, METHODS, METRICS))


CLUSTER = """
import os, sys
from ray.cluster_utils import Cluster
import ray

small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**small, "num_cpus": 0, "include_dashboard": False})
cluster.add_node(**small)
lost = cluster.add_node(**small)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(lost, allow_graceful=False)
sys.stdin.readline()
cluster.shutdown()
"""


def check_equal(rows: Iterable[Row], expected: Iterable[Row]) -> None:
    """All but the times is the same; numbers in float64 to 12 digits, as BLAS sums in another order in an actor, to
    which Ray gives one thread."""

    def by_key(each: Row) -> tuple[str, ...]:
        return astuple(each.key)

    for row, other in zip(sorted(rows, key=by_key), sorted(expected, key=by_key), strict=True):
        assert row.key == other.key
        assert row.value == (None if other.value is None else pytest.approx(other.value, rel=1e-12, abs=0))
        np.testing.assert_array_equal(row.curve, other.curve)  # type: ignore[arg-type]
        same = {"value": None, "curve": None, "seconds": 0.0, "method_seconds": 0.0}
        assert plain_row(replace(row, **same)) == plain_row(replace(other, **same))


def stored(store: Path) -> list[Row]:
    with Journal(store / NAME, read_only=True) as journal:
        return list(journal.rows())


@dataclass
class Driver:
    """The program of DRIVER. times: when each picture was committed first, seconds of the monotonic clock."""

    process: "subprocess.Popen[str]"
    times: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.thread = Thread(target=self._listen)
        self.thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.times.setdefault(line.strip(), time.monotonic())

    def wait_for(self, pictures: int) -> None:
        end = time.monotonic() + 3 * LIMIT
        while len(self.times) < pictures:
            assert self.process.poll() is None, "the driver ended"
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    def longest_gap(self) -> float:
        return max((later - earlier for earlier, later in pairwise(self.times.values())), default=0.0)

    def finish(self) -> int:
        code = self.process.wait(3 * LIMIT)
        self.thread.join()
        return code


@pytest.fixture
def start(pictures: Path, tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Starts drivers, whose store is the folder `results`."""
    started: list[Driver] = []

    def begin(*address: str) -> Driver:
        command = [sys.executable, "-c", DRIVER, str(bundled.model()), str(pictures), str(tmp_path / "results")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **AUTHENTICATION}
        started.append(
            Driver(subprocess.Popen([*command, *address], env=environment, stdout=subprocess.PIPE, text=True))
        )
        return started[-1]

    yield begin
    for driver in started:
        driver.process.kill()
        driver.finish()


@pytest.fixture
def cluster() -> Iterator["subprocess.Popen[str]"]:
    """A head and two nodes of one CPU each. It prints its address, and loses a node at each line that it gets."""
    environment = {**os.environ, **AUTHENTICATION, "RAY_USAGE_STATS_ENABLED": "0"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process


def workers_of(process: int) -> list[int]:
    """The process numbers of the actors that compute for a driver."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text()

    def is_below(number: int) -> bool:
        return number == process or (number in parents and is_below(parents[number]))

    return [number for number, name in names.items() if name.startswith("ray::MapWorker") and is_below(number)]


def test_rows_are_those_of_the_local_engine_whatever_was_killed(
    start: Callable[..., Driver], expected: list[Row], tmp_path: Path
) -> None:
    first = start()
    first.wait_for(2)
    os.kill(workers_of(first.process.pid)[0], signal.SIGKILL)
    first.wait_for(6)
    first.process.kill()
    first.finish()
    kept = {row.key.picture for row in stored(tmp_path / "results")}
    assert 6 <= len(kept) < PICTURES
    second = start()
    assert second.finish() == 0
    assert not kept & set(second.times)
    rows = stored(tmp_path / "results")
    assert len({row.key for row in rows}) == len(rows)
    check_equal(rows, expected)
    assert max(first.longest_gap(), second.longest_gap()) < LIMIT


def test_a_cluster_that_loses_a_node_gives_the_same_rows(
    start: Callable[..., Driver], cluster: "subprocess.Popen[str]", expected: list[Row], tmp_path: Path
) -> None:
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    driver = start(cluster.stdout.readline().strip())
    driver.wait_for(4)
    cluster.stdin.write("\n")
    cluster.stdin.flush()
    assert driver.finish() == 0
    rows = stored(tmp_path / "results")
    assert len({row.key for row in rows}) == len(rows)
    check_equal(rows, expected)
    assert driver.longest_gap() < LIMIT
