"""Step graphs of every export of the zoo: the gradient at the image against PyTorch's autograd in float64."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from programs import tool
from zoo_records import MAPPED, NAN, name_of

from onnxcam.engine.session import Session
from onnxcam.errors import MissingGradient
from onnxcam.network.gradient_graphs import noise_feeds, scoring_graph, step_graph, without_rules
from onnxcam.network.opening import OpenedModel, open_model
from onnxcam.surgeon import ir
from onnxcam.surgeon.graphs import masked_score
from onnxcam.surgeon.graphs.score_gradient import GRADIENT, SCORE, Wrt
from onnxcam.surgeon.loading import read_model
from onnxcam.types import Score

Feeds = dict[str, np.ndarray]

COSINE, DISTANCE = 0.9999, 1e-2
"""Of float32 against float64 over up to a hundred layers; the distance is relative, in the Euclidean norm."""
COARSE = {"q_efflite0_dyn": (0.97, 0.25), "q_efflite0_qdq_s8s8": (0.9, 0.4), "q_efflite0_qop_u8s8": (0.9, 0.4)}
"""Quantised: what falls to the other side of a tie decides what saturates. PyTorch's own float32 gradients are as far
from its float64 ones: cosines of 0.977, 0.936 and 0.963."""
RECORDS = [r for r in MAPPED if name_of(r) not in NAN | {"caffe2_vgg19"}]
"""Without vgg19, half a gigabyte of equal weights."""
WITHOUT = {f"pt_crnn_lstm_{name}": "LSTM" for name in ("dy18_b1", "ts17_b1", "ts17_dyn")}
"""Operators without a rule, by model."""
COMPLETE = 0.95
"""Share of the models with a spatial map that have a rule for every operator."""


@pytest.fixture(scope="module")
def runner() -> Iterator[ModuleType]:
    """The interpreter, with the operators of onnxruntime's own domain in the zoo; it ignores domains."""
    pytest.importorskip("torch")
    module = tool("torch_export/onnx_torch")
    with patch.dict(module.OPERATORS):
        register_foreign(module)
        yield module


def register_foreign(module: ModuleType) -> None:
    """Registers onnxruntime's own operators in PyTorch."""
    import torch
    from onnx_torch.products import conv
    from onnx_torch.quantised import dequantise, quantise

    @module.operator("FusedConv")
    def fused(node: Any, x: Any, w: Any, b: Any, z: Any = None) -> Any:
        assert node.get("activation", "Relu") == "Relu"
        y = conv(node, x, w, b) if z is None else conv(node, x, w, b) + z
        return torch.relu(y) if "activation" in node.attributes else y

    @module.operator("QLinearAdd", host=(7,))
    def add(node: Any, a: Any, sa: Any, za: Any, b: Any, sb: Any, zb: Any, sy: Any, zy: Any) -> Any:
        return quantise(node, dequantise(node, a, sa, za) + dequantise(node, b, sb, zb), sy, zy)

    @module.operator("QLinearGlobalAveragePool", host=(4,))
    def average(node: Any, x: Any, sx: Any, zx: Any, sy: Any, zy: Any) -> Any:
        return quantise(node, dequantise(node, x, sx, zx).mean((2, 3), keepdim=True), sy, zy)

    @module.operator("QGemm", host=(8,))
    def gemm(node: Any, a: Any, sa: Any, za: Any, b: Any, sb: Any, zb: Any, c: Any, sy: Any, zy: Any) -> Any:
        matrix = dequantise(node, b, sb, zb, 0)
        y = dequantise(node, a, sa, za) @ (matrix.T if node.get("transB", 0) else matrix)
        return quantise(node, y + c.to(node.dtype) * sa * sb, sy, zy)


def opened(zoo: Path, record: dict[str, Any]) -> OpenedModel:
    path = zoo / record["file"]
    model = open_model(read_model(path), tool("zoo_report").options_for(path, record))
    model.network.close()
    return model


def gradient_feeds(model: OpenedModel, count: int) -> Feeds:
    feeds = noise_feeds(model, model.network.fixed or count)
    if masked_score.REGIONS in feeds:
        feeds[masked_score.REGIONS] = np.full_like(feeds[masked_score.REGIONS], 1 / model.anatomy.logits.places)
    return feeds


def by_step_graph(model: OpenedModel, feeds: Feeds) -> tuple[np.ndarray, np.ndarray]:
    session = Session(ir.to_bytes(step_graph(model, Score.LOGIT, Wrt.IMAGE)), ("cpu",), 2)
    try:
        score, gradient = session.run([SCORE, GRADIENT], {n: feeds[n] for n in session.inputs})
    finally:
        session.close()
    return score, gradient


def by_torch(runner: ModuleType, model: OpenedModel, feeds: Feeds) -> tuple[np.ndarray, np.ndarray]:
    import torch

    proto = ir.to_proto(scoring_graph(model))
    for node in proto.graph.node:
        node.domain = ""
    names = {v.name for v in proto.graph.input}
    tensors = {
        n: torch.from_numpy(a.astype(np.float64) if a.dtype == np.float32 else a)
        for n, a in feeds.items()
        if n in names
    }
    image = tensors[masked_score.IMAGE].requires_grad_()
    (logits,) = runner.OnnxModule(proto, torch.float64)(tensors, [masked_score.LOGIT])
    score = torch.diagonal(logits)  # sample i is scored for target i
    (gradient,) = torch.autograd.grad(score.sum(), image)
    return score.detach().numpy(), gradient.numpy()


@pytest.mark.torch
@pytest.mark.parametrize("record", RECORDS or [None], ids=lambda r: name_of(r) if r else "zoo")
def test_the_gradient_at_the_image_is_that_of_autograd(zoo: Path, runner: ModuleType, record: dict[str, Any]) -> None:
    model, name = opened(zoo, record), name_of(record)
    if name in WITHOUT:
        with pytest.raises(MissingGradient, match=WITHOUT[name]):
            step_graph(model, Score.LOGIT, Wrt.IMAGE)
        return
    feeds = gradient_feeds(model, 1 if name in COARSE else 2)
    score, gradient = by_step_graph(model, feeds)
    expected_score, expected = by_torch(runner, model, feeds)
    cosine, distance = COARSE.get(name, (COSINE, DISTANCE))
    np.testing.assert_allclose(
        score, expected_score, rtol=0, atol=(0.05 if name in COARSE else 1e-3) * np.abs(expected_score).max()
    )
    length = float(np.linalg.norm(expected))
    assert length > 0
    assert float((gradient * expected).sum()) / (float(np.linalg.norm(gradient)) * length) >= cosine
    assert float(np.linalg.norm(gradient - expected)) / length <= distance


@pytest.mark.slow
def test_nearly_all_exports_have_every_rule(zoo: Path) -> None:
    lacking = {name_of(r): without_rules(opened(zoo, r)) for r in RECORDS}
    missing = {name: {m.operator for m in rules} for name, rules in lacking.items() if rules}
    assert len(missing) <= (1 - COMPLETE) * len(lacking), missing
    assert missing.keys() == WITHOUT.keys()
