"""Exported step graphs: their scores and gradients against autograd in float64, their form, and what is refused."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from programs import tool
from small_models import PIXELS, Make

from onnxcam.errors import ModelError, OptionError
from onnxcam.inputs import bundled
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.surgeon import ir
from onnxcam.surgeon.loading import ModelSource, read_model
from onnxcam.types import Score

TOOLS = Path(__file__).parents[2] / "tools" / "torch_export"
LEAST_COSINE = 0.9999
torch_only = pytest.mark.torch

Logits = Callable[[Any], Any]


@pytest.fixture(scope="module")
def exporter() -> ModuleType:
    pytest.importorskip("torch")
    sys.path.append(str(TOOLS))  # it imports step_translation from there
    return tool("torch_export/export_step")


def in_double(exporter: ModuleType, source: ModelSource) -> Logits:
    """The file's logits as a float64 function of its image."""
    opened = open_model(read_model(source), OpenOptions(providers=("cpu",)))
    opened.network.close()
    module = exporter.OnnxModule(ir.to_proto(opened.model), exporter.torch.float64)
    anatomy = opened.anatomy
    return lambda images: module({anatomy.image.name: images}, [anatomy.logits.tensor])[0]


def by_autograd(
    exporter: ModuleType, logits: Logits, feeds: dict[str, np.ndarray], channel: int, score: Score
) -> tuple[np.ndarray, np.ndarray]:
    """(score, gradient) by autograd, without any code of the exporter."""
    torch = exporter.torch
    image, targets = torch.from_numpy(feeds["onnxcam/image"]).double(), torch.from_numpy(feeds["onnxcam/targets"])
    maps = torch.from_numpy(feeds["onnxcam/maps"]).double().requires_grad_()
    sides = [d for i, d in enumerate(image.shape) if i not in (0, channel)]
    up = torch.nn.functional.interpolate(maps, size=sides, mode="bilinear", align_corners=False)
    low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
    mask = ((up - low) / (high - low)).movedim(1, channel)
    values = logits(image * mask)
    values = torch.softmax(values, 1) if score is Score.PROBABILITY else values
    scores = values[torch.arange(len(values)), targets]
    scores.sum().backward()
    return scores.detach().numpy(), maps.grad.numpy()


def feeds_for(step: onnx.ModelProto, batch: int, classes: int) -> dict[str, np.ndarray]:
    """Random images, maps and targets for a step graph."""
    rng = np.random.default_rng(batch)
    shapes = {i.name: [batch, *[d.dim_value for d in i.type.tensor_type.shape.dim][1:]] for i in step.graph.input}
    return {
        "onnxcam/image": rng.standard_normal(shapes["onnxcam/image"]).astype(np.float32),
        "onnxcam/maps": rng.random(shapes["onnxcam/maps"]).astype(np.float32),
        "onnxcam/targets": rng.integers(0, classes, batch),
    }


