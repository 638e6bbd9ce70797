"""The summary against loops over the rows, written out."""

from typing import Any

import numpy as np
import pytest
from evaluated import curve, row, rows

from onnxcam.errors import OptionError
from onnxcam.evaluation.collection import GRID, Measure, State, collect, on_grid
from onnxcam.evaluation.export import summary_csv
from onnxcam.evaluation.statistics import means_with_intervals
from onnxcam.evaluation.summary import Standing, SummaryLine, summarise


def line(summary: Any, method: str, metric: str, model: str = "small") -> SummaryLine:
    (one,) = [x for x in summary.lines if (x.method, x.measure.metric, x.model_name) == (method, metric, model)]
    return one


def test_the_interval_is_that_of_a_loop_over_draws_of_pictures() -> None:
    table = np.random.default_rng(3).normal(size=(12, 3))
    table[[1, 5], 1] = np.nan
    estimates = means_with_intervals(table, seed=7, resamples=400)
    random = np.random.default_rng(7)
    draws = [random.integers(0, 12, 12) for _ in range(400)]
    for j, estimate in enumerate(estimates):
        means = [np.nanmean(table[draw, j]) for draw in draws]
        assert estimate is not None
        assert (estimate.low, estimate.high) == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=1e-12)
        assert estimate.mean == pytest.approx(np.nanmean(table[:, j]))
        assert estimate.n == np.isfinite(table[:, j]).sum()


def test_a_column_without_numbers_has_no_mean() -> None:
    assert means_with_intervals([[1.0, np.nan], [3.0, np.nan]])[1] is None
    assert means_with_intervals(np.zeros((0, 2))) == (None, None)


def test_mean_median_and_counts_are_those_of_the_rows() -> None:
    given = [
        *rows({"grad-cam": {"deletion": [0.1, 0.2, 0.9, None]}}),
        row("4.jpg", "grad-cam", "", None, error="the gradient is missing"),
        row("5.jpg", "score-cam", "deletion", 0.5),
    ]
    one = line(summarise(given), "grad-cam", "deletion")
    assert one.estimate is not None
    assert one.estimate.mean == pytest.approx(0.4)
    assert (one.estimate.n, one.median, one.undefined, one.errors, one.missing) == (3, 0.2, 1, 1, 1)


def test_a_picture_that_is_broken_for_all_methods_counts_for_each() -> None:
    given = [*rows({"a": {"road": [0.1]}, "b": {"road": [0.2]}}), row("1.jpg", "", "", None, error="cut short")]
    assert [line(summarise(given), method, "road").errors for method in "ab"] == [1, 1]


def test_the_difference_is_paired_and_leaves_out_what_one_side_lacks() -> None:
    given = rows({"a": {"road": [0.1, 0.2, 0.3, None]}, "b": {"road": [0.2, 0.4, None, 0.1]}})
    summary = summarise(given, against="a")
    assert line(summary, "a", "road").difference is None
    difference = line(summary, "b", "road").difference
    assert difference is not None
    assert (difference.mean, difference.n) == (pytest.approx(0.15), 2)
    assert 0.1 - 1e-12 <= difference.low <= difference.high <= 0.2 + 1e-12


def test_the_first_method_that_is_no_baseline_is_compared_with() -> None:
    given = list(rows({"ones": {"road": [0.0]}, "rise": {"road": [0.1]}, "mask": {"road": [0.1]}}))
    assert summarise(given).against == "rise"
    assert summarise(given, against="mask").against == "mask"
    with pytest.raises(OptionError, match="mask"):
        summarise(given, against="mas")


SURE, UNSURE = [0.1, 0.12, 0.11, 0.13, 0.1, 0.12], [0.5, 0.05, 0.4, 0.02, 0.6, 0.1]


def test_the_best_is_marked_only_where_the_interval_excludes_0() -> None:
    lower = [value - 0.08 for value in SURE]
    summary = summarise(rows({"a": {"deletion": SURE}, "b": {"deletion": lower}}))
    assert [line(summary, method, "deletion").standing for method in "ab"] == [Standing.NONE, Standing.BEST]
    summary = summarise(rows({"a": {"insertion": SURE}, "b": {"insertion": UNSURE}}))
    assert [line(summary, method, "insertion").standing for method in "ab"] == [Standing.LEADING] * 2


