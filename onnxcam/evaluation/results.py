"""The files of a run: `write_results` makes the tables and the report of what the journal has, without a model."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from onnxcam.errors import OptionError
from onnxcam.evaluation.collection import Collection, Setup, collect
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.export import check_pyarrow, export
from onnxcam.evaluation.journal import Journal
from onnxcam.evaluation.map_files import PictureMaps, joined, read_maps
from onnxcam.evaluation.report import REPORT, check_jinja2, write_report
from onnxcam.evaluation.runs import Run
from onnxcam.evaluation.summary import Summary, summarise


@dataclass(frozen=True, eq=False)
class Results:
    """What the rows of one run say together. files: what was written."""

    run: Run
    collection: Collection
    summary: Summary
    files: tuple[Path, ...]


def check_packages(*, report: bool = True) -> None:
    """Raises OptionError where a package is missing that the files need, before long work."""
    check_pyarrow()
    if report:
        check_jinja2()


def write_results(
    journal: Journal,
    run: int | None = None,
    *,
    folder: Path | None = None,
    against: str | None = None,
    report: bool = True,
    items: Iterable[DataItem] = (),
    seed: int | None = None,
) -> Results:
    """Writes results.parquet, summary.json and summary.csv of a run, and its report.html; of one that was stopped too.

    run: its number; the last that has rows by default. folder: that of the journal by default. against: the method that
    the others are compared with. items: of the data set, for the pictures of the report. seed: of the intervals. Both
    are those of the run by default. Raises OptionError for a run that the journal does not have or that has no rows,
    and where a package is missing; OutputError for files that cannot be written.
    """
    check_packages(report=report)
    chosen, place = run_of(journal, run), folder if folder is not None else journal.path.parent
    collection = collect(journal.rows(run=chosen.number), curves=report)
    if not collection.rows:
        raise OptionError(
            f"{journal.path}: run {chosen.number} has no rows yet; run it again, it goes on where it ended"
        )
    options = chosen.record.options
    against = against if against is not None else options.get("against")
    seed = seed if seed is not None else int(options.get("seed", 0))
    summary = summarise(collection, against=against, seed=seed)
    files = export(journal.rows(run=chosen.number), summary, place, run=chosen.record)
    if report:
        write_report(
            collection, place / REPORT, summary=summary, run=chosen.record, items=items,
            maps_of=_maps_of(journal, chosen.number), seed=seed,
        )  # fmt: skip
        files = [*files, place / REPORT]
    return Results(chosen, collection, summary, tuple(files))


def has_rows(journal: Journal, run: int) -> bool:
    """Whether there is a row of the run."""
    with closing(journal.rows(run=run)) as rows:
        return next(rows, None) is not None


def run_of(journal: Journal, number: int | None = None) -> Run:
    """The run of this number; by default the last that has rows, as a later one may have ended before its first.

    Raises OptionError where there is none.
    """
    runs = journal.runs()
    if not runs:
        raise OptionError(f"{journal.path}: no run was begun; give the model and the data too")
    if number is None:
        return next((run for run in reversed(runs) if has_rows(journal, run.number)), runs[-1])
    for run in runs:
        if run.number == number:
            return run
    raise OptionError(f"{journal.path}: there is no run {number}; the runs are 1 to {runs[-1].number}")


def _maps_of(journal: Journal, run: int) -> Callable[[Setup, str, str], PictureMaps | None]:
    """Gives the maps that were kept of a picture."""
    kept: dict[tuple[str, ...], list[Path]] = {}
    for one in journal.kept_maps(run=run):  # a run explains one label of a picture
        kept.setdefault((one.model, one.opening, one.target, one.picture, one.picture_sha256), []).append(one.file)

    def maps_of(setup: Setup, picture: str, sha256: str) -> PictureMaps | None:
        files = kept.get((setup.model, setup.opening, setup.target, picture, sha256), ())
        return joined([read_maps(file) for file in files if file.is_file()])

    return maps_of
