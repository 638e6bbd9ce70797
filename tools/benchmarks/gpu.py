"""Benchmark of onnxcam on a GPU: its speed against bare inference and pytorch-grad-cam, its maps against the CPU's.

    pip install ".[gpu]" torch          # and grad-cam, to measure its own code
    python tools/benchmarks/gpu.py --json cuda.json
    python tools/benchmarks/gpu.py --provider cpu --channels 64 --repeats 1      # a dry run without a GPU

The network has ResNet-50's shapes and random weights, so nothing is downloaded. Every time is a median over interleaved
rounds. `--channels` makes the network narrower, for a dry run. Rows that the provider cannot have say "not measured".
Exits with 1 if the provider does not start, or if less than 90 % of the operators run on it.
"""

import argparse
import json
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools" / "benchmarks")]  # onnxcam need not be installed

import numpy as np  # noqa: E402
import table  # noqa: E402
import torch  # noqa: E402
from interleaving import interleaved, stand_in_for_torchvision  # noqa: E402
from table import Row  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import interpolate  # noqa: E402
from torch_models import CLASSES, SIZE, Bottleneck, conv_norm, exported, initialised  # noqa: E402

from onnxcam import Explainer, score_cam  # noqa: E402
from onnxcam.engine.batching import in_chunks  # noqa: E402
from onnxcam.engine.devices import Device, device_of  # noqa: E402
from onnxcam.engine.io_binding import BoundSession, ScoreRequest  # noqa: E402
from onnxcam.engine.options import EngineOptions  # noqa: E402
from onnxcam.engine.providers import PROVIDERS  # noqa: E402
from onnxcam.engine.session import Session  # noqa: E402
from onnxcam.errors import OnnxCamError, OptionError, ProviderError  # noqa: E402
from onnxcam.inputs.bundled import model as embedded_model  # noqa: E402
from onnxcam.inputs.bundled import pictures  # noqa: E402
from onnxcam.surgeon import ir  # noqa: E402
from onnxcam.surgeon.analysis.locate import locate  # noqa: E402
from onnxcam.surgeon.graphs import masked_score  # noqa: E402
from onnxcam.surgeon.passes.mixed_precision import convert_to_mixed_precision  # noqa: E402

PEER_BATCH = 16
"""pytorch-grad-cam's default."""
VARIANTS = {
    "fp32": EngineOptions(),
    "fp32, CUDA graph": EngineOptions(cuda_graph=True),
    "TF32": EngineOptions(tf32=True),
    "fp16": EngineOptions(half=True),
    "fp16, CUDA graph": EngineOptions(half=True, cuda_graph=True),
}
PEARSON = {"fp32": 0.9999, "fp32, CUDA graph": 0.9999, "fp16": 0.999, "fp16, CUDA graph": 0.999}


@dataclass(frozen=True)
class Bench:
    """What all parts measure: a network in both forms, one preprocessed image (3,SIZE,SIZE), the rounds."""

    network: nn.Module
    onnx: bytes
    image: np.ndarray
    provider: str
    channels: int
    repeats: int
    batch: int | None

    @property
    def torch_device(self) -> str:
        return "cpu" if self.provider == "cpu" else "cuda"

    def explainer(self, engine: EngineOptions | None, provider: str | None = None) -> Explainer:
        return Explainer(
            self.onnx, score_cam(), providers=[provider or self.provider], preset="imagenet", engine=engine,
            batch=None if provider else self.batch,
        )  # fmt: skip


def resnet(channels: int) -> nn.Module:
    """ResNet-50's layers, its last feature tensor `channels` wide; ResNet-50 itself at 2048."""
    width = channels // 32
    layers: list[nn.Module] = [*conv_norm(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    wide = width
    for stage, count in enumerate((3, 4, 6, 3)):
        for i in range(count):
            layers.append(Bottleneck(wide, width << stage, 2 if i == 0 and stage else 1))
            wide = 4 * (width << stage)
    return initialised(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, CLASSES)))


