"""METRICS and measure(): names, protocols, and what is missing."""

import numpy as np
import pytest
from known_scores import SIDES, object_at, sum_scorer

from onnxcam.errors import OptionError
from onnxcam.metrics.curves import deletion
from onnxcam.metrics.metric import Better, Need
from onnxcam.metrics.registry import METRICS, ROWS, measure, metric_named

MAP = object_at([3, 4, 9]) * 3 * np.linspace(1, 0.5, 24).reshape(SIDES)
BOX = (3.0, 0.0, 5.0, 2.0)
LOWER, NEITHER = {"average_drop", "deletion"}, {"sparseness"}


def test_every_metric_says_what_it_is() -> None:
    assert len(METRICS) == len(ROWS), "a name twice"
    for name, metric in METRICS.items():
        assert metric.name == name
        assert all((metric.title, metric.range, metric.source, metric.cost))
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
        ("delation", "no metric is called 'delation'; known: average_drop, .*deletion, insertion"),
        ("deletion:black", "deletion has no protocol 'black'; known: zero, mean, blur-rise, blur-gaussian"),
        ("deletion:", "deletion has no protocol ''"),
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
