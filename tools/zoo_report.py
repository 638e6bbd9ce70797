"""Try every model of a zoo of exports, and print what came out beside the truth that is known about each.

    python tools/zoo_report.py ZOO [--only NAME] [--explain none|quick|all] [--json FILE] [--markdown FILE]

ZOO is a folder with zoo.json, a record a model: file, target and pool_input (the tensors that may be taken for the last
spatial features; none where there is no spatial map), batch ('fixed1', 'dynamic'), inputs, size.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from onnxcam import Explainer
from onnxcam.errors import OnnxCamError
from onnxcam.inputs.choices import choose_preset
from onnxcam.inputs.images import find_pictures
from onnxcam.inputs.loader import ImageLoader
from onnxcam.network.export import rewrite
from onnxcam.network.extra_inputs import blank_inputs
from onnxcam.network.opening import OpenedModel, OpenOptions, open_model
from onnxcam.resampling import upsample
from onnxcam.surgeon.analysis.locate import find_image
from onnxcam.surgeon.loading import ModelFile, ModelSource, read_model

PICTURES = 8
TOLERANCE = 1e-4
"""Of the largest number of the output."""


@dataclass
class Row:
    """One model's results. features: 'right', 'refused' or 'other'; same: difference of 8 at once to singles."""

    model: str
    framework: str
    exporter: str
    has_target: bool
    has_map: bool
    fixed: bool
    features: str = ""
    tensor: str = ""
    doubts: int = 0
    batch: str = ""
    same: float | None = None
    prepared: float = 0.0
    explained: str = ""
    error: str = ""


def records(zoo: Path, only: str = "") -> list[dict[str, Any]]:
    """The zoo's records whose file name holds `only`."""
    return [r for r in json.loads((zoo / "zoo.json").read_text())["models"] if only in r["file"]]


def examine(zoo: Path, record: Mapping[str, Any], *, explain: bool = True) -> Row:
    """Locate, open, compare 8 pictures at once with 8 single runs, and explain one."""
    row = Row(
        Path(record["file"]).stem,
        record["framework"].split()[0],
        record.get("exporter", ""),
        record.get("target") is not None,
        record.get("target") is not None or "If" in (record.get("ops") or {}),
        str(record.get("batch", "")).startswith("fixed"),
    )
    path = zoo / record["file"]
    try:
        start = time.perf_counter()
        file = read_model(path)
        options = options_for(file, record)
        opened = open_model(file, options)
        opened.network.close()
        row.prepared = time.perf_counter() - start
        row.tensor, row.batch = opened.anatomy.features.tensor, opened.batching.mode
        row.doubts = len(opened.notes) + len(opened.anatomy.notes)
        row.features = "right" if row.tensor in (record.get("target"), record.get("pool_input")) else "other"
        row.same = largest_difference(zoo, file, options, opened)
        if explain:
            row.explained = explained(zoo, file, options, opened)
    except OnnxCamError as error:
        row.features = row.features or "refused"
        row.error = f"{type(error).__name__}: {error}".replace(f"{path.parent}/", "")
    return row


def options_for(source: ModelSource, record: Mapping[str, Any]) -> OpenOptions:
    """What a user would have to say: a size where the model takes any, zeros for extra inputs."""
    model = read_model(source).model
    image = find_image(model)
    size = None
    if None in image.sides:
        known = [d for d in (record.get("target_shape") or []) if isinstance(d, int)]
        size = (48, 192) if known[2:] == [1, 48] else (224, 224)
    return OpenOptions(size=size, inputs=blank_inputs(model, image), providers=("cpu",))


