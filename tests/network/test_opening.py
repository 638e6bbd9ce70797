"""Opening a model: what is verified before it is used, and what the cache stores."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest
from detectors import TAILS, detector, picture
from small_models import CLASSIFIER, Make, network_over

from onnxcam import Box, Element, Explainer, Region, Similarity, score_cam
from onnxcam.engine.options import EngineOptions
from onnxcam.errors import ModelError, OptionError, TargetError
from onnxcam.network import cache, dry_run, first_opening, stored_graphs, verification
from onnxcam.network.export import rewrite
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.loading import read_model
from onnxcam.types import BatchMode, NoteCode

RNG = np.random.default_rng(5)
HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
QUANTISED = f"""{HEAD}net (float[N,3,8,6] x) => (float[N,5] logits)
<uint8[8,3,1,1] w, uint8 wz = {{128}}, float[8,5] v>
{{
  q, s, z = DynamicQuantizeLinear (x)
  c = ConvInteger <kernel_shape=[1,1]> (q, w, z, wz)
  f0 = Cast <to=1> (c)
  f1 = Mul (f0, s)
  f = Relu (f1)
  p = ReduceMean <axes=[2,3], keepdims=0> (f)
  logits = MatMul (p, v)
}}"""


def quantised(make: Make) -> onnx.ModelProto:
    model = make(QUANTISED.replace("<uint8[8,3,1,1] w, ", "<"), check=False)
    weights = RNG.integers(0, 255, (8, 3, 1, 1)).astype(np.uint8)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return model


@pytest.mark.parametrize("fill", ["zero", "blur", "black"])
def test_a_model_that_scales_over_the_batch_runs_one_by_one_with_a_note(make: Make, fill: str) -> None:
    """With any fill: a fill equal to the image would show no difference between samples."""
    with Explainer(quantised(make), score_cam(fill=fill), preset="imagenet", providers=["cpu"]) as explainer:
        assert explainer.batching.mode is BatchMode.LOOPED
        assert "DynamicQuantizeLinear" in explainer.batching.reason
        saliency = explainer(RNG.standard_normal((3, 8, 6)).astype(np.float32), 2)
    assert saliency.provenance.batch == 1
    assert any(n.code is NoteCode.LOOPED and "one mask a forward pass" in n.text for n in saliency.provenance.notes)


def test_a_second_opening_reads_the_record_and_gives_the_same_map(
    classifier: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path))
    fixed = onnx.ModelProto()
    fixed.CopyFrom(classifier)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    image = RNG.standard_normal((3, 16, 12)).astype(np.float32)
    with Explainer(fixed, providers=["cpu"]) as first:
        expected = first(image)
    for path in tmp_path.glob("*.graph"):  # the record alone is left
        path.unlink()
    monkeypatch.setattr(dry_run, "run_trace", None)  # calling it would fail
    with Explainer(fixed, providers=["cpu"]) as second:
        assert second.batching == first.batching
        np.testing.assert_array_equal(second(image).map, expected.map)
    with pytest.raises(TypeError):
        Explainer(fixed, layer="r1", providers=["cpu"])  # other options, another record


def test_a_record_is_the_same_for_either_form_of_the_providers(
    classifier: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path))
    file = read_model(classifier)
    open_model(file, OpenOptions(providers=("cpu",))).network.close()
    stored = set(tmp_path.iterdir())
    assert sorted(path.suffix for path in stored) == [".graph", ".json"]
    for providers in ([("cpu", {})], ["CPUExecutionProvider"], "cpu"):
        open_model(file, OpenOptions(providers=providers)).network.close()
        assert set(tmp_path.iterdir()) == stored


def test_an_opening_without_the_cache_neither_reads_nor_writes_a_record(
    classifier: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path))
    file, without = read_model(classifier), OpenOptions(providers=("cpu",), cache=False)
    first = open_model(file, without)
    assert list(tmp_path.iterdir()) == []
    open_model(file, OpenOptions(providers=("cpu",))).network.close()
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(cache, "load", lambda name: pytest.fail("read"))
    monkeypatch.setattr(stored_graphs, "load", lambda name, hint: pytest.fail("read"))
    assert open_model(file, without).batching == first.batching
    assert len(list(tmp_path.iterdir())) == 2


def test_the_trace_of_a_file_has_its_shapes_and_its_outputs(classifier: onnx.ModelProto) -> None:
    file = read_model(classifier)
    image = file.image()
    trace = dry_run.run_trace(file.model, image, (16, 12), {}, exported=file.proto)
    assert trace.shapes == dry_run.run_trace(file.model, image, (16, 12), {}).shapes
    session = ort.InferenceSession(classifier.SerializeToString())
    expected = session.run(None, {image.name: dry_run.noise(image, (1, 3, 16, 12))})
    assert list(trace.outputs) == [v.name for v in session.get_outputs()]
    for array, of_file in zip(trace.outputs.values(), expected, strict=True):
        np.testing.assert_allclose(array, of_file, rtol=1e-5)


def runs_of_the_file(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tensors that an opening of a model reads from a further run of the file, to verify the network by."""
    names, real = list[str](), verification._run

    def counted(proto: onnx.ModelProto, name: str, *arguments: Any) -> Any:
        names.append(name)
        return real(proto, name, *arguments)

    monkeypatch.setattr(verification, "_run", counted)
    opened = open_model(read_model(model), OpenOptions(providers=("cpu",), cache=False))
    opened.close()
    assert "NOT" not in opened.batching.reason
    return names


