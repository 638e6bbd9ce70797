"""Measure onnxcam against the floor and a peer, side by side in one run.

    pip install ".[cpu,torch,peers]" && pip install --no-deps grad-cam ttach
    python tools/benchmark.py --json benchmark.json

Every ratio is a median over interleaved repeats: on a shared machine absolute times mean little. The peer explains the
same picture with the same weights. Peak memory is that of a process of its own. `--boxes FOLDER` adds the share of
labelled photographs whose maximum lies in the object's box (FOLDER/images/boxes.json and FOLDER/models/MODEL).
"""

import argparse
import json
import statistics
import subprocess
import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from side_by_side import interleaved, stand_in_for_torchvision

from onnxcam import Explainer, score_cam
from onnxcam.embedded import model, pictures
from onnxcam.engine.session import Session
from onnxcam.pictures import read_picture

PICTURE = pictures()["chelsea"]
THREADS = 2
MEMORY = """
from onnxcam import Explainer, score_cam
from onnxcam.embedded import model, pictures
with Explainer(model(), score_cam(), providers=["cpu"]) as explain:
    explain(pictures()["chelsea"])
from side_by_side import peak
print(peak())
"""
Rows = list[dict[str, Any]]


def bare_forwards(count: int, batch: int) -> Callable[[], object]:
    """The floor: as many forward passes of the plain model, in the same chunks, with the same session options."""
    session = Session(model().read_bytes(), ["cpu"], THREADS)
    images = np.random.default_rng(0).standard_normal((batch, 3, 224, 224)).astype(np.float32)

    def run() -> None:
        for done in range(0, count, batch):
            session.run(["logits"], {"images": images[: min(batch, count - done)]})

    return run


def pytorch_grad_cam(explainer: Explainer, picture: Path) -> Callable[[], object] | None:
    """pytorch-grad-cam's ScoreCAM at its defaults, on the same weights; None where it is not installed."""
    try:
        import torch

        stand_in_for_torchvision()
        from build_models import module
        from pytorch_grad_cam import ScoreCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        print(f"pytorch-grad-cam is left out: {error}", file=sys.stderr)
        return None
    import pytorch_grad_cam.score_cam as scores

    scores.tqdm = types.SimpleNamespace(tqdm=lambda steps: steps)  # no progress bar for each picture
    torch.set_num_threads(THREADS)
    network = module()
    # The layer that is hooked: what enters the pooling. The module's own activation there is shared with the stem.
    network.features = torch.nn.Identity()
    network.forward = lambda x: network._fc(
        network._avg_pooling(network.features(network.extract_features(x))).flatten(1)
    )
    cam = ScoreCAM(model=network, target_layers=[network.features])
    image = torch.from_numpy(np.array(explainer.prepare(picture).image))[None]
    target = explainer(picture).target.index
    return lambda: cam(input_tensor=image, targets=[ClassifierOutputTarget(target)])


def speed(repeats: int, peers: bool) -> Rows:
    rows: Rows = []
    with Explainer(model(), score_cam(), providers=["cpu"], threads=THREADS) as explainer:
        first = explainer(PICTURE)
        five = [f"top{i}" for i in range(1, 6)]
        cases: dict[str, Callable[[], object]] = {
            "onnxcam": lambda: explainer(PICTURE),
            "five": lambda: explainer.explain(PICTURE, five),
            "floor": bare_forwards(first.provenance.channels.scored, explainer.masks_a_run),
        }
        # The peer takes half a minute a picture, so it has rounds of its own, interleaved with onnxcam all the same.
        times = interleaved(cases, max(3, repeats))
        note = (
            f"{first.provenance.channels.scored} live channels, batch {explainer.masks_a_run}, {times['onnxcam']:.2f} s"
        )
        rows.append(row("whole Score-CAM / bare forward passes", times["onnxcam"] / times["floor"], "<= 1.10", note))
        rows.append(row("five targets / one", times["five"] / times["onnxcam"], "<= 1.1", ""))
        for name, picture in pictures().items() if peers else ():
            peer = pytorch_grad_cam(explainer, picture)
            if peer is None:
                break
            live = explainer(picture).provenance.channels.scored
            times = interleaved({"onnxcam": lambda p=picture: explainer(p), "peer": peer}, repeats)
            note = f"{name}, {live} live channels: {times['peer']:.1f} s against {times['onnxcam']:.2f} s"
            rows.append(row("pytorch-grad-cam ScoreCAM / onnxcam", times["peer"] / times["onnxcam"], ">= 10", note))
    return rows


