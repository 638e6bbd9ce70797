"""What an explainer asks its networks about one picture: the first pass, and what its targets come to."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.answers import Answer, Asked
from onnxcam.arrays import Score, Target
from onnxcam.differentiation import Differentiated
from onnxcam.engine.batching import Progress
from onnxcam.errors import OptionError
from onnxcam.fills import BLACK
from onnxcam.intake import Photograph, Prepared, choose_inputs, fits, read_array
from onnxcam.methods.blocks import Method
from onnxcam.network import Arrays
from onnxcam.preprocess import Preset
from onnxcam.probe import Count, PictureProbe
from onnxcam.scoring import Seen, similarity, targets
from onnxcam.surgeon.anatomy import Kind
from onnxcam.targets import Similarity, TargetLike


@dataclass(frozen=True, eq=False)
class Inquiry:
    """prepare: reads and preprocesses a picture; labels: the classes' names, if any are known."""

    method: Method
    preset: Preset
    preset_source: str
    size: tuple[int, ...]
    labels: Sequence[str] | None
    prepare: Callable[[Photograph], Prepared]

    def look(self, network: Differentiated, prepared: Prepared, inputs: Mapping[str, npt.ArrayLike]) -> Answer:
        """Runs the picture once as it is."""
        start = time.perf_counter()
        fill = self.method.perturb.make
        if self.method.perturb is BLACK and prepared.placement is None and self.preset_source != "given":
            raise OptionError(
                "what black is after preprocessing is not known for this image; give the preset, or another fill"
            )
        replacement = fill(prepared.image, self.preset) if fill is not None else None
        opened = network.opened
        further = opened.further(choose_inputs(inputs))
        feeds = opened.network.feeds(prepared.image, replacement, further)
        if prepared.on_device is not None:
            opened.network.adopt(prepared.image, prepared.on_device)
        features, values = opened.network.look(feeds)
        stand_in = replacement if replacement is not None else np.zeros_like(prepared.image)
        seconds = time.perf_counter() - start
        return Answer(network, prepared, np.asarray(stand_in, np.float32), feeds, features, values, seconds)

    def ask(
        self, network: Differentiated, answer: Answer, wanted: Sequence[TargetLike], progress: Progress | None
    ) -> Asked:
        """Raises OptionError for targets that are none of this picture's."""
        fed, found = self._targets(wanted, answer)
        originals = {
            Score.LOGIT: np.asarray([t.logit for t in found], np.float32),
            Score.PROBABILITY: np.asarray([t.probability for t in found], np.float32),
        }
        feeds, count = {**answer.feeds, **fed}, Count(progress=progress)
        image = answer.prepared.image
        probe = PictureProbe(network, image, answer.fill, feeds, answer.features, originals, count)
        return Asked(answer, found, probe)

    def _targets(self, wanted: Sequence[TargetLike], answer: Answer) -> tuple[Arrays, list[Target]]:
        logits = answer.network.opened.anatomy.logits
        labels = self.labels if self.labels is not None and fits(self.labels, logits) else None
        seen = Seen(logits, answer.values, labels, self.size, answer.prepared.placement)
        if logits.kind is not Kind.EMBEDDING:
            return targets(wanted, seen)
        references = [t.reference if isinstance(t, Similarity) else None for t in wanted]
        names = [
            os.path.basename(os.fspath(r)) if isinstance(r, str | os.PathLike) else f"reference {i}"
            for i, r in enumerate(references)
        ]
        return similarity([self._reference(t, answer) for t in wanted], seen, names)

    def _reference(self, target: TargetLike, answer: Answer) -> npt.NDArray[Any]:
        """The embedding that a target names, or that of the picture which it names."""
        if not isinstance(target, Similarity):
            raise OptionError("an embedding is explained by its similarity to a reference; give one (--reference)")
        given = target.reference
        if isinstance(given, str | os.PathLike) and os.fspath(given).lower().endswith(".npy"):
            given = read_array(given)
        if (
            isinstance(given, np.ndarray)
            and given.size == answer.network.opened.anatomy.logits.classes
            and given.ndim <= 2
        ):
            return given
        return self.look(answer.network, self.prepare(given), {}).values
