"""The result of an explanation: `Saliency`, the target it is about, and its provenance.

The explainer makes these values; the rest of this package draws, records and writes them. They are plain frozen data,
so they can be pickled, copied and sent to other processes.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.inputs.presets import Preset
from onnxcam.outputs.colours import COLORMAP
from onnxcam.outputs.outlines import Outline
from onnxcam.outputs.style import ALPHA, THRESHOLD, Style, check_bool
from onnxcam.types import BatchMode, Finish, Floats, Image, Map, Note, Origin, Picture, Placement

if TYPE_CHECKING:
    from onnxcam.outputs.regions import SalientRegion

ALL_STEPS = "all"
"""ScoredTarget.step of the reading of all steps of a sequence."""
MASKED = "mask"
"""ScoredTarget.where of a region that was a mask."""


@dataclass(frozen=True)
class ScoredTarget:
    """What was explained, and what the model gave it on the unmasked picture.

    index: from 0; the class, for an element or a box the place of its number in the flattened output, for a similarity
    the number of the reference. label: None where there are no labels. kind: 'classes', 'region', 'boxes', 'elements',
    'sequence' or 'embedding'. probability: in [0,1] for a class, for a region and for several steps the mean. logit:
    the model's own number before softmax or sigmoid. For boxes, elements and embeddings, both are the number that is
    scored, of any range. output: the name of the model's output. where: of a region, its (left, top, right, bottom) in
    pixels; None where the class is predicted, MASKED where it was a mask, which is not kept. side: 'negative' or
    'positive' of a single output that stands for two classes, 0 and 1; the logit of the negative side is that of the
    output, negated. step: of a sequence; ALL_STEPS for the reading of all steps, None for a class over the steps where
    it is the best one. quantity: of a region, whether the map holds a quantity such as a distance, so that the
    probability too is the number itself. box: of a detector's box and of a region, (left, top, right, bottom) in pixels
    of the upright picture, or of the model's input for an image that came preprocessed; a detector's may reach beyond
    the picture. None for other kinds, and where it is not known. outline: polygons around a mask and around a box that
    is turned, in the same pixels. box_class, box_label: the class of a detector's box, from 0, and its name; None where
    the model does not tell which class the number is of. box_number: the box as Box(...) takes it, its place in the
    table or in the model's list of detections; None where no detection is of it.

    An Explainer takes it as a target again, for any picture, if its model has an output of that name (any model, where
    output is None). A mask and a similarity's reference are not kept, so they have to be passed again.
    """

    index: int
    label: str | None
    probability: float
    logit: float
    kind: str = "classes"
    output: str | None = None
    where: tuple[float, float, float, float] | str | None = None
    side: str | None = None
    box: tuple[float, float, float, float] | None = None
    outline: Outline = ()
    step: int | str | None = None
    quantity: bool = False
    box_class: int | None = None
    box_label: str | None = None
    box_number: int | None = None

    @property
    def class_index(self) -> int | None:
        """The class, from 0; None where no class is scored: elements, embeddings, quantities, all steps together."""
        if self.kind == "boxes":
            return self.box_class
        return self.index if self.is_probability and self.step != ALL_STEPS else None

    @property
    def class_label(self) -> str | None:
        """The class's own name, without box or step; None without labels and where no class is scored."""
        if self.kind == "boxes":
            return self.box_label
        return self.label if self.class_index is not None else None

    @property
    def is_probability(self) -> bool:
        """False where the model's own number is scored, which may be anything."""
        return self.kind in ("classes", "region", "sequence") and not self.quantity

    @property
    def name(self) -> str:
        """The label, or `class N` without labels; of a single output its side too, of a sequence its step."""
        if self.quantity:
            return f"mean of {self.output}"
        if self.step == ALL_STEPS:
            return "all steps"
        if self.step is not None:
            return f"{self.label if self.label is not None else f'class {self.index}'} at step {self.step}"
        if self.side is not None:
            return self.side if self.label is None else f"{self.label} ({self.side})"
        return self.label if self.label is not None else f"class {self.index}"


@dataclass(frozen=True)
class Channels:
    """How many feature maps there were, how many were scored, and how many were estimated from those.

    total, scored, estimated: numbers of feature maps. pending: how many are still to be scored, above 0 only for a map
    that is shown while a run goes on.
    """

    total: int
    scored: int
    estimated: int = 0
    pending: int = 0

    @property
    def skipped(self) -> int:
        """Maps that are constant over space: their mask is undefined and their weight changes nothing."""
        return self.total - self.scored - self.estimated - self.pending


@dataclass(frozen=True)
class FusedLayer:
    """One of several layers whose maps were fused. tensor: its name. reason: why. features: their shape (K,*grid)."""

    tensor: str
    reason: str
    features: tuple[int, ...]


