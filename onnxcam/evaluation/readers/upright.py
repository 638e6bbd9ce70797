"""Boxes of the upright picture from those that a data set holds, whose pixels may be as they are stored.

A camera held on its side stores its pixels turned and says so in EXIF. Programs that annotate show the picture upright,
as onnxcam, OpenCV, Detectron2 and Ultralytics read it; torchvision's data sets and older programs take the pixels as
they are stored. The size that an annotation records says which it was. Where it does not say (none is recorded, the
picture is square, mirrored or upside down), the annotation is of the upright picture.
"""

from collections.abc import Sequence
from pathlib import Path

from onnxcam.errors import PictureError
from onnxcam.inputs.images import Header, header_of
from onnxcam.metrics.metric import Box

Size = tuple[float, float]
"""(width, height)"""


def header_or_none(path: Path) -> Header | None:
    """What a picture's header says; None for a picture that cannot be read: whoever reads its pixels says why."""
    try:
        return header_of(path)
    except PictureError:
        return None


def upright_boxes(boxes: Sequence[Box], header: Header, recorded: Size | None) -> list[Box] | str:
    """Boxes in pixels of the upright picture; or, in a sentence, why they cannot be of this picture.

    recorded: of the picture, as its annotation has it; None, or a side of 0, where it does not say.
    """
    stored = (header.width, header.height)
    upright = (header.upright[1], header.upright[0])
    if recorded is None or not all(recorded) or recorded == upright:
        return list(boxes)
    if recorded == stored:
        return [turned_box(box, header.orientation, stored) for box in boxes]
    return (
        f"annotated at {recorded[0]:g} x {recorded[1]:g} pixels, but the file has {stored[0]} x {stored[1]}; "
        f"give the pictures that were annotated"
    )


def turned_box(box: Box, orientation: int, size: Size) -> Box:
    """A box on the stored pixels, turned as EXIF's orientation turns these. size: of the stored picture."""
    (left, top, right, bottom), (width, height) = box, size
    from_right, from_bottom = (width - right, width - left), (height - bottom, height - top)
    across, down = (left, right), (top, bottom)
    turns = {
        2: (from_right, down),
        3: (from_right, from_bottom),
        4: (across, from_bottom),
        5: (down, across),
        6: (from_bottom, across),
        7: (from_bottom, from_right),
        8: (down, from_right),
    }
    (x0, x1), (y0, y1) = turns.get(orientation, (across, down))
    return x0, y0, x1, y1
