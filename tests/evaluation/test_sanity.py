"""The sanity check: what is compared with what, what stays, what counts, and who passes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from onnx.reference import ReferenceEvaluator
from small_models import CLASSIFIER, PIXELS, filled

from onnxcam.errors import ModelError, OptionError, UndefinedSaliency
from onnxcam.evaluation import sanity
from onnxcam.evaluation.sanity import open_uncached, sanity_check, spread_evenly
from onnxcam.evaluation.sanity_figure import _drawn
from onnxcam.evaluation.sanity_record import sanity_record
from onnxcam.evaluation.sanity_report import (
    Order,
    SanityOptions,
    SanityReport,
    Spread,
    Verdict,
    judge,
    mean_over_steps,
    spread_of,
)
from onnxcam.explainer.explainer import Explainer
from onnxcam.methods.blocks import Method
from onnxcam.metrics.correlation import spearman
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.weights import find_weight_layers
from onnxcam.surgeon.loading import ModelFile, read_model
from onnxcam.surgeon.passes.randomise import Redraw, randomise

ALL = SanityOptions(steps=None)


def pictures(count: int = 3, shape: tuple[int, ...] = (3, 16, 12)) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def classifier() -> onnx.ModelProto:
    return filled(CLASSIFIER, 3)


def test_each_step_is_the_map_of_the_file_with_these_layers_drawn_again(classifier: onnx.ModelProto) -> None:
    """Against the pass and an Explainer of its own for each step, for the class and the layer of the intact model."""
    images = pictures()
    report = sanity_check(classifier, images, ["gradient", "grad-cam"], replace(ALL, seeds=(4, 1)))
    model = read_model(classifier).model
    layers = find_weight_layers(model).layers
    assert report.layers == len(layers) == 3
    for result in report.methods:
        with Explainer(classifier, result.method, cache=False) as intact:
            before = [intact(image) for image in images]
        assert [(s.seed, s.depth) for s in result.steps] == [(seed, k) for seed in (4, 1) for k in (1, 2, 3)]
        for step in result.steps:
            changed = ir.to_proto(randomise(model, layers[: step.depth], seed=step.seed))
            with Explainer(changed, result.method, layer=before[0].provenance.layer, cache=False) as explainer:
                for k, image in enumerate(images):
                    assert step.probabilities[k] == pytest.approx(
                        explainer(image, before[k].target.index).target.probability, rel=1e-5
                    )
                    if step.reasons[k] is None:
                        after = explainer(image, before[k].target.index)
                        assert step.spearman[k] == pytest.approx(spearman(before[k].map, after.map), abs=1e-6)


def test_the_target_and_the_layer_stay_those_of_the_intact_model(classifier: onnx.ModelProto) -> None:
    opened: list[tuple[ModelFile, Sequence[str] | None]] = []

    def opener(file: ModelFile, method: Method, layer: Sequence[str] | None) -> Explainer:
        opened.append((file, layer))
        return open_uncached(file, method, layer)

    report = sanity_check(classifier, pictures(), ["gradient"], ALL, target=2, opener=opener)
    assert [target.index for target in report.methods[0].targets if target is not None] == [2, 2, 2]
    assert [layer for _, layer in opened] == [None, *[("features",)] * 3]
    assert len({file.sha256 for file, _ in opened}) == 4


def test_independent_order_draws_one_layer_at_a_time_and_is_undecided(
    monkeypatch: pytest.MonkeyPatch, classifier: onnx.ModelProto
) -> None:
    drawn: list[list[str]] = []

    def recorded(model: ir.Model, layers: Sequence[object], redraw: Redraw, *, seed: int) -> ir.Model:
        drawn.append([layer.name for layer in layers])
        return randomise(model, layers, redraw, seed=seed)

    monkeypatch.setattr(sanity, "randomise", recorded)
    report = sanity_check(classifier, pictures(), ["gradient"], replace(ALL, order=Order.INDEPENDENT))
    assert [len(names) for names in drawn] == [1, 1, 1]
    assert len({name for names in drawn for name in names}) == 3
    assert report.verdict is Verdict.UNDECIDED
    assert report.methods[0].complexity_rise.count == 0


def test_the_null_is_of_different_pictures_on_the_intact_model(classifier: onnx.ModelProto) -> None:
    images = pictures(4)
    (result,) = sanity_check(classifier, images, ["gradient"], SanityOptions(steps=1)).methods
    with Explainer(classifier, "gradient", cache=False) as explainer:
        maps = [explainer(image).map for image in images]
    pairs = [spearman(maps[i], maps[j]) for i in range(4) for j in range(i + 1, 4)]
    assert result.null == Spread(pytest.approx(np.mean(pairs)), pytest.approx(min(pairs)), pytest.approx(max(pairs)), 6)


def test_other_classes_are_compared_on_the_intact_model(classifier: onnx.ModelProto) -> None:
    (image,) = pictures(1)
    (result,) = sanity_check(classifier, [image], ["gradient"], SanityOptions(steps=1)).methods
    with Explainer(classifier, "gradient", cache=False) as explainer:
        predicted = explainer(image)
        others = [spearman(predicted.map, explainer(image, c).map) for c in range(5) if c != predicted.target.index]
    assert result.other_classes is not None
    assert result.other_classes.mean == pytest.approx(np.mean(others))
    assert result.other_classes.count == 4


class Oracle(Explainer):
    """Maps with a known answer: the picture's brightness, or noise that is as random as the weights."""

    of_weights = False

    def explain(self, image: Any, targets: Any = (None,), **options: Any) -> list[Saliency]:
        shown = np.asarray(image).mean(axis=0) if not self.of_weights else self.noise(image)
        return [
            replace(s, map=(shown - shown.min()) / np.ptp(shown)) for s in super().explain(image, targets, **options)
        ]

    def noise(self, image: Any) -> np.ndarray:
        seed = [int(self.model_sha256, 16) % 2**32, abs(int(1e6 * float(np.asarray(image).sum())))]
        return np.random.default_rng(seed).random((16, 12), np.float32)


