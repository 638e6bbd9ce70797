"""Damaged data sets: annotations of every format and tables, beside one sound picture.

Whatever is read must be what a report can hold: keys of their own, boxes of finite numbers, and no picture from outside
of the folder, which only a manifest may name.
"""

import json
import math
import struct
import zlib
from pathlib import Path

from fuzzing.kept import Bounds
from fuzzing.subject import Files, Subject, subject
from fuzzing.texts import make
from fuzzing.verdict import ANSWER, Verdict, Wrong

XML = """<annotation><filename>a.png</filename><size><width>8</width><height>6</height><depth>3</depth></size>
<object><name>{0}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>
"""
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 6}],
    "categories": [{"id": 7, "name": "cat"}],
    "annotations": [
        {"id": 5, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3.5, 4], "iscrowd": 0},
        {"id": 6, "image_id": 1, "category_id": 7, "bbox": [0, 0, 8, 6], "iscrowd": 1},
    ],
}
ROWS = [
    {"picture": "a.png", "label": 3, "boxes": [[1, 2, 3, 4], {"xywh": [1, 2, 3, 4], "label": "cat"}]},
    {"picture": "b.png", "label": "dog", "objects": {"bbox": [[1, 2, 3, 4]], "categories": [1]}},
]
IMAGENET = "ILSVRC2012_val_00000001"


def png() -> bytes:
    """A grey picture of 8 x 6 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9 * 6))) + chunk(b"IEND", b"")


PNG = png()


def seeds() -> dict[str, Files]:
    """Of each, the files of annotations; the pictures that they name are written by the check."""
    texts: dict[str, dict[str, str]] = {
        "coco": {"annotations/instances_val.json": json.dumps(COCO)},
        "voc": {"Annotations/a.xml": XML.format("cat"), "ImageSets/Main/val.txt": "a\n"},
        "yolo": {"labels/a.txt": "1 .5 .5 .25 .5\n0 .1 .1 .5 .1 .5 .5\n", "classes.txt": "cat\ndog\n"},
        "yolo-yaml": {
            "data.yaml": "path: .\ntrain: images\nnames: {0: cat, 1: dog}\n",
            "labels/a.txt": "1 .5 .5 .2 .5\n",
        },
        "imagenet": {
            f"boxes/{IMAGENET}.xml": XML.format("n02123394"),
            "LOC_val_solution.csv": f"ImageId,PredictionString\n{IMAGENET},n02123394 1 2 3 4 \n",
            "LOC_synset_mapping.txt": "n02099601 dog\nn02123394 cat\n",
        },
        "csv": {"manifest.csv": 'picture,label,xmin,ymin,xmax,ymax,xywh\na.png,cat,1,2,3,4,"1 2 3 4; 1 2 3 4"\n'},
        "jsonl": {"manifest.jsonl": "\n".join(map(json.dumps, ROWS))},
        "labels": {"labels.csv": "name,label\na.png,cat\n"},
        "labels-text": {"labels.txt": "a.png cat\nb.png golden retriever\n"},
    }
    return {name: {file: text.encode() for file, text in files.items()} for name, files in texts.items()}


def check(files: Files, folder: Path) -> Verdict:
    from onnxcam.evaluation.readers import read_data

    root = folder / "data"
    pictures = ("a.png", "b.png", "images/a.png", "JPEGImages/a.png", f"{IMAGENET}.png")
    inner = "JPEGImages" if any(name.startswith("Annotations") for name in files) else ""
    inner = "images" if any(name.startswith("labels/") for name in files) else inner
    for name in pictures:
        if name.rpartition("/")[0] == inner:
            write(root / name, PNG)
    for name, data in files.items():
        write(root / name, data)
    data_set = read_data(root)
    if len({item.key for item in data_set.items}) != len(data_set.items):
        raise Wrong("two pictures have one key")
    for item in data_set.items:
        item.key.encode()
        inside = root.resolve() in item.path.resolve().parents
        if data_set.format != "manifest" and not inside:
            raise Wrong("a picture from outside", item.path)
        for one in item.boxes:
            left, top, right, bottom = one.box
            if not all(map(math.isfinite, one.box)) or right <= left or bottom <= top:
                raise Wrong("a box that is none", one.box)
    return ANSWER


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


subject(Subject("data_sets", seeds, make, check, Bounds(seconds=20, peak=2**29)))
