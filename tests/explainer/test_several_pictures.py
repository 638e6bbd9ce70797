"""Networks that take two pictures: the map of each is that of the network whose other picture is a constant."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from small_models import filled

from onnxcam import Explainer
from onnxcam.errors import ModelError, OptionError, PresetError
from onnxcam.inputs.presets import Preset, preset_named, whole
from onnxcam.outputs.record import record
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.passes import joined_pictures
from onnxcam.types import BatchMode, NoteCode

UNIT = preset_named("unit")
RNG = np.random.default_rng(11)
BEFORE, AFTER = (RNG.integers(0, 256, (20, 16, 3)).astype(np.uint8) for _ in range(2))
WEIGHTS = "<float[6,3,3,3] w1, float[8,6,3,3] w2, float[8,5] v, float[16,5] u, float[8,16,3,3] w3, float[8,8,3,3] w4, int64[1] one = {1}>"
BRANCH = """
  c1X = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (X, w1)
  r1X = Relu (c1X)
  c2X = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1X, w2)
  fX = Relu (c2X)
"""
POOL = "pX = ReduceMean <axes=[2,3], keepdims=0> (fX)"
TRUNK = BRANCH.replace("X", "ab") + POOL.replace("X", "ab")


def network(body: str, batch: str = "N", opset: int = 17) -> onnx.ModelProto:
    signature = f"net (float[{batch},3,20,16] before, float[{batch},3,20,16] after) => (float[{batch},5] logits)"
    return filled(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{signature} {WEIGHTS} {{ {body} }}')


def branches(head: str) -> str:
    parts = [part.replace("X", name) for name in ("before", "after") for part in (BRANCH, POOL)]
    return "".join(parts) + head


def joined(unjoin: str) -> str:
    return f"ab = Concat <axis=0> (before, after) {TRUNK} {unjoin}"


DIFFERENCE = "d = Sub (pbefore, pafter) s = Abs (d) logits = MatMul (s, v)"
NETWORKS: dict[str, onnx.ModelProto] = {
    "difference of two branches": network(branches(DIFFERENCE)),
    "difference, fixed batch": network(branches(DIFFERENCE), "1"),
    "both poolings joined": network(branches("j = Concat <axis=1> (pbefore, pafter) logits = MatMul (j, u)")),
    "maps that are subtracted": network(
        "".join(BRANCH.replace("X", name) for name in ("before", "after"))
        + "d = Sub (fbefore, fafter) s = Abs (d) p = ReduceMean <axes=[2,3], keepdims=0> (s) logits = MatMul (p, v)"
    ),
    "one trunk over a joined batch": network(
        joined("before_, after_ = Split <axis=0> (pab) d = Sub (before_, after_) s = Abs (d) logits = MatMul (s, v)")
    ),
    "one trunk over a joined batch of one": network(
        joined("before_, after_ = Split <axis=0> (pab) d = Sub (before_, after_) s = Abs (d) logits = MatMul (s, v)"),
        "1",
    ),
    "one trunk, told apart by the batch's size": network(
        joined(
            "n = Shape <start=0, end=1> (before) m = Shape <start=0, end=1> (pab) start = Constant <value_ints=[0]> ()"
            " before_ = Slice (pab, start, n) after_ = Slice (pab, n, m)"
            " d = Sub (before_, after_) s = Abs (d) logits = MatMul (s, v)"
        )
    ),
    "one trunk, opset 18": network(
        joined(
            "before_, after_ = Split <axis=0, num_outputs=2> (pab)"
            " d = Sub (before_, after_) s = Abs (d) logits = MatMul (s, v)"
        ).replace("ReduceMean <axes=[2,3], keepdims=0> (fab)", "ReduceMean <keepdims=0> (fab, sides)")
        .replace("ab = Concat", "sides = Constant <value_ints=[2,3]> () ab = Concat"),
        opset=18,
    ),
}  # fmt: skip


def with_constant(model: onnx.ModelProto, name: str, picture: np.ndarray) -> onnx.ModelProto:
    """The network of one picture: the other input is a constant, which broadcasts over any batch."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    array = np.moveaxis(picture, 2, 0)[None].astype(np.float32) / 255
    copy.graph.initializer.append(numpy_helper.from_array(array, name))
    (index,) = [i for i, value in enumerate(copy.graph.input) if value.name == name]
    del copy.graph.input[index]
    for value in copy.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    copy.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    return copy


