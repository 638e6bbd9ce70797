"""The table of target kinds: each kind from the command line's words to a map and back, and one from outside."""

import dataclasses
import pickle
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from small_models import CLASSIFIER, filled

from onnxcam import Box, Element, Explainer, OnnxCamError, Preset, Region, ScoredTarget, Similarity, Timestep, grad_cam
from onnxcam.errors import OptionError, TargetError
from onnxcam.explainer.targets import classes
from onnxcam.explainer.targets.classes import CLASS, class_index
from onnxcam.explainer.targets.kind import TARGETS, HeadOutput, TargetKind, TargetValue
from onnxcam.explainer.targets.registry import TARGET_KINDS, register
from onnxcam.explainer.targets.resolving import parse_targets
from onnxcam.outputs.saliency import MASKED
from onnxcam.surgeon.analysis.anatomy import Kind

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
OTHER = np.random.default_rng(4).integers(0, 256, (40, 30, 3)).astype(np.uint8)
LABELS = ["ant", "bee", "cat", "dog", "eel"]
DETECTOR = """<ir_version: 8, opset_import: ["" : 17]>
boxes (float[N,3,16,12] x) => (float[N,9,12] table)
<float[8,3,3,3] w, float[9,8,1,1] head, int64[3] shape = {0, 9, 12}>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  features = Tanh (c)
  h = Conv (features, head)
  table = Reshape (h, shape)
}"""
SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,5,8,6] logits)
<float[6,3,3,3] w, float[5,6,1,1] v>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Tanh (c)
  logits = Conv <kernel_shape=[1,1]> (f, v)
}"""


RECOGNISER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[6,N,5] y)
<float[6,3,3,3] w, float[5,6,1,1] v>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Tanh (c)
  k = Conv <kernel_shape=[1,1]> (f, v)
  r = ReduceMean <axes=[2], keepdims=0> (k)
  y = Transpose <perm=[2,0,1]> (r)
}"""


@dataclasses.dataclass(frozen=True)
class Case:
    """A target of a kind on a model whose head is of the kind's. words, labels: what the command line calls it."""

    model: str
    value: Any
    words: Sequence[str]
    labels: Sequence[str]
    file_name: str
    again: bool = True


CASES = {
    "class": Case(CLASSIFIER, "dog", (), ("dog",), "dog"),
    "element": Case(CLASSIFIER, Element((-2,)), ("[-2]",), (), "-2"),
    "box": Case(DETECTOR, Box("top1", "cat"), ("top1",), ("cat",), "box-top1-cat"),
    "timestep": Case(RECOGNISER, Timestep(2, "cat"), ("2",), ("cat",), "step-2-cat"),
    "region": Case(SEGMENTER, Region("top1", (0, 0, 30, 20)), ("0,0,30,20",), (), "top1"),
    "similarity": Case(CLASSIFIER, Similarity(OTHER), ("other.png",), (), "other", again=False),
}


def opened(name: str) -> Explainer:
    kind, case = TARGET_KINDS[name], CASES[name]
    labels = LABELS if kind.head in (Kind.CLASSES, Kind.BOXES, Kind.REGION, Kind.SEQUENCE) else None
    return Explainer(filled(case.model), grad_cam(), kind=kind.head, providers=["cpu"], preset=PLAIN, labels=labels)


@pytest.fixture
def kinds() -> Iterator[dict[str, TargetKind]]:
    """The table, as it was before once the test is over."""
    before = dict(TARGET_KINDS)
    yield TARGET_KINDS
    TARGET_KINDS.clear()
    TARGET_KINDS.update(before)


def test_every_kind_has_a_case_here() -> None:
    assert set(CASES) == set(TARGET_KINDS)


@pytest.mark.parametrize("name", CASES)
def test_the_words_of_the_command_line_become_the_value(name: str) -> None:
    kind, case = TARGET_KINDS[name], CASES[name]
    parsed = parse_targets(case.labels, {kind.option: case.words} if kind.option is not None else {})
    assert parsed.kind == (None if kind is CLASS else kind.head)
    assert parsed.names == (case.file_name,)
    (value,) = parsed.targets
    assert isinstance(value, kind.value)
    if name != "similarity":
        assert str(value) == str(case.value) if name == "region" else value == case.value
    else:
        assert value.reference == "other.png"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", CASES)
def test_a_target_of_every_kind_is_explained_and_its_result_names_the_same_number(name: str) -> None:
    case = CASES[name]
    with opened(name) as explainer:
        saliency = explainer(PHOTOGRAPH, case.value)
        scored = saliency.target
        assert scored.kind == TARGET_KINDS[name].head
        assert scored.output == explainer.anatomy.logits.output
        assert pickle.loads(pickle.dumps(scored)) == scored
        if not case.again:
            with pytest.raises(TargetError, match=r"give Similarity\(reference\)"):
                explainer(PHOTOGRAPH, scored)
            return
        other = explainer(PHOTOGRAPH, scored)
        assert dataclasses.replace(other.target, label=scored.label) == scored
        np.testing.assert_array_equal(other.map, saliency.map)
        assert explainer(OTHER, scored).target.index == scored.index
        assert [s.target.index for s in explainer.batch([PHOTOGRAPH, OTHER], scored)] == [scored.index] * 2


