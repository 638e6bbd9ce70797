"""Packs the masks of several images into batches: where one image does not fill its last batch, another image does.

A MaskRequest is one image with its targets and masks. BatchPacker puts the masks of all requests into one sequence.
`pack` returns a part of that sequence as a PackedBatch, which holds the feeds; `unpack` gives each request its scores
back. Every mask is scored for the targets of its own image only. Used by scorer.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.graphs import tensor_names
from onnxcam.types import AnyMasks, Arrays, Floats, Indices, Masks, Progress, Scores

IMAGE_INPUTS = (tensor_names.IMAGE, tensor_names.FILL)
TARGET_AXES = {tensor_names.TARGETS: 0, tensor_names.REGIONS: 1, tensor_names.REFERENCES: 0}
"""The axis of the targets in each input that describes them."""


def select_targets(feeds: Arrays, indices: Indices) -> dict[str, npt.NDArray[Any]]:
    """Target inputs for a graph that scores one target a sample: the targets of these indices, in this order."""
    return {name: np.take(feeds[name], indices, axis) for name, axis in TARGET_AXES.items() if name in feeds}


def join_targets(feeds: Sequence[Arrays]) -> dict[str, npt.NDArray[Any]]:
    """Joins the target inputs of several images, which must be for the same network."""
    return {name: np.concatenate([f[name] for f in feeds], TARGET_AXES[name]) for name in feeds[0]}


@dataclass(frozen=True, eq=False)
class MaskRequest:
    """Masks (K,1,*grid) of one image to score for its targets.

    feeds: inputs of the scoring graph: image, fill, targets, extra inputs. progress: called with (masks scored, K).
    """

    feeds: Arrays
    masks: AnyMasks
    progress: Progress | None = None

    @property
    def target_count(self) -> int:
        return next(int(self.feeds[name].shape[axis]) for name, axis in TARGET_AXES.items() if name in self.feeds)


@dataclass(frozen=True, eq=False)
class Segment:
    """Masks start to stop of one request in a packed batch.

    index: of the request. samples: their place in the batch. columns: the request's targets among all of the batch.
    """

    index: int
    request: MaskRequest
    start: int
    stop: int
    samples: slice
    columns: slice

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def masks(self) -> AnyMasks:
        return self.request.masks[self.start : self.stop]


@dataclass(frozen=True)
class PackedBatch:
    """Samples that go through the network at one time."""

    segments: Sequence[Segment]

    @property
    def has_one_image(self) -> bool:
        return len(self.segments) == 1

    @property
    def stacked_inputs(self) -> Sequence[str]:
        """The image inputs that need one entry a sample; none where all samples are of one image."""
        return [] if self.has_one_image else [n for n in IMAGE_INPUTS if n in self.segments[0].request.feeds]

    @property
    def feeds(self) -> Arrays:
        """The inputs that all samples share: extra inputs, the targets of all images, and the image if it is one."""
        first = self.segments[0].request
        if self.has_one_image:
            return first.feeds
        requests = {segment.index: segment.request for segment in self.segments}.values()
        targets = join_targets([{n: a for n, a in r.feeds.items() if n in TARGET_AXES} for r in requests])
        return {name: a for name, a in first.feeds.items() if name not in self.stacked_inputs} | targets

    def to_numpy(self) -> tuple[Arrays, Masks]:
        """(all feeds but the masks, masks)."""
        images = {
            name: np.concatenate([np.repeat(s.request.feeds[name], len(s), axis=0) for s in self.segments])
            for name in self.stacked_inputs
        }
        masks = [np.asarray(segment.masks) for segment in self.segments]
        return {**self.feeds, **images}, masks[0] if self.has_one_image else np.concatenate(masks)

    def scatter(self, scores: Floats, width: int) -> Floats:
        """(samples, width) out of the batch's scores (samples, all targets): each sample's own targets come first."""
        scattered = np.zeros((len(scores), width), np.float32)
        for s in self.segments:
            scattered[s.samples, : s.columns.stop - s.columns.start] = scores[s.samples, s.columns]
        return scattered


class BatchPacker:
    """The masks of several requests in one line, numbered in the order in which they run.

    The requests are for one network and share their extra inputs. Full batches of a single image come first; what
    remains of each image comes last, side by side.
    """

    def __init__(self, requests: Sequence[MaskRequest], batch: int) -> None:
        """batch: samples that fill the network."""
        self._requests = requests
        counts = [len(r.masks) for r in requests]
        full = [count // batch * batch if len(requests) > 1 else count for count in counts]
        stretches = [(i, 0, end) for i, end in enumerate(full)]
        stretches += [(i, end, count) for i, (end, count) in enumerate(zip(full, counts, strict=True))]
        self._request_of = np.concatenate([np.full(stop - start, i) for i, start, stop in stretches])
        self._mask_of = np.concatenate([np.arange(start, stop) for _, start, stop in stretches])
        self.width = max(r.target_count for r in requests)
        """Most targets of a request: the columns of the scores of all samples."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._request_of)

    def pack(self, samples: Indices) -> PackedBatch:
        """The batch of these samples, which must be consecutive."""
        stretches, segments, done = list(self._stretches(samples)), [], 0
        images = list(dict.fromkeys(i for i, _, _ in stretches))
        ends = np.cumsum([0, *(self._requests[i].target_count for i in images)]).tolist()
        columns = {i: slice(ends[k], ends[k + 1]) for k, i in enumerate(images)}
        for i, start, stop in stretches:
            place = slice(done, done + stop - start)
            segments.append(Segment(i, self._requests[i], start, stop, place, columns[i]))
            done += stop - start
        return PackedBatch(segments)

    def unpack(self, scores: Floats) -> list[Scores]:
        """Each request's (K,T) out of the scores of all samples (samples, width), as scatter() returns them."""
        unpacked = []
        for i, request in enumerate(self._requests):
            result = np.empty((len(request.masks), request.target_count), np.float32)
            result[self._mask_of[self._request_of == i]] = scores[self._request_of == i, : request.target_count]
            unpacked.append(result)
        return unpacked

    def progress(self) -> Progress | None:
        """Turns progress over all samples into the progress of each request; None if no request wants it."""
        if all(r.progress is None for r in self._requests):
            return None
        before, counts = 0, np.zeros(len(self._requests), int)

        def progress(done: int, _: int) -> None:
            nonlocal before
            more = np.bincount(self._request_of[before:done], minlength=len(counts))
            before = done
            counts[:] += more
            for i in np.flatnonzero(more).tolist():
                report = self._requests[i].progress
                if report is not None:
                    report(int(counts[i]), len(self._requests[i].masks))

        return progress

    def _stretches(self, samples: Indices) -> Iterator[tuple[int, int, int]]:
        """(request, first mask, end) of each run of consecutive masks of one request."""
        stretch = slice(samples[0], samples[-1] + 1)
        request_of, mask_of = self._request_of[stretch], self._mask_of[stretch]
        if request_of[0] == request_of[-1] and mask_of[-1] - mask_of[0] == len(mask_of) - 1:
            yield int(request_of[0]), int(mask_of[0]), int(mask_of[-1]) + 1
            return
        breaks = np.flatnonzero((np.diff(request_of) != 0) | (np.diff(mask_of) != 1)) + 1
        for part in np.split(np.arange(len(request_of)), breaks):
            yield int(request_of[part[0]]), int(mask_of[part[0]]), int(mask_of[part[-1]]) + 1


def group_by_extra_inputs(feeds: Sequence[Arrays]) -> list[list[int]]:
    """Groups images that may share a batch, as indices into `feeds`: their extra inputs are equal."""
    groups: list[list[int]] = []
    for i, one in enumerate(feeds):
        for group in groups:
            if _same_extra_inputs(feeds[group[0]], one):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _same_extra_inputs(one: Arrays, other: Arrays) -> bool:
    extra = [n for n in one if n not in IMAGE_INPUTS and n not in TARGET_AXES]
    return all(one[n] is other[n] or np.array_equal(one[n], other[n]) for n in extra)