def largest_difference(zoo: Path, file: ModelFile, options: OpenOptions, opened: OpenedModel) -> float:
    """Of the rewritten model over 8 pictures in one run to the file over each alone; a share of the largest number."""
    made, name = rewrite(file, options), opened.anatomy.image.name
    whole, single = session(made.data), session(file.proto.SerializeToString())
    pictures = inputs_of(zoo, file, opened, PICTURES)
    output, extra = opened.anatomy.logits.output, dict(opened.inputs)

    def one_by_one(runner: ort.InferenceSession) -> np.ndarray:
        runs = [runner.run([output], {name: pictures[i : i + 1], **extra})[0] for i in range(PICTURES)]
        return np.stack([np.asarray(r, np.float64).reshape(-1) for r in runs])

    expected = one_by_one(single)
    if opened.batching.mode == "looped":
        given = one_by_one(whole)
    else:
        spread = {n: np.repeat(a, PICTURES, axis=0) if a.ndim and len(a) == 1 else a for n, a in extra.items()}
        given = np.asarray(whole.run([output], {name: pictures, **spread})[0], np.float64).reshape(PICTURES, -1)
    if np.array_equal(given, expected, equal_nan=True):  # also of a model whose weights are NaN
        return 0.0
    return float(np.abs(given - expected).max() / max(np.abs(expected).max(), 1e-12))