def test_a_single_method_and_a_metric_without_a_direction_have_no_best() -> None:
    summary = summarise(rows({"a": {"deletion": SURE, "sparseness": SURE}, "ones": {"deletion": UNSURE}}))
    assert {x.standing for x in summary.lines} == {Standing.NONE}


def test_a_baseline_is_never_the_best_but_may_be_ahead() -> None:
    higher = [value + 0.5 for value in SURE]
    summary = summarise(
        rows({"a": {"pointing_game": SURE}, "b": {"pointing_game": SURE}, "gaussian": {"pointing_game": higher}})
    )
    standings = [line(summary, method, "pointing_game").standing for method in ("a", "b", "gaussian")]
    assert standings == [Standing.LEADING, Standing.LEADING, Standing.AHEAD]


def test_a_method_with_values_on_easy_pictures_only_is_not_the_best() -> None:
    easy: list[float | None] = [0.8 + i / 1000 for i in range(10)]
    all_of_them: list[float | None] = [*(0.9 + i / 1000 for i in range(10)), *([0.11] * 10)]
    given = {"grad-cam": {"insertion": [*easy, *([None] * 10)]}, "score-cam": {"insertion": all_of_them}}
    summary = summarise(rows(given))
    standings = [line(summary, method, "insertion").standing for method in given]
    assert standings == [Standing.NONE, Standing.BEST]


def test_a_leader_that_another_beats_on_more_pictures_gives_way() -> None:
    """All have a value on the last two pictures only, where `a` is better; `b` beats it on the ten that both have."""
    given: dict[str, dict[str, list[float | None]]] = {
        "a": {"insertion": [*([0.2] * 10), 0.9, 0.9]},
        "b": {"insertion": [*([0.8] * 10), 0.8, 0.8]},
        "c": {"insertion": [*([None] * 10), 0.1, 0.1]},
    }
    summary = summarise(rows(given))
    standings = [line(summary, method, "insertion").standing for method in given]
    assert standings == [Standing.NONE, Standing.LEADING, Standing.LEADING]
    summary = summarise(rows({method: given[method] for method in "ab"}))
    assert [line(summary, method, "insertion").standing for method in "ab"] == [Standing.NONE, Standing.BEST]


def test_of_methods_that_beat_each_other_in_a_circle_none_is_the_best() -> None:
    """On pictures of each pair alone: b beats a, c beats b, a beats c."""
    none: list[float | None] = [None] * 6
    given: dict[str, dict[str, list[float | None]]] = {
        "a": {"insertion": [*([0.1] * 6), *none, *([0.9] * 6)]},
        "b": {"insertion": [*([0.9] * 6), *([0.1] * 6), *none]},
        "c": {"insertion": [*none, *([0.9] * 6), *([0.1] * 6)]},
    }
    standings = {one.method: one.standing for one in summarise(rows(given)).lines}
    assert Standing.BEST not in standings.values()
    assert Standing.LEADING in standings.values()


def test_a_mask_of_1_that_loses_nothing_by_definition_is_not_ahead() -> None:
    values = [value * 100 for value in SURE]
    given = {"a": values, "b": values, "ones": [0.0] * 6, "gaussian": [0.0] * 6}
    summary = summarise(rows({method: {"average_drop:mult": v} for method, v in given.items()}))
    standings = {method: line(summary, method, "average_drop").standing for method in given}
    assert standings["ones"] is Standing.NONE
    assert standings["gaussian"] is Standing.AHEAD


def test_a_method_that_failed_on_every_picture_keeps_its_lines() -> None:
    given = [*rows({"a": {"road": [0.1, 0.2], "adcc": [0.1, 0.2]}})]
    given += [row(f"{i}.jpg", "b", "", None, error="the gradient is missing") for i in range(2)]
    summary = summarise(given)
    assert [(x.method, x.measure.metric) for x in summary.lines] == [
        ("a", "road"), ("a", "adcc"), ("b", "road"), ("b", "adcc"),
    ]  # fmt: skip
    failed = line(summary, "b", "road")
    assert (failed.estimate, failed.median, failed.errors, failed.missing) == (None, None, 2, 0)
    assert len(summary_csv(summary).splitlines()) == 5