@pytest.mark.parametrize(("of_weights", "verdict", "mean"), [(False, Verdict.FAIL, 1), (True, Verdict.PASS, 0)])
def test_a_map_of_the_picture_alone_fails_and_one_of_the_weights_passes(
    classifier: onnx.ModelProto, of_weights: bool, verdict: Verdict, mean: float
) -> None:
    kind = type("Kind", (Oracle,), {"of_weights": of_weights})
    report = sanity_check(
        classifier,
        pictures(6),
        ["gradient"],
        replace(ALL, seeds=(0, 1, 2)),
        opener=lambda file, one, layer: kind(file, one, layer=layer or "auto", cache=False),
    )
    assert report.verdict is verdict
    assert report.methods[0].spearman.mean == pytest.approx(mean, abs=1e-9 if mean else 0.05)


@pytest.mark.parametrize(
    ("mean", "images", "order", "verdict"),
    [
        (0.29, 3, Order.TOP_DOWN, Verdict.PASS),
        (-0.9, 3, Order.TOP_DOWN, Verdict.PASS),
        (0.3, 3, Order.TOP_DOWN, Verdict.UNDECIDED),
        (0.5, 3, Order.TOP_DOWN, Verdict.UNDECIDED),
        (0.51, 3, Order.TOP_DOWN, Verdict.FAIL),
        (0.51, 2, Order.TOP_DOWN, Verdict.UNDECIDED),
        (0.51, 3, Order.INDEPENDENT, Verdict.UNDECIDED),
        (None, 3, Order.TOP_DOWN, Verdict.UNDECIDED),
    ],
)
def test_the_verdict_follows_the_rule(mean: float | None, images: int, order: Order, verdict: Verdict) -> None:
    spread = Spread(mean, mean, mean, 0 if mean is None else 9, 9 if mean is None else 0)
    assert judge(spread, images, order, depths=5, layers=50)[0] is verdict


