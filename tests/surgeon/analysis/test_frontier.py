"""Each graph loses its grid in another way; the expected feature tensor is read off the text by eye."""

import numpy as np
import pytest
from located import BODY, HEAD, LINEAR, SIGNATURE, anatomy_of
from small_models import Make

from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import NoteCode


@pytest.mark.parametrize(
    "pooling",
    [
        "g = GlobalAveragePool (f)\n p = Flatten (g)",
        "g = GlobalMaxPool (f)\n p = Flatten (g)",
        "p = ReduceMean <axes=[2,3], keepdims=0> (f)",
        "g = ReduceMean <axes=[3], keepdims=0> (f)\n p = ReduceMean <axes=[2], keepdims=0> (g)",
        "s = Constant <value_ints=[0,8,12]> ()\n g = Reshape (f, s)\n p = ReduceMean <axes=[2], keepdims=0> (g)",
        "g = AveragePool <kernel_shape=[4,3]> (f)\n p = Flatten (g)",
    ],
)
def test_the_feature_tensor_is_what_enters_the_pooling(make: Make, pooling: str) -> None:
    anatomy = anatomy_of(make(f"{HEAD}{SIGNATURE}{LINEAR}{{{BODY}{pooling}\n logits = MatMul (p, v)\n}}"))
    assert anatomy.features.tensor == "f"
    assert anatomy.features.shape == (1, 8, 4, 3)
    assert anatomy.features.layout == "NCHW"
    assert anatomy.logits.tensor == "logits"


def test_a_flattened_map_is_the_feature_tensor(make: Make) -> None:
    anatomy = anatomy_of(
        make(f"{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[96,5] v>{{{BODY} p = Flatten (f)\n logits = MatMul (p, v)\n}}")
    )
    assert anatomy.features.tensor == "f"
    assert "Flatten" in anatomy.features.reason


