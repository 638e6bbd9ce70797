"""Sides that an export declares dynamic although few sizes run: the size is found by trying."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_models import filled

from onnxcam import Explainer
from onnxcam.errors import ModelError, PresetError
from onnxcam.types import NoteCode, Source

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
TOKENS = (
    HEAD
    + """net (float[N,3,H,W] x) => (float[N,5] logits)
<float[8,3,16,16] w, POSITIONS, float[8,5] v, int64[3] flat = {0, 8, -1}>
{{
  c = Conv <strides=[16,16]> (x, w)
  r = Reshape (c, flat)
  t = Transpose <perm=[0,2,1]> (r)
  {EMBED}
  f = Relu (e)
  p = ReduceMean <axes=[1], keepdims=0> (f)
  logits = MatMul (p, v)
}}"""
)
MAPS = (
    HEAD
    + """net (float[N,3,SIDES] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[8,8,3,3] u, OTHER>
{{
  c = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w)
  m = Relu (c)
  d = Conv <pads=[1,1,1,1], strides=[2,2]> (m, u)
  f = Relu (d)
  {TAIL}
}}"""
)


def tokens(positions: str, embed: str) -> str:
    return TOKENS.replace("POSITIONS", positions).replace("{EMBED}", embed).replace("{{", "{").replace("}}", "}")


def maps(other: str, tail: str, sides: str = "H,W") -> str:
    text = MAPS.replace("SIDES", sides).replace("OTHER", other)
    return text.replace("{TAIL}", tail).replace("{{", "{").replace("}}", "}")


CASES: dict[str, tuple[str, tuple[int, int]]] = {
    "positions": (tokens("float[1,64,8] pos", "e = Add (t, pos)"), (128, 128)),
    "positions without batch": (tokens("float[36,8] pos", "e = Add (t, pos)"), (96, 96)),
    "positions and a class token": (
        tokens(
            "float[1,26,8] pos, float[1,1,8] token, int64[3] form = {1, 1, 1}",
            "n = Shape <start=0, end=1> (t) o = Constant <value_ints=[1,1]> () s = Concat <axis=0> (n, o)"
            " many = Expand (token, s) j = Concat <axis=1> (many, t) e = Add (j, pos)",
        ),
        (80, 80),
    ),
    "a table of positions": (
        tokens(
            "float[49,8] table, int64[49] order = {" + ", ".join(map(str, range(49))) + "}",
            "g = Gather (table, order) e = Add (t, g)",
        ),
        (112, 112),
    ),
    "a linear layer over a flattened map": (
        maps("float[200,5] v", "p = Flatten (f) logits = MatMul (p, v)"),
        (20, 20),
    ),
    "a flattening that would mix the batch": (
        maps("float[392,5] v, int64[2] rows = {-1, 392}", "p = Reshape (f, rows) logits = MatMul (p, v)"),
        (28, 28),
    ),
    "a grid of positions that is no square": (
        maps("float[1,8,16,8] pos, float[8,5] v",
             "e = Add (f, pos) q = Relu (e) p = ReduceMean <axes=[2,3], keepdims=0> (q) logits = MatMul (p, v)"),
        (64, 32),
    ),
    "blocks that must divide the sides": (
        maps("float[5,648,1,1] b, float[5,5] v",
             "s = SpaceToDepth <blocksize=9> (f) k = Conv (s, b) q = Relu (k)"
             " p = ReduceMean <axes=[2,3], keepdims=0> (q) logits = MatMul (p, v)"),
        (252, 252),
    ),
    "one dynamic side": (
        maps("float[1600,5] v", "p = Flatten (f) logits = MatMul (p, v)", "32,W"),
        (32, 100),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_size_that_runs_is_found_and_noted(name: str) -> None:
    text, size = CASES[name]
    with Explainer(filled(text, check=False), providers=["cpu"]) as explainer:
        assert explainer.size == size
        assert explainer.size_origin.source is Source.MODEL
        saliency = explainer(np.random.default_rng(0).integers(0, 255, (90, 70, 3)).astype(np.uint8), 1)
    assert saliency.map.shape == size
    notes = [note.text for note in saliency.provenance.notes if note.code is NoteCode.SIZE_TRIED]
    assert ["x".join(map(str, size)) in text for text in notes] == [True]


def test_the_size_is_found_again_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path))
    model = filled(CASES["positions"][0])
    for _ in range(2):
        with Explainer(model, providers=["cpu"]) as explainer:
            assert explainer.size == (128, 128)
            assert [note.code for note in explainer._heads.first.notes] == [NoteCode.SIZE_TRIED]


def test_a_size_that_the_caller_chose_is_never_replaced() -> None:
    model = filled(CASES["positions"][0])
    with pytest.raises(PresetError, match=r"does not run on an input of 96x96.* --size 128x128"):
        Explainer(model, size=(96, 96), providers=["cpu"])
    with Explainer(model, size=(256, 64), providers=["cpu"]) as explainer:
        assert explainer.size == (256, 64)


def test_a_model_that_runs_at_no_size_says_so_in_one_sentence() -> None:
    model = filled(tokens("float[1,67,8] pos", "e = Add (t, pos)"))
    with pytest.raises(ModelError, match="give the size that it was made for with --size") as raised:
        Explainer(model, providers=["cpu"])
    assert "onnxruntime" not in str(raised.value)


def test_a_model_that_takes_any_size_keeps_the_usual_one() -> None:
    text = maps("float[8,5] v", "p = ReduceMean <axes=[2,3], keepdims=0> (f) logits = MatMul (p, v)")
    model: onnx.ModelProto = filled(text)
    with Explainer(model, providers=["cpu"]) as explainer:
        assert (explainer.size, explainer.size_origin.source) == ((224, 224), Source.ASSUMED)