def run(step: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(step.SerializeToString(), providers=["CPUExecutionProvider"])
    score, gradient = session.run(["onnxcam/score", "onnxcam/gradient"], feeds)
    return score, gradient


@dataclass(frozen=True)
class Comparison:
    """A step graph beside autograd: the scores (N,), the cosine of all gradients together, and the lengths of both."""

    score: np.ndarray
    expected: np.ndarray
    cosine: float
    length: float
    expected_length: float

    @property
    def tolerance(self) -> float:
        """The absolute tolerance of a score, beside a relative one of 1e-4."""
        return 1e-4 * float(np.abs(self.expected).max())


def comparisons(
    exporter: ModuleType, step: onnx.ModelProto, logits: Logits, classes: int, score: Score = Score.LOGIT,
    channel: int = 1,
) -> list[Comparison]:  # fmt: skip
    """The graph beside autograd at one sample and at three. It must pass onnx's checker."""
    onnx.checker.check_model(step, full_check=True)
    results = []
    for batch in (1, 3):
        feeds = feeds_for(step, batch, classes)
        scores, gradient = run(step, feeds)
        expected_scores, expected_gradient = by_autograd(exporter, logits, feeds, channel, score)
        assert scores.dtype == gradient.dtype == np.float32
        assert gradient.shape == feeds["onnxcam/maps"].shape
        length, expected_length = float(np.linalg.norm(gradient)), float(np.linalg.norm(expected_gradient))
        cosine = float((gradient * expected_gradient).sum() / (length * expected_length))
        results.append(Comparison(scores, expected_scores, cosine, length, expected_length))
    return results


@torch_only
@pytest.mark.parametrize("score", Score)
def test_the_gradient_is_that_of_autograd(exporter: ModuleType, classifier: onnx.ModelProto, score: Score) -> None:
    step = exporter.export_step(classifier, score=score)
    for result in comparisons(exporter, step, in_double(exporter, classifier), 5, score):
        np.testing.assert_allclose(result.score, result.expected, rtol=1e-4, atol=result.tolerance)
        assert result.cosine >= LEAST_COSINE
        assert result.length == pytest.approx(result.expected_length, rel=1e-2)


@torch_only
def test_a_model_of_bytes_with_channels_last_gives_the_gradient_of_autograd(exporter: ModuleType, make: Make) -> None:
    model = make(PIXELS)
    step = exporter.export_step(model)
    assert [d.dim_value for d in step.graph.input[0].type.tensor_type.shape.dim][1:] == [16, 12, 3]
    for result in comparisons(exporter, step, in_double(exporter, model), 5, channel=3):
        np.testing.assert_allclose(result.score, result.expected, rtol=1e-4, atol=result.tolerance)
        assert result.cosine >= LEAST_COSINE
        assert result.length == pytest.approx(result.expected_length, rel=1e-2)


def layers(exporter: ModuleType) -> Any:
    """A network with each kind of layer whose gradient PyTorch keeps in one operator."""
    nn = exporter.torch.nn
    exporter.torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(),
        nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.ReLU6(), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(8, 16, (3, 1), dilation=(2, 1)), nn.GELU(),
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), nn.ConvTranspose2d(16, 8, 2, stride=2),
        nn.AdaptiveAvgPool2d((3, 2)), nn.SiLU(), nn.Flatten(), nn.LayerNorm(48), nn.Linear(48, 6),
    ).eval()  # fmt: skip


@torch_only
def test_a_torch_module_gives_the_gradient_of_autograd(exporter: ModuleType) -> None:
    network = layers(exporter)
    step = exporter.export_step(network, image=(3, 30, 26), grid=(5, 4))
    for result in comparisons(exporter, step, network.double(), 6):
        np.testing.assert_allclose(result.score, result.expected, rtol=1e-4, atol=result.tolerance)
        assert result.cosine >= LEAST_COSINE
        assert result.length == pytest.approx(result.expected_length, rel=1e-2)


@torch_only
def test_attention_in_a_torch_module_gives_the_gradient_of_autograd(exporter: ModuleType) -> None:
    nn = exporter.torch.nn
    exporter.torch.manual_seed(0)

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Any) -> Any:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            return self.head((tokens + self.attend(tokens, tokens, tokens)[0]).mean(1))

    network = Small().eval()
    step = exporter.export_step(network, image=(3, 16, 16), grid=(4, 4))
    for result in comparisons(exporter, step, network.double(), 5):
        np.testing.assert_allclose(result.score, result.expected, rtol=1e-4, atol=result.tolerance)
        assert result.cosine >= LEAST_COSINE
        assert result.length == pytest.approx(result.expected_length, rel=1e-2)


@torch_only
def test_a_constant_map_gives_the_score_of_the_unmasked_image(
    exporter: ModuleType, classifier: onnx.ModelProto
) -> None:
    step = exporter.export_step(classifier)
    feeds = feeds_for(step, 2, 5)
    feeds["onnxcam/maps"][:] = 0.3
    score, gradient = run(step, feeds)
    session = onnxruntime.InferenceSession(classifier.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"x": feeds["onnxcam/image"]})[0]
    np.testing.assert_allclose(score, logits[[0, 1], feeds["onnxcam/targets"]], rtol=1e-4)
    assert np.isfinite(gradient).all()


