"""Clips for networks that take several pictures in time: animated files, arrays of frames, lists of pictures.

`frames_of` gives the pictures of a clip, `chosen` those of them that a network of fewer frames sees.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import PictureError
from onnxcam.inputs.arrays import is_array_file, read_array
from onnxcam.inputs.decoding import DAMAGED, content_of, identified
from onnxcam.inputs.images import find_pictures, read_pillow
from onnxcam.inputs.intact import EARLY, gif_is_whole
from onnxcam.inputs.presets import Preset
from onnxcam.inputs.sources import FileSource, is_file_source, name_of, opened, reason
from onnxcam.types import Note, NoteCode, Picture, Placement

MOST_FRAMES = 4096
"""Frames of a file that are read; a longer one has to be cut first."""


def frames_of(image: Any, read: Callable[[Any], Picture]) -> list[Picture] | None:
    """The frames of a clip: of an animated GIF, WebP or PNG, of a folder or a list of pictures, of (T,height,width,3)
    bytes.

    read: gives a picture of the list. None for an array of anything else, which may be a preprocessed clip. Raises
    PictureError.
    """
    if isinstance(image, str | os.PathLike) and os.path.isdir(image):
        image = list(find_pictures(image))
    if isinstance(image, list | tuple):
        return [read(picture) for picture in image]
    if is_file_source(image) and is_array_file(image):
        image = read_array(image)
    elif is_file_source(image):
        return _read_file(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 4 and image.shape[-1] == 3:
        return list(image)
    return None


def chosen(frames: Sequence[Picture], count: int, name: str) -> tuple[list[Picture], tuple[Note, ...]]:
    """(so many evenly spaced frames, a note where they are not all). Raises PictureError for a single picture."""
    if len(frames) < 2 <= count:
        raise PictureError(
            f"{name}: {'a single picture' if frames else 'no frames'}, and the model takes clips of {count} frames; "
            f"give an animated GIF, WebP or PNG, an .npy array (frames, height, width, 3) of bytes, or in Python a "
            f"folder or a list of pictures"
        )
    if not frames:
        raise PictureError(f"{name}: no frames")
    if len(frames) == count:
        return list(frames), ()
    places = np.rint(np.linspace(0, len(frames) - 1, count)).astype(int).tolist()
    text = f"{name}: has {len(frames)} frames and the model takes {count}; explained: {', '.join(map(str, places))}"
    return [frames[place] for place in places], (Note(NoteCode.FRAMES_CHOSEN, text),)


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


def _read_file(source: FileSource) -> list[Picture]:
    name = name_of(source)
    with opened(source, name) as file:
        image = identified(file, name)
        if image.format == "GIF" and not gif_is_whole(content_of(file)):
            raise PictureError(f"{name}: damaged or cut short ({EARLY}); get the file again")
        try:
            count = getattr(image, "n_frames", 1)
        except DAMAGED as error:
            raise PictureError(f"{name}: damaged or cut short ({reason(error)}); get the file again") from error
        if count > MOST_FRAMES:
            raise PictureError(f"{name}: has {count} frames; cut it to at most {MOST_FRAMES}")
        frames = []
        for place in range(count):
            try:
                image.seek(place)
                frame = image.copy()
            except DAMAGED as error:
                raise PictureError(f"{name}: frame {place} is damaged or cut short; get the file again") from error
            frames.append(read_pillow(frame).picture)
        return frames


def unchanged(preset: Preset) -> Preset:
    """A preset that fits a picture as this one does and leaves its pixels from 0 to 255, RGB."""
    return replace(preset, scale=1.0, mean=(0.0,), std=(1.0,), color="rgb")


def stacked(frames: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Frames (C,H,W) as (C,T,H,W)."""
    return np.ascontiguousarray(np.stack(frames, axis=1))