def test_a_method_without_a_value_is_not_compared_with_by_itself_and_chosen_it_is_said() -> None:
    given = [row("0.jpg", "b", "", None, error="no gradient"), *rows({"a": {"road": [0.1]}})]
    assert (summarise(given).against, summarise(given).against_has_values) == ("a", True)
    chosen = summarise(given, against="b")
    assert (chosen.against, chosen.against_has_values) == ("b", False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_finite_number_is_undefined_and_counted(value: float) -> None:
    given = rows({"a": {"road": [0.1, value, 0.3]}})
    collection = collect(given)
    one = line(summarise(collection), "a", "road")
    assert one.estimate is not None
    assert (one.estimate.mean, one.estimate.n, one.undefined) == (pytest.approx(0.2), 2, 1)
    assert collection.columns[0].reasons == {1: f"{value} is no finite number"}


def test_other_models_targets_protocols_and_options_are_other_lines() -> None:
    given = [
        row("0.jpg", "a", "deletion", 0.1, protocol="zero"),
        row("0.jpg", "a", "deletion", 0.2, protocol="mean"),
        row("0.jpg", "a", "deletion", 0.3, protocol="zero", options='{"step": 224}'),
        row("0.jpg", "a", "deletion", 0.4, protocol="zero", target="label"),
        row("0.jpg", "a", "deletion", 0.5, protocol="zero", model="large"),
    ]
    assert [x.estimate.mean for x in summarise(given).lines if x.estimate] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_two_rows_of_one_key_are_refused() -> None:
    with pytest.raises(OptionError, match=r"two rows for the picture 0\.jpg"):
        summarise([row("0.jpg", "a", "road", 0.1), row("0.jpg", "a", "road", 0.2)])


def test_what_a_method_costs_is_the_mean_over_its_maps() -> None:
    given = [
        row("0.jpg", "a", "road", 0.1, method_seconds=1.0, method_passes=10),
        row("0.jpg", "a", "adcc", 0.1, method_seconds=1.0, method_passes=10),
        row("1.jpg", "a", "road", 0.1, method_seconds=3.0, method_passes=20),
        row("2.jpg", "a", "", None, error="no map"),
    ]
    (cost,) = summarise(given).methods
    assert (cost.maps, cost.errors, cost.seconds, cost.passes) == (2, 1, 2.0, 15.0)


def test_curves_of_other_steps_meet_on_one_grid() -> None:
    given = [
        row("0.jpg", "a", "deletion", 0.5, curve=curve([1.0, 0.0])),
        row("1.jpg", "a", "deletion", 0.5, curve=curve([1.0, 0.5, 0.0])),
        row("2.jpg", "a", "deletion", None, reason="constant"),
    ]
    (column,) = collect(given, curves=True).columns
    assert column.curves is not None
    assert column.curves[:2] == pytest.approx(np.stack([1 - GRID] * 2), abs=1e-6)
    assert np.isnan(column.curves[2]).all()
    assert column.reasons == {2: "constant"}
    assert list(column.states) == [State.VALUE, State.VALUE, State.UNDEFINED]
    assert column.measure == Measure("deletion", "")


def test_a_curve_ends_where_it_was_measured() -> None:
    scores = on_grid(np.array([[0.2, 0.5], [0.8, 0.1]], np.float32))
    assert np.isnan(scores[GRID < 0.199]).all()
    assert np.isnan(scores[GRID > 0.801]).all()
    assert scores[[8, 20, 32]] == pytest.approx([0.5, 0.3, 0.1])


def test_boxes_of_each_picture_do_not_part_a_measure() -> None:
    given = [row(f"{i}.jpg", "a", "road", i / 10, options=f'{{"boxes":"{i}","seed":3}}') for i in range(3)]
    (one,) = summarise(given).lines
    assert one.estimate is not None
    assert (one.estimate.n, one.measure.options) == (3, '{"seed":3}')


def test_fewer_than_six_pairs_tell_nothing_apart() -> None:
    five = summarise(rows({"a": {"road": SURE[:5]}, "b": {"road": [value + 1 for value in SURE[:5]]}}))
    assert [one.standing for one in five.lines] == [Standing.LEADING] * 2
    six = summarise(rows({"a": {"road": SURE}, "b": {"road": [value + 1 for value in SURE]}}))
    assert [one.standing for one in six.lines] == [Standing.NONE, Standing.BEST]


def test_no_rows_have_no_lines() -> None:
    summary = summarise([])
    assert (summary.lines, summary.methods, summary.against) == ((), (), "")
