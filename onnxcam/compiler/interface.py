"""The inputs and outputs of a compiled file: the model's own, and those that the explanation adds.

    target            int64 (T,)            the class of each map; below 0: the prediction
    saliency_map      float32 (maps,*size)  in [0,1]
    saliency_target   int64 (maps,)         the class that each map explains
    saliency_range    float32 (maps,2)      the least and the largest number of the raw map; equal where it is constant
    saliency_box      float32 (4,)          with --raw: left, top, right, bottom of what the model saw, on the picture
    saliency_picture  float32 (maps,H,W)    with --raw: the map on the picture, 0 where the model does not see it
    picture           uint8 (H,W,3)         with --raw, in place of the model's own image

Builders call the tensors by the constants below, which no file has; publish_names() of publishing.py gives them these
names, or another one where the model has an input or an output of that name already.
"""

from collections.abc import Mapping
from dataclasses import dataclass

TARGET = "onnxcam/compiled_target"
MAP = "onnxcam/compiled_map"
MAP_TARGET = "onnxcam/compiled_map_target"
RANGE = "onnxcam/compiled_range"
BOX = "onnxcam/compiled_box"
PICTURE_MAP = "onnxcam/compiled_picture_map"
PICTURE = "onnxcam/compiled_picture"
PUBLIC: Mapping[str, str] = {
    TARGET: "target", MAP: "saliency_map", MAP_TARGET: "saliency_target", RANGE: "saliency_range",
    BOX: "saliency_box", PICTURE_MAP: "saliency_picture", PICTURE: "picture",
}  # fmt: skip
"""The names that users see, by the name that builders use."""
PREDICTION = -1
"""The target, fed or baked in, that stands for the class that the model predicts."""


@dataclass(frozen=True)
class Tensor:
    """An input or an output. dtype: as NumPy calls it. shape: a text names an axis of any length."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Interface:
    """What a compiled file takes and gives, and which tensor is which.

    image: the input that takes the preprocessed image; None where the file takes the picture. target: None where the
    class is baked in. map, map_target, range: outputs. box, picture, picture_map: of a file that takes the picture,
    else None.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    image: str | None
    target: str | None
    map: str
    map_target: str
    range: str
    box: str | None = None
    picture: str | None = None
    picture_map: str | None = None
