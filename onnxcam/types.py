"""Values that travel between the rooms of onnxcam: arrays named by their shape, enums, notes and origins.

Also the interfaces of arrays that stay on a device (FeaturesOnDevice, MasksOnDevice). Results are in
outputs/saliency.py.

Axes: N samples, K masks or channels, T targets, C colours, h w the feature grid, H W the model's input. For 1-D
networks read w and W instead of h w and H W, for 3-D networks d h w and D H W.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

Picture = npt.NDArray[np.uint8]
"""(height, width, 3) RGB, 0 to 255, upright: a photograph as a person sees it."""
Image = Floats
"""(C,H,W) preprocessed, what the network computes on."""
Features = Floats
"""(K,h,w) feature maps of one image."""
Masks = Floats
"""(K,1,h,w) low-resolution masks before normalisation; after it, 1 keeps a pixel and 0 removes it."""
Scores = Floats
"""(K,T) one number a mask and target."""
Indices = npt.NDArray[np.int64]
"""(N,) indices: of the target of each sample, of samples of a batch, or of feature maps."""
Arrays = Mapping[str, npt.NDArray[np.generic]]
"""Arrays by the name of the graph's input that they feed."""
Shape = tuple[int | None, ...]
"""Sizes of the axes of a tensor of a graph; None for a size that the graph does not fix."""
Shapes = Mapping[str, Shape]
"""Shapes by the name of the tensor."""
Progress = Callable[[int, int], None]
"""Called with (forward passes done, forward passes expected) as work goes on; what is expected may change."""
Map = Floats
"""(H,W) saliency on the model's input."""


