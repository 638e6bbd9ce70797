"""Manifests: CSV, TSV, JSON, JSON lines and Parquet."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from data_sets import manifest, write, write_picture, write_pictures
from pyarrow import parquet

from onnxcam.errors import DataError
from onnxcam.evaluation.dataset import LabelledBox
from onnxcam.evaluation.readers import read_data

ROWS: list[dict[str, Any]] = [
    {"picture": "a.png", "label": 3, "boxes": [[1.0, 2.0, 30.0, 40.5], [5.0, 6.0, 7.0, 8.0]]},
    {"picture": "b.png", "label": None, "boxes": None},
]
FIRST = (LabelledBox((1, 2, 30, 40.5), 3), LabelledBox((5, 6, 7, 8), 3))


def made(root: Path, text: str | bytes, name: str = "list.csv") -> Path:
    write_pictures(root, "a.png b.png")
    return write(root / name, text)


def columns(*names: str) -> str:
    return ",".join(names) + "\n"


@pytest.mark.parametrize("form", ["csv", "csv;", "tsv", "json", "jsonl", "parquet"])
def test_every_kind_of_table_gives_the_same(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"list.{form.rstrip(';')}"
    lines = "\n".join(json.dumps(row) for row in ROWS)
    cell = "1 2 30 40.5; 5 6 7 8"
    texts = {
        "csv": f'picture,label,boxes\r\na.png,3,"{cell}"\r\nb.png,,\r\n',
        "csv;": f'picture;label;boxes\na.png;3;"{cell}"\nb.png;;\n',
        "tsv": f"picture\tlabel\tboxes\na.png\t3\t{json.dumps(ROWS[0]['boxes'])}\nb.png\t\t\n",
        "json": json.dumps(ROWS),
        "jsonl": f"{lines}\n\n",
    }
    made(tmp_path, texts.get(form, "-"), path.name)
    if form == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    data = read_data(path)
    assert [(item.key, item.label, item.boxes) for item in data.items] == [("a.png", 3, FIRST), ("b.png", None, ())]


def test_a_parquet_that_holds_pictures_as_bytes_is_read_by_its_names(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png")
    row = {"image": {"bytes": b"x", "path": "no.png"}, "file_name": "a.png", "label": 1}
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "list.parquet")
    assert [(item.key, item.label) for item in read_data(tmp_path / "list.parquet").items] == [("a.png", 1)]


def test_rows_of_one_picture_are_joined_and_its_label_is_the_one_they_agree_on(tmp_path: Path) -> None:
    data = read_data(manifest(tmp_path))
    assert [(item.key, item.label, len(item.boxes)) for item in data.items] == [
        ("a.png", None, 2),
        ("b.png", "cat", 1),
        ("c.png", None, 0),
    ]


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("xmin,ymin,xmax,ymax", "1,2,11,22"),
        ("X1, Y1, X2, Y2", "1,2,11,22"),
        ("left,top,right,bottom", "1.0,2.0,11.0,22.0"),
        ("xyxy", "1 2 11 22"),
        ("box", '"1, 2, 11, 22"'),
        ("xywh", '"[1, 2, 10, 20]"'),
        ("boxes", '"[{""box"": [1, 2, 11, 22]}]"'),
        ("boxes", '"{""xywh"": [1, 2, 10, 20]}"'),
        ("objects", '"{""bbox"": [[1, 2, 10, 20]], ""categories"": [""cat""]}"'),
    ],
)
def test_a_box_may_be_written_in_many_ways(head: str, row: str, tmp_path: Path) -> None:
    data = read_data(made(tmp_path, f"file_name,label,{head}\na.png,cat,{row}\n"))
    assert data.items[0].boxes == (LabelledBox((1, 2, 11, 22), "cat"),)


def test_a_box_may_have_its_own_label(tmp_path: Path) -> None:
    rows = {"path": "a.png", "label": "dog", "boxes": [{"box": [1, 2, 3, 4], "label": "cat"}, {"box": [5, 6, 7, 8]}]}
    data = read_data(made(tmp_path, json.dumps(rows), "list.jsonl"))
    assert [one.label for one in data.items[0].boxes] == ["cat", "dog"]
    assert data.items[0].label == "dog"


def test_a_manifest_of_a_folder_is_found_in_it(tmp_path: Path) -> None:
    made(tmp_path, "file_name,label\na.png,cat\n", "metadata.csv")
    assert read_data(tmp_path).format == "manifest"


def test_a_manifest_may_lead_anywhere(tmp_path: Path) -> None:
    write_picture(tmp_path / "else/where/c.png")
    inside = made(tmp_path / "data", f"path\n../else/./where/c.png\n{tmp_path}/data/a.png\n")
    data = read_data(inside)
    assert [item.key for item in data.items] == [f"{tmp_path}/data/a.png", "../else/where/c.png"]
    assert all(item.path.exists() for item in data.items)


def test_pictures_in_another_folder_and_backslashes(tmp_path: Path) -> None:
    write_picture(tmp_path / "pictures/sub/a.png")
    path = write(tmp_path / "list.csv", "path\nsub\\a.png\n")
    assert read_data(path, images=tmp_path / "pictures").items[0].key == "sub/a.png"


def test_quotes_hold_newlines_and_the_byte_order_mark_is_no_name(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbfpicture,label,note\r\na.png,"two\r\nlines",x\r\nb.png,"a ""b""",\r\n'
    data = read_data(made(tmp_path, text))
    assert [item.label for item in data.items] == ["two\r\nlines", 'a "b"']


