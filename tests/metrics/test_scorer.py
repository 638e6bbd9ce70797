"""Scorer: each way to score a changed picture against plain runs of the file in onnxruntime."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import CLASSIFIER, PIXELS, SCALED_BY_BATCH, filled

from onnxcam import Element, Explainer, Scorer
from onnxcam.errors import InferenceError, OptionError
from onnxcam.resampling import upsample

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(size=(3, 16, 12)).astype(np.float32)
FILL = RNG.normal(size=(3, 16, 12)).astype(np.float32)
ORDER = RNG.permutation(16 * 12).reshape(16, 12)


def opened(proto: onnx.ModelProto) -> Explainer:
    return Explainer(proto, "grad-cam", providers=["cpu"], cache=False)


def probabilities(proto: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(None, {session.get_inputs()[0].name: x[None]})[0] for x in images])
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def explainer():
    with opened(filled(CLASSIFIER)) as each:
        yield each


def scored(explainer: Explainer, images: np.ndarray) -> np.ndarray:
    return probabilities(filled(CLASSIFIER), images)[:, [1, 4]]


@pytest.fixture
def scorer(explainer: Explainer) -> Scorer:
    return explainer.scorer(IMAGE, [1, 4])


def test_the_whole_picture_scores_as_the_model_does(explainer: Explainer, scorer: Scorer) -> None:
    np.testing.assert_allclose(scorer.whole, scored(explainer, IMAGE[None])[0], rtol=1e-5)


def test_ranks_keep_the_pixels_between_their_bounds(explainer: Explainer, scorer: Scorer) -> None:
    starts, stops = [0, 0, 50, 192, 7], [192, 60, 192, 192, 8]
    kept = np.stack([(a <= ORDER) & (b > ORDER) for a, b in zip(starts, stops, strict=True)])[:, None]
    for fill in (None, FILL):
        images = np.where(kept, IMAGE, 0 if fill is None else fill).astype(np.float32)
        result = scorer.ranks(ORDER, starts, stops, fill=fill)
        np.testing.assert_allclose(result, scored(explainer, images), rtol=1e-5)


@pytest.mark.parametrize("grid", [(1, 1), (4, 3), (5, 7), (16, 12)])
def test_masks_of_any_grid_blend_the_picture_with_the_fill(
    explainer: Explainer, scorer: Scorer, grid: tuple[int, int]
) -> None:
    masks = RNG.random((5, *grid), np.float32)
    kept = upsample(masks, (16, 12))[:, None]
    for fill in (None, FILL):
        images = IMAGE * kept + (0 if fill is None else fill) * (1 - kept)
        result = scorer.masks(masks, fill=fill)
        np.testing.assert_allclose(result, scored(explainer, images.astype(np.float32)), rtol=1e-5)


def test_any_images_are_scored_given_or_made_on_the_way(explainer: Explainer, scorer: Scorer) -> None:
    images = RNG.normal(size=(7, 3, 16, 12)).astype(np.float32)
    expected = scored(explainer, images)
    np.testing.assert_allclose(scorer.images(images), expected, rtol=1e-5)
    np.testing.assert_allclose(scorer.images(lambda rows: images[rows], count=7), expected, rtol=1e-5)


def test_a_mask_of_ones_scores_exactly_as_the_whole_picture(scorer: Scorer) -> None:
    np.testing.assert_array_equal(scorer.masks(np.ones((1, 16, 12)))[0], scorer.whole)
    np.testing.assert_array_equal(scorer.images(IMAGE[None])[0], scorer.whole)


def test_one_target_alone_scores_as_among_others(scorer: Scorer) -> None:
    alone = scorer.only(1)
    assert [target.index for target in alone.targets] == [4]
    np.testing.assert_array_equal(alone.masks(np.ones((1, 1, 1)))[:, 0], scorer.masks(np.ones((1, 1, 1)))[:, 1])


def test_forward_passes_and_progress_are_counted(explainer: Explainer) -> None:
    scorer, heard = explainer.scorer(IMAGE), []
    scorer.ranks(ORDER, [0] * 9, [192] * 9, progress=lambda done, of: heard.append((done, of)))
    scorer.only(0).masks(np.ones((2, 1, 1)))
    assert scorer.passes == 11
    assert heard[-1] == (9, 9)


def test_logits_are_scored_on_request(explainer: Explainer) -> None:
    logits = explainer.scorer(IMAGE, [1, 4], score="logit").masks(np.full((1, 1, 1), 0.5))
    ratio = explainer.scorer(IMAGE, [1, 4]).masks(np.full((1, 1, 1), 0.5))
    np.testing.assert_allclose(logits[0, 0] - logits[0, 1], np.log(ratio[0, 0] / ratio[0, 1]), rtol=1e-4)


def test_bytes_in_another_axis_order_are_scored_as_the_file_takes_them() -> None:
    proto, picture = filled(PIXELS), RNG.integers(0, 256, (16, 12, 3), np.uint8)
    with opened(proto) as explainer:
        scorer = explainer.scorer(picture.transpose(2, 0, 1).astype(np.float32), 2)
        kept = (ORDER < 100)[..., None]
        expected = probabilities(proto, np.where(kept, picture, 0)[None].astype(np.uint8))[:, [2]]
        np.testing.assert_allclose(scorer.ranks(ORDER, [0], [100]), expected, rtol=1e-5)


def test_an_export_whose_samples_change_each_other_scores_each_row_alone() -> None:
    proto = filled(SCALED_BY_BATCH)
    with opened(proto) as explainer:
        shape = (3, *explainer.size)
        image = RNG.normal(size=shape).astype(np.float32)
        scorer = explainer.scorer(image, [0])
        masks = np.asarray([0.2, 1.0, 0.7], np.float32).reshape(3, 1, 1)
        together = scorer.masks(masks)
        alone = np.concatenate([scorer.masks(m[None]) for m in masks])
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        logits = np.concatenate([session.run(None, {name: np.stack([image * m] * 2)})[0][:1] for m in masks])
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(together, expected[:, :1], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: s.ranks(np.zeros((3, 3), int), [0], [1]), "ranks have the image's shape"),
        (lambda s: s.ranks(ORDER, [0, 1], [1]), "as many numbers each"),
        (lambda s: s.ranks(ORDER + 0.5, [0], [1]), "whole numbers"),
        (lambda s: s.ranks(ORDER, [0], [2**40]), "whole numbers of 32 bits"),
        (lambda s: s.masks(np.full((1, 2, 2), 1.5)), r"masks lie in \[0,1\]"),
        (lambda s: s.masks(np.full((1, 2, 2), np.nan)), r"masks lie in \[0,1\]"),
        (lambda s: s.masks(np.ones((2, 2))), r"shape \(N, 2 sides\)"),
        (lambda s: s.masks(np.ones((1, 2, 2)), fill=np.zeros((3, 2, 2))), "a fill has the image's shape"),
        (lambda s: s.images(np.zeros((1, 3, 2, 2))), "images have the shape"),
        (lambda s: s.masks([[1], [1, 0]]), "masks cannot be read as an array"),
        (lambda s: s.masks(np.ones((1, 2, 2)), fill=[[1], [1, 0]]), "fill cannot be read as an array"),
        (lambda s: s.images([[1], [1, 0]]), "images cannot be read as an array"),
        (lambda s: s.ranks([[1], [1, 0]], [0], [1]), "ranks cannot be read as an array"),
        (lambda s: s.images(lambda rows: IMAGE[None]), "needs `count`"),
        (lambda s: s.only(2), "no target 2"),
    ],
)
def test_what_does_not_fit_is_refused(scorer: Scorer, call: object, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        call(scorer)


def test_targets_of_two_outputs_need_two_scorers(explainer: Explainer) -> None:
    with pytest.raises(OptionError, match="targets of one output"):
        explainer.scorer(IMAGE, [1, Element((0,))])


def test_no_rows_give_no_scores(scorer: Scorer) -> None:
    assert scorer.masks(np.zeros((0, 2, 2))).shape == (0, 2)


def test_a_scorer_ends_with_its_explainer() -> None:
    explainer = opened(filled(CLASSIFIER))
    scorer = explainer.scorer(IMAGE)
    explainer.close()
    with pytest.raises(InferenceError, match="closed"):
        scorer.masks(np.ones((1, 1, 1)))


@pytest.mark.parametrize("target", [None, "a", 1.0, True, -1, 10**40, float("nan"), [0], np.array([0])])
def test_what_is_no_index_of_a_target_is_an_option_error(scorer: Scorer, target: Any) -> None:
    with pytest.raises(OptionError, match="there are 2 targets"):
        scorer.only(target)


@pytest.mark.parametrize("count", [None, -2, "a", 1.5, True, float("nan")])
def test_the_number_of_made_images_is_a_whole_number_from_0(scorer: Scorer, count: Any) -> None:
    with pytest.raises(OptionError, match="count"):
        scorer.images(lambda rows: IMAGE[None].repeat(len(rows), 0), count=count)


@pytest.mark.parametrize(
    "made", [None, "abc", IMAGE, IMAGE[None][:0], IMAGE[None].repeat(9, 0), np.zeros((3, 3, 2, 2))]
)
def test_images_that_a_function_makes_have_the_image_s_shape_and_their_number(scorer: Scorer, made: Any) -> None:
    with pytest.raises(OptionError, match=r"images have the shape \(\d, 3, 16, 12\)"):
        scorer.images(lambda rows: made, count=3)


@pytest.mark.parametrize("ranks", [None, "", b"x", [None], ORDER / 1.0])
def test_ranks_that_are_no_whole_numbers_are_an_option_error(scorer: Scorer, ranks: Any) -> None:
    with pytest.raises(OptionError, match="ranks are whole numbers"):
        scorer.ranks(ranks, [0], [1])
    with pytest.raises(OptionError, match="starts are whole numbers"):
        scorer.ranks(ORDER, ranks, [1])


def test_a_progress_that_cannot_be_called_is_an_option_error(scorer: Scorer) -> None:
    with pytest.raises(OptionError, match="progress is a function"):
        scorer.masks(np.ones((1, 4, 3)), progress=3)
