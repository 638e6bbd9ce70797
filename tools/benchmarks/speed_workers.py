"""The tools that speed.py compares. One call of this program measures one tool once, in a process of its own.

    python tools/benchmarks/speed_workers.py FOLDER NETWORK TOOL COUNT

Prints one line of JSON: seconds, count (the channels or forward passes they were for) and megabytes (peak memory).
FOLDER/NETWORK holds the exported network and the preprocessed picture, which speed.py makes before.
"""

import json
import sys
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from interleaving import peak, stand_in_for_torchvision

LARGE = ("resnet50", "vgg16")
"""Networks with random weights. The third network is EfficientNet-Lite0."""


class Case:
    """One network and one picture on disk.

    Files: model.onnx, two.onnx (which returns the features too), image.npy (C,H,W), about.json.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder / name, name

    def make(self, picture: str = "chelsea") -> None:
        """Writes the files. onnxcam chooses the layer and the target, so that all tools explain the same.

        picture: a bundled one.
        """
        import onnx

        from onnxcam import Explainer
        from onnxcam.inputs.bundled import model, pictures
        from onnxcam.surgeon.ir import from_proto, to_bytes
        from onnxcam.surgeon.passes.expose_features import expose_features

        self.folder.mkdir(parents=True, exist_ok=True)
        if self.name in LARGE:
            import torch_models

            onnx.save(torch_models.exported(self.network()[0]), self.path)
        else:
            self.path.write_bytes(model().read_bytes())
        preset = None if self.name not in LARGE else "imagenet"
        with Explainer(self.path, providers=["cpu"], preset=preset) as explainer:
            forward_pass = explainer._forward(pictures()[picture])
            np.save(self.folder / "image.npy", forward_pass.model_input.image)
            (answer,) = forward_pass.results.values()
            features = explainer.anatomy.features
            about = {
                "target": int(answer.values.argmax()),
                "features": features.tensor,
                "channels": len(answer.features),
                "input": explainer.anatomy.image.name,
                "logits": explainer.anatomy.logits.output,
            }
        exposed = expose_features(from_proto(onnx.load(self.path)), features.tensor, features.shape)
        (self.folder / "two.onnx").write_bytes(to_bytes(exposed))
        (self.folder / "about.json").write_text(json.dumps(about))

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def about(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "about.json").read_text()))

    @property
    def image(self) -> np.ndarray:
        return np.asarray(np.load(self.folder / "image.npy"))

    def network(self) -> tuple[Any, Any]:
        """The torch module, and its layer whose output is the feature maps."""
        import torch_models
        from torch import nn

        if self.name not in LARGE:
            lite = torch_models.Lite0()
            return lite, lite.feature_layer
        network = getattr(torch_models, self.name)()
        pooled = nn.AdaptiveAvgPool2d if self.name == "resnet50" else nn.Flatten
        return network, network[next(i for i, m in enumerate(network) if isinstance(m, pooled)) - 1]


Measured = tuple[float, int]
"""Seconds, and the channels or forward passes that they were for."""


def onnxcam(case: Case, count: int) -> Measured:
    """Exact Score-CAM."""
    return _onnxcam(case, None)


def fast(case: Case, count: int) -> Measured:
    """Score-CAM with the tolerance of `--fast`."""
    from onnxcam.methods.score_cam import FAST

    return _onnxcam(case, FAST)


def _onnxcam(case: Case, tolerance: float | None) -> Measured:
    from onnxcam import Explainer, score_cam

    with Explainer(case.path, score_cam(tolerance=tolerance), providers=["cpu"], preset="imagenet") as explainer:
        explainer._forward(case.image)
        start = time.perf_counter()
        saliency = explainer(case.image, case.about["target"])
        return time.perf_counter() - start, saliency.provenance.channels.scored


def floor(case: Case, count: int) -> Measured:
    """`count` forward passes of the unchanged model: the fastest of one run on all cores and one run on every core."""
    from onnxcam.engine.session import Session, available_threads

    about, cores = case.about, available_threads()
    fastest = float("inf")
    for threads, runs, batch in ((cores, 1, 4 * cores), (cores, 1, 2 * cores), (1, cores, 2)):
        session = Session(case.path.read_bytes(), ["cpu"], threads)
        feeds = {about["input"]: np.repeat(case.image[None], batch, axis=0)}

        def forward(_: int, session: Session = session, feeds: dict[str, np.ndarray] = feeds) -> object:
            return session.run([about["logits"]], feeds)

        with ThreadPoolExecutor(runs) as pool:
            list(pool.map(forward, range(runs)))
            passes = max(count // batch, runs)
            start = time.perf_counter()
            list(pool.map(forward, range(passes)))
            fastest = min(fastest, (time.perf_counter() - start) / (passes * batch) * count)
    return fastest, count


def plain(case: Case, count: int) -> Measured:
    """A plain loop: a session at its defaults, masks by cv2 and NumPy, batches of 16."""
    import cv2
    import onnxruntime

    about, image = case.about, case.image
    session = onnxruntime.InferenceSession(case.folder / "two.onnx", providers=["CPUExecutionProvider"])
    session.run(None, {about["input"]: image[None]})
    start = time.perf_counter()
    maps = session.run([about["features"]], {about["input"]: image[None]})[0][0][:count]
    live = [m for m in maps if m.max() > m.min()]
    scores: list[float] = []
    for done in range(0, len(live), 16):
        masks = [cv2.resize(m, image.shape[:0:-1]) for m in live[done : done + 16]]
        masked = np.stack([image * ((m - m.min()) / (m.max() - m.min())) for m in masks])
        logits = session.run([about["logits"]], {about["input"]: masked})[0]
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores += list((e / e.sum(axis=1, keepdims=True))[:, about["target"]])
    np.maximum(cv2.resize(np.tensordot(scores, live, 1).astype(np.float32), image.shape[:0:-1]), 0)
    return time.perf_counter() - start, len(maps)


def pytorch_grad_cam(case: Case, count: int) -> Measured:
    """pytorch-grad-cam's ScoreCAM on the first `count` channels."""
    import torch

    stand_in_for_torchvision()
    import pytorch_grad_cam.score_cam as module
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module.tqdm = types.SimpleNamespace(tqdm=lambda steps: steps)

    class FirstChannels(module.ScoreCAM):  # type: ignore[misc, name-defined]
        def get_cam_weights(self, x: Any, layer: Any, targets: Any, activations: Any, grads: Any) -> Any:
            weights = super().get_cam_weights(x, layer, targets, activations[:, :count], grads)
            return np.pad(weights, ((0, 0), (0, activations.shape[1] - weights.shape[1])))

    network, layer = case.network()
    cam = FirstChannels(model=network, target_layers=[layer])
    image = torch.from_numpy(case.image)[None]
    with torch.no_grad():
        network(image)
    start = time.perf_counter()
    cam(input_tensor=image, targets=[ClassifierOutputTarget(case.about["target"])])
    return time.perf_counter() - start, min(count, case.about["channels"])