class MasksOnDevice(Protocol):
    """Masks (K,1,*grid) that lie where the network runs. np.asarray() brings a copy to the host."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __neg__(self) -> Self: ...
    def __getitem__(self, indices: slice | Indices) -> Self: ...
    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]: ...
    def summed(self, weights: npt.NDArray[np.float64]) -> Floats:
        """(T,*grid) on the host: the sum of the masks times each column of weights (K,T)."""

    def gathered(self, indices: Indices, into: Any = None) -> Any:
        """The masks of these indices as a new OrtValue, or written into one of their shape."""


class FeaturesOnDevice(Protocol):
    """(K,*grid) feature maps of one image that lie where the network runs."""

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

    def masks(self, chosen: Indices) -> MasksOnDevice:
        """The maps of these numbers as masks, in this order."""


AnyMasks = Masks | MasksOnDevice
"""In NumPy, or where the network runs: either has a length and a shape, and can be indexed along K and negated."""


class NoteCode(StrEnum):
    """What a note is about; programs test this and never the text."""

    PROVIDER_SKIPPED = "provider-skipped"
    """`auto` did not take a better provider."""
    PROVIDER_FALLBACK = "provider-fallback"
    """Operators that TensorRT lacks run elsewhere."""
    ENGINE_OPTIONS = "engine-options"
    """Options of the engine that change numbers or memory were asked for."""
    DEVICE_MEMORY_UNKNOWN = "device-memory-unknown"
    """The number of masks a forward pass is a guess."""
    NORMALISED_TWICE = "normalised-twice"
    """The graph normalises by itself, and the picture comes normalised."""
    NORMALISATION_UNCLEAR = "normalisation-unclear"
    """The graph changes its input in a way that no usual preprocessing explains."""
    INPUT_RANGE = "input-range"
    """The graph quantises its input to another range than the preset makes."""
    SIZE_ASSUMED = "size-assumed"
    """The model takes any size, and none was given."""
    SIZE_TRIED = "size-tried"
    """The model takes few sizes although it declares any; the one that is used was found by trying."""
    FRAMES_CHOSEN = "frames-chosen"
    """A clip has another number of frames than the model takes."""
    FRAMES_CUT = "frames-cut"
    """A crop cut frames of different sizes, whose placements differ."""
    OTHER_PICTURES = "other-pictures"
    """The model takes further pictures; the map is of one of them."""
    BRANCH_TAKEN = "branch-taken"
    """Only one branch of an If is explained; the numbers of an input choose it."""
    BRANCH_OF_SIZE = "branch-of-size"
    """Only one branch of an If is explained; the shape of the input chooses it."""
    COMPUTED_IN_FLOAT32 = "computed-in-float32"
    """The model's own number type has no kernels, so float32 is used."""
    DIFFERENT_CLASSES = "different-classes"
    """Rows of a comparison are of different classes."""
    READ_AS_BOXES = "read-as-boxes"
    """An output was taken for a detector's table."""
    BOX_READING = "box-reading"
    """What the four sides of a detector's boxes mean is a guess."""
    BOX_OUTSIDE = "box-outside"
    """A detector's box lies wholly outside of the picture, so it is not drawn."""
    PROTOTYPES = "prototypes"
    """A map of classes is probably one of mask prototypes, which a detector's boxes combine."""
    CLASSES_ALIKE = "classes-alike"
    """The model gives every class the same score."""
    LOW_SCORE = "low-score"
    """The model gives what is explained a low probability: it hardly sees it."""
    OTHER_SCALES = "other-scales"
    """From which of a detector's maps a box is predicted is not known, or its outputs may be scales before decoding."""
    BACKGROUND = "background"
    """Which class is the background is assumed, or not known."""
    FOLLOWED = "followed"
    """Rows of a detector's table are other places for every picture; says what is scored instead."""
    INPUTS_BLANK = "inputs-blank"
    """Inputs by which a detector chooses its detections were not given, so zeros stand for them."""
    OTHER_BRANCHES = "other-branches"
    """Other feature maps reach the score past the chosen one."""
    FEATURES_SHARED = "features-shared"
    """The features follow from other pictures too: those of several inputs are joined before them."""
    FEATURES_EARLY = "features-early"
    """Many layers follow the chosen feature map."""
    POOLED_BY_ATTENTION = "pooled-by-attention"
    """Tokens after the last attention keep the grid too."""
    GRID_ASSUMED = "grid-assumed"
    """Which axes of the feature map are height and width is assumed."""
    GATED = "gated"
    """The features are a map times a gate over space; the map before it keeps the grid too."""
    CLASS_MAP = "class-map"
    """The chosen tensor is a map of the classes themselves, or what enters one."""
    LOOPED = "looped"
    """The model takes one image a forward pass."""
    SAMPLES_APART = "samples-apart"
    """Samples of a batch change each other, so each went alone."""
    SINGLE_OUTPUT = "single-output"
    """One number without activation was taken for a logit."""
    OTHER_HEADS = "other-heads"
    """The model has other outputs of classes."""
    MAY_BE_BLANK = "may-be-blank"
    """The first or the last class of a sequence wins steps, and may be CTC's blank; no labels say so."""
    MAY_BE_EMBEDDING = "may-be-embedding"
    """The output was read as classes and may be an embedding."""
    ALREADY_PROBABILITIES = "already-probabilities"
    """The outputs look like probabilities although no softmax was found."""
    SCORES_ALIKE = "scores-alike"
    """Every mask scored the same."""
    NOTHING_POSITIVE = "nothing-positive"
    """ReLU left nothing, so the un-rectified map is shown."""
    ERROR_UNKNOWN = "error-unknown"
    """Too little was scored to bound the error of an estimate."""
    BUDGET_ENDED = "budget-ended"
    """The budget ended before the tolerance was reached."""
    ALL_SCORED = "all-scored"
    """A tolerance needed so many masks that all were scored, so nothing is estimated."""
    IN_FLOAT32 = "in-float32"
    """A lower precision moved the map by more than a limit, so some of its masks, or all, were scored in float32."""
    PARTIAL = "partial"
    """A map on the way: not all masks were scored yet."""
    SEARCH_BROKE = "search-broke"
    """A start of a search ended in NaN or infinity."""
    CLASS_FREE = "class-free"
    """The method gives every target the same map."""
    NARROW_RANGE = "narrow-range"
    """A picture of 16 bits uses an eighth of its range or less, so it is nearly flat."""
    WINDOW_ASSUMED = "window-assumed"
    """Which values became black and white was not given, and the file leaves a choice."""
    READ_REDUCED = "read-reduced"
    """A JPEG of more pixels than the limit was decoded at a fraction of its sides."""
    FIRST_FRAME = "first-frame"
    """Of several frames or pages of a file the first is explained."""
    TRANSPARENT = "transparent"
    """Transparent pixels were laid over white, which not every program does."""
    TURNED = "turned"
    """A picture in memory was turned upright as its EXIF orientation says."""
    WHOLE_NUMBERS = "whole-numbers"
    """An array of whole numbers was taken for pixels, or as it is."""
    VALUE_RANGE = "value-range"
    """The values of an array are those of a picture although it came as preprocessed, or had to be read as pixels."""
    ARRAY_SCALED = "array-scaled"
    """Options of the preprocessing were applied to an array."""
    COMPLETENESS = "completeness"
    """How well attributions add up to the change of the score."""