def test_a_file_is_run_once_where_its_own_graph_is_opened(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs_of_the_file(classifier, monkeypatch) == []


def test_numbers_that_depend_on_optimisations_are_verified_by_a_run_like_the_networks(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(runs_of_the_file(quantised(make), monkeypatch)) == 1


def spoiled(model: ir.Model) -> ir.Model:
    """A copy with another bias."""
    copy = ir.edit(model)
    weights = copy.graph.initializers["b3"]
    assert weights.const_value is not None
    weights.const_value = onnx_ir.tensor(np.asarray(weights.const_value.numpy()) + 1, name="b3")
    return copy


def test_a_graph_that_differs_from_the_file_is_not_used(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_opening, "unroll_loops", lambda model, limits: spoiled(model))
    with pytest.raises(ModelError, match="gives other numbers than the file"):
        open_model(read_model(classifier), OpenOptions(providers=("cpu",)))


def test_nor_where_one_run_of_the_file_traces_and_verifies(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, further = first_opening.split_off, list[str]()

    def split(model: ir.Model, *others: Any) -> Any:
        return real(spoiled(model), *others)

    monkeypatch.setattr(first_opening, "split_off", split)
    monkeypatch.setattr(verification, "_run", lambda proto, name, *others: further.append(name))
    with pytest.raises(ModelError, match="gives other numbers than the file"):
        open_model(read_model(classifier), OpenOptions(providers=("cpu",), cache=False))
    assert not further


IF = f"""{HEAD}net (float[N,3,8,6] x) => (float[N,5] logits)
{{
  top = ReduceMax <keepdims=0> (x)
  big = Constant <value_float=1000.0> ()
  small = Less (top, big)
  logits = If <then_branch = yes () => (float[N,5] a) <float[8,3,3,3] w, float[8,5] v> {{
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
      f = Relu (c)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      a = MatMul (p, v) }},
    else_branch = no () => (float[N,5] b) <float[3,5] u> {{ m = ReduceMean <axes=[2,3], keepdims=0> (x)
      b = MatMul (m, u) }}> (small)
}}"""


def branched() -> onnx.ModelProto:
    """A model with its weights inside the branches, as exporters write them."""
    model = onnx.parser.parse_model(IF.replace(" <float[8,3,3,3] w, float[8,5] v>", "").replace(" <float[3,5] u>", ""))
    node = next(n for n in model.graph.node if n.op_type == "If")
    for attribute, weights in zip(node.attribute, ({"w": (8, 3, 3, 3), "v": (8, 5)}, {"u": (3, 5)}), strict=True):
        for name, shape in weights.items():
            array = RNG.standard_normal(shape).astype(np.float32)
            attribute.g.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def test_a_network_inside_a_branch_is_explained_with_a_note() -> None:
    with Explainer(branched(), providers=["cpu"]) as explainer:
        assert explainer.anatomy.features.tensor == "f"
        saliency = explainer(RNG.standard_normal((3, 8, 6)).astype(np.float32))
    assert any(n.code is NoteCode.BRANCH_TAKEN and "'small' was true" in n.text for n in saliency.provenance.notes)


def test_the_rewritten_model_takes_any_batch_and_gives_the_files_outputs(make: Make) -> None:
    text = f"""{HEAD}net (float[1,3,8,6] x) => (float[5] logits, float[1,8,8,6] side)
    <float[8,3,3,3] w, float[8,5] v, int64[1] flat = {{-1}}, int64[2] axes = {{1, 2}}>
    {{
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
      side = Relu (c)
      g = GlobalAveragePool (side)
      p = Reshape (g, flat)
      logits = MatMul (p, v)
    }}"""
    proto = make(text)
    rewritten = rewrite(proto, OpenOptions(providers=("cpu",)))
    assert (rewritten.batching.mode, rewritten.anatomy.features.tensor) == (BatchMode.REWRITTEN, "side")
    new, old = (
        ort.InferenceSession(d, providers=["CPUExecutionProvider"]) for d in (rewritten.data, proto.SerializeToString())
    )
    x = RNG.standard_normal((4, 3, 8, 6)).astype(np.float32)
    logits, side = new.run(["logits", "side"], {"x": x})
    assert [o.shape[0] for o in new.get_outputs()] == ["N", "N"]
    for i in range(4):
        expected = old.run(None, {"x": x[i : i + 1]})
        np.testing.assert_allclose(logits[i], expected[0], atol=1e-5)
        np.testing.assert_allclose(side[i], expected[1][0], atol=1e-5)


def test_extra_inputs_are_given_by_name(make: Make) -> None:
    text = CLASSIFIER.replace("(float[N,3,16,12] x)", "(float[N,3,16,12] x, float[N,5] meta, float gain)")
    text = text.replace(
        "logits = Gemm <transB=1> (flat, w3, b3)",
        "z = Gemm <transB=1> (flat, w3, b3)\n y = Mul (z, gain)\n logits = Add (y, meta)",
    )
    proto = make(text)
    image, meta = RNG.standard_normal((3, 16, 12)).astype(np.float32), np.arange(5.0)
    with pytest.raises(ModelError, match=r"extra inputs besides the picture: meta .*--input"):
        Explainer(proto, providers=["cpu"])
    with Explainer(proto, providers=["cpu"], inputs={"meta": meta, "gain": 2.0}) as explainer:
        plain = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        feeds = {"x": image[None], "meta": meta[None].astype(np.float32), "gain": np.array(2, np.float32)}
        logits = plain.run(None, feeds)[0][0]
        assert explainer(image, 4).target.logit == pytest.approx(logits[4], rel=1e-4)
        again = explainer.explain(image, [4], inputs={"meta": np.zeros(5)})[0]
        assert again.target.logit == pytest.approx(logits[4] - 4, rel=1e-4)
    for bad in ({"meta": meta, "gain": 1, "metta": 1}, {"meta": np.zeros(4), "gain": 1}, {"meta": ["a"], "gain": 1}):
        with pytest.raises(OptionError):
            Explainer(proto, providers=["cpu"], inputs=bad)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("N,4", r"'meta' has the shape \[1, 4\], which a single number does not fit; .* meta=0,0,0,0, or an array"),
        ("1,5", r"shape \[1, 5\].* 5 numbers, as in --input meta=0,0,0,\.\.\., or an array"),
        ("N,2,3", r"shape \[1, 2, 3\].* give an array \(\.npy file\)"),
        ("N,1", None),
        ("1", None),
    ],
)
def test_one_number_does_not_stand_for_several(make: Make, shape: str, message: str | None) -> None:
    text = CLASSIFIER.replace("(float[N,3,16,12] x)", f"(float[N,3,16,12] x, float[{shape}] meta)")
    text = text.replace(
        "logits = Gemm <transB=1> (flat, w3, b3)",
        "z = Gemm <transB=1> (flat, w3, b3)\n m = ReduceSum <keepdims=0> (meta)\n logits = Add (z, m)",
    )
    options = OpenOptions(inputs={"meta": np.array(1.0)}, providers=("cpu",))
    if message is None:
        rewrite(make(text), options)
    else:
        with pytest.raises(OptionError, match=message):
            rewrite(make(text), options)


def test_a_target_may_be_an_element_or_a_similarity_and_all_share_one_call(classifier: onnx.ModelProto) -> None:
    image, other = (RNG.standard_normal((3, 16, 12)).astype(np.float32) for _ in range(2))
    with Explainer(classifier, providers=["cpu"]) as explainer:
        by_class, by_element, like, itself = explainer.explain(
            image, [3, Element((3,)), Similarity(other, "logits"), Similarity(image, "logits")]
        )
        plain = ort.InferenceSession(classifier.SerializeToString(), providers=["CPUExecutionProvider"])
        a, b = (plain.run(None, {"x": x[None]})[0][0].astype(np.float64) for x in (image, other))
        assert by_element.target.logit == pytest.approx(by_class.target.logit, rel=1e-5)
        assert (by_element.target.kind, by_element.target.name) == ("elements", "logits[3]")
        assert like.score == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)
        assert itself.score == pytest.approx(1, abs=1e-5)
        with pytest.raises(TargetError, match="not inside"):
            explainer(image, Element((9,)))
        with pytest.raises(ModelError, match="no output 'nope'"):
            explainer(image, Element((0,), "nope"))
        for wrong in (Region(1), Box(1)):
            with pytest.raises(ModelError):
                explainer(image, wrong)
    with pytest.raises(Exception, match="closed"):
        explainer(image, Element((1,)))


