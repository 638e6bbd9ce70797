"""Measures maps on the model of an Explainer: a Scorer for each target, and every requested metric with it.

Explainer.measure() and the command line call measure_maps(). The metrics are functions of onnxcam.metrics; this file
gives them what they need: the picture as the network takes it, the target, and the method for what is explained again.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OnnxCamError, OptionError, TargetError, UndefinedSaliency
from onnxcam.explainer.targets.kind import TargetLike
from onnxcam.inputs.loader import ImageLike, ModelInput
from onnxcam.metrics.localisation import check_plane
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.metric import Box, Need
from onnxcam.metrics.registry import measure, metric_named
from onnxcam.metrics.scorer import Scorer
from onnxcam.outputs.saliency import MASKED, Saliency, ScoredTarget
from onnxcam.types import Image, Map, Progress, Score

if TYPE_CHECKING:
    from onnxcam.explainer.explainer import Explainer

USUAL_PASSES = 30
"""Forward passes of a metric that has not begun, for the progress: those of a curve."""
SAME_SCORE = 0.02
"""By how much a score may differ, of a picture that is the same, between providers and precisions."""


@dataclass(frozen=True)
class Requests:
    """What is measured of each map. names: as onnxcam.metrics.requests.requested() returns them.

    boxes: of the object, in pixels of the upright picture, or of the model's input for an image that came preprocessed.
    step: pixels a step of a curve. seed: of metrics that draw numbers.
    """

    names: tuple[str, ...]
    boxes: tuple[Box, ...] = ()
    step: int | None = None
    seed: int = 0


def check_boxes(requests: Requests, explainer: "Explainer") -> None:
    """Raises OptionError, before anything is explained, for a metric that needs a box on maps of no picture."""
    if any(Need.BOX in metric_named(name)[0].needs for name in requests.names):
        check_plane(explainer.size)


def measure_maps(
    explainer: "Explainer",
    picture: ImageLike,
    maps: Sequence[tuple[Saliency | npt.ArrayLike, TargetLike]],
    requests: Requests,
    *,
    inputs: Mapping[str, npt.ArrayLike] | None = None,
    parts: Sequence[Progress] | None = None,
) -> list[dict[str, Measurement]]:
    """The metrics of each map of one picture, by the names that were requested.

    maps: each with its target. parts: what each metric of each map reports its forward passes to. The picture is read
    once. Raises OptionError for a Saliency of another picture, and OnnxCamError.
    """
    check_boxes(requests, explainer)
    if explainer._isolated is not None:
        return explainer._isolated.measure(picture, maps, requests, inputs, parts)
    model_input, values = explainer._read(picture, None, inputs)
    count = len(requests.names)
    results: list[dict[str, Measurement]] = []
    for i, (saliency, target) in enumerate(maps):
        scorer = explainer._pipeline.scorer(model_input, [target], values, Score.PROBABILITY)
        if isinstance(saliency, Saliency) and saliency.provenance.model_sha256 == explainer.model_sha256:
            _check_picture(saliency, scorer)
        again = Again(explainer, saliency, model_input, same_target(target, scorer.targets[0]), values)
        reports = parts[i * count : (i + 1) * count] if parts is not None else None
        results.append(measured(saliency, scorer, again, requests, reports))
    return results


def measured(
    saliency: Saliency | npt.ArrayLike,
    scorer: Scorer,
    again: "Again",
    requests: Requests,
    parts: Sequence[Progress] | None,
) -> dict[str, Measurement]:
    """The metrics of one map by name; passes include those of what is explained again. parts: what each reports to."""
    values = saliency.map if isinstance(saliency, Saliency) else saliency
    results: dict[str, Measurement] = {}
    for i, name in enumerate(requests.names):
        progress = parts[i] if parts is not None else None
        explain, start = replace(again, progress=progress), time.perf_counter()
        one = measure(
            name,
            values,
            scorer,
            box=requests.boxes or None,
            placement=scorer.placement,
            explain=explain,
            step=requests.step,
            seed=requests.seed,
            progress=progress,
        )
        seconds = time.perf_counter() - start
        results[name] = replace(one, passes=one.passes + explain.passes, seconds=seconds)
        if progress is not None:
            passes = max(1, results[name].passes)  # one that took none is done too
            progress(passes, passes)
    return results


def picture_of(saliency: Saliency | npt.ArrayLike) -> Path:
    """The file that a map was made of. Raises OptionError where there is none, so that the picture has to be passed."""
    if not isinstance(saliency, Saliency):
        raise OptionError(
            "a bare map does not say what it is of; pass the picture as picture=, and the target as target= unless it "
            "is what the model predicts"
        )
    name = saliency.provenance.image
    if "\0" in name or not os.path.exists(name):
        raise OptionError(f"the map was made of {name}, which is no file here; pass the picture as picture=")
    return Path(name)


def target_of(saliency: Saliency | npt.ArrayLike) -> TargetLike:
    """The target that a map is about; of a bare map the prediction. Raises OptionError for one that is not kept."""
    if not isinstance(saliency, Saliency):
        return None
    if saliency.target.kind == "embedding" or saliency.target.where == MASKED:
        what = "reference" if saliency.target.kind == "embedding" else "mask"
        raise OptionError(f"the {what} of this map's target is not kept in a result; pass the target as target=")
    return saliency.target


def _check_picture(saliency: Saliency, scorer: Scorer) -> None:
    """Raises OptionError if the Scorer's picture cannot be the one that was explained."""
    (score,), (scored,), target, before = scorer.whole, scorer.targets, saliency.target, saliency.target.probability
    same_target = (scored.kind, scored.output, scored.index) == (target.kind, target.output, target.index)
    if saliency.placement != scorer.placement:
        difference = "the model sees another part of this picture, whose size or preprocessing differs"
    elif same_target and not abs(float(score) - before) <= SAME_SCORE * max(1.0, abs(before)):
        difference = f"the model gives {target.name} {score:.4g} here, and gave {before:.4g} there"
    else:
        return
    raise OptionError(
        f"the picture is not the one that was explained ({saliency.provenance.image}): {difference}; pass that one, "
        f"or the bare map with its target"
    )


