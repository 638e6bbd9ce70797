"""The table of metrics, and measure(), which measures by name.

METRICS maps each name to its Metric: direction, range, source, protocols, needs, cost. To add a metric, write a
function in a file of this package and a row here.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy.typing as npt

from onnxcam.errors import OptionError, near
from onnxcam.limits import brief
from onnxcam.metrics.adcc import adcc
from onnxcam.metrics.arguments import known_protocol, typed
from onnxcam.metrics.average import MASK_PROTOCOLS, average_drop, average_gain, average_increase
from onnxcam.metrics.complexity import sparseness
from onnxcam.metrics.curves import DELETION_PROTOCOLS, INSERTION_PROTOCOLS, deletion, insertion
from onnxcam.metrics.faithfulness import CORRELATION_PROTOCOLS, faithfulness_correlation
from onnxcam.metrics.localisation import POINTING_PROTOCOLS, energy_pointing_game, pointing_game
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.metric import Better, Boxes, Explain, Metric, MetricInputs, Need
from onnxcam.metrics.road import road
from onnxcam.types import Placement, Progress

if TYPE_CHECKING:
    from onnxcam.metrics.scorer import Scorer

GRAD_CAM_PP = "Chattopadhay et al. 2018, arXiv:1710.11063"
SCORE_CAM = "Wang et al. 2020, arXiv:1910.01279"
OPTI_CAM = "Zhang et al. 2024, arXiv:2301.07002"
RISE = "Petsiuk et al. 2018, arXiv:1806.07421"
ZHANG = "Zhang et al. 2016, arXiv:1608.00507"
ROAD = "Rong et al. 2022, arXiv:2202.00449"
BHATT = "Bhatt et al. 2020, arXiv:2005.00631"
POPPI = "Poppi et al. 2021, arXiv:2104.10252"
CHALASANI = "Chalasani et al. 2020, arXiv:1810.06583"
CURVE_COST = "1 forward pass a step and one more (29 or 30 by default)"


class _Masked(Protocol):
    def __call__(
        self, scorer: "Scorer", saliency_map: npt.ArrayLike, *, protocol: str, progress: Progress | None
    ) -> Measurement: ...


class _Curve(Protocol):
    def __call__(
        self,
        scorer: "Scorer",
        saliency_map: npt.ArrayLike,
        *,
        protocol: str,
        step: int | None,
        progress: Progress | None,
    ) -> Measurement: ...


def _masked(function: _Masked) -> Callable[[MetricInputs, str | None], Measurement]:
    def run(inputs: MetricInputs, protocol: str | None) -> Measurement:
        assert inputs.scorer is not None
        assert protocol is not None
        return function(inputs.scorer, inputs.saliency_map, protocol=protocol, progress=inputs.progress)

    return run


def _curve(function: _Curve) -> Callable[[MetricInputs, str | None], Measurement]:
    def run(inputs: MetricInputs, protocol: str | None) -> Measurement:
        assert inputs.scorer is not None
        assert protocol is not None
        return function(
            inputs.scorer, inputs.saliency_map, protocol=protocol, step=inputs.step, progress=inputs.progress
        )

    return run


def _energy(inputs: MetricInputs, protocol: str | None) -> Measurement:
    assert inputs.box is not None
    return energy_pointing_game(inputs.saliency_map, inputs.box, placement=inputs.placement)


def _pointing(inputs: MetricInputs, protocol: str | None) -> Measurement:
    assert inputs.box is not None
    assert protocol is not None
    return pointing_game(inputs.saliency_map, inputs.box, protocol=protocol, placement=inputs.placement)


def _road(inputs: MetricInputs, protocol: str | None) -> Measurement:
    assert inputs.scorer is not None
    return road(inputs.scorer, inputs.saliency_map, seed=inputs.seed, progress=inputs.progress)


def _correlation(inputs: MetricInputs, protocol: str | None) -> Measurement:
    assert inputs.scorer is not None
    assert protocol is not None
    return faithfulness_correlation(
        inputs.scorer, inputs.saliency_map, protocol=protocol, seed=inputs.seed, progress=inputs.progress
    )


def _adcc(inputs: MetricInputs, protocol: str | None) -> Measurement:
    assert inputs.scorer is not None
    assert inputs.explain is not None
    return adcc(inputs.scorer, inputs.saliency_map, inputs.explain, progress=inputs.progress)


def _sparseness(inputs: MetricInputs, protocol: str | None) -> Measurement:
    return sparseness(inputs.saliency_map)


ROWS = (
    Metric(
        "average_drop", "Average drop", Better.LOWER, "0 to 100 %", f"{GRAD_CAM_PP}; {SCORE_CAM}; {OPTI_CAM}",
        frozenset({Need.SCORER}), "1 forward pass", _masked(average_drop), MASK_PROTOCOLS, "%",
        meaning="how much of the score is lost when only what the map keeps is seen",
    ),
    Metric(
        "average_increase", "Average increase", Better.HIGHER, "0 or 100 %", f"{GRAD_CAM_PP}; {SCORE_CAM}; {OPTI_CAM}",
        frozenset({Need.SCORER}), "1 forward pass", _masked(average_increase), MASK_PROTOCOLS, "%",
        meaning="whether the score rises when only what the map keeps is seen",
    ),
    Metric(
        "average_gain", "Average gain", Better.HIGHER, "0 to 100 %", OPTI_CAM,
        frozenset({Need.SCORER}), "1 forward pass", _masked(average_gain), MASK_PROTOCOLS, "%",
        meaning="the rise of the score seen through the map, of the room up to 1",
    ),
    Metric(
        "deletion", "Deletion", Better.LOWER, "0 to 1", RISE,
        frozenset({Need.SCORER}), CURVE_COST, _curve(deletion), DELETION_PROTOCOLS,
        meaning="area under the score while pixels go, the most salient first",
    ),
    Metric(
        "insertion", "Insertion", Better.HIGHER, "0 to 1", RISE,
        frozenset({Need.SCORER}), CURVE_COST, _curve(insertion), INSERTION_PROTOCOLS,
        meaning="area under the score while pixels come back, the most salient first",
    ),
    Metric(
        "energy_pointing_game", "Energy pointing game", Better.HIGHER, "0 to 1", SCORE_CAM,
        frozenset({Need.BOX}), "no forward pass", _energy,
        meaning="the share of the map that lies in the object's box",
    ),
    Metric(
        "pointing_game", "Pointing game", Better.HIGHER, "0 or 1, between at ties", ZHANG,
        frozenset({Need.BOX}), "no forward pass", _pointing, POINTING_PROTOCOLS,
        meaning="whether the map's maximum lies in the object's box",
    ),
    Metric(
        "road", "ROAD", Better.HIGHER, "-0.5 to 0.5", ROAD,
        frozenset({Need.SCORER, Need.SEED}), "2 forward passes a percentile (8), and the imputation", _road,
        meaning="the score without the least salient pixels against without the most salient",
    ),
    Metric(
        "faithfulness_correlation", "Faithfulness correlation", Better.HIGHER, "-1 to 1", f"{BHATT}; Xplique",
        frozenset({Need.SCORER, Need.SEED}), "1 forward pass a subset (200)", _correlation, CORRELATION_PROTOCOLS,
        meaning="whether the score's drop follows the sum of the map that was removed",
    ),
    Metric(
        "adcc", "ADCC", Better.HIGHER, "0 to 1", POPPI,
        frozenset({Need.SCORER, Need.EXPLAIN}), "1 forward pass and one explanation", _adcc,
        meaning="average drop, coherency and complexity in one number",
    ),
    Metric(
        "sparseness", "Sparseness (Gini)", Better.NEITHER, "0 to 1", CHALASANI,
        frozenset(), "no forward pass", _sparseness,
        meaning="how few pixels hold the map (Gini index); says nothing of its place",
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in ROWS}
"""The metrics by name."""

MISSING = {
    Need.SCORER: "it needs the model, as a Scorer of the picture",
    Need.BOX: "no box of the object was given",
    Need.EXPLAIN: "it explains the masked image too, and no method was given for that",
}
"""Why a metric has no value without what it needs."""


def measure(
    name: str,
    saliency_map: npt.ArrayLike,
    scorer: "Scorer | None" = None,
    *,
    box: Boxes | None = None,
    placement: Placement | None = None,
    explain: Explain | None = None,
    step: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measurement:
    """Measures a map by a metric's name, such as 'deletion', 'average-drop' or 'deletion:blur-gaussian'.

    The part behind the colon is the protocol. The other arguments are those of MetricInputs; a metric reads what it
    needs, and where that is missing its value is None with the reason. Raises OptionError for an unknown metric or
    protocol, and what the metric's function raises.
    """
    metric, protocol = metric_named(name)
    present = {Need.SCORER: scorer, Need.BOX: box, Need.EXPLAIN: explain}
    reasons = [MISSING[need] for need, value in present.items() if need in metric.needs and value is None]
    if reasons:
        return Measurement(metric.name, None, protocol, "; ".join(reasons))
    inputs = MetricInputs(saliency_map, scorer, box, placement, explain, step, seed, progress)
    return metric.run(inputs, protocol)


def metric_named(name: str) -> tuple[Metric, str | None]:
    """The metric and the protocol of a name; without one, the metric's default, and None where it has no protocols.

    Dashes and underscores of the metric's name are the same. Raises OptionError, which names similar ones.
    """
    if not isinstance(name, str):
        raise OptionError(f"a metric's name is a text such as 'deletion', not {brief(name)}")
    word, colon, protocol = (part.strip() for part in name.partition(":"))
    metric = METRICS.get(word.replace("-", "_"))
    if metric is None:
        listed = near(word.replace("_", "-"), map(typed, METRICS))
        raise OptionError(f"no metric is called {word!r}; {listed} (`onnxcam metrics` lists them)")
    if not colon:
        return metric, metric.protocols[0] if metric.protocols else None
    return metric, known_protocol(metric.name, protocol, metric.protocols)