def saliency(model: onnx.ModelProto, method: str, picture: np.ndarray, **options: object) -> Saliency:
    with Explainer(model, method, preset=UNIT, providers=["cpu"], **options) as explainer:  # type: ignore[arg-type]
        return explainer(picture, 3)


@pytest.mark.parametrize(("method", "least"), [("score-cam", 0.9999), ("grad-cam", 0.9999), ("layer-cam", 0.9999)])
@pytest.mark.parametrize("explained", ["before", "after"])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_picture_has_the_map_of_the_network_of_that_picture_alone(
    name: str, explained: str, method: str, least: float
) -> None:
    model, pictures = NETWORKS[name], {"before": BEFORE, "after": AFTER}
    other = "after" if explained == "before" else "before"
    single = with_constant(model, other, pictures[other])
    layer = None
    two = saliency(model, method, pictures[explained], image_input=explained, inputs={other: pictures[other]})
    if name == "maps that are subtracted":
        layer = {"layer": "f" + explained}
    if "joined batch" in name or "one trunk" in name:
        layer = {"layer": "f" + explained}
        single = with_constant(NETWORKS["difference of two branches"], other, pictures[other])
    expected = saliency(single, method, pictures[explained], **(layer or {}))
    assert np.corrcoef(two.map.ravel(), expected.map.ravel())[0, 1] >= least
    np.testing.assert_allclose(two.map, expected.map, atol=1e-3)
    assert two.score == pytest.approx(expected.score, rel=1e-4)


HEADS = {
    "joined along the channels": ("j = Concat <axis=1> (fbefore, fafter) p = GlobalAveragePool (j)", "u"),
    "one layer after the join": (
        "j = Concat <axis=1> (fbefore, fafter) c3 = Conv <pads=[1,1,1,1]> (j, w3) r3 = Relu (c3)"
        " p = GlobalAveragePool (r3)", "v"
    ),
    "subtracted": ("d = Sub (fbefore, fafter) s = Abs (d) p = GlobalAveragePool (s)", "v"),
    "multiplied": ("s = Mul (fbefore, fafter) p = GlobalAveragePool (s)", "v"),
    "the larger of both": ("s = Max (fbefore, fafter) p = GlobalAveragePool (s)", "v"),
    "stacked along a new axis": (
        "b1 = Unsqueeze (fbefore, one) a1 = Unsqueeze (fafter, one) j = Concat <axis=1> (b1, a1)"
        " m = ReduceMax <axes=[1], keepdims=0> (j) p = GlobalAveragePool (m)", "v"
    ),
    "difference and product": (
        "d = Sub (fbefore, fafter) s = Abs (d) t = Mul (fbefore, fafter) j = Concat <axis=1> (s, t)"
        " p = GlobalAveragePool (j)", "u"
    ),
    "flattened together": ("j = Concat <axis=1> (fbefore, fafter) p = GlobalMaxPool (j)", "u"),
    "one map and the difference, pooled apart": (
        "d = Sub (fbefore, fafter) p1 = GlobalAveragePool (fbefore) p2 = GlobalAveragePool (d) "
        " p = Concat <axis=1> (p1, p2)", "u"
    ),
}  # fmt: skip
"""How the maps of two branches are joined (p), and the last layer's weights."""


def late(head: str, weights: str, batch: str = "N") -> onnx.ModelProto:
    body = "".join(BRANCH.replace("X", name) for name in ("before", "after"))
    end = f"flat = Constant <value_ints=[0,-1]> () q = Reshape (p, flat) logits = MatMul (q, {weights})"
    return network(f"{body} {head} {end}", batch)


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("explained", ["before", "after"])
@pytest.mark.parametrize("name", HEADS)
def test_the_features_are_those_of_the_explained_picture_alone(name: str, explained: str, batch: str) -> None:
    model, pictures = late(*HEADS[name], batch), {"before": BEFORE, "after": AFTER}
    other = "after" if explained == "before" else "before"
    two = saliency(model, "grad-cam", pictures[explained], image_input=explained, inputs={other: pictures[other]})
    single = with_constant(model, other, pictures[other])
    expected = saliency(single, "grad-cam", pictures[explained], layer="f" + explained)
    if not (name.endswith("pooled apart") and explained == "after"):
        assert two.provenance.layer == "f" + explained
    assert NoteCode.FEATURES_SHARED not in {note.code for note in two.provenance.notes}
    assert np.corrcoef(two.map.ravel(), expected.map.ravel())[0, 1] >= 0.999