def test_mostly_undefined_maps_decide_nothing() -> None:
    assert judge(Spread(0.0, 0.0, 0.0, 4, 5), 3, Order.TOP_DOWN, depths=5, layers=50)[0] is Verdict.UNDECIDED
    assert judge(Spread(0.0, 0.0, 0.0, 5, 5), 3, Order.TOP_DOWN, depths=5, layers=50)[0] is Verdict.UNDECIDED
    assert judge(Spread(0.0, 0.0, 0.0, 6, 5), 3, Order.TOP_DOWN, depths=5, layers=50)[0] is Verdict.PASS


@pytest.mark.parametrize(
    ("depths", "layers", "verdict"),
    [(1, 50, Verdict.UNDECIDED), (2, 50, Verdict.UNDECIDED), (4, 50, Verdict.UNDECIDED), (5, 50, Verdict.PASS),
     (3, 3, Verdict.PASS), (1, 1, Verdict.PASS), (2, 3, Verdict.UNDECIDED)],
)  # fmt: skip
def test_models_at_few_layers_decide_nothing_unless_they_are_all(depths: int, layers: int, verdict: Verdict) -> None:
    decided, reason = judge(Spread(0.1, 0.0, 0.2, 9), 3, Order.TOP_DOWN, depths=depths, layers=layers)
    assert decided is verdict
    assert ("too few" in reason) is (verdict is Verdict.UNDECIDED)


def test_several_seeds_are_no_more_layers(classifier: onnx.ModelProto) -> None:
    report = sanity_check(classifier, pictures(), ["gradient"], SanityOptions(steps=1, seeds=(0, 1, 2, 3, 4)))
    assert report.verdict is Verdict.UNDECIDED
    assert "models at 1 layer are too few" in report.methods[0].reason


def test_the_notes_of_the_intact_maps_are_in_the_report_once_with_what_they_are_of(classifier: onnx.ModelProto) -> None:
    """An array of 0 to 255 may not be preprocessed; an explanation of it notes that."""
    images = pictures()
    images[1] = (np.random.default_rng(0).random((3, 16, 12)) * 255).round().astype(np.float32)
    with Explainer(classifier, "gradient", cache=False) as explainer:
        per_picture = [{note.text for note in explainer(image).provenance.notes} for image in images]
    (text,) = per_picture[1] - per_picture[0]
    report = sanity_check(classifier, images, ["gradient", "grad-cam"], SanityOptions(steps=1))
    assert f"{report.pictures[1]}: {text}" in report.notes
    assert all(note in report.notes for note in set.intersection(*per_picture))
    assert sanity_record(report)["notes"] == list(report.notes)
    assert len(set(report.notes)) == len(report.notes)
    preset = sanity_record(report)["preset"]
    assert preset["origin"]["source"] == "prepared"


def test_undefined_similarities_are_left_out_of_the_mean_and_counted() -> None:
    assert mean_over_steps([[0.2, None], [0.4, 0.8], [None, None]]) == pytest.approx(0.4)
    assert mean_over_steps([[None]]) is None
    assert spread_of([0.25, None, 0.75]) == Spread(0.5, 0.25, 0.75, 2, 1)
    assert spread_of([None]) == Spread(None, None, None, 0, 1)


def test_steps_are_spread_evenly_with_both_ends() -> None:
    assert spread_evenly(50, None) == tuple(range(1, 51))
    assert spread_evenly(50, 8) == (1, 8, 15, 22, 29, 36, 43, 50)
    assert spread_evenly(3, 10) == (1, 2, 3)
    assert spread_evenly(50, 1) == (50,)
    assert all(len(set(spread_evenly(n, k))) == min(n, k) for n in range(1, 40) for k in range(1, 40))


