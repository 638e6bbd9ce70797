"""Maps of other tools: how their files are named, read and laid on the model's input, and that they are measured so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_models import CLASSIFIER, filled

from onnxcam import Explainer, Preset
from onnxcam.errors import OptionError, PictureError
from onnxcam.evaluation import map_rows
from onnxcam.evaluation.dataset import DataItem, LabelledBox
from onnxcam.evaluation.evaluator import Evaluator
from onnxcam.evaluation.model_request import ModelRequest
from onnxcam.evaluation.options import EvaluationOptions
from onnxcam.evaluation.other_maps import map_file, on_input, read_map
from onnxcam.metrics.measurement import Measurement
from onnxcam.types import Placement

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
SIZE = (16, 12)
BOX = (4.0, 6.0, 20.0, 30.0)


def values(shape: tuple[int, ...] = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.fixture
def item(tmp_path: Path) -> DataItem:
    path = tmp_path / "a.jpg"
    Image.fromarray((255 * values((40, 30, 3))).astype(np.uint8)).save(path)
    return DataItem(path, "cats/a.jpg", boxes=(LabelledBox(BOX),))


def test_a_map_is_measured_as_measure_does(item: DataItem, tmp_path: Path) -> None:
    (tmp_path / "their tool" / "cats").mkdir(parents=True)
    np.save(tmp_path / "their tool" / "cats" / "a.npy", values())
    opening: dict[str, Any] = {"providers": ["cpu"], "preset": PLAIN, "batch": 8}
    options = EvaluationOptions(maps_folder=tmp_path / "their tool", baselines=(), keep_maps=True)
    model = filled(CLASSIFIER).SerializeToString()
    with Evaluator(ModelRequest(model, opening), options) as one, Explainer(model, **opening) as alone:
        result = one.evaluate(item, "sha")
        expected = alone.measure(values(), "all", picture=item.path, box=BOX)
        for row in result.rows:
            assert row.key.method == row.method_name == "their tool"
            if row.key.metric == "adcc":  # which would explain again, by a method that is not here
                assert (row.value, "no method was given" in str(row.reason)) == (None, True)
            else:
                assert row.value == pytest.approx(expected[row.key.metric].value, abs=1e-6)
        np.testing.assert_array_equal(result.maps["their tool"], values())


def test_a_number_that_is_not_finite_is_an_undefined_value(item: DataItem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_rows, "measure", lambda *_, **__: Measurement("sparseness", float("inf")))
    options = EvaluationOptions(["grad-cam"], ["sparseness"], ())
    with Evaluator(ModelRequest(filled(CLASSIFIER).SerializeToString(), {"preset": PLAIN}), options) as one:
        (row,) = one.evaluate(item, "sha").rows
    assert (row.value, row.reason, row.error) == (None, "the metric gave inf, which is no finite number", None)


def test_a_map_that_cannot_be_used_is_a_row_with_its_reason(item: DataItem, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    (tool / "cats").mkdir(parents=True)
    options = EvaluationOptions(["grad-cam"], ["deletion", "average-drop"], (), maps_folder=tool)
    with Evaluator(ModelRequest(filled(CLASSIFIER).SerializeToString(), {"preset": PLAIN}), options) as one:
        *made, missing = one.evaluate(item, "sha").rows
        assert [row.error for row in made] == [None, None]
        assert "no map of cats/a.jpg (a.npy, a.npz, a.png)" in str(missing.error)
        np.save(tool / "cats" / "a.npy", values((17, 12)))
        assert "neither of the model's input 16x12" in str(one.evaluate(item, "sha").rows[-1].error)
        np.save(tool / "cats" / "a.npy", np.full(SIZE, np.nan))
        assert "NaN" in str(one.evaluate(item, "sha").rows[-1].error)
        np.save(tool / "cats" / "a.npy", 3 * values())
        *_, deleted, dropped = one.evaluate(item, "sha").rows
        assert deleted.value is not None, "which orders pixels alone"
        assert (dropped.value, dropped.error) == (None, None)
        assert "must lie in [0,1]" in str(dropped.reason)


def test_a_picture_s_own_ending_comes_first_and_two_files_are_one_too_many(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg.npy"):
        (tmp_path / name).touch()
    assert map_file(tmp_path, "a.jpg").name == "a.jpg.npy"
    assert map_file(tmp_path, "a.webp").name == "a.png"
    assert map_file(tmp_path, "/a.webp").name == "a.png", "an absolute key, below its root"
    (tmp_path / "a.npz").touch()
    with pytest.raises(PictureError, match="are both the map"):
        map_file(tmp_path, "a.webp")
    with pytest.raises(PictureError, match="leads out"):
        map_file(tmp_path, "../a.jpg")
    with pytest.raises(PictureError, match="no such folder"):
        map_file(tmp_path / "gone", "a.jpg")


def test_files_of_every_kind_hold_the_same_map(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, SIZE)
    expected = grey / 255
    np.save(tmp_path / "a.npy", expected)
    np.save(tmp_path / "batch.npy", expected[None])
    np.savez(tmp_path / "a.npz", expected)
    np.savez_compressed(tmp_path / "b.npz", map=expected, other=np.zeros(3))
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / "b.png")
    for name in ("a.npy", "batch.npy", "a.npz", "b.npz", "a.png", "b.png"):
        np.testing.assert_allclose(read_map(tmp_path / name, SIZE, None), expected, atol=1e-6, err_msg=name)


def test_files_that_hold_no_map_are_refused_in_a_sentence(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 12, 3), np.uint8)).save(tmp_path / "colour.png")
    np.savez(tmp_path / "two.npz", a=values(), b=values())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:100])
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    for name, says in (
        ("colour.png", "mode RGB"),
        ("two.npz", "not clear"),
        ("cut.npz", "no .npz"),
        ("objects.npy", "numbers"),
    ):
        with pytest.raises(PictureError, match=says):
            read_map(tmp_path / name, SIZE, None)


def test_a_map_on_the_picture_is_cut_out_where_the_model_looks() -> None:
    """Of a ramp, the linear resize is the ramp at the places of the input's pixels, but at the borders."""
    height, width = 40, 60
    across = np.broadcast_to(np.arange(width, dtype=np.float32) + 0.5, (height, width))
    left, top, right, bottom = 10.0, 5.0, 50.0, 35.0
    cut = on_input(across.copy(), (15, 20), Placement((height, width), (left, top, right, bottom)), "map")
    places = left + (np.arange(20) + 0.5) * (right - left) / 20
    np.testing.assert_allclose(cut[:, 1:-1], np.broadcast_to(places[1:-1], (15, 18)), atol=1e-4)