def inputs_of(zoo: Path, file: ModelFile, opened: OpenedModel, count: int) -> np.ndarray:
    """(count, ...) in the model's own layout and type: photographs, or smooth noise for what takes no photographs."""
    image, size = opened.anatomy.image, opened.size
    if len(size) == 2 and image.channels in (1, 3):
        preset, _ = choose_preset(file, None, image)
        intake = ImageLoader(image, size, preset)
        arrays = [intake.prepare(p).image for p in find_pictures(zoo / "images")[:count]]
    else:
        rng = np.random.default_rng(2)
        coarse = rng.standard_normal((count, image.channels, *(max(2, s // 8) for s in size))).astype(np.float32)
        arrays = list(upsample(coarse, size))
    canonical = ["C", *image.letters]
    order = [canonical.index(letter) for letter in image.layout if letter != "N"]
    return np.stack([a.transpose(order) for a in arrays]).astype(image.dtype)


def session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def explained(zoo: Path, file: ModelFile, options: OpenOptions, opened: OpenedModel) -> str:
    """'yes' where Score-CAM of a picture gives a finite map that varies and has the input's shape, else why not."""
    array = inputs_of(zoo, file, opened, 1)[0].astype(np.float32)
    with Explainer(file, providers=["cpu"], size=options.size, inputs=dict(options.inputs)) as explainer:
        saliency = explainer(array)
    good = saliency.map.shape == tuple(opened.size) and np.isfinite(saliency.map).all() and np.ptp(saliency.map) > 0.5
    return "yes" if good else f"bad map {saliency.map.shape}"


def summary(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The lines that say how well it went."""
    mapped = [r for r in rows if r.has_map]
    targeted = [r for r in rows if r.has_target]
    right = [r for r in targeted if r.features == "right"]
    silent = [r.model for r in targeted if r.features == "other" and not r.doubts]
    compared = [r for r in rows if r.same is not None]
    worst = max((r.same or 0 for r in compared), default=0)
    fixed = [r for r in compared if r.fixed]
    batched = [r for r in fixed if r.batch == "rewritten"]
    explained_ = [r for r in mapped if r.explained]
    return [
        ("models", str(len(rows))),
        ("feature tensor right", share(right, targeted)),
        ("other tensor without a stated doubt", ", ".join(silent) or "none"),
        ("8 pictures at once as 8 singles", f"{share([r for r in compared if (r.same or 0) <= TOLERANCE], compared)}, "
         f"largest difference {worst:.1e}"),
        ("fixed batch made dynamic", share(batched, fixed)),
        ("looped", ", ".join(r.model for r in compared if r.batch == "looped") or "none"),
        ("Score-CAM end to end", share([r for r in explained_ if r.explained == "yes"], mapped)),
        ("refused with a reason", str(sum(r.features == "refused" for r in rows))),
    ]  # fmt: skip


VARIANTS = {
    "fp16": "fp16_efflite0_keepio", "QDQ int8": "q_efflite0_qdq_s8s8", "QOperator int8": "q_efflite0_qop_u8s8",
    "dynamic int8": "q_efflite0_dyn",
}  # fmt: skip
REFERENCE = "pt_efflite0_ts"


def variants(zoo: Path, count: int = 5, files: Mapping[str, str] = VARIANTS) -> list[tuple[str, float, float]]:
    """(variant, mean, worst) Pearson correlation of EfficientNet-Lite0's variants' maps with the fp32 export's.

    The optimised ones are made here, by onnxruntime. All explain the fp32 export's own prediction.
    """
    models = {name: zoo / "models" / f"{file}.onnx" for name, file in files.items()}
    pictures = find_pictures(zoo / "images")[:count]
    with tempfile.TemporaryDirectory() as folder:
        for level in ("BASIC", "EXTENDED"):
            models[f"optimised {level}"] = Path(folder) / f"{level}.onnx"
            optimise(zoo / "models" / f"{REFERENCE}.onnx", models[f"optimised {level}"], level)
        with Explainer(zoo / "models" / f"{REFERENCE}.onnx", providers=["cpu"]) as explainer:
            expected = [explainer(p) for p in pictures]
        found = []
        for name, path in models.items():
            with Explainer(path, providers=["cpu"]) as explainer:
                pairs = [(explainer(p, e.target.index).map, e.map) for p, e in zip(pictures, expected, strict=True)]
            likeness = [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in pairs]
            found.append((name, float(np.mean(likeness)), min(likeness)))
    return found


def optimise(source: Path, target: Path, level: str) -> None:
    """What onnxruntime's offline optimiser writes."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def share(part: Sequence[Row], whole: Sequence[Row]) -> str:
    return f"{len(part)} of {len(whole)} ({len(part) / len(whole):.1%})" if whole else "none"


def markdown(rows: Iterable[Row]) -> str:
    """A line a model, for the documentation."""
    lines = ["| model | exporter | features | batch | 8 at once | Score-CAM |", "|---|---|---|---|---|---|"]
    for r in rows:
        same = "" if r.same is None else f"{r.same:.0e}"
        features = r.features if r.features != "right" else r.tensor
        refusal = r.error.split(";")[0].replace("|", "/")[:110]
        lines.append(f"| {r.model} | {r.exporter} | {features} | {r.batch or refusal} | {same} | {r.explained} |")
    return "\n".join(lines)


def main(
    zoo: Path,
    only: Annotated[str, typer.Option(help="Models whose file name holds this.")] = "",
    explain: Annotated[bool, typer.Option(help="Run Score-CAM too.")] = True,
    with_variants: Annotated[
        bool, typer.Option("--variants", help="Compare the maps of quantised, fp16 and optimised variants.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the table here.")] = None,
) -> None:
    """Print a line a model and the sums; exit 1 when a model gave a wrong answer in silence."""
    console = Console()
    rows = [examine(zoo, r, explain=explain) for r in track(records(zoo, only), "models", console=Console(stderr=True))]
    table = Table("model", "features", "batch", "8 at once", "Score-CAM", "prepared")
    for r in rows:
        same = "" if r.same is None else f"{r.same:.0e}"
        table.add_row(r.model, r.features, r.batch or r.error[:60], same, r.explained, f"{r.prepared:.2f} s")
    console.print(table)
    for name, value in summary(rows):
        console.print(f"{name:38} {value}", markup=False)
    if with_variants:
        for name, mean, worst in variants(zoo):
            console.print(f"Pearson with fp32: {name:20} mean {mean:.5f}, worst {worst:.5f}", markup=False)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(r) for r in rows], indent=1))
    if markdown_file is not None:
        sums = "\n".join(f"- {name}: {value}" for name, value in summary(rows))
        markdown_file.write_text(f"{sums}\n\n{markdown(rows)}\n")
    bad = [r for r in rows if (r.same or 0) > TOLERANCE or (r.features == "other" and not r.doubts and r.has_target)]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    typer.run(main)