@dataclass(frozen=True)
class Provenance:
    """How a map was made: enough to make it again, and where each choice came from.

    `onnxcam.method(provenance.method, **provenance.options)` is the method again, `fill_named(provenance.fill)` its
    fill. `onnxcam.outputs.record.record(saliency)` gives all of it as JSON values.

    versions: of onnxcam and of the packages that compute, by name. model, model_sha256: the ONNX file. image: the
    picture's path or name; image_input: the name of the model's input that took it. layer, layer_reason: the tensor
    whose feature maps were used, and why. features: their shape (K,*grid). logits: the tensor that was scored.
    activation: what the model applies to it ('softmax', 'none', ...). preset_origin, size_origin: where the
    preprocessing and the input's size came from. notes: what a reader should know. preset: the preprocessing; for an
    image that came preprocessed, what a fill took for it. options: every option of the method, numbers as numbers.
    changed: the names of those that differ from the method's defaults. provider: the short name of the execution
    provider; provider_options: all that it was opened with, onnxcam's own too. batch: masks per forward pass.
    batch_mode: a BatchMode. channels: None for a method that scores no feature maps. forwards: images that went through
    the model, or through the part of it behind the feature maps. steps: those that came back with a gradient. seconds:
    of this picture; of several explained in one batch, its share by passes.

    layers: where the maps of several layers were fused, each of them; layer and features are those of the first then.
    window: (low, high), the values that became black and white; None where none was chosen.
    bands: the numbers, from 1, of those that were red, green and blue; None where none were chosen.
    inputs_sha256: of everything on which the files of the command line depend: picture, model, method, options. None
    for a map of the library.

    precision: of the masked passes where it was lower than float32, such as 'bf16'; None otherwise.

    error: where scores were estimated, or masked passes ran in a lower precision, a bound on the root mean square error
    of the map, which is in [0,1]; it holds in about 9 of 10 cases. None where neither is so, and where too little was
    scored to tell, which a note says.
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
    batch_mode: BatchMode
    features: tuple[int, ...]
    channels: Channels | None
    forwards: int
    steps: int
    seconds: float
    notes: tuple[Note, ...] = ()
    error: float | None = None
    window: tuple[float, float] | None = None
    image_input: str | None = None
    layers: tuple[FusedLayer, ...] = ()
    bands: tuple[int, ...] | None = None
    inputs_sha256: str | None = None
    provider_options: Mapping[str, str] = field(default_factory=dict)
    precision: str | None = None

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors whose feature maps were used, as Explainer(layer=...) takes them."""
        return tuple(layer.tensor for layer in self.layers) or (self.layer,)


