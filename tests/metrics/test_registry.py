"""METRICS and measure(): names, protocols, and what is missing."""

import numpy as np
import pytest
from known_scores import SIDES, object_at, sum_scorer

from onnxcam.errors import OptionError
from onnxcam.metrics.curves import deletion
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.metric import Better, Need
from onnxcam.metrics.registry import METRICS, ROWS, measure, metric_named
from onnxcam.metrics.requests import requested, under_every_name

MAP = object_at([3, 4, 9]) * 3 * np.linspace(1, 0.5, 24).reshape(SIDES)
BOX = (3.0, 0.0, 5.0, 2.0)
LOWER, NEITHER = {"average_drop", "deletion"}, {"sparseness"}


def test_every_metric_says_what_it_is() -> None:
    assert len(METRICS) == len(ROWS), "a name twice"
    for name, metric in METRICS.items():
        assert metric.name == name
        assert all((metric.title, metric.range, metric.source, metric.cost, metric.meaning))
        assert metric.better is (
            Better.LOWER if name in LOWER else Better.NEITHER if name in NEITHER else Better.HIGHER
        )
        assert "19" in metric.source or "20" in metric.source, "the year of the paper"


def test_every_metric_measures_under_each_of_its_protocols() -> None:
    with sum_scorer(object_at([3, 4, 9]), np.full(SIDES, 0.8)) as scorer:
        for name, metric in METRICS.items():
            for protocol in metric.protocols or (None,):
                full = name if protocol is None else f"{name}:{protocol}"
                result = measure(full, MAP, scorer, box=BOX, explain=lambda image: np.abs(image[0]))
                assert (result.metric, result.protocol) == (name, protocol)
                assert (result.value is None) == (result.reason is not None), (full, result)


def test_what_is_missing_is_the_reason() -> None:
    with sum_scorer(object_at([3, 4, 9]), np.full(SIDES, 0.8)) as scorer:
        for name, metric in METRICS.items():
            for need, words in ((Need.SCORER, "a Scorer"), (Need.BOX, "box"), (Need.EXPLAIN, "no method was given")):
                if need in metric.needs:
                    present = {"scorer": scorer, "box": BOX, "explain": lambda image: np.abs(image[0])} | {need: None}
                    result = measure(name, MAP, **present)
                    assert result.value is None
                    assert words in result.reason
                    assert result.passes == 0


def test_dashes_underscores_and_the_default_protocol() -> None:
    for name in ("average-drop", "average_drop", "average-drop:mult", " average_drop : mult "):
        metric, protocol = metric_named(name)
        assert (metric.name, protocol) == ("average_drop", "mult")
    assert metric_named("deletion")[1] == "zero"
    assert metric_named("insertion")[1] == "blur-rise"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("delation", "no metric is called 'delation'; did you mean deletion"),
        ("average_dorp", "did you mean average-drop"),
        ("xyzzy", "known: average-drop, .*`onnxcam metrics` lists them"),
        ("deletion:black", "deletion has no protocol 'black'; known: zero, mean, blur-rise, blur-gaussian"),
        ("deletion:", "deletion has no protocol ''"),
        ("average_drop:zero", "average-drop has no protocol 'zero'"),
        ("", "no metric is called ''"),
        (7, "a metric's name is a text such as 'deletion', not 7"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        measure(name, MAP)


def test_options_reach_the_metric() -> None:
    reports = []
    with sum_scorer(object_at([3, 4, 9]), np.full(SIDES, 0.8)) as scorer:
        result = measure("deletion:mean", MAP, scorer, step=6, progress=lambda done, of: reports.append((done, of)))
        assert result.value == deletion(scorer, MAP, protocol="mean", step=6).value
    assert result.options == {"step": 6}
    assert reports[-1] == (5, 5)


def test_names_of_one_protocol_are_one_metric_under_the_first_of_them() -> None:
    assert requested(["deletion", "deletion:zero", "deletion:mean"], has_box=False) == ("deletion", "deletion:mean")
    assert requested(["average_drop:mult", "average-drop"], has_box=False) == ("average_drop:mult",)
    everything = requested(["deletion:zero", "all"], has_box=False)
    assert everything[0] == "deletion:zero"
    assert "deletion" not in everything
    assert len(everything) == len([m for m in METRICS.values() if Need.BOX not in m.needs])


def test_names_that_were_merged_still_lead_to_their_number() -> None:
    one = Measurement("deletion", 0.25, "zero")
    results = under_every_name(["deletion", "all", "deletion:zero"], {"deletion": one})
    assert results == {"deletion": one, "deletion:zero": one}


def test_a_measurement_says_which_way_is_better_and_its_unit() -> None:
    for name, metric in METRICS.items():
        one = Measurement(name, 0.5)
        assert (one.better, one.unit) == (metric.better, metric.unit)
    assert (Measurement("of another tool", 1).better, Measurement("of another tool", 1).unit) == (None, "")


def test_a_box_that_no_metric_reads_names_those_that_do_as_they_are_typed() -> None:
    with pytest.raises(OptionError, match="those that do: energy-pointing-game, pointing-game"):
        requested(["deletion"], has_box=True)