def test_a_csv_without_a_header_is_name_and_label(tmp_path: Path) -> None:
    assert [item.label for item in read_data(made(tmp_path, "a.png,7\nb.png,cat\n")).items] == [7, "cat"]


def test_a_text_file_has_lines_of_names_and_labels(tmp_path: Path) -> None:
    write_picture(tmp_path / "my cat.png")
    data = read_data(made(tmp_path, "my cat.png\r\na.png 7\r\nb.png Persian cat\r\n", "list.txt"))
    assert [(item.key, item.label) for item in data.items] == [
        ("a.png", 7),
        ("b.png", "Persian cat"),
        ("my cat.png", None),
    ]


def test_a_label_that_no_index_can_be_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png")
    for label in (float("inf"), -1.0, 1.5):
        parquet.write_table(pyarrow.Table.from_pylist([{"path": "a.png", "label": label}]), tmp_path / "list.parquet")
        with pytest.raises(
            DataError, match=r"list\.parquet, entry 1: the label is .*, neither a name nor a class index"
        ):
            read_data(tmp_path / "list.parquet")


def test_a_picture_that_is_not_there_is_left_out_with_its_line(tmp_path: Path) -> None:
    data = read_data(made(tmp_path, 'picture,label\na.png,"a\nb"\nmissing.png,cat\n'))
    assert [item.key for item in data.items] == ["a.png"]
    assert list(data.skipped) == ["missing.png"]
    assert "list.csv, line 4: " in data.skipped["missing.png"]
    assert data.skipped["missing.png"].endswith("no such file")


def test_a_data_set_without_any_picture_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "picture\nx.png\ny.png\n")
    with pytest.raises(
        DataError,
        match=r"no picture in this data set.*x\.png: .*line 2.*no such file; 1 more.*correct the paths, or .*--pictures",
    ):
        read_data(path)


def test_a_box_without_area_is_left_out(tmp_path: Path) -> None:
    data = read_data(made(tmp_path, "picture,xyxy\na.png,3 3 3 9\n"))
    assert data.items[0].boxes == ()
    assert [*data.skipped.values()] == ["the box (3, 3, 3, 9) has no area"]


def test_a_box_outside_of_its_picture_is_left_out_and_one_beyond_it_is_cut_off(tmp_path: Path) -> None:
    cells = ["90 10 99 20", "-9 10 0 20", "10 50 200 90", "-1 0 81 100", "0 0 80.5 100"]
    rows = "".join(f"a.png,{cell}\n" for cell in cells)
    data = read_data(made(tmp_path, "picture,xyxy\n" + rows))
    assert [one.box for one in data.items[0].boxes] == [(10, 50, 80, 90), (-1, 0, 81, 100), (0, 0, 80.5, 100)]
    reasons = list(data.skipped.items())
    for (_, why), text in zip(reasons, ("lies outside", "lies outside", "reaches beyond"), strict=True):
        assert text in why
    assert all("which has 80 x 100 pixels" in why and "xywh" in why for _, why in reasons)
    assert [key.rpartition(" ")[2] for key, _ in reasons] == ["2", "3", "4"], "the lines of the manifest"