@dataclass(frozen=True, eq=False)
class Saliency:
    """One explanation. Its arrays are read-only, after copying and unpickling too.

    map: (H,W) float32 in [0,1] on the model's input; (W,) for a signal, (D,H,W) for a volume. raw: float32 of any
    range, before rectifying and normalising: (h,w), the combination of the feature maps or the mask that was learnt, or
    (H,W) of a method that works on pixels. score: what the method attributes, on the unmasked picture: a probability or
    a logit, as the method's options say. placement: where the map lies on the picture; None if the image came
    preprocessed. finish: how the map follows from raw. target: what was explained. provenance: how it was made.
    picture: what is drawn: the file of a photograph, which is read again then; of a picture from memory the upright
    photograph (height,width,3) uint8; of an image that came preprocessed the array (C,*spatial). None where it is not
    kept, as by an isolated Explainer. Raises OptionError if map or raw is no array.
    """

    map: Map
    raw: Floats
    target: ScoredTarget
    score: float
    placement: Placement | None
    provenance: Provenance = field(repr=False)
    finish: Finish = Finish.OWN
    picture: Picture | Image | Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # Views, so that the caller's own arrays stay writable.
        object.__setattr__(self, "map", _read_only("map", self.map))
        object.__setattr__(self, "raw", _read_only("raw", self.raw))
        if isinstance(self.picture, np.ndarray):
            object.__setattr__(self, "picture", _read_only("picture", self.picture))

    def overlay(
        self,
        picture: object | None = None,
        *,
        colormap: str = COLORMAP,
        alpha: float = ALPHA,
        caption: bool = False,
        max_size: int | None = None,
    ) -> Picture:
        """The map over what it explains: (height,width,3) uint8 RGB.

        picture: what was explained, as read_picture() takes it; by default what this result keeps. colormap: a name
        such as 'turbo', 'inferno', 'cividis'; 'blue-orange' shows the sign of `raw`. alpha: opacity where the map is 1.
        caption: whether class, probability, method and a scale stand below. max_size: pixels on the longer side, at
        most. Raises PictureError where there is no picture, OptionError for an option that makes no sense.
        """
        from onnxcam.outputs.drawing import draw
        from onnxcam.outputs.original import original_of

        style = Style(colormap, alpha, caption, max_size=max_size)
        return draw(self, original_of(self, picture), style)

    def heatmap(self, *, colormap: str = COLORMAP, alpha: float = ALPHA) -> npt.NDArray[np.uint8]:
        """The colours alone: (height,width,4) uint8 RGBA of the picture's size, to be laid over it.

        Transparent where the map is low and where the model saw nothing of the picture. Of an image that came
        preprocessed as large as the map.
        """
        from onnxcam.outputs.drawing import heatmap

        return heatmap(self, None, Style(colormap, alpha))

    def on_picture(self, outside: float = math.nan) -> Map:
        """The map at the size of the upright picture: (height,width) float32, bilinear.

        outside: the number where the model saw nothing of the picture, as a centre crop cut it off. Raises PictureError
        for a map without a place on a picture: that of an image that came preprocessed, or of a clip.
        """
        from onnxcam.outputs.regions import on_picture

        return on_picture(self, outside)

    def mask(self, threshold: float | None = None, *, top: float | None = None) -> npt.NDArray[np.bool_]:
        """Which pixels are high: (height,width) on the picture; in the map's shape where it has no place on one.

        threshold: the least saliency, 0 to 1; 0.5 if neither is given. top: the share of the pixels that the model saw,
        the most salient ones; of equal ones the first in reading order. What the model did not see is never in it.
        Raises OptionError for both, and for other numbers.
        """
        from onnxcam.outputs.regions import mask

        return mask(self, threshold, top=top)

    def regions(self, threshold: float | None = None, *, top: float | None = None) -> "list[SalientRegion]":
        """The parts of mask() that hang together, each with its box, peak and share of the map.

        The largest share comes first. Pixels hang together by a side or a corner. Raises OptionError for a map that is
        not of height and width.
        """
        from onnxcam.outputs.regions import regions

        return regions(self, threshold, top=top)

    def boxes(
        self, threshold: float | None = None, *, top: float | None = None
    ) -> list[tuple[float, float, float, float]]:
        """(left, top, right, bottom) of each of regions(), in pixels of the picture; 0 is the edge of the first."""
        return [region.box for region in self.regions(threshold, top=top)]

    def contours(self, threshold: float | None = None, *, top: float | None = None) -> Outline:
        """Polygons of points (x,y) along the edges of mask(), those around holes included, in the pixels of boxes()."""
        from onnxcam.outputs.regions import outlines

        return outlines(self, threshold, top=top)

    def plot(
        self,
        ax: Any | None = None,
        picture: object | None = None,
        *,
        colormap: str = COLORMAP,
        alpha: float = ALPHA,
        caption: bool = True,
    ) -> Any:
        """Draws the overlay on matplotlib's axes, in the pixels of the picture, and returns the axes.

        ax: a new figure's if None. caption: as the title. Needs matplotlib: pip install "onnxcam[plot]". Raises as
        overlay() does.
        """
        from onnxcam.outputs.map_figure import plot
        from onnxcam.outputs.original import original_of

        return plot(self, original_of(self, picture), Style(colormap, alpha, caption), ax)

    def save(
        self,
        path: str | os.PathLike[str],
        picture: object | None = None,
        *,
        colormap: str = COLORMAP,
        alpha: float = ALPHA,
        caption: bool = True,
        threshold: float = THRESHOLD,
        max_size: int | None = None,
    ) -> Path:
        """Writes one file by its ending, whole or not at all, and returns its path; a file that is there is replaced.

        .png, .jpg, .webp: the overlay. .pdf, .svg: the same for print (pip install "onnxcam[plot]"). .heatmap.png: the
        colours on transparent ground. .mask.png, .contour.png, .boxes.png: what is at least `threshold`.
        .side-by-side.png: picture and overlay. .tiff: the map on the picture as float32. .npy: the map; .npz: map, raw
        and record; .json: the record with raw. picture and the other options: as of overlay(). Raises OutputError for
        another ending, and for a file that is the picture itself.
        """
        from onnxcam.outputs.saving import save

        return save(self, path, picture, Style(colormap, alpha, caption, threshold=threshold, max_size=max_size))

    def to_dict(self, *, raw: bool = False) -> dict[str, Any]:
        """The record: what was explained and how, in JSON's types (docs/record.md). raw: whether `raw` comes along."""
        from onnxcam.outputs.record import record

        check_bool("raw", raw)
        return record(self, raw=raw)

    def _repr_png_(self) -> bytes:
        """The overlay with its caption, as notebooks show it."""
        from onnxcam.outputs.notebook import png

        return png(self)

    def _repr_html_(self) -> str:
        """The overlay with its caption, and the provenance folded below."""
        from onnxcam.outputs.notebook import html

        return html([self])

    def __reduce__(self) -> tuple[type["Saliency"], tuple[Any, ...]]:
        """Pickles and copies by the constructor, since arrays come back writable."""
        return type(self), tuple(getattr(self, f.name) for f in fields(self))


def _read_only(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not isinstance(array, np.ndarray):
        raise OptionError(f"{name} of a Saliency is a numpy array, not {type(array).__name__}; use numpy.asarray")
    view = array.view()
    view.setflags(write=False)
    return view