@torch_only
def test_the_graph_has_the_documented_metadata_shapes_and_operators(
    exporter: ModuleType, classifier_file: Path
) -> None:
    step = exporter.export_step(classifier_file, score=Score.PROBABILITY)
    assert {p.key: p.value for p in step.metadata_props} == {
        "onnxcam.step": "1",
        "onnxcam.score": "probability",
        "onnxcam.grid": "4x3",
        "onnxcam.model_sha256": read_model(classifier_file).sha256,
    }
    values = [*step.graph.input, *step.graph.output]
    assert {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values} == {
        "onnxcam/image": ["N", 3, 16, 12],
        "onnxcam/maps": ["N", 1, 4, 3],
        "onnxcam/targets": ["N"],
        "onnxcam/score": ["N"],
        "onnxcam/gradient": ["N", 1, 4, 3],
    }
    assert {n.domain for n in step.graph.node} == {""}
    assert not step.functions
    assert next(o.version for o in step.opset_import if o.domain == "") >= 18


@torch_only
def test_efficientnet_lite0_gives_the_gradient_of_autograd(exporter: ModuleType) -> None:
    step = exporter.export_step(bundled.model())
    for result in comparisons(exporter, step, in_double(exporter, bundled.model()), 1000):
        np.testing.assert_allclose(result.score, result.expected, rtol=1e-4, atol=result.tolerance)
        assert result.cosine >= LEAST_COSINE
        assert result.length == pytest.approx(result.expected_length, rel=1e-2)


@torch_only
@pytest.mark.parametrize("name", ["pt_resnet10n_ts17_dyn", "pt_densenet_n_ts17_b1", "pt_vit_n_dy18_b1"])
def test_exports_of_the_zoo_give_the_gradient_of_autograd(zoo: Path, exporter: ModuleType, name: str) -> None:
    path = zoo / "models" / f"{name}.onnx"
    logits = in_double(exporter, path)
    classes = logits(exporter.torch.zeros(1, 3, 224, 224).double()).shape[1]
    for result in comparisons(exporter, exporter.export_step(path), logits, classes):
        np.testing.assert_allclose(result.score, result.expected, rtol=1e-4, atol=result.tolerance)
        assert result.cosine >= LEAST_COSINE
        assert result.length == pytest.approx(result.expected_length, rel=1e-2)


@torch_only
def test_what_cannot_be_exported_is_refused_with_a_reason(
    exporter: ModuleType, classifier: onnx.ModelProto, make: Make
) -> None:
    network = layers(exporter)
    with pytest.raises(OptionError, match="image=\\(C,H,W\\) and grid"):
        exporter.export_step(network)
    with pytest.raises(OptionError, match="training mode"):
        exporter.export_step(network.train(), image=(3, 30, 26), grid=(5, 4))
    wrong = exporter.torch.nn.Sequential(network, exporter.torch.nn.Unflatten(1, (6, 1))).eval()
    with pytest.raises(OptionError, match=r"gives \(2, 6, 1\)"):
        exporter.export_step(wrong, image=(3, 30, 26), grid=(5, 4))
    with pytest.raises(OptionError, match="read from an ONNX file"):
        exporter.export_step(classifier, grid=(4, 3))
    foreign = make(
        """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[N,3,16,12] x) => (float[N,8] y)
        <float[8,3,3,3] w> { f = com.microsoft.FusedConv <activation="Relu"> (x, w) p = GlobalAveragePool (f)
        y = Flatten (p) }""",
        check=False,
    )
    with pytest.raises(ModelError, match=r"com\.microsoft\.FusedConv"):
        exporter.export_step(foreign)


def command(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = "" if path is None else f"import sys; sys.path.insert(0, {str(path)!r}); "
    code += f"import runpy, sys; sys.argv = {['export_step.py', *words]!r}; sys.path.insert(1, {str(TOOLS)!r}); "
    code += f"runpy.run_path({str(TOOLS / 'export_step.py')!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@torch_only
def test_the_command_line_writes_the_graph_and_prints_errors_in_two_lines(
    exporter: ModuleType, classifier_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "step.onnx"
    done = command(str(classifier_file), "-o", str(out), "--score", "probability")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: probability and its gradient, maps of 4x3")
    onnx.checker.check_model(onnx.load(out), full_check=True)
    missing = command(str(tmp_path / "absent.onnx"), "-o", str(out))
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: ")
    assert "no such model file" in missing.stderr
    assert len(missing.stderr.splitlines()) <= 2


def test_without_pytorch_the_error_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch')")
    done = command("model.onnx", "-o", "step.onnx", path=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: PyTorch cannot be imported")
    assert 'pip install "onnxcam[torch]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1
