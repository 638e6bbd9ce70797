"""Compares the boxes that onnxcam reads with those of supervision and pycocotools.

    pip install supervision pycocotools && pip install -e ".[evaluate]"
    python tools/compare_readers.py FOLDER --pictures 200

Writes random boxes of random pictures into FOLDER, with supervision's own writers, as COCO, VOC and YOLO, boxes,
polygons and oriented boxes; reads each with both, and prints how many boxes there are and by how much they differ. Ends
with status 1 if a label differs, or a side of a box by more than a thousandth of a pixel: supervision has float32.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO

from onnxcam.evaluation.dataset import DataSet
from onnxcam.evaluation.readers import read_data

Boxes = Mapping[str, list[tuple[str, tuple[float, ...]]]]
"""Name of a picture -> (label, box) of its objects, sorted."""
CLASSES = ["cat", "dog", "traffic light", "Ampel über Grün"]
LARGEST_DIFFERENCE = 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pictures = args.folder / "images"
    dataset = make(pictures, args.pictures, np.random.default_rng(args.seed))
    passed = True
    for name, (theirs, ours) in written_and_read(dataset, args.folder).items():
        worst = largest_difference(theirs, ours)
        passed &= worst <= LARGEST_DIFFERENCE
        boxes = sum(map(len, theirs.values()))
        print(f"{name:20} {boxes:6} boxes of {len(theirs)} pictures, largest difference {worst:g} px")
    return 0 if passed else 1


def make(folder: Path, count: int, rng: np.random.Generator) -> sv.DetectionDataset:
    """Writes grey pictures; gives their boxes, at random."""
    folder.mkdir(parents=True)
    annotations = {}
    for i in range(count):
        width, height = (int(side) for side in rng.integers(40, 700, 2))
        path = folder / f"{i}.png"
        Image.new("L", (width, height), int(rng.integers(256))).save(path)
        number = int(rng.integers(0, 8))
        start = rng.random((number, 2)) * 0.8
        corners = np.hstack([start, start + 0.02 + rng.random((number, 2)) * (0.98 - start)])
        boxes = (corners * [width, height, width, height]).astype(np.float32)
        annotations[str(path)] = sv.Detections(boxes.reshape(-1, 4), class_id=rng.integers(0, len(CLASSES), number))
    return sv.DetectionDataset(CLASSES, list(annotations), annotations)


def written_and_read(dataset: sv.DetectionDataset, folder: Path) -> dict[str, tuple[Boxes, Boxes]]:
    """Format -> what the other reader gives, and onnxcam."""
    pictures, yolo = str(folder / "images"), folder / "yolo"
    dataset.as_coco(annotations_path=str(folder / "coco.json"))
    dataset.as_pascal_voc(annotations_directory_path=str(folder / "voc" / "Annotations"))
    dataset.as_yolo(str(yolo / "images"), str(yolo / "labels"), str(yolo / "data.yaml"))
    (folder / "voc" / "JPEGImages").symlink_to(folder.absolute() / "images")
    written = {path.stem: path.read_text().splitlines() for path in (yolo / "labels").iterdir()}
    results = {
        "coco (pycocotools)": (by_pycocotools(folder / "coco.json"), read_data(folder / "coco.json", images=pictures)),
        "coco (supervision)": (
            by_supervision(sv.DetectionDataset.from_coco(pictures, str(folder / "coco.json"))),
            read_data(folder / "coco.json", images=pictures),
        ),
        "voc": (
            by_supervision(sv.DetectionDataset.from_pascal_voc(pictures, str(folder / "voc" / "Annotations"))),
            read_data(folder / "voc"),
        ),
        "yolo": (by_supervision(from_yolo(yolo)), read_data(yolo)),
    }
    for name, is_obb in {"yolo, polygons": False, "yolo, oriented boxes": True}.items():
        for label_file in (yolo / "labels").iterdir():
            label_file.write_text("".join(map(points if is_obb else more_points, written[label_file.stem])))
        results[name] = by_supervision(from_yolo(yolo, is_obb=is_obb)), read_data(yolo / "data.yaml")
    return {name: (theirs, by_onnxcam(ours)) for name, (theirs, ours) in results.items()}


def from_yolo(folder: Path, *, is_obb: bool = False) -> sv.DetectionDataset:
    names = (str(folder / name) for name in ("images", "labels", "data.yaml"))
    return sv.DetectionDataset.from_yolo(*names, is_obb=is_obb)


def points(line: str) -> str:
    """A line of a box as one of the four points where a diamond meets its sides."""
    number, x, y, width, height = line.split()
    left, right = float(x) - float(width) / 2, float(x) + float(width) / 2
    top, bottom = float(y) - float(height) / 2, float(y) + float(height) / 2
    return f"{number} {left} {y} {x} {top} {right} {y} {x} {bottom}\n"


def more_points(line: str) -> str:
    """The same with a fifth point, inside."""
    _, x, y, *_ = line.split()
    return f"{points(line).rstrip()} {x} {y}\n"


def by_pycocotools(path: Path) -> Boxes:
    coco = COCO(str(path))
    return {
        image["file_name"]: sorted(
            (coco.cats[one["category_id"]]["name"], (x, y, x + width, y + height))
            for one in coco.loadAnns(coco.getAnnIds(imgIds=image["id"], iscrowd=False))
            for x, y, width, height in [one["bbox"]]
        )
        for image in coco.loadImgs(coco.getImgIds())
    }


def by_supervision(dataset: sv.DetectionDataset) -> Boxes:
    return {
        Path(path).name: sorted(
            (dataset.classes[number], tuple(map(float, box)))
            for number, box in zip(detections.class_id, detections.xyxy, strict=True)
        )
        for path, detections in dataset.annotations.items()
    }


def by_onnxcam(dataset: DataSet) -> Boxes:
    return {Path(item.key).name: sorted((str(one.label), one.box) for one in item.boxes) for item in dataset.items}


def largest_difference(theirs: Boxes, ours: Boxes) -> float:
    """In pixels, over the sides of all boxes; infinite if a picture, a label or a number of boxes differs."""
    worst = 0.0
    if theirs.keys() != ours.keys():
        return np.inf
    for name, boxes in theirs.items():
        if [label for label, _ in boxes] != [label for label, _ in ours[name]]:
            return np.inf
        if boxes:
            sides = [np.array([box for _, box in some]) for some in (boxes, ours[name])]
            worst = max(worst, float(np.abs(sides[0] - sides[1]).max()))
    return worst


if __name__ == "__main__":
    sys.exit(main())
