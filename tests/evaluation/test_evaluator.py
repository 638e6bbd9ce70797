"""Evaluator: its rows are the numbers of separate calls, errors are rows, and nothing is run twice."""

import pickle
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from small_models import CLASSIFIER, TWO_SCALES, filled

from onnxcam import Explainer, Preset, grad_cam, rise, score_cam
from onnxcam.errors import InferenceError, ModelError, OptionError
from onnxcam.evaluation.dataset import DataItem, LabelledBox
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.model_request import ModelRequest, identify
from onnxcam.evaluation.options import EvaluationOptions
from onnxcam.evaluation.rows import ItemResult, Row
from onnxcam.metrics.baselines import BASELINES
from onnxcam.metrics.metric import Need
from onnxcam.metrics.registry import METRICS, measure, metric_named
from onnxcam.network.ranked_scorer import RankedScorer

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
OPENING: dict[str, Any] = {"providers": ["cpu"], "preset": PLAIN, "batch": 8}
NAMES = ("cat", "dog", "owl", "hen", "eel")
METHODS = ("score-cam", "grad-cam", "layer-cam")
PROTOCOLS = [f"{m.name}:{p}" for m in METRICS.values() for p in m.protocols or ("",)]
ALL_PROTOCOLS = tuple(name.rstrip(":") for name in PROTOCOLS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(filled(CLASSIFIER), path)
    return path


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> DataItem:
    return picture_item(tmp_path_factory.mktemp("pictures"), 0)


def picture_item(folder: Path, seed: int, **fields: Any) -> DataItem:
    path = folder / f"p{seed}.png"
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 30, 3)).astype(np.uint8)).save(path)
    boxes = (LabelledBox((4, 6, 20, 30)),)
    return DataItem(path, path.name, **{"boxes": boxes, **fields})


@contextmanager
def evaluator(model: Path | bytes, arguments: Mapping[str, Any] = OPENING, **options: Any) -> Iterator[Evaluator]:
    options = {"methods": METHODS, "metrics": ["average-drop", "deletion"], "baselines": (), **options}
    with Evaluator(ModelRequest(model, arguments), EvaluationOptions(**options)) as one:
        yield one


def rows_of(result: ItemResult) -> dict[tuple[str, str, str], Row]:
    return {(row.key.method, row.key.metric, row.key.protocol): row for row in result.rows}


def metric_key(method: str, name: str) -> tuple[str, str, str]:
    metric, protocol = metric_named(name)
    return method, metric.name, protocol or ""


def test_every_value_is_that_of_separate_calls(model: Path, item: DataItem) -> None:
    with evaluator(model, metrics=ALL_PROTOCOLS, seed=3, step=7) as one:
        rows = rows_of(one.evaluate(item, "sha"))
    assert len(rows) == len(METHODS) * len(ALL_PROTOCOLS)
    for method in METHODS:
        with Explainer(model, method, **OPENING) as alone:
            saliency = alone(item.path)
            for name in ALL_PROTOCOLS:
                box = item.boxes[0].box if Need.BOX in metric_named(name)[0].needs else None
                (expected,) = alone.measure(saliency, name, box=box, seed=3, step=7).values()
                row = rows[metric_key(method, name)]
                assert (row.value is None, row.reason) == (expected.value is None, expected.reason), name
                if expected.value is not None:
                    assert row.value == pytest.approx(expected.value, abs=1e-6), name
                if expected.curve is not None:
                    np.testing.assert_allclose(row.curve, expected.curve, atol=1e-6)
                assert row.passes == expected.passes, "those that the metric takes alone"


def test_baselines_are_measured_as_maps_that_every_image_has(model: Path, item: DataItem) -> None:
    with evaluator(model, metrics=ALL_PROTOCOLS, baselines=tuple(BASELINES), methods=["grad-cam"]) as one:
        rows = rows_of(one.evaluate(item, "sha"))
    with Explainer(model, **OPENING) as alone:
        scorer = alone.scorer(item.path)
        for name, make in BASELINES.items():
            for metric in ALL_PROTOCOLS:
                values = make(scorer.size)
                expected = measure(
                    metric,
                    values,
                    scorer,
                    box=item.boxes[0].box,
                    placement=scorer.placement,
                    explain=lambda _, v=values: v,
                )
                row = rows[metric_key(name, metric)]
                assert row.reason == expected.reason
                assert row.value == (
                    expected.value if expected.value is None else pytest.approx(expected.value, abs=1e-6)
                )
                assert (row.method_passes, row.method_seconds) == (0, 0)


