"""Masks of several pictures in one line, so that what one picture leaves of a run is filled with another's masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxcam.arrays import Floats, Masks, Scores
from onnxcam.engine.batching import Progress, further_on
from onnxcam.further import Arrays
from onnxcam.rows import AXES, rows_together
from onnxcam.surgeon import masking

PICTURES = (masking.IMAGE, masking.FILL)
RowNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Masked:
    """A picture with its targets, as a scoring graph is fed them, and the masks (K,1,*grid) it is to be seen through.

    progress: told of masks that were scored, and of all K.
    """

    feeds: Arrays
    masks: Masks
    progress: Progress | None = None

    @property
    def targets(self) -> int:
        return next(int(self.feeds[name].shape[axis]) for name, axis in AXES.items() if name in self.feeds)

    def split(self, count: int) -> "tuple[Masked, Masked]":
        """The first `count` masks, and the rest; both tell of their part of the whole."""
        every = len(self.masks)
        return (
            replace(self, masks=self.masks[:count], progress=further_on(self.progress, 0, every)),
            replace(self, masks=self.masks[count:], progress=further_on(self.progress, count, every)),
        )


class Crowd:
    """The rows of several pictures of one network whose further inputs are the same, numbered in the order of running.

    Each picture's whole runs come first, so that these upload and read one picture; what is left over of each comes
    last, side by side. Every row is scored for the targets of all: a few columns more cost nothing beside a row.
    """

    def __init__(self, pictures: Sequence[Masked], step: int) -> None:
        """step: rows that fill the network."""
        counts = [len(p.masks) for p in pictures]
        rows = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
        whole = [count // step * step if len(pictures) > 1 else count for count in counts]
        ahead = [own[:w] for own, w in zip(rows, whole, strict=True)]
        behind = [own[w:] for own, w in zip(rows, whole, strict=True)]
        self._pictures, self._counts = pictures, counts
        self._order = np.concatenate([*ahead, *behind])
        self._owner = np.repeat(np.arange(len(pictures)), counts)[self._order]
        self._masks = np.concatenate([p.masks for p in pictures])[self._order]
        first = pictures[0].feeds
        self._shared = {n: a for n, a in first.items() if n not in PICTURES}
        self._shared |= rows_together([{n: p.feeds[n] for n in AXES if n in first} for p in pictures])
        self._images = {n: np.concatenate([p.feeds[n] for p in pictures]) for n in PICTURES if n in first}

    def __len__(self) -> int:
        return len(self._order)

    def feeds(self, rows: RowNumbers) -> Arrays:
        """What a run of these rows is fed beside its masks: one picture where all are of one, else a picture a row."""
        owner = self._owner[rows]
        alone = bool((owner == owner[0]).all())
        images = {n: i[owner[0] : owner[0] + 1] if alone else i[owner] for n, i in self._images.items()}
        return {**self._shared, **images}

    def masks(self, rows: RowNumbers) -> Masks:
        return np.asarray(self._masks[rows])

    def scores(self, found: Floats) -> list[Scores]:
        """Each picture's (K,T) out of those of all rows (rows, targets of all)."""
        back = np.empty_like(found)
        back[self._order] = found
        rows = np.cumsum([0, *self._counts])
        columns = np.cumsum([0, *(p.targets for p in self._pictures)])
        return [back[rows[i] : rows[i + 1], columns[i] : columns[i + 1]] for i in range(len(self._pictures))]

    def progress(self) -> Progress | None:
        """Tells each picture of its own rows, out of how many rows of all are done."""
        if all(p.progress is None for p in self._pictures):
            return None
        told = 0

        def progress(done: int, _: int) -> None:
            nonlocal told
            before = np.bincount(self._owner[:told], minlength=len(self._pictures))
            now = np.bincount(self._owner[:done], minlength=len(self._pictures))
            told = done
            for picture, count, more in zip(self._pictures, now, now > before, strict=True):
                if more and picture.progress is not None:
                    picture.progress(int(count), len(picture.masks))

        return progress


def alike(pictures: Sequence[Masked]) -> list[list[int]]:
    """The pictures that may share a run, by their numbers: those whose further inputs are the same."""
    groups: list[list[int]] = []
    for i, picture in enumerate(pictures):
        for group in groups:
            if _same_further(pictures[group[0]].feeds, picture.feeds):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _same_further(one: Arrays, other: Arrays) -> bool:
    further = [n for n in one if n not in PICTURES and n not in AXES]
    return all(one[n] is other[n] or np.array_equal(one[n], other[n]) for n in further)
