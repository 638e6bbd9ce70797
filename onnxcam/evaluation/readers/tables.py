"""Tables of pictures: CSV, TSV, text, JSON, JSON lines and Parquet, row by row, each with its line."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from onnxcam.errors import DataError
from onnxcam.evaluation.readers.listing import is_picture
from onnxcam.evaluation.readers.reader import Label, label_of
from onnxcam.files import ANNOTATIONS, open_regular, parse_json, read_text, reason, shown
from onnxcam.limits import brief, is_number

Row = tuple[int, Mapping[str, Any]]
"""The line, or the number of the entry, from 1; and the cells by column, whose names are small letters and '_'."""

PICTURE = tuple(
    "picture path image file file_name filename image_path img file_path filepath image_id imageid name id".split()
)
LABEL = tuple("label class category target class_name label_name class_id synset".split())
MOST_ROWS = 5_000_000
ALIKE = 0.79
"""How alike (difflib's ratio) a column's name and the right one are, where it is taken for a slip: 'lable' has 0.8."""
_NAME_FIRST = re.compile(r"\s*(\"?)(?P<name>.*?\.\w{2,5})\1(?:\s*[,;\t]\s*|\s+)(?P<label>\S.*)", re.ASCII)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a table, by the ending of its file. Raises DataError, with the line, for what cannot be read."""
    reader = ROWS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{shown(path)}: a table is one of {' '.join(ROWS)}; save it as one")
    return reader(path)


def column(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the names that the row has."""
    return next((name for name in names if name in row), None)


def misspelt(names: Iterable[str], known: Iterable[str]) -> Mapping[str, str]:
    """Of the columns' names those that nearly are one of the known names -> that name."""
    table = list(known)
    near = {name: get_close_matches(name, table, n=1, cutoff=ALIKE) for name in names if name not in table}
    return {name: close[0] for name, close in near.items() if close}


def no_column(place: str, names: Sequence[str], known: Sequence[str]) -> DataError:
    """What is raised for a table in which no column has one of the known names, of which the first is the usual one."""
    nearly = misspelt(names, known)
    way = f"rename {next(iter(nearly))} to {next(iter(nearly.values()))}" if nearly else "rename the one that is meant"
    others = ", ".join(known[1:6])
    return DataError(f"{place}: columns {', '.join(names)[:80]}; none is called {known[0]} (or {others}, ...): {way}")


def read_labels_table(path: Path) -> Iterator[tuple[int, str, Label]]:
    """(line, name of the picture, label). Raises DataError, with the line, for a row without a name or a label."""
    for line, row in read_rows(path):
        place = f"{shown(path)}, line {line}"
        name, label = column(row, PICTURE), column(row, LABEL)
        if len(row) < 2:
            raise DataError(
                f"{place}: {', '.join(map(brief, row.values()))} stands alone; a file of labels has a picture and a "
                f"label, as 'a.jpg cat' (names of the model's classes are --labels)"
            )
        if name is None or label is None:
            raise no_column(place, list(row), PICTURE if name is None else LABEL)
        if row[label] not in (None, ""):
            yield line, text_of(row[name], place, name), label_value(row[label], place)


def text_of(value: object, place: str, name: str) -> str:
    """A cell that holds text. Raises DataError for another."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: the column {name} holds {brief(value)}, not the name of a picture's file")
    return value.strip()


def label_value(value: Any, place: str) -> Label:
    """A cell that holds a label: a name or a class index. Raises DataError for another."""
    if isinstance(value, str) and value.strip():
        return label_of(value)
    if is_number(value) and value == int(value) >= 0:
        return int(value)
    raise DataError(f"{place}: the label is {brief(value)}, neither a name nor a class index")


def _text_rows(path: Path) -> Iterator[Row]:
    """Of lines `name label`, or `name`. A name with the ending of a picture may hold spaces."""
    for number, line in enumerate(_lines(path), start=1):
        text = line.strip()
        if not text:
            continue
        match = _NAME_FIRST.fullmatch(text)
        if match and is_picture(match["name"]):
            words = [match["name"], match["label"]]
        else:
            words = [text] if is_picture(text) else text.split(maxsplit=1)
        yield number, dict(zip(("picture", "label"), words, strict=False))


def _lines(path: Path) -> list[str]:
    return read_text(path, ANNOTATIONS).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _csv_rows(path: Path) -> Iterator[Row]:
    """Of a file with or without a header: without one, the first column is the picture and the second the label."""
    text = read_text(path, ANNOTATIONS)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=text.partition("\n")[0].count)
    records = _records(text, delimiter, path)
    first = next(records, None)
    if first is None:
        raise DataError(f"{shown(path)}: no rows; a table has a header and a row for each picture")
    header = [_column_name(cell) for cell in first[1]]
    if not set(header) & {*PICTURE}:
        if not is_picture(first[1][0].strip()) or len(first[1]) > 2:
            raise no_column(f"{shown(path)}, line {first[0]}", header, PICTURE)
        header = ["picture", "label"][: len(first[1])]
        yield first[0], dict(zip(header, first[1], strict=True))
    _check_header(header, path)
    for line, cells in records:
        if len(cells) != len(header):
            raise DataError(
                f"{shown(path)}, line {line}: {len(cells)} cells, but {len(header)} columns; "
                f"put cells that hold a {delimiter!r} in quotes"
            )
        yield line, dict(zip(header, cells, strict=True))


def _records(text: str, delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """(the line that it starts in, cells) of the records that are not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{shown(path)}, line {line}: not CSV ({reason(error)}); mend its quotes") from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _check_header(header: Sequence[str], path: Path) -> None:
    repeated = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if repeated is not None:
        raise DataError(f"{shown(path)}: two columns are called {repeated!r}; rename one")


def _column_name(text: object) -> str:
    return re.sub(r"[\s-]+", "_", str(text).strip().lower())


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        values = parse_json(read_text(path, ANNOTATIONS))
    except ValueError as error:
        raise DataError(f"{shown(path)}: {error}") from None
    if not isinstance(values, list):
        raise DataError(f"{shown(path)}: a table in JSON is a list of objects, one for each picture")
    for number, value in enumerate(values, start=1):
        yield number, _object(value, f"{shown(path)}, entry {number}")


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except ValueError as error:
            raise DataError(f"{shown(path)}, line {number}: {error}".replace(" in line 1)", ")")) from None
        yield number, _object(value, f"{shown(path)}, line {number}")


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f'{place}: {brief(value)} is no JSON object, such as {{"picture": "a.jpg"}}')
    return {_column_name(name): cell for name, cell in value.items()}


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f'{shown(path)}: reading Parquet needs pyarrow: pip install "onnxcam[evaluate]"') from None
    number = 0
    try:
        with open_regular(path, ANNOTATIONS) as file:
            table = parquet.ParquetFile(file)
            rows = table.metadata.num_rows
            if rows > MOST_ROWS:
                raise DataError(f"{shown(path)}: {rows:,} rows; a table of pictures has {MOST_ROWS:,} at most")
            names = [name for name in table.schema_arrow.names if not _holds_pictures(table.schema_arrow.field(name))]
            for batch in table.iter_batches(1000, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {_column_name(name): cell for name, cell in row.items()}
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{shown(path)}: not a Parquet file that can be read ({reason(error)})") from None


def _holds_pictures(field: Any) -> bool:
    """Whether a column holds the pictures themselves, as bytes: they are not read."""
    return "binary" in str(field.type)


ROWS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".txt": _text_rows,
    ".json": _json_rows,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet_rows,
}
"""Ending of a file -> what reads its rows."""
