"""The result of an explanation: a Saliency, the target it is about, and how it was made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxcam.inputs.presets import Preset
from onnxcam.types import Finish, Floats, Map, Note, Origin, Placement

MASKED = "mask"
"""ScoredTarget.where of a region that was a mask."""


@dataclass(frozen=True)
class ScoredTarget:
    """What was explained, and what the model gave it on the unmasked picture.

    index: the class; of an element or a box, the number's place in the flattened output; of a similarity, the
    reference's. kind: 'classes', 'region', 'boxes', 'elements' or 'embedding'; for the last three, probability and
    logit are both the number that is scored. output: the output's name. where: of a region, its (left, top, right,
    bottom) in pixels; None where the class is predicted, MASKED where it was a mask, which is not kept.

    Every Explainer takes it as a target again, of whatever picture; a mask and a similarity's reference have to be
    given anew.
    """

    index: int
    label: str | None
    probability: float
    logit: float
    kind: str = "classes"
    output: str | None = None
    where: tuple[float, float, float, float] | str | None = None

    @property
    def is_probability(self) -> bool:
        """False where the model's own number is scored, which may be anything."""
        return self.kind in ("classes", "region")

    @property
    def name(self) -> str:
        return self.label if self.label is not None else f"class {self.index}"


@dataclass(frozen=True)
class Channels:
    """How many feature maps there were, how many were scored, and how many were estimated from those.

    left: of a map on the way, how many are still to be scored.
    """

    total: int
    scored: int
    estimated: int = 0
    left: int = 0

    @property
    def skipped(self) -> int:
        """Maps that are constant over space: their mask is undefined and their weight changes nothing."""
        return self.total - self.scored - self.estimated - self.left


@dataclass(frozen=True)
class Provenance:
    """How a map was made: enough to make it again, and where each choice came from.

    `onnxcam.method(provenance.method, **provenance.options)` is the method again, `fill_named(provenance.fill)` its
    fill.

    versions: of onnxcam and the packages that compute. model: the file's name; image: the picture's. layer: the tensor
    whose feature maps were used, and why; features: their shape (K,*grid). logits: the tensor that was scored;
    activation: what the model applies to it. preset: the preprocessing; of an image that came preprocessed it is what a
    fill took for the preprocessing. options: of the method, numbers as numbers; changed: the names of those that
    differ from the method's defaults. batch: masks a forward pass; batch_mode: 'dynamic', 'rewritten' or 'looped'.
    channels: how many feature maps were scored, None for a method that scores none. forwards: pictures that went
    through the model, or through its part behind the feature maps; steps: those that came back with a gradient.
    seconds: of this picture; of several explained in one batch, its share by passes. error: of a map whose scores were
    estimated in part, a bound on the root mean square by which the map, in [0,1], is off from the exact one; it holds
    in about 9 of 10 cases. None where nothing was estimated, and where too little was scored to tell, which a note
    says.
    """

    versions: Mapping[str, str]
    model: str
    model_sha256: str
    image: str
    layer: str
    layer_reason: str
    logits: str
    activation: str
    preset: Preset
    preset_origin: Origin
    size_origin: Origin
    fill: str
    method: str
    options: Mapping[str, Any]
    changed: tuple[str, ...]
    provider: str
    batch: int
    batch_mode: str
    features: tuple[int, ...]
    channels: Channels | None
    forwards: int
    steps: int
    seconds: float
    notes: tuple[Note, ...] = ()
    error: float | None = None


@dataclass(frozen=True, eq=False)
class Saliency:
    """One explanation. The arrays are read-only.

    map: (H,W) float32 in [0,1] on the model's input. raw: float32 before rectifying and normalising: (h,w), the
    combination of the feature maps or the mask that was learnt, or (H,W) of a method that works on pixels. score: what
    the method attributes, on the unmasked picture (a probability or a logit, see provenance.options). placement: None
    if the image came preprocessed. finish: how the map follows from raw.
    """

    map: Map
    raw: Floats
    target: ScoredTarget
    score: float
    placement: Placement | None
    provenance: Provenance = field(repr=False)
    finish: Finish = Finish.OWN

    def __post_init__(self) -> None:
        # Views, so that the caller's own arrays stay writable.
        object.__setattr__(self, "map", _read_only(self.map))
        object.__setattr__(self, "raw", _read_only(self.raw))


def _read_only(array: Floats) -> Floats:
    view = array.view()
    view.setflags(write=False)
    return view
