"""The next pictures are read while the present ones are scored; order, errors and memory are as one after another."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxcam import Element, Explainer, Preset, Similarity, score_cam
from onnxcam.errors import OnnxCamError, OptionError, PictureError, TargetError
from onnxcam.explainer.prefetch import ahead, explain_each
from onnxcam.explainer.results import ForwardPass, ForwardResult

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPHS = np.random.default_rng(3).integers(0, 256, (4, 40, 30, 3)).astype(np.uint8)
DEADLINE = 30


@pytest.fixture
def explainer(classifier: onnx.ModelProto) -> Iterator[Explainer]:
    with Explainer(classifier, providers=["cpu"], preset=PLAIN) as opened:
        yield opened


def test_results_come_in_order() -> None:
    assert [f.result() for f in ahead(range(7), lambda i: i * i)] == [i * i for i in range(7)]
    assert list(ahead([], lambda i: i)) == []


def test_the_next_is_made_while_the_present_one_is_dealt_with_and_no_more() -> None:
    begun = [threading.Event() for _ in range(4)]
    each = ahead(range(4), lambda i: begun[i].set())
    next(each).result()
    assert begun[1].wait(DEADLINE), "the second is made without being asked for"
    assert not begun[2].wait(0.05), "two at most are alive"
    next(each)
    assert begun[2].wait(DEADLINE)


def test_an_error_is_raised_at_its_place() -> None:
    def inverse(i: int) -> float:
        return 1 / i

    results = ahead([1, 0, 2], inverse)
    assert next(results).result() == 1
    with pytest.raises(ZeroDivisionError):
        next(results).result()
    assert next(results).result() == 0.5


def test_closing_ends_what_runs_and_begins_nothing() -> None:
    done: list[int] = []
    each = ahead(range(9), done.append)
    next(each).result()
    each.close()
    count = len(done)
    assert count <= 2
    assert not any(t.name.startswith("onnxcam-ahead") for t in threading.enumerate())


def test_a_batch_gives_what_one_after_another_gives(explainer: Explainer) -> None:
    for saliency, photograph in zip(explainer.batch(PHOTOGRAPHS), PHOTOGRAPHS, strict=True):
        alone = explainer(photograph)
        np.testing.assert_array_equal(saliency.map, alone.map)
        assert saliency.target == alone.target
        assert saliency.provenance.forwards == alone.provenance.forwards


def test_the_pictures_of_a_batch_are_run_ahead_in_another_thread(explainer: Explainer) -> None:
    threads: list[str] = []

    def pictures() -> Iterator[np.ndarray]:
        yield from PHOTOGRAPHS

    forward = explainer._forward
    explainer._forward = lambda *a, **k: (threads.append(threading.current_thread().name), forward(*a, **k))[1]  # type: ignore[method-assign]
    assert len(explainer.batch(pictures())) == 4
    assert len(threads) == 4
    assert all(name.startswith("onnxcam-ahead") for name in threads)


def test_an_error_in_a_batch_names_its_picture(explainer: Explainer, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(PHOTOGRAPHS[0]).save(path)
    paths[1].write_bytes(b"\x89PNG broken")
    with pytest.raises(PictureError, match=r"1\.png"):
        explainer.batch(paths)


def test_a_forward_pass_is_explained_without_another_one(explainer: Explainer) -> None:
    expected = explainer.explain(PHOTOGRAPHS[0], ["rank2", 3], name="one")
    forward_pass = explainer._forward(PHOTOGRAPHS[0], ["rank2", 3], name="one")
    (explained,) = explainer._explain_batch([forward_pass], [["rank2", 3]])
    assert isinstance(explained, list)
    for a, b in zip(explained, expected, strict=True):
        np.testing.assert_array_equal(a.map, b.map)
        assert a.target == b.target
        assert a.provenance.image == "one"
        assert a.provenance.forwards == b.provenance.forwards
    with pytest.raises(OptionError, match="no target"):
        explainer.explain(PHOTOGRAPHS[0], [])


def test_a_forward_pass_of_another_explainer_or_head_is_refused(classifier: onnx.ModelProto) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    with (
        Explainer(classifier, providers=["cpu"], preset="unit") as one,
        Explainer(classifier, providers=["cpu"], preset="raw") as other,
    ):
        forward_pass = one._forward(picture)
        one._explain_batch([forward_pass], [[None]])
        with pytest.raises(OptionError, match="made by another explainer"):
            other._explain_batch([forward_pass], [[None]])
        with pytest.raises(OptionError, match="made for other targets"):
            one._explain_batch([forward_pass], [[Element((0,))]])


def test_a_batch_takes_one_target_per_picture_or_one_for_all(explainer: Explainer) -> None:
    for targets in ([0, "1", None, 3], (0, "1", None, 3)):
        for saliency, photograph, target in zip(
            explainer.batch(PHOTOGRAPHS, targets), PHOTOGRAPHS, targets, strict=True
        ):
            alone = explainer(photograph, target)
            np.testing.assert_array_equal(saliency.map, alone.map)
            assert saliency.target == alone.target
    assert [s.target.index for s in explainer.batch(iter(PHOTOGRAPHS), np.array([3, 2, 1, 0]))] == [3, 2, 1, 0]
    assert [s.target.index for s in explainer.batch(PHOTOGRAPHS, 4)] == [4] * 4


@pytest.mark.parametrize("targets", [[1, 2, 3], [1, 2, 3, 4, 0]])
def test_as_many_targets_as_pictures_are_needed(explainer: Explainer, targets: list[int]) -> None:
    with pytest.raises(OptionError, match="targets for 4 pictures"):
        explainer.batch(PHOTOGRAPHS, targets)
    with pytest.raises(OptionError, match=f"{len(targets)} targets for"):
        explainer.batch(iter(PHOTOGRAPHS), targets)


def test_each_picture_comes_with_what_its_maps_are_drawn_over(explainer: Explainer, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(PHOTOGRAPHS[0]).save(path)
    prepared = explainer.prepare(PHOTOGRAPHS[1]).image
    first, second = explain_each(explainer, [(path, [0, 1]), (prepared, [2])])
    assert [s.target.index for s in first.saliencies] == [0, 1]
    assert first.saliencies[0].provenance.image == str(path)
    np.testing.assert_array_equal(first.original, PHOTOGRAPHS[0])
    np.testing.assert_array_equal(second.original, prepared)


def test_without_keep_going_a_broken_picture_is_reported_before_its_group_is_scored(
    classifier: onnx.ModelProto,
) -> None:
    with Explainer(classifier, score_cam(budget=2), providers=["cpu"], preset=PLAIN, batch=32) as explainer:
        assert explainer._batch_hint > 2
        pictures = [(PHOTOGRAPHS[0], [None]), ("nowhere.png", [None]), (PHOTOGRAPHS[1], [None])]
        scored: list[Sequence[int]] = []

        def progress(numbers: Sequence[int]) -> list[None]:
            scored.append(numbers)
            return [None] * len(numbers)

        (result,) = explain_each(explainer, pictures, keep_going=False, progress=progress)
        assert (result.number, type(result.error), scored) == (1, PictureError, [])
        every = list(explain_each(explainer, pictures, progress=progress))
        assert [type(r.error) for r in every] == [type(None), PictureError, type(None)]
        assert scored == [[0, 2]]


def test_pictures_are_explained_in_constant_memory(explainer: Explainer) -> None:
    """Pictures are requested while results come: never more than two groups ahead of the consumer."""
    read: list[int] = []

    def pictures() -> Iterator[tuple[np.ndarray, list[int]]]:
        for number in range(9 * explainer._batch_hint):
            read.append(number)
            yield PHOTOGRAPHS[number % 4], [0]

    for result in explain_each(explainer, pictures()):
        assert len(read) <= (result.number // explainer._batch_hint + 2) * explainer._batch_hint


def test_an_explanation_of_many_ends_its_thread_when_it_is_closed(explainer: Explainer) -> None:
    results = explain_each(explainer, [(photograph, [0]) for photograph in PHOTOGRAPHS])
    assert next(results).number == 0
    results.close()
    assert not any(t.name.startswith("onnxcam-ahead") for t in threading.enumerate())


def test_the_targets_of_a_batch_may_be_of_different_heads(explainer: Explainer) -> None:
    targets = [Element((1,)), 2, Similarity(PHOTOGRAPHS[0], "logits"), "top1"]
    for saliency, photograph, target in zip(explainer.batch(PHOTOGRAPHS, targets), PHOTOGRAPHS, targets, strict=True):
        alone = explainer(photograph, target)
        np.testing.assert_allclose(saliency.map, alone.map, atol=1e-5)
        assert saliency.target.index == alone.target.index
        assert saliency.target.kind == alone.target.kind


def test_pictures_that_were_read_ahead_are_released_when_the_generator_is_closed(
    explainer: Explainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[int] = []
    release, run = ForwardPass.release, explainer._forward
    pictures = [explainer.prepare(photograph).image for photograph in PHOTOGRAPHS]
    group = explainer._batch_hint
    assert group < len(pictures), "a second group is read ahead"
    read_ahead, numbers = threading.Event(), {id(picture): i for i, picture in enumerate(pictures)}

    def forward(picture: np.ndarray, *args: object, **options: object) -> ForwardPass:
        result = run(picture, *args, **options)  # type: ignore[arg-type]
        passes[id(result)] = numbers[id(picture)]
        if passes[id(result)] >= group:
            read_ahead.set()
        return result

    passes: dict[int, int] = {}
    monkeypatch.setattr(explainer, "_forward", forward)
    monkeypatch.setattr(ForwardPass, "release", lambda self: (released.append(passes[id(self)]), release(self))[1])
    results = explain_each(explainer, [(picture, [0]) for picture in pictures])
    next(results)
    # Closing cancels a group that the thread has not begun, and then there is nothing to release.
    assert read_ahead.wait(DEADLINE)
    results.close()
    assert released == list(range(group, min(2 * group, len(pictures))))
    released.clear()
    assert len(list(explain_each(explainer, [(picture, [0]) for picture in pictures]))) == len(pictures)
    assert released == []


def test_a_picture_that_fails_is_released_on_every_head(explainer: Explainer, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[str] = []
    release = ForwardResult.release
    monkeypatch.setattr(
        ForwardResult, "release",
        lambda self: (released.append(self.runner.opened.anatomy.logits.kind), release(self))[1],
    )  # fmt: skip
    with pytest.raises(TargetError):
        explainer.explain(PHOTOGRAPHS[0], [99, Element((1,))])
    assert {"classes", "elements"} <= set(released)
    released.clear()
    with pytest.raises(OnnxCamError):
        explainer.explain(PHOTOGRAPHS[0], [0, Element((1,), output="nope")])
    assert set(released) == {"classes"}
