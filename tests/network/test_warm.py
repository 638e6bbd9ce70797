"""A model that was opened before opens from what is stored: the same map, the same record, and no onnx."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from forked import in_fork
from small_models import CLASSIFIER, Make, filled
from zoo_records import HEAVY, listed, name_of

from onnxcam import Explainer, Limits
from onnxcam.errors import ModelError, OnnxCamError
from onnxcam.methods import METHODS as ALL_METHODS
from onnxcam.network import cache, first_opening, stored_graphs
from onnxcam.network.opened import scoring_bytes
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.network.warm import Opening, opening_key
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.autodiff.rules.registry import VJP_RULES
from onnxcam.surgeon.loading import read_model

IMAGE = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)
METHODS = ("score-cam", "grad-cam", "opti-cam", "recipro-cam", "gradient", "rise")
"""One of each way to use a graph: scores of masks, gradients by three tensors, the tail, masks of their own."""
ONNX = ("onnx", "onnx_ir", "onnxscript", "sympy", "pydantic")
NEVER = (*ONNX, "greenlet", "matplotlib")
UNASKED = (
    "onnxcam.metrics", "onnxcam.explainer.measuring", "onnxcam.explainer.isolation", "onnxcam.explainer.fusion",
    "onnxcam.explainer.scheduling", "onnxcam.explainer.targets.registry", "onnxcam.engine.io_binding",
    "onnxcam.network.ranked_scorer", "onnxcam.outputs.figure", "onnxcam.cli.watched_folder",
    "onnxcam.cli.compare_options",
)  # fmt: skip
"""What no plain explanation needs: each brings others, which it alone imports."""
MOST = 175
"""Modules of onnxcam that an explanation loads. Most hold dataclasses, which take half a millisecond each to make."""
METHOD_FILES = {maker.__module__.rpartition(".")[2] for maker in ALL_METHODS.values()}
"""The files of methods/ that hold a method."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def first_openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened as if for the first time."""
    names: list[str] = []
    real = first_opening.open_first

    def counted(file: Any, options: Any) -> Any:
        names.append(file.name)
        return real(file, options)

    monkeypatch.setattr(first_opening, "open_first", counted)
    return names


def plain(saliency: Saliency) -> Any:
    """The record without what the clock says."""
    return without_seconds(saliency.to_dict())


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if "seconds" not in k}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def explained(model: Any, method: str = "score-cam", **arguments: Any) -> tuple[Any, Any]:
    with Explainer(model, method, providers=["cpu"], **arguments) as explain:
        saliency = explain(IMAGE)
    return saliency.map, plain(saliency)


def check_same(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1] == other[1]


@pytest.mark.parametrize("method", METHODS)
def test_the_second_opening_gives_the_same_map_and_record(
    classifier_file: Path, method: str, first_openings: list[str]
) -> None:
    cold = explained(classifier_file, method)
    assert len(first_openings) == 1
    warm = explained(classifier_file, method)
    assert len(first_openings) == 1
    check_same(warm, cold)
    check_same(explained(classifier_file, method, cache=False), cold)


def test_what_a_rule_from_outside_makes_is_not_stored(classifier_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = explained(classifier_file, "gradient")
    key = ("Relu", 14)
    monkeypatch.setitem(VJP_RULES, key, replace(VJP_RULES[key], rule=lambda op, node, dy: dy))
    linear = explained(classifier_file, "gradient", cache=False)
    assert not np.allclose(linear[0], usual[0], atol=0.01)
    for _ in range(2):
        check_same(explained(classifier_file, "gradient"), linear)
    monkeypatch.undo()
    check_same(explained(classifier_file, "gradient"), usual)


COMMAND = """
import sys
from onnxcam.cli.start import start
try:
    start()
finally:
    print(sorted(sys.modules), file=sys.stderr)
"""


def run(*words: str) -> tuple[dict[str, Any], set[str]]:
    """(the JSON record, the modules that were loaded) of a command in a process of its own."""
    done = subprocess.run([sys.executable, "-c", COMMAND, *words, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout), set(json.loads(done.stderr.splitlines()[-1].replace("'", '"')))


@pytest.mark.parametrize("words", [[], ["--fast"], ["--method", "grad-cam"], ["--method", "opti-cam"]], ids=str)
def test_a_warm_command_loads_no_onnx_and_nothing_unasked(
    classifier_file: Path, tmp_path: Path, words: list[str]
) -> None:
    picture = Path(__file__).parents[2] / "models" / "coffee.jpg"
    command = ["explain", str(classifier_file), str(picture), "-o", str(tmp_path / "m.npy"), "--overwrite", *words]
    first, loaded = run(*command)
    assert {"onnx", "onnx_ir"} <= loaded
    cold = np.load(tmp_path / "m.npy")
    second, loaded = run(*command)
    assert not loaded & {*NEVER, *UNASKED}
    assert sum(name.startswith("onnxcam.") for name in loaded) <= MOST
    of_methods = {name.removeprefix("onnxcam.methods.") for name in loaded if name.startswith("onnxcam.methods.")}
    assert of_methods & METHOD_FILES == {(words[1] if words[1:] else "score-cam").replace("-", "_")}
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), cold)
    assert without_seconds(second) == without_seconds(first)