@pytest.mark.parametrize("picture", ["photo.jpg", Path("photo.jpg"), np.zeros((16, 12, 3), np.uint8), b"GIF", []])
def test_one_picture_alone_is_no_list_of_pictures(classifier: onnx.ModelProto, picture: Any) -> None:
    with pytest.raises(OptionError, match="takes a list of pictures"):
        sanity_check(classifier, picture, ["gradient"])


def test_fewer_than_three_pictures_decide_nothing(classifier: onnx.ModelProto) -> None:
    report = sanity_check(classifier, pictures(2), ["gradient"], SanityOptions(steps=1))
    assert report.verdict is Verdict.UNDECIDED
    assert "2 pictures are fewer than 3" in report.methods[0].reason
    report = sanity_check(classifier, pictures(1), ["gradient"], SanityOptions(steps=1))
    assert "1 picture is fewer than 3" in report.methods[0].reason


def test_a_model_whose_weights_are_all_alike_is_refused_with_the_way_out() -> None:
    proto = filled(PIXELS, 1)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, 0.5, np.float32), tensor.name))
    images = [np.random.default_rng(i).integers(0, 255, (16, 12, 3), np.uint8) for i in range(3)]
    with pytest.raises((ModelError, UndefinedSaliency)) as raised:
        sanity_check(proto, images, ["gradient"], ALL)
    assert "draw again with he" in str(raised.value)


def test_nonsense_is_refused(classifier: onnx.ModelProto) -> None:
    with pytest.raises(OptionError, match="list of pictures"):
        sanity_check(classifier, [], ["gradient"])
    with pytest.raises(OptionError, match="list of methods"):
        sanity_check(classifier, pictures(), [])
    with pytest.raises(OptionError, match="seeds"):
        SanityOptions(seeds=(1, 1))
    for seeds in ((), (1.5,), ("a",), 3, None, (True,)):
        with pytest.raises(OptionError, match="seeds"):
            SanityOptions(seeds=seeds)
    for steps in (0, 1.5, "all"):
        with pytest.raises(OptionError, match="steps"):
            SanityOptions(steps=steps)


def test_full_depth_alone_gives_no_verdict(classifier: onnx.ModelProto) -> None:
    """A method that follows the first layers only passes there."""
    for steps in (1, 2):
        report = sanity_check(classifier, pictures(3), ["gradient"], SanityOptions(steps=steps))
        assert report.layers > 2
        assert report.verdict == "undecided"
        assert "too few (5 or more, or all layers)" in report.methods[0].reason


def test_nothing_is_left_in_the_cache(
    classifier: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "cache"))
    sanity_check(classifier, pictures(), ["gradient", "score-cam"], ALL)
    assert not (tmp_path / "cache").exists()


def test_progress_reaches_its_end_and_never_falls(classifier: onnx.ModelProto) -> None:
    calls: list[tuple[float, float]] = []
    sanity_check(
        classifier, pictures(), ["gradient", "score-cam"], ALL, progress=lambda done, all: calls.append((done, all))
    )
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1] == (24, 24)  # 2 methods, 3 pictures, the intact model and 3 others
    assert {call[1] for call in calls} == {24}


def test_progress_reaches_its_end_where_layers_and_pictures_fall_out() -> None:
    """A layer that repeats one number is not drawn, and a picture without a map is not explained again."""
    calls: list[tuple[float, float]] = []
    proto = _with_repeated_weights(filled(CLASSIFIER, 3))
    images = [*pictures(), np.zeros((3, 16, 12), np.float32)]
    sanity_check(proto, images, ["gradient"], ALL, progress=lambda done, all: calls.append((done, all)))
    shares = [done / all for done, all in calls]
    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert calls[-1] == (4 + 3, 4 + 3)  # 4 pictures on the intact model, 3 on one other


