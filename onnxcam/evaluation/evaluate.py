"""evaluate(): pictures x methods x metrics, for one model or several, as rows; with a store it goes on where it ended.

This is the driver. It knows the keys of all rows before it computes any, leaves out what the journal has, has an engine
(runner.py) compute the rest, and commits each picture before its rows are yielded.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from onnxcam.errors import ModelsNotOpened, OnnxCamError, OptionError, PictureError, near
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.journal import NAME, Journal
from onnxcam.evaluation.model_request import ModelIdentity, ModelRequest, identify
from onnxcam.evaluation.options import (
    DataTarget,
    EvaluationOptions,
    MethodLike,
    SourceKind,
    metrics_for,
    source_named,
)
from onnxcam.evaluation.other_maps import check_maps
from onnxcam.evaluation.pace import EvaluationProgress, Pace
from onnxcam.evaluation.readers import read_data
from onnxcam.evaluation.readers import sample as sampled
from onnxcam.evaluation.row_keys import row_keys
from onnxcam.evaluation.rows import ItemResult, Row, RowKey
from onnxcam.evaluation.run_record import RunRecord
from onnxcam.evaluation.runner import Engine, LocalEngine, Task, Work
from onnxcam.evaluation.runs import RunState
from onnxcam.evaluation.targets_of_data import check_labels
from onnxcam.explainer.arguments import shown
from onnxcam.files import PICTURE, file_sha256
from onnxcam.metrics.baselines import BASELINES
from onnxcam.metrics.requests import ALL
from onnxcam.versions import versions

ModelLike = ModelRequest | str | Path | bytes
"""A model's file or its bytes, or either with the arguments of Explainer() that open it."""
ReportProgress = Callable[[EvaluationProgress], None]
ENGINES = ("local", "ray")


def evaluate(
    models: ModelLike | Sequence[ModelLike],
    data: DataSet | str | os.PathLike[str],
    methods: Sequence[MethodLike],
    metrics: Sequence[str] = (ALL,),
    *,
    store: Journal | str | os.PathLike[str] | None = None,
    target: str = DataTarget.PREDICTION,
    sample: int | None = None,
    seed: int = 0,
    step: int | None = None,
    baselines: Sequence[str] = tuple(BASELINES),
    maps: str | Path | Sequence[str | Path] = (),
    keep_maps: bool = False,
    workers: int = 1,
    engine: Engine | str = "local",
    retry_errors: bool = False,
    stored_rows: bool = True,
    progress: ReportProgress | None = None,
    against: str | None = None,
    command: str = "",
) -> Generator[Row, None, None]:
    """Measures the maps of methods over a data set, and yields a row for each picture, method and metric.

    models: one, or several, which are opened one after the other. data: a DataSet, or what read_data() takes. methods:
    Method values, names, or pairs of a name and options. metrics: names such as 'deletion' or 'average-drop:half'.
    target: 'prediction' or 'label', the class that the data names. sample: how many pictures to draw; seed: of that
    draw, and of metrics that draw numbers. step: pixels a step of a curve. baselines: maps that explain nothing,
    measured for comparison. maps: folders with a map of another tool for each picture.

    store: a folder of results, whose journal.sqlite is made or continued, or a Journal, which stays open. Each picture
    is committed with all of its rows before they are yielded; a run that was stopped or killed goes on with the next
    call, and computes nothing again but the pictures that were in work. Rows are told apart by the contents of picture
    and model and by all options: what differs is another row. Rows that the journal has are yielded too, as their
    pictures are passed, unless stored_rows is False. retry_errors: what ended in an error is computed again. keep_maps:
    maps are written into the store. Without a store nothing is kept.

    workers: pictures that are computed at a time. engine: 'local', 'ray', or an Engine. progress: called after each
    picture that is computed, after those that are passed, and at the end of each model. against: the method that the
    tables compare the others with, and command: what was typed; both for the record of the run.

    Arguments and data are checked now; models are read at the first row. A picture that fails is a row with its error.
    Of several models one that cannot be opened is passed over, and ModelsNotOpened is raised after the rows of the
    others. Close the iterator to stop early. Raises OnnxCamError.
    """
    dataset = data if isinstance(data, DataSet) else read_data(data)
    if sample is not None:
        dataset = sampled(dataset, sample, seed)
    if not dataset.items:
        raise OptionError(f"the data set {dataset.name} has no picture; {len(dataset.skipped)} were left out")
    if not isinstance(metrics, Sequence) or isinstance(metrics, str):
        raise OptionError(f"metrics is a list of names, such as ['deletion', 'insertion'], not {shown(metrics)}")
    options = EvaluationOptions(
        methods, metrics_for(metrics, dataset.items), baselines, target, step, seed, keep_maps,
        maps, dataset.classes,
    )  # fmt: skip
    if options.target is DataTarget.LABEL:
        check_labels(dataset)
    check_maps(options.sources, dataset.items)
    if keep_maps and store is None:
        raise OptionError("keep_maps writes the maps into the store; pass store= too, a folder")
    chosen = _engine(engine, workers)
    compared = None if against is None else source_named(options, against).key
    record = _record(dataset, options, sample, chosen, compared, command)
    job = _Job(_requests(models), dataset, options, chosen, retry_errors, stored_rows, progress)
    return _rows(job, store, record)


