"""The blocks on a probe made by hand, where every number can be summed on paper."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods import METHODS, defaults, gradient_free
from onnxcam.methods.blocks import Convention, FeatureMaps, FourBlocks, Method, WeightedSum, run
from onnxcam.methods.maps import Outcome, rectified, summed
from onnxcam.methods.score_cam import score_cam
from onnxcam.types import Floats, Masks, Score, Scores

ONE = np.array([[0.0, 2.0], [0.0, 0.0]], np.float32)
TWO = np.array([[0.0, 0.0], [4.0, 0.0]], np.float32)
FLAT = np.full((2, 2), 3.0, np.float32)


@dataclass
class FakeProbe:
    """Answers with fixed scores a mask, and remembers which masks it scored."""

    features: Floats
    answers: Sequence[Sequence[float]]
    size: tuple[int, int] = (2, 2)
    scored: list[Masks] = field(default_factory=list)
    expected: int = 0
    device_features: None = None
    reduced: bool = False

    @property
    def targets(self) -> int:
        return len(self.answers[0])

    def expect(self, passes: int) -> None:
        self.expected = passes

    def original(self, score: Score) -> Floats:
        return np.full(len(self.answers[0]), 0.9, np.float32)

    def score(self, masks: Masks, score: Score) -> Scores:
        self.scored.append(masks)
        return np.array(self.answers, np.float32)


def test_constructive_weights_are_the_scores_and_constant_maps_are_skipped() -> None:
    probe = FakeProbe(np.stack([ONE, FLAT, TWO]), [[0.5], [0.25]])
    (outcome,) = run(score_cam(), probe)
    assert outcome.channels == probe.expected == 2
    np.testing.assert_allclose(outcome.raw, 0.5 * ONE + 0.25 * TWO)
    np.testing.assert_allclose(outcome.map, [[0, 1], [1, 0]])


def test_destructive_masks_are_inverted_and_weights_are_the_drop() -> None:
    probe = FakeProbe(np.stack([ONE, TWO]), [[0.1], [0.8]])
    (outcome,) = run(score_cam(convention="destructive"), probe)
    np.testing.assert_array_equal(probe.scored[0][:, 0], [-ONE, -TWO])
    np.testing.assert_allclose(outcome.raw, 0.8 * ONE + 0.1 * TWO, rtol=1e-6)


def test_the_papers_weights_are_a_softmax_over_the_channels() -> None:
    probe = FakeProbe(np.stack([ONE, TWO]), [[2.0], [1.0]])
    (outcome,) = run(score_cam(variant="paper"), probe)
    a = np.exp([2.0, 1.0]) / np.exp([2.0, 1.0]).sum()
    np.testing.assert_allclose(outcome.raw, a[0] * ONE + a[1] * TWO, rtol=1e-6)


def test_each_target_has_its_own_weights_from_one_scoring() -> None:
    probe = FakeProbe(np.stack([ONE, TWO]), [[1.0, 0.0], [0.0, 1.0]])
    outcomes = run(score_cam(), probe)
    np.testing.assert_allclose([o.raw for o in outcomes], [ONE, TWO])
    assert len(probe.scored) == 1


def test_a_map_that_relu_empties_is_shown_unrectified_with_a_note() -> None:
    outcome = rectified(np.array([[-1.0, -3.0]], np.float32), (1, 2))
    np.testing.assert_allclose(outcome.map, [[1, 0]])
    assert "un-rectified" in outcome.notes[0].text


def test_negative_regions_are_cut_before_normalising() -> None:
    np.testing.assert_allclose(rectified(np.array([[-1.0, 0.0, 2.0]], np.float32), (1, 3)).map, [[0, 0, 1]])


def test_finishing_a_map_leaves_the_raw_one_as_it_was() -> None:
    raw = np.array([[-1.0, 0.0, 2.0]], np.float32)  # of the image's size, so that enlarging it changes no number
    assert rectified(raw, (1, 3)).raw is raw
    np.testing.assert_array_equal(raw, [[-1, 0, 2]])


def test_constant_maps_only_and_a_constant_result_are_errors() -> None:
    with pytest.raises(UndefinedSaliency, match="all 2 feature maps are constant"):
        run(score_cam(), FakeProbe(np.stack([FLAT, FLAT]), [[1.0]]))
    with pytest.raises(UndefinedSaliency, match="constant"):
        rectified(FLAT, (2, 2))


def test_a_map_that_varies_by_rounding_alone_is_constant() -> None:
    noisy = FLAT.copy()
    noisy[0, 0] = np.nextafter(np.float32(3), np.float32(4))
    search = FeatureMaps()(FakeProbe(np.stack([ONE, noisy]), [[1.0]]))
    assert len(next(search)) == 1


def test_features_and_scores_that_overflow_are_errors() -> None:
    with pytest.raises(UndefinedSaliency, match="NaN or infinity"):
        run(score_cam(), FakeProbe(np.full((1, 2, 2), np.inf, np.float32), [[1.0]]))
    with pytest.raises(UndefinedSaliency, match="scores hold NaN"):
        run(score_cam(), FakeProbe(np.stack([ONE]), [[np.nan]]))


def test_a_search_receives_every_score_and_the_aggregator_sees_the_stream() -> None:
    received = []

    def explore(probe: object) -> object:
        received.append((yield ONE[None, None]))
        received.append((yield TWO[None, None]))

    probe = FakeProbe(np.stack([ONE]), [[0.5]])
    seen = []

    def attribute(_: object, masks: Masks) -> Scores:
        seen.append(masks)
        return np.array([[float(len(seen))]], np.float32)

    explain = FourBlocks(explore, attribute, WeightedSum())  # type: ignore[arg-type]
    (outcome,) = run(Method("test", "none", "none", explain), probe)
    assert outcome.channels == 2
    assert [float(r[0, 0]) for r in received] == [1.0, 2.0]
    np.testing.assert_allclose(outcome.raw, ONE + 2 * TWO)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_states_its_name_paper_and_cost(name: str) -> None:
    method = METHODS[name]()
    assert method.name == name
    assert re.search(r" (19|20)\d\d, (arXiv:\d{4}\.\d{4,5}|doi:10\.\d+/\S+)$", method.paper)
    assert method.cost == "none" if name == "eigen-cam" else re.search(r"\d|one", method.cost)
    assert method.explain is not None or method.stream is not None
    assert method.searches == (name in ("opti-cam", "mask"))


def test_unknown_conventions_and_variants_list_the_near_ones() -> None:
    with pytest.raises(OptionError, match="did you mean destructive"):
        score_cam(convention="destructiv")
    with pytest.raises(OptionError, match="did you mean paper"):
        score_cam(variant="papers")
    assert score_cam(convention=Convention.DESTRUCTIVE).options["convention"] == "destructive"


def test_masks_that_all_score_the_same_are_told_target_by_target() -> None:
    probe = FakeProbe(np.stack([ONE, TWO]), [[0.5, 0.5], [0.5, 0.4]])
    alike, apart = run(score_cam(), probe)
    assert "every mask scores the same" in alike.notes[-1].text
    assert not apart.notes


def test_methods_without_gradients_are_those_that_need_none_and_take_any_head() -> None:
    expected = {"score-cam", "ablation-cam", "recipro-cam", "eigen-cam", "rise"}
    assert set(gradient_free()) == expected, "a new method without gradients is added to this list"


@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_that_are_stated_make_the_method(name: str) -> None:
    assert METHODS[name](**defaults(name)).options == METHODS[name]().options


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda probe, outcome: outcome, "must return a list with one Outcome for each of 1 targets"),
        (lambda probe, outcome: [], "not 0"),
        (lambda probe, outcome: [outcome] * 2, "not 2"),
        (lambda probe, outcome: [outcome.map], "must return a list"),
        (lambda probe, outcome: [replace(outcome, map=outcome.map[:5, :5])], r"a map of the shape \(5, 5\)"),
    ],
)
def test_what_a_method_returns_wrongly_is_said_in_a_sentence(returned: Any, said: str) -> None:
    def explain(probe: Any) -> Any:
        return returned(probe, rectified(probe.features[0], probe.size))

    probe = SimpleNamespace(features=np.eye(3, dtype=np.float32)[None], size=(12, 12), targets=1)
    with pytest.raises(OptionError, match=said):
        run(Method(name="mine", paper="none", cost="none", explain=explain), cast(Any, probe))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_map_with_nan_or_infinity_is_no_result(number: float) -> None:
    probe = SimpleNamespace(size=(2, 3), targets=1)
    method = Method(
        name="mine", paper="none", cost="none", explain=lambda _: [Outcome(np.full((2, 3), number), np.ones((1, 1)))]
    )
    with pytest.raises(UndefinedSaliency, match="'mine' holds NaN or infinity"):
        run(method, cast(Any, probe))


def test_the_sum_of_no_maps_is_zero() -> None:
    np.testing.assert_array_equal(summed(np.zeros((0, 2, 3), np.float32), np.zeros((0, 4))), np.zeros((4, 2, 3)))
