"""Opens and explains every model of a folder of exports, and compares the results with what is known of each model.

    python tools/zoo_report.py ZOO [--only NAME] [--no-explain] [--variants] [--json FILE] [--markdown FILE]

ZOO is a folder with models, photographs (images/) and zoo.json. That file has a record for each model: file; target and
pool_input, the tensors that are right as last spatial features (none if there is no spatial map); batch, 'fixed1' or
'dynamic'; inputs; size. Exits with 1 if a model gave a wrong answer without a note.
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
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.loading import ModelFile, ModelSource, read_model
from onnxcam.types import BatchMode

PICTURES = 8
TOLERANCE = 1e-4
"""Largest difference of an output, as a share of its largest number."""


@dataclass
class Row:
    """One model's results.

    features: 'right', 'other' or 'refused'; notes: number of notes; difference: of 8 pictures in one run
    to 8 single runs; seconds: to open the model; explained: 'yes', or what is wrong with the map.
    """

    model: str
    framework: str
    exporter: str
    has_target: bool
    has_map: bool
    fixed: bool
    features: str = ""
    tensor: str = ""
    notes: int = 0
    batch: str = ""
    difference: float | None = None
    seconds: float = 0.0
    explained: str = ""
    error: str = ""


def records(zoo: Path, only: str = "") -> list[dict[str, Any]]:
    """The zoo's records whose file name contains `only`."""
    return [r for r in json.loads((zoo / "zoo.json").read_text())["models"] if only in r["file"]]


def examine(zoo: Path, record: Mapping[str, Any], *, explain: bool = True) -> Row:
    """Opens the model, compares 8 pictures in one run with 8 single runs, and explains one picture."""
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
        row.seconds = time.perf_counter() - start
        row.tensor, row.batch = opened.anatomy.features.tensor, opened.batching.mode
        row.notes = len(opened.notes) + len(opened.anatomy.notes)
        row.features = "right" if row.tensor in (record.get("target"), record.get("pool_input")) else "other"
        row.difference = largest_difference(zoo, file, options, opened)
        if explain:
            row.explained = explained(zoo, file, options, opened)
    except OnnxCamError as error:
        row.features = row.features or "refused"
        row.error = f"{type(error).__name__}: {error}".replace(f"{path.parent}/", "")
    return row


def options_for(source: ModelSource, record: Mapping[str, Any]) -> OpenOptions:
    """The options that a user would give: a size if the model takes any, and zeros for extra inputs."""
    model = read_model(source).model
    image = find_image(model)
    size = None
    if None in image.sides:
        known = [d for d in (record.get("target_shape") or []) if isinstance(d, int)]
        size = (48, 192) if known[2:] == [1, 48] else (224, 224)
    return OpenOptions(size=size, inputs=blank_inputs(model, image), providers=("cpu",))


def largest_difference(zoo: Path, file: ModelFile, options: OpenOptions, opened: OpenedModel) -> float:
    """The difference of the rewritten model's output for 8 pictures in one run from the file's outputs for each alone.

    It is a share of the largest number.
    """
    name = opened.anatomy.image.name
    rewritten, original = session(rewrite(file, options).data), session(file.proto.SerializeToString())
    images = inputs_of(zoo, file, opened, PICTURES)
    output, extra = opened.anatomy.logits.output, dict(opened.inputs)

    def one_by_one(runner: ort.InferenceSession) -> np.ndarray:
        runs = [runner.run([output], {name: images[i : i + 1], **extra})[0] for i in range(PICTURES)]
        return np.stack([np.asarray(r, np.float64).reshape(-1) for r in runs])

    expected = one_by_one(original)
    if opened.batching.mode is BatchMode.LOOPED:
        outputs = one_by_one(rewritten)
    else:
        spread = {n: np.repeat(a, PICTURES, axis=0) if a.ndim and len(a) == 1 else a for n, a in extra.items()}
        outputs = np.asarray(rewritten.run([output], {name: images, **spread})[0], np.float64).reshape(PICTURES, -1)
    if np.array_equal(outputs, expected, equal_nan=True):  # also of a model whose weights are NaN
        return 0.0
    return float(np.abs(outputs - expected).max() / max(np.abs(expected).max(), 1e-12))


def inputs_of(zoo: Path, file: ModelFile, opened: OpenedModel, count: int) -> np.ndarray:
    """(count, ...) images in the model's layout and type: photographs, or smooth noise if the model takes none."""
    image, size = opened.anatomy.image, opened.size
    if len(size) == 2 and image.channels in (1, 3):
        preset, _ = choose_preset(file, None, image)
        loader = ImageLoader(image, size, preset)
        arrays = [loader.prepare(p).image for p in find_pictures(zoo / "images")[:count]]
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
    """'yes' if Score-CAM gives a finite map that varies and has the input's shape, or what is wrong with it."""
    array = inputs_of(zoo, file, opened, 1)[0].astype(np.float32)
    with Explainer(file, providers=["cpu"], size=options.size, inputs=dict(options.inputs)) as explainer:
        saliency = explainer(array)
    good = saliency.map.shape == tuple(opened.size) and np.isfinite(saliency.map).all() and np.ptp(saliency.map) > 0.5
    return "yes" if good else f"bad map {saliency.map.shape}"


