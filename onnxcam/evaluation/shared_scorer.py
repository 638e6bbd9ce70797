"""SharedScorer: a Scorer of one picture that runs each changed picture once, whichever maps and metrics ask for it.

Average drop, increase and gain, and ADCC, look at the same masked picture; the curves of all methods begin and end with
the same two; the subsets of the faithfulness correlation do not depend on the map at all.
"""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.metrics.arguments import array_of
from onnxcam.metrics.scorer import Scorer
from onnxcam.types import Floats, Image, Progress, Scores

WHOLE = "whole"
"""The key of the unchanged picture."""


class SharedScorer(Scorer):
    """A Scorer that remembers its scores, for the maps of one picture. Not for several threads at once."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__(
            scorer._runner, scorer._feeds, scorer.image, scorer.targets, scorer.placement, scorer.preset, scorer.score,
            scorer._passes,
        )  # fmt: skip
        self._known: dict[Hashable, Floats] = {}

    def ranks(
        self,
        ranks: npt.ArrayLike,
        starts: npt.ArrayLike,
        stops: npt.ArrayLike,
        *,
        fill: Image | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """As Scorer.ranks(), for the rows that were not scored before."""
        first, stop, order = (array_of("ranks", values) for values in (starts, stops, ranks))
        if first.ndim != 1 or first.shape != stop.shape or not order.size:
            return super().ranks(ranks, starts, stops, fill=fill, progress=progress)
        low, high = int(order.min()), int(order.max())
        ordered, filled = _digest(order), _digest(fill)

        def key(start: int, end: int) -> Hashable:
            if start <= low and end > high:
                return WHOLE
            return filled if end <= max(start, low) or start > high else (ordered, start, end, filled)

        keys = [key(int(start), int(end)) for start, end in zip(first, stop, strict=True)]
        return self._scores(
            keys,
            lambda new: super(SharedScorer, self).ranks(order, first[new], stop[new], fill=fill, progress=progress),
        )

    def masks(self, masks: npt.ArrayLike, *, fill: Image | None = None, progress: Progress | None = None) -> Scores:
        """As Scorer.masks(), for the masks that were not scored before."""
        array, filled = array_of("masks", masks), _digest(fill)
        keys: list[Hashable] = [
            WHOLE if (mask == 1).all() else (_digest(mask), filled) for mask in np.atleast_1d(array)
        ]
        return self._scores(keys, lambda new: super(SharedScorer, self).masks(array[new], fill=fill, progress=progress))

    def of_the_picture(self, key: Hashable, compute: Callable[[], Scores]) -> Scores:
        """As Scorer.of_the_picture(), computed once."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def _scores(self, keys: Sequence[Hashable], score: Callable[[list[int]], Scores]) -> Scores:
        """The scores of the rows with these keys. score: gives those of some rows, by their numbers."""
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        new = sorted(row for key, row in first.items() if key not in self._known)
        if new:
            scores = score(new)
            self._known |= {keys[row]: one for row, one in zip(new, scores, strict=True)}
        if not keys:
            return np.zeros((0, len(self.targets)), np.float32)
        return np.stack([self._known[key] for key in keys])


def _digest(array: npt.ArrayLike | None) -> Hashable:
    """A digest of the numbers, their type and their shape; None for a fill of zeros."""
    if array is None:
        return None
    values: npt.NDArray[Any] = np.ascontiguousarray(array)
    return hashlib.blake2b(values.data, digest_size=16).digest(), values.dtype.str, values.shape
