"""Exports architectures of timm with random weights and compares the feature tensor that is chosen with timm's own map.

    python tools/sweep_timm.py FOLDER [--only NAME] [--recheck] [--seconds 600] [--markdown FILE]

Each architecture is exported four times: by TorchScript (opset 17) and by dynamo (opset 18), with a batch of one and
with a dynamic batch. timm's own map is the result of `forward_features`, as (K,h,w), without prefix tokens, or what
enters its global pool; where both are no grid, the last map of `forward_intermediates`. It is compared with the tensor
that the analysis chooses by the values of both on a random image. Exports stay in FOLDER. Results are lines of
FOLDER/results.jsonl, so that a run that was stopped goes on where it was; --recheck compares existing exports again.
Needs timm, torch, onnxscript.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import typer

from onnxcam.errors import OnnxCamError
from onnxcam.network.dry_run import without_branches
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.analysis.locate import find_image, locate, resolve_size
from onnxcam.surgeon.loading import read_model
from onnxcam.surgeon.passes.control_flow import unroll_loops
from onnxcam.surgeon.passes.expose_features import expose_features
from onnxcam.types import NoteCode

VARIANTS = ("ts17_b1", "ts17_dyn", "dy18_b1", "dy18_dyn")
DOUBTS = frozenset({NoteCode.SIZE_ASSUMED, NoteCode.BRANCH_TAKEN})
"""Notes that say nothing about the choice of the feature tensor."""
CLOSE = 1e-3
"""Largest difference between the maps, as a share of the largest number."""

VIT = {"name": "vit_tiny_patch16_224", "side": 96, "depth": 3}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    # side is that of the image (96 by default); all else goes to timm.create_model.
    "swin_tiny_patch4_window7_224": {"side": 112, "embed_dim": 24, "depths": (2, 2, 2, 2), "window_size": 7},
    "swinv2_tiny_window8_256": {"side": 128, "embed_dim": 24, "depths": (2, 2, 2, 2), "window_size": 4},
    "swinv2_cr_tiny_224": {"side": 224, "embed_dim": 24, "depths": (2, 2, 2, 2)},
    "nest_tiny": {"side": 224},
    "hiera_tiny_224": {"side": 224, "stages": (1, 1, 2, 1), "embed_dim": 32, "num_heads": 1},
    "tresnet_m": {},
    "pit_ti_224": {"side": 224},
    "pit_ti_distilled_224": {"side": 224},
    "coat_lite_tiny": {"side": 96},
    "coat_tiny": {"side": 96},
    "maxvit_pico_rw_256": {"side": 256},
    "coatnet_nano_rw_224": {"side": 224},
    "crossvit_tiny_240": {"side": 240},
    "twins_pcpvt_small": {"side": 96, "embed_dims": (16, 32, 64, 128), "num_heads": (1, 2, 4, 8)},
    "twins_svt_small": {"side": 224, "embed_dims": (16, 32, 64, 128), "num_heads": (1, 2, 4, 8)},
    "gcvit_xxtiny": {"side": 224},
    "edgenext_xx_small": {},
    "mobilevit_xxs": {"side": 128},
    "mobilevitv2_050": {"side": 128},
    "poolformer_s12": {},
    "poolformerv2_s12": {},
    "convformer_s18": {},
    "caformer_s18": {},
    "vit_tiny_patch16_224": {"side": 96, "depth": 3},
    "vit_tiny_averaged": {**VIT, "global_pool": "avg", "class_token": False},
    "vit_tiny_attention_pooled": {**VIT, "global_pool": "map", "class_token": False},
    "deit_tiny_distilled_patch16_224": {"side": 96, "depth": 3},
    "deit3_small_patch16_224": {"side": 96, "depth": 3, "embed_dim": 96, "num_heads": 3},
    "beit_base_patch16_224": {"side": 96, "depth": 3, "embed_dim": 96, "num_heads": 3},
    "eva02_tiny_patch14_224": {"side": 112, "depth": 3},
    "flexivit_small": {"side": 96, "depth": 3},
    "vit_relpos_small_patch16_224": {"side": 96, "depth": 3},
    "vit_tiny_r_s16_p8_224": {"side": 128, "depth": 3},
    "samvit_base_patch16": {"side": 112, "depth": 3, "embed_dim": 96, "num_heads": 3, "global_attn_indexes": (2,)},
    "cait_xxs24_224": {"side": 96, "depth": 3},
    "xcit_nano_12_p16_224": {"side": 96, "depth": 3},
    "volo_d1_224": {"side": 96},
    "convit_tiny": {"side": 96, "depth": 4, "local_up_to_layer": 2},
    "tnt_s_patch16_224": {"side": 96, "depth": 2},
    "mvitv2_tiny": {"side": 96},
    "test_vit": {"side": 160},
    "pvt_v2_b0": {},
    "visformer_tiny": {"side": 224},
    "tiny_vit_5m_224": {"side": 224},
    "levit_128s": {"side": 224},
    "levit_conv_128s": {"side": 224},
    "davit_tiny": {"side": 224, "embed_dims": (24, 48, 96, 192), "depths": (1, 1, 2, 1)},
    "focalnet_tiny_srf": {},
    "mixer_s32_224": {"side": 224},
    "gmlp_ti16_224": {"side": 224},
    "resmlp_12_224": {"side": 224},
    "gmixer_12_224": {"side": 224},
    "sequencer2d_s": {"side": 224, "layers": (1,) * 4, "embed_dims": (48, 96, 96, 96)},
    "vitamin_small_224": {"side": 96},
    "efficientformer_l1": {"side": 224},
    "efficientformerv2_s0": {"side": 224},
    "fastvit_t8": {"side": 128},
    "swiftformer_xs": {"side": 96},
    "efficientvit_b0": {},
    "efficientvit_m0": {"side": 224},
    "shvit_s1": {"side": 128},
    "hieradet_small": {"side": 224, "embed_dim": 24, "num_heads": 1},
    "botnet26t_256": {"side": 256},
    "halonet26t": {"side": 256},
    "lambda_resnet26t": {"side": 256},
    "bat_resnext26ts": {"side": 128},
    "nextvit_small": {"side": 96},
    "resnet10t": {},
    "skresnet18": {},
    "legacy_seresnet18": {},
    "resnest14d": {},
    "resnetv2_18": {},
    "res2net50_14w_8s": {},
    "regnetx_002": {},
    "densenet121": {},
    "dla46_c": {},
    "dpn48b": {},
    "ese_vovnet19b_slim": {},
    "mobilenetv2_035": {},
    "mobilenetv3_small_050": {},
    "mobilenetv4_conv_small_035": {},
    "efficientnet_lite0": {},
    "lcnet_035": {},
    "ghostnet_050": {},
    "repghostnet_050": {},
    "hardcorenas_a": {},
    "hgnetv2_b0": {},
    "hrnet_w18_small": {},
    "inception_next_atto": {},
    "rexnet_100": {},
    "starnet_s1": {},
    "nf_regnet_b0": {},
    "cs3darknet_focus_s": {},
    "convnext_atto": {},
    "convnextv2_atto": {},
    "convmixer_768_32": {"depth": 4},
    "repvit_m0_9": {},
    "repvgg_a0": {},
    "mobileone_s0": {},
    "rdnet_tiny": {},
    "fasternet_t0": {},
    "mambaout_femto": {},
    "selecsls42b": {},
    "xception41": {},
}  # fmt: skip


@dataclass
class Row:
    """One export. verdict: 'same', 'doubted' (another tensor, and a note says so), 'silent' (no note), or an error."""

    model: str
    family: str
    variant: str
    verdict: str
    tensor: str = ""
    layout: str = ""
    notes: str = ""
    text: str = ""
    seconds: float = 0.0


# ---- timm's side


def export_all(name: str, folder: Path) -> None:
    """Writes the exports of one architecture, and expected.npz with x and timm's own maps, into folder/name."""
    import timm
    import torch

    torch.set_num_threads(1)
    timm.layers.set_fused_attn(False)  # the exporters take the fused operator of four axes only
    torch.manual_seed(0)
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    options = dict(ARCHITECTURES[name])
    side, real = options.pop("side", 96), options.pop("name", name)
    try:
        model = timm.create_model(real, pretrained=False, num_classes=7, img_size=side, **options)
    except TypeError:
        model = timm.create_model(real, pretrained=False, num_classes=7, **options)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that layer scales near zero hide no block
            if parameter.ndim <= 1 or (parameter.ndim == 3 and parameter.shape[0] == 1) or parameter.std() < 1e-3:
                parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(1, 3, side, side)
    with torch.no_grad():
        maps = own_maps(model, x)
    np.savez(target / "expected.npz", x=x.numpy(), **{f"map{i}": m for i, m in enumerate(maps)})
    (target / "family.txt").write_text(type(model).__module__.rsplit(".", 1)[-1])
    for variant in VARIANTS:
        path = target / f"{variant}.onnx"
        if not path.exists():
            try:
                export(model, x, path, variant)
            except Exception as error:  # noqa: BLE001 - whatever an exporter raises is a result
                (target / f"{variant}.failed").write_text(f"{type(error).__name__}: {str(error)[:300]}")


