"""The results of the analysis as values: image input, logits, feature tensor, and the Anatomy that holds them.

locate.py makes them. The graphs, the networks, the command line and a result's provenance read them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.cell_order import CellOrder, cell_order, layout_text
from onnxcam.surgeon.analysis.factors import SPATIAL, Axes
from onnxcam.types import Note, Shape

LARGEST = 2**31
"""Numbers in the feature tensor of one image; only a damaged file has more."""


class Frames(StrEnum):
    """Where the frames of a clip are, in a network of pictures that takes several of them."""

    IN_BATCH = "in the batch"
    """(N,T,C,H,W) becomes (N*T,C,H,W): every frame goes through the same network."""
    IN_CHANNELS = "in the channels"
    """(N,T,C,H,W) becomes (N,T*C,H,W): the first layer sees all frames at once."""
    APART = "apart"
    """Each frame goes through a branch of its own."""


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the image, the signal or the volume.

    layout has one letter for each axis, e.g. NCHW, NWC, NDHWC, NCWH. sides holds the sizes along depth, height and
    width, in this order whatever the layout, with None for a dynamic one; batch is None where it is dynamic. added:
    positions of the axes of size 1 that the file's own input lacks, and passes/added_axes.py adds.
    frames: of a clip that a network of pictures takes, whose depth is time.
    """

    name: str
    dtype: str
    layout: str
    channels: int
    sides: tuple[int | None, ...]
    batch: int | None
    added: tuple[int, ...] = ()
    frames: Frames | None = None

    @property
    def letters(self) -> tuple[str, ...]:
        """The letters of the spatial axes: ('W',), ('H', 'W') or ('D', 'H', 'W')."""
        return tuple(letter for letter in SPATIAL if letter in self.layout)

    @property
    def takes_integers(self) -> bool:
        """Whether it takes pixels from 0 to 255 rather than real numbers."""
        return np.issubdtype(np.dtype(self.dtype), np.integer)

    def pixels_of(self, noise: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Noise of unit deviation as pixels of an input of integers."""
        low = -128 if self.dtype == "int8" else 0
        return np.clip(low + 128 + 64 * np.asarray(noise, np.float64), low, low + 255)

    def cast(self, pixels: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """Numbers in the input's element type, as the scoring graph casts them: integers are rounded, bytes clipped."""
        numbers, dtype = np.asarray(pixels), np.dtype(self.dtype)
        if not self.takes_integers:
            return numbers.astype(dtype)
        if dtype.itemsize == 1:
            numbers = np.clip(numbers, np.iinfo(dtype).min, np.iinfo(dtype).max)
        return np.floor(numbers + 0.5).astype(dtype)

    def sides_in(self, shape: Sequence[int | None]) -> tuple[int, ...]:
        """The sides that a tensor of this shape has, in the input's layout."""
        sizes = dict(zip(self.layout, shape, strict=True))
        return tuple(int(sizes[letter] or 0) for letter in self.letters)

    @property
    def file_layout(self) -> str:
        """The layout of the file's own input: without the axes that are added."""
        return "".join(letter for i, letter in enumerate(self.layout) if i not in self.added)

    def shape(self, sides: Sequence[int], batch: int = 1) -> tuple[int, ...]:
        """The input's shape, in its own layout, for a batch of images with these sides."""
        sizes = {"N": batch, "C": self.channels, **dict(zip(self.letters, sides, strict=True))}
        return tuple(sizes[letter] for letter in self.layout)


class Kind(StrEnum):
    """What the scored tensor holds, and what a target is an index of."""

    CLASSES = "classes"
    """(N, classes): one number for each class."""
    REGION = "region"
    """(N, classes, H, W): one number for each class and pixel; the score of a class is taken over a region."""
    BOXES = "boxes"
    """(N, 4 + classes, boxes) or (N, boxes, 5 + classes): the score is a box's number for a class."""
    ELEMENTS = "elements"
    """Any tensor: the score is one of its numbers."""
    SEQUENCE = "sequence"
    """(T, N, classes) or (N, T, classes): one number for each class and step of a sequence."""
    EMBEDDING = "embedding"
    """Any tensor as a vector: the score is its cosine similarity to a reference."""


@dataclass(frozen=True)
class Logits:
    """The tensor that is scored, before the final activation.

    tensor: its name. output: the name of the model's output behind it. activation: 'softmax', 'log_softmax', 'sigmoid',
    'none' where no activation follows, or 'probability' where the tensor itself holds probabilities that several
    activations made. classes: their number; for ELEMENTS and EMBEDDING all numbers of the tensor.
    shape: for one image. channel_axis: the axis of the classes, and sideways: whether the width comes before the height
    (REGION). first_class: the columns before the classes
    (BOXES): 4 for the sides, 5 with an objectness, 0 where the boxes are another output. boxes_first: whether the shape
    is (N, boxes, columns). objectness, sides: the column of the objectness and the first of the four sides, None where
    there is none. sides_output: the output that holds the sides, None where the table does. corners: whether the sides
    are (left, top, right, bottom) rather than (centre x, centre y, width, height), None where the graph does not say.
    exclusive: whether the classes of a box compete in a softmax, so that one of them is likely the background; None
    where the table holds numbers before any activation. background: the class that the graph drops elsewhere, None if
    unknown (BOXES).

    two_sided: one number z stands for two classes, whose logits are -z (class 0) and z (class 1), or the
    probabilities 1 - z and z. threshold: the z above which the graph decides for class 1: a logit of 0, a probability
    of a half. labels: names that the graph itself gives
    the classes. step_axis, batch_axis: the axis of the steps (SEQUENCE), and of the batch. literal: the number itself
    is scored and is no probability (a REGION's; the kinds below BOXES always are). verified_by: the tensor of the file
    whose numbers are those of `tensor` after the activation, where that is not the output. others: further outputs of
    classes. normalised: whether the last layer normalises, as that of an embedding may, linear: whether it is linear
    (CLASSES).
    """

    tensor: str
    output: str
    activation: str
    classes: int
    reason: str
    kind: Kind = Kind.CLASSES
    shape: tuple[int, ...] = ()
    channel_axis: int = 1
    sideways: bool = False
    first_class: int = 0
    boxes_first: bool = False
    objectness: int | None = None
    sides: int | None = 0
    sides_output: str | None = None
    corners: bool | None = None
    exclusive: bool | None = False
    background: int | None = None
    two_sided: bool = False
    threshold: float = 0.0
    labels: tuple[str, ...] = ()
    step_axis: int = 1
    batch_axis: int = 0
    literal: bool = False
    verified_by: str = ""
    others: tuple[str, ...] = ()
    normalised: bool = False
    linear: bool = True

    @property
    def columns(self) -> int:
        """Numbers of the tensor along its class axis: one for the two sides of a single output."""
        return 1 if self.two_sided else self.classes

    @property
    def has_sigmoid(self) -> bool:
        """Whether the probability is the sigmoid of a logit, by the model or by our reading; else it is a softmax."""
        return self.activation == "sigmoid" or (self.two_sided and not self.has_probabilities)

    @property
    def has_probabilities(self) -> bool:
        """Whether the tensor itself holds probabilities."""
        return self.activation == "probability"

    @property
    def steps(self) -> int:
        """The number of steps (SEQUENCE)."""
        return self.shape[self.step_axis]

    @property
    def boxes(self) -> int:
        """The number of boxes in the table (BOXES)."""
        return self.shape[1] if self.boxes_first else self.shape[2]

    def entry(self, place: int) -> tuple[int, int]:
        """The box and the class at a place of the flattened table (BOXES); the class is below 0 for other columns."""
        row, column = divmod(place, self.shape[2])
        return (row, column - self.first_class) if self.boxes_first else (column, row - self.first_class)

    def place(self, box: int, label: int) -> int:
        """The place of a box's number for a class in the flattened table (BOXES)."""
        column = self.first_class + label
        return box * self.shape[2] + column if self.boxes_first else column * self.shape[2] + box

    @property
    def space(self) -> tuple[int, ...]:
        """Sides of the class map (REGION), without batch and classes."""
        return tuple(d for i, d in enumerate(self.shape) if i not in (0, self.channel_axis))

    @property
    def places(self) -> int:
        """Pixels of the class map (REGION)."""
        return math.prod(self.space)


@dataclass(frozen=True)
class FeatureTensor:
    """The tensor whose channels are the feature maps: it keeps the image's spatial grid.

    shape is for one image, axes is the meaning of each axis, producer the operator that computes the tensor, reason why
    it was chosen, as a text for people.
    """

    tensor: str
    shape: Shape
    axes: Axes
    reason: str
    producer: str

    @property
    def grid(self) -> tuple[int, ...]:
        """Cells along depth, height and width. Raises ModelError where the shape is unknown or implausible."""
        return self.order.grid

    @property
    def channels(self) -> int:
        """The number of feature maps. Raises as grid does."""
        return self.order.channels

    @property
    def order(self) -> CellOrder:
        """Where the cells lie, and how to reorder them. Raises ModelError where the shape is unknown or implausible."""
        return cell_order(self.axes, (1, *self.sides))

    @property
    def sides(self) -> tuple[int, ...]:
        """The shape without the batch. Raises ModelError where it is unknown or implausible."""
        sides = tuple(d for d in self.shape[1:] if d is not None)
        if None in self.shape[1:] or math.prod(sides) > LARGEST:
            raise ModelError(f"the shape of {self.tensor!r}, {list(self.shape)}, is unknown or not plausible")
        return sides

    @property
    def layout(self) -> str:
        """NCHW, NHWC, or NTC (T=14x14) for tokens with their grid."""
        return layout_text(self.axes)

    def to_channels(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Converts the tensor of a batch to (N,K,*grid) float32, without class tokens and other extra tokens."""
        return self.order.to_maps(array)

    def from_channels(self, maps: npt.NDArray[np.float32], tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The inverse of to_channels(): converts maps (N,K,*grid) to the tensor's own axes.

        tensor is that of one image, with a batch axis of 1; the extra tokens are copied from it.
        """
        return self.order.from_maps(maps, tensor)


@dataclass(frozen=True)
class Scale:
    """The boxes of a detector's table that are predicted from one feature map.

    rows: (start, stop) of each run of their places in the table. features: what enters the layers that predict them.
    """

    rows: tuple[tuple[int, int], ...]
    features: FeatureTensor

    @property
    def boxes(self) -> str:
        """The places for people, such as '0 to 255'."""
        text = ", ".join(f"{start} to {stop - 1}" for start, stop in self.rows[:3])
        return text + (", ..." if len(self.rows) > 3 else "")

    def holds(self, box: int) -> bool:
        """Whether the box at this place of the table is one of them."""
        return any(start <= box < stop for start, stop in self.rows)


@dataclass(frozen=True)
class Candidate:
    """A tensor that was considered as feature tensor, and why it was not chosen."""

    tensor: str
    shape: Shape | None
    why_not: str


@dataclass(frozen=True)
class Anatomy:
    """Everything that an explanation must know of a model.

    candidates are the tensors that were not chosen, notes say what a reader should doubt, and bytes_per_image is the
    memory of the largest node of one forward pass of one image. scales: of a detector's table, from the finest map to
    the coarsest; () where the rows cannot be traced to a map. branches: all maps that feed the score, if there are
    several; --layer fuses them.
    """

    image: ImageInput
    logits: Logits
    features: FeatureTensor
    candidates: tuple[Candidate, ...]
    notes: tuple[Note, ...]
    bytes_per_image: int
    scales: tuple[Scale, ...] = ()
    branches: tuple[FeatureTensor, ...] = ()