def row(what: str, value: float | None, reach: str, note: str) -> Row:
    """A row of one value, or of none."""
    return table.row(what, [] if value is None else [value], reach, note)


def is_supported(engine: EngineOptions, provider: str) -> bool:
    """Whether the provider takes these options."""
    try:
        engine.check(provider)
    except OptionError:
        return False
    return True


def placement(bench: Bench) -> list[Row]:
    """The share of the operators that the provider itself computes, by onnxruntime's profile of one run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.log_severity_level = True, 4
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        full = PROVIDERS[bench.provider]
        session = onnxruntime.InferenceSession(bench.onnx, options, providers=[full])
        if full not in session.get_providers():
            raise ProviderError(f"the session runs on {session.get_providers()}, not on {full}")
        session.run(None, {session.get_inputs()[0].name: bench.image[None]})
        events = json.loads(Path(session.end_profiling()).read_text())
    providers = [e["args"]["provider"] for e in events if e.get("cat") == "Node" and "provider" in e.get("args", {})]
    share = providers.count(full) / max(1, len(providers))
    if share < 0.9:
        raise ProviderError(f"only {share:.0%} of the operators ran on {full}; the rest would be measured instead")
    return [row(f"operators on {bench.provider}", share, ">= 0.9", f"{len(providers)} in one run")]


def bare(bench: Bench, engine: EngineOptions, count: int, batch: int) -> Callable[[], object]:
    """The floor: `count` images in batches through the plain model, with input and output on the device."""
    model = ir.from_proto(_proto(bench.onnx))
    session = Session(
        ir.to_bytes(convert_to_mixed_precision(model) if engine.half else model),
        [bench.provider],
        engine=engine.without_cuda_graph,
    )
    device = session.device or Device("cpu")
    import onnxruntime

    images = np.repeat(bench.image[None], batch, axis=0)
    sizes = [min(batch, count - done) for done in range(0, count, batch)]
    make = onnxruntime.OrtValue.ortvalue_from_numpy
    on_device = {size: make(np.ascontiguousarray(images[:size]), device.kind, device.index) for size in set(sizes)}

    def run() -> None:
        for size in sizes:
            binding = session.binding()
            binding.bind_ortvalue_input(session.inputs[0], on_device[size])
            binding.bind_output(session.outputs[0], device.kind, device.index)
            session.run_bound(binding)

    return run


def against_bare(bench: Bench) -> list[Row]:
    """Score-CAM's throughput as a share of bare inference."""
    rows: list[Row] = []
    for name, engine in VARIANTS.items():
        what = f"{name}: whole Score-CAM, scored pictures a second / bare inference"
        if not is_supported(engine, bench.provider):
            rows.append(row(what, None, ">= 0.95", f"not on {bench.provider}"))
            continue
        with bench.explainer(engine) as explain:
            first = explain(bench.image)
            count, batch = first.provenance.forwards, first.provenance.batch
            cases = {"ours": lambda e=explain: e(bench.image), "bare": bare(bench, engine, count, batch)}
            times = interleaved(cases, bench.repeats)
        ours, floor = count / times["ours"], count / times["bare"]
        rows.append(row(what, ours / floor, ">= 0.95", f"{ours:.0f} against {floor:.0f} a second, batch {batch}"))
    return rows


