"""Networks in which several maps feed the score: all are named, whatever their pooling."""

import pytest
from located import BODY, HEAD, SIGNATURE, anatomy_of
from small_models import Make

from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.types import NoteCode

TWO = """
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  d = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]> (x, w2)
  k = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]> (d, w3)
  g = Relu (k)
"""
TWO_WEIGHTS = "float[8,3,3,3] w, float[4,3,3,3] w2, float[8,4,3,3] w3"


def branches(anatomy: Anatomy) -> dict[str, tuple[int | None, ...]]:
    return {f.tensor: f.shape for f in anatomy.branches}


def codes(anatomy: Anatomy) -> set[NoteCode]:
    return {n.code for n in anatomy.notes}


@pytest.mark.parametrize(
    "head",
    [
        "a = GlobalAveragePool (f) p = Flatten (a) b = GlobalMaxPool (g) q = Flatten (b) r = Concat <axis=1> (p, q)"
        " logits = MatMul (r, v)",
        "a = GlobalAveragePool (f) p = Flatten (a) b = GlobalAveragePool (g) q = Flatten (b)"
        " s = MatMul (p, v1) t = MatMul (q, v2) logits = Add (s, t)",
        "a = GlobalAveragePool (f) p = Flatten (a) b = GlobalAveragePool (g) q = Flatten (b)"
        " s = MatMul (p, v1) t = MatMul (q, v2) y = Softmax (s) z = Softmax (t) logits = Mean (y, z)",
        "p = ReduceMean <axes=[2,3], keepdims=0> (f) q = ReduceMax <axes=[2,3], keepdims=0> (g)"
        " s = Gemm (p, v1) t = Gemm (q, v2) logits = Max (s, t)",
    ],
    ids=["features joined", "logits added", "probabilities averaged", "logits' maximum"],
)
def test_two_networks_in_one_graph_are_two_branches(make: Make, head: str) -> None:
    anatomy = anatomy_of(
        make(f"{HEAD}{SIGNATURE}<{TWO_WEIGHTS}, float[16,5] v, float[8,5] v1, float[8,5] v2>{{{TWO} {head} }}")
    )
    assert branches(anatomy) == {"g": (1, 8, 8, 6), "f": (1, 8, 4, 3)}
    assert anatomy.features.tensor == "g"
    (note,) = [n for n in anatomy.notes if n.code is NoteCode.OTHER_BRANCHES]
    assert "('f')" in note.text
    assert "--layer g --layer f fuses" in note.text
    assert NoteCode.FEATURES_EARLY not in codes(anatomy)


def test_the_layers_of_the_other_network_are_not_counted_as_following(make: Make) -> None:
    deep = "\n".join(f"  k{i} = Conv <kernel_shape=[1,1]> ({f'k{i - 1}' if i else 'f'}, u)" for i in range(6))
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[8,8,1,1] u, float[8,5] v, float[8,3,3,3] w2>
    {{{BODY}{deep}
      a = GlobalAveragePool (k5)
      p = Flatten (a)
      d = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w2)
      g = Relu (d)
      b = GlobalAveragePool (g)
      q = Flatten (b)
      s = MatMul (p, v)
      t = MatMul (q, v)
      logits = Add (s, t)
    }}"""
    anatomy = anatomy_of(make(text))
    assert set(branches(anatomy)) == {"g", "k5"}
    assert codes(anatomy) & {NoteCode.OTHER_BRANCHES, NoteCode.FEATURES_EARLY} == {NoteCode.OTHER_BRANCHES}


def test_several_scales_that_are_pooled_apart_are_branches(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[8,8,3,3] u, float[24,5] v>
    {{{BODY}
      d = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (f, u)
      g = Relu (d)
      e = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (g, u)
      h = Relu (e)
      one = ReduceMean <axes=[2,3], keepdims=0> (f)
      two = ReduceMean <axes=[2,3], keepdims=0> (g)
      three = ReduceMean <axes=[2,3], keepdims=0> (h)
      p = Concat <axis=1> (one, two, three)
      logits = MatMul (p, v)
    }}"""
    assert set(branches(anatomy_of(make(text)))) == {"h", "f", "g"}


def test_one_map_that_is_pooled_twice_is_no_branch(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[16,5] v>
    {{{BODY}
      a = GlobalAveragePool (f)
      b = GlobalMaxPool (f)
      r = Concat <axis=1> (a, b)
      p = Flatten (r)
      logits = MatMul (p, v)
    }}"""
    anatomy = anatomy_of(make(text))
    assert anatomy.branches == ()
    assert NoteCode.OTHER_BRANCHES not in codes(anatomy)


def test_gates_within_a_network_are_no_branches(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<float[8,3,3,3] w, float[8,8,1,1] u, float[8,5] v>
    {{{BODY}
      s = GlobalAveragePool (f)
      e = Conv <kernel_shape=[1,1]> (s, u)
      gate = Sigmoid (e)
      h = Mul (f, gate)
      g = GlobalAveragePool (h)
      p = Flatten (g)
      logits = MatMul (p, v)
    }}"""
    assert anatomy_of(make(text)).branches == ()


def test_class_maps_of_two_networks_are_followed_to_what_predicts_them(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3,8,6] x) => (float[N,5,8,6] masks)
    <{TWO_WEIGHTS}, float[5,8,1,1] p1, float[5,8,1,1] p2, float[4] z = {{1.0, 1.0, 2.0, 2.0}}>
    {{{TWO}
      a = Conv <kernel_shape=[1,1]> (f, p1)
      up = Resize <mode="linear"> (a, , z)
      b = Conv <kernel_shape=[1,1]> (g, p2)
      masks = Add (up, b)
    }}"""
    anatomy = anatomy_of(make(text))
    assert set(branches(anatomy)) == {"f", "g"}
    (note,) = [n for n in anatomy.notes if n.code is NoteCode.OTHER_BRANCHES]
    assert "2 predictions" in note.text


def test_a_chosen_layer_has_no_branches_to_name(make: Make) -> None:
    text = f"""{HEAD}{SIGNATURE}<{TWO_WEIGHTS}, float[8,5] v1, float[8,5] v2>{{{TWO}
      a = GlobalAveragePool (f) p = Flatten (a) b = GlobalAveragePool (g) q = Flatten (b)
      s = MatMul (p, v1) t = MatMul (q, v2) logits = Add (s, t) }}"""
    anatomy = anatomy_of(make(text), layer="f")
    assert (anatomy.features.tensor, anatomy.branches) == ("f", ())
    assert NoteCode.OTHER_BRANCHES not in codes(anatomy)
