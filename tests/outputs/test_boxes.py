"""A target's box or outline lies where it says, in every kind of drawing, and its label stays on the picture."""

from dataclasses import replace

import numpy as np
import pytest
from results import provenance

from onnxcam.outputs import overlay
from onnxcam.outputs.boxes import draw_target, draw_truth, shown_part
from onnxcam.outputs.drawing import draw
from onnxcam.outputs.outlines import bounds, contours
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.types import Map, Placement

FLAT = np.full((20, 40), 0.5, np.float32)


def boxed(box: tuple[float, float, float, float], label: str = "cat") -> ScoredTarget:
    return ScoredTarget(7, label, 0.9, 0.9, "boxes", "out", box=box)


def white_lines(drawn: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """(height, width) where the drawing became white."""
    return np.asarray((drawn == 255).all(axis=2) & (plain != 255).any(axis=2))


def frame_of(drawn: np.ndarray, plain: np.ndarray, below: int = 0) -> tuple[int, ...]:
    """(left, top, right, bottom): middles of the rows and columns, from `below` on, in which the white lines are long."""
    lines = white_lines(drawn, plain)[below:]
    columns, rows = lines.sum(axis=0), lines.sum(axis=1)
    x, y = np.flatnonzero(columns > 0.8 * columns.max()), np.flatnonzero(rows > 0.8 * rows.max())
    middle_x, middle_y = (x[0] + x[-1]) / 2, (y[0] + y[-1]) / 2
    ends = [part.mean() for part in (x[x < middle_x], y[y < middle_y], x[x > middle_x], y[y > middle_y])]
    return tuple(round(end) for end in np.add(ends, (0, below, 0, below)))


@pytest.mark.parametrize(("size", "zoom"), [((400, 600), 1), ((40, 60), 4)])
def test_a_box_is_drawn_at_its_pixels_of_the_picture_also_of_an_enlarged_one(size: tuple[int, int], zoom: int) -> None:
    picture = np.full((*size, 3), 90, np.uint8)
    height, width = size
    box = (width * 0.25, height * 0.5, width * 0.75, height * 0.9)
    placement = Placement(size, (0.0, 0.0, float(width), float(height)))
    one = Saliency(FLAT, FLAT, boxed(box), 0.9, placement, provenance())
    drawn = draw(one, picture, Style())
    plain = draw(replace(one, target=replace(one.target, box=None)), picture, Style())
    assert drawn.shape == plain.shape == (height * zoom, width * zoom, 3)
    below = round(height * zoom * 0.5) - 3
    assert np.abs(np.subtract(frame_of(drawn, plain, below), np.multiply(box, zoom))).max() <= 1


@pytest.mark.parametrize("heatmap", [False, True])
def test_a_heatmap_shows_the_box_in_its_own_pixels(heatmap: bool) -> None:
    """The model's input is a letterbox: 40 x 20 cells on (-10, 0) to (30, 20) of a picture of 20 x 20."""
    placement = Placement((20, 20), (-10.0, 0.0, 30.0, 20.0))
    part = shown_part(FLAT.shape, placement, heatmap=heatmap)
    assert part == ((-10, 0, 30, 20) if heatmap else (0, 0, 20, 20))
    assert shown_part(FLAT.shape, None, heatmap=True) == (0, 0, 40, 20)
    drawn = np.zeros((200, 400, 3), np.uint8)
    expected = (110 if heatmap else 20, 120, 190 if heatmap else 180, 180)  # 10 pixels a cell, or 20
    frame = frame_of(draw_target(drawn, boxed((1, 12, 9, 18)), part, "cat"), drawn, 110)
    assert np.abs(np.subtract(frame, expected)).max() <= 1


@pytest.mark.parametrize("ground", [0, 255, 128])
def test_a_box_is_seen_on_any_ground(ground: int) -> None:
    """Its line has both a dark and a light pixel across."""
    drawn = draw_target(np.full((200, 300, 3), ground, np.uint8), boxed((50, 60, 150, 160)), (0, 0, 300, 200), "cat")
    across = drawn[110, 40:60, 0]
    assert across.max() == 255
    assert across.min() <= overlay.INK


@pytest.mark.parametrize("box", [(-50, -50, 40, 40), (250, 150, 900, 900), (-9, -9, 999, 999), (-1e9, -1e9, 1e9, 1e9)])
def test_a_box_beyond_the_picture_is_drawn_at_its_border(box: tuple[float, float, float, float]) -> None:
    plain = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_target(plain, boxed(box), (0, 0, 300, 200), "cat")
    assert drawn.shape == plain.shape
    lines = white_lines(drawn, plain)
    if box[0] < 0:
        assert lines[30:38, :5].any()
    if box[2] > 300:
        assert lines[170:190, -5:].any()
    assert not plain.any()


def test_a_box_in_the_padding_of_a_letterbox_is_not_drawn_on_the_picture() -> None:
    plain = np.full((200, 300, 3), 100, np.uint8)
    assert draw_target(plain, boxed((310, 20, 400, 90)), (0, 0, 300, 200), "cat") is plain


@pytest.mark.parametrize("box", [(10, 5, 60, 60), (280, 5, 299, 30), (200, 170, 299, 199), (0, 0, 300, 200)])
@pytest.mark.parametrize("label", ["cat", "a label that is much longer than the picture is wide " * 3, "", "猫"])
def test_a_label_stays_on_the_picture(box: tuple[float, float, float, float], label: str) -> None:
    plain = np.full((200, 300, 3), 100, np.uint8)
    drawn = draw_target(plain, boxed(box, label), (0, 0, 300, 200), label)
    assert drawn.shape == plain.shape
    assert (drawn == overlay.PAPER).all(axis=2).sum() > 100


def test_the_line_grows_with_the_picture() -> None:
    counts = []
    for scale in (1, 4):
        plain = np.zeros((300 * scale, 600 * scale, 3), np.uint8)
        drawn = draw_target(plain, boxed((100, 100, 500, 250)), (0, 0, 600, 300), "cat")
        counts.append(int(white_lines(drawn, plain)[175 * scale, 50 * scale : 150 * scale].sum()))
    assert counts[0] >= 2
    assert counts[1] >= 3 * counts[0]


@pytest.mark.parametrize(("width", "white"), [(300, 1), (600, 2), (1200, 3)])
def test_the_line_of_a_box_is_sharp_and_thin(width: int, white: int) -> None:
    """White between one dark pixel on either side, and nothing else changes; the box lies off the pixels' edges."""
    plain = np.full((200, width, 3), 100, np.uint8)
    drawn = draw_target(plain, boxed((50.3, 60.7, 150.6, 160.2)), (0, 0, width, 200), "cat")
    expected = [overlay.INK, *[255] * white, overlay.INK]
    for across in (drawn[110, :100, 0], drawn[110, 100:200, 0], drawn[120:, 100, 0]):
        assert across[across != 100].tolist() == expected


def test_a_tiny_drawing_holds_a_box() -> None:
    for shape in ((1, 1, 3), (3, 3, 3), (1, 500, 3)):
        assert draw_target(np.zeros(shape, np.uint8), boxed((0, 0, 1, 1)), (0, 0, 1, 1), "cat").shape == shape


def mask_of(height: int = 60, width: int = 80) -> Map:
    mask = np.zeros((height, width), bool)
    mask[10:40, 20:70] = True
    mask[20:30, 30:50] = False
    return mask


def test_the_outline_of_a_mask_with_a_hole_by_hand() -> None:
    """Points are corners of pixels: of the first and last ones of the mask, and of the hole's."""
    outline = contours(mask_of())
    assert len(outline) == 2
    assert set(outline[0]) == {(20, 10), (70, 10), (70, 40), (20, 40)}
    assert bounds(outline) == (20, 10, 70, 40)
    assert set(outline[1]) == {(30, 20), (50, 20), (50, 30), (30, 30)}
    assert contours(np.zeros((4, 4), bool)) == ()
    assert bounds(()) is None


def test_an_outline_is_drawn_instead_of_its_box() -> None:
    outline = contours(mask_of())
    target = replace(boxed(bounds(outline) or (0, 0, 1, 1)), outline=outline)
    plain = np.zeros((600, 800, 3), np.uint8)
    drawn = draw_target(plain, target, (0, 0, 80, 60), "cat")
    lines = white_lines(drawn, plain)
    assert lines[390:400, 300].any()
    assert lines[195:205, 400].any()  # the hole's upper edge
    assert not lines[245:255, 350].any()


@pytest.mark.parametrize("ground", [0, 255, 128])
def test_the_object_has_white_and_dark_dashes_at_the_pixels_of_its_box(ground: int) -> None:
    plain = np.full((100, 200, 3), ground, np.uint8)
    drawn = draw_truth(plain, [(10.0, 20.0, 60.0, 45.0)], (0, 0, 100, 50))  # 2 pixels of the drawing each
    changed = np.argwhere((drawn != plain).any(axis=2))
    assert changed[:, 0].min() in range(40, 46), "a dash may be as the ground"
    assert changed[:, 0].max() in range(84, 90)
    assert (changed[:, 1].min(), changed[:, 1].max()) == (20, 119)
    assert {int(value) for value in np.unique(drawn[40:90, 20])} == {overlay.INK, overlay.PAPER}
    assert not (drawn[45:85, 25:115] != plain[45:85, 25:115]).any(), "only the line"


@pytest.mark.parametrize("box", [(-50.0, -50.0, 400.0, 400.0), (-1e9, -1e9, 1e9, 1e9), (-90.0, 5.0, -20.0, 40.0)])
def test_sides_of_an_object_beyond_the_picture_are_not_drawn(box: tuple[float, float, float, float]) -> None:
    plain = np.full((100, 200, 3), 90, np.uint8)
    np.testing.assert_array_equal(draw_truth(plain, [box], (0, 0, 200, 100)), plain)
    half = draw_truth(plain, [(-1e9, 20.0, 100.0, 1e9)], (0, 0, 200, 100))
    assert (half[20, :100] != 90).any(axis=1).all()
    assert (half[20:, 99] != 90).any(axis=1).all()
    assert not (half[21:, :99] != 90).any()


def test_the_object_is_drawn_on_pictures_and_heatmaps_alone() -> None:
    picture = np.full((40, 60, 3), 90, np.uint8)
    one = Saliency(FLAT, FLAT, ScoredTarget(1, "a", 0.5, 1.0), 0.5, Placement((40, 60), (0, 0, 60, 40)), provenance())
    style = Style(truth=((10.0, 5.0, 50.0, 30.0),))
    for original in (picture, None):
        assert (draw(one, original, style) != draw(one, original, Style())).any()
    signal = replace(one, map=np.zeros(50, np.float32), raw=np.zeros(50, np.float32), placement=None)
    np.testing.assert_array_equal(draw(signal, None, style), draw(signal, None, Style()))