@dataclass(frozen=True, eq=False)
class _Job:
    """What evaluate() was called with, checked."""

    requests: Sequence[ModelRequest]
    dataset: DataSet
    options: EvaluationOptions
    engine: Engine
    retry_errors: bool
    stored_rows: bool
    progress: ReportProgress | None

    @property
    def maps_of(self) -> frozenset[str]:
        """The methods, as RowKey has them, whose maps are kept."""
        sources = self.options.sources if self.options.keep_maps else ()
        return frozenset(source.key for source in sources if source.kind is not SourceKind.BASELINE)


def _rows(job: _Job, store: Journal | str | os.PathLike[str] | None, record: RunRecord) -> Generator[Row, None, None]:
    with ExitStack() as opened:
        identified = identities(job.requests)
        journal, run = None, 0
        if store is not None:
            journal = store if isinstance(store, Journal) else opened.enter_context(Journal(Path(store) / NAME))
            run = opened.enter_context(_recorded(journal, record, identified))
        driver = _Driver(job, journal, run)
        for request, identity in zip(job.requests, identified, strict=True):
            yield from driver.rows_of_model(replace(request, name=identity.name), identity)
        if driver.unopened:
            raise ModelsNotOpened(_not_opened(driver.unopened, len(identified)))


@contextmanager
def _recorded(journal: Journal, record: RunRecord, identities: Sequence[ModelIdentity]) -> Iterator[int]:
    """The number of a new run, whose end is recorded whatever ends it."""
    run, state = journal.begin_run(record), RunState.STOPPED
    try:
        for identity in identities:
            journal.add_model(run, identity)
        yield run
        state = RunState.FINISHED
    finally:
        journal.end_run(run, state)