def test_no_changed_picture_goes_through_the_model_twice(
    model: Path, item: DataItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    score = RankedScorer.score

    def counted(self: RankedScorer, feeds: Any, rows: Any, count: int, *rest: Any) -> Any:
        seen.append(count)
        return score(self, feeds, rows, count, *rest)

    monkeypatch.setattr(RankedScorer, "score", counted)
    three = ["average-drop", "average-increase", "average-gain"]
    with evaluator(model, metrics=three, baselines=["ones"]) as one:
        one.evaluate(item, "sha")
    assert seen == [1 + len(METHODS)], "the whole picture, which is the map of ones too, and one a map, in one run"
    seen.clear()
    with evaluator(model, metrics=["faithfulness-correlation"]) as one:
        one.evaluate(item, "sha")
    assert sorted(seen) == [1, 200], "the whole picture, and the subsets, which are the same for all maps"
    seen.clear()
    with evaluator(model, metrics=["deletion", "insertion:zero"], step=16 * 12) as one:
        one.evaluate(item, "sha")
    assert sum(seen) == 2, "curves of one step look at the whole picture and at nothing of it"


def test_the_forward_pass_of_the_picture_is_shared(
    model: Path, item: DataItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxcam.network.scorer import Network

    runs: list[int] = []
    forward = Network.forward
    with evaluator(model, metrics=["average-drop"]) as one:
        monkeypatch.setattr(Network, "forward", lambda self, feeds: (runs.append(1), forward(self, feeds))[1])
        one.evaluate(item, "sha")
    assert len(runs) == 1, "for three methods and the Scorer"


def test_only_what_is_missing_is_computed(model: Path, item: DataItem) -> None:
    with evaluator(model, baselines=["gaussian"]) as one:
        keys = one.keys(item, "sha")
        full = one.evaluate(item, "sha")
        assert tuple(row.key for row in full.rows) == keys
        chosen = {key for key in keys if key.method == "layer-cam" and key.metric == "deletion"}
        part = one.evaluate(item, "sha", only=chosen)
        assert {row.key for row in part.rows} == chosen
        assert rows_of(part)["layer-cam", "deletion", "zero"].value == pytest.approx(
            rows_of(full)["layer-cam", "deletion", "zero"].value, abs=1e-6
        )
        assert one.evaluate(item, "sha", only=()).rows == ()


def test_a_map_alone_is_made_without_a_metric(model: Path, item: DataItem, monkeypatch: pytest.MonkeyPatch) -> None:
    with evaluator(model, keep_maps=True) as one:
        full = one.evaluate(item, "sha")
        monkeypatch.setattr("onnxcam.evaluation.map_rows.measure", None)
        alone = one.evaluate(item, "sha", only=[full.map_keys["layer-cam"]])
    assert (alone.rows, set(alone.maps)) == ((), {"layer-cam"})
    assert alone.map_keys == {"layer-cam": full.map_keys["layer-cam"]}
    np.testing.assert_allclose(alone.maps["layer-cam"], full.maps["layer-cam"], atol=1e-6)


def test_a_label_of_the_data_is_explained(model: Path, item: DataItem) -> None:
    labelled = {**OPENING, "labels": NAMES}
    with (
        evaluator(model, labelled, target="label", methods=["grad-cam"]) as one,
        Explainer(model, "grad-cam", **labelled) as e,
    ):
        for label, index in ((3, 3), ("hen", 3), ("HEN", 3), (0, 0)):
            (drop, _) = one.evaluate(replace(item, label=label), "sha").rows
            assert (drop.target_index, drop.target_name, drop.label) == (index, NAMES[index], label)
            (expected,) = e.measure(e(item.path, index), "average-drop").values()
            assert drop.value == pytest.approx(expected.value, abs=1e-6)
        of_boxes = replace(item, label=None, boxes=(LabelledBox((0, 0, 9, 9), "owl"), LabelledBox((3, 3, 9, 9), "owl")))
        assert one.evaluate(of_boxes, "sha").rows[0].target_name == "owl", "the class that all boxes are of"


def test_the_data_sets_numbers_name_the_classes_of_a_model_without_labels(model: Path, item: DataItem) -> None:
    with evaluator(model, target="label", methods=["grad-cam"], classes=dict(enumerate(NAMES))) as one:
        assert one.evaluate(replace(item, label="owl"), "sha").rows[0].target_index == 2
        (row,) = one.evaluate(replace(item, label="owk"), "sha").rows
        assert row.error is not None
        assert "owl" in row.error
        assert "--labels FILE (or --labels imagenet)" in row.error
    with evaluator(model, target="label", methods=["grad-cam"]) as one:
        (row,) = one.evaluate(replace(item, label="owl"), "sha").rows
        assert row.error == (
            "the model has no labels, so 'owl' names no class of it; give --labels FILE (or --labels imagenet), or "
            "label the pictures with class numbers"
        )
    with evaluator(model, {**OPENING, "labels": NAMES[::-1]}, target="label", classes=dict(enumerate(NAMES))) as one:
        row, *_ = one.evaluate(replace(item, label="cat"), "sha").rows
        assert row.target_index == 4, "a model's own labels come first"


def test_a_single_output_stands_for_two_classes(item: DataItem) -> None:
    one_number = CLASSIFIER.replace("float[N,5] logits", "float[N,1] logits").replace(
        "float[5,8] w3, float[5] b3", "float[1,8] w3, float[1] b3"
    )
    options: dict[str, Any] = {"target": "label", "methods": ["grad-cam"], "classes": {0: "sound", 1: "cracked"}}
    with evaluator(filled(one_number).SerializeToString(), **options) as one:
        rows = {
            label: one.evaluate(replace(item, label=label), "sha").rows[0]
            for label in (0, 1, "sound", "cracked", "Negative", "positive")
        }
    assert [(row.target_index, row.target_name) for row in rows.values()] == [(0, "negative"), (1, "positive")] * 3
    assert rows[0].probability == pytest.approx(1 - rows[1].probability, abs=1e-6)


@pytest.mark.parametrize(
    ("label", "boxes", "says"),
    [
        ("hem", (), "did you mean hen"),
        (7, (), "the model has the classes 0 to 4"),
        (None, (), "names no class of this picture"),
        (None, (LabelledBox((0, 0, 9, 9), "cat"), LabelledBox((0, 0, 9, 9), "dog")), "of several (cat, dog)"),
    ],
)
def test_a_label_that_does_not_match_is_the_error_of_each_source(
    model: Path, item: DataItem, label: Any, boxes: Any, says: str
) -> None:
    with evaluator(model, {**OPENING, "labels": NAMES}, target="label", baselines=["gaussian"]) as one:
        rows = one.evaluate(replace(item, label=label, boxes=boxes), "sha").rows
    assert [row.key.method for row in rows] == [*METHODS, "gaussian"]
    for row in rows:
        assert row.error is not None
        assert says in row.error
        assert (row.key.metric, row.value, row.target_index) == ("", None, None)


def test_a_broken_picture_is_a_row_for_each_source_and_names_its_key(model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with evaluator(model, baselines=["ones"]) as one:
        for name in ("broken.png", "gone.png"):
            rows = one.evaluate(DataItem(tmp_path / name, f"some/{name}"), "sha").rows
            assert [row.key.method for row in rows] == [*METHODS, "ones"]
            for row in rows:
                assert row.error is not None
                assert str(tmp_path) not in row.error, "where the data lies is not in rows"


def test_a_method_without_a_map_has_its_error_and_the_others_their_rows(tmp_path: Path) -> None:
    """Of one colour, without padding, every feature map is constant; RISE needs no feature map."""
    Image.new("RGB", (30, 40), (90, 90, 90)).save(tmp_path / "grey.png")
    unpadded = filled(CLASSIFIER.replace("pads=[1,1,1,1], ", "")).SerializeToString()
    with evaluator(unpadded, methods=[score_cam(), rise(masks=8)]) as one:
        first, *others = one.evaluate(DataItem(tmp_path / "grey.png", "grey.png"), "sha").rows
    assert "constant" in str(first.error)
    assert (first.key.method, first.key.metric) == ("score-cam", "")
    assert [row.key.method for row in others] == ['rise {"masks":8}'] * 2
    assert all(row.error is None for row in others)


def test_a_method_without_a_gradient_rule_has_its_error(item: DataItem) -> None:
    pooled = CLASSIFIER.replace("pooled = GlobalAveragePool (features)", "pooled = ReduceProd <axes=[2,3]> (features)")
    with evaluator(filled(pooled).SerializeToString(), methods=["grad-cam", "score-cam"]) as one:
        missing, *others = one.evaluate(item, "sha").rows
    assert "ReduceProd" in str(missing.error)
    assert (missing.key.method, missing.key.metric) == ("grad-cam", "")
    assert [(row.key.method, row.error) for row in others] == [("score-cam", None)] * 2


def test_a_method_that_does_not_go_with_the_model_has_its_error(model: Path, item: DataItem) -> None:
    layers = {**OPENING, "layer": ["r1", "features"]}
    for methods in (["rise", "grad-cam"], ["grad-cam", "rise"]):
        with evaluator(model, layers, methods=methods) as one:
            rows = rows_of(one.evaluate(item, "sha"))
        assert "reads no layer" in str(rows["rise", "", ""].error)
        assert rows["grad-cam", "deletion", "zero"].value is not None
    with pytest.raises(OptionError, match="reads no layer"), evaluator(model, layers, methods=["rise"]):
        pass


def test_what_makes_every_picture_fail_is_raised(model: Path, item: DataItem) -> None:
    with pytest.raises(ModelError), evaluator(b"no model"):
        pass
    with pytest.raises(OptionError, match="192"), evaluator(model, step=193):
        pass
    with evaluator(model) as one:
        pass
    with pytest.raises(InferenceError, match="closed"):
        one.evaluate(item, "sha")


def test_boxes_are_those_of_the_targets_class(model: Path, item: DataItem) -> None:
    cat, dog = (0.0, 0.0, 12.0, 16.0), (10.0, 20.0, 28.0, 38.0)
    two = replace(item, label="cat", boxes=(LabelledBox(cat, "cat"), LabelledBox(dog, 1), LabelledBox(dog, "gnu")))
    options: dict[str, Any] = {"target": "label", "methods": ["grad-cam"], "metrics": ["energy-pointing-game"]}
    labelled = {**OPENING, "labels": NAMES}
    with evaluator(model, labelled, **options) as one, Explainer(model, "grad-cam", **labelled) as alone:
        for label, box in (("cat", cat), ("dog", dog), (1, dog)):
            (row,) = one.evaluate(replace(two, label=label), "sha").rows
            (expected,) = alone.measure(alone(item.path, label), "energy-pointing-game", box=box).values()
            assert row.value == pytest.approx(expected.value, abs=1e-6)
        (row,) = one.evaluate(replace(two, label="owl"), "sha").rows
        assert row.value is None
        assert row.reason == "no box of this picture is of 'owl'; they are of cat, 1, gnu"
        (row,) = one.evaluate(replace(two, label="owl", boxes=()), "sha").rows
        assert row.reason == "the data has no box of this picture"
        (row,) = one.evaluate(replace(two, label="owl", boxes=(LabelledBox(cat), LabelledBox(dog))), "sha").rows
        (expected,) = alone.measure(alone(item.path, "owl"), "energy-pointing-game", box=[cat, dog]).values()
        assert row.value == pytest.approx(expected.value, abs=1e-6), "boxes without labels all count"


def test_a_box_that_is_none_is_the_reason_of_its_metric(model: Path, item: DataItem) -> None:
    broken = replace(item, label=np.int64(1), boxes=(LabelledBox((0, 0, np.nan, 9)),))
    with evaluator(model, target="label", methods=["grad-cam"], metrics=["pointing-game", "deletion"]) as one:
        pointed, deleted = one.evaluate(broken, "sha").rows
        assert one.keys(broken, "sha") == one.keys(replace(broken, label=1), "sha")
    assert (pointed.value, "a box is left, top" in str(pointed.reason)) == (None, True)
    assert deleted.value is not None


def test_a_detectors_best_box_of_the_class_is_explained(tmp_path: Path) -> None:
    labelled = {**OPENING, "labels": ["a", "b", "c", "d", "e", "f"]}
    detector = filled(TWO_SCALES).SerializeToString()
    item = picture_item(tmp_path, 1, boxes=(LabelledBox((0, 0, 15, 20), "c"), LabelledBox((9, 9, 29, 39), "f")))
    metrics = ["energy-pointing-game", "deletion"]
    for target, label in (("label", "f"), ("prediction", None)):
        with evaluator(detector, labelled, methods=["grad-cam"], metrics=metrics, target=target) as one:
            energy, deleted = one.evaluate(replace(item, label=label), "sha").rows
        with Explainer(detector, "grad-cam", **labelled) as alone:
            saliency = alone(item.path, label)
            box = (
                next(b.box for b in item.boxes if str(saliency.target.name).startswith(f"{b.label} in box"))
                if label
                else None
            )
            assert energy.target_name == saliency.target.name
            expected = alone.measure(saliency, *metrics, target=label, box=box or item.boxes[0].box)
            assert deleted.value == pytest.approx(expected["deletion"].value, abs=1e-6)
            if label is not None:
                assert energy.value == pytest.approx(expected["energy-pointing-game"].value, abs=1e-6)


def test_kept_maps_are_those_of_the_methods(model: Path, item: DataItem) -> None:
    with evaluator(
        model, keep_maps=True, methods=["grad-cam", ("score-cam", {"budget": 4})], baselines=["ones"]
    ) as one:
        result = one.evaluate(item, "sha")
    with Explainer(model, "grad-cam", **OPENING) as alone:
        expected = alone(item.path)
    assert list(result.maps) == ["grad-cam", "score-cam (budget 4)"]
    np.testing.assert_array_equal(result.maps["grad-cam"], expected.map)
    assert result.placements["grad-cam"] == expected.placement


def test_request_options_and_results_travel_to_another_process(model: Path, item: DataItem) -> None:
    request = ModelRequest(model, {**OPENING, "labels": NAMES})
    options = EvaluationOptions([("score-cam", {"budget": 4}), grad_cam()], ["all"], target="label", keep_maps=True)
    sent, same = pickle.loads(pickle.dumps((request, options)))
    labelled = replace(item, label=1)
    with Evaluator(request, options) as here, Evaluator(sent, same, here.identity) as there:
        first, second = here.evaluate(labelled, "sha"), pickle.loads(pickle.dumps(there.evaluate(labelled, "sha")))
    assert [row.key for row in first.rows] == [row.key for row in second.rows]
    assert [row.value for row in first.rows] == [row.value for row in second.rows]
    np.testing.assert_array_equal(first.maps["grad-cam"], second.maps["grad-cam"])


def test_a_file_that_is_another_one_than_the_run_began_with_is_refused(model: Path) -> None:
    request, options = ModelRequest(str(model), OPENING), EvaluationOptions(["grad-cam"], ["sparseness"])
    identity = identify(request)
    onnx.save(filled(CLASSIFIER, seed=1), model)
    with pytest.raises(InferenceError, match="its file changed since the run began"):
        Evaluator(request, options, identity)


def test_threads_share_an_evaluator(model: Path, tmp_path: Path) -> None:
    items = [picture_item(tmp_path, seed) for seed in range(4)]
    with evaluator(model, metrics=["average-drop", "road", "insertion", "adcc"]) as one:
        alone = [one.evaluate(item, "sha") for item in items]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda item: one.evaluate(item, "sha"), items))
    for first, second in zip(alone, together, strict=True):
        assert [row.key for row in first.rows] == [row.key for row in second.rows]
        for a, b in zip(first.rows, second.rows, strict=True):
            assert a.value == (b.value if b.value is None else pytest.approx(b.value, abs=1e-6))
