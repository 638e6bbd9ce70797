"""Clips for networks that take several pictures in time: animated files, arrays of frames, lists of pictures.

`frames_of` gives the pictures of a clip, `chosen` those of them that a network of fewer frames sees.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import PictureError
from onnxcam.inputs.arrays import is_array_file, read_array
from onnxcam.inputs.deadlines import Timed
from onnxcam.inputs.decoding import DAMAGED, content_of, identified
from onnxcam.inputs.images import find_pictures, read_pillow
from onnxcam.inputs.intact import EARLY, clip_is_whole, made_strict
from onnxcam.inputs.pixel_limit import check_pixels, check_shape
from onnxcam.inputs.presets import Preset
from onnxcam.inputs.sources import FileSource, fitting, is_file_source, name_of, opened, reason
from onnxcam.limits import SAFE, WORK, Limits
from onnxcam.types import Note, NoteCode, Picture, Placement

MOST_FRAMES = 4096
"""Frames of a file that are read; a longer one has to be cut first."""


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a clip, each of which is decoded when it is taken. read: gives the one at a place, from 0 on."""

    count: int
    read: Callable[[int], Picture]


def frames_of(image: Any, read: Callable[[Any], Picture], most: int, limits: Limits = SAFE) -> Frames | None:
    """The frames of a clip: of an animated GIF, WebP or PNG, of a folder or a list of pictures, of (T,height,width,3)
    bytes.

    read: gives a picture of the list. most: frames that will be kept, to which the limit of pixels applies. None for an
    array of anything else, which may be a preprocessed clip. Raises PictureError.
    """
    if isinstance(image, str | os.PathLike) and os.path.isdir(image):
        image = list(find_pictures(image))
    if isinstance(image, list | tuple):
        return Frames(len(image), lambda place: read(image[place]))
    if is_file_source(image) and is_array_file(image):
        image = read_array(image, limits)
    elif is_file_source(image):
        return _of_file(image, most, limits)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 4 and image.shape[-1] == 3:
        check_shape(image.shape, 1, "<clip>", limits)
        return Frames(len(image), lambda place: image[place])
    return None


def chosen(frames: Frames, count: int, name: str, limits: Limits = SAFE) -> tuple[list[Picture], tuple[Note, ...]]:
    """(so many evenly spaced frames, a note where they are not all).

    Raises PictureError for a single picture, and for more pixels in all than the limit.
    """
    if frames.count < 2 <= count:
        what = "a single picture" if frames.count else "no frames"
        raise PictureError(
            f"{name}: {what}, and the model takes clips of {count} frames; give an animated GIF, WebP or PNG, an .npy "
            f"array (frames, height, width, 3) of bytes, or in Python a folder or a list of pictures"
        )
    if not frames.count:
        raise PictureError(f"{name}: no frames")
    places = range(count)
    notes: tuple[Note, ...] = ()
    if frames.count != count:
        places = np.rint(np.linspace(0, frames.count - 1, count)).astype(int).tolist()
        listed = ", ".join(map(str, places))
        text = f"{name}: has {frames.count} frames and the model takes {count}; explained: {listed}"
        notes = (Note(NoteCode.FRAMES_CHOSEN, text),)
    pictures: dict[int, Picture] = {}
    for place in dict.fromkeys(places):
        pictures[place] = frames.read(place)
        height, width = pictures[place].shape[:2]
        check_pixels(width, height, name, limits, len(pictures))
    return [pictures[place] for place in places], notes


def shared_placement(frames: Sequence[Placement], name: str) -> tuple[Placement | None, tuple[Note, ...]]:
    """(where the model's input lies on every frame, a note). None where frames differ; the note says what is hidden."""
    if len(set(frames)) == 1:
        return frames[0], ()
    most = max(placement.hidden for placement in frames)
    if round(most, 2) == 0:
        return None, ()
    text = (
        f"{name}: its frames have different sizes, and the crop hid up to {most:.0%} of one from the model; "
        f"--whole explains all of them"
    )
    return None, (Note(NoteCode.FRAMES_CUT, text),)


def _of_file(source: FileSource, most: int, limits: Limits) -> Frames:
    """The frames of an animated file, in the order of their places. It is read here, and decoded frame by frame."""
    name = name_of(source)
    with fitting(name), opened(source, name, limits=limits) as file:
        content = content_of(file)
    with fitting(name):
        image = identified(clock := Timed(BytesIO(content), name, limits), name, limits, all_frames=True)
    if not clip_is_whole(image.format, content, MOST_FRAMES):
        raise PictureError(f"{name}: damaged or cut short ({EARLY}), or more than {MOST_FRAMES} frames; get it again")
    try:
        with fitting(name):
            count = getattr(image, "n_frames", 1)
    except DAMAGED as error:
        raise PictureError(f"{name}: damaged or cut short ({reason(error)}); get the file again") from error
    if count > MOST_FRAMES:
        raise PictureError(f"{name}: has {count} frames; cut it to at most {MOST_FRAMES}")
    check_pixels(*image.size, name, limits, min(count, most))
    if limits.pixels is not None:  # all frames are decoded, as each changes the one before
        check_pixels(*image.size, name, replace(limits, pixels=WORK * limits.pixels), count)

    def read(place: int) -> Picture:
        clock.restart()
        try:
            with fitting(name):
                image.seek(place)
                made_strict(image)
                check_pixels(*image.size, name, limits)  # of a TIFF each page has its own
                frame = image.copy()
        except DAMAGED as error:
            raise PictureError(f"{name}: frame {place} is damaged or cut short; get the file again") from error
        return read_pillow(frame, limits=limits).picture

    return Frames(count, read)


def unchanged(preset: Preset) -> Preset:
    """A preset that fits a picture as this one does and leaves its pixels from 0 to 255, RGB."""
    return replace(preset, scale=1.0, mean=(0.0,), std=(1.0,), color="rgb")


def stacked(frames: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Frames (C,H,W) as (C,T,H,W)."""
    return np.ascontiguousarray(np.stack(frames, axis=1))
