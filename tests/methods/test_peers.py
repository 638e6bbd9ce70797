"""The methods on EfficientNet-Lite0, against PyTorch's autograd in float64 and the papers' formulas written for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from programs import tool

from onnxcam import METHODS, Explainer
from onnxcam.inputs import bundled
from onnxcam.methods.blocks import Method

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
LEAST = 0.9999
"""Pearson's correlation, of float32 in onnxruntime with float64 in PyTorch."""
MOST = 1e-3
"""The largest difference between two maps in [0,1]."""
LAYERS = {"auto": "_swish", "/_blocks.10/Add_output_0": "_blocks.10"}
"""Tensors of the export, and the modules that give them: the last 7x7 features, and 14x14 ones five blocks before."""
PICTURES = bundled.pictures()


@dataclass
class Peer:
    """The module in float64, and its export in float32."""

    network: Any
    proto: onnx.ModelProto
    seen: dict[tuple[str, str], tuple[Any, Any]] = field(default_factory=dict)
    """(features, their slope) that several methods are made of, by module and picture."""


@pytest.fixture(scope="module")
def peer() -> Peer:
    pytest.importorskip("torch")
    builder = tool("build_models")
    network = builder.module()
    proto = builder.export(network)
    for weights in network.parameters():
        weights.requires_grad_(False)
    return Peer(network.double(), proto)


def explained(peer: Peer, method: Method, picture: str, layer: str = "auto") -> tuple[np.ndarray, Any, int]:
    """The map, the preprocessed picture for PyTorch, and the predicted class."""
    import torch

    with Explainer(peer.proto, method, preset="efficientnet-lite", layer=layer) as explainer:
        image = np.array(explainer.prepare(PICTURES[picture]).image)
        saliency = explainer(PICTURES[picture])
        return saliency.map, torch.from_numpy(image).double()[None], saliency.target.index


def compared(shown: np.ndarray, expected: Any) -> tuple[float, float]:
    """Pearson's correlation, and the largest difference, of a map with what becomes one by min-max."""
    expected = expected.detach().numpy()
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    return float(np.corrcoef(shown.ravel(), expected.ravel())[0, 1]), float(np.abs(shown - expected).max())


def enlarged(raw: Any) -> Any:
    """(h,w) to (224,224) after ReLU."""
    import torch

    return torch.nn.functional.interpolate(raw.clamp(min=0)[None, None], size=(224, 224), mode="bilinear")[0, 0]


def features_and_slope(peer: Peer, x: Any, target: int, module: str) -> tuple[Any, Any]:
    """(K,h,w) twice; the last call of the module counts."""
    kept = []

    def keep(_module: Any, _given: Any, out: Any) -> None:
        kept.append(out)
        out.retain_grad()

    handle = dict(peer.network.named_modules())[module].register_forward_hook(keep)
    peer.network(x.clone().requires_grad_())[0, target].backward()
    handle.remove()
    return kept[-1][0].detach(), kept[-1].grad[0]


def _grad_cam(a: Any, g: Any) -> Any:
    return (g.mean((1, 2), keepdim=True) * a).sum(0)


def _grad_cam_plus_plus(a: Any, g: Any) -> Any:
    """With the epsilon of pytorch-grad-cam."""
    alpha = g**2 / (2 * g**2 + a.sum((1, 2), keepdim=True) * g**3 + 1e-6)
    return ((alpha * g.clamp(min=0)).sum((1, 2), keepdim=True) * a).sum(0)


def _xgrad_cam(a: Any, g: Any) -> Any:
    total = a.sum((1, 2), keepdim=True)
    return ((g * a).sum((1, 2), keepdim=True) / total.where(total != 0, 1) * a).sum(0)