@pytest.mark.parametrize("join", ["d = Sub (fbefore, fafter) s = Abs (d)", "s = Max (fbefore, fafter)"])
def test_a_map_of_changes_is_explained_by_the_features_of_one_picture(join: str) -> None:
    body = "".join(BRANCH.replace("X", name) for name in ("before", "after"))
    signature = "net (float[N,3,20,16] before, float[N,3,20,16] after) => (float[N,4,5,4] logits)"
    header = f'<ir_version: 8, opset_import: ["" : 17]>\n{signature} {WEIGHTS.removesuffix(">")}, float[4,8,1,1] k>'
    model = filled(f"{header} {{ {body} {join} logits = Conv (s, k) }}")
    for explained, other in (("before", "after"), ("after", "before")):
        two = saliency(model, "grad-cam", BEFORE, image_input=explained, inputs={other: AFTER})
        single = saliency(with_constant(model, other, AFTER), "grad-cam", BEFORE, layer="f" + explained)
        assert (two.target.kind, two.provenance.layer) == ("region", "f" + explained)
        assert np.corrcoef(two.map.ravel(), single.map.ravel())[0, 1] >= 0.999


def test_a_mask_that_hides_features_is_no_branch_and_noted() -> None:
    body = (
        BRANCH.replace("X", "before")
        + """small = MaxPool <kernel_shape=[4,4], strides=[4,4]> (after)
      s = Mul (fbefore, small) p = ReduceMean <axes=[2,3], keepdims=0> (s) logits = MatMul (p, v)"""
    )
    text = f"net (float[N,3,20,16] before, float[N,1,20,16] after) => (float[N,5] logits) {WEIGHTS} {{ {body} }}"
    model = filled(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
    result = saliency(model, "grad-cam", BEFORE, inputs={"after": np.ones((1, 20, 16), np.float32)})
    assert result.provenance.layer == "s"
    assert NoteCode.FEATURES_SHARED in {note.code for note in result.provenance.notes}


def test_one_trunk_whose_parts_are_joined_along_the_channels_has_the_part_of_the_picture() -> None:
    body = "ab = Concat <axis=0> (before, after)" + BRANCH.replace("X", "ab")
    body += "b, a = Split <axis=0> (fab) j = Concat <axis=1> (b, a) p = ReduceMean <axes=[2,3], keepdims=0> (j)"
    trunk = network(body + "logits = MatMul (p, u)")
    for explained, other in (("before", "after"), ("after", "before")):
        maps = [
            saliency(model, "grad-cam", BEFORE, image_input=explained, inputs={other: AFTER}).map
            for model in (trunk, late(*HEADS["joined along the channels"]))
        ]
        np.testing.assert_allclose(*maps, atol=1e-4)


@pytest.mark.parametrize("form", ["before the first layer", "long after"])
def test_features_of_both_pictures_are_noted(form: str) -> None:
    if form == "before the first layer":
        body = "ab = Add (before, after)" + TRUNK + "logits = MatMul (pab, v)"
    else:
        layers = "".join(f"c{i} = Conv <pads=[1,1,1,1]> (r{i - 1}, w4) r{i} = Relu (c{i})" for i in range(4, 8))
        body = "".join(BRANCH.replace("X", name) for name in ("before", "after"))
        body += "j = Concat <axis=1> (fbefore, fafter) c3 = Conv <pads=[1,1,1,1]> (j, w3) r3 = Relu (c3)" + layers
        body += "p = ReduceMean <axes=[2,3], keepdims=0> (r7) logits = MatMul (p, v)"
    result = saliency(network(body), "grad-cam", BEFORE, inputs={"after": AFTER})
    (note,) = [n for n in result.provenance.notes if n.code is NoteCode.FEATURES_SHARED]
    assert "'after'" in note.text
    assert result.provenance.layer == ("r7" if form == "long after" else "fab")


def test_a_tensor_that_the_picture_does_not_reach_is_no_feature_map() -> None:
    model = NETWORKS["difference of two branches"]
    for name, other in (("before", "after"), ("after", "before")):
        with Explainer(model, image_input=name, inputs={other: AFTER}, preset=UNIT, providers=["cpu"]) as explainer:
            assert explainer.anatomy.features.tensor == f"f{name}"
            assert f"f{other}" not in {candidate.tensor for candidate in explainer.anatomy.candidates}


def test_the_first_picture_is_explained_with_a_note_on_the_other() -> None:
    result = saliency(NETWORKS["difference of two branches"], "grad-cam", BEFORE, inputs={"after": AFTER})
    (note,) = [note for note in result.provenance.notes if note.code is NoteCode.OTHER_PICTURES]
    assert "'before'" in note.text
    assert note.text.endswith("after")


def test_an_input_that_was_chosen_brings_no_note() -> None:
    result = saliency(
        NETWORKS["difference of two branches"], "grad-cam", BEFORE, inputs={"after": AFTER}, image_input="before"
    )
    assert NoteCode.OTHER_PICTURES not in {note.code for note in result.provenance.notes}


def test_pictures_in_one_batch_are_told_apart_and_share_forward_passes() -> None:
    for name in ("one trunk over a joined batch", "one trunk over a joined batch of one"):
        model = NETWORKS[name]
        with Explainer(model, image_input="after", inputs={"before": BEFORE}, preset=UNIT, providers=["cpu"]) as opened:
            assert opened.anatomy.features.tensor == "fab/after"
            assert opened.anatomy.features.shape == (1, 8, 5, 4)
            assert opened.batching.mode is not BatchMode.LOOPED


@pytest.mark.parametrize("form", [str, Path, np.asarray])
def test_the_other_picture_is_a_file_or_an_array(form: Callable[[object], object], tmp_path: Path) -> None:
    path = tmp_path / "after.png"
    Image.fromarray(AFTER).save(path)
    value = AFTER if form is np.asarray else form(path)
    result = saliency(NETWORKS["difference of two branches"], "grad-cam", BEFORE, inputs={"after": value})
    array = np.moveaxis(AFTER, 2, 0).astype(np.float32) / 255
    expected = saliency(NETWORKS["difference of two branches"], "grad-cam", BEFORE, inputs={"after": array})
    np.testing.assert_array_equal(result.map, expected.map)


def test_each_picture_may_bring_its_own_other_picture() -> None:
    model = NETWORKS["difference of two branches"]
    with Explainer(model, "grad-cam", preset=UNIT, inputs={"after": BEFORE}, providers=["cpu"]) as explainer:
        (given,) = explainer.explain(BEFORE, [3], inputs={"after": AFTER})
    np.testing.assert_array_equal(given.map, saliency(model, "grad-cam", BEFORE, inputs={"after": AFTER}).map)


def test_colour_and_depth_are_two_inputs_of_different_channels(tmp_path: Path) -> None:
    model = filled("""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,20,16] rgb, float[N,1,h,w] depth) => (float[N,5] logits) <float[8,4,3,3] w, float[8,5] v> {
      x = Concat <axis=1> (rgb, depth)
      c = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w)
      f = Relu (c)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      logits = MatMul (p, v)
    }""")
    Image.fromarray(AFTER[..., 0]).save(tmp_path / "depth.png")
    depth = AFTER[..., 0].astype(np.float32)[None] / 255
    by_file = saliency(model, "grad-cam", BEFORE, inputs={"depth": tmp_path / "depth.png"})
    np.testing.assert_array_equal(by_file.map, saliency(model, "grad-cam", BEFORE, inputs={"depth": depth}).map)
    with pytest.raises(PresetError, match=r"the picture of the input 'depth': .*\.npy"):
        Explainer(model, inputs={"depth": tmp_path / "depth.png"}, preset="clip", providers=["cpu"])


def test_a_missing_picture_is_asked_for_by_name() -> None:
    with pytest.raises(ModelError, match=r"after \['N', 3, 20, 16\]; give each with --input NAME=VALUE: .* a picture"):
        Explainer(NETWORKS["difference of two branches"], preset=UNIT, providers=["cpu"])


def test_an_input_that_takes_no_picture_is_named() -> None:
    with pytest.raises(OptionError, match="no input called 'afer' takes a picture; did you mean after"):
        Explainer(NETWORKS["difference of two branches"], image_input="afer", providers=["cpu"])


def test_features_of_several_pictures_that_cannot_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_pictures, "_join", lambda *_: None)
    with pytest.raises(ModelError, match="2 entries for 1 picture"):
        Explainer(NETWORKS["one trunk over a joined batch"], inputs={"after": AFTER}, preset=UNIT, providers=["cpu"])