def test_the_features_are_the_map_before_attention_pooling(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[1,8,1,1] a, float[8,5] v, int64[3] s = {{0, 1, 12}}, int64[4] t = {{0, 1, 4, 3}}>
    {{{BODY}
      q = Conv (f, a)
      flat = Reshape (q, s)
      weights = Softmax <axis=2> (flat)
      map = Reshape (weights, t)
      weighed = Mul (f, map)
      p = ReduceMean <axes=[2,3], keepdims=0> (weighed)
      logits = MatMul (p, v)
    }}"""
    assert anatomy_of(make(text)).features.tensor == "f"


def test_a_gate_over_channels_is_not_taken_for_attention_pooling(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[8,8,1,1] a, float[8,5] v>
    {{{BODY}
      squeezed = GlobalAveragePool (f)
      excited = Conv (squeezed, a)
      gate = Sigmoid (excited)
      gated = Mul (f, gate)
      p = ReduceMean <axes=[2,3], keepdims=0> (gated)
      logits = MatMul (p, v)
    }}"""
    assert anatomy_of(make(text)).features.tensor == "gated"


def test_the_features_are_the_maps_before_a_class_map(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[5,8,1,1] v>
    {{{BODY}
      classes = Conv (f, v)
      r = Relu (classes)
      g = GlobalAveragePool (r)
      logits = Flatten (g)
    }}"""
    anatomy = anatomy_of(make(text))
    assert anatomy.features.tensor == "f"
    assert "one map for each class" in anatomy.features.reason


def test_nhwc_features_behind_a_transpose_keep_their_axes(make: Make) -> None:
    text = f"""{HEAD}net (float[N,8,6,3] x) => (float[N,5] logits)
    <float[8,3,3,3] w, float[8,5] v>
    {{
      n = Transpose <perm=[0,3,1,2]> (x)
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (n, w)
      b = Transpose <perm=[0,2,3,1]> (c)
      f = Relu (b)
      p = ReduceMean <axes=[1,2], keepdims=0> (f)
      logits = MatMul (p, v)
    }}"""
    anatomy = anatomy_of(make(text))
    assert anatomy.image.layout == "NHWC"
    assert (anatomy.features.tensor, anatomy.features.layout) == ("f", "NHWC")
    assert anatomy.features.shape == (1, 4, 3, 8)


def test_a_map_that_lost_its_batch_axis_is_not_taken(make: Make) -> None:
    text = f"""{HEAD}net (float[1,3,8,6] x) => (float[1,5] logits)
    <float[8,3,3,3] w, float[8,5] v, int64 zero = {{0}}, int64[2] row = {{1, 8}}>
    {{{BODY}
      first = Gather <axis=0> (f, zero)
      p = ReduceMean <axes=[1,2], keepdims=0> (first)
      r = Reshape (p, row)
      logits = MatMul (r, v)
    }}"""
    assert anatomy_of(make(text)).features.tensor == "f"


def test_tokens_form_a_grid_without_the_class_token(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[1,1,8] token, float[8,8] mix, float[8,5] v, int64[3] s = {{0, 8, 12}}, int64 zero = {{0}}>
    {{{BODY}
      flat = Reshape (f, s)
      cells = Transpose <perm=[0,2,1]> (flat)
      shape = Shape (cells)
      one = Constant <value_ints=[1,1,1]> ()
      tokens = Concat <axis=1> (cells, token)
      mixed = MatMul (tokens, mix)
      sum = Add (tokens, mixed)
      chosen = Gather <axis=1> (sum, zero)
      logits = MatMul (chosen, v)
    }}"""
    text = text.replace("float[N,", "float[1,").replace(
        "Concat <axis=1> (cells, token)", "Concat <axis=1> (token, cells)"
    )
    features = anatomy_of(make(text)).features
    assert features.tensor == "sum"
    assert features.layout == "NTC (T=4x3)"
    array = np.arange(13 * 8, dtype=np.float32).reshape(1, 13, 8)
    maps = features.to_channels(array)
    assert maps.shape == (1, 8, 4, 3)
    np.testing.assert_array_equal(maps[0, 2].ravel(), array[0, 1:, 2])


def test_channels_that_happen_to_be_as_many_as_classes_make_no_class_map(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3,8,6] x) => (float[N,8] logits)
    <float[6,3,3,3] w, float[8,6,3,3] u, float[8,8] v>
    {{
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
      r = Relu (c)
      d = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r, u)
      s = Relu (d)
      p = ReduceMean <axes=[2,3], keepdims=0> (s)
      logits = MatMul (p, v)
    }}"""
    assert anatomy_of(make(text)).features.tensor == "s"
    thin = text.replace("float[8,6,3,3] u", "float[8,6,1,1] u").replace(
        "d = Conv <kernel_shape=[3,3], pads=[1,1,1,1]>", "d = Conv"
    )
    assert anatomy_of(make(thin)).features.tensor == "s"


def test_a_class_map_computed_from_the_image_itself_is_the_feature_tensor(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3,8,6] x) => (float[N,8] logits)
    <float[8,3,1,1] w>
    {{
      c = Conv (x, w)
      r = Relu (c)
      g = GlobalAveragePool (r)
      logits = Flatten (g)
    }}"""
    assert anatomy_of(make(text)).features.tensor == "r"


SEGMENTATION = """
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  classes = Conv (f, u)
"""


