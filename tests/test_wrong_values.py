"""A wrong value for any argument of a public function is an OnnxCamError of one line, or is taken; never another error."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam import Explainer, OnnxCamError, read_data
from onnxcam.inputs import bundled

IMAGE = np.random.default_rng(2).standard_normal((3, 16, 12)).astype(np.float32)
PICTURE = np.random.default_rng(2).integers(0, 256, (16, 12, 3)).astype(np.uint8)
MAP = np.random.default_rng(3).random((16, 12), np.float32)
WRONG = {
    "None": None, "empty text": "", "NUL": "\0", "bytes": b"x", "no file": Path("/nowhere/x"), "True": True,
    "NaN": float("nan"), "infinity": float("inf"), "-1": -1, "0": 0, "10**12": 10**12, "10**5000": 10**5000,
    "date": np.datetime64("2020"), "object": object(), "list": [0], "tuple": ("a",), "mapping": {},
    "empty array": np.zeros(0), "complex array": np.zeros((2, 2), complex), "objects": np.array([None, {}], object),
}  # fmt: skip
FREE = {"progress"}
"""Arguments that are tested elsewhere."""
LONG = {"evaluate", "sanity_check"}
"""A call takes long. The options of sanity_check are tested here, those of evaluate in evaluation/test_resume.py."""
KEPT: Mapping[str, Mapping[str, Any]] = {
    "method": {"name": "grad-cam"},
    "read_data": {"source": bundled.pictures()["coffee"].parent},
}
"""Arguments of a function that are right while the others are wrong, unless it is their turn."""
SETTINGS = (
    "Limits",
    "MemoryCap",
    "EngineOptions",
    "SanityOptions",
    "Box",
    "Region",
    "Timestep",
    "Similarity",
    "Element",
)


@pytest.fixture(scope="module")
def explainer() -> Iterator[Explainer]:
    with Explainer(filled(CLASSIFIER), "grad-cam", providers=["cpu"], batch=4, cache=False) as each:
        yield each


@pytest.fixture(scope="module")
def valid(explainer: Explainer) -> Mapping[str, Any]:
    """A value for each argument that has no default, by its name."""
    return {
        "scorer": explainer.scorer(IMAGE), "saliency_map": MAP, "saliency": explainer(IMAGE), "box": (1, 1, 9, 9),
        "explain": lambda image: MAP, "source": PICTURE, "picture": PICTURE, "image": IMAGE, "images": [IMAGE],
        "map": MAP, "size": (4, 3), "method": "grad-cam", "placement": None, "index": (1,), "reference": np.zeros(4),
        "saliencies": [explainer(IMAGE)], "photograph": explainer(PICTURE),
        "photographs": explainer.batch([PICTURE]), "model": filled(CLASSIFIER), "dataset": read_data(bundled.pictures()["coffee"]), "n": 1,
    }  # fmt: skip


def functions() -> list[str]:
    public = [name for name in onnxcam.__all__ if inspect.isfunction(getattr(onnxcam, name)) and name not in LONG]
    return sorted({*public, *SETTINGS})


def check(function: Callable[..., Any], valid: Mapping[str, Any], keep: Mapping[str, Any]) -> None:
    parameters = {
        name: each for name, each in inspect.signature(function).parameters.items() if each.kind is not each.VAR_KEYWORD
    }
    needed = {name: valid[name] for name, each in parameters.items() if each.default is each.empty and name in valid}
    for name, parameter in parameters.items():
        for label, value in WRONG.items() if name not in FREE else ():
            named = {**needed, **keep, name: value}
            first = [named.pop(name)] if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL) else []
            before = [named.pop(each) for each in needed if parameter.kind is parameter.VAR_POSITIONAL]
            try:
                result = function(*before, *first, **named)
                if inspect.isgenerator(result):
                    next(result, None)
            except OnnxCamError as error:
                assert str(error).strip(), (name, label)
                assert "\n" not in str(error), (name, label, str(error))
                assert len(str(error)) < 700, (name, label, str(error))
            except Exception as error:  # noqa: BLE001 - the name of the argument is what a reader needs
                pytest.fail(f"{name}={label}: {type(error).__name__}: {error}")


@pytest.mark.parametrize("name", functions())
def test_a_wrong_value_of_a_function_is_an_error_of_one_line(name: str, valid: Mapping[str, Any]) -> None:
    check(getattr(onnxcam, name), valid, KEPT.get(name, {}))


@pytest.mark.parametrize("name", ["__call__", "explain", "batch", "scorer", "prepare", "with_method", "measure"])
def test_a_wrong_value_of_an_explainer_s_method_is_an_error_of_one_line(
    explainer: Explainer, valid: Mapping[str, Any], name: str
) -> None:
    keep = {"picture": IMAGE} if name == "measure" else {}
    check(getattr(explainer, name), valid, keep)


@pytest.mark.parametrize("name", ["ranks", "masks", "images", "only"])
def test_a_wrong_value_of_a_scorer_s_method_is_an_error_of_one_line(
    explainer: Explainer, valid: Mapping[str, Any], name: str
) -> None:
    ranks = {"ranks": np.arange(192).reshape(16, 12), "starts": [0], "stops": [9]}
    others = {"masks": np.ones((1, 4, 3)), "images": IMAGE[None], "target": 0}
    check(getattr(valid["scorer"], name), {**valid, **ranks, **others}, {})


RESULT = ["on_picture", "regions", "boxes", "mask", "contours", "overlay", "heatmap", "save", "to_dict", "plot"]


@pytest.mark.parametrize("name", RESULT)
def test_a_wrong_value_of_a_result_s_method_is_an_error_of_one_line(
    valid: Mapping[str, Any], tmp_path: Path, name: str
) -> None:
    check(getattr(valid["photograph"], name), {**valid, "path": tmp_path / "map.png"}, {})


@pytest.mark.parametrize("name", ["save_all", "to_rows", "to_dataframe"])
def test_a_wrong_value_of_several_results_method_is_an_error_of_one_line(
    valid: Mapping[str, Any], tmp_path: Path, name: str
) -> None:
    check(getattr(valid["photographs"], name), {**valid, "folder": tmp_path / "maps"}, {})
