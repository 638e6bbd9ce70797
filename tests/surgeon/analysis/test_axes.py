"""Axes after reshapes, attention and pooling, each for one small case."""

import pytest
from small_models import Make

from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.axes import Axes, Folded, Tokens, reshaped
from onnxcam.surgeon.analysis.locate import locate
from onnxcam.types import NoteCode

NCHW: Axes = ("N", "C", "H", "W")


@pytest.mark.parametrize(
    ("axes", "before", "after", "expected"),
    [
        (NCHW, (1, 8, 4, 3), (1, 8, 12), ("N", "C", Tokens((4, 3)))),
        (NCHW, (1, 8, 4, 3), (1, 96), ("N", None)),
        (NCHW, (1, 8, 4, 3), (8, 4, 3), ("C", "H", "W")),
        (("N", Tokens((4, 3)), "C"), (1, 12, 8), (1, 4, 3, 8), ("N", "H", "W", "C")),
        (("N", Tokens((4, 3), 1), "C"), (1, 13, 8), (1, 13, 2, 4), ("N", Tokens((4, 3), 1), None, None)),
        (NCHW, (1, 8, 1, 48), (1, 8, 1, 48), NCHW),
        (NCHW, (1, 8, 4, 3), (1, 2, 4, 4, 3), ("N", None, None, "H", "W")),
        (NCHW, (2, 8, 1, 1), (2, 8), ("N", "C")),
    ],
)
def test_a_reshape_keeps_the_axes_that_it_does_not_mix(
    axes: Axes, before: tuple[int, ...], after: tuple[int, ...], expected: Axes
) -> None:
    result = reshaped(axes, before, after)
    assert result is not None
    assert tuple(None if isinstance(a, Folded) else a for a in result) == expected


def test_with_unknown_sizes_axes_are_kept_only_where_the_rank_stays() -> None:
    assert reshaped(NCHW, (None, 8, 4, 3), (None, 8, 4, 3)) == NCHW
    assert reshaped(NCHW, (None, 8, None, 3), (None, 8, 3)) is None


def test_merged_axes_are_restored_by_a_reshape_to_the_same_sizes() -> None:
    folded = reshaped(("N", "C", "H", "W"), (1, 8, 4, 3), (1, 2, 48))
    assert folded is not None
    assert folded[0] == "N"
    assert isinstance(folded[2], Folded)
    assert reshaped(folded, (1, 2, 48), (1, 8, 4, 3)) == ("N", "C", "H", "W")
    assert reshaped(folded, (1, 2, 48), (1, 8, 3, 4)) == ("N", None, None, None)


def test_merged_axes_are_not_restored_after_a_permutation() -> None:
    blocks = reshaped(("N", "C", "H", "W"), (1, 8, 4, 6), (1, 8, 2, 2, 6))
    assert blocks is not None
    assert reshaped(blocks, (1, 8, 2, 2, 6), (1, 8, 4, 6)) == ("N", "C", "H", "W")
    swapped = (*blocks[:2], blocks[3], blocks[2], blocks[4])
    assert reshaped(swapped, (1, 8, 2, 2, 6), (1, 8, 4, 6)) == ("N", "C", None, "W")


def test_a_batch_axis_that_was_removed_is_recognised_when_it_is_back() -> None:
    tokens = Tokens((2, 2))
    joined = reshaped(("N", tokens, "C"), (1, 4, 8), (4, 8))
    assert joined == (tokens, "C")
    assert reshaped(joined, (4, 8), (1, 4, 8)) == ("N", tokens, "C")


def test_pooled_tokens_are_no_grid(make: Make) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,8,6] x) => (float[N,5] logits)
    <float[8,3,3,3] w, float[8,5] v, int64[3] s = {0, 8, 12}>
    {
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
      f = Relu (c)
      tokens = Reshape (f, s)
      g = GlobalAveragePool (tokens)
      p = Flatten (g)
      logits = MatMul (p, v)
    }"""
    assert locate(ir.from_proto(make(text))).features.tensor == "f"


def test_attention_keeps_the_tokens_of_its_queries(make: Make) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,8,6] x) => (float[N,5] logits)
    <float[8,3,3,3] w, float[8,8] q, float[8,8] k, float[8,5] v, int64[3] s = {0, 8, 12}>
    {
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
      flat = Reshape (c, s)
      tokens = Transpose <perm=[0,2,1]> (flat)
      queries = MatMul (tokens, q)
      keys = MatMul (tokens, k)
      turned = Transpose <perm=[0,2,1]> (keys)
      dots = MatMul (queries, turned)
      soft = Softmax <axis=2> (dots)
      mixed = MatMul (soft, tokens)
      p = ReduceMean <axes=[1], keepdims=0> (mixed)
      logits = MatMul (p, v)
    }"""
    assert locate(ir.from_proto(make(text))).features.tensor == "mixed"


def test_many_layers_after_the_features_give_a_note(make: Make) -> None:
    layers = "".join(f"h{i} = MatMul ({'p' if i == 0 else f'h{i - 1}'}, u)\n" for i in range(4))
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,8,6] x) => (float[N,5] logits)
    <float[8,3,3,3] w, float[8,8] u, float[8,5] v>
    {{
      f = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      {layers} logits = MatMul (h3, v)
    }}"""
    (note,) = [n for n in locate(ir.from_proto(make(text))).notes if n.code is NoteCode.FEATURES_EARLY]
    assert "5 layers with weights still follow" in note.text
