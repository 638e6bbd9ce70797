"""A box is explained by the feature map of its own scale, whatever the method."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import TWO_SCALES, filled

from onnxcam import Box, Element, Explainer, method
from onnxcam.methods import METHODS
from onnxcam.methods.blocks import Need
from onnxcam.types import NoteCode

IMAGE = np.random.default_rng(2).standard_normal((3, 16, 16)).astype(np.float32)
PLACE = {"fine": Box(5, 2), "coarse": Box(18, 2)}


def run(output: str) -> np.ndarray:
    proto = filled(TWO_SCALES)
    proto.graph.output.append(onnx.ValueInfoProto(name=output))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {"x": IMAGE[None]})[0])


@pytest.mark.parametrize(("layer", "head", "cells"), [("fine", "head1", 16), ("coarse", "head2", 4)])
def test_grad_cam_of_a_box_is_that_of_its_own_map(layer: str, head: str, cells: int) -> None:
    # The head is linear, so the weights of the maps are the head's, and their sum is its own map of the class.
    raw = run(head)[0, 4 + 2]
    box = {"fine": 5, "coarse": 2}[layer]
    probability = 1 / (1 + np.exp(-raw.reshape(-1)[box]))
    expected = raw * probability * (1 - probability) / cells
    with Explainer(filled(TWO_SCALES), "grad-cam", providers=["cpu"], preset="raw") as explainer:
        saliency = explainer(IMAGE, PLACE[layer])
    np.testing.assert_allclose(saliency.raw, expected, rtol=1e-4, atol=1e-7)
    provenance = saliency.provenance
    assert provenance.layer == layer
    assert provenance.layer_reason.endswith({"fine": "boxes 0 to 15 of 20", "coarse": "boxes 16 to 19 of 20"}[layer])
    assert provenance.forwards == {"fine": 2, "coarse": 1}[layer], "the picture's extra pass only"
    codes = {note.code for note in provenance.notes}
    assert NoteCode.OTHER_SCALES not in codes
    assert NoteCode.READ_AS_BOXES in codes, "whatever the scale"


ON_FEATURES = [name for name in METHODS if {Need.FEATURES, Need.TAIL} & method(name).needs and name != "cam"]
"""Class activation maps need a linear classifier, which no detector has."""


@pytest.mark.parametrize("name", ON_FEATURES)
def test_every_method_on_feature_maps_takes_the_map_of_the_box(name: str) -> None:
    with Explainer(filled(TWO_SCALES), name, providers=["cpu"], preset="raw", layer="auto") as explainer:
        maps = {s.provenance.layer: s for s in explainer.explain(IMAGE, list(PLACE.values()))}
    assert list(maps) == ["fine", "coarse"]
    for layer, saliency in maps.items():
        with Explainer(filled(TWO_SCALES), name, providers=["cpu"], preset="raw", layer=layer) as explainer:
            np.testing.assert_array_equal(explainer(IMAGE, PLACE[layer]).map, saliency.map)


def test_a_layer_that_was_chosen_stays() -> None:
    with Explainer(filled(TWO_SCALES), "score-cam", providers=["cpu"], preset="raw", layer="c") as explainer:
        assert {s.provenance.layer for s in explainer.explain(IMAGE, list(PLACE.values()))} == {"c"}


def test_pictures_and_boxes_of_several_scales_come_back_in_order() -> None:
    with Explainer(filled(TWO_SCALES), "score-cam", providers=["cpu"], preset="raw") as explainer:
        results = explainer.batch([IMAGE, IMAGE, IMAGE], [PLACE["coarse"], PLACE["fine"], PLACE["coarse"]])
        assert [r.provenance.layer for r in results] == ["coarse", "fine", "coarse"]
        again = explainer(IMAGE, results[1].target)
    assert again.provenance.layer == "fine"
    np.testing.assert_allclose(again.map, results[1].map, atol=1e-6)


def test_a_number_of_a_table_is_explained_by_the_map_that_it_comes_from() -> None:
    with Explainer(filled(TWO_SCALES), "grad-cam", providers=["cpu"], preset="raw") as explainer:
        for layer, box in PLACE.items():
            number = explainer(IMAGE, Element((4 + 2, int(box.box)), "boxes"))
            assert number.provenance.layer == layer
            np.testing.assert_allclose(number.map, explainer(IMAGE, box).map, atol=1e-6)