def memory() -> Rows:
    megabytes = [
        float(
            subprocess.run(
                [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
            ).stdout
        )
        for _ in range(3)
    ]
    return [row("peak memory of one explanation, MB", statistics.median(megabytes), "<= 600", "the whole process")]


def agreement(folder: Path | None) -> Rows:
    """Batch sizes and threads on the embedded model: the largest difference between maps."""
    maps = {}
    for batch in (1, 7, 64):
        with Explainer(model(), score_cam(), providers=["cpu"], batch=batch) as explainer:
            maps[batch] = explainer(PICTURE).map
    worst = max(float(np.abs(maps[1] - maps[b]).max()) for b in (7, 64))
    rows = [row("batch 1, 7, 64: largest difference", worst, "<= 1e-5", "")]
    found = sorted((folder / "images").glob("*.jp*g")) if folder is not None else list(pictures().values())
    photographs = [read_picture(p) for p in found]
    photographs = [
        np.ascontiguousarray(p[:, :: 1 if i < len(photographs) else -1]) for i, p in enumerate((photographs * 50)[:50])
    ]
    with Explainer(model(), score_cam(), providers=["cpu"], threads=1) as explainer:
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(explainer, photographs))
        alone = [explainer(p) for p in photographs]
    worst = max(float(np.abs(a.map - b.map).max()) for a, b in zip(alone, together, strict=True))
    rows.append(row("8 threads, 50 pictures: largest difference", worst, "0", ""))
    return rows


def pointing(folder: Path, name: str) -> Rows:
    """The share of labelled photographs whose map, drawn on the original, is highest inside the object's box."""
    boxes = json.loads((folder / "images" / "boxes.json").read_text())["images"]
    hits, missed = 0, []
    labelled = {k: v for k, v in boxes.items() if v["class_index"] is not None}
    with Explainer(folder / "models" / name, score_cam(), preset="efficientnet-lite", providers=["cpu"]) as explainer:
        for file, truth in labelled.items():
            saliency = explainer(folder / "images" / file, truth["class_index"])
            x, y = on_the_original(saliency)
            found = [truth["box"], *truth["other_instances"]]
            inside = any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in found)
            hits += inside
            missed += [] if inside else [file]
    note = f"{hits} of {len(labelled)}; missed: {', '.join(missed) or 'none'}"
    return [row(f"maximum inside the box, {name}", hits / len(labelled), ">= 0.75", note)]


def on_the_original(saliency: Any) -> tuple[float, float]:
    """The pixel (x, y) of the original under the map's maximum."""
    height, width = saliency.map.shape
    top_row, column = np.unravel_index(int(saliency.map.argmax()), saliency.map.shape)
    left, top, right, bottom = saliency.placement.box
    return left + (column + 0.5) * (right - left) / width, top + (top_row + 0.5) * (bottom - top) / height


def row(what: str, value: float, reach: str, note: str) -> dict[str, Any]:
    return {"what": what, "value": value, "reach": reach, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="rounds that count, at least 3 for a median")
    parser.add_argument("--no-peers", action="store_true", help="leave out what takes a minute a picture")
    parser.add_argument("--boxes", type=Path, help="folder with images/boxes.json and models/")
    parser.add_argument("--boxes-model", default="pt_efflite0_ts.onnx")
    parser.add_argument("--only", choices=["memory", "speed", "agreement", "pointing"], help="one part alone")
    parser.add_argument("--json", type=Path, help="keep the rows")
    given = parser.parse_args()
    parts: dict[str, Callable[[], Rows]] = {
        "memory": memory,
        "speed": lambda: speed(given.repeats, not given.no_peers),
        "agreement": lambda: agreement(given.boxes),
        "pointing": lambda: pointing(given.boxes, given.boxes_model) if given.boxes is not None else [],
    }
    rows: Rows = []
    for name, part in parts.items():
        if given.only in (None, name):
            print(f"measuring: {name}", file=sys.stderr)
            rows += part()
    table = Table("what", "measured", "reach", "note")
    for r in rows:
        table.add_row(r["what"], f"{r['value']:.4g}", r["reach"], r["note"])
    Console(width=150).print(table)
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