def torchcam(case: Case, count: int) -> Measured:
    """TorchCAM's ScoreCAM on the first `count` channels."""
    import torch

    stand_in_for_torchvision()
    from torchcam.methods import ScoreCAM

    class FirstChannels(ScoreCAM):  # type: ignore[misc]
        def _get_weights(self, *arguments: Any, **named: Any) -> Any:
            self.hook_a = [a[:, :count] for a in self.hook_a]
            return super()._get_weights(*arguments, **named)

    network, layer = case.network()
    cam = FirstChannels(network, target_layer=layer)
    image = torch.from_numpy(case.image)[None]
    with torch.no_grad():
        network(image)
        start = time.perf_counter()
        cam(case.about["target"], network(image))
    return time.perf_counter() - start, min(count, case.about["channels"])


TOOLS: dict[str, Callable[[Case, int], Measured]] = {
    "onnxcam": onnxcam,
    "fast": fast,
    "floor": floor,
    "plain": plain,
    "pytorch-grad-cam": pytorch_grad_cam,
    "torchcam": torchcam,
}


def main() -> None:
    folder, network, tool, count = sys.argv[1:]
    seconds, done = TOOLS[tool](Case(Path(folder), network), int(count))
    print(json.dumps({"seconds": seconds, "count": done, "megabytes": peak()}))


if __name__ == "__main__":
    main()
