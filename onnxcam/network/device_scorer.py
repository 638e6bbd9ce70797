"""Scores masks where image, feature maps and masks stay on the device, and only scores come back: DeviceScorer.

scorer.py uses it for providers other than the CPU's. It stands on engine.io_binding (runs), device_features.py (feature
maps as masks) and packing.py (several images in one batch).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.batching import in_chunks
from onnxcam.engine.devices import Device
from onnxcam.engine.io_binding import BoundSession
from onnxcam.engine.session import Session
from onnxcam.engine.views import ScoreRequest, TensorView
from onnxcam.errors import OutOfMemory
from onnxcam.network.device_features import DeviceFeatures, DeviceOps
from onnxcam.network.packing import TARGET_AXES, BatchPacker, MaskRequest, PackedBatch, Segment
from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.graphs import masked_score
from onnxcam.types import Arrays, Indices, Scores


class DeviceScorer:
    """The scoring graph on one device. bound: its session, which keeps uploads and runs one call at a time."""

    def __init__(
        self,
        session: Session,
        device: Device,
        features: FeatureTensor,
        fixed: int | None = None,
        *,
        pad_to_batch: bool = False,
    ) -> None:
        """fixed: the batch that the graph is fixed to, None if it takes any. pad_to_batch: as BoundSession takes it.

        Raises ModelError where the shape of the feature tensor is not known.
        """
        self.bound = BoundSession(session, device, pad_to_batch=pad_to_batch, fixed=fixed is not None)
        self._ops = DeviceOps(features, device, self.bound, session.engine)
        self._feature_shape = (fixed or 1, *features.sides)

    def close(self) -> None:
        self.bound.close()
        self._ops.close()

    def forward(self, feeds: Arrays) -> tuple[DeviceFeatures, npt.NDArray[np.float32]]:
        """(feature maps, which stay on the device, and (N,numbers) of the scored tensor on the host)."""
        value = self.bound.new(self._feature_shape)
        device_outputs = {masked_score.FEATURES: TensorView(value, self._feature_shape)}
        (logits,) = self.bound.run([masked_score.LOGITS], feeds, device_outputs=device_outputs)
        return DeviceFeatures(self._ops, value), logits

    def scores(
        self, requests: Sequence[MaskRequest], output: str, batch: int, on_shrink: Callable[[int], None]
    ) -> list[Scores]:
        """(K,T) of each request. on_shrink: called with the batch that fits into memory, as soon as it is known.

        Full batches run image by image from what lies on the device. What remains of each image shares batches if that
        saves runs.
        """
        remains = [len(request.masks) % batch for request in requests]
        shares = -(-sum(remains) // batch) < sum(count > 0 for count in remains)
        parts = [r.split(len(r.masks) - (count if shares else 0)) for r, count in zip(requests, remains, strict=True)]
        scores: list[list[Scores]] = [[] for _ in requests]
        for results, (first, _) in zip(scores, parts, strict=True):
            if len(first.masks) or not shares:
                request = ScoreRequest(masked_score.MAPS, first.masks, output, first.target_count)
                result, batch = self.bound.score(first.feeds, request, batch, first.progress)
                on_shrink(batch)
                results.append(result)
        rests = {i: rest for i, (_, rest) in enumerate(parts) if len(rest.masks)}
        if rests:
            shared = self._score_packed(list(rests.values()), output, batch, on_shrink)
            for i, result in zip(rests, shared, strict=True):
                scores[i].append(result)
        return [np.concatenate(results) for results in scores]

    def _score_packed(
        self, requests: Sequence[MaskRequest], output: str, batch: int, on_shrink: Callable[[int], None]
    ) -> list[Scores]:
        """Scores batches of several images, whose images and masks are stacked on the device."""
        packer = BatchPacker(requests, batch)

        def score_chunk(samples: Indices) -> Scores:
            packed = packer.pack(samples)
            feeds = packed.feeds
            try:
                device_inputs = {masked_score.MAPS: self._stacked_masks(packed)} | {
                    name: self._stacked_images(packed, name) for name in packed.stacked_inputs
                }
                pictures = len(samples)
                results = self.bound.run([output], feeds, device_inputs=device_inputs, pictures=pictures)
                return packed.scatter(results[0], packer.width)
            except OutOfMemory:
                on_shrink(max(1, len(samples) // 2))
                raise
            finally:
                self.bound.forget(feeds[name] for name in TARGET_AXES if name in feeds and not packed.has_one_image)

        return packer.unpack(in_chunks(score_chunk, np.arange(len(packer)), batch, packer.progress()))

    def _stacked_masks(self, packed: PackedBatch) -> TensorView:
        def write(segment: Segment, into: TensorView) -> None:
            masks, indices = segment.masks, np.arange(len(segment))
            if isinstance(masks, np.ndarray):
                self._ops.pick(_rows(self.bound.uploaded(masks, keep=False), masks), indices, into=into)
            else:
                masks.gathered(indices, into=into)

        return self._stacked(packed, packed.segments[0].masks.shape[1:], write)

    def _stacked_images(self, packed: PackedBatch, name: str) -> TensorView:
        def write(segment: Segment, into: TensorView) -> None:
            image = segment.request.feeds[name]
            self._ops.pick(_rows(self.bound.uploaded(image), image), np.zeros(len(segment), np.int64), into=into)

        return self._stacked(packed, packed.segments[0].request.feeds[name].shape[1:], write)

    def _stacked(
        self, packed: PackedBatch, shape: tuple[int, ...], write: Callable[[Segment, TensorView], object]
    ) -> TensorView:
        """(samples,*shape) on the device, to which `write` copies each segment's samples."""
        size = math.prod(shape)
        count = sum(len(segment) for segment in packed.segments)
        value = self.bound.new((count, *shape))
        for segment in packed.segments:
            write(segment, TensorView(value, (len(segment), size), segment.samples.start * size))
        return TensorView(value, (count, *shape))


def _rows(value: Any, array: npt.NDArray[np.generic]) -> TensorView:
    """(samples, numbers) of the array, which lies on the device as this OrtValue."""
    return TensorView(value, (len(array), array.size // len(array)))
