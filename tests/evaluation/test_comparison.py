"""compare(): the maps are those of each method alone, and only one thing beside the methods may be several."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from small_models import CLASSIFIER, filled

from onnxcam import Explainer, Preset, eigen_cam, grad_cam, layer_cam, rise, score_cam
from onnxcam.errors import OnnxCamError, OptionError, UndefinedSaliency
from onnxcam.evaluation.comparison import _class_notes, compare
from onnxcam.outputs.comparison import Axis, Best, ComparedMethod, comparison_record

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PICTURES = [np.random.default_rng(i).integers(0, 256, (40, 30, 3)).astype(np.uint8) for i in range(3)]
METHODS = [score_cam(), grad_cam(), layer_cam()]


def opened(seed: int = 0, **options: Any) -> Explainer:
    return Explainer(filled(CLASSIFIER, seed), **{"providers": ["cpu"], "preset": PLAIN, "batch": 8, **options})


@pytest.fixture
def explainer() -> Iterator[Explainer]:
    with opened() as one:
        yield one


def test_the_maps_are_those_of_each_method_alone(explainer: Explainer) -> None:
    comparison = compare(explainer, PICTURES[0], METHODS, [1, 3])
    assert comparison.axis is Axis.TARGETS
    for target, row in zip((1, 3), comparison.rows, strict=True):
        assert row.target is not None
        assert row.target.index == target
        for method, cell in zip(METHODS, row.maps, strict=True):
            with opened(method=method) as alone:
                expected = alone.explain(PICTURES[0], [1, 3])[(1, 3).index(target)]
            assert cell.saliency is not None
            np.testing.assert_array_equal(cell.saliency.map, expected.map)


def test_the_metrics_are_those_of_measure(explainer: Explainer) -> None:
    names = ["deletion", "average-drop:half", "sparseness"]
    comparison = compare(explainer, PICTURES[0], METHODS, 2, metrics=names)
    assert [metric.best for metric in comparison.metrics] == [Best.LOWEST, Best.LOWEST, Best.NONE]
    for method, cell in zip(METHODS, comparison.rows[0].maps, strict=True):
        with opened(method=method) as alone:
            expected = alone.measure(alone(PICTURES[0], 2), *names, picture=PICTURES[0])
        assert {n: m.value for n, m in cell.metrics.items()} == {n: m.value for n, m in expected.items()}


def test_rows_are_pictures_layers_or_models(explainer: Explainer) -> None:
    pictures = compare(explainer, PICTURES, METHODS)
    assert (pictures.axis, len(pictures.rows)) == (Axis.PICTURES, 3)
    with opened(layer="r1") as early:
        layers = compare([explainer, early], PICTURES[0], METHODS, 1)
    assert (layers.axis, [row.name for row in layers.rows]) == (Axis.LAYERS, ["features", "r1"])
    with opened(seed=1) as other:
        models = compare([explainer, other], PICTURES[0], METHODS, 1)
    assert (models.axis, len(models.rows)) == (Axis.MODELS, 2)
    assert not np.array_equal(*(row.maps[0].saliency.map for row in models.rows if row.maps[0].saliency is not None))


def test_models_that_have_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    def each() -> Iterator[Explainer]:
        for seed in (0, 1):
            (tmp_path / f"epoch{seed}").mkdir()
            path = tmp_path / f"epoch{seed}" / "model.onnx"
            onnx.save(filled(CLASSIFIER, seed), path)
            with Explainer(path, providers=["cpu"], preset=PLAIN) as one:
                yield one

    comparison = compare(each(), PICTURES[0], ["grad-cam"], 1)
    assert [row.name for row in comparison.rows] == ["epoch0/model", "epoch1/model"]


def test_methods_of_one_model_share_passes(explainer: Explainer) -> None:
    methods = [grad_cam(), layer_cam(), eigen_cam()]
    assert compare(explainer, PICTURES[0], methods, 1).passes == 1, "a forward pass that is the step of two methods"
    with_metric = compare(explainer, PICTURES[0], methods, 1, metrics=["average-drop"])
    assert with_metric.passes == 1 + 1 + 1 + 3, "the Scorer's forward pass, the whole picture, and one a map"


def test_methods_are_named_with_the_options_that_differ(explainer: Explainer) -> None:
    methods = [score_cam(), score_cam(fill="mean", budget=4), rise(masks=9)]
    comparison = compare(explainer, PICTURES[0], methods)
    assert comparison.methods == (
        ComparedMethod("score-cam"),
        ComparedMethod("score-cam", ("mean", "budget 4")),
        ComparedMethod("rise", ("masks 9",)),
    )


def test_a_method_without_a_map_has_its_reason_and_the_others_their_maps() -> None:
    """Of one colour, without padding, every feature map is constant; RISE needs no feature map."""
    grey = np.full((40, 30, 3), 90, np.uint8)
    unpadded = filled(CLASSIFIER.replace("pads=[1,1,1,1], ", ""))
    with Explainer(unpadded, providers=["cpu"], preset=PLAIN) as explainer:
        comparison = compare(explainer, grey, [score_cam(), rise(masks=8)], 1, metrics=["deletion"])
        undefined, defined = comparison.rows[0].maps
        assert undefined.saliency is None
        assert "constant" in str(undefined.reason)
        assert defined.saliency is not None
        record = comparison_record(comparison)
        assert [each["method"] for each in record["undefined"]] == ["score-cam"]
        assert len(record["maps"]) == 1
        with pytest.raises(UndefinedSaliency):
            compare(explainer, grey, [score_cam()], 1)


def test_the_record_holds_a_record_of_every_map(explainer: Explainer) -> None:
    record = comparison_record(compare(explainer, PICTURES, METHODS, metrics=["deletion"]), ["figure.pdf"])
    assert record["axis"] == "pictures"
    assert [each["method"]["name"] for each in record["maps"]] == [m.name for _ in PICTURES for m in METHODS]
    assert all("deletion" in each["metrics"] for each in record["maps"])
    assert record["outputs"] == ["figure.pdf"]


def test_progress_ends_at_all_of_it(explainer: Explainer) -> None:
    calls: list[tuple[int, int]] = []
    compare(explainer, PICTURES[:2], METHODS, 1, metrics=["deletion"], progress=lambda *call: calls.append(call))
    shares = [done / expected for done, expected in calls]
    assert shares[-1] == 1
    assert all(done <= expected for done, expected in calls)


def test_progress_ends_at_all_of_it_where_methods_take_no_pass_of_their_own_or_fail() -> None:
    grey = np.full((40, 30, 3), 90, np.uint8)  # every feature map is constant
    calls: list[tuple[int, int]] = []
    with Explainer(filled(CLASSIFIER.replace("pads=[1,1,1,1], ", "")), providers=["cpu"], preset=PLAIN) as explainer:
        methods = [score_cam(), rise(masks=8), eigen_cam()]
        compare(
            explainer, [grey, PICTURES[0]], methods, 1, metrics=["deletion"],
            progress=lambda *call: calls.append(call),
        )  # fmt: skip
    assert calls[-1][0] == calls[-1][1]
    assert all(expected > 0 and done <= expected for done, expected in calls)


def test_a_picture_from_a_file_has_its_name(explainer: Explainer, tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, picture in zip(paths, PICTURES, strict=False):
        Image.fromarray(picture).save(path)
    assert [row.name for row in compare(explainer, paths, ["grad-cam"]).rows] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pictures": [], "methods": ["grad-cam"]}, "no picture"),
        ({"methods": "grad-cam"}, "list of methods"),
        ({"methods": []}, "list of methods"),
        ({"methods": ["grad-cam", grad_cam()]}, "given twice"),
        ({"methods": ["grad-cat"]}, "no method is called"),
        ({"metrics": "deletion"}, "list of names"),
        ({"metrics": ["delete"]}, "no metric is called"),
        ({"metrics": ["pointing-game"]}, "box"),
        ({"pictures": PICTURES, "targets": [1, 2]}, "several pictures or several targets"),
    ],
)
def test_what_makes_no_comparison_is_refused(explainer: Explainer, arguments: dict[str, Any], words: str) -> None:
    given = {"pictures": PICTURES[0], "methods": ["grad-cam"], **arguments}
    with pytest.raises(OnnxCamError, match=words):
        compare(explainer, **given)


def test_several_models_and_several_targets_are_refused(explainer: Explainer) -> None:
    with opened(seed=1) as other, pytest.raises(OptionError, match="one picture and one target"):
        compare([explainer, other], PICTURES[0], ["grad-cam"], [1, 2])
    with pytest.raises(OptionError, match="no Explainer"):
        compare([], PICTURES[0], ["grad-cam"])


@pytest.mark.parametrize(
    ("labels", "notes"),
    [
        (("bull_mastiff", "Bull mastiff"), 0),
        (("cat", "dog"), 1),
        (("cat", None), 0),
    ],
)
def test_a_class_is_the_same_by_its_label_and_by_its_number_without(
    explainer: Explainer, labels: tuple[str | None, str | None], notes: int
) -> None:
    with opened() as other:
        one = compare([explainer, other], PICTURES[0], ["grad-cam"], 2)
    rows = [
        replace(row, target=replace(row.target, label=label))
        for row, label in zip(one.rows, labels, strict=True)
        if row.target is not None
    ]
    assert len(_class_notes(Axis.MODELS, rows)) == notes
    assert not _class_notes(Axis.TARGETS, rows)


@pytest.mark.parametrize("name", ["explainers", "methods", "metrics", "progress", "box", "seed"])
@pytest.mark.parametrize("value", [-3, 1.5, "x", b"x", [1], [{}], object(), np.zeros(3), np.zeros(())], ids=repr)
def test_a_wrong_value_is_an_option_error(explainer: Explainer, name: str, value: Any) -> None:
    arguments = {"explainers": explainer, "pictures": PICTURES[0], "methods": ["grad-cam"], name: value}
    with pytest.raises(OnnxCamError):
        compare(**arguments)
