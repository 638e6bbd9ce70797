"""One map for print and on a person's own axes: the overlay in pixels, boxes as lines, words as words.

matplotlib is the extra `plot`. map_figure() uses no pyplot; plot() does where it is to make the axes.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnxcam.errors import OptionError
from onnxcam.limits import brief
from onnxcam.outputs import overlay
from onnxcam.outputs.boxes import shown_part
from onnxcam.outputs.captions import caption
from onnxcam.outputs.drawing import Original, draw, reduced
from onnxcam.outputs.figure import COLUMN, DPI, EDGE, GAP, PLAIN, SCALE_HEIGHT, check_matplotlib, draw_scale
from onnxcam.outputs.figure_drawing import draw_outline_on, draw_truth_on
from onnxcam.outputs.figure_sheet import Sheet
from onnxcam.outputs.figure_text import LEADING, USUAL, Words, drawable, fits
from onnxcam.outputs.saliency import Saliency
from onnxcam.outputs.style import Style
from onnxcam.outputs.typesetting import joined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST, TALLEST = 0.2, 2.5
"""Height of the drawing by its width, at least and at most."""


def map_figure(saliency: Saliency, picture: Original | None, style: Style) -> "Figure":
    """The map over what it explains, as a Figure of one column of print, with the caption that style asks for.

    Raises OptionError where matplotlib is missing, and what draw() raises.
    """
    check_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    points = 72 * COLUMN
    room = points - 2 * EDGE
    saliency, picture, style = reduced(saliency, picture, style)
    drawn = _bare(saliency, picture, style)
    aspect = min(max(drawn.shape[0] / drawn.shape[1], LOWEST), TALLEST)
    across = min(room, room * aspect * drawn.shape[1] / drawn.shape[0])
    lines = _words(saliency, style, room) if style.caption else []
    below = sum(words.size * LEADING for words in lines) + GAP + SCALE_HEIGHT if style.caption else 0.0
    height = 2 * EDGE + room * aspect + below
    with matplotlib.rc_context(PLAIN):
        made = Figure(figsize=(points / 72, height / 72), dpi=DPI, facecolor="white", edgecolor="none")
        sheet = Sheet(made, points, height, style)
        _show(sheet.axes(EDGE + (room - across) / 2, EDGE, across, room * aspect), drawn, saliency, picture, style)
        top = EDGE + room * aspect + GAP
        for words in lines:
            sheet.line(words, EDGE, top, room)
            top += words.size * LEADING
        if style.caption:
            draw_scale(sheet, top, "saliency")
    return made


def plot(saliency: Saliency, picture: Original | None, style: Style, axes: Any | None = None) -> Any:
    """Draws the map over what it explains on axes, in the pixels of the picture, and returns the axes.

    axes: those of matplotlib; a new figure of pyplot's if None. The title is the caption's first line where style asks
    for a caption. Raises OptionError where matplotlib is missing, and what draw() raises.
    """
    check_matplotlib()
    if axes is None:
        from matplotlib import pyplot

        axes = pyplot.subplots()[1]
    if not hasattr(axes, "imshow"):
        raise OptionError(f"ax is matplotlib's axes, as of pyplot.subplots()[1], not {brief(axes)}")
    small = reduced(saliency, picture, style)
    _show(axes, _bare(*small), saliency, picture, style)
    axes.set_axis_off()
    if style.caption:
        words = caption(saliency)
        axes.set_title(f"{words.title}\n{words.detail}", fontsize="small", parse_math=False)
    return axes


def _bare(saliency: Saliency, picture: Original | None, style: Style) -> Any:
    """The overlay without boxes and words, which are drawn as lines and letters."""
    bare = replace(saliency, target=replace(saliency.target, box=None, outline=()))
    return draw(bare, picture, replace(style, caption=False, truth=()))


def _show(axes: Any, drawn: Any, saliency: Saliency, picture: Original | None, style: Style) -> None:
    if saliency.map.ndim != 2:
        axes.imshow(drawn, aspect="auto", interpolation="antialiased")
        return
    left, top, right, bottom = shown_part(saliency.map.shape, saliency.placement, heatmap=picture is None)
    axes.imshow(drawn, extent=(left, right, bottom, top), interpolation="antialiased")
    draw_outline_on(axes, saliency)
    draw_truth_on(axes, style.truth)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _words(saliency: Saliency, style: Style, room: float) -> list[Words]:
    """The caption's lines, cut to the room."""
    words = caption(saliency)
    lines = joined(
        words.detail.split(overlay.DOT),
        overlay.DOT,
        lambda text, _: fits(drawable(Words(text), style.font), room, style.font),
    )
    return [Words(words.title, size=USUAL), *map(Words, lines)]
