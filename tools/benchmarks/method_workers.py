"""One method of one tool on one picture, in a process of its own. methods.py starts it.

    python tools/benchmarks/method_workers.py FOLDER TOOL METHOD MAP

Writes the map (H,W) as MAP, a .npy file, and prints one line of JSON: seconds of the first map, of each later one, and
processor seconds of each later one (of the first, if it took so long that there is no other). FOLDER is the one that
speed.py exports networks to. Every tool gets the same preprocessed picture, weights, layer and class, and one thread:
threads of PyTorch that wait for each other count as work otherwise, the more the busier the machine is.
"""

import json
import sys
import time
import types
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from interleaving import stand_in_for_torchvision
from speed_workers import Case

Map = npt.NDArray[np.float32]
Draw = Callable[[], Map]
"""Makes the map: of the image's sides, or of the feature grid."""
NETWORK = "efficientnet-lite0"
SECONDS, MOST = 3.0, 9
"""A map is made again for so many seconds or so often, whichever ends first, but once at least."""
ONCE = 5.0
"""Processor seconds of a first map that is not made again: nothing that is made once weighs much in it."""


def onnxcam(case: Case, name: str, stack: ExitStack) -> Draw:
    from onnxcam import Explainer, method
    from onnxcam.methods.score_cam import FAST

    made = method("score-cam", tolerance=FAST) if name == "score-cam --fast" else method(name)
    explainer = stack.enter_context(Explainer(case.path, made, providers=["cpu"], preset="imagenet", threads=1))
    image, target = case.image, case.about["target"]
    return lambda: explainer(image, target).map


def pytorch_grad_cam(case: Case, name: str, stack: ExitStack) -> Draw:
    import torch

    stand_in_for_torchvision()
    import pytorch_grad_cam
    from pytorch_grad_cam import ablation_cam, score_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    for module in (ablation_cam, score_cam):
        module.tqdm = types.SimpleNamespace(tqdm=lambda steps: steps)
    network, layer = case.network()
    network.requires_grad_(True)  # its hooks see the gradient of tensors that weights lead to
    cam = getattr(pytorch_grad_cam, name)(model=network, target_layers=[layer])
    image, targets = torch.from_numpy(case.image)[None], [ClassifierOutputTarget(case.about["target"])]
    return lambda: cam(input_tensor=image, targets=targets)[0]


def torchcam(case: Case, name: str, stack: ExitStack) -> Draw:
    import torch

    stand_in_for_torchvision()
    import torchcam.methods

    network, layer = case.network()
    network.requires_grad_(True)
    head = {"fc_layer": network.network._fc} if name == "CAM" else {}
    cam = getattr(torchcam.methods, name)(network, target_layer=layer, **head)
    image, target = torch.from_numpy(case.image)[None], case.about["target"]

    def draw() -> Map:
        (drawn,) = cam(target, network(image))
        return np.asarray(drawn.detach().reshape(drawn.shape[-2:]).numpy())

    return draw


TOOLS: dict[str, Callable[[Case, str, ExitStack], Draw]] = {
    "onnxcam": onnxcam, "pytorch-grad-cam": pytorch_grad_cam, "TorchCAM": torchcam,
}  # fmt: skip


def timed(draw: Draw) -> tuple[Map, dict[str, Any]]:
    """The map, and what it took: seconds of the first, and lists of one number for each later one."""
    seconds: list[float] = []
    processor: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= MOST and sum(seconds[1:]) < SECONDS):
        before = time.perf_counter(), time.process_time()
        drawn = draw()
        seconds.append(time.perf_counter() - before[0])
        processor.append(time.process_time() - before[1])
        if processor[0] > ONCE:
            break
    return drawn, {"first": seconds[0], "seconds": seconds[1:] or seconds, "processor": processor[1:] or processor}


def main() -> None:
    folder, tool, name, file = sys.argv[1:]
    case = Case(Path(folder), NETWORK)
    with ExitStack() as stack:
        drawn, times = timed(TOOLS[tool](case, name, stack))
    np.save(file, np.asarray(drawn, np.float32))
    print(json.dumps(times))


if __name__ == "__main__":
    main()