def test_a_region_where_the_class_is_predicted_is_told_from_a_mask() -> None:
    with opened("region") as explainer:
        predicted = explainer(PHOTOGRAPH).target
        assert predicted.where is None
        assert explainer(PHOTOGRAPH, predicted).target == predicted
        masked = explainer(PHOTOGRAPH, Region("top1", np.ones((40, 30), bool))).target
        assert masked.where == MASKED
        with pytest.raises(TargetError, match=r"give Region\(label, mask\)"):
            explainer(PHOTOGRAPH, masked)


def test_the_target_of_a_result_opens_the_head_that_it_is_about() -> None:
    with opened("element") as elements, Explainer(filled(CLASSIFIER), providers=["cpu"], preset=PLAIN) as explainer:
        scored = elements(PHOTOGRAPH, Element((3,))).target
        assert explainer(PHOTOGRAPH, scored).target == scored
        nowhere = dataclasses.replace(scored, index=99)
        with pytest.raises(TargetError, match="not inside"):
            explainer(PHOTOGRAPH, nowhere)
        with pytest.raises(TargetError, match="unknown kind"):
            explainer(PHOTOGRAPH, dataclasses.replace(scored, kind="dream"))


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(OptionError, match="--index and --box contradict"):
        parse_targets([], {"index": ["1"], "box": ["top1"]})
    for option, words in (("index", ["1"]), ("reference", ["a.png"])):
        with pytest.raises(OptionError, match="without --target"):
            parse_targets(["cat"], {option: words})


@dataclasses.dataclass(frozen=True)
class BestOf:
    """The most probable of some classes."""

    labels: tuple[int | str, ...]
    output: str | None = None


def feed(targets: Sequence[BestOf], output: HeadOutput) -> dict[str, Any]:
    indices = [[class_index(label, output.values, output.labels) for label in target.labels] for target in targets]
    return {TARGETS: np.array([max(each, key=lambda i: output.values[i]) for each in indices])}


def test_a_kind_from_outside_is_explained_among_the_others(kinds: dict[str, TargetKind]) -> None:
    with opened("class") as explainer:
        with pytest.raises(TargetError, match="a target is a class index"):
            explainer(PHOTOGRAPH, BestOf(("ant", 4)))
        register(TargetKind("best-of", BestOf, Kind.CLASSES, feed, classes.describe))
        ranks = [explainer(PHOTOGRAPH, f"rank{i}").target for i in range(1, 6)]
        worst, middle = ranks[4], ranks[2]
        best = explainer(PHOTOGRAPH, BestOf((str(worst.label), middle.index)))
        assert best.target == middle
        mixed = explainer.explain(
            PHOTOGRAPH, ["top1", BestOf((worst.index, middle.index)), worst, BestOf((worst.index,))]
        )
        assert [s.target for s in mixed] == [ranks[0], middle, worst, worst]
        np.testing.assert_array_equal(mixed[1].map, best.map)
        assert explainer(PHOTOGRAPH, best.target).target == middle


@pytest.mark.parametrize("changes", [{"name": "class"}, {"value": Box}, {"value": (BestOf, str)}, {"option": "index"}])
def test_a_kind_that_takes_what_is_anothers_is_refused(kinds: dict[str, TargetKind], changes: dict[str, Any]) -> None:
    kind = TargetKind("best-of", BestOf, Kind.CLASSES, feed, classes.describe)
    with pytest.raises(OptionError, match="clashes"):
        register(dataclasses.replace(kind, **changes))
    assert "best-of" not in kinds


@dataclasses.dataclass(frozen=True)
class FromTheEnd(Element):
    """An element that is explained by a function of its own."""


class Pair(NamedTuple):
    """Two numbers, which is also two targets."""

    first: int
    second: int


class Number(int):
    """A class index by another name."""


def test_a_value_that_derives_from_another_kinds_value_is_of_its_own_kind(kinds: dict[str, TargetKind]) -> None:
    def last(targets: Sequence[FromTheEnd], output: HeadOutput) -> dict[str, Any]:
        return {TARGETS: np.array([output.values.size - 1 - target.index[0] for target in targets])}

    register(TargetKind("from-the-end", FromTheEnd, Kind.ELEMENTS, last, TARGET_KINDS["element"].describe))
    with opened("element") as explainer:
        places = [s.target.index for s in explainer.explain(PHOTOGRAPH, [FromTheEnd((1,)), Element((1,)), 1])]
    assert places == [3, 1, 1]


@pytest.mark.parametrize(
    "value",
    [object, bool, Number, Pair, list, tuple, bytes, np.ndarray, np.float32, ScoredTarget, TargetValue, "BestOf", (BestOf, Pair)],
    ids=repr,
)  # fmt: skip
def test_a_kind_whose_values_are_like_other_targets_is_refused(kinds: dict[str, TargetKind], value: Any) -> None:
    with pytest.raises(OptionError, match="a class of its own"):
        register(TargetKind("best-of", value, Kind.CLASSES, feed, classes.describe))
    assert "best-of" not in kinds


