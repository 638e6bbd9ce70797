"""Two pictures, frames, and a picture without batch axis, as PyTorch exports them: Grad-CAM against its autograd."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from onnxcam import Explainer

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.torch
TARGET, SIDES = 2, (64, 48)
Map = np.ndarray


@pytest.fixture(scope="module")
def networks() -> dict[str, "torch.nn.Module"]:
    """Networks with random weights; `trunk` of each makes the features."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.SiLU(), nn.Conv2d(12, 16, 3, 4, 1), nn.ReLU()
            )
            self.head = nn.Linear(16, 6)

        def pooled(self, x: "torch.Tensor") -> "torch.Tensor":
            return self.trunk(x).mean((2, 3))

    class Siamese(Network):
        def forward(self, a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
            return self.head((self.pooled(a) - self.pooled(b)).square())

    class Joined(Network):
        def forward(self, a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
            one, other = self.pooled(torch.cat([a, b])).chunk(2)
            return self.head((one - other).square())

    class Clips(Network):
        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            pooled = self.pooled(x.flatten(0, 1)).view(x.shape[0], x.shape[1], 16)
            return self.head((pooled * torch.arange(1, 6)[None, :, None]).square().mean(1))

    class Time(Network):
        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            return self.head((self.pooled(x) * torch.arange(1, 6)[:, None]).square().mean(0))

    class Alone(Network):
        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            return self.head(self.pooled(x.permute(2, 0, 1)[None]).square())[0]

    torch.manual_seed(0)
    torch.set_num_threads(1)
    kinds = {"siamese": Siamese, "joined": Joined, "clips": Clips, "time": Time, "alone": Alone}
    return {name: kind().eval() for name, kind in kinds.items()}


def exported(network: "torch.nn.Module", inputs: Sequence["torch.Tensor"], *, dynamic: bool) -> bytes:
    import torch

    file = io.BytesIO()
    names = ["a", "b"][: len(inputs)]
    axes = {name: {0: "batch"} for name in (*names, "logits")} if dynamic else None
    torch.onnx.export(
        network, tuple(inputs), file, dynamo=False, input_names=names, output_names=["logits"], dynamic_axes=axes,
        opset_version=17,
    )  # fmt: skip
    return file.getvalue()


def grad_cam(
    network: Any, inputs: Sequence["torch.Tensor"], part: Callable[["torch.Tensor"], "torch.Tensor"], *, call: int = 0
) -> Map:
    """The raw map of Grad-CAM. part: (K,...) of what the trunk makes in the call of this number."""
    kept: list[torch.Tensor] = []
    hook = network.trunk.register_forward_hook(lambda _, __, out: (out.retain_grad(), kept.append(out))[0])
    network(*inputs).reshape(-1)[TARGET].backward()
    hook.remove()
    gradient = kept[call].grad
    assert gradient is not None
    weights = part(gradient).flatten(1).mean(1)
    features = part(kept[call].detach())
    return np.maximum((weights.reshape(-1, *[1] * (features.ndim - 1)) * features).sum(0).numpy(), 0)


def compare(model: bytes, image: np.ndarray, expected: Map, **options: Any) -> None:
    with Explainer(model, "grad-cam", preset="imagenet", providers=["cpu"], **options) as explainer:
        raw = explainer(image, TARGET).raw
    rectified = np.maximum(raw, 0)
    assert rectified.shape == expected.shape
    assert expected.max() > 0
    assert np.corrcoef(rectified.ravel(), expected.ravel())[0, 1] >= 0.9999


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", ["siamese", "joined"])
@pytest.mark.parametrize("number", [0, 1])
def test_each_of_two_pictures(networks: dict[str, Any], name: str, number: int, *, dynamic: bool) -> None:
    import torch

    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(1, 3, *SIDES, generator=generator) for _ in range(2)]
    model = exported(networks[name], inputs, dynamic=dynamic)
    joined = name == "joined"
    expected = grad_cam(networks[name], inputs, lambda x: x[number if joined else 0], call=0 if joined else number)
    other = {"ba"[number]: inputs[1 - number].numpy()}
    compare(model, inputs[number][0].numpy(), expected, image_input="ab"[number], inputs=other)


@pytest.mark.parametrize("dynamic", [False, True])
def test_every_frame_of_a_clip(networks: dict[str, Any], *, dynamic: bool) -> None:
    import torch

    clip = torch.randn(1, 5, 3, *SIDES, generator=torch.Generator().manual_seed(2))
    model = exported(networks["clips"], [clip], dynamic=dynamic)
    expected = grad_cam(networks["clips"], [clip], lambda x: x.transpose(0, 1))
    compare(model, clip[0].transpose(0, 1).numpy(), expected)


def test_every_frame_of_a_batch_that_is_time(networks: dict[str, Any]) -> None:
    import torch

    clip = torch.randn(5, 3, *SIDES, generator=torch.Generator().manual_seed(3))
    model = exported(networks["time"], [clip], dynamic=False)
    expected = grad_cam(networks["time"], [clip], lambda x: x.transpose(0, 1))
    compare(model, clip.transpose(0, 1).numpy(), expected)


def test_a_picture_without_batch_axis(networks: dict[str, Any]) -> None:
    import torch

    picture = torch.randn(*SIDES, 3, generator=torch.Generator().manual_seed(4))
    model = exported(networks["alone"], [picture], dynamic=False)
    expected = grad_cam(networks["alone"], [picture], lambda x: x[0])
    compare(model, picture.permute(2, 0, 1).numpy(), expected)
