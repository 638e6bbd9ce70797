"""Text that is readable, fits, and is never silently another text."""

import logging

import numpy as np
import pytest

from onnxcam.errors import OptionError
from onnxcam.outputs import typesetting

WIDE = 4000


def ink(text: str, size: int = 20, width: int = WIDE) -> typesetting.Ink:
    return typesetting.line(text, size, width)


def test_a_line_is_shortened_at_its_end_to_fit_and_ends_in_an_ellipsis() -> None:
    text = "sulphur-crested cockatoo, Kakatoe galerita, Cacatua galerita"
    short = ink(text, width=200)
    assert 150 < short.shape[1] <= 200
    fitting = [i for i in range(len(text)) if np.array_equal(ink(text[:i].rstrip() + "…"), short)]
    assert fitting, "the ink is that of some beginning of the text and an ellipsis"
    longer = ink(text[: fitting[-1] + 1].rstrip() + "…")
    assert longer.shape[1] > 200 or text[fitting[-1]] == " "


def test_a_line_that_fits_is_left_alone() -> None:
    word = ink("tabby")
    np.testing.assert_array_equal(ink("tabby", width=word.shape[1]), word)


@pytest.mark.parametrize("size", [13, 32, 94])
def test_letters_are_about_as_high_as_asked_and_lie_inside_the_line(size: int) -> None:
    rows = np.flatnonzero(ink("HÅgjpqy", size).max(axis=1) > 60)
    assert rows[0] >= 0
    assert rows[-1] < typesetting.line_height(size) - 1
    assert 0.6 * size < np.ptp(np.flatnonzero(ink("H", size).max(axis=1) > 60)) < size


@pytest.mark.parametrize("text", ["é", "ß", "Ł", "Ω", "ж", "猫", "ト", "고", "ق", "ת", "ก", "🐱", "\ue000"])
def test_no_character_is_drawn_as_a_question_mark_or_left_out(text: str) -> None:
    drawn = ink(text)
    assert drawn.max() > 128
    assert not np.array_equal(drawn, ink("?"))


def test_a_character_that_no_typeface_has_becomes_its_escape_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        drawn = ink("a\U00012345b")
    np.testing.assert_array_equal(drawn, ink("a\\U00012345b"))
    assert "U+12345" in caplog.text


def test_line_breaks_tabs_and_control_characters_become_spaces() -> None:
    np.testing.assert_array_equal(ink("a\nb\tc\0d"), ink("a b c d"))


def test_half_a_surrogate_pair_does_not_stop_the_drawing() -> None:
    np.testing.assert_array_equal(ink("a\udc80"), ink("a\\udc80"))


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_no_text_leaves_no_ink(text: str) -> None:
    assert ink(text).max(initial=0) == 0


def test_a_very_long_text_costs_no_more_than_what_is_seen_of_it() -> None:
    assert ink("猫" * 1_000_000, width=300).shape[1] <= 300


def test_a_font_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(OptionError, match=r"no-such-font\.ttf"):
        typesetting.line("a", 20, WIDE, "no-such-font.ttf")
