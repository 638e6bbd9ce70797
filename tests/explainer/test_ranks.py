"""'top5' is the five best targets, 'rank5' the fifth: in the library, on the command line, for classes and for boxes."""

import numpy as np
import pytest
from small_models import CLASSIFIER, filled

from onnxcam import Box, Explainer
from onnxcam.cli.options import TargetArgs
from onnxcam.cli.parsing import parse_targets
from onnxcam.errors import TargetError
from onnxcam.explainer.targets.classes import MOST, class_index, ranks
from onnxcam.explainer.targets.resolving import each_target

IMAGE = np.random.default_rng(4).normal(size=(3, 16, 12)).astype(np.float32)
SCORES = np.array([0.1, 0.5, 0.2, 0.9, 0.2])
ORDER = [3, 1, 2, 4, 0]
"""The classes from the best on; of equal ones the first."""


def test_a_rank_is_one_class_and_top1_is_the_first() -> None:
    assert [class_index(f"rank{i}", SCORES, None) for i in range(1, 6)] == ORDER
    assert {class_index(text, SCORES, None) for text in ("top1", "TOP-1", "top01", " Rank-1 ", "rank1")} == {3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top3", "top3 is the best 3, where one is expected; 'rank3' is the last of these"),
        ("rank6", "rank6 does not exist: the model has 5 classes"),
        ("rank0", "rank0 does not exist: ranks count from 1"),
        ("top0", "top0 does not exist: ranks count from 1"),
    ],
)
def test_several_and_none_are_no_class(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        class_index(text, SCORES, None)


def test_the_best_ones_stand_for_their_ranks_and_nothing_else_is_changed() -> None:
    assert ranks("top3") == ranks(" Top-3 ") == ["rank1", "rank2", "rank3"]
    assert [ranks(one) for one in ("top1", "rank4", "top", "topaz", 7, None)] == [
        ["top1"], ["rank4"], ["top"], ["topaz"], [7], [None],
    ]  # fmt: skip
    assert each_target(["top2", 4, "rank5"]) == ["rank1", "rank2", 4, "rank5"]
    for text in (f"top{MOST + 1}", "top" + "9" * 500):
        with pytest.raises(TargetError, match="is more than 10,000 targets"):
            ranks(text)


def test_the_explainer_gives_a_map_of_each_of_the_best() -> None:
    with Explainer(filled(CLASSIFIER), "grad-cam", preset="raw", providers=["cpu"]) as explainer:
        several = explainer.explain(IMAGE, "top3")
        ranked = [explainer(IMAGE, f"rank{i}") for i in (1, 2, 3)]
        scores = [one.target.logit for one in explainer.explain(IMAGE, range(5))]
        assert [one.target.index for one in several] == [int(i) for i in np.argsort(-np.array(scores))[:3]]
        assert all(np.array_equal(a.map, b.map) for a, b in zip(several, ranked, strict=True))
        with pytest.raises(TargetError, match="top3 is several targets"):
            explainer(IMAGE, "top3")
        with pytest.raises(TargetError, match="'rank3' is the last of these"):
            explainer.batch([IMAGE, IMAGE], "top3")


def test_the_command_line_takes_the_best_ones_once() -> None:
    def targets(*words: str) -> tuple[object, ...]:
        return parse_targets(TargetArgs(target=list(words))).targets

    assert targets("top3") == ("rank1", "rank2", "rank3")
    assert targets("top1") == ("top1",)
    assert targets("top1,top2", "rank2", "cat") == ("rank1", "rank2", "cat")
    assert targets("rank5") == ("rank5",)
    parsed = parse_targets(TargetArgs(box=["top2"], target=["dog"]))
    assert parsed.targets == (Box("rank1", "dog"), Box("rank2", "dog"))
    assert parsed.names == ("box-rank1-dog", "box-rank2-dog")
