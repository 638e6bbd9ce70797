"""What the surgeon found in a model: values that the engine, the command line and the result's provenance read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.axes import Axes, Tokens
from onnxcam.surgeon.ir import Shape
from onnxcam.types import Note

SPATIAL = ("D", "H", "W")
LARGEST = 2**31
"""Numbers in one picture's feature tensor; more comes from a damaged file."""


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the picture, the signal or the volume.

    layout: one letter an axis, e.g. NCHW, NWC, NDHWC. sides: of the spatial axes, None where dynamic. batch: None where
    dynamic.
    """

    name: str
    dtype: str
    layout: str
    channels: int
    sides: tuple[int | None, ...]
    batch: int | None

    @property
    def letters(self) -> tuple[str, ...]:
        """The spatial axes: ('W',), ('H', 'W') or ('D', 'H', 'W')."""
        return tuple(letter for letter in self.layout if letter not in "NC")

    def shape(self, sides: Sequence[int], batch: int = 1) -> tuple[int, ...]:
        """Of the input for pictures of the given sides."""
        sizes = {"N": batch, "C": self.channels, **dict(zip(self.letters, sides, strict=True))}
        return tuple(sizes[letter] for letter in self.layout)


class Kind(StrEnum):
    """What the scored numbers are."""

    CLASSES = "classes"
    """(N, classes): one number a class."""
    REGION = "region"
    """(N, classes, H, W): one number a class and place; a class is scored over a region."""
    BOXES = "boxes"
    """(N, 4 + classes, boxes) or (N, boxes, 5 + classes): a box's number for a class is scored."""
    ELEMENTS = "elements"
    """Any tensor: one of its numbers is scored."""
    EMBEDDING = "embedding"
    """Any tensor, taken as a vector: its cosine with a reference is scored."""


@dataclass(frozen=True)
class Logits:
    """The tensor that holds the scored numbers, before the final activation.

    activation: 'softmax', 'log_softmax', 'sigmoid', or 'none' where the graph ends in the logits themselves. classes:
    how many classes there are (of ELEMENTS and EMBEDDING: how many numbers). shape: of the tensor for one picture.
    channel_axis: of a REGION's, where its classes are. first_class: of BOXES, how many columns come before the classes:
    4 sides, these and an objectness, or none where the boxes are another output. boxes_first: (N, boxes, numbers).
    """

    tensor: str
    output: str
    activation: str
    classes: int
    reason: str
    kind: Kind = Kind.CLASSES
    shape: tuple[int, ...] = ()
    channel_axis: int = 1
    first_class: int = 0
    boxes_first: bool = False

    @property
    def space(self) -> tuple[int, ...]:
        """Of a REGION: sides of the class map, without batch and classes."""
        return tuple(d for i, d in enumerate(self.shape) if i not in (0, self.channel_axis))

    @property
    def places(self) -> int:
        return math.prod(self.space)


@dataclass(frozen=True)
class FeatureTensor:
    """A tensor that keeps the picture's geometry. axes name its dimensions; shape is for one picture."""

    tensor: str
    shape: Shape
    axes: Axes
    reason: str
    producer: str

    @property
    def grid(self) -> tuple[int, ...]:
        """Cells along the spatial axes."""
        return self._channels_and_grid()[1]

    @property
    def channels(self) -> int:
        return self._channels_and_grid()[0]

    def _channels_and_grid(self) -> tuple[int, tuple[int, ...]]:
        sizes = list(zip(self.axes, self.shape, strict=True))[1:]
        tokens = [a.grid for a, _ in sizes if isinstance(a, Tokens)]
        grid = tokens[0] if tokens else tuple(d for a, d in sizes if a in SPATIAL)
        rest = [d for a, d in sizes if not isinstance(a, Tokens) and a not in SPATIAL]
        if any(d is None for d in (*grid, *rest)) or math.prod(d or 0 for d in (*grid, *rest)) > LARGEST:
            raise ModelError(f"the shape of {self.tensor!r}, {list(self.shape)}, is not known or not plausible")
        return math.prod(d or 0 for d in rest), tuple(int(d or 0) for d in grid)

    @property
    def sides(self) -> tuple[int, ...]:
        """The shape without the batch; raises ModelError where it is not known."""
        self._channels_and_grid()
        if None in self.shape[1:]:
            raise ModelError(f"the shape of {self.tensor!r}, {list(self.shape)}, is not known")
        return tuple(d for d in self.shape[1:] if d is not None)

    @property
    def layout(self) -> str:
        """NCHW, NHWC, or e.g. NTC with the grid behind it for tokens."""
        letters = "".join("T" if isinstance(a, Tokens) else a if isinstance(a, str) else "?" for a in self.axes)
        grids = [a.grid for a in self.axes if isinstance(a, Tokens)]
        return letters + "".join(f" (T={'x'.join(map(str, g))})" for g in grids)

    @property
    def channels_first(self) -> tuple[list[int], slice]:
        """The order of the axes that puts the channels before the cells, and which of the last axis are the grid's."""
        rank = range(len(self.axes))
        tokens = [i for i in rank if isinstance(self.axes[i], Tokens)][:1]
        cells = tokens or [i for i in rank if self.axes[i] in SPATIAL]
        order = [0, *(i for i in rank[1:] if i not in cells and self.axes[i] not in SPATIAL), *cells]
        axis = self.axes[tokens[0]] if tokens else None
        return order, slice(axis.before, axis.before + math.prod(axis.grid)) if isinstance(axis, Tokens) else slice(
            None
        )

    def to_channels(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """One picture's (or a batch's) tensor as (N,K,*grid) float32; further tokens (a class token) are left out."""
        order, cells = self.channels_first
        data = np.asarray(array, np.float32).transpose(order)[..., cells]
        return np.ascontiguousarray(data.reshape(data.shape[0], -1, *self.grid))

    def from_channels(self, maps: npt.NDArray[np.float32], tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The way back of to_channels(): maps (N,K,*grid) in the tensor's own axes.

        tensor: one picture's, with a batch of one, from which further tokens are taken.
        """
        order, cells = self.channels_first
        if cells == slice(None):
            return maps.reshape(len(maps), *(tensor.shape[i] for i in order[1:])).transpose(np.argsort(order))
        whole = np.repeat(tensor.transpose(order), len(maps), axis=0)
        whole[..., cells] = maps.reshape(whole[..., cells].shape)
        return whole.transpose(np.argsort(order))


@dataclass(frozen=True)
class Candidate:
    """A tensor that could have been the feature tensor, and why it is not."""

    tensor: str
    shape: Shape | None
    why_not: str


@dataclass(frozen=True)
class Anatomy:
    """bytes_per_picture: what the largest step of one forward pass holds at once, in bytes."""

    image: ImageInput
    logits: Logits
    features: FeatureTensor
    candidates: tuple[Candidate, ...]
    notes: tuple[Note, ...]
    bytes_per_picture: int