FAMILY: dict[str, tuple[dict[str, Any], Callable[[Any, Any], Any]]] = {
    "grad-cam": ({}, _grad_cam),
    "grad-cam++": ({"epsilon": 1e-6}, _grad_cam_plus_plus),
    "layer-cam": ({}, lambda a, g: (g.clamp(min=0) * a).sum(0)),
    "hires-cam": ({}, lambda a, g: (g * a).sum(0)),
    "xgrad-cam": ({}, _xgrad_cam),
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", FAMILY)
def test_the_grad_cam_family_is_that_of_autograd(peer: Peer, name: str, layer: str, picture: str) -> None:
    options, formula = FAMILY[name]
    shown, x, target = explained(peer, METHODS[name](**options), picture, layer)
    if (layer, picture) not in peer.seen:
        peer.seen[layer, picture] = features_and_slope(peer, x, target, LAYERS[layer])
    maps, slope = peer.seen[layer, picture]
    assert maps.shape[1:] == ((7, 7) if layer == "auto" else (14, 14))
    correlation, difference = compared(shown, enlarged(formula(maps, slope)))
    assert correlation >= LEAST
    assert difference <= MOST


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", ["cam", "ablation-cam", "recipro-cam", "eigen-cam"])
def test_methods_without_gradients_are_those_of_the_module(peer: Peer, name: str, picture: str) -> None:
    import torch

    shown, x, target = explained(peer, METHODS[name](), picture)
    a = peer.network.extract_features(x)[0]

    def logits(features: Any) -> Any:
        return peer.network._fc(peer.network._avg_pooling(features).flatten(1))

    if name == "cam":
        raw = (peer.network._fc.weight[target][:, None, None] * a).sum(0)
    elif name == "ablation-cam":
        without = (1 - torch.eye(len(a), dtype=torch.float64)).split(128)
        left = torch.cat([logits(a * kept[..., None, None])[:, target] for kept in without])
        raw = ((logits(a[None])[0, target] - left)[:, None, None] * a).sum(0)
    elif name == "recipro-cam":
        cells = torch.eye(49, dtype=torch.float64).reshape(49, 1, 7, 7)
        raw = logits(a[None] * cells).softmax(1)[:, target].reshape(7, 7)
    else:
        table = a.reshape(len(a), -1).T
        centred = table - table.mean(0)
        raw = (centred @ torch.linalg.svd(centred, full_matrices=False)[2][0]).reshape(7, 7)
        raw = raw * torch.sign((raw * a.mean(0)).sum() - raw.sum() * a.mean())
    correlation, difference = compared(shown, enlarged(raw))
    assert correlation >= LEAST
    assert difference <= MOST


@pytest.mark.parametrize("guided", [False, True])
def test_gradients_at_the_pixels_are_those_of_autograd(peer: Peer, guided: bool) -> None:
    import torch

    name = "guided-backprop" if guided else "gradient"
    shown, x, target = explained(peer, METHODS[name](), "chelsea")
    handles = [
        m.register_full_backward_hook(lambda _m, slopes, _out: (slopes[0].clamp(min=0),))
        for m in peer.network.modules()
        if guided and isinstance(m, torch.nn.ReLU6)
    ]
    x.requires_grad_()
    peer.network(x)[0, target].backward()
    for handle in handles:
        handle.remove()
    size = x.grad[0].abs().amax(0)
    correlation, difference = compared(shown, size.clamp(max=float(np.percentile(size.numpy(), 99))))
    assert correlation >= LEAST
    assert difference <= 0.1  # a pixel at the corner of a ReLU6 may go either way


def through(peer: Peer, x: Any, raw: Any, target: int, score: str) -> Any:
    """The score of the picture seen through n(up(raw)), and the enlarged map."""
    import torch

    up = torch.nn.functional.interpolate(raw[None, None], size=(224, 224), mode="bilinear", align_corners=False)
    z = peer.network(x * (up - up.min()) / (up.max() - up.min()))
    return (z.softmax(1) if score == "probability" else z)[0, target], up[0, 0]


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"epsilon": 1e-3}, LEAST),
        ({"epsilon": 1e-4, "score": "probability", "bounds": (0, 1)}, LEAST),
        ({}, 0.999),
    ],
)
def test_opti_cam_is_a_search_by_autograd_and_pytorchs_adam(peer: Peer, options: dict[str, Any], least: float) -> None:
    """Five steps, as the paper has it and with MUPPET's objective and clamp.

    Adam makes whole steps of slopes that are single precision's rounding; a larger epsilon does not. With 1e-4 it still
    depends on the processor.
    """
    import torch

    shown, x, target = explained(peer, METHODS["opti-cam"](max_iter=5, **options), "coffee")
    a = peer.network.extract_features(x)[0]
    u = torch.zeros(len(a), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([u], lr=0.2, eps=options.get("epsilon", 1e-8))
    best, kept = -np.inf, None
    for _ in range(6):
        value, up = through(peer, x, (u.softmax(0)[:, None, None] * a).sum(0), target, options.get("score", "logit"))
        if value.item() > best:
            best, kept = value.item(), up
        adam.zero_grad()
        (-value).backward()
        adam.step()
        if "bounds" in options:
            with torch.no_grad():
                u.clamp_(*options["bounds"])
    correlation, difference = compared(shown, kept)
    assert correlation >= least
    assert difference <= 5e-2


def test_mask_is_a_search_by_autograd_and_pytorchs_adam(peer: Peer) -> None:
    """The deletion game without jitter; the fill is blurred by OpenCV as the method's is."""
    import cv2
    import torch

    shown, x, target = explained(peer, METHODS["mask"](max_iter=5, jitter=0), "chelsea")
    fill = torch.from_numpy(np.stack([cv2.GaussianBlur(c, (0, 0), 10) for c in x[0].float().numpy()])).double()[None]
    m = torch.ones(28, 28, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([m], lr=0.1)
    for _ in range(5):
        large = torch.nn.functional.interpolate(m[None, None], size=(224, 224), mode="bilinear", align_corners=False)
        p = peer.network(x * large + fill * (1 - large)).softmax(1)[0, target]
        rough = (m.diff(dim=0).abs() ** 3).mean() + (m.diff(dim=1).abs() ** 3).mean()
        adam.zero_grad()
        (p + 0.01 * (1 - m).mean() + 0.2 * rough).backward()
        adam.step()
        with torch.no_grad():
            m.clamp_(0, 1)
    correlation, difference = compared(shown, enlarged(1 - m))
    assert correlation >= 0.999
    assert difference <= 0.1
