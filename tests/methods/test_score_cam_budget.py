"""Score-CAM with a budget or a tolerance, and the maps on the way, on networks."""

from typing import Any

import numpy as np
import pytest
from tiny import IMAGE, TARGET, Array, explained, model, probe

from onnxcam import Explainer, rise, score_cam
from onnxcam.errors import UndefinedSaliency
from onnxcam.explainer.targets.element import Element
from onnxcam.inputs.bundled import model as embedded
from onnxcam.inputs.bundled import pictures
from onnxcam.methods.blocks import run
from onnxcam.methods.estimate.quadrature import START
from onnxcam.methods.estimate.rounds import SURE, Limits
from onnxcam.methods.maps import Outcome
from onnxcam.outputs.saliency import Saliency
from onnxcam.types import NoteCode, Score

BEYOND = 1.5
"""The bound holds in 9 of 10 cases; the tenth is not far beyond it."""
FORMS = [(c, v) for c in ("constructive", "destructive") for v in ("official", "paper")]


@pytest.fixture(scope="module")
def coffee() -> dict[str, Saliency]:
    """The embedded model's maps for a photograph, by the options that made them."""
    options: dict[str, dict[str, Any]] = {
        "exact": {}, "32": {"budget": 32}, "128": {"budget": 128}, "0.02": {"tolerance": 0.02},
        "both": {"budget": 20, "tolerance": 1e-9},
    }  # fmt: skip
    maps = {}
    for name, chosen in options.items():
        with Explainer(embedded(), score_cam(**chosen), providers=["cpu"]) as explain:
            maps[name] = explain(pictures()["coffee"])
    return maps


def off(saliency: Saliency, exact: Saliency) -> float:
    return float(np.sqrt(np.square(saliency.map - exact.map).mean()))


def pearson(a: Array, b: Array) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.slow
def test_more_forward_passes_come_closer_and_the_bound_holds(coffee: dict[str, Saliency]) -> None:
    exact = coffee["exact"]
    assert pearson(coffee["32"].map, exact.map) > 0.99
    assert pearson(coffee["128"].map, exact.map) > 0.9995
    assert off(coffee["128"], exact) < off(coffee["32"], exact)
    for name in ("32", "128", "0.02"):
        assert off(coffee[name], exact) <= BEYOND * (coffee[name].provenance.error or 0)
    assert exact.provenance.error is None


def test_what_was_scored_and_what_was_estimated_is_recorded(coffee: dict[str, Saliency]) -> None:
    live = coffee["exact"].provenance.channels
    assert live is not None
    for name, scored in (("32", 32), ("128", 128), ("both", 20)):
        provenance = coffee[name].provenance
        assert provenance.channels is not None
        assert (provenance.channels.scored, provenance.channels.estimated) == (scored, live.scored - scored)
        assert (provenance.channels.total, provenance.channels.skipped) == (live.total, live.skipped)
        assert provenance.forwards == scored + 1
    assert coffee["32"].provenance.options["budget"] == 32
    assert coffee["0.02"].provenance.options["tolerance"] == 0.02


def test_a_tolerance_stops_as_soon_as_the_bound_is_below_it(coffee: dict[str, Saliency]) -> None:
    provenance = coffee["0.02"].provenance
    assert provenance.error is not None
    assert provenance.error <= 0.02
    with Explainer(embedded(), score_cam(tolerance=0.02), providers=["cpu"]) as explain:
        on_the_way = list(explain.stream(pictures()["coffee"]))
    errors = [s.provenance.error for s in on_the_way]
    early = [e for s, e in zip(on_the_way, errors, strict=True) if s.provenance.forwards > SURE]
    assert all(e is not None and e > 0.02 for e in early[:-1])
    np.testing.assert_array_equal(on_the_way[-1].map, coffee["0.02"].map)
    assert [s.provenance.forwards for s in on_the_way] == sorted({s.provenance.forwards for s in on_the_way})


