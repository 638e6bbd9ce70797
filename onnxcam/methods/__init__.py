"""The methods, each one short file made of the four blocks."""

from collections.abc import Callable, Mapping

from onnxcam.methods.blocks import Method
from onnxcam.methods.score_cam import score_cam

METHODS: Mapping[str, Callable[..., Method]] = {"score-cam": score_cam}