def test_boxes_of_a_picture_that_cannot_be_read_stay_as_they_are(tmp_path: Path) -> None:
    path = made(tmp_path, "picture,xyxy\na.png,90 10 99 20\n")
    write(tmp_path / "a.png", b"no picture")
    data = read_data(path)
    assert ([one.box for one in data.items[0].boxes], data.skipped) == ([(90, 10, 99, 20)], {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name_of_it,label\na.png,cat\n", "line 1: columns name_of_it, label; none is called picture"),
        ("picture,label\na.png,cat,dog\n", r"list\.csv, line 2: 3 cells, but 2 columns"),
        ('picture,label\n\na.png,"cat\n', r"list\.csv, line 3: not CSV \(unexpected end of data\)"),
        ("picture,label,label\na.png,cat,dog\n", "two columns are called 'label'"),
        ("picture,label\na.png,cat\na.png,dog\n", r"line 2: a\.png is named twice \(.*line 3\)"),
        ("picture,label\na.png,cat\n./a.png,cat\n", r"line 2: a\.png is named twice"),
        ("picture,label\n,cat\n", "line 2: the column picture holds '', not the name"),
        ("picture,xyxy\na.png,1 2 3\n", r"line 2: the box '1 2 3' is not four numbers: left, top, right"),
        ("picture,xyxy\na.png,1 2 3 inf\n", "line 2: the box .* is not four numbers"),
        ("picture,xyxy\na.png,1 2 3 4; 5-6-7-8\n", "line 2: the box '1 2 3 4; 5-6-7-8' is not four numbers"),
        ("picture,xmin,ymin,xmax,ymax\na.png,1,2,,4\n", "line 2: the box '1, 2, , 4' is not four numbers"),
        ("picture,xmin,ymin,xmax,y_max\na.png,1,2,3,4\n", "xmax, but none is called ymax; rename y_max to ymax"),
        ("picture,x1,y1,x2\na.png,1,2,3\n", "line 2: columns x1, y1, x2, but none is called y2; add y2"),
        ("pitcure,label\na.png,cat\n", "columns pitcure, label; none is called picture .*: rename pitcure to picture"),
        ("picture,xywh\na.png,1 2 -3 4\n", "line 2: the box .* ends before it starts; the order is left, top, width"),
        ("picture,xyxy\na.png,5 2 3 4\n", "line 2: the box .* ends before it starts; the order is left, top, right"),
        ("picture,bbox\na.png,1 2 3 4\n", "line 2: a column bbox may hold corners or sizes; call it xyxy"),
        ("picture,boxes\na.png,[[1 2]]\n", "line 2: the boxes .*not JSON"),
        ("picture,objects\na.png,7\n", "line 2: objects is 7, not"),
        (b"picture,label\na.png,\xff\n", r"list\.csv: not UTF-8 text \(byte 20"),
        (b"picture,label\na.png,cat\nb\0.png,cat\n", r"line 3: the name .* holds a null character"),
        pytest.param(f"picture,label\na.png,{'x' * 200_000}\n", r"line 2: not CSV \(field larger", id="a huge cell"),
    ],
)
def test_an_error_names_file_and_line(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_data(made(tmp_path, text))


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.parquet"])
def test_a_misspelt_column_is_named_with_the_right_one(name: str, tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png")
    path, row = tmp_path / name, {"picture": "a.png", "Lable": "cat", "boxs": "1 2 3 4", "score": 0.5, "grp": "x"}
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        table = f"{','.join(row)}\n{','.join(map(str, row.values()))}\n"
        write(path, json.dumps(row) if path.suffix == ".jsonl" else table)
    skipped = read_data(path).skipped
    assert {key: why.rpartition("; ")[2] for key, why in skipped.items()} == {
        "column lable": "did you mean label?", "column boxs": "did you mean boxes?",
    }  # fmt: skip
    assert all(why.startswith(f"{path}: ") for why in skipped.values())


def test_a_column_beside_one_of_its_kind_is_no_slip(tmp_path: Path) -> None:
    assert not read_data(made(tmp_path, "picture,label,labels,xyxy,bboxes\na.png,cat,dog,1 2 3 4,none\n")).skipped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"picture": "a.png"}\n{"picture": \n', r"list\.jsonl, line 2: not JSON \(Expecting value\)"),
        ('{"picture": "a.png"}\n[1]\n', "line 2: .* is no JSON object"),
        ('{"picture": 7}\n', "line 1: the column picture holds 7, not the name"),
        ('{"picture": "a.png", "label": 1.5}\n', "line 1: the label is 1.5, neither a name nor a class index"),
        ('{"picture": "a.png", "label": true}\n', "line 1: the label is True"),
        ('{"picture": "a.png", "label": NaN}\n', "line 1: the label is nan"),
        ('{"picture": "a.png", "label": ["cat"]}\n', "line 1: the label is"),
        ('{"picture": "a.png", "boxes": [{"label": 1}]}\n', "line 1: .* has no box; write"),
        ('{"picture": "a.png", "boxes": 5}\n', "line 1: the box 5 is not four numbers"),
        ('{"picture": "a.png", "boxes": [[1, 2, 3, true]]}\n', "line 1: the box .* is not four numbers"),
        ('{"picture": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": []}}\n', "line 1: 1 boxes, but their"),
    ],
)
def test_an_error_names_the_line_of_json(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_data(made(tmp_path, text, "list.jsonl"))


def test_other_damage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.parquet: not a Parquet file that can be read"):
        read_data(made(tmp_path, "PAR1 and more", "list.parquet"))
    with pytest.raises(DataError, match=r"list\.json: not JSON"):
        read_data(made(tmp_path, "[{", "list.json"))
    with pytest.raises(DataError, match="entry 2: 7 is no JSON object"):
        read_data(made(tmp_path, '[{"picture": "a.png"}, 7]', "list.json"))