def test_pictures_that_are_joined_along_a_new_axis_are_refused() -> None:
    stacked = """
      x1 = Unsqueeze (before, one) x2 = Unsqueeze (after, one) x = Concat <axis=1> (x1, x2)
      fold = Constant <value_ints=[-1,3,20,16]> () ab = Reshape (x, fold)"""
    apart = "two = Constant <value_ints=[-1,16]> () q = Reshape (pab, two) logits = MatMul (q, u)"
    with pytest.raises(ModelError, match=r"joined before the first layer .* a branch for each picture"):
        Explainer(network(stacked + TRUNK + apart), inputs={"after": AFTER}, preset=UNIT, providers=["cpu"])


NORMALISES = """
  zX = Div (X, scale) yX = Sub (zX, mean) nX = Div (yX, std)
"""
ITSELF = (
    ", float scale = {255}, float[1,3,1,1] mean = {0.485, 0.456, 0.406}, float[1,3,1,1] std = {0.229, 0.224, 0.225}>"
)


def one_normalises_itself() -> onnx.ModelProto:
    """A difference of two branches, of which that of `after` starts with the preprocessing of ImageNet."""
    text = BRANCH.replace("X", "before") + NORMALISES.replace("X", "after") + BRANCH.replace("X", "after")
    body = text.replace("(after, w1)", "(nafter, w1)") + "".join(POOL.replace("X", n) for n in ("before", "after"))
    signature = "net (float[N,3,20,16] before, float[N,3,20,16] after) => (float[N,5] logits)"
    header = f'<ir_version: 8, opset_import: ["" : 17]>\n{signature} {WEIGHTS.removesuffix(">")}{ITSELF}'
    return filled(f"{header} {{ {body} {DIFFERENCE} }}")


