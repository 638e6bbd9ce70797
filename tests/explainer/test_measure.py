"""Explainer.measure: the metrics of a map on its own picture and target, by the names that were requested."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from small_models import CLASSIFIER, PIXELS, TWO_SCALES, filled, network_over

from onnxcam import (
    METRICS,
    Box,
    Element,
    Explainer,
    Measurement,
    Region,
    Similarity,
    grad_cam,
    score_cam,
)  # fmt: skip
from onnxcam.errors import InferenceError, OptionError
from onnxcam.metrics.average import average_drop
from onnxcam.metrics.curves import deletion, insertion
from onnxcam.metrics.metric import Need

RNG = np.random.default_rng(5)
PHOTOGRAPH = RNG.integers(0, 256, (40, 30, 3)).astype(np.uint8)
IMAGE = RNG.standard_normal((3, 16, 12)).astype(np.float32)
WITHOUT_BOX = [name for name, metric in METRICS.items() if Need.BOX not in metric.needs]
"""What is measured where no metric is named and no box is given."""


@pytest.fixture(scope="module")
def explainer() -> Iterator[Explainer]:
    with Explainer(filled(CLASSIFIER), grad_cam(), providers=["cpu"], cache=False) as opened:
        yield opened


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(PHOTOGRAPH).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def probability(images: np.ndarray, target: int) -> np.ndarray:
    """Of images (N,3,16,12), from the file as it is."""
    session = onnxruntime.InferenceSession(filled(CLASSIFIER).SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"x": images})[0].astype(np.float64)
    return np.exp(logits - logits.max(1, keepdims=True))[:, target] / np.exp(logits - logits.max(1, keepdims=True)).sum(
        1
    )


def test_the_numbers_are_those_of_the_file_itself(explainer: Explainer) -> None:
    saliency = explainer(IMAGE, 2)
    p, o = probability(np.stack([IMAGE, IMAGE * saliency.map]), 2)
    measured = explainer.measure(saliency, "average-drop", "average-increase", picture=IMAGE)
    assert measured["average-drop"].value == pytest.approx(max(0, p - o) / p * 100, abs=1e-4)
    assert measured["average-increase"].value == (100 if o > p + 1e-6 else 0)
    order = np.argsort(-saliency.map, axis=None, kind="stable")
    images = np.repeat(IMAGE[None], 25, axis=0)
    for row, image in enumerate(images):
        image.reshape(3, -1)[:, order[: 8 * row]] = 0
    scores = probability(images, 2)
    area = float(((scores[1:] + scores[:-1]) / 2 / 24).sum())
    assert explainer.measure(saliency, "deletion", picture=IMAGE, step=8)["deletion"].value == pytest.approx(area, 1e-5)


def test_names_come_back_as_they_were_given_and_each_says_its_protocol(explainer: Explainer) -> None:
    names = ["average-drop:half", "average_drop", "deletion:mean", "deletion"]
    measured = explainer.measure(explainer(IMAGE), *names, picture=IMAGE)
    assert list(measured) == names
    assert [one.protocol for one in measured.values()] == ["half", "mult", "mean", "zero"]
    assert [one.metric for one in measured.values()] == ["average_drop", "average_drop", "deletion", "deletion"]


def test_no_name_and_all_stand_for_every_metric_that_needs_no_more(explainer: Explainer) -> None:
    saliency = explainer(IMAGE)
    for names in ((), ("all",)):
        measured = explainer.measure(saliency, *names, picture=IMAGE)
        assert list(measured) == WITHOUT_BOX
        assert all(isinstance(one, Measurement) for one in measured.values())
    assert list(explainer.measure(saliency, picture=IMAGE, box=(2, 2, 8, 9))) == list(METRICS)


def test_a_metric_is_measured_once_however_often_it_is_named(explainer: Explainer) -> None:
    measured = explainer.measure(explainer(IMAGE), "deletion", "deletion", "all", picture=IMAGE)
    assert sorted(measured) == sorted(WITHOUT_BOX)


def test_a_metric_named_twice_stands_under_both_names(explainer: Explainer) -> None:
    measured = explainer.measure(explainer(IMAGE), "deletion", "deletion:zero", "average_drop", picture=IMAGE)
    assert list(measured) == ["deletion", "average_drop", "deletion:zero"]
    assert measured["deletion"] is measured["deletion:zero"]
    assert measured["deletion"].seconds > 0


def test_the_picture_of_a_file_is_read_again_and_that_of_an_array_must_be_passed(
    explainer: Explainer, photo: Path
) -> None:
    by_path = explainer.measure(explainer(photo), "deletion")["deletion"].value
    again = explainer.measure(explainer(PHOTOGRAPH), "deletion", picture=PHOTOGRAPH)["deletion"].value
    assert by_path == again
    with pytest.raises(OptionError, match="pass the picture as picture="):
        explainer.measure(explainer(PHOTOGRAPH), "deletion")
    saliency = explainer(photo)
    photo.unlink()
    with pytest.raises(OptionError, match=r"photo\.png, which is no file here"):
        explainer.measure(saliency, "deletion")


def test_a_bare_map_takes_its_picture_and_the_prediction_unless_a_target_is_given(explainer: Explainer) -> None:
    saliency = explainer(IMAGE, 3)
    with pytest.raises(OptionError, match=r"bare map.* unless it is what the model predicts"):
        explainer.measure(saliency.map, "deletion")
    with_target = explainer.measure(saliency.map, "deletion", picture=IMAGE, target=3)["deletion"].value
    assert with_target == explainer.measure(saliency, "deletion", picture=IMAGE)["deletion"].value
    top = explainer.scorer(IMAGE, ["top1"])
    predicted = explainer.measure(saliency.map.tolist(), "deletion", picture=IMAGE)["deletion"]
    assert predicted.value == deletion(top, saliency.map).value


def test_the_target_is_the_maps_own(explainer: Explainer) -> None:
    one = explainer.measure(explainer(IMAGE, "rank2"), "insertion", picture=IMAGE)["insertion"].value
    expected = insertion(explainer.scorer(IMAGE, ["rank2"]), explainer(IMAGE, "rank2").map).value
    assert one == expected
    assert (
        one
        != explainer.measure(explainer(IMAGE, "rank2"), "insertion", picture=IMAGE, target="top1")["insertion"].value
    )


def test_another_picture_than_the_explained_one_is_refused(explainer: Explainer) -> None:
    saliency = explainer(PHOTOGRAPH)
    with pytest.raises(OptionError, match="another part of this picture"):
        explainer.measure(saliency, "deletion", picture=PHOTOGRAPH[:20])
    with pytest.raises(OptionError, match=r"gives .* here, and gave"):
        explainer.measure(saliency, "deletion", picture=255 - PHOTOGRAPH)
    assert explainer.measure(saliency.map, "deletion", picture=255 - PHOTOGRAPH)["deletion"].value is not None


def test_a_map_of_another_model_is_measured_on_this_one(explainer: Explainer) -> None:
    other = filled(CLASSIFIER, seed=9)
    with Explainer(other, grad_cam(), providers=["cpu"], cache=False) as opened:
        saliency = opened(PHOTOGRAPH, 1)
    measured = explainer.measure(saliency, "average-drop", picture=PHOTOGRAPH)["average-drop"].value
    assert measured == average_drop(explainer.scorer(PHOTOGRAPH, [1]), saliency.map).value


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (["delition"], {}, "no metric is called 'delition'; did you mean deletion"),
        (["deletion:grey"], {}, "no protocol 'grey'; known: zero, mean"),
        (["pointing-game"], {}, "pointing-game needs the box of the object"),
        (["deletion"], {"box": (1, 1, 5, 5)}, "no metric reads it; those that do: energy-pointing-game, pointing-game"),
        (["pointing-game"], {"box": (5, 1, 1, 5)}, "box is"),
        (["pointing-game"], {"box": [1, 2, 3]}, "box is"),
        (["pointing-game"], {"box": [(1, 2, 3, 4), (1, 2)]}, "box is"),
        (["pointing-game"], {"box": (1, 2, 3, float("nan"))}, "box is"),
        (["pointing-game"], {"box": "1,2,3,4"}, "box is"),
        (["deletion"], {"seed": -1}, "seed is a whole number from 0 on"),
        (["deletion"], {"seed": None}, "seed is"),
        (["deletion"], {"step": 0}, "step"),
        (["deletion"], {"progress": 3}, "progress is a function"),
        ([3], {}, "a metric's name is a text"),
    ],
)
def test_what_makes_no_sense_is_refused(
    explainer: Explainer, names: list[Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        explainer.measure(explainer(IMAGE), *names, picture=IMAGE, **arguments)


def test_a_box_without_a_pixel_is_measured_as_undefined(explainer: Explainer) -> None:
    measured = explainer.measure(
        explainer(IMAGE), "pointing-game", "energy-pointing-game", picture=IMAGE, box=(1, 1, 1, 5)
    )
    assert [(each.value, "no pixel" in str(each.reason)) for each in measured.values()] == [(None, True)] * 2


def test_a_map_of_another_shape_is_refused(explainer: Explainer) -> None:
    with pytest.raises(OptionError, match="shape"):
        explainer.measure(np.ones((4, 4)), "deletion", picture=IMAGE)


def test_a_box_lies_on_the_picture_and_several_count_as_their_union(explainer: Explainer) -> None:
    saliency = explainer(PHOTOGRAPH)
    inside = replace(saliency, map=np.zeros((16, 12), np.float32))
    bright = inside.map.copy()
    bright[2, 3] = 1  # on the picture about 30 * 3.5 / 12 from the left of what the model sees
    assert saliency.placement is not None
    left, top, right, bottom = saliency.placement.box
    x, y = left + 3.5 / 12 * (right - left), top + 2.5 / 16 * (bottom - top)
    around, beside = (x - 2, y - 2, x + 2, y + 2), (x + 5, y + 15, x + 9, y + 19)
    names = ("pointing-game:exact", "energy-pointing-game")
    for box, value in ((around, 1), (beside, 0), ([beside, around], 1), (np.array([beside, around]), 1)):
        measured = explainer.measure(replace(saliency, map=bright), *names, picture=PHOTOGRAPH, box=box)  # type: ignore[arg-type]
        assert [one.value for one in measured.values()] == [value, value]


def test_every_metric_reports_to_the_progress_and_the_whole_ends_complete(explainer: Explainer) -> None:
    calls: list[tuple[int, int]] = []
    explainer.measure(explainer(IMAGE), picture=IMAGE, progress=lambda done, expected: calls.append((done, expected)))
    assert calls[-1][0] == calls[-1][1] > 60
    assert all(0 <= done <= expected for done, expected in calls)


def test_a_seed_gives_the_same_numbers_again_and_is_recorded(explainer: Explainer) -> None:
    saliency = explainer(IMAGE)
    names = [name for name, metric in METRICS.items() if Need.SEED in metric.needs]
    assert names
    first, again, other = (explainer.measure(saliency, *names, picture=IMAGE, seed=seed) for seed in (3, 3, 4))
    assert {n: one.value for n, one in first.items()} == {n: one.value for n, one in again.items()}
    assert any(first[n].value != other[n].value for n in names)
    assert all(one.options["seed"] == 3 for one in first.values())


# --- what is explained again for ADCC ---------------------------------------------------------------------------------


def test_the_masked_image_is_explained_by_the_explainers_method_for_the_same_class(explainer: Explainer) -> None:
    saliency = explainer(IMAGE, "rank2")
    again = explainer(IMAGE * saliency.map, saliency.target.index).map
    r = float(np.corrcoef(saliency.map.ravel(), again.ravel())[0, 1])
    measured = explainer.measure(saliency, "adcc", picture=IMAGE)["adcc"]
    assert measured.options["coherency"] == pytest.approx((r + 1) / 2, abs=1e-5)
    assert measured.passes == 1 + explainer(IMAGE).provenance.forwards + explainer(IMAGE).provenance.steps
    assert measured.options["complexity"] == pytest.approx(float(saliency.map.mean()), abs=1e-6)


def test_options_of_the_preprocessing_are_not_applied_to_the_masked_image_again() -> None:
    with Explainer(
        filled(CLASSIFIER), grad_cam(), providers=["cpu"], cache=False,
        adjust=lambda preset: replace(preset, mean=(0.3,), std=(0.1,)),
    ) as opened:  # fmt: skip
        saliency = opened(PHOTOGRAPH)
        scorer = opened.scorer(PHOTOGRAPH, [saliency.target])
        masked = scorer.image * saliency.map
        measured = opened.measure(saliency, "adcc", picture=PHOTOGRAPH)["adcc"]
    with Explainer(filled(CLASSIFIER), grad_cam(), providers=["cpu"], cache=False) as plain:
        again = plain(masked, saliency.target.index).map
    r = float(np.corrcoef(saliency.map.ravel(), again.ravel())[0, 1])
    assert measured.options["coherency"] == pytest.approx((r + 1) / 2, abs=1e-5)


def test_adcc_of_another_methods_map_is_undefined(explainer: Explainer) -> None:
    with Explainer(filled(CLASSIFIER), score_cam(), providers=["cpu"], cache=False) as other:
        saliency = other(IMAGE)
    measured = explainer.measure(saliency, "adcc", "deletion", picture=IMAGE)
    assert measured["adcc"].value is None
    assert "method" in str(measured["adcc"].reason)
    assert measured["deletion"].value is not None


@pytest.mark.parametrize(("seed", "layer", "words"), [(0, "r1", "layer r1"), (1, "auto", "another model")])
def test_adcc_of_a_map_of_another_layer_or_model_is_undefined(
    explainer: Explainer, seed: int, layer: str, words: str
) -> None:
    with Explainer(filled(CLASSIFIER, seed), grad_cam(), layer=layer, providers=["cpu"], cache=False) as other:
        saliency = other(IMAGE, 1)
        assert other.measure(saliency, "adcc", picture=IMAGE)["adcc"].value is not None
    measured = explainer.measure(saliency, "adcc", picture=IMAGE)["adcc"]
    assert measured.value is None
    assert words in str(measured.reason)


# --- every kind of model and target -----------------------------------------------------------------------------------


def check(measured: dict[str, Measurement]) -> None:
    """Every metric has a value, or a reason."""
    assert list(measured) == WITHOUT_BOX
    for name, one in measured.items():
        assert (one.value is None) is (one.reason is not None), name
        assert one.value is None or np.isfinite(one.value), name
    assert measured["deletion"].value is not None
    assert measured["sparseness"].value is not None


@pytest.mark.parametrize(("sides", "channels"), [((40,), 2), ((8, 10, 12), 1)])
def test_signals_and_volumes_are_measured(sides: tuple[int, ...], channels: int) -> None:
    array = RNG.standard_normal((channels, *sides)).astype(np.float32)
    with Explainer(
        filled(network_over(sides, channels=channels, batch="N")), grad_cam(), providers=["cpu"], cache=False
    ) as opened:
        saliency = opened(array)
        check(opened.measure(saliency, picture=array))
        with pytest.raises(OptionError, match="pointing games"):
            opened.measure(saliency, "pointing-game", picture=array, box=(1, 1, 4, 4))


def test_a_box_on_a_signal_is_refused_before_any_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    array = RNG.standard_normal((2, 40)).astype(np.float32)
    with Explainer(filled(network_over((40,), channels=2, batch="N")), "grad-cam", cache=False) as opened:
        monkeypatch.setattr(opened, "_read", lambda *_: pytest.fail("the picture was read"))
        for names in (["deletion", "pointing-game"], ["all"]):
            with pytest.raises(OptionError, match="pointing games"):
                opened.measure(np.zeros(40), *names, picture=array, box=(1, 1, 4, 4))


FIXED = CLASSIFIER.replace("float[N,", "float[2,")
"""Takes two pictures a run."""


@pytest.mark.parametrize(
    ("model", "preset"),
    [
        (PIXELS, "raw"),
        (FIXED, "imagenet"),
        (CLASSIFIER, "ultralytics"),
        (CLASSIFIER, "yolox"),
        (CLASSIFIER, "keras-tf"),
    ],
)
def test_bytes_channels_last_fixed_batches_and_letterboxes_are_measured(model: str, preset: str) -> None:
    with Explainer(filled(model), grad_cam(), providers=["cpu"], preset=preset, cache=False) as opened:
        check(opened.measure(opened(PHOTOGRAPH), picture=PHOTOGRAPH))


def test_boxes_of_two_scales_elements_and_similarities_are_measured() -> None:
    picture = RNG.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    with Explainer(filled(TWO_SCALES), grad_cam(), providers=["cpu"], kind="boxes", cache=False) as opened:
        for saliency in opened.explain(picture, [Box(3, 1), Box(17, 2)]):
            check(opened.measure(saliency, picture=picture))
    with Explainer(filled(CLASSIFIER), grad_cam(), providers=["cpu"], cache=False) as opened:
        element = opened(PHOTOGRAPH, Element((2,), "logits"))
        check(opened.measure(element, picture=PHOTOGRAPH))
        alike = Similarity(PHOTOGRAPH[::-1], "logits")
        with pytest.raises(OptionError, match="reference of this map's target is not kept"):
            opened.measure(opened(PHOTOGRAPH, alike), picture=PHOTOGRAPH)
        check(opened.measure(opened(PHOTOGRAPH, alike), picture=PHOTOGRAPH, target=alike))


SEGMENTER = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,4,16,12] classes)
<float[6,3,3,3] w, float[4,6,1,1] v>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
  f = Relu (c)
  classes = Conv <kernel_shape=[1,1]> (f, v)
}
"""
TWO_INPUTS = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x, float[N,2] meta) => (float[N,5] logits)
<float[8,3,3,3] w, float[8,5] v, float[2,5] u>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  g = GlobalAveragePool (f)
  p = Flatten (g)
  a = MatMul (p, v)
  b = MatMul (meta, u)
  logits = Add (a, b)
}
"""


def test_regions_are_measured_where_they_were_and_a_mask_is_passed_again() -> None:
    mask = np.zeros((40, 30), bool)
    mask[10:20, 5:25] = True
    with Explainer(filled(SEGMENTER), grad_cam(), providers=["cpu"], cache=False) as opened:
        for target in (None, Region(1, where=(4, 6, 22, 30))):
            check(opened.measure(opened(PHOTOGRAPH, target), picture=PHOTOGRAPH))
        saliency = opened(PHOTOGRAPH, Region(1, where=mask))
        with pytest.raises(OptionError, match="mask of this map's target is not kept"):
            opened.measure(saliency, picture=PHOTOGRAPH)
        check(opened.measure(saliency, picture=PHOTOGRAPH, target=Region(1, where=mask)))


def test_extra_inputs_are_those_of_the_picture() -> None:
    few, many = {"meta": np.zeros(2, np.float32)}, {"meta": np.array([3, -3], np.float32)}
    with Explainer(
        filled(TWO_INPUTS), grad_cam(), providers=["cpu"], cache=False, inputs={"meta": np.zeros(2, np.float32)}
    ) as opened:
        (saliency,) = opened.explain(IMAGE, [1], inputs=many)
        measured = opened.measure(saliency, "deletion", "adcc", picture=IMAGE, inputs=many)
        assert measured["deletion"].curve is not None
        assert measured["deletion"].curve[0, 1] == pytest.approx(saliency.target.probability, abs=1e-6)
        with pytest.raises(OptionError, match="not the one that was explained"):
            opened.measure(saliency, "deletion", picture=IMAGE, inputs=few)


def test_the_maps_of_several_layers_and_of_several_threads_are_measured() -> None:
    with Explainer(filled(CLASSIFIER), grad_cam(), providers=["cpu"], layer=["r1", "features"], cache=False) as opened:
        saliency = opened(IMAGE)
        alone = opened.measure(saliency, picture=IMAGE)
        check(alone)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: opened.measure(saliency, picture=IMAGE), range(8)))
    for result in results:
        for name, one in result.items():
            assert one.value == pytest.approx(alone[name].value, abs=1e-5), name
    with pytest.raises(InferenceError, match="closed"):
        opened.measure(saliency, "deletion", picture=IMAGE)
