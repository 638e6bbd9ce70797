"""The metrics of `onnxcam explain --metrics`: measured after each picture's explanation, and part of its progress."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.errors import OnnxCamError

if TYPE_CHECKING:
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.explainer.measuring import Requests
    from onnxcam.explainer.prefetch import GroupProgress, PictureResult
    from onnxcam.explainer.shares import Shares
    from onnxcam.explainer.targets.kind import TargetLike
    from onnxcam.metrics.measurement import Measurement
    from onnxcam.types import Progress


@dataclass(frozen=True, eq=False)
class Measuring:
    """Measures the maps of one picture after another. requests: None to measure nothing.

    shares: of each picture that is under way by its number. A picture's progress counts the passes of its explanation,
    the first part, and of its metrics.
    """

    targets: "Sequence[TargetLike]"
    requests: "Requests | None"
    shares: "dict[int, Shares]" = field(default_factory=dict)

    def check(self, explainer: "Explainer") -> None:
        """Raises OptionError where a metric does not go with the model, before anything is explained."""
        if self.requests is not None:
            from onnxcam.explainer.measuring import check_boxes

            check_boxes(self.requests, explainer)

    def counted(self, begin: "GroupProgress") -> "GroupProgress":
        """What explain_each() calls when a group of pictures begins. begin: makes the callbacks of whole pictures."""
        if self.requests is None:
            return begin
        from onnxcam.explainer.measuring import USUAL_PASSES
        from onnxcam.explainer.shares import Shares

        parts = 1 + len(self.targets) * len(self.requests.names)

        def begin_group(group: Sequence[int]) -> "list[Progress | None]":
            callbacks = zip(group, begin(group), strict=True)
            begun = {number: Shares(each, parts, USUAL_PASSES) for number, each in callbacks if each is not None}
            self.shares.update(begun)
            return [begun[number].part(0) if number in begun else None for number in group]

        return begin_group

    def measured(
        self, explainer: "Explainer", result: "PictureResult", image: Path
    ) -> "tuple[PictureResult, Sequence[dict[str, Measurement]]]":
        """The result with the metrics of each of its maps; with an error where they could not be measured."""
        shares = self.shares.pop(result.number, None)
        if result.error is not None or self.requests is None:
            return result, [{} for _ in result.saliencies]
        from onnxcam.explainer.measuring import measure_maps

        parts = None
        if shares is not None:
            shares.finish(0)
            parts = [shares.part(i) for i in range(1, shares.parts)]
        maps = list(zip(result.saliencies, self.targets, strict=True))
        try:
            return result, measure_maps(explainer, image, maps, self.requests, parts=parts)
        except OnnxCamError as error:
            return replace(result, error=error), ()
