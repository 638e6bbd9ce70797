"""Scores masks where image, feature maps and masks stay on the device, and only scores come back: DeviceScorer.

scorer.py uses it for providers other than the CPU's. It stands on engine.io_binding (runs) and device_features.py
(feature maps as masks).
"""

from typing import Any

from onnxcam.engine.devices import Device
from onnxcam.engine.io_binding import BoundSession, ScoreRequest
from onnxcam.engine.session import Session
from onnxcam.network.device_features import DeviceFeatures, DeviceOps
from onnxcam.network.packing import MaskRequest
from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.graphs import masked_score
from onnxcam.types import Arrays, Floats, Scores


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

    def register_device_copy(self, array: Floats, value: Any) -> None:
        """Uses `value`, an OrtValue on the device, when this array (1,C,*size) is fed; it may lack the batch axis."""
        whole = value if len(value.shape()) == array.ndim else self._ops.with_batch_axis(value)
        self.bound.register_device_copy(array, whole)

    def forward(self, feeds: Arrays) -> tuple[DeviceFeatures, Floats]:
        """(feature maps, which stay on the device, and (N,numbers) of the scored tensor on the host)."""
        value = self.bound.new(self._feature_shape)
        (logits,) = self.bound.run([masked_score.LOGITS], feeds, device_outputs={masked_score.FEATURES: value})
        return DeviceFeatures(self._ops, value), logits

    def scores(self, request: MaskRequest, output: str, batch: int) -> tuple[Scores, int]:
        """(K,T) scores, and the batch that fits into memory. Masks on the device are picked there, chunk by chunk."""
        wanted = ScoreRequest(masked_score.MAPS, request.masks, output, request.target_count)
        return self.bound.score(request.feeds, wanted, batch, request.progress)
