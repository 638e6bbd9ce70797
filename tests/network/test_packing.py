"""Several pictures' masks in one line: every row runs once, with its own picture, and its scores find their way back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxcam.network.packing import BatchPacker, MaskRequest, alike
from onnxcam.surgeon.graphs import masked_score

RNG = np.random.default_rng(5)


def picture(number: int, masks: int, targets: int, progress: Any = None, **extra: Any) -> MaskRequest:
    """Its image is filled with its number, its masks with the number of the mask, its targets are told apart too."""
    feeds = {
        masked_score.IMAGE: np.full((1, 3, 4, 5), number, np.float32),
        masked_score.TARGETS: 10 * number + np.arange(targets),
        **extra,
    }
    return MaskRequest(
        feeds, np.broadcast_to(np.arange(masks, dtype=np.float32)[:, None, None, None], (masks, 1, 2, 2)), progress
    )


def run(crowd: BatchPacker, rows: np.ndarray) -> np.ndarray:
    """What a network would: a number for each row and target that shows the picture, the mask and the target."""
    made = crowd.run(rows)
    feeds, masks = made.in_numpy()
    images = np.broadcast_to(feeds[masked_score.IMAGE][:, 0, 0, 0], len(rows))
    found = 10000 * images[:, None] + 100 * masks[:, 0, 0, :1] + feeds[masked_score.TARGETS][None]
    return made.own(found.astype(np.float32), crowd.width)


def owners(crowd: BatchPacker, rows: range) -> list[float]:
    return crowd.run(np.asarray(rows)).in_numpy()[0][masked_score.IMAGE][:, 0, 0, 0].tolist()


@given(
    st.lists(st.tuples(st.integers(1, 11), st.integers(1, 3)), min_size=1, max_size=5), st.integers(1, 6),
    st.integers(1, 13),
)  # fmt: skip
def test_every_row_is_run_once_and_its_scores_are_its_pictures(
    sizes: list[tuple[int, int]], step: int, chunk: int
) -> None:
    """Also where runs are not what the line was made for: a pace may change, and memory run out."""
    pictures = [picture(i, masks, targets) for i, (masks, targets) in enumerate(sizes)]
    crowd = BatchPacker(pictures, step)
    assert len(crowd) == sum(masks for masks, _ in sizes)
    found = np.concatenate([run(crowd, np.arange(i, min(i + chunk, len(crowd)))) for i in range(0, len(crowd), chunk)])
    for i, ((masks, targets), scores) in enumerate(zip(sizes, crowd.scores(found), strict=True)):
        expected = 10000 * i + 100 * np.arange(masks)[:, None] + 10 * i + np.arange(targets)
        np.testing.assert_array_equal(scores, expected)


def test_whole_runs_are_of_one_picture_and_only_what_is_left_over_is_mixed() -> None:
    crowd = BatchPacker([picture(0, 9, 1), picture(1, 6, 1), picture(2, 4, 1)], 4)
    assert [owners(crowd, range(i, min(i + 4, 19))) for i in range(0, 19, 4)] == [[0], [0], [1], [2], [0, 1, 1]]


def test_a_run_is_fed_the_targets_of_its_own_pictures_only() -> None:
    crowd = BatchPacker([picture(0, 5, 2), picture(1, 5, 1), picture(2, 5, 3)], 4)
    fed = [crowd.run(np.arange(i, min(i + 2, 15))).feeds[masked_score.TARGETS].tolist() for i in (0, 4, 8, 12)]
    assert fed == [[0, 1], [10], [20, 21, 22], [0, 1, 10]]
    assert crowd.width == 3


def test_one_picture_alone_is_fed_as_it_is_without_a_copy() -> None:
    one = picture(3, 7, 2)
    feeds, masks = BatchPacker([one], 4).run(np.arange(2, 6)).in_numpy()
    assert all(feeds[name] is array for name, array in one.feeds.items())
    assert isinstance(one.masks, np.ndarray)
    assert np.shares_memory(masks, one.masks)
    assert masks[:, 0, 0, 0].tolist() == [2, 3, 4, 5]


def test_a_fill_and_a_region_stay_with_their_picture() -> None:
    pictures = [
        picture(i, 3, 1, **{
            masked_score.FILL: np.full((1, 3, 4, 5), -i, np.float32), masked_score.REGIONS: np.full((6, 1), i, np.float32),
        })
        for i in range(2)
    ]  # fmt: skip
    feeds, _ = BatchPacker(pictures, 4).run(np.arange(6)).in_numpy()
    assert feeds[masked_score.FILL][:, 0, 0, 0].tolist() == [0, 0, 0, -1, -1, -1]
    assert feeds[masked_score.REGIONS].shape == (6, 2)
    np.testing.assert_array_equal(feeds[masked_score.REGIONS], np.tile([0, 1], (6, 1)))


def test_each_picture_is_told_of_its_own_rows() -> None:
    told: list[tuple[str, int, int]] = []
    pictures = [
        picture(0, 5, 1, lambda done, of: told.append(("a", done, of))),
        picture(1, 2, 1),
        picture(2, 6, 1, lambda done, of: told.append(("c", done, of))),
    ]
    crowd = BatchPacker(pictures, 4)
    tell = crowd.progress()
    assert tell is not None
    for done in (4, 8, 12, 13):
        tell(done, 13)
    assert told == [("a", 4, 5), ("c", 4, 6), ("a", 5, 5), ("c", 5, 6), ("c", 6, 6)]
    assert BatchPacker([picture(0, 5, 1)], 4).progress() is None


def test_both_parts_of_a_picture_tell_of_the_whole() -> None:
    told: list[tuple[int, int]] = []
    first, rest = picture(0, 7, 1, lambda done, of: told.append((done, of))).split(4)
    assert (len(first.masks), len(rest.masks)) == (4, 3)
    for part in (first, rest):
        assert part.progress is not None
        part.progress(2, len(part.masks))
    assert told == [(2, 7), (6, 7)]


@pytest.mark.parametrize(("values", "expected"), [
    ((1.0, 1.0, 1.0), [[0, 1, 2]]), ((1.0, 2.0, 1.0), [[0, 2], [1]]), ((1.0, 2.0, 3.0), [[0], [1], [2]]),
    ((np.nan, np.nan), [[0], [1]]),
])  # fmt: skip
def test_pictures_with_different_further_inputs_do_not_share_a_run(
    values: tuple[float, ...], expected: list[list[int]]
) -> None:
    pictures = [picture(i, 2, 1, metadata=np.asarray([[v]], np.float32)) for i, v in enumerate(values)]
    assert alike([p.feeds for p in pictures]) == expected