@dataclass(frozen=True)
class Note:
    """Something that a reader of the result should know. code: for programs; text: for people, as str(note) gives."""

    code: NoteCode
    text: str

    def __str__(self) -> str:
        return self.text


class Source(StrEnum):
    """Where a choice came from."""

    GIVEN = "given"
    """By the caller."""
    METADATA = "metadata"
    """The ONNX file's metadata."""
    CONFIG_FILE = "config-file"
    """A configuration file beside the model."""
    MODEL = "model"
    """The graph itself."""
    PRESET = "preset"
    """It follows from the preset."""
    ASSUMED = "assumed"
    """Nothing says; a usual value was taken."""
    PREPARED = "prepared"
    """The caller's array was preprocessed already."""
    NONE = "none"
    """There is none."""


@dataclass(frozen=True)
class Origin:
    """Where a choice came from: `source` for programs, `text` for people. str(origin) is its text."""

    source: Source
    text: str

    def __str__(self) -> str:
        return self.text


class Score(StrEnum):
    """What a method measures on a masked picture."""

    PROBABILITY = "probability"
    LOGIT = "logit"


class PictureGradient(StrEnum):
    """A gradient of the logit on the unmasked picture, which one run can give beside the model's answer."""

    FEATURES = "features"
    IMAGE = "image"
    GUIDED = "guided"
    """By the image, as guided backpropagation changes it."""


class BatchMode(StrEnum):
    """How a model takes several images in one forward pass."""

    DYNAMIC = "dynamic"
    """As exported: the model takes any batch, which was checked."""
    REWRITTEN = "rewritten"
    """The graph was rewritten to take any batch, which was checked."""
    LOOPED = "looped"
    """One image a forward pass, or the batch that the export is fixed to."""


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


FEATURE_MASKS = MaskForm()
"""The form of masks that are feature maps: on the feature grid, normalised in the graph."""


@dataclass(frozen=True)
class Placement:
    """Where the model's input lies on the upright picture, as resizing and cropping put it there.

    picture: (height, width) of the upright picture in pixels. box: (left, top, right, bottom) of the part that the
    model sees, in pixels of the picture, with 0 at the outer edge of the first pixel. The numbers may be fractions, and
    a padded input reaches beyond the picture.
    """

    picture: tuple[int, int]
    box: tuple[float, float, float, float]

    @property
    def hidden(self) -> float:
        """The share of the picture, in [0,1], that the model does not see, as a centre crop cut it off."""
        (height, width), (left, top, right, bottom) = self.picture, self.box
        across = max(0.0, min(right, width) - max(left, 0.0)) / width
        down = max(0.0, min(bottom, height) - max(top, 0.0)) / height
        return max(0.0, 1 - across * down)
