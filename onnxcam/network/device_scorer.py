"""A network's runs where the picture, the feature maps and the masks stay on the device, and scores come back."""

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
from onnxcam.network.packing import BatchPacker, MaskRequest, PackedBatch, RowNumbers, Segment
from onnxcam.network.target_rows import AXES
from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.graphs import masked_score
from onnxcam.types import Arrays, Scores


class OnDevice:
    """The scoring graph on one device, and what of it is kept there."""

    def __init__(
        self,
        session: Session,
        device: Device,
        features: FeatureTensor,
        fixed: int | None = None,
        *,
        pad_to_batch: bool = False,
    ) -> None:
        """fixed: the batch that the graph is bound to, None if it takes any. steady: as BoundSession takes it.

        Raises ModelError where the shape of the feature tensor is not known.
        """
        self.resident = BoundSession(session, device, pad_to_batch=pad_to_batch, fixed=fixed is not None)
        self._ops = DeviceOps(features, device, self.resident, session.engine)
        self._features = (fixed or 1, *features.sides)

    def close(self) -> None:
        self.resident.close()
        self._ops.close()

    def forward(self, feeds: Arrays) -> tuple[DeviceFeatures, npt.NDArray[np.float32]]:
        """The feature maps, which stay, and (N,numbers) of the scored tensor."""
        value = self.resident.new(self._features)
        device_outputs = {masked_score.FEATURES: TensorView(value, self._features)}
        (logits,) = self.resident.run([masked_score.LOGITS], feeds, device_outputs=device_outputs)
        return DeviceFeatures(self._ops, value), logits

    def scores(
        self, pictures: Sequence[MaskRequest], output: str, batch: int, fitted: Callable[[int], None]
    ) -> list[Scores]:
        """(K,T) of each picture. fitted: told of the batch that fits into memory, as soon as it is known.

        Whole runs picture by picture, from what lies on the device; the rest of each together if that saves runs.
        """
        left = [len(picture.masks) % batch for picture in pictures]
        shares = -(-sum(left) // batch) < sum(count > 0 for count in left)
        parts = [p.split(len(p.masks) - (count if shares else 0)) for p, count in zip(pictures, left, strict=True)]
        found: list[list[Scores]] = [[] for _ in pictures]
        for scores, (whole, _) in zip(found, parts, strict=True):
            if len(whole.masks) or not shares:
                rows = ScoreRequest(masked_score.MAPS, whole.masks, output, whole.targets)
                told, batch = self.resident.score(whole.feeds, rows, batch, whole.progress)
                fitted(batch)
                scores.append(told)
        rests = {i: rest for i, (_, rest) in enumerate(parts) if len(rest.masks)}
        if rests:
            for i, told in zip(rests, self._mixed(list(rests.values()), output, batch, fitted), strict=True):
                found[i].append(told)
        return [np.concatenate(each) for each in found]

    def _mixed(
        self, pictures: Sequence[MaskRequest], output: str, batch: int, fitted: Callable[[int], None]
    ) -> list[Scores]:
        """Runs whose rows are of different pictures: these and the masks are lined up on the device."""
        crowd = BatchPacker(pictures, batch)

        def chunk_scores(rows: RowNumbers) -> Scores:
            run = crowd.run(rows)
            feeds = run.feeds
            try:
                device_inputs = {masked_score.MAPS: self._masks(run)} | {
                    name: self._pictures(run, name) for name in run.differing
                }
                return run.scatter(self.resident.run([output], feeds, device_inputs=device_inputs)[0], crowd.width)
            except OutOfMemory:
                fitted(max(1, len(rows) // 2))
                raise
            finally:
                self.resident.forget(feeds[name] for name in AXES if name in feeds and not run.alone)

        return crowd.scores(in_chunks(chunk_scores, np.arange(len(crowd)), batch, crowd.progress()))

    def _masks(self, run: PackedBatch) -> TensorView:
        def bring(part: Segment, into: TensorView) -> None:
            masks, numbers = part.masks, np.arange(len(part))
            if isinstance(masks, np.ndarray):
                self._ops.pick(_rows(self.resident.uploaded(masks, keep=False), masks), numbers, into=into)
            else:
                masks.gathered(numbers, into=into)

        return self._lined_up(run, run.parts[0].masks.shape[1:], bring)

    def _pictures(self, run: PackedBatch, name: str) -> TensorView:
        def bring(part: Segment, into: TensorView) -> None:
            picture = part.picture.feeds[name]
            rows = _rows(self.resident.uploaded(picture), picture)
            self._ops.pick(rows, np.zeros(len(part), np.int64), into=into)

        return self._lined_up(run, run.parts[0].picture.feeds[name].shape[1:], bring)

    def _lined_up(
        self, run: PackedBatch, row: tuple[int, ...], bring: Callable[[Segment, TensorView], object]
    ) -> TensorView:
        """(rows,*row): of each part what `bring` writes into its place."""
        size = math.prod(row)
        count = sum(len(part) for part in run.parts)
        value = self.resident.new((count, *row))
        for part in run.parts:
            bring(part, TensorView(value, (len(part), size), part.rows.start * size))
        return TensorView(value, (count, *row))


def _rows(value: Any, array: npt.NDArray[np.generic]) -> TensorView:
    """(rows,numbers) of the array, which is on the device as this OrtValue."""
    return TensorView(value, (len(array), array.size // len(array)))