def test_a_warm_comparison_loads_no_onnx(classifier_file: Path, tmp_path: Path) -> None:
    picture = Path(__file__).parents[2] / "models" / "coffee.jpg"
    command = ["compare", str(classifier_file), str(picture), "--method", "grad-cam,layer-cam", "--overwrite"]
    first, loaded = run(*command, "-o", str(tmp_path / "c.png"))
    assert {"onnx", "onnx_ir"} <= loaded
    drawn = (tmp_path / "c.png").read_bytes()
    second, loaded = run(*command, "-o", str(tmp_path / "c.png"))
    assert not loaded & set(ONNX)
    assert (tmp_path / "c.png").read_bytes() == drawn
    assert without_seconds(second) == without_seconds(first)


def test_another_model_under_the_same_name_is_opened_anew(classifier_file: Path, first_openings: list[str]) -> None:
    explained(classifier_file)
    other = onnx.load(classifier_file)
    weights = other.graph.initializer[0]
    array = onnx.numpy_helper.to_array(weights)
    weights.CopyFrom(onnx.numpy_helper.from_array(-array, weights.name))
    onnx.save(other, classifier_file)
    check_same(explained(classifier_file), explained(classifier_file, cache=False))
    assert len(first_openings) == 3


def options_of(**changes: Any) -> OpenOptions:
    return replace(OpenOptions(providers=("cpu",)), **changes)


CHANGES: dict[str, dict[str, Any]] = {
    "layer": {"layer": "last-conv"},
    "size": {"size": (16, 12)},
    "output": {"output": "logits"},
    "fill": {"with_fill": True},
    "cells": {"every_cell_counts": True},
    "providers": {"providers": ("auto",)},
    "limits": {"limits": Limits(nodes=49_999)},
    "input": {"inputs": {"x": np.ones(1)}},
}


def test_openings_with_different_options_share_nothing(classifier_file: Path) -> None:
    file = read_model(classifier_file)
    keys = {opening_key(file, options_of(**change)) for change in ({}, *CHANGES.values())}
    assert len(keys) == 1 + len(CHANGES)
    assert None not in keys
    assert opening_key(file, options_of(threads=1, batch=3)) in keys  # which decide nothing of a graph
    assert opening_key(file, options_of(cache=False)) is None


def test_what_is_altered_or_has_weights_elsewhere_is_not_stored(classifier_file: Path, tmp_path: Path) -> None:
    file = read_model(classifier_file)
    assert opening_key(file.with_proto(file.proto), options_of()) is None
    onnx.save(file.proto, tmp_path / "e.onnx", save_as_external_data=True, location="w", size_threshold=0)
    assert opening_key(read_model(tmp_path / "e.onnx"), options_of()) is None


def test_stricter_limits_check_a_file_again(classifier_file: Path) -> None:
    explained(classifier_file)
    with pytest.raises(OnnxCamError, match="nodes"):
        explained(classifier_file, limits=Limits(nodes=2))


def test_a_file_that_is_refused_is_stored_nowhere(tmp_path: Path, folder: Path) -> None:
    model = filled(CLASSIFIER)
    model.graph.node[0].domain = "strange"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    for _ in range(2):
        with pytest.raises(ModelError):
            Explainer(tmp_path / "m.onnx")
    assert not list(folder.glob("*.graph"))


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[::-1]])
@pytest.mark.parametrize("method", ["score-cam", "grad-cam"])
def test_damaged_files_are_written_again(
    classifier_file: Path, folder: Path, method: str, damage: Callable[[bytes], bytes]
) -> None:
    cold = explained(classifier_file, method)
    whole = {path: path.read_bytes() for path in folder.glob("*.graph")}
    assert len(whole) == (2 if method == "score-cam" else 3)
    for path, data in whole.items():
        path.write_bytes(damage(data))
    check_same(explained(classifier_file, method), cold)
    assert {path: path.read_bytes() for path in folder.glob("*.graph")} == whole