def device_or_host(bench: Bench) -> list[Row]:
    """The scoring graph alone: its tensors passed as arrays, against the same tensors bound on the device."""
    model = ir.from_proto(_proto(bench.onnx))
    anatomy = locate(model, size=(SIZE, SIZE))
    session = Session(ir.to_bytes(masked_score.scoring_model(model, anatomy, (SIZE, SIZE), with_fill=False)),
                      [bench.provider])  # fmt: skip
    grid, batch = anatomy.features.grid, bench.batch or 64
    masks = np.random.default_rng(0).random((bench.channels, 1, *grid), np.float32)
    feeds = {masked_score.IMAGE: bench.image[None], masked_score.TARGETS: np.zeros(1, np.int64)}
    bound = BoundSession(session, session.device or Device("cpu"))
    masks_and_output = ScoreRequest(masked_score.MAPS, masks, masked_score.PROBABILITY, 1)

    def host() -> np.ndarray:
        return in_chunks(
            lambda m: session.run([masked_score.PROBABILITY], {**feeds, masked_score.MAPS: m})[0], masks, batch
        )

    difference = float(np.abs(host() - bound.score(feeds, masks_and_output, batch)[0]).max())
    device = partial(bound.score, feeds, masks_and_output, batch)
    times = interleaved({"host": host, "device": device}, bench.repeats)
    return [
        row(
            "host path / device path, seconds",
            times["host"] / times["device"],
            "",
            f"largest difference {difference:.2g}",
        )
    ]


def plain_loop(network: nn.Module, image: Tensor, target: int) -> Callable[[], object]:
    """pytorch-grad-cam's ScoreCAM written plainly: enlarge, stretch, multiply, batches of 16, on the device."""

    def run() -> np.ndarray:
        with torch.no_grad():
            features = network[:-3](image)
            up = interpolate(features[0][:, None], (SIZE, SIZE), mode="bilinear", align_corners=True)
            low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
            masks = (up - low) / (high - low + 1e-8)
            scores = [network(image * part)[:, target] for part in masks.split(PEER_BATCH)]
            weights = torch.softmax(torch.cat(scores).float(), 0)
            saliency = torch.relu(torch.tensordot(weights, features[0].float(), 1))
            return saliency.cpu().numpy()

    return run


def grad_cam(network: nn.Module, image: Tensor, target: int) -> tuple[str, Callable[[], object]]:
    """Which code it is, and Score-CAM by pytorch-grad-cam, or by `plain_loop` if that is not installed."""
    try:
        stand_in_for_torchvision()
        from pytorch_grad_cam import ScoreCAM, score_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        return f"its loop in plain PyTorch (not installed: {error})", plain_loop(network, image, target)
    score_cam.tqdm = types.SimpleNamespace(tqdm=lambda steps: steps)
    cam = ScoreCAM(model=network, target_layers=[network[-4]])
    return "its own code", lambda: cam(input_tensor=image, targets=[ClassifierOutputTarget(target)])


def against_peer(bench: Bench) -> list[Row]:
    """Seconds of pytorch-grad-cam over seconds of onnxcam."""
    rows: list[Row] = []
    network = bench.network.to(bench.torch_device)
    image = torch.from_numpy(bench.image)[None].to(bench.torch_device)
    for name, reach in (("fp32", ">= 5"), ("TF32", ""), ("fp16", ">= 10")):
        engine = VARIANTS[name]
        if not is_supported(engine, bench.provider):
            rows.append(row(f"{name}: pytorch-grad-cam / onnxcam, seconds", None, reach, f"not on {bench.provider}"))
            continue
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = engine.tf32
        with bench.explainer(engine) as explain:
            target = explain(bench.image).target.index
            code, peer = grad_cam(network, image, target)
            cases = {"ours": lambda e=explain, t=target: e(bench.image, t), "peer": peer}
            if engine.half:
                cases["half"] = plain_loop(_halved(bench.network), image.half(), target)
            times = interleaved(cases, bench.repeats)
        precision = "TF32" if engine.tf32 else "fp32"
        note = f"{code}, {precision}: {times['peer']:.2f} s against {times['ours']:.2f} s"
        rows.append(row(f"{name}: pytorch-grad-cam / onnxcam, seconds", times["peer"] / times["ours"], reach, note))
        if "half" in times:
            note = f"its loop in fp16: {times['half']:.2f} s against {times['ours']:.2f} s"
            rows.append(row(f"{name}: the loop in fp16 / onnxcam, seconds", times["half"] / times["ours"], "", note))
    return rows


