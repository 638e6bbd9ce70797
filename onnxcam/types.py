"""The arrays that travel through onnxcam, named by their shape, and the result of an explanation.

Axes: N pictures, K masks or channels, T targets, C colours, h w the feature grid, H W the model's input. For 1-D
networks read w and W instead of h w and H W, for 3-D networks d h w and D H W.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

Picture = npt.NDArray[np.uint8]
"""(height, width, 3) RGB, 0 to 255, upright: a photograph as a person sees it."""
Image = Floats
"""(C,H,W) preprocessed, what the network computes on."""
Features = Floats
"""(K,h,w) feature maps of one picture."""
Masks = Floats
"""(K,1,h,w) low-resolution masks before normalisation; after it, 1 keeps a pixel and 0 removes it."""
Scores = Floats
"""(K,T) one number a mask and target."""
Map = Floats
"""(H,W) saliency on the model's input."""


class MasksOnDevice(Protocol):
    """Masks (K,1,*grid) that lie where the network runs. np.asarray() brings a copy to the host."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __neg__(self) -> Self: ...
    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Self: ...
    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]: ...
    def summed(self, weights: npt.NDArray[np.float64]) -> Floats:
        """(T,*grid) on the host: the sum of the masks times each column of weights (K,T)."""

    def gathered(self, rows: npt.NDArray[np.int64], into: Any = None) -> Any:
        """These masks one behind the other, as an OrtValue; into: an engine.spans.Span to write them to instead."""


class FeaturesOnDevice(Protocol):
    """(K,*grid) feature maps of one picture that lie where the network runs."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def host(self) -> Features:
        """A copy in NumPy, made when first asked for."""

    @property
    def finite(self) -> bool:
        """Whether none holds NaN or infinity."""

    @property
    def extent(self) -> npt.NDArray[np.float32]:
        """(K,) of each map, its largest number less its smallest."""

    @property
    def peak(self) -> npt.NDArray[np.float32]:
        """(K,) of each map, the largest size of its numbers."""

    def masks(self, chosen: npt.NDArray[np.int64]) -> MasksOnDevice:
        """The maps of these numbers as masks, in this order."""


AnyMasks = Masks | MasksOnDevice
"""In NumPy, or where the network runs: either has a length and a shape, and can be indexed along K and negated."""


class Score(StrEnum):
    """What a method measures on a masked picture."""

    PROBABILITY = "probability"
    LOGIT = "logit"


class Finish(StrEnum):
    """How a map follows from its raw one; every map is stretched to [0,1] in the end."""

    RECTIFIED = "ReLU of the enlarged raw map"
    COARSE = "the enlarged ReLU of the raw map"
    OWN = "as the method makes it"


@dataclass(frozen=True)
class MaskForm:
    """How a method's masks come: cell is the side of a mask's cell in pixels, None for the grid of the feature maps.

    normalised: stretched to [0,1] after upsampling, as the CAM family does; else they are in [0,1] as they come.
    """

    cell: int | None = None
    normalised: bool = True

    def grid(self, features: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
        """Cells along each side of the masks."""
        return features if self.cell is None else tuple(-(-side // self.cell) for side in size)


@dataclass(frozen=True)
class Placement:
    """Where the model's input lies on the upright picture: resize and crop, remembered to be inverted.

    picture: (height, width) of the upright original in pixels. box: (left, top, right, bottom), the part of it that the
    model sees, in pixels of the original with 0 at the outer edge of the first pixel; fractions are meant, and a padded
    input reaches beyond the picture.
    """

    picture: tuple[int, int]
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class ScoredTarget:
    """What was explained, and what the model gave it on the unmasked picture.

    index: the class; of an element or a box, the number's place in the flattened output; of a similarity, the
    reference's. kind: 'classes', 'region', 'boxes', 'elements' or 'embedding'; for the last three, probability and
    logit are both the number that is scored.
    """

    index: int
    label: str | None
    probability: float
    logit: float
    kind: str = "classes"

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
    """Everything that is needed to make the same map again, and to know where each choice came from.

    features: how many maps of which grid. channels: None for a method that scores no feature maps. forwards: pictures
    that went through the model, or through its part behind the feature maps; steps: those that came back with a
    gradient. error: of a map whose scores were estimated in part, a bound on the root mean square by which it, in
    [0,1], is off from the exact one, that holds in about 9 of 10 cases; None where nothing was estimated, and where too
    little was seen to tell, which a note says. seconds: of this picture; where several were explained
    together, its share by passes.
    """

    versions: Mapping[str, str]
    model: str
    model_sha256: str
    image: str
    layer: str
    layer_reason: str
    logits: str
    activation: str
    preset: Mapping[str, Any]
    preset_source: str
    fill: str
    method: str
    options: Mapping[str, Any]
    provider: str
    batch: int
    batch_mode: str
    features: str
    channels: Channels | None
    forwards: int
    steps: int
    seconds: float
    notes: tuple[str, ...] = ()
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
        self.map.setflags(write=False)
        self.raw.setflags(write=False)
