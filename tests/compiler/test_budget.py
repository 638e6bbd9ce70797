"""Score-CAM with a budget inside the file: the parts of the process against numpy's, and the map against the exact one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam.compiler.compiled import compile
from onnxcam.compiler.estimate_graph import _inverse
from onnxcam.compiler.loop_graph import DOUBLE
from onnxcam.compiler.process_graph import LEVEL, LinkGraph, Points
from onnxcam.errors import CompileError
from onnxcam.inputs import bundled
from onnxcam.methods.blocks import Convention
from onnxcam.methods.estimate import links
from onnxcam.methods.weighting import Variant, Weighting
from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder, empty_model, publish
from onnxcam.surgeon.ir import Value

RNG = np.random.default_rng(5)
MANY = CLASSIFIER.replace("float[8,6,3,3] w2", "float[90,6,3,3] w2").replace("float[5,8] w3", "float[5,90] w3")
"""90 feature maps."""
IMAGE = RNG.standard_normal((1, 3, 16, 12)).astype(np.float32)


def computed(build: Callable[[Builder], list[Value]]) -> list[Any]:
    """The numbers that a graph gives, which `build` makes of constants."""
    model = empty_model("numbers")
    values = build(Builder(model, "test"))
    for value in values:
        publish(model, value, DOUBLE, [])
        value.shape = None
    session = onnxruntime.InferenceSession(ir.to_bytes(ir.in_order(model)), providers=["CPUExecutionProvider"])
    return list(session.run([str(v.name) for v in values], {}))


def test_the_covariance_of_masks_is_its_formula() -> None:
    """Matern-5/2 between the roots of the masks, a linear part and a level, one pair after another."""
    maps = RNG.random((9, 12)).astype(np.float32)
    valid = np.arange(9)[:, None] < 7

    def build(b: Builder) -> list[Value]:
        points = Points.of(b, b.constant(maps, np.float32), b.constant(valid, np.bool_))
        return [points.covariance(points, (0.5, 1.4), 0.3), points.variance(0.3)]

    covariance, variance = computed(build)
    roots = np.sqrt([(m - m.min()) / (m.max() - m.min()) for m in maps[:7].astype(np.float64)])
    roots -= roots.mean(axis=0)
    spread = np.mean([((one - other) ** 2).sum() for one in roots for other in roots])
    for place, one in enumerate(roots):
        for column, other in enumerate(roots):
            linear = 0.3 * 2 * (one @ other) / spread
            for i, length in enumerate((0.5, 1.4)):
                d = np.sqrt(5 * ((one - other) ** 2).sum() / spread) / length
                expected = (1 + d + d * d / 3) * np.exp(-d) + linear + LEVEL
                assert covariance[i, place, column] == pytest.approx(expected, abs=1e-10)
        assert variance[place, 0] == pytest.approx(1 + 0.3 * 2 * (one @ one) / spread + LEVEL, abs=1e-10)


@pytest.mark.parametrize("variant", list(Variant))
@pytest.mark.parametrize("convention", list(Convention))
def test_links_and_moments_are_those_of_the_estimate(variant: Variant, convention: Convention) -> None:
    weighting = Weighting(convention, variant)
    scores = RNG.random((6, 1)) * (1 if variant is Variant.OFFICIAL else 8)
    mean, deviation, original = RNG.standard_normal((20, 1)), RNG.random((20, 1)), 0.7
    link = weighting.link(scores[:, 0], original)

    def build(b: Builder) -> list[Value]:
        known = b.constant(np.ones((6, 1)), np.bool_)
        graph = LinkGraph.of(b, weighting, b.constant(scores, np.float64), known, b.constant([[original]], np.float64))
        moments = graph.moments(b.constant(mean, np.float64), b.constant(deviation, np.float64))
        given = b.constant(scores, np.float64)
        return [graph.forward(b("Identity", given)), graph.weight(given), *moments]

    forward, weight, expected, off = (a[:, 0] for a in computed(lambda b: [b("Identity", v) for v in build(b)]))
    np.testing.assert_allclose(forward, link.forward(scores[:, 0]), rtol=1e-10)
    np.testing.assert_allclose(weight, link.weight(scores[:, 0]), rtol=1e-10)
    np.testing.assert_allclose([expected, off], links.moments(link, mean[:, 0], deviation[:, 0]), rtol=1e-7, atol=1e-12)


def test_the_elimination_gives_inverse_and_determinant() -> None:
    roots = RNG.standard_normal((3, 7, 7))
    matrices, diagonal = roots @ roots.transpose(0, 2, 1), RNG.random((3, 7)) + 0.1

    def build(b: Builder) -> list[Value]:
        return list(_inverse(b, b.constant(matrices, np.float64), b.constant(diagonal, np.float64)))

    inverse, logs = computed(build)
    whole = matrices + np.eye(7) * diagonal[:, None]
    np.testing.assert_allclose(inverse @ whole, np.broadcast_to(np.eye(7), whole.shape), atol=1e-8)
    np.testing.assert_allclose(logs, np.linalg.slogdet(whole)[1], rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"convention": "destructive"}, {"variant": "paper"}], ids=str)
def test_an_estimated_map_is_near_the_exact_one_and_nearer_with_more_masks(options: dict[str, Any]) -> None:
    model, exact = filled(MANY), onnxcam.score_cam(**options)
    feeds = {"x": IMAGE, "target": np.asarray([-1, 2], np.int64)}
    with onnxcam.Explainer(model, exact, providers=["cpu"]) as explain:
        expected = np.stack([s.map for s in explain.explain(IMAGE[0], [None, 2])])
    off = []
    for budget in (12, 48):
        compiled = compile(model, onnxcam.score_cam(budget=budget, **options))
        session = onnxruntime.InferenceSession(compiled.bytes, providers=["CPUExecutionProvider"])
        maps = session.run(["saliency_map"], feeds)[0]
        off.append(np.sqrt(np.square(maps - expected).mean()))
    assert off[1] <= 0.03
    assert off[1] <= off[0] <= 0.2


@pytest.mark.slow
def test_two_targets_that_share_the_masks_of_a_budget_are_checked_as_estimates() -> None:
    compiled = compile(bundled.model(), onnxcam.score_cam(budget=64))
    assert compiled.difference.map <= 0.06


def test_a_budget_that_covers_all_masks_gives_the_exact_map() -> None:
    model = filled(MANY)
    (stored,) = (t for t in model.graph.initializer if t.name == "w2")
    weights = onnx.numpy_helper.to_array(stored).copy()
    weights[10:] = 0  # constant maps, which are no masks
    stored.CopyFrom(onnx.numpy_helper.from_array(weights, "w2"))
    feeds = {"x": IMAGE, "target": np.asarray([-1, 3], np.int64)}
    maps = []
    for budget in (None, 20):
        compiled = compile(model, onnxcam.score_cam(budget=budget))
        session = onnxruntime.InferenceSession(compiled.bytes, providers=["CPUExecutionProvider"])
        maps.append(session.run(["saliency_map"], feeds)[0])
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-6)


def test_a_tolerance_is_refused() -> None:
    with pytest.raises(CompileError, match="with a budget, but not with a tolerance"):
        compile(filled(MANY), onnxcam.score_cam(tolerance=0.02))