def _halved(network: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(network).half()


def agreement(bench: Bench) -> list[Row]:
    """Correlation of the provider's maps with the CPU's, for the measured network and for the embedded one."""
    rows: list[Row] = []
    with bench.explainer(None, "cpu") as explain:
        first = explain(bench.image)
    references = {"ResNet shapes": (bench.onnx, bench.image, first)}
    if bench.provider != "cpu":
        with Explainer(embedded_model(), score_cam(), providers=["cpu"]) as explain:
            for name, path in pictures().items():
                references[name] = embedded_model(), path, explain(path)
    for name, engine in VARIANTS.items():
        what, reach = f"{name}: Pearson with the CPU's map, worst", PEARSON.get(name)
        if not is_supported(engine, bench.provider):
            rows.append(row(what, None, f">= {reach}" if reach else "", f"not on {bench.provider}"))
            continue
        correlations = []
        for model, picture, expected in references.values():
            preset = "imagenet" if model is bench.onnx else None
            with Explainer(model, score_cam(), providers=[bench.provider], preset=preset, engine=engine) as explain:
                map_ = explain(picture, expected.target.index).map
            correlations.append(float(np.corrcoef(map_.ravel(), expected.map.ravel())[0, 1]))
        rows.append(row(what, min(correlations), f">= {reach}" if reach else "", ", ".join(references)))
    return rows


def through_dlpack(bench: Bench) -> list[Row]:
    """The largest difference of a map that goes in and out by DLPack from the map that goes through the host."""
    if device_of(bench.provider) is None:
        return []
    with bench.explainer(None) as explain:
        tensor = torch.from_numpy(bench.image).to(bench.torch_device)
        (on_device,) = explain.explain_on_device(tensor)
        shared = torch.from_dlpack(on_device.map)
        difference = float(np.abs(shared.cpu().numpy() - explain(bench.image).map).max())
    return [
        row("DLPack in and out: largest difference of a map", difference, "<= 1e-5", f"the map lies on {shared.device}")
    ]


def _proto(data: bytes) -> Any:
    import onnx

    return onnx.load_from_string(data)


def measure(arguments: argparse.Namespace, rows: list[Row]) -> None:
    """Adds to the rows, and writes them after each part. Raises OnnxCamError if the provider cannot be measured."""
    channels, repeats = arguments.channels, arguments.repeats
    network = resnet(channels)
    image = np.random.default_rng(0).standard_normal((3, SIZE, SIZE)).astype(np.float32)
    bench = Bench(
        network, exported(network).SerializeToString(), image, arguments.provider, channels, repeats,
        arguments.batch,
    )  # fmt: skip
    Session(bench.onnx, [bench.provider]).close()
    for part in (placement, agreement, against_bare, device_or_host, against_peer, through_dlpack):
        print(f"measuring: {part.__name__}", file=sys.stderr)
        rows += part(bench)
        table.save(rows, arguments.json)


def markdown(rows: list[Row]) -> str:
    """The rows as a Markdown table, for docs/benchmarks.md."""
    lines = ["| what | measured | reach | note |", "|---|---|---|---|"]
    for r in rows:
        value = "not measured" if r["value"] is None else f"{r['value']:.5g}"
        lines.append(f"| {r['what']} | {value} | {r['reach']} | {r['note']} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--provider", choices=["cuda", "tensorrt", "cpu"], default="cuda")
    parser.add_argument(
        "--channels", type=int, default=2048, help="channels of the last feature tensor, a multiple of 32"
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count")
    parser.add_argument("--batch", type=int, help="masks a forward pass; default: onnxcam chooses")
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    rows: list[Row] = []
    try:
        measure(arguments, rows)
    except OnnxCamError as error:
        print(f"{'the rest' if rows else 'nothing'} was {'not ' if rows else ''}measured: {error}", file=sys.stderr)
        return 1
    finally:
        if rows:
            print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