def same_target(target: TargetLike, scored: ScoredTarget) -> TargetLike:
    """What names the same target on another image: what was scored, unless a result does not keep it."""
    return target if scored.kind == "embedding" or scored.where == MASKED else scored


@dataclass(eq=False)
class Again:
    """Explains another image in the place of the picture, for the same target, by the Explainer's method.

    map: the one that is measured. passes: forward passes that it took so far.
    """

    explainer: "Explainer"
    map: Saliency | npt.ArrayLike
    model_input: ModelInput
    target: TargetLike
    inputs: Mapping[str, npt.ArrayLike]
    progress: Progress | None = None
    passes: int = 0

    def __call__(self, image: Image) -> Map:
        """The map of the image (C,*size). Raises UndefinedSaliency where it has none, and for a map made otherwise."""
        self._check_origin()
        there = replace(self.model_input, image=np.asarray(image, np.float32), on_device=None)
        try:
            forward = self.explainer._pipeline.forward(there, [self.target], self.inputs, begins=True)
            (explained,) = self.explainer._explain_batch([forward], [[self.target]], progress=[self.progress])
        except TargetError as error:  # the image has no such region
            raise UndefinedSaliency(str(error)) from error
        if isinstance(explained, OnnxCamError):
            raise explained
        self.passes += explained[0].provenance.forwards + explained[0].provenance.steps
        self._check_layers(explained[0])
        return explained[0].map

    def _check_origin(self) -> None:
        """Raises UndefinedSaliency for a map of another method or model than the Explainer's."""
        if not isinstance(self.map, Saliency):
            return
        made, method = self.map.provenance, self.explainer.method
        if (made.method, dict(made.options)) != (method.name, dict(method.options)):
            raise UndefinedSaliency(f"the map was not made by this Explainer's method, {method.name} with its options")
        if made.model_sha256 != self.explainer.model_sha256:
            raise UndefinedSaliency(f"the map is of another model, {made.model}")

    def _check_layers(self, again: Saliency) -> None:
        """Raises UndefinedSaliency for a map of other layers than those that this Explainer reads."""
        if not isinstance(self.map, Saliency):
            return
        made, here = self.map.provenance.tensors, again.provenance.tensors
        if made != here:
            raise UndefinedSaliency(
                f"the map is of the layer {', '.join(made)}, and this Explainer's is {', '.join(here)}"
            )
