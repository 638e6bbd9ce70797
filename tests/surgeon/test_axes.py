import pytest

from onnxcam.surgeon.axes import Axes, Tokens, reshaped

NCHW: Axes = ("N", "C", "H", "W")


@pytest.mark.parametrize(
    ("axes", "before", "after", "expected"),
    [
        (NCHW, (1, 8, 4, 3), (1, 8, 12), ("N", "C", Tokens((4, 3)))),
        (NCHW, (1, 8, 4, 3), (1, 96), ("N", None)),
        (NCHW, (1, 8, 4, 3), (8, 4, 3), ("C", "H", "W")),
        (("N", Tokens((4, 3)), "C"), (1, 12, 8), (1, 4, 3, 8), ("N", "H", "W", "C")),
        (("N", Tokens((4, 3), 1), "C"), (1, 13, 8), (1, 13, 2, 4), ("N", Tokens((4, 3), 1), None, None)),
        (NCHW, (1, 8, 1, 48), (1, 8, 1, 48), NCHW),
        (NCHW, (1, 8, 4, 3), (1, 2, 4, 4, 3), ("N", None, None, "H", "W")),
        (NCHW, (2, 8, 1, 1), (2, 8), ("N", "C")),
    ],
)
def test_reshaping_keeps_the_meaning_that_survives(
    axes: Axes, before: tuple[int, ...], after: tuple[int, ...], expected: Axes
) -> None:
    assert reshaped(axes, before, after) == expected


def test_with_unknown_sizes_only_an_unchanged_place_is_trusted() -> None:
    assert reshaped(NCHW, (None, 8, 4, 3), (None, 8, 4, 3)) == NCHW
    assert reshaped(NCHW, (None, 8, None, 3), (None, 8, 3)) is None
