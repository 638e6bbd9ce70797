"""A small evaluation for reports: pictures in a folder, rows and maps, with names that would be code if they could."""

from pathlib import Path
from typing import Any

import numpy as np
from evaluated import curve, row
from PIL import Image

from onnxcam.evaluation.collection import Setup
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.map_files import PictureMaps
from onnxcam.evaluation.rows import Row
from onnxcam.types import Map, Placement

METHODS = ("cam", "rise", "<b>mask</b>", "gaussian")
HOSTILE = "<script>window.hostile = 1</script>.png"
HOSTILE_LABEL = '"><img src="https://example.com/x.png" onerror="window.hostile = 1">'
HOSTILE_TEXT = "</script><script>window.hostile = 1</script>{{ 7 * 7 }} <!-- & \u2028"
SIZE = (48, 64)
BOX = (8.0, 0.0, 56.0, 48.0)


def pictures(folder: Path, count: int) -> list[DataItem]:
    """Photographs of a bright disc, of 48 x 64 pixels; the first has a hostile name, the last file is no picture."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    items = []
    for i in range(count):
        disc = (rows - 24) ** 2 + (columns - 20 - i) ** 2 < 144
        pixels = np.where(disc[..., None], [230, 180, 40], [30 + 8 * i, 70, 120]).astype(np.uint8)
        path = folder / f"{i}.png"
        Image.fromarray(pixels).save(path)
        items.append(DataItem(path, HOSTILE if i == 0 else f"{i}.png", group="train" if i % 2 else "test"))
    items[-1].path.write_bytes(b"no picture")
    return items


def saliency_map(picture: int, method: int) -> Map:
    """(14,14): a blob whose place depends on both."""
    rows, columns = np.mgrid[:14, :14]
    return np.exp(-((rows - 4 - method) ** 2 + (columns - 3 - picture) ** 2) / 8).astype(np.float32)


def rows_of(items: list[DataItem], models: tuple[str, ...] = ("small", "large")) -> list[Row]:
    """Values that are known: of picture i by method m, insertion (i + 1) / 100 + m / 10; deletion 1 less that."""
    made: list[Row] = []
    for model in models:
        for i, item in enumerate(items):
            about: dict[str, Any] = {
                "model": model, "label": HOSTILE_LABEL if i == 0 else i, "target_index": i if i % 3 else 99,
                "target_name": f"class-{i}", "probability": 0.5,
            }  # fmt: skip
            for m, method in enumerate(METHODS):
                value = (i + 1) / 100 + m / 10
                if i == 2 and m == 1:
                    made.append(row(item.key, method, "", None, error=HOSTILE_TEXT, **about))
                    continue
                made.append(
                    row(item.key, method, "insertion", value, protocol="blur-rise", curve=curve([0, value, 1]), **about)
                )
                reason = HOSTILE_TEXT if i == 1 else None
                made.append(
                    row(
                        item.key,
                        method,
                        "deletion",
                        None if reason else 1 - value,
                        protocol="zero",
                        reason=reason,
                        **about,
                    )
                )
                made.append(row(item.key, method, "average_drop", 100 * value, protocol="mult", **about))
    return made


def maps_of(items: list[DataItem]) -> Any:
    numbers = {item.key: i for i, item in enumerate(items)}
    placement = Placement(SIZE, BOX)

    def kept(setup: Setup, picture: str, sha256: str) -> PictureMaps:
        maps = {name: saliency_map(numbers[picture], m) for m, name in enumerate(METHODS[:3])}
        return PictureMaps(maps, dict.fromkeys(maps, placement))

    return kept
