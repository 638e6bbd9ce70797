"""Masks of several images in shared batches: each runs once, with its own image, and its scores come back to it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxcam.network.packing import BatchPacker, MaskRequest, group_by_extra_inputs
from onnxcam.surgeon.graphs import masked_score

RNG = np.random.default_rng(5)


def request(number: int, masks: int, targets: int, progress: Any = None, **extra: Any) -> MaskRequest:
    """An image filled with its number, masks filled with theirs, and targets that differ between images."""
    feeds = {
        masked_score.IMAGE: np.full((1, 3, 4, 5), number, np.float32),
        masked_score.TARGETS: 10 * number + np.arange(targets),
        **extra,
    }
    return MaskRequest(
        feeds, np.broadcast_to(np.arange(masks, dtype=np.float32)[:, None, None, None], (masks, 1, 2, 2)), progress
    )


def score(packer: BatchPacker, samples: np.ndarray) -> np.ndarray:
    """A stand-in for the network: a score for each sample and target that shows image, mask and target."""
    packed = packer.pack(samples)
    feeds, masks = packed.to_numpy()
    images = np.broadcast_to(feeds[masked_score.IMAGE][:, 0, 0, 0], len(samples))
    scores = 10000 * images[:, None] + 100 * masks[:, 0, 0, :1] + feeds[masked_score.TARGETS][None]
    return packed.scatter(scores.astype(np.float32), packer.width)


def images_of(packer: BatchPacker, samples: range) -> list[float]:
    return packer.pack(np.asarray(samples)).to_numpy()[0][masked_score.IMAGE][:, 0, 0, 0].tolist()


@given(
    st.lists(st.tuples(st.integers(1, 11), st.integers(1, 3)), min_size=1, max_size=5), st.integers(1, 6),
    st.integers(1, 13),
)  # fmt: skip
def test_every_mask_is_scored_once_and_its_scores_come_back_to_its_image(
    sizes: list[tuple[int, int]], batch: int, chunk: int
) -> None:
    """Also with other chunks than the packer was made for: the run plan may change, and memory may run out."""
    requests = [request(i, masks, targets) for i, (masks, targets) in enumerate(sizes)]
    packer = BatchPacker(requests, batch)
    assert len(packer) == sum(masks for masks, _ in sizes)
    every = range(0, len(packer), chunk)
    packed = np.concatenate([score(packer, np.arange(i, min(i + chunk, len(packer)))) for i in every])
    for i, ((masks, targets), scores) in enumerate(zip(sizes, packer.unpack(packed), strict=True)):
        expected = 10000 * i + 100 * np.arange(masks)[:, None] + 10 * i + np.arange(targets)
        np.testing.assert_array_equal(scores, expected)


def test_full_batches_are_of_one_image_and_only_the_remains_are_mixed() -> None:
    packer = BatchPacker([request(0, 9, 1), request(1, 6, 1), request(2, 4, 1)], 4)
    assert [images_of(packer, range(i, min(i + 4, 19))) for i in range(0, 19, 4)] == [[0], [0], [1], [2], [0, 1, 1]]


def test_a_batch_has_the_targets_of_its_own_images_only() -> None:
    packer = BatchPacker([request(0, 5, 2), request(1, 5, 1), request(2, 5, 3)], 4)
    targets = [packer.pack(np.arange(i, min(i + 2, 15))).feeds[masked_score.TARGETS].tolist() for i in (0, 4, 8, 12)]
    assert targets == [[0, 1], [10], [20, 21, 22], [0, 1, 10]]
    assert packer.width == 3


def test_the_feeds_of_one_image_are_not_copied() -> None:
    one = request(3, 7, 2)
    feeds, masks = BatchPacker([one], 4).pack(np.arange(2, 6)).to_numpy()
    assert all(feeds[name] is array for name, array in one.feeds.items())
    assert isinstance(one.masks, np.ndarray)
    assert np.shares_memory(masks, one.masks)
    assert masks[:, 0, 0, 0].tolist() == [2, 3, 4, 5]


def test_a_fill_and_a_region_stay_with_their_image() -> None:
    requests = [
        request(i, 3, 1, **{
            masked_score.FILL: np.full((1, 3, 4, 5), -i, np.float32), masked_score.REGIONS: np.full((6, 1), i, np.float32),
        })
        for i in range(2)
    ]  # fmt: skip
    feeds, _ = BatchPacker(requests, 4).pack(np.arange(6)).to_numpy()
    assert feeds[masked_score.FILL][:, 0, 0, 0].tolist() == [0, 0, 0, -1, -1, -1]
    assert feeds[masked_score.REGIONS].shape == (6, 2)
    np.testing.assert_array_equal(feeds[masked_score.REGIONS], np.tile([0, 1], (6, 1)))


def test_each_image_reports_its_own_masks() -> None:
    reported: list[tuple[str, int, int]] = []
    requests = [
        request(0, 5, 1, lambda done, of: reported.append(("a", done, of))),
        request(1, 2, 1),
        request(2, 6, 1, lambda done, of: reported.append(("c", done, of))),
    ]
    packer = BatchPacker(requests, 4)
    progress = packer.progress()
    assert progress is not None
    for done in (4, 8, 12, 13):
        progress(done, 13)
    assert reported == [("a", 4, 5), ("c", 4, 6), ("a", 5, 5), ("c", 5, 6), ("c", 6, 6)]
    assert BatchPacker([request(0, 5, 1)], 4).progress() is None


@pytest.mark.parametrize(("values", "expected"), [
    ((1.0, 1.0, 1.0), [[0, 1, 2]]), ((1.0, 2.0, 1.0), [[0, 2], [1]]), ((1.0, 2.0, 3.0), [[0], [1], [2]]),
    ((np.nan, np.nan), [[0], [1]]),
])  # fmt: skip
def test_images_with_different_extra_inputs_do_not_share_a_batch(
    values: tuple[float, ...], expected: list[list[int]]
) -> None:
    requests = [request(i, 2, 1, metadata=np.asarray([[v]], np.float32)) for i, v in enumerate(values)]
    assert group_by_extra_inputs([r.feeds for r in requests]) == expected