def summary(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(name, value) of each sum over the models."""
    mapped = [r for r in rows if r.has_map]
    targeted = [r for r in rows if r.has_target]
    right = [r for r in targeted if r.features == "right"]
    silent = [r.model for r in targeted if r.features == "other" and not r.notes]
    compared = [r for r in rows if r.difference is not None]
    worst = max((r.difference or 0 for r in compared), default=0)
    equal = [r for r in compared if (r.difference or 0) <= TOLERANCE]
    fixed = [r for r in compared if r.fixed]
    batched = [r for r in fixed if r.batch == BatchMode.REWRITTEN]
    explained_ = [r for r in mapped if r.explained]
    return [
        ("models", str(len(rows))),
        ("feature tensor right", share(right, targeted)),
        ("other tensor without a note", ", ".join(silent) or "none"),
        ("8 pictures at once as 8 singles", f"{share(equal, compared)}, largest difference {worst:.1e}"),
        ("fixed batch made dynamic", share(batched, fixed)),
        ("looped", ", ".join(r.model for r in compared if r.batch == BatchMode.LOOPED) or "none"),
        ("Score-CAM end to end", share([r for r in explained_ if r.explained == "yes"], mapped)),
        ("refused with a reason", str(sum(r.features == "refused" for r in rows))),
    ]  # fmt: skip


VARIANTS = {
    "fp16": "fp16_efflite0_keepio", "QDQ int8": "q_efflite0_qdq_s8s8", "QOperator int8": "q_efflite0_qop_u8s8",
    "dynamic int8": "q_efflite0_dyn",
}  # fmt: skip
REFERENCE = "pt_efflite0_ts"


def variants(zoo: Path, count: int = 5, files: Mapping[str, str] = VARIANTS) -> list[tuple[str, float, float]]:
    """(variant, mean, worst) correlation (Pearson) of the maps of EfficientNet-Lite0's variants with the fp32 export's.

    onnxruntime makes the optimised variants here. All explain the class that the fp32 export predicts.
    """
    models = {name: zoo / "models" / f"{file}.onnx" for name, file in files.items()}
    pictures = find_pictures(zoo / "images")[:count]
    with tempfile.TemporaryDirectory() as folder:
        for level in ("BASIC", "EXTENDED"):
            models[f"optimised {level}"] = Path(folder) / f"{level}.onnx"
            optimise(zoo / "models" / f"{REFERENCE}.onnx", models[f"optimised {level}"], level)
        with Explainer(zoo / "models" / f"{REFERENCE}.onnx", providers=["cpu"]) as explainer:
            expected = [explainer(p) for p in pictures]
        rows = []
        for name, path in models.items():
            with Explainer(path, providers=["cpu"]) as explainer:
                pairs = [(explainer(p, e.target.index).map, e.map) for p, e in zip(pictures, expected, strict=True)]
            correlations = [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in pairs]
            rows.append((name, float(np.mean(correlations)), min(correlations)))
    return rows


def optimise(source: Path, target: Path, level: str) -> None:
    """Writes the model as onnxruntime's offline optimiser changes it."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def share(part: Sequence[Row], total: Sequence[Row]) -> str:
    return f"{len(part)} of {len(total)} ({len(part) / len(total):.1%})" if total else "none"


def markdown(rows: Iterable[Row]) -> str:
    """A Markdown table with a line for each model."""
    lines = ["| model | exporter | features | batch | 8 at once | Score-CAM |", "|---|---|---|---|---|---|"]
    for r in rows:
        difference = "" if r.difference is None else f"{r.difference:.0e}"
        features = r.features if r.features != "right" else r.tensor
        refusal = r.error.split(";")[0].replace("|", "/")[:110]
        lines.append(f"| {r.model} | {r.exporter} | {features} | {r.batch or refusal} | {difference} | {r.explained} |")
    return "\n".join(lines)


def main(
    zoo: Path,
    only: Annotated[str, typer.Option(help="Only models whose file name contains this.")] = "",
    explain: Annotated[bool, typer.Option(help="Run Score-CAM on each model too.")] = True,
    with_variants: Annotated[
        bool, typer.Option("--variants", help="Compare the maps of quantised, fp16 and optimised variants.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the table here.")] = None,
) -> None:
    """Print a line for each model, and the sums. Exit with 1 if a model gave a wrong answer without a note."""
    console = Console()
    rows = [examine(zoo, r, explain=explain) for r in track(records(zoo, only), "models", console=Console(stderr=True))]
    table = Table("model", "features", "batch", "8 at once", "Score-CAM", "opened in")
    for r in rows:
        difference = "" if r.difference is None else f"{r.difference:.0e}"
        table.add_row(r.model, r.features, r.batch or r.error[:60], difference, r.explained, f"{r.seconds:.2f} s")
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
    bad = [
        r for r in rows if (r.difference or 0) > TOLERANCE or (r.features == "other" and not r.notes and r.has_target)
    ]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    typer.run(main)
