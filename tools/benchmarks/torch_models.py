"""The benchmarks' PyTorch side: networks of well-known shapes, the masked score, and Opti-CAM by autograd.

speed_workers.py, gpu.py and gradients.py use it. ResNet-50 and VGG-16 have random weights from a fixed seed, because
only their speed counts. Their batch normalisations use the statistics of one batch of noise, so that numbers keep an
ordinary size up to the last layer. EfficientNet-Lite0 has its ImageNet weights, from tools/build_models.py.
"""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

sys.path.append(str(Path(__file__).resolve().parents[1]))
import build_models  # in the folder above

SIZE = 224
CLASSES = 1000


def conv_norm(c_in: int, c_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(c_out)]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside a shortcut (He et al. 2016; the stride is the 3x3's, as in torchvision)."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_norm(c_in, width, 1), nn.ReLU(), *conv_norm(width, width, 3, stride), nn.ReLU(),
            *conv_norm(width, 4 * width, 1),
        )  # fmt: skip
        same = stride == 1 and c_in == 4 * width
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_norm(c_in, 4 * width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    layers: list[nn.Module] = [*conv_norm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for i in range(count):
            layers.append(Bottleneck(channels, width, 2 if i == 0 and width > 64 else 1))
            channels = 4 * width
    return initialised(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)))


def vgg16() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(channels * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
    return initialised(nn.Sequential(*layers, *head, nn.Linear(4096, CLASSES)))


def initialised(network: nn.Module) -> nn.Module:
    """The network with He's initialisation and statistics of one batch of noise, frozen."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, SIZE, SIZE))
    return frozen(network)


def frozen(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, without gradients of its weights."""
    return network.eval().requires_grad_(False)


class Lite0(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights. feature_layer gives the feature tensor that onnxcam chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.network = build_models.module()
        self.feature_layer = UnchangedConv(1, 1, 1)
        frozen(self)

    def features(self, x: Tensor) -> Tensor:
        return self.network.extract_features(x)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.network._avg_pooling(self.feature_layer(self.features(x)))
        return self.network._fc(pooled.flatten(1))


class UnchangedConv(nn.Conv2d):
    """Returns its input. It is a Conv2d because muppet-xai hooks the last Conv2d of a network."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def exported(network: nn.Module) -> onnx.ModelProto:
    """The network as ONNX with an open batch. The TorchScript exporter folds normalisations into convolutions."""
    file = io.BytesIO()
    torch.onnx.export(
        network, (torch.zeros(1, 3, SIZE, SIZE),), file, input_names=["images"], output_names=["logits"],
        dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}}, opset_version=17, dynamo=False,
    )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def mask_of(maps: Tensor) -> Tensor:
    """n(up(maps)): (N,1,h,w) to (N,1,H,W) in [0,1]."""
    up = interpolate(maps, (SIZE, SIZE), mode="bilinear", align_corners=False)
    low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
    return (up - low) / (high - low)


def masked_score(network: nn.Module, image: Tensor, maps: Tensor, target: int, *, probability: bool = False) -> Tensor:
    """(N,) scores of the image (1,C,H,W) seen through each of the maps (N,1,h,w)."""
    logits = network(image * mask_of(maps))
    return (torch.softmax(logits, 1) if probability else logits)[:, target]


def score_gradient(network: nn.Module, image: Tensor, target: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function of maps (N,1,h,w): their scores (N,), and the gradient of the scores by the maps."""

    def run(maps: Tensor) -> tuple[Tensor, Tensor]:
        maps = maps.detach().requires_grad_()
        score = masked_score(network, image, maps, target)
        (gradient,) = torch.autograd.grad(score.sum(), maps)
        return score, gradient

    return run


@dataclass(frozen=True)
class Step:
    """One step of a search: the coefficients u (K,) before it, the mask (h,w) they make, and the mask's score."""

    u: npt.NDArray[np.float64]
    mask: npt.NDArray[np.float64]
    score: float


def opti_cam(
    network: nn.Module, image: Tensor, features: Tensor, target: int, *,
    steps: int, rate: float, epsilon: float = 1e-8, probability: bool = False,
) -> Iterator[Step]:  # fmt: skip
    """The steps of Opti-CAM as its authors write it (arXiv:2301.07002): u from zeros, a softmax, Adam.

    image (1,C,H,W), features (K,h,w); their precision is the search's. steps + 1 masks are scored.
    """
    u = torch.zeros(len(features), dtype=features.dtype, requires_grad=True)
    adam = torch.optim.Adam([u], lr=rate, eps=epsilon)
    for i in range(steps + 1):
        mask = torch.tensordot(torch.softmax(u, 0), features, 1)
        score = masked_score(network, image, mask[None, None], target, probability=probability)
        yield Step(u.detach().double().numpy().copy(), mask.detach().double().numpy(), float(score.detach()))
        if i < steps:
            adam.zero_grad()
            (-score.sum()).backward()
            adam.step()


def coefficient_gradient(network: nn.Module, image: Tensor, features: Tensor, target: int) -> Tensor:
    """(K,) d logit / d u at the start of the search."""
    u = torch.zeros(len(features), dtype=features.dtype, requires_grad=True)
    mask = torch.tensordot(torch.softmax(u, 0), features, 1)
    score = masked_score(network, image, mask[None, None], target)
    return torch.autograd.grad(score.sum(), u)[0]
