"""`onnxcam evaluate`: pictures x methods x metrics of a data set, as a journal, tables and a report."""

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from onnxcam.cli.evaluate_options import EvaluateArgs
from onnxcam.cli.evaluate_parsing import Job, parse_against, parse_folder, parse_job
from onnxcam.cli.evaluation_progress import EvaluationBar, evaluation_bar
from onnxcam.cli.evaluation_summary import announcement, evaluation_summary
from onnxcam.cli.failures import Reported, error_record
from onnxcam.cli.groups import command
from onnxcam.cli.isolated import ran_isolated
from onnxcam.cli.overwriting import check_results
from onnxcam.cli.printing import print_json, print_lines, print_note
from onnxcam.cli.stopping import stoppable
from onnxcam.errors import InferenceError, ModelsNotOpened, OnnxCamError

if TYPE_CHECKING:
    from onnxcam.evaluation.dataset import DataItem
    from onnxcam.evaluation.pace import EvaluationProgress
    from onnxcam.evaluation.results import Results
    from onnxcam.evaluation.runs import Run


@command
def evaluate(args: EvaluateArgs) -> None:
    """Measure the maps of methods over a data set: tables with intervals, and a report. Needs the extra `evaluate`.

    Each picture is kept in the journal of the output folder as soon as it is measured.
    A run that stops goes on with the same command; other options are other rows beside it.
    `onnxcam evaluate results/` makes tables and report anew, without the model.
    """
    if ran_isolated(args.engine.isolated, args.limits):
        return
    begun = time.monotonic()
    if len(args.paths) == 1:
        results, progress, failure = _made_anew(args), None, None
    else:
        results, progress, failure = _measured(args)
    error: OnnxCamError | None = failure
    if error is None and not any(line.estimate for line in results.summary.lines):
        error = InferenceError(f"no map of any picture could be measured; {results.files[0]} says why of each")
    if args.json:
        print_json({**_record(results), **(error_record(error) if error is not None else {})})
    elif not args.quiet:
        print_lines(evaluation_summary(results, progress, time.monotonic() - begun))
    if error is not None:
        raise Reported(error) if args.json else error


def _measured(args: EvaluateArgs) -> "tuple[Results, EvaluationProgress | None, ModelsNotOpened | None]":
    """Measures what the journal does not have; the results, how the run went, and what is raised in the end."""
    from onnxcam.evaluation.evaluate import evaluate, identities
    from onnxcam.evaluation.journal import NAME, Journal
    from onnxcam.evaluation.model_request import preprocessing_doubt
    from onnxcam.evaluation.results import check_packages, has_rows, write_results
    from onnxcam.inputs.opencv import opencv

    check_packages(report=args.report)
    opencv()
    job = parse_job(args)
    options, failure = job.options, None
    check_results(job.folder, overwrite=args.overwrite)
    models = identities(job.models)  # before the folder is made
    with stoppable(), Journal(job.folder / NAME) as journal:
        if not args.quiet:
            first, *details = announcement(len(job.models), job.data, options, journal)
            details += [
                f"note     {preprocessing_doubt(model.name, model.preprocessing)}" for model in models if model.assumed
            ]
            print_note(first, details)
        with _stopped(job) as bars, evaluation_bar(quiet=args.quiet) as bar, closing(
            evaluate(
                job.models, job.data, options.methods, options.metrics, store=journal, target=options.target,
                sample=args.data.sample, seed=options.seed, step=args.curve_step, baselines=options.baselines,
                maps=options.maps_folder, keep_maps=args.keep_maps, engine=job.engine, retry_errors=args.retry,
                stored_rows=False, progress=bar.report, against=job.against,
                command=shlex.join(["onnxcam", *sys.argv[1:]]),
            )
        ) as rows:  # fmt: skip
            bars.append(bar)
            try:
                for _ in rows:
                    continue
            except ModelsNotOpened as error:
                failure = error
            run = journal.runs()[-1].number
            if failure is not None and not has_rows(journal, run):
                raise failure
            bar.note("tables and report")
            results = write_results(journal, run, report=args.report, items=job.data.items)
    return results, bar.last, failure


def _made_anew(args: EvaluateArgs) -> "Results":
    """The tables and the report of a run in a folder of results, without the model."""
    from onnxcam.evaluation.journal import NAME, Journal
    from onnxcam.evaluation.results import run_of, write_results

    folder, out = parse_folder(args)
    check_results(out if out is not None else folder, overwrite=args.overwrite)
    with stoppable(), Journal(folder / NAME, read_only=True) as journal:
        run, last = run_of(journal, args.run), journal.runs()[-1]
        if args.run is None and run.number != last.number:
            print_note(f"run {last.number}, the last, has no rows; this is run {run.number} of {run.record.started}")
        return write_results(
            journal, run.number, folder=out, against=parse_against(args.against), report=args.report,
            items=_items(run) if args.report else (), seed=args.seed,
        )  # fmt: skip


def _items(run: "Run") -> "tuple[DataItem, ...]":
    """The pictures of a run, where its data can still be read; says so where they cannot."""
    from onnxcam.evaluation.readers import read_data

    source = dict(run.record.source)
    if not source:
        return ()
    try:
        return read_data(source.pop("source"), **source).items
    except OnnxCamError as error:
        print_note(f"the report has no pictures: {error}")
        return ()


@contextmanager
def _stopped(job: Job) -> Iterator[list[EvaluationBar]]:
    """Says how far it came when a signal ends the run, once the bar is gone. Yields a list for the bar."""
    bars: list[EvaluationBar] = []
    try:
        yield bars
    except SystemExit:
        done = next((bar.last.done for bar in bars if bar.last is not None), 0)
        total = len(job.data.items) * len(job.models)
        print_note(
            f"stopped: {done} of {total} pictures; run the same command to go on",
            [f"onnxcam evaluate {job.folder}  makes tables and report of these"] if done else [],
        )
        raise


def _record(results: "Results") -> dict[str, Any]:
    """summary.json, and the files that were written."""
    from onnxcam.evaluation.export import summary_json

    record: dict[str, Any] = json.loads(summary_json(results.summary, results.run.record))
    return {**record, "files": [str(path) for path in results.files]}
