"""The graph of the last step, against the same step in numpy."""

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxcam.methods.maps import rectified
from onnxcam.surgeon import ir
from onnxcam.surgeon.graphs.finish_map import MAP, RAW, finishing_model

RNG = np.random.default_rng(0)
RAWS = {
    "mixed": RNG.standard_normal((4, 3)).astype(np.float32),
    "all below zero": -1 - RNG.random((4, 3), np.float32),
    "all above zero": 1 + RNG.random((4, 3), np.float32),
}


def finished(raw: np.ndarray, size: tuple[int, ...], coarse: bool) -> np.ndarray:
    model = finishing_model(raw.shape, size, coarse=coarse)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([MAP], {RAW: raw})[0])


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("name", list(RAWS))
def test_the_graph_gives_the_map_of_the_host(name: str, coarse: bool) -> None:
    saliency = finished(RAWS[name], (32, 20), coarse)
    np.testing.assert_allclose(saliency, rectified(RAWS[name], (32, 20), coarse=coarse).map, atol=1e-6)
    assert (saliency.min(), saliency.max()) == (0, 1)


@pytest.mark.parametrize(("grid", "size"), [((5,), (40,)), ((2, 3, 4), (8, 9, 16)), ((4, 4), (4, 4)), ((3, 2), (2, 3))])
def test_signals_volumes_and_grids_of_any_size_are_finished(grid: tuple[int, ...], size: tuple[int, ...]) -> None:
    raw = RNG.standard_normal(grid).astype(np.float32)
    np.testing.assert_allclose(finished(raw, size, False), rectified(raw, size).map, atol=1e-6)
