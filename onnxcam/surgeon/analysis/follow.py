"""Follow: how a row of a detector's table is followed through masked images. queries.py finds it."""

from enum import StrEnum


class Follow(StrEnum):
    """How a row of the table is followed through masked images."""

    ROW = "row"
    """It is the same place in every image."""
    CELL = "cell"
    """By the cell of the encoder that its query was chosen from."""
    BEST = "best"
    """Not at all: the best row of each class is taken."""
