"""Methods with a Loop: the compiled file against an Explainer, for several targets and every kind of input."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import CLASSIFIER, PIXELS, TRANSFORMER, filled

import onnxcam
from onnxcam.compiler.compiled import Compiled, compile
from onnxcam.compiler.loop_graph import LoopGraph, State
from onnxcam.errors import CompileError, UndefinedSaliency
from onnxcam.inputs.presets import PRESETS
from onnxcam.methods.fills import Fill
from onnxcam.surgeon.ir import Value

IMAGE = np.random.default_rng(3).standard_normal((1, 3, 16, 12)).astype(np.float32)
SCORE_CAMS: list[Mapping[str, Any]] = [
    {},
    {"convention": "destructive"},
    {"variant": "paper"},
    {"variant": "paper", "convention": "destructive"},
    {"fill": "mean"},
    {"fill": "black"},
    {"fill": "blur(sigma=2)"},
]


def run(compiled: Compiled, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(compiled.bytes, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def targets(*classes: int) -> np.ndarray:
    return np.asarray(classes, np.int64)


@pytest.mark.parametrize("options", SCORE_CAMS, ids=str)
def test_score_cam_of_several_targets_is_that_of_an_explainer(options: Mapping[str, Any]) -> None:
    model, method = filled(CLASSIFIER), onnxcam.score_cam(**options)
    compiled = compile(model, method, preset=PRESETS["imagenet"])
    results = run(compiled, {"x": IMAGE, "target": targets(-1, 2, 4, 0)})
    with onnxcam.Explainer(model, method, preset=PRESETS["imagenet"], providers=["cpu"]) as explain:
        expected = explain.explain(IMAGE[0], [None, 2, 4, 0])
    for i, saliency in enumerate(expected):
        np.testing.assert_allclose(results["saliency_map"][i], saliency.map, atol=1e-6)
        assert results["saliency_target"][i] == saliency.target.index
        ends = (saliency.raw.min(), saliency.raw.max())
        np.testing.assert_allclose(results["saliency_range"][i], ends, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("text", "image"), [(TRANSFORMER, (1, 3, 12, 12)), (PIXELS, (1, 16, 12, 3))])
def test_score_cam_of_tokens_and_of_bytes_is_that_of_an_explainer(text: str, image: tuple[int, ...]) -> None:
    model, method = filled(text), onnxcam.score_cam(variant="paper")  # probabilities of such bytes are 0 or 1
    pixels = np.random.default_rng(4).integers(0, 256, image)
    compiled = compile(model, method)
    feed = pixels.astype(compiled.interface.inputs[0].dtype)
    results = run(compiled, {"x": feed, "target": targets(-1, 3)})
    canonical = (pixels[0].transpose(2, 0, 1) if text is PIXELS else pixels[0]).astype(np.float32)
    with onnxcam.Explainer(model, method, providers=["cpu"]) as explain:
        for i, saliency in enumerate(explain.explain(canonical, [None, 3])):
            np.testing.assert_allclose(results["saliency_map"][i], saliency.map, atol=1e-6)


LONG: list[onnxcam.Method] = [
    onnxcam.rise(masks=37, cells=4),
    onnxcam.rise(masks=30, cells=5, probability=0.3, seed=2, fill="mean"),
    onnxcam.opti_cam(max_iter=5),
    onnxcam.opti_cam(max_iter=4, nb_premises_at_startup=3, convention="destructive", fill="mean"),
    onnxcam.opti_cam(max_iter=5, score="probability", bounds=(0, 1), tolerance=1e-4),
    onnxcam.mask(max_iter=5, cell=3),
    onnxcam.mask(max_iter=4, convention="constructive", jitter=20, beta=2, fill="zero"),
]


@pytest.mark.parametrize("method", LONG, ids=lambda m: f"{m.name}-{m.options.get('seed')}-{m.options['fill']}")
def test_random_masks_and_searches_of_several_targets_are_those_of_an_explainer(method: onnxcam.Method) -> None:
    model = filled(CLASSIFIER)
    results = run(compile(model, method), {"x": IMAGE, "target": targets(-1, 2, 4)})
    with onnxcam.Explainer(model, method, providers=["cpu"]) as explain:
        for i, saliency in enumerate(explain.explain(IMAGE[0], [None, 2, 4])):
            np.testing.assert_allclose(results["saliency_map"][i], saliency.map, atol=1e-5)
            assert results["saliency_target"][i] == saliency.target.index


def test_a_long_search_reaches_the_score_of_an_explainers() -> None:
    model, method = filled(CLASSIFIER), onnxcam.opti_cam()
    original = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = run(compile(model, method), {"x": IMAGE, "target": targets(-1, 2)})
    with onnxcam.Explainer(model, method, providers=["cpu"]) as explain:
        for i, saliency in enumerate(explain.explain(IMAGE[0], [None, 2])):
            reached, expected = (
                original.run(["logits"], {"x": IMAGE * m})[0][0, saliency.target.index]
                for m in (results["saliency_map"][i], saliency.map)
            )
            assert abs(reached - expected) <= 0.01 * abs(expected)


@pytest.mark.parametrize("name", ["opti-cam", "mask", "rise"])
def test_where_an_explainer_has_no_map_the_file_gives_zeros(name: str) -> None:
    model = filled(CLASSIFIER)
    compiled = compile(model, name)
    dark = np.zeros_like(IMAGE)  # every mask keeps the same, and no gradient tells one from another
    assert not run(compiled, {"x": dark, "target": targets(1, 2)})["saliency_map"].any()
    with onnxcam.Explainer(model, name, providers=["cpu"]) as explain, pytest.raises(UndefinedSaliency):
        explain(dark[0], 1)


def test_the_models_own_outputs_are_those_of_the_unmasked_image() -> None:
    model = filled(CLASSIFIER.replace("=> (float[N,5] logits)", "=> (float[N,5] logits, float[N,8] flat)"))
    original = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = run(compile(model, "score-cam", target=1), {"x": IMAGE})
    assert results["saliency_target"].tolist() == [1]
    for name in ("logits", "flat"):
        np.testing.assert_allclose(results[name], original.run([name], {"x": IMAGE})[0], rtol=1e-5, atol=1e-6)


def test_no_map_is_zeros(classifier: onnx.ModelProto) -> None:
    compiled = compile(classifier, "score-cam")
    without_class = run(compiled, {"x": IMAGE, "target": targets(99, 2)})
    assert not without_class["saliency_map"][0].any(), "the model has no such class"
    assert without_class["saliency_map"][1].max() == 1
    overflow = run(compiled, {"x": np.full_like(IMAGE, np.inf), "target": targets(1)})
    assert not overflow["saliency_map"].any(), "the features hold no numbers"
    assert not np.ptp(overflow["saliency_range"])


def test_the_weights_are_in_the_file_once_and_the_loop_reads_none_from_outside(classifier: onnx.ModelProto) -> None:
    proto = onnx.load_from_string(compile(classifier, "score-cam").bytes)
    (loop,) = (n for n in proto.graph.node if n.op_type == "Loop")
    inside = {t.name: onnx.numpy_helper.to_array(t) for t in loop.attribute[0].g.initializer}
    outside = [onnx.numpy_helper.to_array(t) for t in proto.graph.initializer]
    for weight in classifier.graph.initializer:
        array = onnx.numpy_helper.to_array(weight)
        assert sum(np.array_equal(array, each) for each in inside.values()) == 1
        assert not any(np.array_equal(array, each) for each in outside)
    assert not {n.op_type for n in loop.attribute[0].g.node} & {"If", "Loop"}


def test_names_of_the_model_that_collide_are_resolved() -> None:
    text = CLASSIFIER.replace("features", "saliency_map").replace("r1", "target").replace("logits", "saliency_range")
    model = filled(text.replace("w3", "saliency_target"))
    compiled = compile(model, "score-cam")
    assert (compiled.interface.map, compiled.interface.range) == ("saliency_map", "saliency_range_2")
    results = run(compiled, {"x": IMAGE, "target": targets(-1)})
    assert results["saliency_map"].shape == (1, 16, 12)
    assert results["saliency_range"].shape == (1, 5), "the model's own output keeps its name"


def test_what_no_loop_can_do_is_refused(classifier: onnx.ModelProto) -> None:
    half = Fill("half", lambda image, preset: image / 2)
    with pytest.raises(CompileError, match=r"the fill 'half' cannot be compiled; what can: zero, black, mean, blur"):
        compile(classifier, onnxcam.score_cam(fill=half))


@pytest.mark.parametrize(
    "options", [("score_cam", {}), ("score_cam", {"budget": 4}), ("opti_cam", {}), ("mask", {}), ("rise", {})], ids=str
)
def test_a_file_of_a_small_model_with_large_images_grows_by_little(options: tuple[str, dict[str, Any]]) -> None:
    name, chosen = options
    model = filled(CLASSIFIER.replace("16,12", "512,512"))
    compiled = compile(model, getattr(onnxcam, name)(**chosen))
    assert len(compiled.bytes) <= len(model.SerializeToString()) + 64 * 1024


def test_states_of_one_initial_value_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    loops, close = list[list[str | None]](), LoopGraph.close

    def recorded(loop: LoopGraph, goes_on: Value) -> dict[State, Value]:
        loops.append([state.now.name for state, _ in loop.states])
        return close(loop, goes_on)

    monkeypatch.setattr(LoopGraph, "close", recorded)
    compile(filled(CLASSIFIER), "opti-cam")
    assert loops
    for names in loops:
        assert len(set(names)) == len(names) > 5
