"""The colours lie behind the samples that they belong to, and the trace is where its values are."""

import cv2
import numpy as np
import pytest

from onnxcam.errors import OptionError
from onnxcam.outputs import overlay, signal, typesetting
from onnxcam.outputs.signal import BOTTOM, CHANNELS, GAP, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_signal
from onnxcam.types import Floats, Map, Picture

ACROSS = WIDTH - RIGHT - LEFT
INK = overlay.INK


def trace(plot: Picture, index: int = 0, count: int = 1) -> Picture:
    pitch = (len(plot) - TOP - BOTTOM + GAP) // count
    return plot[TOP + index * pitch : TOP + (index + 1) * pitch - GAP, LEFT : WIDTH - RIGHT]


def behind(plot: Picture) -> Picture:
    """(width,3) the colours alone, from above the highest point of a trace, where a tenth is free."""
    return trace(plot)[2]


def block(length: int, start: int, stop: int) -> Map:
    values = np.zeros(length, np.float32)
    values[start:stop] = 1
    return values


def flat(length: int, channels: int = 1) -> Floats:
    return np.zeros((channels, length), np.float32)


def dark(picture: Picture) -> np.ndarray:
    return (picture < 100).all(axis=2)


def inked(plot: Picture, text: str, size: int = signal.SIZE) -> list[tuple[int, int]]:
    """Where the text stands, dark on white: (row, column) of its left upper corner."""
    ink = typesetting.line(text, size, WIDTH).astype(np.float32)
    word = np.rint(overlay.PAPER + ink / 255 * (INK - overlay.PAPER)).astype(np.float32)
    differs = cv2.matchTemplate(plot[..., 0].astype(np.float32), word, cv2.TM_SQDIFF)
    return [(int(y), int(x)) for y, x in np.argwhere(differs < 100)]


@pytest.mark.parametrize("name", overlay.COLORMAPS)
@pytest.mark.parametrize("alpha", [0.6, 1.0])
def test_the_salient_stretch_has_the_colour_of_one_and_the_rest_the_ground(name: str, alpha: float) -> None:
    plot = draw_signal(flat(100), block(100, 60, 80), colormap=name, alpha=alpha)
    ground, top = signal.background(name), overlay.colour_table(name)[255]
    x = (np.arange(ACROSS) + 0.5) * 100 / ACROSS
    salient, rest = (x > 60.5) & (x < 79.5), (x < 59.5) | (x > 80.5)
    np.testing.assert_allclose(
        behind(plot)[salient], np.tile((1 - alpha) * ground + alpha * top, (salient.sum(), 1)), atol=0.51
    )
    np.testing.assert_array_equal(behind(plot)[rest], ground)


def test_between_two_samples_the_map_is_linear_and_the_colour_that_of_the_overlay() -> None:
    saliency = np.array([0.2, 1.0, 0.4], np.float32)
    colours = behind(draw_signal(flat(3), saliency, colormap="turbo", alpha=0.5))
    at = (np.arange(ACROSS) + 0.5) * 3 / ACROSS - 0.5
    values = np.where(at < 1, 0.2 + 0.8 * np.clip(at, 0, 1), 1 - 0.6 * np.clip(at - 1, 0, 1))
    weight = 0.5 * np.sqrt(values)[:, None]
    levels = np.rint(values * 255).astype(int)
    expected = 255 + weight * (overlay.colour_table("turbo")[levels] - 255)
    np.testing.assert_allclose(colours, expected, atol=3)  # a level may round the other way


@pytest.mark.parametrize("length", [852, 853, 5000, 100_000])
def test_a_single_salient_sample_of_a_long_signal_is_not_lost(length: int) -> None:
    at = 2 * length // 3
    colours = behind(draw_signal(flat(length), block(length, at, at + 1), colormap="turbo", alpha=1))
    hot = np.flatnonzero((colours == overlay.colour_table("turbo")[255]).all(axis=1))
    assert len(hot) == 1
    assert hot[0] == pytest.approx((at + 0.5) * ACROSS / length, abs=1)


@pytest.mark.parametrize("length", [2, 40, 851, 852, 1704, 1705, 20_000])
def test_the_trace_runs_through_its_values(length: int) -> None:
    t = np.linspace(0, 1, length, dtype=np.float32)
    values = t * t * 7 - 3
    ink = dark(trace(draw_signal(values[None], np.zeros(length, np.float32))))
    height = len(ink)
    rows = (ink * (np.arange(height) + 0.5)[:, None]).sum(axis=0) / np.maximum(ink.sum(axis=0), 1)
    x = (np.arange(ACROSS) + 0.5) / ACROSS * length - 0.5
    inside = (x > 0.02 * length) & (x < 0.98 * length - 1)
    expected = height * (0.9 - 0.8 * np.interp(x, np.arange(length), t * t))
    np.testing.assert_allclose(rows[inside], expected[inside], atol=1)