def export(model: Any, x: Any, path: Path, variant: str) -> None:
    import torch

    partial = path.with_suffix(".part")
    if variant.startswith("ts"):
        axes = {"x": {0: "batch"}} if variant.endswith("dyn") else None
        torch.onnx.export(
            model, (x,), str(partial), dynamo=False, opset_version=17, input_names=["x"], output_names=["logits"],
            dynamic_axes=axes,
        )  # fmt: skip
    else:
        dynamic = variant.endswith("dyn")
        torch.onnx.export(
            model, (torch.cat([x, x]) if dynamic else x,), str(partial), dynamo=True, opset_version=18,
            input_names=["x"], output_names=["logits"], external_data=False, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},) if dynamic else None,
        )  # fmt: skip
    partial.rename(path)


def own_maps(model: Any, x: Any) -> list[np.ndarray]:
    """timm's own last maps, each (K,h,w): of forward_features, one for each branch, and what enters its global pool."""
    entering: list[np.ndarray] = []

    def note(_: Any, inputs: Sequence[Any]) -> None:
        if inputs and inputs[0].ndim == 4 and inputs[0][0, 0].numel() > 1:
            entering.append(np.asarray(inputs[0][0]))

    hooks = [m.register_forward_pre_hook(note) for n, m in model.named_modules() if n.endswith("global_pool")]
    model(x)
    for hook in hooks:
        hook.remove()
    features = model.forward_features(x)
    maps = [as_map(model, f) for f in (features if isinstance(features, list | tuple) else [features])]
    good = [m for m in maps if m is not None and m[0].size > 1]
    last = last_intermediate(model, x)
    if good and last is not None and "hiera" in type(model).__name__.lower():
        good = []
    if not good and last is not None:
        good = [last]
    if not good:
        raise ValueError(f"timm has no last map of {type(model).__name__}: {[getattr(m, 'shape', m) for m in maps]}")
    return [*good, *entering[-1:]]


