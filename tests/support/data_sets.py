"""Small data sets, one of each format, with three boxes that all of them can say."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

BOXES = {
    "a.png": [("cat", (10.0, 20.0, 30.0, 60.0)), ("dog", (0.0, 0.0, 80.0, 40.0))],
    "b.png": [("cat", (4.0, 8.0, 6.0, 18.0))],
}
"""Of pictures of 80 x 100 pixels; c.png has none."""
SIZE = (80, 100)
SYNSETS = {"cat": "n02123394", "dog": "n02099601"}


def write_picture(path: Path, size: tuple[int, int] = SIZE, orientation: int = 1) -> Path:
    """A grey picture of (width, height) pixels as they are stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    Image.new("L", size, 128).save(path, exif=exif)
    return path


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def write_pictures(folder: Path, names: str = "a.png b.png c.png") -> None:
    for name in names.split():
        write_picture(folder / name)


def xml(objects: list[tuple[str, tuple[float, ...]]], size: tuple[int, int] | None = SIZE, filename: str = "") -> str:
    """An annotation; corners as they are written there."""
    parts = [f"<filename>{filename}</filename>"]
    if size is not None:
        parts.append(f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>")
    for name, corners in objects:
        sides = "".join(
            f"<{side}>{value:g}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        )
        parts.append(
            f"<object><name>{name}</name><part><name>head</name><bndbox/></part><bndbox>{sides}</bndbox></object>"
        )
    return "<annotation>\n" + "\n".join(parts) + "\n</annotation>\n"


def coco(root: Path) -> Path:
    write_pictures(root / "val2017")
    names = [*BOXES, "c.png"]
    objects = [(names.index(name), label, box) for name, boxes in BOXES.items() for label, box in boxes]
    values = {
        "info": {"year": 2017},
        "images": [{"id": 7 + i, "file_name": name, "width": 80, "height": 100} for i, name in enumerate(names)],
        "categories": [{"id": 90, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": 7 + image, "category_id": {"cat": 17, "dog": 90}[label], "iscrowd": 0,
             "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]}
            for i, (image, label, box) in enumerate(objects)
        ],
    }  # fmt: skip
    write(root / "annotations/instances_val2017.json", json.dumps(values))
    write(root / "annotations/captions_val2017.json", json.dumps({"images": [], "annotations": []}))
    return root


def voc(root: Path) -> Path:
    write_pictures(root / "JPEGImages")
    for name, boxes in BOXES.items():
        objects = [(label, (box[0] + 1, box[1] + 1, box[2], box[3])) for label, box in boxes]
        write(root / "Annotations" / name.replace("png", "xml"), xml(objects))
    return root


def yolo(root: Path) -> Path:
    write_pictures(root / "images/val")
    for name, boxes in BOXES.items():
        lines = []
        for label, (left, top, right, bottom) in boxes:
            shares = ((left + right) / 160, (top + bottom) / 200, (right - left) / 80, (bottom - top) / 100)
            lines.append(" ".join(map(repr, ([*SYNSETS].index(label), *shares))))
        write(root / "labels/val" / name.replace("png", "txt"), "\n".join(lines))
    write(root / "data.yaml", "path: .\nval: images/val\nnames: [cat, dog]\n")
    return root


def imagenet(root: Path) -> Path:
    for name, boxes in BOXES.items():
        stem = f"ILSVRC2012_val_0000000{'ab'.index(name[0])}"
        write_picture(root / f"Data/CLS-LOC/val/{stem}.JPEG")
        objects = [(SYNSETS[label], box) for label, box in boxes]
        write(root / f"Annotations/CLS-LOC/val/{stem}.xml", xml(objects))
    return root


def manifest(root: Path) -> Path:
    write_pictures(root)
    rows = [
        f"{name},{label},{','.join(f'{side:g}' for side in box)}"
        for name, boxes in BOXES.items()
        for label, box in boxes
    ]
    return write(root / "list.csv", "\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows, "c.png,,,,,"]))


def folder(root: Path) -> Path:
    write_pictures(root / "cat", "a.png b.png")
    write_pictures(root / "dog", "c.png")
    return root


EXAMPLES: Mapping[str, Callable[[Path], Path]] = {
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "imagenet": imagenet,
    "manifest": manifest,
    "folder": folder,
}
"""Format -> writes such a data set into a folder, and gives what is read."""