def test_the_record_holds_the_verdict_the_rule_and_every_number(classifier: onnx.ModelProto) -> None:
    report = sanity_check(classifier, pictures(), ["gradient"], ALL)
    record = sanity_record(report)
    assert record["verdict"] in ("pass", "fail", "undecided")
    assert "below 0.3 passes, above 0.5 fails" in record["rule"]
    (one,) = record["methods"]
    assert one["spearman"]["mean"] == report.methods[0].spearman.mean
    assert [step["spearman"] for step in one["steps"]] == [list(step.spearman) for step in report.methods[0].steps]
    assert record["model"]["sha256"] == read_model(classifier).sha256


def _with_repeated_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model whose two convolutions repeat one number."""
    for tensor in proto.graph.initializer:
        if tensor.name in ("w1", "w2"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, 0.5, np.float32), tensor.name))
    return proto


def test_a_model_with_mostly_repeated_weights_decides_nothing() -> None:
    proto = _with_repeated_weights(filled(CLASSIFIER, 3))
    report = sanity_check(proto, pictures(), ["gradient"], ALL)
    assert (report.layers, report.kept, report.verdict) == (1, 2, Verdict.UNDECIDED)
    assert "2 of 3 layers repeat one number" in report.notes[0]
    assert "67%" in report.methods[0].reason


def texts(report: SanityReport) -> list[str]:
    drawn = _drawn(report)
    drawn.draw_without_rendering()
    return [text.get_text() for text in drawn.findobj(Text) if text.get_visible() and text.get_text()]


def test_the_figure_explains_its_shading_and_names_the_class(classifier: onnx.ModelProto) -> None:
    photos = [np.random.default_rng(i).integers(0, 255, (40, 30, 3), np.uint8) for i in range(3)]
    report = sanity_check(classifier, photos, ["gradient", "grad-cam"], ALL)
    words = texts(report)
    assert {"range over pictures", "maps of other pictures (null)", "1 layer\nredrawn", "3 layers\nredrawn"} <= set(
        words
    )
    target = report.methods[0].targets[0]
    assert target is not None
    assert f"class {target.index}\n{target.probability:.1%}" in words
    assert not [word for word in words if re.search(r"-\d", word)], "a hyphen for a minus"
    assert words.count("picture") == 1


def test_one_picture_has_neither_a_null_nor_a_range_in_the_figure(classifier: onnx.ModelProto) -> None:
    words = texts(sanity_check(classifier, pictures(1), ["gradient"], ALL))
    assert not [word for word in words if "null" in word or word.startswith("range")]


def test_no_marker_of_the_figure_is_cut_at_the_ends(classifier: onnx.ModelProto) -> None:
    drawn = _drawn(sanity_check(classifier, pictures(), ["gradient"], ALL))
    (axes,) = [axes for axes in drawn.findobj(Axes) if "redrawn" in axes.get_xlabel()]
    left, right = axes.get_xlim()
    assert left < 1
    assert right > 3


SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,4,16,12] y)
<float[6,3,3,3] w1, float[4,6,3,3] w2>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w1)
  r = Relu (c)
  y = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r, w2)
}"""


def test_a_region_stays_where_the_intact_model_predicted_the_class() -> None:
    """The re-drawn model predicts the class elsewhere; the mean over the same places is still what is explained."""
    proto = filled(SEGMENTER, 2)
    images = pictures()
    (result,) = sanity_check(proto, images, ["gradient"], ALL).methods
    model = read_model(proto).model
    layers = find_weight_layers(model).layers
    for step in result.steps:
        changed = ir.to_proto(randomise(model, layers[: step.depth]))
        for k, image in enumerate(images):
            before, after = (reference_run(m, image) for m in (proto, changed))
            predicted = before.argmax(axis=0)
            index = np.bincount(predicted.ravel()).argmax()
            chances = np.exp(after - after.max(axis=0))
            share = (chances / chances.sum(axis=0))[index][predicted == index].mean()
            expected = share if result.targets[k].is_probability else None
            assert step.reasons[k] is None
            assert step.probabilities[k] == pytest.approx(expected, rel=1e-4)


def reference_run(proto: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    return np.asarray(ReferenceEvaluator(proto).run(None, {"x": image[None]})[0][0])
