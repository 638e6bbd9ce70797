"""Draws one photograph explained by every method: a small WebP file a method.

python tools/gallery.py FOLDER [--model MODEL] [--picture PICTURE] [--width 400] [--method NAME]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from onnxcam import METHODS, Explainer, OnnxCamError, read_picture
from onnxcam.inputs import bundled
from onnxcam.outputs.drawing import draw
from onnxcam.outputs.overlay import Style

QUALITY = 72


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the folder for NAME.webp of each method")
    parser.add_argument("--model", type=Path, default=bundled.model(), help="default: the embedded EfficientNet-Lite0")
    parser.add_argument("--picture", type=Path, default=bundled.pictures()["coffee"], help="default: coffee")
    parser.add_argument("--width", type=int, default=400, help="width of a picture in pixels")
    parser.add_argument("--method", action="append", choices=list(METHODS), help="default: every method")
    arguments = parser.parse_args(words)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    refused = 0
    for name in arguments.method or METHODS:
        try:
            with Explainer(arguments.model, METHODS[name](), providers=["cpu"]) as explain:
                saliency = explain(arguments.picture)
        except OnnxCamError as error:
            print(f"{name}: {error}", file=sys.stderr)
            refused += 1
            continue
        print(f"{name}: {saliency.provenance.seconds:.1f} s")
        drawn = Image.fromarray(draw(saliency, read_picture(arguments.picture), Style(caption=True)))
        size = (arguments.width, round(drawn.height * arguments.width / drawn.width))
        drawn.resize(size, Image.Resampling.LANCZOS).save(arguments.folder / f"{name}.webp", quality=QUALITY, method=6)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
