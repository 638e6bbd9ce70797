"""How a model is opened: OpenOptions. What they do is in opening.py."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.providers import ProviderSpec
from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import FEATURE_MASKS, Arrays, MaskForm


@dataclass(frozen=True)
class OpenOptions:
    """How to open a model; None and 'auto' leave the choice to onnxcam.

    layout: axes of the image input. image_input: its name. size: (H,W). size_is_assumed: another one may be used, where
    the model does not run at this one. layer: a tensor or node, or 'auto'. output: name of the output to explain. kind:
    what is scored. inputs: values of the extra inputs. providers: as Session takes them. threads, batch: of a run.
    with_fill: removed pixels are filled with an image, not with zero. form: how masks come. every_cell_counts: the
    feature tensor must count at every cell, not at a class token only. engine: how a GPU computes. cache: read and
    store what openings learn, in the user's cache folder. limits: what a run may take.
    """

    layout: str | None = None
    image_input: str | None = None
    size: tuple[int, ...] | None = None
    size_is_assumed: bool = False
    layer: str = "auto"
    output: str | None = None
    kind: Kind | None = None
    inputs: Arrays = field(default_factory=dict)
    providers: Sequence[ProviderSpec] = ("auto",)
    threads: int | None = None
    batch: int | None = None
    with_fill: bool = False
    form: MaskForm = FEATURE_MASKS
    every_cell_counts: bool = False
    engine: EngineOptions = PLAIN
    cache: bool = True
    limits: Limits = SAFE
