"""Maps of several layers are fused: the mean of the maps that each layer gives alone."""

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from small_models import ENSEMBLE, filled

from onnxcam import METHODS, Element, Explainer, NoteCode, grad_cam, method, score_cam
from onnxcam.errors import NoSpatialFeatures, OptionError, TargetError, UndefinedSaliency
from onnxcam.explainer.fusion import fused
from onnxcam.methods.blocks import Need
from onnxcam.outputs.record import record
from onnxcam.outputs.saliency import Saliency
from onnxcam.resampling import upsample

IMAGE = np.random.default_rng(1).standard_normal((3, 16, 12)).astype(np.float32)
OTHER = np.random.default_rng(2).standard_normal((3, 16, 12)).astype(np.float32)
LAYERS = ("f", "g")
FEATURE_METHODS = [n for n, make in METHODS.items() if make().needs & {Need.FEATURES, Need.TAIL}]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return filled(ENSEMBLE)


def mean_of(maps: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """The mean of maps, stretched to [0,1]."""
    mean = np.mean(np.asarray(maps, np.float64), axis=0)
    return np.asarray((mean - mean.min()) / (mean.max() - mean.min()))


def quick(name: str) -> Any:
    """The method with few steps where it has many."""
    few: dict[str, Any] = {"opti-cam": {"max_iter": 3}, "ss-cam": {"samples": 2}, "is-cam": {"steps": 2}}
    try:
        return method(name, **few.get(name, {}))
    except OptionError:
        return method(name)


@pytest.mark.parametrize("name", FEATURE_METHODS)
def test_the_fused_map_is_the_mean_of_each_layers_own(model: onnx.ModelProto, name: str) -> None:
    alone = []
    for layer in LAYERS:
        with Explainer(model, quick(name), layer=layer, batch=4) as explainer:
            alone.append(explainer(IMAGE, 2).map)
    with Explainer(model, quick(name), layer=LAYERS, batch=4) as explainer:
        saliency = explainer(IMAGE, 2)
    np.testing.assert_allclose(saliency.map, mean_of(alone), atol=2e-5)
    np.testing.assert_allclose(saliency.raw, np.mean(alone, axis=0), atol=2e-5)


def test_grad_cam_of_an_ensemble_by_hand(model: onnx.ModelProto) -> None:
    """Behind an average and a linear layer, Grad-CAM weighs each map by its weight for the class."""
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend([onnx.ValueInfoProto(name="f"), onnx.ValueInfoProto(name="g")])
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    f, g = session.run(["f", "g"], {"x": IMAGE[None]})
    maps = []
    for features, linear in ((f[0], weights["v"]), (g[0], weights["u"])):
        cam = np.maximum(np.tensordot(linear[:, 3], features, 1), 0)
        up = upsample(cam.astype(np.float32), (16, 12))
        maps.append((up - up.min()) / (up.max() - up.min()))
    with Explainer(model, grad_cam(), layer=["f", "g"]) as explainer:
        np.testing.assert_allclose(explainer(IMAGE, 3).map, mean_of(maps), atol=1e-4)


def test_the_provenance_holds_every_layer_and_makes_the_map_again(model: onnx.ModelProto) -> None:
    with Explainer(model, score_cam(), layer=["g", "f"]) as explainer:
        saliency = explainer(IMAGE, 1)
    provenance = saliency.provenance
    assert [(layer.tensor, layer.features) for layer in provenance.layers] == [("g", (6, 8, 6)), ("f", (8, 4, 3))]
    assert (provenance.layer, provenance.tensors) == ("g", ("g", "f"))
    assert provenance.channels is not None
    assert provenance.channels.total == 14
    assert provenance.forwards >= 2 + provenance.channels.scored
    with Explainer(model, method(provenance.method, **provenance.options), layer=provenance.tensors) as again:
        np.testing.assert_array_equal(again(IMAGE, saliency.target).map, saliency.map)
    copy = pickle.loads(pickle.dumps(saliency))
    assert copy.provenance == provenance
    values = json.loads(json.dumps(record(saliency)))["layer"]
    assert [layer["tensor"] for layer in values["fused"]] == ["g", "f"]
    assert values["fused"][1]["shape"] == [8, 4, 3]


def test_one_layer_is_fused_with_nothing(model: onnx.ModelProto) -> None:
    with Explainer(model, grad_cam(), layer=["f"]) as listed, Explainer(model, grad_cam(), layer="f") as plain:
        one, other = listed(IMAGE, 2), plain(IMAGE, 2)
    np.testing.assert_array_equal(one.map, other.map)
    assert one.provenance.layers == ()
    assert record(one)["layer"]["fused"] == []


def test_batches_streams_and_devices_give_the_same_fused_maps(model: onnx.ModelProto) -> None:
    with Explainer(model, score_cam(), layer=LAYERS, batch=4) as explainer:
        one, other = explainer(IMAGE, 2), explainer(OTHER, 0)
        batch = explainer.batch([IMAGE, OTHER], [2, 0])
        *on_the_way, last = explainer.stream(IMAGE, 2)
        (device,) = explainer.explain_on_device(IMAGE, 2)
        both = explainer.explain(IMAGE, [2, 4])
    np.testing.assert_allclose(batch[0].map, one.map, atol=1e-5)
    np.testing.assert_allclose(batch[1].map, other.map, atol=1e-5)
    np.testing.assert_allclose(last.map, one.map, atol=1e-5)
    np.testing.assert_allclose(device.map.numpy(), one.map, atol=1e-6)
    np.testing.assert_allclose(both[0].map, one.map, atol=1e-5)
    assert both[1].target.index == 4
    assert all(NoteCode.PARTIAL in {n.code for n in s.provenance.notes} for s in on_the_way)
    assert NoteCode.PARTIAL not in {n.code for n in last.provenance.notes}


def test_progress_is_of_all_layers(model: onnx.ModelProto) -> None:
    reports: list[tuple[int, int]] = []
    with Explainer(model, score_cam(), layer=LAYERS, batch=2) as explainer:
        explainer.explain(IMAGE, 2, progress=lambda done, expected: reports.append((done, expected)))
    done = [d for d, _ in reports]
    assert done == sorted(done)
    assert reports[-1][0] == reports[-1][1]
    assert done[-1] > 8  # more than the masks of one layer


def test_every_layer_is_asked_for_every_kind_of_target(model: onnx.ModelProto) -> None:
    with Explainer(model, grad_cam(), layer=LAYERS) as explainer:
        one, other = explainer.explain(IMAGE, [Element((3,)), 3])
    np.testing.assert_allclose(one.map, other.map, atol=1e-5)


def test_an_error_bound_of_fused_estimates_is_that_of_the_mean() -> None:
    with Explainer(filled(ENSEMBLE), score_cam(), layer="f") as explainer:
        saliency = explainer(IMAGE, 2)

    def off_by(error: float | None, map: npt.NDArray[np.float32]) -> Saliency:
        return replace(saliency, map=map, provenance=replace(saliency.provenance, error=error))

    low = np.array([[0.0, 0.0], [0.5, 1.0]], np.float32)
    assert fused([off_by(0.02, low), off_by(0.04, low)]).provenance.error == pytest.approx(0.03)
    flat = np.array([[1.0, 0.5], [0.5, 0.5]], np.float32)  # the mean is 0.25 to 0.75, so it is stretched by 2
    assert fused([off_by(0.02, low), off_by(0.04, flat)]).provenance.error == pytest.approx(0.06)
    assert fused([off_by(None, low), off_by(None, low)]).provenance.error is None


@pytest.mark.parametrize(
    ("name", "layer", "words"),
    [
        ("rise", ["f", "g"], "rise reads no layer"),
        ("grad-cam", ["f", "f"], "given twice"),
        ("grad-cam", ["f", "auto", "g"], "both 'g'"),
        ("grad-cam", [], "a list of these"),
        ("grad-cam", ["f", 3], "a list of these"),
    ],
)
def test_layers_that_cannot_be_fused_are_refused(
    model: onnx.ModelProto, name: str, layer: list[Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        Explainer(model, name, layer=layer)


def test_a_layer_that_is_no_map_is_refused_and_nothing_stays_open(model: onnx.ModelProto) -> None:
    with pytest.raises(NoSpatialFeatures, match="'p'"):
        Explainer(model, grad_cam(), layer=["f", "p"])


def test_the_layer_whose_map_is_undefined_is_named() -> None:
    text = ENSEMBLE.replace("e = Relu (d)", "e = Relu (d) z = Conv <kernel_shape=[3,3]> (x, dead)")
    text = text.replace("logits = Add (s, t)", "m = ReduceMean <axes=[1,2,3], keepdims=0> (z) y = Unsqueeze (m, i)"
                        " zero = Mul (y, o) r = Add (s, t) logits = Add (r, zero)")  # fmt: skip
    text = text.replace("float[7,3,3,3] dead", "float[7,3,3,3] dead, int64[1] i = {1}, float o = {0.0}")
    with Explainer(filled(text), grad_cam(), layer=["f", "z"]) as explainer:
        with pytest.raises(UndefinedSaliency, match="layer 'z'"):
            explainer(IMAGE, 2)
        with pytest.raises(TargetError, match=r"^(?!layer)"):
            explainer(IMAGE, 99)


def test_the_note_names_what_fuses_the_branches(model: onnx.ModelProto) -> None:
    with Explainer(model, grad_cam()) as explainer:
        (note,) = [n for n in explainer(IMAGE, 2).provenance.notes if n.code is NoteCode.OTHER_BRANCHES]
        names = [f.tensor for f in explainer.anatomy.branches]
    assert note.text.endswith("--layer g --layer f fuses the maps")
    with Explainer(model, grad_cam(), layer=names) as explainer:
        saliency = explainer(IMAGE, 2)
    assert NoteCode.OTHER_BRANCHES not in {n.code for n in saliency.provenance.notes}
