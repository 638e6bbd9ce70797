"""The next picture is made ready while the present one is scored; order, errors and memory are as one after another."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxcam import Explainer, Preset
from onnxcam.errors import OptionError, PictureError
from onnxcam.explainer.prefetch import ahead

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
    assert not begun[2].wait(0.05), "two at most are held"
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
    made: list[int] = []
    each = ahead(range(9), made.append)
    next(each).result()
    each.close()
    count = len(made)
    assert count <= 2
    assert not any(t.name.startswith("onnxcam-ahead") for t in threading.enumerate())


def test_a_batch_gives_what_one_after_another_gives(explainer: Explainer) -> None:
    for found, photograph in zip(explainer.batch(PHOTOGRAPHS), PHOTOGRAPHS, strict=True):
        alone = explainer(photograph)
        np.testing.assert_array_equal(found.map, alone.map)
        assert found.target == alone.target
        assert found.provenance.forwards == alone.provenance.forwards


def test_pictures_of_a_batch_are_looked_at_in_another_thread(explainer: Explainer) -> None:
    threads: list[str] = []

    def pictures() -> Iterator[np.ndarray]:
        yield from PHOTOGRAPHS

    look = explainer.look
    explainer.look = lambda *a, **k: (threads.append(threading.current_thread().name), look(*a, **k))[1]  # type: ignore[method-assign]
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


def test_what_was_looked_at_is_explained_without_another_pass(explainer: Explainer) -> None:
    expected = explainer.explain(PHOTOGRAPHS[0], ["top2", 3], name="one")
    looked = explainer.forward(PHOTOGRAPHS[0], ["top2", 3], name="one")
    found = explainer.explain(looked, ["top2", 3])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.map, b.map)
        assert a.target == b.target
        assert a.provenance.image == "one"
        assert a.provenance.forwards == b.provenance.forwards
    with pytest.raises(OptionError, match="no target"):
        explainer.explain(looked, [])


def test_what_another_explainer_looked_at_is_refused(classifier: onnx.ModelProto) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    with (
        Explainer(classifier, providers=["cpu"], preset="unit") as one,
        Explainer(classifier, providers=["cpu"], preset="raw") as other,
    ):
        looked = one.forward(picture)
        one.explain(looked)
        with pytest.raises(OptionError, match="looked at by another explainer"):
            other.explain(looked)