def last_intermediate(model: Any, x: Any) -> np.ndarray | None:
    try:
        result = model.forward_intermediates(x, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True)[-1]
    except (AttributeError, AssertionError, TypeError, NotImplementedError):
        return None
    return np.asarray(result[0]) if result.ndim == 4 else None


def as_map(model: Any, features: Any) -> np.ndarray | None:
    """(K,h,w) of one result of forward_features: NCHW, NHWC, or tokens row by row behind the prefix tokens."""
    width = model.num_features
    width = width if isinstance(width, int) else width[-1]
    array = np.asarray(features[0])
    if array.ndim == 3:
        nhwc = getattr(model, "output_fmt", "NCHW") == "NHWC" or (array.shape[0] != width and array.shape[-1] == width)
        return array.transpose(2, 0, 1) if nhwc else array
    if array.ndim != 2:
        return None
    prefix = getattr(model, "num_prefix_tokens", None)
    for skipped in [prefix] if prefix is not None else [0, 1, 2]:
        side = round((len(array) - skipped) ** 0.5)
        if side**2 == len(array) - skipped:
            return array[skipped:].T.reshape(array.shape[1], side, side)
    return None


# ---- our side


def check(name: str, variant: str, folder: Path) -> Row:
    """Compares the chosen tensor of one export with timm's maps."""
    target = folder / name
    family = (target / "family.txt").read_text() if (target / "family.txt").exists() else ""
    row = Row(name, family, variant, "")
    path = target / f"{variant}.onnx"
    if not path.exists():
        failed = target / f"{variant}.failed"
        row.verdict, row.text = "no export", failed.read_text() if failed.exists() else "did not end in time"
        return row
    start = time.perf_counter()
    try:
        expected = np.load(target / "expected.npz")
        model = unroll_loops(read_model(path).model)
        image = find_image(model, None)
        size = resolve_size(image, expected["x"].shape[2:])
        model, trace, _ = without_branches(model, image, size, {}, None)
        anatomy = locate(model, size=size, shapes=trace.shapes, fixed=trace.values)
        features = anatomy.features
        row.tensor, row.layout = features.tensor, features.layout
        notes = [n for n in anatomy.notes if n.code not in DOUBTS]
        row.notes = ", ".join(n.code for n in notes)
        maps = [expected[k] for k in expected.files if k != "x"]
        same = any(agree(chosen_map(model, features, image.name, expected["x"]), m) for m in maps)
        row.verdict = "same" if same else "doubted" if notes else "silent"
        row.text = "" if same else f"{features.reason}; {list(features.shape)}, timm's {[m.shape for m in maps]}"
    except OnnxCamError as error:
        row.verdict, row.text = "refused", str(error)[:300]
    row.seconds = round(time.perf_counter() - start, 2)
    return row