def test_a_segmentation_is_explained_where_its_class_is_predicted(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3,8,6] x) => (float[N,5,8,6] mask)
    <float[8,3,3,3] w, float[5,8,1,1] u>
    {{
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
      f = Relu (c)
      mask = Conv (f, u)
    }}"""
    proto = make(text)
    image = RNG.standard_normal((3, 8, 6)).astype(np.float32)
    with Explainer(proto, providers=["cpu"]) as explainer:
        saliency = explainer(image)
        in_corner = explainer(image, Region(2, (0, 0, 3, 4)))
    plain = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    mask = plain.run(None, {"x": image[None]})[0][0]
    most = np.bincount(mask.argmax(axis=0).reshape(-1)).argmax()
    assert (saliency.target.index, saliency.target.kind) == (most, "region")
    assert saliency.target.logit == pytest.approx(mask[most][mask.argmax(axis=0) == most].mean(), rel=1e-4)
    assert in_corner.target.logit == pytest.approx(mask[2, :4, :3].mean(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("sides", [(32,), (4, 8, 6)])
def test_signals_and_volumes_are_explained(make: Make, sides: tuple[int, ...]) -> None:
    with Explainer(make(network_over(sides, channels=2, batch="1")), providers=["cpu"]) as explainer:
        saliency = explainer(RNG.standard_normal((2, *sides)).astype(np.float32))
    assert saliency.map.shape == sides
    assert saliency.raw.shape == tuple(s // 2 for s in sides)
    assert (saliency.map.min(), saliency.map.max()) == (0, 1)


@pytest.mark.parametrize(
    ("dims", "batched"), [(["N", 4], True), (["points", 4], False), (["unk__7", 4], True), ([4], False)]
)
def test_whether_an_extra_input_has_the_batch_of_the_image(dims: list[object], batched: bool) -> None:
    from onnxcam.network.extra_inputs import is_batched
    from onnxcam.surgeon import ir

    info = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 3, 4, 4]), ("m", dims), ("y", None))
    ]
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"])]
    model = ir.from_proto(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", info[:2], info[2:])))
    image, other = model.graph.inputs
    assert is_batched(other, image, None) is batched


def test_records_depend_on_the_weights_outside_the_file_and_on_the_inputs_values(
    classifier: onnx.ModelProto, tmp_path: Path
) -> None:
    path, prints = tmp_path / "m.onnx", set()
    for seed in (0, 1):
        changed = onnx.ModelProto()
        changed.CopyFrom(classifier)
        weights = np.random.default_rng(seed).standard_normal((6, 3, 3, 3)).astype(np.float32)
        changed.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w1"))
        onnx.save(changed, path, save_as_external_data=True, location="m.bin", size_threshold=0)
        prints.add(read_model(path).fingerprint)
    assert len(prints) == 2
    file = read_model(classifier)
    variants = [OpenOptions(inputs={"flag": np.array(v)}) for v in (True, False)] + [
        OpenOptions(layer="r1"),
        OpenOptions(),
        OpenOptions(output="logits"),
    ]
    assert len({first_opening._key(file, options, (16, 12)) for options in variants}) == 5


OTHER_OPTIONS = {
    "layout": "NHWC",
    "image_input": "x",
    "size_is_assumed": True,
    "layer": "r1",
    "output": "logits",
    "kind": Kind.CLASSES,
    "inputs": {"flag": np.array(True)},
    "providers": ("cuda",),
    "every_cell_counts": True,
    "engine": EngineOptions(half=True),
}
"""Another value of each option that a record depends on."""
OF_NO_RECORD = {
    "size",  # the size that is tried first is a part of the key of its own
    "threads", "batch", "cache", "limits",  # how it runs, not what it is
    "with_fill", "form",  # of the graph that is scored
}  # fmt: skip


def test_openings_with_different_options_share_no_record(classifier: onnx.ModelProto) -> None:
    names = {field.name for field in dataclasses.fields(OpenOptions)}
    assert set(OTHER_OPTIONS) | OF_NO_RECORD == names, "a new option: say whether a record depends on it"
    file = read_model(classifier)
    options = [OpenOptions(), *(dataclasses.replace(OpenOptions(), **{n: v}) for n, v in OTHER_OPTIONS.items())]
    keys = {first_opening._key(file, one, (16, 12)) for one in options} | {
        first_opening._key(file, OpenOptions(), (12, 16))
    }
    assert len(keys) == len(options) + 1


def test_wrong_arguments_are_errors_in_words(classifier: onnx.ModelProto) -> None:
    image = RNG.standard_normal((3, 16, 12)).astype(np.float32)
    for wrong in ("mask.png", (1, 2, 3), ("a", 1, 2, 3), 5):
        with pytest.raises(TargetError, match="region"):
            Region(2, where=wrong)  # type: ignore[arg-type]
    assert Region(2, where=[0, 1, 2, 3]).where == (0.0, 1.0, 2.0, 3.0)  # type: ignore[arg-type]
    assert Element(3).index == (3,)  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="whole numbers"):
        Element(("a",))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="score_cam"):
        Explainer(classifier, 5)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="did you mean score-cam"):
        Explainer(classifier, "score-camm")
    with pytest.raises(OptionError, match="by name"):
        Explainer(classifier, inputs=[1, 2])  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="not NoneType"):
        Explainer(None)  # type: ignore[arg-type]
    with Explainer(classifier, providers="cpu") as explainer:
        assert explainer.explain(image, 3)[0].target.index == 3  # type: ignore[arg-type]


def test_a_model_that_gives_nan_is_not_called_verified(classifier: onnx.ModelProto) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(classifier)
    bias = next(t for t in broken.graph.initializer if t.name == "b3")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(5, np.nan, np.float32), "b3"))
    opened = open_model(read_model(broken), OpenOptions(providers=("cpu",)))
    assert "NOT verified" in opened.batching.reason
    assert "verified" in open_model(read_model(classifier), OpenOptions(providers=("cpu",))).batching.reason


@pytest.mark.parametrize("tail", TAILS)
def test_a_rewritten_detector_keeps_its_own_outputs(tail: str) -> None:
    proto = detector(tail)
    rewritten = rewrite(proto, OpenOptions(providers=("cpu",)))
    image = {"x": picture()}
    before, after = (
        ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, image)
        for data in (proto.SerializeToString(), rewritten.data)
    )
    for one, other in zip(before, after, strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert len(after) == len(before) + 1
    assert after[-1].shape[2:] == rewritten.anatomy.features.grid


def test_a_rewritten_model_of_any_size_declares_no_grid(make: Make) -> None:
    text = CLASSIFIER.replace("float[N,3,16,12]", "float[N,3,H,W]")
    rewritten = rewrite(make(text, check=False), OpenOptions(size=(16, 12), providers=("cpu",)))
    outputs = {
        o.name: o.shape for o in ort.InferenceSession(rewritten.data, providers=["CPUExecutionProvider"]).get_outputs()
    }
    assert outputs["features"][:2] == ["N", 8]
    assert not any(isinstance(d, int) for d in outputs["features"][2:])
