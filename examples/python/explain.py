"""Explains a picture with a file that `onnxcam compile --raw` made: onnxruntime, NumPy and Pillow, and no onnxcam.

python explain.py model.explained.onnx photo.jpg overlay.png [class]
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read_picture(path):
    """The pixels (height, width, 3) in uint8: upright as the camera was held, transparent parts over white."""
    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return np.asarray(picture.convert("RGB"))


def explain(session, pixels, target=-1):
    """One run of the file. target: a class; -1: the prediction. Returns what the file gives, by name."""
    if not {"picture", "target"} <= {feed.name for feed in session.get_inputs()}:
        sys.exit("this file takes no picture and class; compile the model with --raw, and without --target")
    names = [output.name for output in session.get_outputs()]
    feeds = {"picture": pixels, "target": np.array([target], np.int64)}
    return dict(zip(names, session.run(names, feeds), strict=True))


def overlay(pixels, saliency):
    """The picture with a map (height, width) in [0,1] over it: blue where it is 0, over green, to red where it is 1."""
    colors = np.clip(1.5 - np.abs(4 * saliency[..., None] - [3, 2, 1]), 0, 1) * 255
    return Image.fromarray(np.rint(0.5 * pixels + 0.5 * colors).astype(np.uint8))


def main(model, photo, out, target="-1"):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["onnxcam.compiled"])["labels"]
    pixels = read_picture(photo)
    answer = explain(session, pixels, int(target))
    explained = int(answer["saliency_target"][0])
    overlay(pixels, answer["saliency_picture"][0]).save(out)
    print(f"class {explained}{f' ({labels[explained]})' if labels else ''}: {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
