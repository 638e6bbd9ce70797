"""evaluate(): a run that was stopped or killed goes on; nothing is lost, doubled, mixed, or computed again."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from evaluated_rows import keys_of, plain_row
from PIL import Image
from small_models import CLASSIFIER, filled

from onnxcam import Explainer, evaluate
from onnxcam.errors import InferenceError, ModelError, ModelsNotOpened, OnnxCamError, OptionError, OutOfMemory, TimedOut
from onnxcam.evaluation import evaluate as driver
from onnxcam.evaluation import map_rows
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.journal import Journal
from onnxcam.evaluation.map_files import read_maps
from onnxcam.evaluation.model_request import ModelRequest
from onnxcam.evaluation.pace import EvaluationProgress, Pace
from onnxcam.evaluation.rows import ItemResult, Row, RowKey
from onnxcam.evaluation.runner import Task, Work, run_local
from onnxcam.evaluation.runs import RunState
from onnxcam.evaluation.shared_scorer import SharedScorer
from onnxcam.metrics.measurement import Measurement

METHODS, METRICS = ("grad-cam", "layer-cam", "eigen-cam"), ("deletion", "sparseness")
TIMES = ("seconds", "method_seconds")
PER_PICTURE = len(METHODS) * len(METRICS)
Computed = list[tuple[str, frozenset[RowKey] | None]]


def pictures(folder: Path, count: int, seed: int = 3) -> DataSet:
    generator = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    items = []
    for i in range(count):
        path = folder / f"{i}.png"
        Image.fromarray(generator.integers(0, 256, (20, 15, 3)).astype(np.uint8)).save(path)
        items.append(DataItem(path, path.name, i % 3))
    return DataSet("noise", "folder", tuple(items))


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return pictures(tmp_path / "data", 5)


@pytest.fixture
def model(classifier_file: Path) -> ModelRequest:
    return ModelRequest(classifier_file, {"providers": ["cpu"], "batch": 4, "threads": 1})


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Computed:
    """The pictures that are computed, and the rows that were requested of each."""
    calls: Computed = []

    class Counting(Evaluator):
        def evaluate(self, item: DataItem, picture_sha256: str, only: Collection[RowKey] | None = None) -> ItemResult:
            calls.append((item.key, None if only is None else frozenset(only)))
            return super().evaluate(item, picture_sha256, only)

    monkeypatch.setattr(driver, "Evaluator", Counting)
    return calls


def run(model: Any, data: DataSet, store: Path | Journal | None = None, **options: Any) -> list[Row]:
    options = {"methods": METHODS, "metrics": METRICS, "baselines": (), **options}
    return list(evaluate(model, data, store=store, **options))


def comparable(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """Everything of the rows but times, in an order that does not depend on when they were computed."""
    timeless = [dataclasses.replace(row, **dict.fromkeys(TIMES, 0.0)) for row in rows]
    return sorted((plain_row(row) for row in timeless), key=lambda values: dataclasses.astuple(values[0]))


def stored(store: Path, number: int = -1) -> list[Row]:
    """The rows of one run, the last one."""
    with Journal(store / "journal.sqlite", read_only=True) as journal:
        return list(journal.rows(run=journal.runs()[number].number))


def states(store: Path) -> list[RunState]:
    with Journal(store / "journal.sqlite", read_only=True) as journal:
        return [run.state for run in journal.runs()]


def test_rows_are_the_same_with_and_without_a_store(model: ModelRequest, data: DataSet, tmp_path: Path) -> None:
    rows = run(model, data)
    assert len(rows) == 5 * PER_PICTURE
    assert all(row.value is not None and row.error is None for row in rows)
    kept = run(model, data, tmp_path / "results")
    assert comparable(kept) == comparable(rows)
    assert [plain_row(row) for row in stored(tmp_path / "results")] == [plain_row(row) for row in kept]


def test_workers_do_not_change_the_rows(model: ModelRequest, data: DataSet, tmp_path: Path) -> None:
    assert comparable(run(model, data, tmp_path / "results", workers=3)) == comparable(run(model, data))
    assert comparable(stored(tmp_path / "results")) == comparable(run(model, data))


def test_a_second_run_computes_nothing_and_opens_no_model(
    model: ModelRequest, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run(model, data, tmp_path / "results")
    monkeypatch.setattr(driver, "Evaluator", None)
    assert [plain_row(row) for row in run(model, data, tmp_path / "results")] == [plain_row(row) for row in rows]
    assert run(model, data, tmp_path / "results", stored_rows=False) == []
    assert states(tmp_path / "results") == [RunState.FINISHED] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_closed_goes_on(
    model: ModelRequest, data: DataSet, tmp_path: Path, computed: Computed, workers: int
) -> None:
    rows = evaluate(
        model, data, METHODS, METRICS, baselines=(), store=tmp_path / "results", workers=workers
    )  # fmt: skip
    for _ in range(PER_PICTURE + 1):  # all of the first picture, and one of the second
        next(rows)
    rows.close()
    assert states(tmp_path / "results") == [RunState.STOPPED]
    assert 2 <= len(computed) <= 1 + workers
    assert len(stored(tmp_path / "results")) == 2 * PER_PICTURE
    before = len(computed)
    resumed = run(model, data, tmp_path / "results", workers=workers)
    assert len(computed) - before == 3
    assert comparable(resumed) == comparable(run(model, data))


def test_changed_options_are_other_rows(model: ModelRequest, data: DataSet, tmp_path: Path, computed: Computed) -> None:
    store = tmp_path / "results"
    first = run(model, data, store)
    second = run(model, data, store, step=7)
    assert not {row.key for row in first if row.key.metric == "deletion"} & {row.key for row in second}
    assert comparable(stored(store, 0)) == comparable(first)
    assert comparable(stored(store, 1)) == comparable(second)
    only = computed[5:]  # sparseness has no step, and is there
    assert all(keys is not None and {key.metric for key in keys} == {"deletion"} for _, keys in only)
    other = dataclasses.replace(model, arguments={**model.arguments, "layer": "c1"})
    assert not {row.key for row in run(other, data, store)} & {row.key for row in first}


def test_only_what_is_new_is_computed(model: ModelRequest, data: DataSet, tmp_path: Path, computed: Computed) -> None:
    store = tmp_path / "results"
    run(model, data, store, methods=("grad-cam",))
    computed.clear()
    rows = run(model, data, store, metrics=("deletion", "insertion"))
    assert comparable(rows) == comparable(run(model, data, metrics=("deletion", "insertion")))
    for _, only in computed[:5]:
        assert only is not None
        assert ("grad-cam", "deletion") not in {(key.method, key.metric) for key in only}
        assert len(only) == 5


def test_a_picture_that_changed_is_computed_again(
    model: ModelRequest, data: DataSet, tmp_path: Path, computed: Computed
) -> None:
    store = tmp_path / "results"
    before = run(model, data, store)
    Image.fromarray(np.full((20, 15, 3), 90, np.uint8)).save(data.items[2].path)
    computed.clear()
    after = run(model, data, store)
    assert computed == [("2.png", None)]
    changed = {row.key.picture for row in after} - {
        row.key.picture for row in after if row.key in {r.key for r in before}
    }
    assert changed == {"2.png"}
    assert len(after) == len(before)


def test_a_broken_picture_is_a_row_and_a_repaired_one_is_computed(
    model: ModelRequest, data: DataSet, tmp_path: Path, computed: Computed
) -> None:
    store, place = tmp_path / "results", data.items[1].path
    content = place.read_bytes()
    for damaged in (content[:60], b""):
        place.write_bytes(damaged)
        rows = [row for row in run(model, data, store) if row.key.picture == "1.png"]
        assert [(row.key.method, row.key.metric) for row in rows] == [(method, "") for method in METHODS]
        assert all(row.error and "1.png" in row.error for row in rows)
    computed.clear()
    assert len([row for row in run(model, data, store) if row.error]) == 3
    assert not computed
    place.write_bytes(content)
    assert comparable(run(model, data, store)) == comparable(run(model, data))
    place.unlink()
    assert len([row for row in run(model, data, store) if row.error]) == 3


def test_errors_are_tried_again_on_request(
    model: ModelRequest, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "results"
    with monkeypatch.context() as broken:
        broken.setattr("onnxcam.evaluation.picture_work.explain_next", lambda *args: OnnxCamError("too little memory"))
        assert {row.error for row in run(model, data, store)} == {"too little memory"}
    assert {row.error for row in run(model, data, store)} == {"too little memory"}
    assert comparable(run(model, data, store, retry_errors=True)) == comparable(run(model, data))
    assert comparable(stored(store)) == comparable(run(model, data))


@pytest.mark.parametrize(("error", "tries"), [(InferenceError, 3), (TimedOut, 2), (OutOfMemory, 2)])
def test_a_metric_that_cannot_be_computed_is_an_error_and_not_undefined(
    model: ModelRequest, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: type[OnnxCamError], tries: int,
) -> None:  # fmt: skip
    """One of time or memory is tried again by the next run, others on request."""
    store, measure = tmp_path / "results", map_rows.measure

    def failing(name: str, *values: Any, **options: Any) -> Measurement:
        if name.startswith("deletion"):
            raise error("no memory of the GPU is left")
        return measure(name, *values, **options)

    with monkeypatch.context() as broken:
        broken.setattr(map_rows, "measure", failing)
        rows = run(model, data, store)
    assert {(row.key.metric, row.value is None, row.reason, row.error) for row in rows} == {
        ("deletion", True, None, "no memory of the GPU is left"), ("sparseness", False, None, None),
    }  # fmt: skip
    if tries == 3:
        assert comparable(run(model, data, store)) == comparable(rows)
    again = run(model, data, store, retry_errors=tries == 3)
    assert comparable(again) == comparable(run(model, data))


def test_a_pass_that_fails_for_all_maps_together_is_the_error_of_each_metric(
    model: ModelRequest, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*values: Any, **options: Any) -> Any:
        raise InferenceError("the device is gone")

    monkeypatch.setattr(SharedScorer, "masks", failing)
    rows = run(model, data, metrics=("average-drop", "sparseness"))
    assert {(row.key.metric, row.error) for row in rows} == {
        ("average_drop", "the device is gone"), ("sparseness", None),
    }  # fmt: skip


def test_the_first_method_is_the_first_in_the_rows_whatever_ran_before(
    model: ModelRequest, data: DataSet, tmp_path: Path
) -> None:
    run(model, data, tmp_path / "results", methods=("grad-cam",))
    rows = run(model, data, tmp_path / "results", methods=("layer-cam", "grad-cam"))
    assert list(dict.fromkeys(row.key.method for row in rows)) == ["layer-cam", "grad-cam"]
    kept = stored(tmp_path / "results")
    assert list(dict.fromkeys(row.key.method for row in kept)) == ["layer-cam", "grad-cam"]


def test_maps_are_kept_on_request_also_of_rows_that_are_there(
    model: ModelRequest, data: DataSet, tmp_path: Path, computed: Computed
) -> None:
    store = tmp_path / "results"
    run(model, data, store, baselines=("ones",))
    computed.clear()
    for pictures_computed in (5, 0):
        run(model, data, store, baselines=("ones",), keep_maps=True)
        assert len(computed) == pictures_computed
        assert all(key.metric == "" for _, only in computed for key in only or keys_of("", METHODS)), "maps alone"
        computed.clear()
    with Journal(store / "journal.sqlite", read_only=True) as journal:
        kept = journal.kept_maps(run=journal.runs()[-1].number)
    assert [each.picture for each in kept] == [item.key for item in data.items]
    assert set(read_maps(kept[0].file).maps) == set(METHODS)
    with pytest.raises(OptionError, match="pass store= too"):
        run(model, data, keep_maps=True)


def test_the_kept_map_is_that_of_the_label_that_the_run_explains(
    model: ModelRequest, data: DataSet, tmp_path: Path
) -> None:
    store, values = tmp_path / "results", {}
    for label in (1, 2, 1):
        one = dataclasses.replace(data, items=(dataclasses.replace(data.items[0], label=label),))
        run(model, one, store, methods=("grad-cam",), target="label", keep_maps=True)
        with Journal(store / "journal.sqlite", read_only=True) as journal:
            (kept,) = journal.kept_maps(run=journal.runs()[-1].number)
        map_ = read_maps(kept.file).maps["grad-cam"]
        np.testing.assert_array_equal(values.setdefault(label, map_), map_)
    with Explainer(model.model, "grad-cam", **model.arguments) as explainer:
        for label, map_ in values.items():
            np.testing.assert_allclose(map_, explainer(data.items[0].path, label).map, atol=1e-5)


def test_several_models_are_told_apart(model: ModelRequest, data: DataSet, tmp_path: Path) -> None:
    other = tmp_path / "other" / "tiny.onnx"
    other.parent.mkdir()
    onnx.save(filled(CLASSIFIER, seed=9), other)
    second = dataclasses.replace(model, model=other)
    rows = run([model, second], data, tmp_path / "results")
    assert {row.model_name for row in rows} == {f"{tmp_path.name}/tiny.onnx", "other/tiny.onnx"}
    alone = comparable(run(model, data))
    assert [values[2:] for values in comparable(rows) if values[0].model == alone[0][0].model] == [
        values[2:] for values in alone
    ]
    with pytest.raises(OptionError, match="is given twice"):
        run([model, model], data)
    with pytest.raises(ModelError):  # before anything is computed
        next(evaluate([model, tmp_path / "missing.onnx"], data, METHODS, METRICS, store=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_model_that_cannot_be_opened_has_its_earlier_rows_and_the_next_is_measured(
    model: ModelRequest, data: DataSet, tmp_path: Path
) -> None:
    store = tmp_path / "results"
    run(model, dataclasses.replace(data, items=data.items[1:3]), store)
    other = tmp_path / "other.onnx"
    onnx.save(filled(CLASSIFIER, seed=9), other)
    second = dataclasses.replace(model, model=other)

    def engine(tasks: Iterable[Task], work: Work) -> Iterator[ItemResult]:
        if work.request.model == model.model:  # as an engine in other processes does
            work.failure = InferenceError("no such device")
            next(iter(tasks))
            raise work.failure
        yield from run_local(tasks, work.evaluator)

    rows: list[Row] = []
    with pytest.raises(ModelsNotOpened, match=r"1 of 2 models cannot be opened.*: tiny\.onnx: no such device"):
        rows.extend(evaluate([model, second], data, METHODS, METRICS, store=store, baselines=(), engine=engine))
    with pytest.raises(InferenceError, match=r"^no such device"):
        list(evaluate(model, data, METHODS, METRICS, store=store, baselines=(), engine=engine))
    assert comparable(rows) == comparable(stored(store, 1))
    assert [(row.model_name, row.key.picture) for row in rows] == [
        ("tiny.onnx", key) for key in ("1.png", "2.png") for _ in range(PER_PICTURE)
    ] + [("other.onnx", item.key) for item in data.items for _ in range(PER_PICTURE)]


def test_a_journal_that_is_given_stays_open(model: ModelRequest, data: DataSet, tmp_path: Path) -> None:
    with Journal(tmp_path / "here.sqlite") as journal:
        rows = run(model, data, journal)
        assert comparable(journal.rows()) == comparable(rows)


def test_progress_counts_pictures_of_all_models(model: ModelRequest, data: DataSet, tmp_path: Path) -> None:
    store, seen = tmp_path / "results", list[EvaluationProgress]()
    few = dataclasses.replace(data, items=data.items[:2])
    run(model, few, store)
    data.items[3].path.write_bytes(b"no picture")
    run(model, data, store, progress=seen.append)
    assert [(each.done, each.kept, each.total, each.failed) for each in seen] == [
        (2, 2, 5, 0), (3, 2, 5, 0), (4, 2, 5, 1), (5, 2, 5, 1), (5, 2, 5, 1),
    ]  # fmt: skip
    assert [each.picture for each in seen] == ["", "2.png", "3.png", "4.png", ""]
    assert seen[0].rate is None
    assert seen[1].rate is not None
    assert seen[1].seconds_left == pytest.approx(2 / seen[1].rate)
    assert seen[-1].seconds_left == 0


def test_the_rate_is_that_of_the_last_pictures() -> None:
    clock = iter([0.0, *(10.0 * i for i in range(1, 41)), *(400 + 2.0 * i for i in range(1, 41))])
    pace = Pace(100, lambda: next(clock))
    pace.start()
    assert pace.progress("m").rate is None
    for _ in range(40):
        pace.count(failed=False)
    assert pace.progress("m").rate == pytest.approx(0.1)
    assert pace.progress("m").seconds_left == pytest.approx(600)
    for _ in range(40):
        pace.count(failed=True)
    assert pace.progress("m").rate == pytest.approx(0.5)
    assert pace.progress("m").seconds_left == pytest.approx(40)
    assert (pace.progress("m").done, pace.progress("m").failed) == (80, 40)


def test_opening_the_next_model_is_no_part_of_the_rate() -> None:
    clock = iter([0.0, 1.0, 2.0, 500.0, 503.0])
    pace = Pace(10, lambda: next(clock))
    pace.start()
    pace.count(failed=False)
    pace.count(failed=False)
    assert pace.progress("m").rate == pytest.approx(1)
    pace.start()
    assert pace.progress("n").rate is None
    pace.count(failed=False)
    assert pace.progress("n").rate == pytest.approx(1 / 3)


def test_an_engine_is_a_function(model: ModelRequest, data: DataSet, tmp_path: Path) -> None:
    """One that takes all tasks at first, and gives them back in another order."""

    def backwards(tasks: Iterable[Task], work: Work) -> Iterator[ItemResult]:
        return run_local(list(tasks)[::-1], work.evaluator)

    rows = run(model, data, tmp_path / "results", engine=backwards)
    assert rows[0].key.picture == "4.png"
    assert comparable(rows) == comparable(run(model, data))
    assert [row.key.picture for row in stored(tmp_path / "results")][::PER_PICTURE] == [i.key for i in data.items]


def test_nothing_is_read_or_written_before_the_first_row(data: DataSet, tmp_path: Path) -> None:
    evaluate(tmp_path / "missing.onnx", data, METHODS, METRICS, store=tmp_path / "results").close()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"models": []}, "no model"), ({"models": 3}, "a model is"), ({"models": [None]}, "a model is"),
        ({"data": DataSet("empty", "folder", ())}, "has no picture"), ({"data": "/nowhere/at/all"}, "nowhere"),
        ({"methods": ["grad-cma"]}, "did you mean grad-cam"), ({"metrics": ["deletoin"]}, "did you mean"),
        ({"metrics": "deletion"}, "metrics is a list"), ({"metrics": ()}, "needs a metric"),
        ({"methods": (), "baselines": ()}, "something to measure"), ({"methods": "grad-cam"}, "methods is a list"),
        ({"sample": 0}, "from 1 on"), ({"step": 0}, "step"), ({"seed": -1}, "seed"), ({"workers": 0}, "workers"),
        ({"engine": "spark"}, "no engine is called 'spark'; "), ({"engine": 3}, "engine is"),
        ({"target": "truth"}, "target"), ({"metrics": ["pointing-game"]}, "needs boxes"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_at_once(data: DataSet, changed: Mapping[str, Any], message: str) -> None:
    arguments = {"models": "m.onnx", "data": data, "methods": METHODS, "metrics": METRICS, **changed}
    with pytest.raises(OnnxCamError, match=message):
        evaluate(**arguments)


# Signals and kills, in a process of their own.

PROGRAM = """
import sys, time
from pathlib import Path
from onnxcam.evaluation import evaluate as driver
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.model_request import ModelRequest

