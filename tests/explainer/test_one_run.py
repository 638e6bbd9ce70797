"""Gradient methods make one run of one session for a class: features, logits and gradient from one graph."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnx.parser
import pytest
from small_models import CLASSIFIER, PIXELS, SCALED_BY_BATCH, filled
from tiny import small_method

from onnxcam import Explainer, Preset, score_cam
from onnxcam.engine.session import Session
from onnxcam.errors import MissingGradient, TargetError, UndefinedSaliency
from onnxcam.explainer.together import explain_together
from onnxcam.methods import METHODS
from onnxcam.network.gradients import GradientRunner
from onnxcam.surgeon.autodiff.rules.registry import VJP_RULES
from onnxcam.surgeon.graphs.score_gradient import GRADIENT

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PICTURE = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
OTHER = PICTURE[::-1].copy()
OPTIONS: dict[str, Any] = {"providers": ["cpu"], "preset": PLAIN, "threads": 1}
NAMES = [name for name in METHODS if small_method(name).begins_with is not None]
LABELS = ["ant", "bee", "cat", "dog", "elk"]
CAST_WEIGHTS = CLASSIFIER.replace("float[5,8] w3", "float[5,8] w16").replace(
    "logits = Gemm", "w3 = Cast <to=1> (w16)\n  logits = Gemm"
)
TWO_SIDED = CLASSIFIER.replace("float[N,5]", "float[N,1]").replace("float[5", "float[1")
IN_INTEGERS = CLASSIFIER.replace("float[5] b3>", "float[5] b3, float s = {0.01}, int8 z = {0}>").replace(
    "logits = Gemm <transB=1> (flat",
    "q = QuantizeLinear (flat, s, z)\n  real = DequantizeLinear (q, s, z)\n  logits = Gemm <transB=1> (real",
)


@contextmanager
def counted() -> Iterator[list[tuple[Session, int]]]:
    """The session of each run in the block, and its pictures."""
    runs: list[tuple[Session, int]] = []
    original = Session.run

    def run(session: Session, *arguments: Any, pictures: int = 1) -> Any:
        runs.append((session, pictures))
        return original(session, *arguments, pictures=pictures)

    with patch.object(Session, "run", run):
        yield runs


def in_halves(proto: onnx.ModelProto, names: Collection[str] = ()) -> onnx.ModelProto:
    """The model with its weights of these names in float16; with all tensors if none is named."""
    for tensor in proto.graph.initializer:
        if not names or tensor.name in names:
            halves = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(halves, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output) if not names else ():
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return proto


def opened(proto: onnx.ModelProto | str, name: str, **options: Any) -> Explainer:
    return Explainer(filled(proto) if isinstance(proto, str) else proto, small_method(name), **{**OPTIONS, **options})


def test_the_methods_of_one_gradient_begin_with_it() -> None:
    cams = {"grad-cam", "grad-cam++", "layer-cam", "hires-cam", "xgrad-cam"}
    assert set(NAMES) == cams | {"gradient", "guided-backprop"}


@pytest.mark.parametrize(
    ("name", "target"),
    [*((name, None) for name in NAMES), *(("grad-cam", target) for target in ("top1", 2, np.int64(2), "2", "cat"))],
)
def test_a_class_takes_one_run_of_one_session(name: str, target: Any) -> None:
    with opened(CLASSIFIER, name, labels=LABELS) as explainer:
        first = explainer(PICTURE, target)  # opens the graph and compares it with the model
        with counted() as runs:
            second, other = explainer(PICTURE, target), explainer(OTHER, target)
    assert len(runs) == 2
    assert len({id(session) for session, _ in runs}) == 1
    np.testing.assert_array_equal(first.map, second.map)
    assert np.abs(first.map - other.map).max() > 0.01
    assert (second.provenance.forwards, second.provenance.steps) == (0, 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, CLASSIFIER) for name in NAMES),
        ("grad-cam", CAST_WEIGHTS),
        ("grad-cam", CLASSIFIER.replace("[N,", "[2,")),
        ("gradient", SCALED_BY_BATCH),
    ],
)
def test_one_run_has_the_map_and_the_scores_of_two(name: str, text: str) -> None:
    targets = (None, 0, 3)
    proto = in_halves(filled(text), ["w16"])
    with opened(proto, name) as explainer:
        explainer(PICTURE)
        with counted() as runs:
            at_once = [explainer(picture, target) for picture in (PICTURE, OTHER) for target in targets]
        assert len(runs) == 6
    with patch.object(GradientRunner, "answers_with_gradient", False), opened(proto, name) as explainer:
        in_two = [explainer(picture, target) for picture in (PICTURE, OTHER) for target in targets]
    for one, two in zip(at_once, in_two, strict=True):
        np.testing.assert_allclose(one.map, two.map, atol=1e-6)
        np.testing.assert_allclose(one.raw, two.raw, rtol=1e-5, atol=1e-6 * np.abs(two.raw).max())
        assert one.target.index == two.target.index
        assert one.score == pytest.approx(two.score, rel=1e-6)
        assert (two.provenance.forwards, two.provenance.steps) == (1, 1)


@pytest.mark.parametrize("targets", [["rank2"], [1, 3], ["top1", "rank2"]])
def test_what_the_scores_must_decide_first_takes_two(targets: list[Any]) -> None:
    with opened(CLASSIFIER, "grad-cam") as explainer:
        explainer(PICTURE)
        maps = explainer.explain(PICTURE, targets)
        with counted() as runs:
            explainer.explain(PICTURE, targets)
        apart = [explainer(PICTURE, each.target.index) for each in maps]
    assert len({id(session) for session, _ in runs}) == 2
    for one, other in zip(maps, apart, strict=True):
        np.testing.assert_allclose(one.map, other.map, atol=1e-6)


@pytest.mark.parametrize(
    "proto", [filled(PIXELS), in_halves(filled(CLASSIFIER)), filled(IN_INTEGERS), filled(TWO_SIDED)],
    ids=["bytes", "halves", "integers", "one number"],
)  # fmt: skip
def test_another_precision_or_one_number_takes_two(proto: onnx.ModelProto) -> None:
    """Their features and logits come from the model as it is, not from the float32 graph of the gradient."""
    takes_bytes = proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    preset = Preset("bytes", 1, (0,), (1,), crop=1.0) if takes_bytes else PLAIN
    with opened(proto, "grad-cam", layer="c" if takes_bytes else "features", preset=preset) as explainer:
        explainer(PICTURE)
        with counted() as runs:
            saliency = explainer(PICTURE)
    assert len({id(session) for session, _ in runs}) == 2
    assert (saliency.provenance.forwards, saliency.provenance.steps) == (1, 1)


def test_a_region_takes_two() -> None:
    text = CLASSIFIER.replace("float[N,5] logits", "float[N,5,4,3] logits").replace(
        "float[5,8] w3", "float[5,8,1,1] w3"
    )
    start = text.index("pooled")
    text = text[:start] + "logits = Conv (features, w3, b3)\n}"
    with opened(text, "grad-cam", layer="features") as explainer:
        explainer(PICTURE)
        with counted() as runs:
            explainer(PICTURE)
    assert len(runs) == 2


def test_of_equal_logits_the_first_is_the_prediction() -> None:
    proto = filled(CLASSIFIER)
    for i, tensor in enumerate(proto.graph.initializer):
        array = onnx.numpy_helper.to_array(tensor).copy()
        if tensor.name in ("w3", "b3"):
            array[:] = np.abs(array[1])
            proto.graph.initializer[i].CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    with opened(proto, "grad-cam") as explainer:
        explainer(PICTURE)
        with counted() as runs:
            saliency = explainer(PICTURE)
    assert saliency.target.index == 0
    assert len(runs) == 1


def test_a_class_that_is_not_there_is_an_error_as_before() -> None:
    with opened(CLASSIFIER, "grad-cam", labels=LABELS) as explainer:
        for target in (5, -1, "cow"):
            with pytest.raises(TargetError):
                explainer(PICTURE, target)


def test_logits_that_are_nan_are_an_error_as_before() -> None:
    text = CLASSIFIER.replace(
        "logits = Gemm", "size = Abs (b3)\n  less = Neg (size)\n  root = Sqrt (less)\n  logits = Gemm"
    ).replace("w3, b3)", "w3, root)")
    with opened(text, "grad-cam") as explainer, pytest.raises(UndefinedSaliency, match="NaN or infinite"):
        explainer(PICTURE)


def test_a_missing_rule_is_named_with_the_way_out() -> None:
    text = CLASSIFIER.replace("flat = Flatten (pooled)", "grown = Celu (pooled)\n  flat = Flatten (grown)")
    with opened(text, "grad-cam") as explainer, patch.dict(VJP_RULES, clear=True):
        for _ in range(2):
            with pytest.raises(MissingGradient, match=r"no gradient rule .* without gradients work"):
                explainer(PICTURE)


def test_predictions_and_scorers_compute_no_gradient() -> None:
    with opened(CLASSIFIER, "grad-cam") as explainer:
        with counted() as runs:
            explainer.predict(PICTURE)
            explainer.scorer(PICTURE)
        assert all(GRADIENT not in session.outputs for session, _ in runs)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_methods_that_share_a_picture_count_what_was_run(order: tuple[int, ...]) -> None:
    with (
        opened(CLASSIFIER, "grad-cam", batch=1) as first,
        first.with_method(score_cam()) as second,
        first.with_method("layer-cam") as third,
    ):
        explainers = [(first, second, third)[i] for i in order]
        explain_together(explainers, PICTURE)
        with counted() as runs:
            together = explain_together(explainers, PICTURE)
    assert together.passes == sum(pictures for _, pictures in runs)