@pytest.mark.parametrize(("convention", "variant"), FORMS)
def test_a_budget_of_every_map_is_the_exact_method(convention: str, variant: str) -> None:
    exact, *_ = explained(model(), score_cam(convention=convention, variant=variant))
    for options in ({"budget": 7}, {"budget": 1000}, {"tolerance": 1e-9}):
        spent, *_ = explained(model(), score_cam(convention=convention, variant=variant, **options))
        np.testing.assert_allclose(spent.map, exact.map, atol=1e-6)
        np.testing.assert_allclose(spent.raw, exact.raw, rtol=1e-5, atol=1e-7)
        assert spent.provenance.error is None
        assert spent.provenance.channels == exact.provenance.channels


@pytest.mark.slow
@pytest.mark.parametrize(("convention", "variant"), FORMS)
def test_every_form_is_close_at_a_third_of_the_maps(convention: str, variant: str) -> None:
    photograph = pictures()["coffee"]
    maps = []
    for options in ({}, {"budget": 180}):
        method = score_cam(convention=convention, variant=variant, **options)
        with Explainer(embedded(), method, providers=["cpu"]) as explain:
            maps.append(explain(photograph))
    exact, spent = maps
    assert off(spent, exact) <= BEYOND * (spent.provenance.error or 0)
    assert pearson(spent.map, exact.map) > 0.995


@pytest.mark.slow
def test_targets_share_the_masks_and_each_has_an_error() -> None:
    with Explainer(embedded(), score_cam(budget=64), providers=["cpu"]) as explain:
        estimated = explain.explain(pictures()["chelsea"], ["top1", "rank2", "rank3"])
    with Explainer(embedded(), score_cam(), providers=["cpu"]) as explain:
        exact = explain.explain(pictures()["chelsea"], ["top1", "rank2", "rank3"])
    assert [s.provenance.forwards for s in estimated] == [65] * 3
    assert len({s.provenance.error for s in estimated}) == 3
    for one, whole in zip(estimated, exact, strict=True):
        assert pearson(one.map, whole.map) > 0.98


@pytest.mark.slow
def test_numbers_beyond_probabilities_are_estimated_too() -> None:
    """An element of the output: its own value is scored, here below zero and above one."""
    with Explainer(embedded(), score_cam(), providers=["cpu"], kind="elements") as explain:
        exact = explain(pictures()["coffee"], Element((967,)))
    with Explainer(embedded(), score_cam(budget=150), providers=["cpu"], kind="elements") as explain:
        spent = explain(pictures()["coffee"], Element((967,)))
    assert pearson(spent.map, exact.map) > 0.99


def test_a_budget_that_ends_before_the_tolerance_is_reached_is_said(coffee: dict[str, Saliency]) -> None:
    assert any("the budget ended before the tolerance" in note.text for note in coffee["both"].provenance.notes)
    assert not any("the budget ended" in note.text for name in ("32", "0.02") for note in coffee[name].provenance.notes)


def test_a_budget_below_the_first_round_is_kept() -> None:
    with Explainer(embedded(), score_cam(budget=3), providers=["cpu"]) as explain:
        provenance = explain(pictures()["coffee"]).provenance
    assert START > 3
    assert provenance.forwards == 4


@pytest.mark.slow
def test_the_exact_stream_ends_with_the_call_and_shows_part_of_the_maps_before() -> None:
    with Explainer(embedded(), score_cam(), providers=["cpu"]) as explain:
        exact, on_the_way = explain(pictures()["coffee"]), list(explain.stream(pictures()["coffee"]))
    assert len(on_the_way) == 20
    np.testing.assert_array_equal(on_the_way[-1].map, exact.map)
    assert on_the_way[-1].provenance.forwards == exact.provenance.forwards
    closeness = [pearson(s.map, exact.map) for s in on_the_way]
    assert closeness[0] > 0.8
    assert closeness[10] > 0.99


def test_rise_streams_its_running_mean() -> None:
    with Explainer(model(), rise(masks=100, cells=3), providers=["cpu"]) as explain:
        exact, on_the_way = explain(IMAGE, TARGET), list(explain.stream(IMAGE, TARGET))
    assert [s.provenance.forwards for s in on_the_way] == [33, 65, 97, 101]
    np.testing.assert_array_equal(on_the_way[-1].map, exact.map)


def test_a_stream_that_is_left_early_spends_no_more() -> None:
    done = []
    with Explainer(embedded(), score_cam(budget=100), providers=["cpu"]) as explain:
        stream = explain.stream(pictures()["coffee"], progress=lambda now, of: done.append(now))
        first = next(stream)
        stream.close()
    assert max(done) == START == first.provenance.forwards - 1


