"""Clips for networks that take frames: files, arrays and lists give the array that each frame's preprocessing gives."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.inputs.loader import ImageLoader
from onnxcam.inputs.presets import PRESETS, whole
from onnxcam.surgeon.analysis.anatomy import Frames, ImageInput
from onnxcam.types import NoteCode

RNG = np.random.default_rng(4)
FRAMES = RNG.integers(0, 256, (5, 30, 24, 3)).astype(np.uint8)
CLIPS = ImageInput("x", "float32", "NDCHW", 3, (5, 16, 12), None, frames=Frames.IN_BATCH)
PRESET = PRESETS["imagenet"]


def loader(count: int = 5, image: ImageInput = CLIPS) -> ImageLoader:
    return ImageLoader(image, (count, 16, 12), PRESET)


def expected(places: list[int]) -> np.ndarray:
    """(C,T,H,W) of each frame as a picture of its own."""
    picture = ImageInput("x", "float32", "NCHW", 3, (16, 12), None)
    one = ImageLoader(picture, (16, 12), PRESET)
    return np.stack([one.prepare(FRAMES[place]).image for place in places], axis=1)


def animated(form: str) -> bytes:
    pictures = [Image.fromarray(frame) for frame in FRAMES]
    file = io.BytesIO()
    lossless = {"lossless": True} if form == "WEBP" else {}
    pictures[0].save(file, form, save_all=True, append_images=pictures[1:], **lossless)
    return file.getvalue()


@pytest.mark.parametrize("form", ["WEBP", "PNG", "TIFF"])
def test_the_frames_of_a_file_are_preprocessed_one_by_one(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip.{form.lower()}"
    path.write_bytes(animated(form))
    for source in (path, str(path), path.read_bytes()):
        prepared = loader().prepare(source)
        np.testing.assert_array_equal(prepared.image, expected([0, 1, 2, 3, 4]))
        assert (prepared.is_prepared, prepared.notes) == (False, ())


def test_a_gif_has_its_frames_in_the_colours_of_its_palettes() -> None:
    grey = np.repeat(FRAMES[..., :1], 3, axis=3)
    pictures = [Image.fromarray(frame[..., 0]) for frame in grey]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
    np.testing.assert_array_equal(loader().prepare(file.getvalue()).image, loader().prepare(grey).image)


def test_arrays_and_lists_of_pictures_are_clips(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", FRAMES)
    paths = []
    for i, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    for clip in (FRAMES, tmp_path / "clip.npy", list(FRAMES), tuple(Image.fromarray(f) for f in FRAMES), paths):
        np.testing.assert_array_equal(loader().prepare(clip).image, expected([0, 1, 2, 3, 4]))


def test_a_longer_or_shorter_clip_is_sampled_evenly_with_a_note() -> None:
    for count, places in ((3, [0, 2, 4]), (2, [0, 4]), (7, [0, 1, 1, 2, 3, 3, 4])):
        prepared = loader(count).prepare(FRAMES)
        np.testing.assert_array_equal(prepared.image, expected(places))
        (note,) = prepared.notes
        assert note.code is NoteCode.FRAMES_CHOSEN
        assert note.text.endswith("explained: " + ", ".join(map(str, places)))


def test_a_preprocessed_clip_is_taken_as_it_is() -> None:
    clip = expected([0, 1, 2, 3, 4])
    for array in (clip, clip.transpose(1, 0, 2, 3)):
        prepared = loader().prepare(array)
        np.testing.assert_array_equal(prepared.image, clip)
        assert prepared.is_prepared


def test_the_map_is_drawn_over_the_frames_as_the_model_sees_them() -> None:
    drawn = loader().prepare(FRAMES).drawn
    raw = ImageLoader(CLIPS, (5, 16, 12), PRESETS["imagenet"].__class__("raw", 1.0, (0.0,), (1.0,)))
    np.testing.assert_array_equal(drawn, raw.prepare(FRAMES).image)


def test_a_crop_of_the_frames_is_that_of_a_picture_of_their_size() -> None:
    picture = ImageLoader(ImageInput("x", "float32", "NCHW", 3, (16, 12), None), (16, 12), PRESET)
    for clip in (FRAMES, list(FRAMES), animated("PNG")):
        placement = loader().prepare(clip).placement
        assert placement == picture.prepare(FRAMES[0]).placement
        assert placement is not None
        assert placement.hidden > 0.2


def test_frames_of_different_sizes_have_no_placement_and_a_note_on_the_crop() -> None:
    wide = np.tile(FRAMES[0], (1, 3, 1))
    prepared = loader().prepare([*FRAMES[:4], wide])
    (note,) = prepared.notes
    assert (prepared.placement, note.code) == (None, NoteCode.FRAMES_CUT)
    assert not prepared.is_prepared
    uncut = ImageLoader(CLIPS, (5, 16, 12), whole(PRESET)).prepare([*FRAMES[:4], wide])
    assert (uncut.placement, uncut.notes) == (None, ())


def test_a_single_picture_is_no_clip() -> None:
    file = io.BytesIO()
    Image.fromarray(FRAMES[0]).save(file, "PNG")
    for picture in (file.getvalue(), FRAMES[:1]):
        with pytest.raises(PictureError, match=r"a single picture, and the model takes clips of 5 frames; give an ani"):
            loader().prepare(picture)


def test_a_damaged_frame_is_an_error_that_names_it() -> None:
    with pytest.raises(PictureError, match=r"damaged|cut short"):
        loader().prepare(animated("WEBP")[:-200])


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF"])
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_ends_early_is_an_error_wherever_it_ends(form: str) -> None:
    content = animated(form)
    whole = loader().prepare(content).image
    for cut in range(10, len(content) - 1, len(content) // 60):
        try:
            prepared = loader().prepare(content[:cut])
        except PictureError:
            continue
        np.testing.assert_array_equal(prepared.image, whole)


def test_a_volume_of_one_channel_takes_no_animation() -> None:
    volume = ImageInput("x", "float32", "NCDHW", 1, (5, 16, 12), None)
    with pytest.raises(PictureError, match="takes no pictures but arrays"):
        loader(image=volume).prepare(animated("WEBP"))


def test_a_folder_of_frames_is_a_clip_in_the_order_of_names(tmp_path: Path) -> None:
    for number in (2, 0, 4, 3, 1):
        Image.fromarray(FRAMES[number]).save(tmp_path / f"{number}.png")
    for folder in (tmp_path, str(tmp_path)):
        np.testing.assert_array_equal(loader().prepare(folder).image, expected([0, 1, 2, 3, 4]))


def test_a_clip_without_frames_says_so() -> None:
    with pytest.raises(PictureError, match="no frames, and the model takes clips of 5 frames"):
        loader().prepare([])