@dataclass(eq=False)
class _Driver:
    """One run. journal, run: None and 0 without a store.

    passed: places of pictures that the journal had, whose rows are to be yielded. in_work: places of those that are
    computed, by their keys. unopened: of several models, the names of those that cannot be opened, and why.
    """

    job: _Job
    journal: Journal | None
    run: int
    passed: deque[int] = field(default_factory=deque)
    positions: Iterator[int] = field(default_factory=count)
    in_work: dict[str, int] = field(default_factory=dict)
    unopened: dict[str, OnnxCamError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pace = Pace(len(self.job.dataset.items) * len(self.job.requests))
        self.maps_of = self.job.maps_of

    def rows_of_model(self, request: ModelRequest, identity: ModelIdentity) -> Generator[Row, None, None]:
        """The rows of one model; commits each picture before it yields them.

        One of several that cannot be opened has the rows that the journal had, and stands in `unopened`.
        """

        def keys(item: DataItem, sha256: str) -> tuple[RowKey, ...]:
            return tuple(row_keys(identity, self.job.options, item, sha256))

        def opened() -> Evaluator:
            evaluator = Evaluator(request, self.job.options, identity)
            self.pace.start()
            return evaluator

        work = Work(request, self.job.options, identity, keys, opened)
        tasks = self._tasks(work)
        try:
            yield from self._computed(tasks, work)
        except OnnxCamError as error:
            if error is not work.failure or len(self.job.requests) == 1:
                raise
            self.unopened[identity.name] = error
            if self.journal is not None:
                deque(tasks, maxlen=0)  # plans the pictures behind, whose rows may be there
            self.in_work.clear()
        self._report(identity)
        yield from self._passed_rows()

    def _computed(self, tasks: Iterator[Task], work: Work) -> Generator[Row, None, None]:
        with _closed(work.close), _taken(self.job.engine(tasks, work)) as results:
            for result in results:
                position = self.in_work.pop(result.item)
                if self.journal is not None:
                    self.journal.add(result)
                self.pace.count(failed=any(row.error is not None for row in result.rows))
                self._report(work.identity, result.item)
                yield from self._passed_rows()
                yield from self._rows_at(position) if self.journal is not None else result.rows

    def _tasks(self, work: Work) -> Iterator[Task]:
        """What has to be computed, picture by picture."""
        walked = 0
        for item in self.job.dataset.items:
            position, sha256 = next(self.positions), self._sha256(item)
            keys = missing = work.keys(item, sha256)
            if self.journal is not None:
                missing = self.journal.plan(
                    self.run, position, keys, maps_of=self.maps_of, retry_errors=self.job.retry_errors
                )
            if missing:
                if walked:  # the first picture may take minutes
                    self._report(work.identity)
                    walked = 0
                self.in_work[item.key] = position
                yield Task(item, sha256, missing if missing != keys else None)
                continue
            self.pace.kept, walked = self.pace.kept + 1, walked + 1
            if self.job.stored_rows:
                self.passed.append(position)

    def _sha256(self, item: DataItem) -> str:
        """Of the picture's file; empty for one that cannot be read, which its rows say."""
        try:
            return self.journal.sha256(item.path) if self.journal is not None else file_sha256(item.path, PICTURE)
        except PictureError:
            return ""

    def _rows_at(self, position: int) -> list[Row]:
        return self.journal.rows_at(self.run, position) if self.journal is not None else []

    def _passed_rows(self) -> Iterator[Row]:
        while self.passed:
            yield from self._rows_at(self.passed.popleft())

    def _report(self, identity: ModelIdentity, picture: str = "") -> None:
        if self.job.progress is not None:
            self.job.progress(self.pace.progress(identity.name, picture))


def _not_opened(unopened: Mapping[str, OnnxCamError], models: int) -> str:
    each = "; ".join(f"{name}: {error}" for name, error in unopened.items())
    return f"{len(unopened)} of {models} models cannot be opened, and nothing new was measured of these: {each}"


@contextmanager
def _closed(close: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    finally:
        close()


@contextmanager
def _taken(results: Iterator[ItemResult]) -> Iterator[Iterator[ItemResult]]:
    """Results of an engine, whose work ends with the block."""
    try:
        yield results
    finally:
        if isinstance(results, Generator):
            results.close()


def _engine(engine: Engine | str, workers: int) -> Engine:
    if not isinstance(engine, str):
        if not callable(engine):
            raise OptionError(f"engine is 'local', 'ray' or an Engine, not {shown(engine)}")
        return engine
    if engine not in ENGINES:
        raise OptionError(f"no engine is called {engine!r}; {near(engine, ENGINES)}")
    local = LocalEngine(workers)
    if engine == "local":
        return local
    from onnxcam.evaluation.ray_runner import RayEngine

    return RayEngine(actors=workers)


def _requests(models: ModelLike | Sequence[ModelLike]) -> list[ModelRequest]:
    several = models if isinstance(models, Sequence) and not isinstance(models, str | bytes) else [models]
    if not several:
        raise OptionError("there is no model to evaluate")
    for model in several:
        if not isinstance(model, ModelRequest | str | os.PathLike | bytes):
            raise OptionError(f"a model is a file's path, its bytes or a ModelRequest, not {shown(model)}")
    return [model if isinstance(model, ModelRequest) else ModelRequest(model) for model in several]


def identities(requests: Sequence[ModelRequest]) -> list[ModelIdentity]:
    """Of each model, with names that tell them apart. Raises OptionError for one that is given twice."""
    identified = [identify(request) for request in requests]
    for i, one in enumerate(identified):
        if (one.sha256, one.opening) in [(other.sha256, other.opening) for other in identified[:i]]:
            raise OptionError(f"the model {one.name} is given twice, and opened in the same way; name each once")
    names = [identity.name for identity in identified]
    twice = {name for name in names if names.count(name) > 1}
    for i, request in enumerate(requests):
        if names[i] in twice:
            folder = Path(request.model).parent.name if isinstance(request.model, str | Path) else ""
            names[i] = f"{folder}/{names[i]}" if folder else names[i]
    return [
        replace(one, name=name if names.count(name) == 1 else f"{name} ({i + 1})")
        for i, (one, name) in enumerate(zip(identified, names, strict=True))
    ]


def _record(
    dataset: DataSet,
    options: EvaluationOptions,
    sample: int | None,
    engine: Engine,
    against: str | None,
    command: str,
) -> RunRecord:
    described: dict[str, Any] = {
        "methods": [source.key for source in options.sources if source.kind is SourceKind.METHOD],
        "maps": [str(source.folder) for source in options.sources if source.folder is not None],
        "baselines": list(options.baselines),
        "metrics": list(options.metrics),
        "target": str(options.target),
        "step": options.step,
        "seed": options.seed,
        "sample": sample,
        "pictures": len(dataset.items),
        "keep_maps": options.keep_maps,
        "against": against,
    }
    return RunRecord(
        command, engine=str(engine), versions=versions(), data=dataset.name, format=dataset.format, options=described,
        skipped=dict(dataset.skipped), source=dict(dataset.source),
    )  # fmt: skip