def test_one_odd_sample_of_a_long_signal_stays_a_spike() -> None:
    values = flat(50_000)
    values[0, 25_003] = 9
    ink = dark(trace(draw_signal(values, np.zeros(50_000, np.float32))))
    assert ink[int(0.15 * len(ink)), ACROSS // 2 - 3 : ACROSS // 2 + 4].any()
    assert not ink[: int(0.7 * len(ink)), : ACROSS // 2 - 5].any()


@pytest.mark.parametrize("name", overlay.COLORMAPS)
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_the_trace_stands_out_from_every_colour(name: str, alpha: float) -> None:
    saliency = np.linspace(0, 1, 500, dtype=np.float32)
    plot = trace(draw_signal(flat(500), saliency, colormap=name, alpha=alpha)).astype(float) @ overlay.LUMA
    middle = plot[len(plot) // 2]
    assert np.abs(middle - plot[2])[1:-1].min() > 80


def test_every_channel_has_its_own_trace_and_range() -> None:
    ramp = np.linspace(0, 1, 200, dtype=np.float32)
    plot = draw_signal(np.stack([ramp, 2000 - 4000 * ramp]), np.zeros(200, np.float32))
    first, second = dark(trace(plot, 0, 2)), dark(trace(plot, 1, 2))
    half = len(first) // 2
    assert not first[:half, :300].any()
    assert first[half:, :300].any()
    assert second[:half, :300].any()
    assert not second[half:, :300].any()
    for text in ("ch 0", "ch 1", "2000", "-2000"):
        assert len(inked(plot, text)) == 1, text


def test_the_colours_lie_behind_every_channel() -> None:
    plot = draw_signal(flat(100, 3), block(100, 30, 40), alpha=1)
    for index in range(3):
        np.testing.assert_array_equal(trace(plot, index, 3)[2], behind(plot))


@pytest.mark.parametrize(
    ("channels", "note"), [(8, None), (9, "1 more channel not shown"), (13, "5 more channels not shown")]
)
def test_the_number_of_channels_that_are_not_shown_is_written(channels: int, note: str | None) -> None:
    plot = draw_signal(flat(50, channels), np.zeros(50, np.float32))
    assert len(inked(plot, f"ch {CHANNELS - 1}")) == 1
    assert not inked(plot, f"ch {CHANNELS}")
    for text in ("1 more channel not shown", "5 more channels not shown"):
        assert len(inked(plot, text)) == (text == note)


@pytest.mark.parametrize(
    ("length", "step"), [(3, 1), (10, 1), (11, 2), (100, 10), (300, 50), (16_000, 2000), (10**6, 10**5)]
)
def test_the_axis_counts_samples_from_zero_under_their_centres(length: int, step: int) -> None:
    plot = draw_signal(flat(length), np.zeros(length, np.float32))
    ticks = np.flatnonzero(dark(plot[-BOTTOM + 3 : -BOTTOM + 4])[0]) - LEFT
    expected = (np.arange(0, length, step) + 0.5) * ACROSS / length
    np.testing.assert_allclose(ticks + 0.5, expected, atol=0.51)
    number = str(step)
    columns = [
        x + typesetting.line(number, signal.SIZE, WIDTH).shape[1] / 2 - LEFT for _, x in inked(plot[-BOTTOM:], number)
    ]
    assert any(abs(x - expected[1]) <= 2 for x in columns)


def test_a_few_channels_share_the_usual_height_and_many_make_it_higher() -> None:
    saliency = np.zeros(50, np.float32)
    assert [draw_signal(flat(50, n), saliency).shape for n in (1, 2)] == [(HEIGHT, WIDTH, 3)] * 2
    assert HEIGHT < draw_signal(flat(50, 8), saliency).shape[0] < 700


@pytest.mark.parametrize("values", [np.full((1, 30), 7.0), np.full((1, 1), 7.0), np.array([[-3e38, 3e38, 0]])])
def test_constant_single_and_huge_values_are_drawn(values: Floats) -> None:
    array = values.astype(np.float32)
    ink = dark(trace(draw_signal(array, np.zeros(array.shape[1], np.float32))))
    assert ink.any(axis=0).mean() > 0.5
    if np.ptp(array[0].astype(float)) == 0:
        assert ink[len(ink) // 2].mean() > 0.95


def test_without_an_array_the_map_is_its_own_trace() -> None:
    saliency = np.linspace(0, 1, 300, dtype=np.float32)
    plot = draw_signal(None, saliency)
    np.testing.assert_array_equal(trace(plot), trace(draw_signal(saliency[None], saliency)))
    assert len(inked(plot, "map")) == 1


def test_a_ground_is_never_like_the_colour_of_one() -> None:
    for name in overlay.COLORMAPS:
        assert abs(overlay.colour_table(name)[255] @ overlay.LUMA - signal.background(name)) > 120, name


def test_what_does_not_fit_is_refused() -> None:
    saliency = np.zeros(30, np.float32)
    for wrong in (flat(31), flat(30, 0), flat(30)[0], flat(30)[None], np.full((1, 30), np.nan, np.float32)):
        with pytest.raises(ValueError, match="array"):
            draw_signal(wrong, saliency)
    with pytest.raises(OptionError, match=r"\[0,1\]"):
        draw_signal(flat(30), saliency + 1.5)
    with pytest.raises(OptionError, match="viridis"):
        draw_signal(flat(30), saliency, colormap="virdis")
    with pytest.raises(OptionError, match="alpha"):
        draw_signal(flat(30), saliency, alpha=2)