def test_the_same_call_gives_the_same_map() -> None:
    method = score_cam(budget=5)
    (one,), (other,) = run(method, probe(model(), method)), run(method, probe(model(), method))
    np.testing.assert_array_equal(one.map, other.map)
    assert one.error == other.error


class Stub:
    """A probe of random maps whose masks score what `answer` makes of their numbers (in the order of the maps)."""

    device_features, reduced = None, False

    def __init__(self, answer: Array, targets: int = 1) -> None:
        self.features = np.random.default_rng(2).random((len(answer), 5, 4), np.float32)
        self.size, self.targets, self.answer = (10, 8), targets, answer

    def expect(self, passes: int) -> None:
        assert 0 < passes <= len(self.answer)

    def original(self, score: Score) -> Array:
        return np.full(self.targets, 0.9, np.float32)

    def score(self, masks: Array, score: Score) -> Array:
        indices = [np.flatnonzero((self.features == mask[0]).all(axis=(1, 2)))[0] for mask in masks]
        return np.repeat(self.answer[indices][:, None], self.targets, axis=1).astype(np.float32)


def outcome(answer: Array, **options: Any) -> Outcome:
    method = score_cam(**options)
    return run(method, Stub(answer))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("late", [0.4, 1e-6])
def test_scores_that_are_zero_at_first_do_not_end_it(late: float) -> None:
    """One mask alone has a score: whenever it is met, the map is its own from then on, and that of the exact method."""
    answer = np.zeros(60)
    answer[17] = late
    for tolerance in (1e-9, 1e-320):  # the latter: whatever is divided by it is infinite
        np.testing.assert_allclose(outcome(answer, tolerance=tolerance).map, outcome(answer).map, atol=1e-6)


@pytest.mark.parametrize("options", [{"budget": 20}, {"tolerance": 0.02}, {}])
def test_scores_that_are_all_zero_have_no_map(options: dict[str, Any]) -> None:
    with pytest.raises(UndefinedSaliency):
        outcome(np.zeros(60), **options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_number_are_an_error(value: float) -> None:
    with pytest.raises(UndefinedSaliency, match="NaN or infinity"):
        outcome(np.full(60, value), budget=20)


@pytest.mark.parametrize("options", [{"budget": 1}, {"budget": 9}, {"budget": 30}])
def test_what_scored_alike_so_far_says_nothing_of_the_error(options: dict[str, Any]) -> None:
    estimated = outcome(np.full(60, 0.3), **options)
    assert estimated.error is None
    assert estimated.notes[-1].text.startswith("too few masks were scored, or all scored alike")
    assert not any("every mask scores the same" in note.text for note in estimated.notes)


def test_scores_that_are_all_the_same_are_said_to_be_once_all_are_known() -> None:
    estimated = outcome(np.full(60, 0.3), tolerance=0.02)
    assert estimated.channels == 60
    assert any("every mask scores the same" in note.text for note in estimated.notes)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e-17, 1e-30])
def test_small_scores_are_worth_what_large_ones_are(scale: float) -> None:
    """A target's probability may be next to nothing: its map is as good, and its bound the same."""
    answer = 0.9 / (1 + np.exp(-4 * np.random.default_rng(2).random((300, 5, 4), np.float32)[:, 2, 1] + 5))
    exact, estimated = outcome(scale * answer), outcome(scale * answer, budget=64)
    assert pearson(estimated.map, exact.map) > 0.99
    assert estimated.raw.max() == pytest.approx(exact.raw.max(), rel=0.1)
    assert estimated.error is not None
    assert np.sqrt(np.square(estimated.map - exact.map).mean()) <= BEYOND * estimated.error
    assert estimated.error == pytest.approx(outcome(answer, budget=64).error or 0, rel=0.5)


def test_a_few_that_differ_are_not_overlooked() -> None:
    """280 masks score 1 and 20 nothing to speak of: alike scores alone end no tolerance."""
    answer = np.ones(300)
    answer[::15] = 0.02
    assert np.ptp(answer[[17, 34, 51]]) == 0
    estimated = outcome(answer, tolerance=0.02)
    assert (estimated.channels or 0) > 26, "as many as scored alike when it once stopped"
    assert estimated.error is None or 0.005 < estimated.error <= 0.02