def test_beyond_the_picture_there_is_nothing() -> None:
    ones = np.ones((10, 20), np.float32)
    boxed = on_input(ones, (20, 20), Placement((10, 20), (0.0, -5.0, 20.0, 15.0)), "map")
    expected = np.zeros((20, 20))
    expected[5:15] = 1
    np.testing.assert_array_equal(boxed, expected)


def test_a_coarse_map_is_enlarged_as_the_library_enlarges_masks() -> None:
    coarse = on_input(np.array([[0.0, 1.0]], np.float32), (1, 4), None, "map")
    np.testing.assert_allclose(coarse, [[0, 0.25, 0.75, 1]])


@pytest.mark.parametrize(("name", "kind"), [("gaussian", "baseline"), ("ones", "baseline"), ("rise", "method")])
def test_a_folder_named_like_a_method_or_a_baseline_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    """Also where that is not measured: rows have the name alone, and it would be taken for it."""
    with pytest.raises(OptionError, match=f"{name} is the name of a {kind}; rename this folder"):
        EvaluationOptions(["cam"], baselines=(), maps_folder=tmp_path / name)


def test_a_folder_without_a_name_of_its_own_is_refused(tmp_path: Path) -> None:
    for name in ("x/tool", "y/tool"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(OptionError, match="tool is given twice"):
        EvaluationOptions(maps_folder=[tmp_path / "x/tool", tmp_path / "y/tool"])
