"""Sequences: a class at a step of (T,N,C), (N,T,C) and (N,C,T), against onnxruntime's own numbers."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from command import onnxcam
from PIL import Image as Pillow
from small_models import filled

from onnxcam import Explainer, Preset, Timestep
from onnxcam.errors import OptionError, TargetError
from onnxcam.explainer.targets.timestep import parse_steps
from onnxcam.outputs.record import record
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import NoteCode

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (16, 20, 3)).astype(np.uint8)
IMAGE = ((PHOTOGRAPH / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32)
STEPS, CLASSES = 10, 7

RECOGNISER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[B,3,16,20] x) => (float[{shape}] y)
<float[6,3,3,3] w, float[7,6,1,1] v, float[1,2,4] e>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  k = Conv <kernel_shape=[1,1]> (f, v)
  r = ReduceMean <axes=[2], keepdims=0> (k)
  {end}
}}"""
ENDS = {
    "time-first": ("10,B,7", "y = Transpose <perm=[2,0,1]> (r)", (0, 2)),
    "time-first, log-softmax": ("10,B,7", "t = Transpose <perm=[2,0,1]> (r) y = LogSoftmax <axis=2> (t)", (0, 2)),
    "batch-first": ("B,10,7", "y = Transpose <perm=[0,2,1]> (r)", (1, 2)),
    "batch-first, softmax": ("B,10,7", "t = Transpose <perm=[0,2,1]> (r) y = Softmax <axis=2> (t)", (1, 2)),
    "classes-first": ("B,7,10", "y = Identity (r)", (2, 1)),
    "height of one": ("B,7,1,10", "y = ReduceMean <axes=[2], keepdims=1> (k)", (3, 1)),
}
RECURRENT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[B,3,16,20] x) => (float[{shape}] y)
<float[6,3,3,3] w, float[1,20,6] iw, float[1,20,5] rw, float[5,7] v>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  r = ReduceMean <axes=[2], keepdims=0> (f)
  t = Transpose <perm=[2,0,1]> (r)
  o, h, s = LSTM <hidden_size=5> (t, iw, rw)
  a = Constant <value_ints=[1]> ()
  q = Squeeze (o, a)
  {end}
}}"""
LOOPS = {
    "time-first": ("10,B,7", "y = MatMul (q, v)", (0, 2)),
    "batch-first": ("B,10,7", "p = Transpose <perm=[1,0,2]> (q) y = MatMul (p, v)", (1, 2)),
}


def table_of(model: onnx.ModelProto, axes: tuple[int, int]) -> np.ndarray:
    """(steps, classes) of the file's own output."""
    (output,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": IMAGE})
    return np.moveaxis(output, axes, (0, 1)).reshape(STEPS, CLASSES)


MODELS = {
    **{name: (filled(RECOGNISER.format(shape=s, end=e)), axes) for name, (s, e, axes) in ENDS.items()},
    **{f"LSTM, {name}": (filled(RECURRENT.format(shape=s, end=e)), axes) for name, (s, e, axes) in LOOPS.items()},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_step_and_class_is_reached_and_has_the_number_of_the_output(name: str) -> None:
    model, axes = MODELS[name]
    table = table_of(model, axes)
    targets = [Timestep(t, c) for t in (0, 5, -1) for c in range(CLASSES)]
    with Explainer(model, "eigen-cam", preset=PLAIN) as explainer:
        logits = explainer.anatomy.logits
        scored = [s.target for s in explainer.explain(PHOTOGRAPH, targets)]
        best = [explainer(PHOTOGRAPH, Timestep(t)).target.index for t in range(STEPS)]
    assert (logits.kind, logits.steps, logits.classes) == (Kind.SEQUENCE, STEPS, CLASSES)
    assert [(t.step, t.index) for t in scored[:8]] == [*((0, c) for c in range(7)), (5, 0)]
    assert scored[-1].step == STEPS - 1
    rows = table[[0, 5, 9]]
    if logits.activation == "softmax":
        np.testing.assert_allclose([t.probability for t in scored], rows.ravel(), rtol=1e-4)
    elif logits.activation == "log_softmax":
        np.testing.assert_allclose([t.probability for t in scored], np.exp(rows).ravel(), rtol=1e-4)
    else:
        np.testing.assert_allclose([t.logit for t in scored], rows.ravel(), rtol=1e-4, atol=1e-5)
        shares = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
        np.testing.assert_allclose([t.probability for t in scored], shares.ravel(), rtol=1e-4)
    assert best == table.argmax(1).tolist()


@pytest.mark.parametrize("name", ["time-first", "batch-first", "LSTM, time-first"])
def test_masks_are_scored_at_the_step(name: str) -> None:
    """The score of every feature map's mask by onnxcam is that of the masked picture in the file's own graph."""
    model, axes = MODELS[name]
    with Explainer(model, "score-cam", preset=PLAIN, batch=3) as explainer:
        saliency = explainer(PHOTOGRAPH, Timestep(4, 2))
        features = explainer.anatomy.features.tensor
    session = ort.InferenceSession(with_output(model, features))
    (maps,) = session.run([features], {"x": IMAGE})
    weights = [masked_probability(model, axes, m) for m in maps[0]]
    expected = np.tensordot(weights, maps[0], 1)
    assert np.corrcoef(saliency.raw.ravel(), expected.ravel())[0, 1] >= 0.9999


def with_output(model: onnx.ModelProto, name: str) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return copy.SerializeToString()


def masked_probability(model: onnx.ModelProto, axes: tuple[int, int], m: np.ndarray) -> float:
    big = np.asarray(Pillow.fromarray(m).resize((20, 16), Pillow.Resampling.BILINEAR))
    big = (big - big.min()) / (big.max() - big.min() or 1)
    (output,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": IMAGE * big.astype(np.float32)})
    row = np.moveaxis(output, axes, (0, 1)).reshape(STEPS, CLASSES)[4]
    return float((np.exp(row) / np.exp(row).sum())[2])


def test_by_default_all_steps_are_read_without_blanks() -> None:
    model, axes = MODELS["time-first"]
    table = table_of(model, axes)
    best = table.argmax(1)
    labels = [f"l{i}" for i in range(CLASSES)]
    labels[best[0]] = "<blank>"
    with Explainer(model, "eigen-cam", preset=PLAIN, labels=labels) as explainer:
        target = explainer(PHOTOGRAPH).target
        again = explainer(PHOTOGRAPH, target).target
    kept = [t for t in range(STEPS) if best[t] != best[0]] or list(range(STEPS))
    assert target.logit == pytest.approx(table.max(1)[kept].mean(), rel=1e-4)
    assert (target.step, target.name) == ("all", "all steps")
    assert again == target


def test_a_class_is_scored_over_the_steps_where_it_is_the_best_one() -> None:
    model, axes = MODELS["time-first"]
    table = table_of(model, axes)
    best = table.argmax(1)
    with Explainer(model, "eigen-cam", preset=PLAIN) as explainer:
        saliency = explainer(PHOTOGRAPH, int(best[3]))
        assert saliency.target.logit == pytest.approx(table[best == best[3], best[3]].mean(), rel=1e-4)
        assert record(saliency)["target"]["step"] is None
        assert explainer(PHOTOGRAPH, saliency.target).target == saliency.target
        absent = next(c for c in range(CLASSES) if c not in best)
        with pytest.raises(TargetError, match="at no step"):
            explainer(PHOTOGRAPH, absent)
        with pytest.raises(TargetError, match="the steps 0 to 9"):
            explainer(PHOTOGRAPH, Timestep(10))


def test_the_command_line_takes_a_step_a_range_and_all(tmp_path: Path) -> None:
    onnx.save(MODELS["time-first"][0], tmp_path / "net.onnx")
    Pillow.fromarray(PHOTOGRAPH).save(tmp_path / "a.png")
    done = onnxcam("explain", "net.onnx", "a.png", "-m", "eigen-cam", "--timestep", "2-4", "--json", cwd=tmp_path)
    assert [r["target"]["step"] for r in json.loads(done.stdout)] == [2, 3, 4], done.stderr
    done = onnxcam("explain", "net.onnx", "a.png", "-m", "eigen-cam", cwd=tmp_path)
    assert "sequence      all steps, mean probability" in done.stdout, done.stderr
    assert parse_steps("all") == [None]
    for text in ("x", "5-2", "1-", ""):
        with pytest.raises(OptionError, match="timestep"):
            parse_steps(text)


def test_a_table_of_boxes_is_no_sequence() -> None:
    """Class scores with a softmax beside four sides for each box, as SSD's."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    ssd (float[B,3,16,12] x) => (float[B,12,5] scores, float[B,12,4] boxes)
    <float[8,3,3,3] w, float[5,8,1,1] v, float[4,8,1,1] u>
    {
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
      f = Relu (c)
      k = Conv (f, v)
      l = Conv (f, u)
      s = Constant <value_ints=[0,5,12]> ()
      d = Constant <value_ints=[0,4,12]> ()
      a = Reshape (k, s)
      b = Reshape (l, d)
      t = Transpose <perm=[0,2,1]> (a)
      scores = Softmax <axis=2> (t)
      boxes = Transpose <perm=[0,2,1]> (b)
    }"""
    with Explainer(filled(text), "grad-cam", preset=PLAIN) as explainer:
        assert explainer.anatomy.logits.kind is Kind.BOXES


@pytest.mark.parametrize("blank", [0, CLASSES - 1])
def test_a_class_that_may_be_the_blank_is_doubted_unless_labels_name_it(blank: int) -> None:
    model, _ = MODELS["time-first"]
    shifted = onnx.ModelProto()
    shifted.CopyFrom(model)
    bias = np.eye(CLASSES, dtype=np.float32)[blank] * 50
    shifted.graph.initializer.append(onnx.numpy_helper.from_array(bias, "blank"))
    shifted.graph.node[-1].output[0] = "scores"
    shifted.graph.node.append(onnx.helper.make_node("Add", ["scores", "blank"], ["y"]))
    names = [f"c{i}" for i in range(CLASSES)]
    names[blank] = "blank"
    with Explainer(shifted, "eigen-cam", preset=PLAIN) as explainer:
        notes = {n.code: n.text for n in explainer(PHOTOGRAPH).provenance.notes}
    assert notes[NoteCode.MAY_BE_BLANK].startswith(f"class {blank} is the best one at {STEPS} of {STEPS} steps")
    with Explainer(shifted, "eigen-cam", preset=PLAIN, labels=names) as explainer:
        assert NoteCode.MAY_BE_BLANK not in [n.code for n in explainer(PHOTOGRAPH).provenance.notes]
