"""What the surgeon found in a model: values that the engine, the command line and the result's provenance read."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ModelError
from onnxcam.surgeon.axes import Axes, Tokens
from onnxcam.surgeon.graph import Shape

LARGEST = 2**31
"""Numbers in one picture's feature tensor; more comes from a damaged file."""


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the picture. layout: one letter an axis, e.g. NCHW. height, width: None where dynamic."""

    name: str
    dtype: str
    layout: str
    channels: int
    height: int | None
    width: int | None
    batch: int | None


@dataclass(frozen=True)
class Logits:
    """The tensor that holds one number a class before the final activation.

    activation: 'softmax', 'log_softmax', 'sigmoid', or 'none' where the graph ends in the logits themselves.
    """

    tensor: str
    output: str
    activation: str
    classes: int
    reason: str


@dataclass(frozen=True)
class FeatureTensor:
    """A tensor that keeps the picture's geometry. axes name its dimensions; shape is for one picture."""

    tensor: str
    shape: Shape
    axes: Axes
    reason: str
    producer: str

    @property
    def channels_and_grid(self) -> tuple[int, int, int]:
        """(K, h, w) of one picture, as to_channels gives them."""
        sizes = list(zip(self.axes, self.shape, strict=True))[1:]
        grids = [a.grid for a, _ in sizes if isinstance(a, Tokens)]
        grid = grids[0] if grids else tuple(d for a, d in sizes if a in ("D", "H", "W"))
        rest = [d for a, d in sizes if not isinstance(a, Tokens) and a not in ("D", "H", "W")]
        if any(d is None for d in (*grid, *rest)) or math.prod(d or 0 for d in (*grid, *rest)) > LARGEST:
            raise ModelError(f"the shape of {self.tensor!r}, {list(self.shape)}, is not known or not plausible")
        height, width = (1, *grid)[-2:]
        return math.prod(d or 0 for d in rest), int(height or 0), int(width or 0)

    @property
    def layout(self) -> str:
        """NCHW, NHWC, or e.g. NTC with the grid behind it for tokens."""
        letters = "".join("T" if isinstance(a, Tokens) else a or "?" for a in self.axes)
        grids = [a.grid for a in self.axes if isinstance(a, Tokens)]
        return letters + "".join(f" (T={'x'.join(map(str, g))})" for g in grids)

    def to_channels(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """One picture's (or a batch's) tensor as (N,K,h,w) float32; further tokens (a class token) are left out."""
        rank = len(self.axes)
        spatial = [i for i in range(rank) if self.axes[i] in ("D", "H", "W")]
        token = next((i for i in range(rank) if isinstance(self.axes[i], Tokens)), None)
        rest = [i for i in range(rank) if i not in spatial and i != token and i != 0]
        data = np.asarray(array, np.float32)
        if token is None:
            data = data.transpose([0, *rest, *spatial])
            grid = data.shape[len(rest) + 1 :]
        else:
            axis = self.axes[token]
            assert isinstance(axis, Tokens)
            cells = int(np.prod(axis.grid))
            data = data.transpose([0, *rest, token])[..., axis.before : axis.before + cells]
            grid = axis.grid
        height, width = (1, *grid)[-2:]
        return np.ascontiguousarray(data.reshape(data.shape[0], -1, height, width))


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
    warnings: tuple[str, ...]
    bytes_per_picture: int