@pytest.mark.parametrize("index", [0.5, None, True, "0", (0,), np.zeros(1)], ids=repr)
@pytest.mark.parametrize("name", ["class", "element", "box", "region"])
def test_the_index_of_a_results_target_is_a_whole_number(name: str, index: Any) -> None:
    with opened(name) as explainer, pytest.raises(TargetError, match="whole number"):
        explainer(PHOTOGRAPH, ScoredTarget(index, None, 0.0, 0.0, kind=str(TARGET_KINDS[name].head)))


WRONG: list[Any] = [
    1.5, True, {1, 2}, {"a": 1}, b"cat", bytearray(b"cat"), object(), 1 + 2j, ..., int, [1, [2]], [[1]], [1.5], [True],
    [{1}], (None, b"x"), np.array([0.5]), np.array([[1, 2]]), np.array(["cat"]), np.array([True]), iter([1, 2]),
    np.float32(1), Ellipsis, [Preset], [np.array([1, 2])], 5, -1, "nothing", "", " ", "top0", "top99", 10**30, "9" * 2000,
]  # fmt: skip


@pytest.mark.parametrize("target", WRONG, ids=lambda t: repr(t)[:30])
def test_what_is_no_target_is_a_target_error_everywhere(target: Any) -> None:
    with opened("class") as explainer:
        calls = [
            lambda: explainer(PHOTOGRAPH, target),
            lambda: explainer.explain(PHOTOGRAPH, target),
            lambda: explainer.explain(PHOTOGRAPH, [0, target]),
            lambda: explainer.batch([PHOTOGRAPH], target),
            lambda: list(explainer.stream(PHOTOGRAPH, target)),
        ]
        for call in calls:
            with pytest.raises(TargetError):
                call()


def test_several_targets_may_come_in_any_sequence_of_python_or_numpy() -> None:
    with opened("class") as explainer:
        for targets in (
            [1, 2],
            (1, 2),
            range(1, 3),
            np.array([1, 2]),
            np.array([1, 2], np.uint8),
            [np.int32(1), "cat"],
        ):
            assert [s.target.index for s in explainer.explain(PHOTOGRAPH, targets)] == [1, 2]  # type: ignore[arg-type]
        for one in (np.array(2), np.int64(2), 2, "cat", None):
            assert len(explainer.explain(PHOTOGRAPH, one)) == 1  # type: ignore[arg-type]
        assert len(explainer.explain(PHOTOGRAPH, [None, None])) == 2
        for nothing in ([], (), np.array([], int)):
            with pytest.raises(OptionError, match="no target given"):
                explainer.explain(PHOTOGRAPH, nothing)  # type: ignore[arg-type]


VALUES: list[tuple[str, Any]] = [
    ("element", lambda: Element("4")), ("element", lambda: Element((1.5,))), ("element", lambda: Element(None)),
    ("element", lambda: Element((True,))), ("element", lambda: Element((9,))), ("element", lambda: Element(())),
    ("element", lambda: Element((0,), 3)), ("element", lambda: Element((0,), "nope")), ("element", lambda: "cat"),
    ("box", lambda: Box(1.5)), ("box", lambda: Box([1])), ("box", lambda: Box("top1", 1.5)), ("box", lambda: Box(99)),
    ("box", lambda: Box("top1", "nothing")), ("box", lambda: Box("top1", {1})), ("box", lambda: Box(0, 0, 3)),
    ("region", lambda: Region(1.5)), ("region", lambda: Region(0, "left")), ("region", lambda: Region(0, (1, 2, 3))),
    ("region", lambda: Region(0, (1, 2, 3, "4"))), ("region", lambda: Region(0, np.array(["a"]))),
    ("region", lambda: Region(0, np.ones((2, 2)))), ("region", lambda: Region(0, (np.nan,) * 4)),
    ("region", lambda: Region(0, np.array(1))), ("region", lambda: Region({1})),
    ("similarity", lambda: Similarity(None)), ("similarity", lambda: Similarity(5)), ("similarity", lambda: 3),
    ("similarity", lambda: Similarity([1, 2, 3])), ("similarity", lambda: Similarity(np.array(["a"] * 5))),
    ("similarity", lambda: Similarity(np.zeros(5))), ("similarity", lambda: Similarity(np.full(5, np.nan))),
    ("similarity", lambda: Similarity("nowhere.npy")), ("similarity", lambda: Similarity("nowhere.png")),
    ("similarity", lambda: Similarity(b"x")), ("similarity", lambda: Similarity(np.array(1.0))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make"), VALUES)
def test_values_that_make_no_sense_are_errors_of_the_package(name: str, make: Any) -> None:
    with opened(name) as explainer, pytest.raises(OnnxCamError):
        explainer(PHOTOGRAPH, make())


def test_a_scored_target_made_by_hand_is_a_target_too() -> None:
    with opened("class") as explainer:
        assert explainer(PHOTOGRAPH, ScoredTarget(2, None, 0.0, 0.0)).target.index == 2
        with pytest.raises(TargetError, match="out of range"):
            explainer(PHOTOGRAPH, ScoredTarget(7, None, 0.0, 0.0))