@pytest.mark.parametrize("explained", ["before", "after"])
def test_each_picture_gets_the_numbers_that_its_own_input_takes(explained: str) -> None:
    """The network without arithmetic, given ImageNet's numbers for both, has the same map."""
    other = "after" if explained == "before" else "before"
    results = []
    for model in (NETWORKS["difference of two branches"], one_normalises_itself()):
        options = {"image_input": explained, "inputs": {other: AFTER}, "providers": ["cpu"], "adjust": whole}
        with Explainer(model, "grad-cam", **options) as explain:
            results.append(explain(BEFORE))
    plain, itself = results
    np.testing.assert_allclose(itself.map, plain.map, atol=1e-4)
    np.testing.assert_allclose(itself.target.logit, plain.target.logit, rtol=1e-4)
    (note,) = (n for n in itself.provenance.notes if n.code is NoteCode.OTHER_PICTURES)
    assert other in note.text
    assert ("raw" if other == "after" else "imagenet") in note.text


def test_a_doubtful_picture_of_another_input_is_noted() -> None:
    deep = Image.fromarray(AFTER[..., 0].astype(np.uint16) * 10)
    model = NETWORKS["difference of two branches"]
    with Explainer(model, "grad-cam", providers=["cpu"], inputs={"after": deep}) as explain:
        assert "after" in next(n.text for n in explain(BEFORE).provenance.notes if n.code is NoteCode.NARROW_RANGE)
        replaced = explain.explain(BEFORE, inputs={"after": AFTER})[0]
    assert not [n for n in replaced.provenance.notes if n.code is NoteCode.NARROW_RANGE]


def test_bytes_of_an_array_file_are_the_other_picture(tmp_path: Path) -> None:
    np.save(tmp_path / "after.npy", AFTER)
    model = NETWORKS["difference of two branches"]
    maps = []
    for value in (AFTER, tmp_path / "after.npy"):
        with Explainer(model, "grad-cam", providers=["cpu"], inputs={"after": value}) as explain:
            maps.append(explain(BEFORE).map)
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize("explained", ["before", "after"])
def test_a_record_makes_the_map_again_although_each_input_takes_other_numbers(explained: str) -> None:
    inputs = {"after" if explained == "before" else "before": AFTER}
    model = one_normalises_itself()
    with Explainer(model, "grad-cam", providers=["cpu"], image_input=explained, inputs=inputs) as explain:
        one = explain(BEFORE)
    values = record(one)
    options = {"preset": Preset.from_json(values["preset"]), "image_input": values["image_input"], "inputs": inputs}
    with Explainer(model, "grad-cam", providers=["cpu"], **options) as explain:
        np.testing.assert_array_equal(explain(BEFORE, one.target).map, one.map)