def test_the_features_of_a_segmentation_enter_the_layer_that_predicts_classes(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3,8,6] x) => (float[N,5,8,6] mask)
    <float[8,3,3,3] w, float[5,8,1,1] u, float[4] scales = {{1.0, 1.0, 2.0, 2.0}}>
    {{{SEGMENTATION}
      up = Resize <mode="linear"> (classes, , scales)
      mask = Softmax <axis=1> (up)
    }}"""
    anatomy = anatomy_of(make(text))
    assert anatomy.features.tensor == "f"
    assert (anatomy.logits.kind, anatomy.logits.tensor, anatomy.logits.classes) == (Kind.REGION, "up", 5)
    assert anatomy.logits.activation == "softmax"
    assert anatomy.logits.space == (8, 6)


def test_an_average_over_windows_before_flattening_belongs_to_the_pooling(make: Make) -> None:
    pooled = "a = AveragePool <kernel_shape=[2,3], strides=[2,3]> (f)\n p = Flatten (a)"
    text = f"{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[16,5] v>{{{BODY}{pooled}\n logits = MatMul (p, v)\n}}"
    assert anatomy_of(make(text)).features.tensor == "f"


@pytest.mark.parametrize(("layers", "expected"), [(1, "f"), (2, "n1")])
def test_a_single_layer_of_attention_over_a_convolutional_trunk_only_pools(
    make: Make, layers: int, expected: str
) -> None:
    blocks = "".join(
        f"""
      qk{i} = Transpose <perm=[0,2,1]> (n{i - 1})
      dots{i} = MatMul (n{i - 1}, qk{i})
      soft{i} = Softmax <axis=2> (dots{i})
      mixed{i} = MatMul (soft{i}, n{i - 1})
      n{i} = Add (n{i - 1}, mixed{i})"""
        for i in range(layers)
    ).replace("n-1", "tokens")
    text = f"""{HEAD}net (float[1,3,8,6] x) => (float[1,5] logits)
    <float[8,3,3,3] w, float[8,8,3,3] u, float[1,1,8] token, float[8,5] v, int64[3] s = {{0, 8, 12}}, int64 zero = {{0}}>
    {{
      b = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
      r = Relu (b)
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r, u)
      f = Relu (c)
      flat = Reshape (f, s)
      cells = Transpose <perm=[0,2,1]> (flat)
      tokens = Concat <axis=1> (token, cells){blocks}
      chosen = Gather <axis=1> (n{layers - 1}, zero)
      logits = MatMul (chosen, v)
    }}"""
    anatomy = anatomy_of(make(text))
    assert anatomy.features.tensor == expected
    assert bool(anatomy.notes) == (layers == 1)  # the doubt is stated


def test_attention_weights_are_not_the_features(make: Make) -> None:
    text = f"""{HEAD}net (float[1,3,8,6] x) => (float[1,5] logits)
    <float[8,3,3,3] w, float[6,8,1,1] a, float[48,5] v, int64[3] s = {{1, 8, 12}}, int64[3] t = {{1, 6, 12}}, int64[2] r = {{1, 48}}>
    {{{BODY}
      cells = Reshape (f, s)
      to = Transpose <perm=[0,2,1]> (cells)
      m = Conv (f, a)
      flat = Reshape (m, t)
      weights = Softmax <axis=2> (flat)
      pooled = MatMul (weights, to)
      row = Reshape (pooled, r)
      logits = MatMul (row, v)
    }}"""
    assert anatomy_of(make(text)).features.tensor == "to"


def test_pooling_of_one_map_to_several_sizes_begins_at_that_map(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[56,5] v>
    {{{BODY}
      g = GlobalMaxPool (f)
      one = Flatten (g)
      m = MaxPool <kernel_shape=[2,2], strides=[2,1]> (f)
      several = Flatten (m)
      p = Concat <axis=1> (one, several)
      logits = MatMul (p, v)
    }}"""
    assert anatomy_of(make(text.replace("float[56,5]", "float[40,5]"))).features.tensor == "f"


def test_maps_pooled_beside_the_chosen_one_are_named(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[8,8,3,3] u, float[16,5] v>
    {{{BODY}
      d = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (f, u)
      g = Relu (d)
      one = ReduceMean <axes=[2,3], keepdims=0> (f)
      two = ReduceMean <axes=[2,3], keepdims=0> (g)
      p = Concat <axis=1> (one, two)
      logits = MatMul (p, v)
    }}"""
    anatomy = anatomy_of(make(text))
    assert anatomy.features.tensor == "g"
    (note,) = [n for n in anatomy.notes if n.code is NoteCode.OTHER_BRANCHES]
    assert "a pooling of their own ('f')" in note.text


def test_a_gate_over_space_is_part_of_the_features(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[8,5] v>
    {{{BODY}
      seen = ReduceMean <axes=[1], keepdims=1> (f)
      gate = Sigmoid (seen)
      gated = Mul (f, gate)
      p = ReduceMean <axes=[2,3], keepdims=0> (gated)
      logits = MatMul (p, v)
    }}"""
    assert anatomy_of(make(text)).features.tensor == "gated"
