"""Draws one photograph explained by every method.

python tools/gallery.py OUT.png [--model MODEL] [--picture PICTURE] [--width 320]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from onnxcam import METHODS, Explainer, OnnxCamError, read_picture
from onnxcam.inputs import bundled
from onnxcam.outputs.formats import draw
from onnxcam.outputs.overlay import Style

COLUMNS = 5
PAPER = 255


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the PNG file to write")
    parser.add_argument("--model", type=Path, default=bundled.model(), help="default: the embedded EfficientNet-Lite0")
    parser.add_argument("--picture", type=Path, default=bundled.pictures()["coffee"], help="default: coffee")
    parser.add_argument("--width", type=int, default=320, help="width of one tile in pixels")
    arguments = parser.parse_args(words)
    tiles = []
    for name, make in METHODS.items():
        try:
            with Explainer(arguments.model, make(), providers=["cpu"]) as explain:
                saliency = explain(arguments.picture)
        except OnnxCamError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        print(f"{name}: {saliency.provenance.seconds:.1f} s")
        drawn = Image.fromarray(draw(saliency, read_picture(arguments.picture), Style(caption=True)))
        tiles.append(
            drawn.resize(
                (arguments.width, round(drawn.height * arguments.width / drawn.width)), Image.Resampling.LANCZOS
            )
        )
    height = max(tile.height for tile in tiles)
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.full((rows * height, COLUMNS * arguments.width, 3), PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // COLUMNS * height, i % COLUMNS * arguments.width
        sheet[top : top + tile.height, left : left + arguments.width] = np.asarray(tile)
    Image.fromarray(sheet).save(arguments.out, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
