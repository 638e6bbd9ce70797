"""The rows of one map: every requested metric of it, or the row that says why there is no map."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.errors import OnnxCamError, OptionError, OutOfMemory, TimedOut, UndefinedSaliency
from onnxcam.evaluation.options import MapSource, SourceKind
from onnxcam.evaluation.rows import Row, RowKey
from onnxcam.evaluation.shared_scorer import SharedScorer
from onnxcam.explainer.measuring import Again
from onnxcam.metrics.arguments import unit_map
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.metric import Box, Explain, Need
from onnxcam.metrics.registry import measure, metric_named
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.types import Image, Map

THROUGH_MAP = ("average_drop:mult", "average_increase:mult", "average_gain:mult", "adcc")
"""Metrics that look at the picture times the map."""
UNDEFINED = (OptionError, UndefinedSaliency)
"""What a metric raises where this map, box or seed gives it no value, whoever tries again. Others are errors."""
TRANSIENT = (TimedOut, OutOfMemory)


@dataclass(frozen=True, eq=False)
class SourceMap:
    """What a source gave for one picture. values: the map (*size) on the model's input; None where there is an error.

    key: of the row that says why there is no map. rows: the key and the metric's name of each row; none where the map
    alone is requested. again: explains another image by the method. passes, seconds: that
    the map took.
    """

    source: MapSource
    key: RowKey
    rows: Sequence[tuple[RowKey, str]]
    values: Map | None = None
    error: OnnxCamError | None = None
    again: Again | None = None
    passes: int = 0
    seconds: float = 0.0

    @property
    def explain(self) -> Explain | None:
        """Explains another image: by the method; a baseline is the same for all; a map of another tool has no way."""
        if self.source.kind is SourceKind.BASELINE and self.values is not None:
            return _Always(self.values)
        return replace(self.again) if self.again is not None else None


@dataclass(frozen=True, eq=False)
class _Always:
    """Gives one map for every image."""

    values: Map

    def __call__(self, image: Image) -> Map:
        return self.values


@dataclass(frozen=True, eq=False)
class PictureContext:
    """What the rows of one picture share. label: of the data. target: what is explained; None where nothing is.

    boxes: of the target's class, or why there are none. step, seed: of metrics.
    """

    model_name: str
    label: str | int | None
    target: ScoredTarget | None = None
    boxes: tuple[Box, ...] | str = ()
    step: int | None = None
    seed: int = 0


def error_row(source_map: SourceMap, context: PictureContext) -> Row:
    """The row of a source without a map."""
    return _row(source_map.key, source_map, context, error=source_map.error)


def measured_rows(source_map: SourceMap, scorer: SharedScorer, context: PictureContext) -> list[Row]:
    """A row for each metric of the map; one that says why, where there is no map."""
    if source_map.values is None:
        return [error_row(source_map, context)]
    rows = []
    for key, name in source_map.rows:
        try:
            one = _measured(name, source_map.values, source_map.explain, scorer, context)
        except OnnxCamError as error:
            rows.append(_row(key, source_map, context, error=error))
        else:
            rows.append(_row(key, source_map, context, one))
    return rows


def score_masked_pictures(maps: Sequence[SourceMap], scorer: SharedScorer) -> None:
    """Scores the picture through the maps whose metrics look at it, and the whole picture, in shared forward passes.

    The scorer remembers them. What a map that does not fit raises, or a pass that fails, is left to the metrics.
    """
    masks = []
    for each in maps:
        if each.values is not None and any(name in THROUGH_MAP for _, name in each.rows):
            try:
                masks.append(np.asarray(unit_map(each.values, scorer), np.float32))
            except OptionError:
                continue
    if masks:
        with suppress(OnnxCamError):
            scorer.masks(np.stack([np.ones(scorer.size, np.float32), *masks]))


def _measured(
    name: str, values: Map, explain: Explain | None, scorer: SharedScorer, context: PictureContext
) -> Measurement:
    metric, protocol = metric_named(name)
    if Need.BOX in metric.needs and isinstance(context.boxes, str):
        return Measurement(metric.name, None, protocol, context.boxes)
    start = time.perf_counter()
    try:
        one = measure(
            name, values, scorer, box=context.boxes or None, placement=scorer.placement, explain=explain,  # type: ignore[arg-type]
            step=context.step, seed=context.seed,
        )  # fmt: skip
    except UNDEFINED as error:
        one = Measurement(metric.name, None, protocol, str(error))
    passes = one.passes + (explain.passes if isinstance(explain, Again) else 0)
    return replace(one, passes=passes, seconds=time.perf_counter() - start)


def _row(
    key: RowKey,
    source_map: SourceMap,
    context: PictureContext,
    measured: Measurement | None = None,
    error: OnnxCamError | None = None,
) -> Row:
    target = context.target
    if measured is not None and measured.value is not None and not math.isfinite(measured.value):
        measured = replace(measured, value=None, reason=f"the metric gave {measured.value}, which is no finite number")
    return Row(
        key,
        context.model_name,
        source_map.source.title,
        value=measured.value if measured is not None else None,
        reason=measured.reason if measured is not None else None,
        note=measured.note if measured is not None else None,
        error=str(error) if error is not None else None,
        curve=measured.curve if measured is not None else None,
        label=context.label,
        target_index=target.index if target is not None else None,
        target_name=target.name if target is not None else None,
        probability=target.probability if target is not None else None,
        passes=measured.passes if measured is not None else 0,
        seconds=measured.seconds if measured is not None else 0.0,
        method_passes=source_map.passes,
        method_seconds=source_map.seconds,
        transient=isinstance(error, TRANSIENT),
    )