def chosen_map(model: ir.Model, features: FeatureTensor, image: str, x: np.ndarray) -> np.ndarray:
    """(K,h,w): the feature tensor on the image x, by onnxruntime."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    exposed = ir.to_bytes(expose_features(model, features.tensor, features.shape, image))
    session = ort.InferenceSession(exposed, options, providers=["CPUExecutionProvider"])
    output = (
        session.get_outputs()[-1].name
        if features.tensor not in {o.name for o in session.get_outputs()}
        else features.tensor
    )
    return features.to_channels(session.run([output], {image: x})[0])[0]


def agree(chosen: np.ndarray, expected: np.ndarray) -> bool:
    return chosen.shape == expected.shape and bool(
        np.abs(chosen - expected).max() <= CLOSE * max(float(np.abs(expected).max()), 1e-12)
    )


# ---- the walk


def done(results: Path) -> dict[tuple[str, str], Row]:
    """The rows that an earlier run wrote; the last one of each export counts."""
    lines = results.read_text().splitlines() if results.exists() else []
    rows = [Row(**json.loads(line)) for line in lines]
    return {(r.model, r.variant): r for r in rows}


def walk(folder: Path, only: str, seconds: float, *, recheck: bool) -> Iterator[Row]:
    """Exports and compares each architecture in a process of its own, which ends after so many seconds."""
    rows = {} if recheck else done(folder / "results.jsonl")
    for name in (n for n in ARCHITECTURES if only in n):
        missing = [v for v in VARIANTS if (name, v) not in rows]
        exported = (folder / name / "expected.npz").exists()
        if missing and not recheck and not all((folder / name / f"{v}.onnx").exists() for v in missing):
            _, problem = apart(["export", name, str(folder)], seconds)
            if problem:
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / "problem.txt").write_text(problem)
        if recheck and not exported:
            continue
        for variant in missing:
            output, problem = apart(["check", name, variant, str(folder)], 120)
            yield Row(**json.loads(output)) if not problem else Row(name, "", variant, "crash", text=problem)


def apart(arguments: Sequence[str], seconds: float) -> tuple[str, str]:
    """(standard output's last line, what went wrong) of this program with these arguments in another process."""
    try:
        ended = subprocess.run(
            [sys.executable, __file__, "--apart", *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"did not end in {seconds} s"
    last = (ended.stdout.strip().splitlines() or [""])[-1]
    return last, "" if ended.returncode == 0 else (ended.stderr.strip().splitlines() or ["?"])[-1][:300]


def summary(rows: Sequence[Row]) -> list[str]:
    """The sums, and a table with a line for each architecture."""
    exported = [r for r in rows if r.verdict != "no export"]
    count = {v: sum(r.verdict == v for r in exported) for v in ("same", "doubted", "refused", "silent", "crash")}
    models, families = {r.model for r in exported}, {r.family for r in exported}
    lines = [
        f"- {len(models)} architectures of {len(families)} families, {len(exported)} exports",
        f"- timm's own last map: {count['same']} ({count['same'] / max(len(exported), 1):.1%})",
        f"- another, with a note: {count['doubted']}; refused: {count['refused']}; another, without a note: "
        f"{count['silent']}; crashes: {count['crash']}",
        "",
        "| architecture | TorchScript, batch 1 | dynamic | dynamo, batch 1 | dynamic | layout |",
        "|---|---|---|---|---|---|",
    ]
    for name in (n for n in ARCHITECTURES if n in models):
        cells_of = {r.variant: r for r in rows if r.model == name}
        cells = [
            cells_of[v].verdict + (f" ({cells_of[v].notes})" if cells_of[v].verdict == "doubted" else "")
            if v in cells_of
            else ""
            for v in VARIANTS
        ]
        layouts = ", ".join(dict.fromkeys(r.layout for r in cells_of.values() if r.layout))
        lines.append(f"| {name} | {' | '.join(cells)} | {layouts} |")
    return lines


def main(
    folder: Path,
    only: Annotated[str, typer.Option(help="Only architectures whose name contains this.")] = "",
    recheck: Annotated[bool, typer.Option(help="Compare existing exports again; export nothing.")] = False,
    seconds: Annotated[float, typer.Option(help="For the exports of one architecture.")] = 600,
    markdown: Annotated[Path | None, typer.Option(help="Write the sums and the table here.")] = None,
) -> None:
    """Export, compare, and print a line for each export that does not give timm's own map."""
    results = folder / "results.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    for row in walk(folder, only, seconds, recheck=recheck):
        with results.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        if row.verdict != "same":
            typer.echo(f"{row.model} {row.variant}: {row.verdict} {row.tensor} {row.notes} {row.text}")
    lines = summary(list(done(results).values()))
    typer.echo("\n".join(lines[:3]))
    if markdown is not None:
        markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--apart"]:
        if sys.argv[2] == "export":
            export_all(sys.argv[3], Path(sys.argv[4]))
        else:
            print(json.dumps(asdict(check(sys.argv[3], sys.argv[4], Path(sys.argv[5])))))
    else:
        typer.run(main)
