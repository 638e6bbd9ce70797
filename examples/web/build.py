"""Builds the page: a folder of static files for any web server, of about 14 MB.

    python examples/web/build.py -o dist
    python -m http.server -d dist

It compiles the bundled model, makes the graph that Score-CAM is stepped with, packs onnxruntime-web, and copies the
page. What comes from npm is installed first (`npm install --ignore-scripts` in examples/web), or lies in another folder
that --node-modules names.
"""

import argparse
import gzip
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

import onnxcam
from onnxcam.inputs.bundled import model, pictures
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.outputs.overlay import COLORMAPS, heatmap
from onnxcam.surgeon import ir
from onnxcam.surgeon.graphs.masked_score import scoring_model
from onnxcam.surgeon.loading import read_model

HERE = Path(__file__).resolve().parent
COMPILED, STEP = "efficientnet-lite0.grad-cam.onnx", "efficientnet-lite0.score-cam-step.onnx"
LARGEST = 25_000_000
"""Bytes of the page, at most."""
SHARED = 256
"""Bytes from which a weight of the step graph is read out of the compiled file."""
FROM_NPM = {
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs": "vendor/onnxruntime.js",
    "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2": "fonts/sans.woff2",
    "@fontsource/instrument-serif/files/instrument-serif-latin-400-normal.woff2": "fonts/serif.woff2",
    "@fontsource/instrument-serif/files/instrument-serif-latin-400-italic.woff2": "fonts/serif-italic.woff2",
    "@fontsource-variable/inter/LICENSE": "fonts/LICENSE.inter.txt",
    "@fontsource/instrument-serif/LICENSE": "fonts/LICENSE.instrument-serif.txt",
}
RUNTIME = "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"
PACKED = "vendor/onnxruntime.wasm.gz"


def build(out: Path, modules: Path) -> int:
    """Writes the page to a new folder; returns its bytes. Raises FileNotFoundError where a file from npm is missing."""
    shutil.copytree(HERE / "page", out, ignore=shutil.ignore_patterns("*.d.ts"))
    for folder in ("vendor", "fonts", "models", "pictures"):
        (out / folder).mkdir(exist_ok=True)
    for source, target in FROM_NPM.items():
        shutil.copyfile(modules / source, out / target)
    (out / PACKED).write_bytes(gzip.compress((modules / RUNTIME).read_bytes(), mtime=0))
    write_models(out / "models")
    write_pictures(out / "pictures")
    list_files(out)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def write_models(folder: Path) -> None:
    """The compiled model, the graph of Score-CAM that takes its weights from it, and the colours of the maps."""
    compiled = onnxcam.compile(model(), "grad-cam").bytes
    (folder / COMPILED).write_bytes(compiled)
    step, grid = step_graph(compiled)
    (folder / STEP).write_bytes(step)
    (folder / "bundle.json").write_text(json.dumps({"file": COMPILED, "step": STEP, "grid": grid}))
    scale = np.linspace(0, 1, 256, dtype=np.float32)[None]
    colours = {name: heatmap(scale, name).tobytes().hex() for name in COLORMAPS}
    (folder / "colours.json").write_text(json.dumps(colours))


def step_graph(compiled: bytes) -> tuple[bytes, list[int]]:
    """The graph that scores masks of one picture, and the (rows, columns) of the feature maps.

    It is the graph that `onnxcam explain` runs. Weights whose bytes lie in the compiled file are read there: ONNX calls
    that external data, and onnxruntime-web takes the file's bytes under its name.
    """
    opened = open_model(read_model(model()), OpenOptions())
    opened.close()
    anatomy = opened.anatomy
    proto = ir.to_proto(scoring_model(opened.model, anatomy, opened.size, with_fill=False))
    for weight in proto.graph.initializer:
        at = compiled.find(weight.raw_data) if len(weight.raw_data) >= SHARED else -1
        if at < 0:
            continue
        length = len(weight.raw_data)
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", COMPILED), ("offset", at), ("length", length)):
            weight.external_data.add(key=key, value=str(value))
    del proto.metadata_props[:]
    return proto.SerializeToString(deterministic=True), list(anatomy.features.grid)


def write_pictures(folder: Path) -> None:
    """The demo's photographs, and both side by side."""
    for path in pictures().values():
        shutil.copyfile(path, folder / path.name)
    cat, cup = (Image.open(pictures()[name]) for name in ("chelsea", "coffee"))
    width, height = 266, cup.height
    halves = (
        cat.resize((602, height), Image.Resampling.LANCZOS).crop((168, 0, 168 + width, height)),
        cup.crop((170, 0, 170 + width, height)),
    )
    both = Image.new("RGB", (2 * width, height))
    for i, half in enumerate(halves):
        both.paste(half, (i * width, 0))
    both.save(folder / "both.jpg", quality=92)


def list_files(out: Path) -> None:
    """Tells the service worker what to keep for when there is no network, under a name that changes with the files."""
    worker = out / "service-worker.js"
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and p != worker)
    digest = hashlib.sha256()
    for name in files:
        digest.update(name.encode() + (out / name).read_bytes())
    text = worker.read_text().replace("'VERSION'", repr(digest.hexdigest()[:12]))
    worker.write_text(text.replace("['FILES']", json.dumps(files)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the page.")
    parser.add_argument("-o", "--out", type=Path, default=Path("dist"), help="a folder that does not exist yet")
    parser.add_argument("--node-modules", type=Path, default=HERE / "node_modules", help="where npm installed packages")
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} exists; name another folder with -o, or remove it")
    try:
        size = build(arguments.out, arguments.node_modules)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is missing; run `npm install --ignore-scripts` in {HERE}")
    if size > LARGEST:
        sys.exit(f"the page has {size:,} bytes, above {LARGEST:,}")
    print(f"{arguments.out}: {size / 1e6:.1f} MB. Try it: python -m http.server -d {arguments.out}")


if __name__ == "__main__":
    main()