def test_a_graph_with_a_right_checksum_that_does_not_open_is_not_used(
    classifier_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = explained(classifier_file)
    real = stored_graphs.load

    def broken(name: str, hint: Any) -> Any:
        stored = real(name, hint)
        return replace(stored, graph=stored.graph[:100]) if stored is not None and stored.graph else stored

    monkeypatch.setattr(stored_graphs, "load", broken)
    check_same(explained(classifier_file), cold)


def test_a_folder_that_is_read_only_serves(
    classifier_file: Path, folder: Path, first_openings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "read-only")

    cold = explained(classifier_file)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("mkdir", "replace", "utime"):  # root may write to every folder
        monkeypatch.setattr(os, name, refuse)
    check_same(explained(classifier_file), cold)
    check_same(explained(classifier_file, layer="last-conv"), explained(classifier_file, layer="last-conv"))
    assert len(first_openings) == 3
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_off_stores_nothing(classifier_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", "off")
    explained(classifier_file)
    assert not folder.exists()
    assert cache.folder() is None


def test_what_is_stored_is_the_graph_that_the_opening_ran(
    classifier_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[bytes] = []

    def counted(*arguments: Any, **named: Any) -> bytes:
        built.append(scoring_bytes(*arguments, **named))
        return built[-1]

    for module in ("batch_support", "warm"):
        monkeypatch.setattr(f"onnxcam.network.{module}.scoring_bytes", counted)
    file, options = read_model(classifier_file), OpenOptions(providers=("cpu",))
    model = open_model(file, options)
    model.close()
    stored = stored_graphs.load(str(opening_key(file, options)), Opening)
    assert stored is not None
    assert built == [stored.graph], "it is built once"
    assert model.scoring == b"", "nor kept"


def test_a_step_of_a_warm_start_makes_the_graph_when_it_is_asked_for(classifier_file: Path) -> None:
    explained(classifier_file)
    file = read_model(classifier_file)
    warm = open_model(file, options_of(size=None))
    first = open_model(file, options_of(size=None, cache=False))
    assert [n.op_type for n in warm.model.graph] == [n.op_type for n in first.model.graph]
    assert warm.exported is None
    assert warm.anatomy == first.anatomy
    assert warm.shapes == first.shapes
    another = warm.with_form(with_fill=True, form=warm.options.form)
    assert another.network.with_fill
    assert another.stored_as == ""
    for opened in (warm, first, another):
        opened.close()


def test_a_graph_may_be_made_long_after_a_warm_opening(classifier_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained(classifier_file)
    with Explainer(classifier_file, providers=["cpu"]) as explain:
        now, later = time.monotonic, 10 * (Limits().seconds or 0)
        monkeypatch.setattr(time, "monotonic", lambda: now() + later)
        with explain.with_method("grad-cam") as other:
            warm = other(IMAGE)
    check_same((warm.map, plain(warm)), explained(classifier_file, "grad-cam", cache=False))


def test_a_relative_path_outlives_another_working_directory(
    classifier_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained(classifier_file)
    monkeypatch.chdir(classifier_file.parent)
    with Explainer(classifier_file.name, providers=["cpu"]) as explain:
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        with explain.with_method("grad-cam") as other:
            np.testing.assert_array_equal(other(IMAGE).map, explained(classifier_file, "grad-cam", cache=False)[0])


def test_methods_share_a_warm_model(classifier_file: Path) -> None:
    maps = []
    for _ in range(2):
        with (
            Explainer(classifier_file, "score-cam", providers=["cpu"]) as explain,
            explain.with_method("rise") as other,
        ):
            maps.append((explain(IMAGE).map, other(IMAGE).map))
    np.testing.assert_array_equal(maps[0], maps[1])


def test_threads_and_a_fork_open_it_at_once(classifier_file: Path) -> None:
    cold = explained(classifier_file, cache=False)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: explained(classifier_file), range(8)):
            check_same(result, cold)
    check_same(in_fork(lambda: explained(classifier_file)), cold)


def test_an_isolated_process_reads_it_too(classifier_file: Path) -> None:
    cold = explained(classifier_file, isolated=True)
    check_same(explained(classifier_file, isolated=True), cold)
    check_same(explained(classifier_file), cold)


def test_a_model_that_takes_a_branch_is_opened_anew(make: Make, first_openings: list[str]) -> None:
    model = make(
        """<ir_version: 8, opset_import: ["" : 13]> g (float[N,3,8,6] x) => (float[N,5] logits)
        <float[8,3,3,3] w, float[8,5] v> {
          top = ReduceMax <keepdims=0> (x)
          big = Constant <value_float=1000.0> ()
          small = Less (top, big)
          c = If <then_branch = yes () => (float[N,8,8,6] a) { a = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w) },
                  else_branch = no () => (float[N,8,8,6] b) { b = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w) }>
                 (small)
          f = Relu (c)
          p = ReduceMean <axes=[2,3], keepdims=0> (f)
          logits = MatMul (p, v) }"""
    )
    for count in (1, 2):
        open_model(read_model(model), options_of()).close()
        assert len(first_openings) == count


ZOO_OPTIONS = {"score-cam": {"tolerance": 0.05}, "grad-cam": {}}


@pytest.mark.slow
@pytest.mark.parametrize("record", [r for r in listed() if name_of(r) not in HEAVY], ids=name_of)
def test_every_model_of_the_zoo_gives_the_same_cold_and_warm(zoo: Path, record: dict[str, Any]) -> None:
    picture = sorted((zoo / "images").glob("*.jpg"))[0]
    for method, options in ZOO_OPTIONS.items():
        results = [zoo_result(zoo / record["file"], method, options, picture) for _ in range(2)]
        assert results[0][1] == results[1][1]
        np.testing.assert_array_equal(results[0][0], results[1][0])


def zoo_result(model: Path, method: str, options: dict[str, Any], picture: Path) -> tuple[Any, Any]:
    from onnxcam import method as named

    try:
        with Explainer(model, named(method, **options), providers=["cpu"], batch=4) as explain:
            saliency = explain(picture)
    except OnnxCamError as error:
        return np.zeros(0), f"{type(error).__name__}: {error}"
    return saliency.map, plain(saliency)