@pytest.mark.parametrize("convention", ["constructive", "destructive"])
def test_the_paper_variants_raw_map_keeps_its_scale(convention: str) -> None:
    logits = 10 * np.random.default_rng(2).random((300, 5, 4), np.float32).mean(axis=(1, 2))
    sign = -1 if convention == "destructive" else 1

    class Signed(Stub):
        def score(self, masks: Array, score: Score) -> Array:
            return super().score(sign * masks, score)

    raws = []
    for options in ({}, {"budget": 150}):
        (estimated,) = run(score_cam(variant="paper", convention=convention, **options), Signed(logits))  # type: ignore[arg-type]
        raws.append(estimated.raw)
    np.testing.assert_allclose(raws[1], raws[0], rtol=0.1)


def test_an_exact_stream_begins_with_what_makes_a_map() -> None:
    """The maps that vary most score alike: there is nothing to show of them, and the stream goes on."""
    answer = np.zeros(300)
    features = Stub(answer).features
    answer[np.argsort(-features.std(axis=(1, 2)))[150:]] = 0.5
    method = score_cam()
    assert method.stream is not None
    shown = [outcome_on_the_way for (outcome_on_the_way,) in method.stream(Stub(answer))]  # type: ignore[arg-type]
    assert 0 < len(shown) < 20
    np.testing.assert_array_equal(shown[-1].map, outcome(answer).map)
    assert shown[0].notes[-1].text.endswith("of 300 feature maps so far")
    assert (shown[0].channels or 0) + shown[0].left == 300
    assert shown[-1].notes == outcome(answer).notes


def test_probabilities_may_be_one_and_a_rounding() -> None:
    answer = np.linspace(0, 1, 60)
    answer[-1] = np.nextafter(np.float32(1), np.float32(2))
    assert np.isfinite(outcome(answer, budget=40).map).all()


@pytest.mark.parametrize("convention", ["constructive", "destructive"])
def test_scores_far_beyond_probabilities_are_taken_as_they_are(convention: str) -> None:
    rng = np.random.default_rng(0)
    answer = 1000 * np.random.default_rng(2).random((60, 5, 4), np.float32).mean(axis=(1, 2)) + rng.normal(size=60)
    sign = -1 if convention == "destructive" else 1

    class Signed(Stub):
        def score(self, masks: Array, score: Score) -> Array:
            return super().score(sign * masks, score)

    method = score_cam(convention=convention, budget=45)
    (estimated,) = run(method, Signed(answer))  # type: ignore[arg-type]
    assert np.abs(estimated.raw).max() > 1000
    exact, *_ = run(score_cam(convention=convention), Signed(answer))  # type: ignore[arg-type]
    assert estimated.error is not None
    assert np.sqrt(np.square(estimated.map - exact.map).mean()) <= BEYOND * estimated.error
    assert pearson(estimated.raw, exact.raw) > 0.99


def test_a_tolerance_that_takes_most_masks_ends_in_the_exact_map_at_once() -> None:
    """Scores that no mask foretells: from half of the masks on, the rest is scored without another fit."""
    answer = np.random.default_rng(5).random(200)
    stream = score_cam(tolerance=0.001).stream
    assert stream is not None
    outcomes = [each[0] for each in stream(Stub(answer))]  # type: ignore[arg-type]
    *_, before, last = [o.channels for o in outcomes]
    assert 100 <= before < 140
    assert last == 200
    assert outcomes[-1].notes[-1].code is NoteCode.ALL_SCORED
    assert outcomes[-1].error is None
    np.testing.assert_allclose(outcomes[-1].map, outcome(answer).map, atol=1e-6)
    kept = outcome(answer, tolerance=0.001, budget=60)
    assert kept.channels == 60, "a budget is kept"


def test_the_rest_is_scored_at_once_from_half_of_the_masks_on() -> None:
    limits = Limits(None, 0.02)
    assert not limits.ends_exact(49, 100)
    assert limits.ends_exact(50, 100)
    assert not Limits(64, None).ends_exact(64, 100), "without a tolerance the budget is what was wanted"
    assert not Limits(99, 0.02).ends_exact(60, 100), "a budget is kept"
