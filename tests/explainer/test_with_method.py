"""Explainers of several methods share one opened model, and their maps are those of Explainers of their own."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from small_models import CLASSIFIER, ENSEMBLE, PIXELS, SCALED_BY_BATCH, TRANSFORMER, TWO_SCALES, filled
from tiny import small_method

from onnxcam import Box, Element, Explainer, Preset, Saliency, grad_cam, opti_cam, rise, score_cam
from onnxcam.errors import InferenceError, OnnxCamError, OptionError, UndefinedSaliency
from onnxcam.explainer import heads
from onnxcam.explainer.together import explain_together
from onnxcam.methods import METHODS
from onnxcam.methods.blocks import Method
from onnxcam.methods.feature_cams import ablation_cam, eigen_cam, recipro_cam
from onnxcam.methods.fills import blur
from onnxcam.methods.grad_cam import grad_cam_plus_plus, hires_cam, layer_cam, xgrad_cam

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PICTURE = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
OPTIONS: dict[str, Any] = {"providers": ["cpu"], "preset": PLAIN, "batch": 4, "threads": 1}


def opened(text: str, method: Method, **options: Any) -> Explainer:
    return Explainer(filled(text), method, **{**OPTIONS, **options})


def assert_same(one: Saliency, other: Saliency) -> None:
    np.testing.assert_array_equal(one.map, other.map)
    np.testing.assert_array_equal(one.raw, other.raw)
    assert one.target == other.target
    for field in ("layer", "method", "options", "fill", "forwards", "steps", "notes", "channels", "features"):
        assert getattr(one.provenance, field) == getattr(other.provenance, field), field


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each model that is opened as a whole."""
    calls: list[Any] = []
    original = heads.open_model
    monkeypatch.setattr(heads, "open_model", lambda *args: calls.append(args) or original(*args))
    return calls


def test_every_method_has_the_map_that_it_has_alone(openings: list[Any]) -> None:
    methods = [small_method(name) for name in METHODS]
    with opened(CLASSIFIER, methods[0]) as first:
        others = [first.with_method(method) for method in methods[1:]]
        assert len(openings) == 1, "the model is opened once for all methods"
        together = explain_together([first, *others], PICTURE, [1, 3])
        for method, explained in zip(methods, together.results, strict=True):
            with opened(CLASSIFIER, method) as alone:
                for one, other in zip(explained, alone.explain(PICTURE, [1, 3]), strict=True):
                    assert_same(one, other)
        for each in others:
            each.close()


@pytest.mark.parametrize(
    ("text", "target", "options"),
    [
        (PIXELS, 2, {"preset": "raw"}),
        (SCALED_BY_BATCH, 1, {"batch": None}),
        (TWO_SCALES, Box(3), {}),
        (CLASSIFIER, Element((2,)), {}),
        (ENSEMBLE, 1, {}),
        (CLASSIFIER, 2, {"layer": ["r1", "features"]}),
    ],
    ids=["bytes", "fixed batch", "detector of two scales", "another head", "ensemble", "fused layers"],
)
def test_maps_are_the_same_on_any_kind_of_model(text: str, target: Any, options: dict[str, Any]) -> None:
    methods = [score_cam(), grad_cam(), layer_cam(), opti_cam(max_iter=2), score_cam(fill="mean"), eigen_cam()]
    with opened(text, methods[0], **options) as first:
        explainers = [first, *(first.with_method(method) for method in methods[1:])]
        together = explain_together(explainers, PICTURE, target)
        for method, explained in zip(methods, together.results, strict=True):
            with opened(text, method, **options) as alone:
                try:
                    expected = alone.explain(PICTURE, target)
                except UndefinedSaliency as error:
                    assert str(explained) == str(error)
                    continue
            assert not isinstance(explained, OnnxCamError)
            assert_same(explained[0], expected[0])
        for each in explainers[1:]:
            each.close()


def test_each_explainer_works_by_itself_too() -> None:
    with opened(CLASSIFIER, score_cam()) as first, first.with_method("grad-cam") as second:
        with opened(CLASSIFIER, grad_cam()) as alone:
            assert_same(second(PICTURE, 2), alone(PICTURE, 2))
        assert second.method == grad_cam()
        assert first.method == score_cam()
        assert [s.target.index for s in second.batch([PICTURE, PICTURE], [0, 1])] == [0, 1]


