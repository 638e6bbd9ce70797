"""Axes after reshapes, attention and pooling, each for one small case."""

import pytest
from small_models import Make

from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.axes import propagate
from onnxcam.surgeon.analysis.factors import (
    Axes,
    Axis,
    Factor,
    Factored,
    factors_of,
    is_spatial,
    named,
    reshaped,
    tokens,
)
from onnxcam.surgeon.analysis.locate import locate
from onnxcam.surgeon.shape_inference import infer_shapes
from onnxcam.types import NoteCode

NCHW: Axes = ("N", "C", "H", "W")


@pytest.mark.parametrize(
    ("axes", "before", "after", "expected"),
    [
        (NCHW, (1, 8, 4, 3), (1, 8, 12), ("N", "C", tokens((4, 3)))),
        (NCHW, (1, 8, 4, 3), (1, 96), ("N", None)),
        (NCHW, (1, 8, 4, 3), (8, 4, 3), (None, "H", "W")),
        (("N", tokens((4, 3)), "C"), (1, 12, 8), (1, 4, 3, 8), ("N", "H", "W", "C")),
        (("N", tokens((4, 3), 1), "C"), (1, 13, 8), (1, 13, 2, 4), ("N", tokens((4, 3), 1), None, None)),
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
    assert tuple(None if isinstance(a, Factored) and not is_grid(a) else a for a in result) == expected


def is_grid(axis: Axis) -> bool:
    """Whether the axis lists cells and nothing else."""
    return is_spatial(axis) and isinstance(axis, Factored) and all(f.letter in "DHW" for f in axis.factors)


def test_with_unknown_sizes_axes_are_kept_only_where_the_rank_stays() -> None:
    assert reshaped(NCHW, (None, 8, 4, 3), (None, 8, 4, 3)) == NCHW
    assert reshaped(NCHW, (None, 8, None, 3), (None, 8, 3)) is None


def test_merged_axes_are_restored_by_a_reshape_to_the_same_sizes() -> None:
    folded = reshaped(("N", "C", "H", "W"), (1, 8, 4, 3), (1, 2, 48))
    assert folded is not None
    assert folded[0] == "N"
    assert reshaped(folded, (1, 2, 48), (1, 8, 4, 3)) == ("N", "C", "H", "W")
    mixed = reshaped(folded, (1, 2, 48), (1, 8, 3, 4))
    assert mixed is not None
    assert not any(is_spatial(a) for a in mixed[2:])


def test_an_axis_that_was_split_is_restored_unless_its_parts_have_changed_places() -> None:
    blocks = reshaped(("N", "C", "H", "W"), (1, 8, 4, 6), (1, 8, 2, 2, 6))
    outer, inner = Factored((Factor("H", 2, 2, 4),)), Factored((Factor("H", 2, 1, 4),))
    assert blocks == ("N", "C", outer, inner, "W")
    assert reshaped(blocks, (1, 8, 2, 2, 6), (1, 8, 4, 6)) == ("N", "C", "H", "W")
    swapped = reshaped(("N", "C", inner, outer, "W"), (1, 8, 2, 2, 6), (1, 8, 4, 6))
    assert swapped == ("N", "C", Factored((Factor("H", 2, 1, 4), Factor("H", 2, 2, 4))), "W")


def test_a_batch_axis_that_was_merged_comes_back_where_it_was() -> None:
    cells = tokens((2, 2))
    joined = reshaped(("N", cells, "C"), (1, 4, 8), (4, 8))
    assert joined == (Factored((Factor("N", 1, 1, 1), *cells.factors)), "C")
    assert reshaped(joined, (4, 8), (1, 4, 8)) == ("N", cells, "C")
    assert reshaped((cells, "C"), (4, 8), (1, 4, 8)) == ("N", cells, "C")  # as of the first image, taken by its index


@pytest.mark.parametrize("batch", [1, 2])
def test_windows_are_cut_and_joined_again(batch: int) -> None:
    n, windows = batch, (batch, 2, 3, 2, 2, 8)  # N, rows of windows, row in a window, columns, column in a window, C
    cut = reshaped(("N", "H", "W", "C"), (n, 6, 4, 8), windows)
    assert cut is not None
    swapped = (cut[0], cut[1], cut[3], cut[2], cut[4], cut[5])
    listed = reshaped(swapped, (n, 2, 2, 3, 2, 8), (n * 4, 6, 8))
    assert listed is not None
    assert [f.letter for a in listed[:2] if isinstance(a, Factored) for f in a.factors] == ["N", "H", "W", "H", "W"]
    again = reshaped(listed, (n * 4, 6, 8), (n, 2, 2, 3, 2, 8))
    assert again == swapped
    assert reshaped(cut, windows, (n, 6, 4, 8)) == ("N", "H", "W", "C")


def test_tokens_in_the_order_of_columns_become_a_grid_on_its_side() -> None:
    listed = reshaped(("N", "C", "W", "H"), (1, 8, 3, 3), (1, 8, 9))
    assert listed == ("N", "C", tokens((3, 3), letters="WH"))
    assert reshaped(listed, (1, 8, 9), (1, 8, 3, 3)) == ("N", "C", "W", "H")


def test_what_is_left_after_pooling_inside_windows_is_a_coarser_grid() -> None:
    cut = reshaped(("N", "C", "H", "W"), (1, 8, 4, 6), (1, 8, 2, 2, 3, 2))
    assert cut is not None
    assert named([factors_of(a, d) for a, d in zip([cut[i] for i in (0, 1, 2, 4)], (1, 8, 2, 3), strict=True)]) == (
        "N", "C", "H", "W",
    )  # fmt: skip


def test_channels_that_become_cells_make_a_finer_grid() -> None:
    cut = reshaped(("N", "C", "H", "W"), (1, 8, 4, 3), (1, 2, 2, 2, 4, 3))
    assert cut is not None
    shuffled = tuple(cut[i] for i in (0, 1, 4, 2, 5, 3))
    assert reshaped(shuffled, (1, 2, 4, 2, 3, 2), (1, 2, 8, 6)) == ("N", "C", "H", "W")


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


def test_a_grid_whose_axes_are_assumed_is_noted(make: Make) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[1,3,8,8] x) => (float[1,5] logits)
    <float[8,3,3,3] u, float[8,8,3,3] w, float[8,5] v, int64[1,8,8,8,4] at = {%s}>
    {
      first = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, u)
      moved = GatherND (first, at)
      f = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (moved, w)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      logits = MatMul (p, v)
    }"""
    turned = [(0, c, j, i) for c in range(8) for i in range(8) for j in range(8)]
    anatomy = locate(ir.from_proto(make(text % ", ".join(str(n) for place in turned for n in place))))
    assert anatomy.features.tensor == "f"
    (note,) = [n for n in anatomy.notes if n.code is NoteCode.GRID_ASSUMED]
    assert "the map may lie on its side" in note.text


@pytest.mark.parametrize(
    ("node", "order"),
    [
        ('y = Einsum <equation="nchw->nwhc"> (x)', "NWHC"),
        ("i = Constant <value_ints=[5,4,3,2,1,0]> ()\n y = Gather <axis=3> (x, i)", "NCH-"),
        ("i = Constant <value_ints=[2,3,4,5,0,1]> ()\n y = Gather <axis=3> (x, i)", "NCH-"),
        ("i = Constant <value_ints=[2,0,3,5,1,4]> ()\n y = Gather <axis=3> (x, i)", "NCH"),
        ("y = Transpose (x)", "WHCN"),
        ("k = Constant <value_ints=[4]> ()\n y, z = TopK <axis=2> (x, k)", "NC?W"),
    ],
)
def test_operators_that_move_cells(make: Make, node: str, order: str) -> None:
    model = ir.from_proto(
        make(
            f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[1,3,4,6] x) => (float y) {{ {node} }}""",
            check=False,
        )
    )
    axes = propagate(model, {**infer_shapes(model, {"x": (1, 3, 4, 6)})}, {"x": NCHW})["y"]
    letters = "".join(a if isinstance(a, str) else "-" if isinstance(a, Factored) else "?" for a in axes)
    assert letters.rstrip("?") == order.rstrip("?")