class Logging(Evaluator):
    def evaluate(self, item, picture_sha256, only=None):
        with open({log!r}, "a") as log:
            log.write(item.key + "\\n")
        time.sleep({pause})
        return super().evaluate(item, picture_sha256, only)

driver.Evaluator = Logging
data = DataSet("noise", "folder", tuple(
    DataItem(path, path.name, int(path.stem) % 3) for path in sorted(Path({folder!r}).iterdir())))
model = ModelRequest({model!r}, {{"providers": ["cpu"], "batch": 4, "threads": 1}})
for row in driver.evaluate(model, data, {methods!r}, {metrics!r}, baselines=(), store={store!r}, workers={workers}):
    print(row.key.picture, flush=True)
"""
EIGHT = ("deletion", "insertion", "average-drop", "average-gain", "average-increase", "adcc", "sparseness", "road")


def program(data: DataSet, model: ModelRequest, store: Path, workers: int, metrics: Sequence[str], pause: float) -> str:
    return PROGRAM.format(
        log=str(store.with_suffix(".log")), folder=str(data.items[0].path.parent), model=str(model.model),
        methods=METHODS, metrics=tuple(metrics), store=str(store), workers=workers, pause=pause,
    )  # fmt: skip


def started(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ctrl_c_leaves_a_journal_that_goes_on(model: ModelRequest, data: DataSet, tmp_path: Path, workers: int) -> None:
    store = tmp_path / "results"
    with started(program(data, model, store, workers, METRICS, 0.1)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in message
    assert states(store) == [RunState.STOPPED]
    kept = {row.key.picture for row in stored(store)}
    begun = store.with_suffix(".log").read_text().split()
    assert 1 <= len(kept) < 5
    assert len(begun) <= len(kept) + workers
    assert comparable(run(model, data, store)) == comparable(run(model, data))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_five_kills_lose_and_double_nothing(model: ModelRequest, tmp_path: Path, workers: int) -> None:
    """36 pictures x 3 methods x 8 metrics; at most one picture a worker is computed again for each kill."""
    data, store = pictures(tmp_path / "data", 36), tmp_path / "results"
    code, draw = program(data, model, store, workers, EIGHT, 0.02), random.Random(workers)
    for kills in range(1, 6):
        with started(code) as process:
            log = store.with_suffix(".log")
            before = len(log.read_text()) if log.exists() else 0
            while process.poll() is None and (not log.exists() or len(log.read_text()) == before):
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.4))
            assert process.poll() is None, process.communicate()
            process.kill()
        with Journal(store / "journal.sqlite") as journal:
            assert journal.runs()[-1].state is RunState.KILLED
            counts = dict[str, int]()
            for row in journal.rows():
                counts[row.key.picture] = counts.get(row.key.picture, 0) + 1
        assert set(counts.values()) <= {len(METHODS) * len(EIGHT)}  # a picture is there whole or not at all
        assert len(log.read_text().split()) <= len(counts) + kills * workers
        assert len(counts) < 36
    with started(code) as process:
        output, message = process.communicate(timeout=300)
    assert process.returncode == 0, message
    assert len(output.split()) == 36 * len(METHODS) * len(EIGHT)
    begun = store.with_suffix(".log").read_text().split()
    assert len(set(begun)) == 36
    assert len(begun) <= 36 + 5 * workers
    assert comparable(stored(store)) == comparable(run(model, data, metrics=EIGHT))
    with Journal(store / "journal.sqlite", read_only=True) as journal:
        assert comparable(journal.rows()) == comparable(stored(store))
    assert not [name for name in os.listdir(store) if name.endswith(".tmp")]