def test_behind_a_class_token_a_method_that_needs_every_cell_gets_its_own_features(openings: list[Any]) -> None:
    """Score-CAM reads the last tensor of patches; the gradient there is zero, so Grad-CAM takes an earlier one."""
    with opened(TRANSFORMER, score_cam()) as first, first.with_method(grad_cam()) as second:
        assert first.anatomy.features.tensor != second.anatomy.features.tensor
        assert len(openings) == 2
        with first.with_method(layer_cam()) as third, first.with_method(eigen_cam()) as fourth:
            assert third.anatomy.features.tensor == second.anatomy.features.tensor
            assert fourth.anatomy.features.tensor == first.anatomy.features.tensor
        assert len(openings) == 2, "each feature map is opened once"


def test_the_forward_pass_and_the_gradient_are_made_once() -> None:
    methods = [grad_cam(), grad_cam_plus_plus(), layer_cam(), hires_cam(), xgrad_cam(), eigen_cam()]
    with opened(CLASSIFIER, methods[0]) as first:
        explainers = [first, *(first.with_method(method) for method in methods[1:])]
        assert explain_together(explainers, PICTURE, 2).passes == 1, "the forward pass is the step"
        assert explain_together(explainers, PICTURE, [1, 2]).passes == 3, "a step for each target"
        for each in explainers[1:]:
            each.close()


def test_the_raw_features_are_read_once_for_methods_that_run_the_tail() -> None:
    with opened(CLASSIFIER, ablation_cam()) as first, first.with_method(recipro_cam()) as second:
        together = explain_together([first, second], PICTURE, 2)
        alone = sum(s.provenance.forwards for explained in together.results for s in explained)
        assert together.passes == alone - 2, "the forward pass, and the features in the model's layout"


def test_a_method_without_a_map_has_the_error_in_its_place() -> None:
    """Of one colour, without padding, every feature map is constant; RISE needs no feature map."""
    unpadded, grey = CLASSIFIER.replace("pads=[1,1,1,1], ", ""), np.full((40, 30, 3), 90, np.uint8)
    with opened(unpadded, score_cam()) as first, first.with_method(rise(masks=8)) as second:
        undefined, explained = explain_together([first, second], grey, 1).results
    assert isinstance(undefined, UndefinedSaliency)
    assert isinstance(explained, list)


def test_a_target_that_the_model_does_not_have_is_raised() -> None:
    with opened(CLASSIFIER, score_cam()) as first, pytest.raises(OnnxCamError, match="out of range"):
        explain_together([first], PICTURE, 99)


def test_the_last_explainer_that_is_closed_frees_the_sessions() -> None:
    first = opened(CLASSIFIER, score_cam())
    second = first.with_method(grad_cam())
    first.close()
    first.close()
    with pytest.raises(InferenceError, match="closed"):
        first(PICTURE, 1)
    with pytest.raises(InferenceError, match="closed"):
        first.with_method(grad_cam())
    assert second(PICTURE, 1).target.index == 1
    third = second.with_method(score_cam(fill=blur(2)))
    second.close()
    assert third(PICTURE, 1).target.index == 1
    network = third._heads.first.network
    third.close()
    with pytest.raises(InferenceError):
        network.raw_features({})
    with pytest.raises(InferenceError, match="closed"):
        third(PICTURE, 1)


def test_threads_may_make_and_close_explainers_while_others_explain() -> None:
    methods = [score_cam(), grad_cam(), rise(masks=8), score_cam(fill="mean"), layer_cam()] * 4

    def explain(method: Method) -> Saliency:
        with first.with_method(method) as each:
            return each(PICTURE, 2)

    with opened(CLASSIFIER, score_cam()) as first, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(explain, methods))
        assert first(PICTURE, 2).target.index == 2
    for method, saliency in zip(methods[:5], results[:5], strict=True):
        with opened(CLASSIFIER, method) as alone:
            assert_same(saliency, alone(PICTURE, 2))


def test_a_method_that_reads_no_layer_is_refused_for_several_layers() -> None:
    with (
        opened(CLASSIFIER, score_cam(), layer=["r1", "features"]) as first,
        pytest.raises(OptionError, match="reads no layer"),
    ):
        first.with_method(rise())


def test_explainers_of_different_openings_are_refused() -> None:
    with (
        opened(CLASSIFIER, score_cam()) as one,
        opened(CLASSIFIER, grad_cam()) as other,
        pytest.raises(OptionError, match="with_method"),
    ):
        explain_together([one, other], PICTURE, 1)
