"""Masks of several pictures in one line, so that what one picture leaves of a run is filled with another's masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxcam.engine.batching import offset_progress
from onnxcam.network.target_rows import AXES, rows_together
from onnxcam.surgeon.graphs import masked_score
from onnxcam.types import AnyMasks, Arrays, Floats, Masks, Progress, Scores

PICTURES = (masked_score.IMAGE, masked_score.FILL)
RowNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MaskRequest:
    """A picture with its targets, as a scoring graph is fed them, and the masks (K,1,*grid) it is to be seen through.

    progress: told of masks that were scored, and of all K.
    """

    feeds: Arrays
    masks: AnyMasks
    progress: Progress | None = None

    @property
    def targets(self) -> int:
        return next(int(self.feeds[name].shape[axis]) for name, axis in AXES.items() if name in self.feeds)

    def split(self, count: int) -> "tuple[MaskRequest, MaskRequest]":
        """The first `count` masks, and the rest; both tell of their part of the whole."""
        every = len(self.masks)
        return (
            replace(self, masks=self.masks[:count], progress=offset_progress(self.progress, 0, every)),
            replace(self, masks=self.masks[count:], progress=offset_progress(self.progress, count, every)),
        )


@dataclass(frozen=True, eq=False)
class Segment:
    """Masks start to stop of the picture with the number `owner`: the rows `rows` of a run, its targets `columns`."""

    owner: int
    picture: MaskRequest
    start: int
    stop: int
    rows: slice
    columns: slice

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def masks(self) -> AnyMasks:
        return self.picture.masks[self.start : self.stop]


@dataclass(frozen=True)
class PackedBatch:
    """Rows that go through the network at one time."""

    parts: Sequence[Segment]

    @property
    def alone(self) -> bool:
        return len(self.parts) == 1

    @property
    def differing(self) -> Sequence[str]:
        """The inputs that need a row for each mask: none where all are of one picture."""
        return [] if self.alone else [name for name in PICTURES if name in self.parts[0].picture.feeds]

    @property
    def feeds(self) -> Arrays:
        """What all rows share: the extra inputs, the targets of all pictures one behind the other, and the picture
        if it is one.
        """
        first = self.parts[0].picture
        if self.alone:
            return first.feeds
        pictures = {part.owner: part.picture for part in self.parts}.values()
        targets = rows_together([{n: a for n, a in p.feeds.items() if n in AXES} for p in pictures])
        return {name: a for name, a in first.feeds.items() if name not in self.differing} | targets

    def in_numpy(self) -> tuple[Arrays, Masks]:
        """All that is fed, and the masks."""
        images = {
            name: np.concatenate([np.repeat(p.picture.feeds[name], len(p), axis=0) for p in self.parts])
            for name in self.differing
        }
        masks = [np.asarray(part.masks) for part in self.parts]
        return {**self.feeds, **images}, masks[0] if self.alone else np.concatenate(masks)

    def scatter(self, found: Floats, width: int) -> Floats:
        """(rows, width) of what the run answered, each row's own targets first."""
        kept = np.zeros((len(found), width), np.float32)
        for part in self.parts:
            kept[part.rows, : part.columns.stop - part.columns.start] = found[part.rows, part.columns]
        return kept


class BatchPacker:
    """The rows of several pictures of one network whose extra inputs are the same, numbered in the order of running.

    Each picture's whole runs come first, so that these are fed one picture; what is left over of each comes last, side
    by side.
    """

    def __init__(self, pictures: Sequence[MaskRequest], step: int) -> None:
        """step: rows that fill the network."""
        self._pictures = pictures
        counts = [len(p.masks) for p in pictures]
        whole = [count // step * step if len(pictures) > 1 else count for count in counts]
        parts = [(i, 0, w) for i, w in enumerate(whole)]
        parts += [(i, w, count) for i, (w, count) in enumerate(zip(whole, counts, strict=True))]
        self._owner = np.concatenate([np.full(stop - start, i) for i, start, stop in parts])
        self._place = np.concatenate([np.arange(start, stop) for _, start, stop in parts])
        self._width = max(p.targets for p in pictures)

    def __len__(self) -> int:
        return len(self._owner)

    @property
    def width(self) -> int:
        return self._width

    def run(self, rows: RowNumbers) -> PackedBatch:
        """Of rows that follow each other."""
        segments, parts, done = list(self._segments(rows)), [], 0
        owners = list(dict.fromkeys(i for i, _, _ in segments))
        ends = np.cumsum([0, *(self._pictures[i].targets for i in owners)]).tolist()
        columns = {i: slice(ends[k], ends[k + 1]) for k, i in enumerate(owners)}
        for i, start, stop in segments:
            parts.append(Segment(i, self._pictures[i], start, stop, slice(done, done + stop - start), columns[i]))
            done += stop - start
        return PackedBatch(parts)

    def scores(self, found: Floats) -> list[Scores]:
        """Each picture's (K,T) out of those of all rows (rows, width)."""
        split = []
        for i, picture in enumerate(self._pictures):
            own = np.empty((len(picture.masks), picture.targets), np.float32)
            own[self._place[self._owner == i]] = found[self._owner == i, : picture.targets]
            split.append(own)
        return split

    def progress(self) -> Progress | None:
        """Tells each picture of its own rows, out of how many rows of all are done."""
        if all(p.progress is None for p in self._pictures):
            return None
        told, counts = 0, np.zeros(len(self._pictures), int)

        def progress(done: int, _: int) -> None:
            nonlocal told
            more = np.bincount(self._owner[told:done], minlength=len(counts))
            told = done
            counts[:] += more
            for i in np.flatnonzero(more).tolist():
                tell = self._pictures[i].progress
                if tell is not None:
                    tell(int(counts[i]), len(self._pictures[i].masks))

        return progress

    def _segments(self, rows: RowNumbers) -> Iterator[tuple[int, int, int]]:
        """(picture, first mask, end) of each stretch of one picture's masks."""
        owner, place = self._owner[rows[0] : rows[-1] + 1], self._place[rows[0] : rows[-1] + 1]
        if owner[0] == owner[-1] and place[-1] - place[0] == len(place) - 1:
            yield int(owner[0]), int(place[0]), int(place[-1]) + 1
            return
        breaks = np.flatnonzero((np.diff(owner) != 0) | (np.diff(place) != 1)) + 1
        for part in np.split(np.arange(len(owner)), breaks):
            yield int(owner[part[0]]), int(place[part[0]]), int(place[part[-1]]) + 1


def alike(feeds: Sequence[Arrays]) -> list[list[int]]:
    """The pictures that may share a run, by their numbers: those whose extra inputs are the same."""
    groups: list[list[int]] = []
    for i, own in enumerate(feeds):
        for group in groups:
            if _same_further(feeds[group[0]], own):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _same_further(one: Arrays, other: Arrays) -> bool:
    extra = [n for n in one if n not in PICTURES and n not in AXES]
    return all(one[n] is other[n] or np.array_equal(one[n], other[n]) for n in extra)
