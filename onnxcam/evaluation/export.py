"""The files of an evaluation: `export` writes results.parquet, summary.json and summary.csv, all together or none.

results.parquet needs pyarrow, of the extra `evaluate`. It has a row for each Row and is written piece by piece.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from onnxcam.errors import OptionError
from onnxcam.evaluation.rows import Row
from onnxcam.evaluation.run_record import RunRecord
from onnxcam.evaluation.statistics import Estimate
from onnxcam.evaluation.summary import MethodLine, Summary, SummaryLine
from onnxcam.outputs.atomic import Staging

if TYPE_CHECKING:
    import pyarrow

RESULTS, SUMMARY_JSON, SUMMARY_CSV = "results.parquet", "summary.json", "summary.csv"
GROUP = 20_000
"""Rows that are held and written at once."""


def check_pyarrow() -> None:
    """Raises OptionError where pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise OptionError(f'{RESULTS} needs pyarrow, which is not installed: pip install "onnxcam[evaluate]"')


def export(rows: Iterable[Row], summary: Summary, folder: Path | str, *, run: RunRecord | None = None) -> list[Path]:
    """Writes the three files into the folder, which is made where it is missing; returns their paths.

    rows: all that the summary is of; they are read once, 20,000 at a time. Raises OptionError without pyarrow, and
    OutputError for files that cannot be written; the files of before then stay as they were.
    """
    check_pyarrow()
    paths = [Path(folder) / name for name in (RESULTS, SUMMARY_JSON, SUMMARY_CSV)]
    with Staging() as staging:
        staging.stage(paths[0], lambda file: write_parquet(rows, file))
        staging.stage(paths[1], _bytes(summary_json(summary, run or RunRecord())))
        staging.stage(paths[2], _bytes(summary_csv(summary)))
        staging.commit()
    return paths


def schema() -> "pyarrow.Schema":
    """The columns of results.parquet: those of RowKey, then those of Row.

    A curve is two lists, the fractions of the pixels and the scores there. A label is text, whether name or number.
    """
    import pyarrow as pa

    text, number, whole, curve = pa.string(), pa.float64(), pa.int32(), pa.list_(pa.float32())
    return pa.schema(
        {
            **dict.fromkeys(("model", "opening", "picture", "picture_sha256", "method", "target"), text),
            **dict.fromkeys(("metric", "protocol", "options", "model_name", "method_name"), text),
            "value": number, **dict.fromkeys(("reason", "note", "error"), text),
            "curve_fraction": curve, "curve_score": curve, "label": text, "target_index": whole, "target_name": text,
            "probability": number, "passes": whole, "seconds": number, "method_passes": whole, "method_seconds": number,
            "transient": pa.bool_(),
        }
    )  # fmt: skip


def write_parquet(rows: Iterable[Row], file: BinaryIO) -> None:
    """Writes the rows as one Parquet file, compressed by Zstandard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, left = schema(), iter(rows)
    with pq.ParquetWriter(file, columns, compression="zstd") as writer:
        while group := [_record(row) for row in islice(left, GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, columns))


def _bytes(text: str) -> bytes:
    """UTF-8, with the escape of half a surrogate pair, as a name that is no UTF-8 has it; JSON reads it back."""
    return text.encode("utf-8", "backslashreplace")


def _record(row: Row) -> dict[str, Any]:
    record = {**vars(row.key), **vars(row)}
    del record["key"], record["curve"]
    record["label"] = None if row.label is None else str(row.label)
    record = {name: _bytes(value).decode() if isinstance(value, str) else value for name, value in record.items()}
    if row.curve is not None:
        record["curve_fraction"], record["curve_score"] = row.curve[:, 0], row.curve[:, 1]
    return record


def summary_json(summary: Summary, run: RunRecord) -> str:
    """The summary with what was run, as JSON without NaN."""
    content = {
        "run": asdict(run),
        "pictures": summary.pictures,
        "rows": summary.rows,
        "against": summary.against,
        "methods": [_method(line) for line in summary.methods],
        "summary": [_line(line) for line in summary.lines],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def summary_csv(summary: Summary) -> str:
    """The lines of the summary as CSV with a header; what there is none of is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, record in enumerate(_flat(line) for line in summary.lines):
        if i == 0:
            writer.writerow(record)
        writer.writerow(record.values())
    return text.getvalue()


def _identity(line: SummaryLine | MethodLine) -> dict[str, Any]:
    return {
        "model_name": line.model_name, "method_name": line.method_name, "model": line.setup.model,
        "opening": line.setup.opening, "target": line.setup.target, "method": line.method, "baseline": line.baseline,
    }  # fmt: skip


def _method(line: MethodLine) -> dict[str, Any]:
    costs = {"maps": line.maps, "errors": line.errors, "seconds": line.seconds, "passes": line.passes}
    return {**_identity(line), **costs}


def _line(line: SummaryLine) -> dict[str, Any]:
    return {
        **_identity(line), "metric": line.measure.metric, "protocol": line.measure.protocol,
        "options": line.measure.options, "better": str(line.measure.better), "estimate": _estimate(line.estimate),
        "median": line.median, "difference": _estimate(line.difference), "undefined": line.undefined,
        "errors": line.errors, "missing": line.missing, "standing": str(line.standing),
    }  # fmt: skip


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    """low and high are None where there are too few numbers for an interval."""
    if estimate is None:
        return None
    low, high = estimate.interval or (None, None)
    return {"mean": estimate.mean, "low": low, "high": high, "n": estimate.n}


def _flat(line: SummaryLine) -> dict[str, Any]:
    """As _line(), with mean, low, high and n, and those of the difference, in columns of their own."""
    return dict(_flattened(_line(line)))


def _flattened(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if name == "estimate":
            yield from {"mean": None, "low": None, "high": None, "n": 0, **(value or {})}.items()
        elif name == "difference":
            parts = {"mean": None, "low": None, "high": None, "n": 0, **(value or {})}
            yield from ((f"difference_{part}", number) for part, number in parts.items())
        else:
            yield name, value
