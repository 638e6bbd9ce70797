"""A second compilation of the same gives the very file of the first, which is read; anything else is built anew."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam import Limits, compile
from onnxcam.compiler import building, stored
from onnxcam.compiler.batch_methods import BATCH_METHODS
from onnxcam.compiler.compiled import Compiled
from onnxcam.compiler.families import FAMILIES
from onnxcam.compiler.registry import COMPILABLE
from onnxcam.errors import CompileError, OnnxCamError, OptionError, PictureError, TargetError
from onnxcam.inputs.presets import Preset
from onnxcam.methods.fills import MEAN
from onnxcam.network import cache, stored_graphs
from onnxcam.surgeon.autodiff.rules.registry import VJP_RULES
from onnxcam.surgeon.metadata import COMPILED

posix = pytest.mark.skipif(os.name != "posix", reason="owners, modes and links")
PICTURE = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
NEVER = {"onnx", "onnx_ir", "onnxscript", "sympy", "pydantic"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the methods whose file was built and compared."""
    names: list[str] = []
    real = building.build

    def counted(work: Any, comparison: Any) -> Any:
        names.append(work.explainer.method.name)
        return real(work, comparison)

    monkeypatch.setattr(building, "build", counted)
    return names


def check_same(one: Compiled, other: Compiled) -> None:
    assert one.bytes == other.bytes
    for name in ("method", "interface", "record", "difference", "notes"):
        assert getattr(one, name) == getattr(other, name), name
    assert json.dumps(one.record) == json.dumps(other.record), "in the same order"


def files_in(folder: Path) -> list[Path]:
    """The compiled files in the cache."""
    return [path for path in folder.glob("*.graph") if f"{COMPILED}".encode() in path.read_bytes()]


CALLS: dict[str, dict[str, Any]] = {
    "grad-cam": {},
    "baked": {"target": 3},
    "prediction": {"target": "top1"},
    "raw": {"raw": True, "preset": "imagenet"},
    "labels": {"labels": list("abcde")},
    "picture": {"pictures": [PICTURE]},
    "score-cam": {"method": "score-cam"},
    "budget": {"method": onnxcam.score_cam(budget=4)},
    "opti-cam": {"method": onnxcam.opti_cam(max_iter=3)},
    "rise": {"method": onnxcam.rise(masks=100)},
    "filled": {"method": onnxcam.integrated_gradients(steps=8, fill=MEAN)},
}


@pytest.mark.parametrize("call", CALLS)
def test_the_second_file_is_the_first(call: str, classifier_file: Path, built: list[str]) -> None:
    first, second = compile(classifier_file, **CALLS[call]), compile(classifier_file, **CALLS[call])
    assert len(built) == 1
    check_same(second, first)
    check_same(compile(classifier_file, **CALLS[call], cache=False), first)
    assert len(built) == 2


def test_both_ways_make_the_same_model_repository(classifier_file: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        compile(classifier_file).save_triton(tmp_path / name, "net")
    one, two = (sorted((tmp_path / name).rglob("*.*")) for name in ("first", "second"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert len(one) == 2


TWO_HEADS = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,h,w] x, float[N,3,h,w] y, float[1] k) => (float[N,5] logits, float[N,5] others)
<float[8,3,3,3] c1, float[8,8,3,3] c2, float[8,3,3,3] cy, float[8,5] v, float[8,5] u>
{
  a = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, c1)
  early = Relu (a)
  e = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (early, c2)
  late = Relu (e)
  b = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (y, cy)
  other = Relu (b)
  both = Add (late, other)
  p = ReduceMean <axes=[2,3], keepdims=0> (both)
  s = Mul (p, k)
  logits = MatMul (s, v)
  others = MatMul (s, u)
}"""
"""Two inputs for pictures, one number beside them, two outputs of classes, sides of any length."""


def usual(**changes: Any) -> dict[str, Any]:
    """The arguments of the first call, but for some."""
    arguments = {
        "method": "grad-cam", "target": 1, "pictures": [PICTURE], "preset": "imagenet", "size": (16, 12),
        "output": "logits", "image_input": "x", "labels": list("abcde"),
        "inputs": {"k": np.ones(1, np.float32), "y": np.zeros((1, 3, 16, 12), np.float32)},
    }  # fmt: skip
    return {**arguments, **changes}


def darker(preset: Preset) -> Preset:
    return replace(preset, scale=preset.scale / 2)


CHANGES: dict[str, dict[str, Any]] = {
    "method": {"method": "layer-cam"},
    "target": {"target": 2},
    "label": {"target": "d"},
    "no target": {"target": None},
    "prediction": {"target": "top1"},
    "raw": {"raw": True},
    "pictures": {"pictures": [255 - PICTURE]},
    "one more picture": {"pictures": [PICTURE, 255 - PICTURE]},
    "no picture": {"pictures": []},
    "preset": {"preset": "keras-tf"},
    "adjust": {"adjust": darker},
    "layer": {"layer": "early"},
    "layout": {"layout": "NCHW"},
    "image_input": {
        "image_input": "y", "inputs": {"k": np.ones(1, np.float32), "x": np.zeros((1, 3, 16, 12), np.float32)},
    },
    "size": {"size": (32, 24), "inputs": {"k": np.ones(1, np.float32), "y": np.zeros((1, 3, 32, 24), np.float32)}},
    "output": {"output": "others"},
    "inputs": {"inputs": {"k": np.full(1, 2, np.float32), "y": np.zeros((1, 3, 16, 12), np.float32)}},
    "labels": {"labels": list("abcdf")},
    "no labels": {"labels": None},
    "limits": {"limits": Limits(nodes=49_999)},
}  # fmt: skip
SAME: dict[str, dict[str, Any]] = {
    "target by its label": {"target": "b"},
    "target as text": {"target": "1"},
    "method as a value": {"method": onnxcam.grad_cam()},
    "adjusted to the same": {"adjust": lambda preset: preset},
    "tuples": {"labels": tuple("abcde"), "pictures": (PICTURE.copy(),)},
    "threads": {"threads": 1},
}
"""What changes nothing of the file."""


@pytest.fixture(scope="module")
def two_heads() -> onnx.ModelProto:
    return filled(TWO_HEADS)


@pytest.mark.parametrize("change", CHANGES)
def test_every_argument_counts(change: str, two_heads: onnx.ModelProto, built: list[str]) -> None:
    first = compile(two_heads, **usual())
    changed = compile(two_heads, **usual(**CHANGES[change]))
    assert len(built) == 2, "another call is built and compared"
    check_same(changed, compile(two_heads, **usual(**CHANGES[change]), cache=False))
    check_same(compile(two_heads, **usual()), first)
    assert len(built) == 3, "the first file is there still"


@pytest.mark.parametrize("change", SAME)
def test_other_words_for_the_same_are_the_same(change: str, two_heads: onnx.ModelProto, built: list[str]) -> None:
    first = compile(two_heads, **usual())
    check_same(compile(two_heads, **usual(**SAME[change])), first)
    assert len(built) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (onnxcam.grad_cam_plus_plus(epsilon=0.5), onnxcam.grad_cam_plus_plus(epsilon=0.25)),
        (onnxcam.score_cam(), onnxcam.score_cam(convention="destructive")),
        (onnxcam.rise(masks=8), onnxcam.rise(masks=8, seed=1)),
        (onnxcam.integrated_gradients(steps=8), onnxcam.integrated_gradients(steps=8, fill=MEAN)),
    ],
    ids=lambda method: method.name,
)
def test_every_option_of_a_method_counts(one: Any, other: Any, classifier_file: Path, built: list[str]) -> None:
    first, second = compile(classifier_file, one), compile(classifier_file, other)
    assert len(built) == 2
    assert first.bytes != second.bytes
    assert second.record["options"] == json.loads(json.dumps(dict(other.options)))


def test_the_model_and_its_name_count(classifier: onnx.ModelProto, tmp_path: Path, built: list[str]) -> None:
    for folder, name, seed in (("a", "net", 0), ("a", "net", 1), ("a", "other", 0), ("b", "net", 0)):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / f"{name}.onnx"
        onnx.save(filled(CLASSIFIER, seed), path)
        compiled = compile(path)
        assert compiled.record["model"] == path.name
        check_same(compiled, compile(path, cache=False))
    assert len(built) == 3 + 4, "of the last call, whose folder is another one, only the file without a cache is built"


def test_what_lies_beside_the_model_counts(classifier_file: Path, built: list[str]) -> None:
    first = compile(classifier_file)
    beside = {"do_rescale": True, "rescale_factor": 0.5, "do_normalize": False, "size": {"height": 16, "width": 12}}
    (classifier_file.parent / "preprocessor_config.json").write_text(json.dumps(beside))
    second = compile(classifier_file)
    assert len(built) == 2
    assert second.record["preset"] != first.record["preset"]


def test_other_versions_and_other_code_build_it_anew(
    classifier_file: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compile(classifier_file)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "cache_versions", lambda: {"onnxruntime": "0"})
        check_same(compile(classifier_file), first)
    assert len(built) == 2
    code_of = stored_graphs.code_of
    for package in stored.BUILT_BY:
        with monkeypatch.context() as patch:
            patch.setattr(
                stored_graphs, "code_of",
                lambda packages, changed=package: code_of(packages) + (changed if changed in packages else "="),
            )  # fmt: skip
            compile(classifier_file)
    assert len(built) == 2 + len(stored.BUILT_BY)
    compile(classifier_file)
    assert len(built) == 2 + len(stored.BUILT_BY)


def test_the_code_of_every_package_that_is_used_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but what prints, measures and evaluates; of copies, so that times of files can be changed."""
    root = tmp_path / "onnxcam"
    shutil.copytree(Path(onnxcam.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(onnxcam, "__file__", str(root / "__init__.py"))
    unused = {"cli", "evaluation", "metrics"}
    before = stored_graphs.code_of.__wrapped__(stored.BUILT_BY)
    for path in sorted(root.glob("*")):
        file = path if path.is_file() else next(iter(sorted(path.rglob("*.py"))), None)
        if file is None or file.suffix != ".py":
            continue
        os.utime(file, (1, 1))
        after = stored_graphs.code_of.__wrapped__(stored.BUILT_BY)
        assert (after == before) is (path.name in unused), path.name
        before = after


@pytest.mark.parametrize("change", [{"cache": False}, {"off": True}, {"largest": 2000}], ids=str)
def test_without_a_store_every_file_is_built(
    change: dict[str, Any], classifier_file: Path, folder: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "off" in change:
        monkeypatch.setenv("ONNXCAM_CACHE", "off")
    if "largest" in change:
        monkeypatch.setattr(stored_graphs, "LARGEST", change["largest"])
    use_cache = change.get("cache", True)
    one, two = (compile(classifier_file, cache=use_cache) for _ in range(2))
    check_same(one, two)
    assert len(built) == 2
    assert files_in(folder) == []


def test_weights_in_other_files_and_foreign_code_are_not_stored(
    classifier: onnx.ModelProto, tmp_path: Path, folder: Path, built: list[str]
) -> None:
    outside = tmp_path / "outside.onnx"
    onnx.save(filled(CLASSIFIER), outside, save_as_external_data=True, location="w", size_threshold=0)
    usual_method = onnxcam.grad_cam()
    foreign = replace(usual_method, explain=lambda probe: usual_method.explain(probe))  # type: ignore[misc]
    unknown = replace(usual_method, options={"unknown": 1})
    for model, method in ((outside, "grad-cam"), (classifier, foreign), (classifier, unknown)):
        before = len(built)
        check_same(compile(model, method), compile(model, method))
        assert len(built) == before + 2
        assert files_in(folder) == []


def test_a_file_that_names_the_key_of_weights_elsewhere_is_not_stored(
    classifier_file: Path, folder: Path, built: list[str]
) -> None:
    one, two = (compile(classifier_file, labels=["location", *"abcd"]) for _ in range(2))
    check_same(one, two)
    assert len(built) == 2
    assert files_in(folder) == []


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def before_of(word: bytes) -> Callable[[bytes], bytes]:
    return lambda data: flipped(data, data.index(word) + 1)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "signature": lambda data: flipped(data, 3),
    "another version": lambda data: data.replace(b"graph 1\n", b"graph 2\n", 1),
    "checksum": lambda data: flipped(data, len(stored_graphs.SIGNATURE) + 5),
    "length": lambda data: flipped(data, stored_graphs.HEAD - 8),
    "interface": before_of(b'"saliency_map"'),
    "record": before_of(b"largest_difference"),
    "difference": before_of(b'"undefined"'),
    "graph": lambda data: flipped(data, len(data) - 40),
    "metadata": lambda data: flipped(data, data.rindex(COMPILED.encode())),
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_built_again(damage: str, classifier_file: Path, folder: Path, built: list[str]) -> None:
    first = compile(classifier_file)
    (path,) = files_in(folder)
    whole = path.read_bytes()
    assert DAMAGE[damage](whole) != whole
    path.write_bytes(DAMAGE[damage](whole))
    check_same(compile(classifier_file), first)
    assert len(built) == 2
    assert path.read_bytes() == whole, "and written again"
    check_same(compile(classifier_file), first)
    assert len(built) == 2


def test_another_file_under_its_name_is_none(classifier_file: Path, folder: Path, built: list[str]) -> None:
    first = compile(classifier_file, target=1)
    (path,) = files_in(folder)
    compile(classifier_file, target=2)
    (other,) = set(files_in(folder)) - {path}
    shutil.copy(other, path)
    check_same(compile(classifier_file, target=1), first)
    assert len(built) == 3


@pytest.mark.parametrize("record", ["", "{}", "[]", "null", '{"schema": 1}', "{" * 100_000], ids=lambda text: text[:9])
def test_a_record_that_is_none_is_built_again(
    record: str, classifier_file: Path, folder: Path, built: list[str]
) -> None:
    """A program that runs as this user can write one with a right checksum."""
    first = compile(classifier_file)
    (path,) = files_in(folder)
    made = stored.load(path.stem)
    assert made is not None
    for data in (stored.StoredData(made.interface, record, made.difference), None, {"record": record}):
        before = len(built)
        stored_graphs.store(path.stem, made.bytes, data)
        check_same(compile(classifier_file), first)
        assert len(built) == before + 1


@posix
@pytest.mark.parametrize("kind", ["writable", "link", "fifo", "folder", "owner"])
def test_a_file_of_others_is_none(
    kind: str, classifier_file: Path, folder: Path, tmp_path: Path, built: list[str]
) -> None:
    first = compile(classifier_file)
    (path,) = files_in(folder)
    if kind == "writable":
        path.chmod(0o666)
    elif kind == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(path, 12345, 12345)
    else:
        path.rename(tmp_path / "elsewhere")
        {
            "link": lambda: path.symlink_to(tmp_path / "elsewhere"),
            "fifo": lambda: os.mkfifo(path),
            "folder": path.mkdir,
        }[kind]()
    check_same(compile(classifier_file), first)
    assert len(built) == 2


def test_a_file_that_is_read_is_reported_as_compared(classifier_file: Path) -> None:
    calls: list[list[tuple[float, float]]] = [[], []]
    for heard in calls:
        compiled = compile(classifier_file, preset="imagenet", progress=lambda *at, heard=heard: heard.append(at))
    count = compiled.difference.all_pictures
    assert calls[0] == [(done, count) for done in range(count + 1)]
    assert calls[1] == [(count, count)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"target": 5}, TargetError),
        ({"target": "rank2"}, OptionError),
        ({"method": "smooth-grad"}, CompileError),
        ({"pictures": ["absent.png"]}, PictureError),
        ({"pictures": [np.zeros((3, 16, 12), np.float32)], "raw": True}, OptionError),
        ({"raw": 1}, OptionError),
        ({"layer": "absent"}, OnnxCamError),
        ({"limits": Limits(nodes=2)}, OnnxCamError),
        ({"limits": Limits(seconds=1e-6)}, OnnxCamError),
        ({"cache": "yes"}, OptionError),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else value.__name__,
)
def test_the_same_errors_with_a_stored_file(
    arguments: dict[str, Any], error: type[OnnxCamError], classifier_file: Path, folder: Path
) -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(error) as raised:
            compile(classifier_file, **arguments)
        messages.append(str(raised.value))
        compile(classifier_file)
    assert messages[0] == messages[1]
    assert len(files_in(folder)) == 1


COMMAND = """
import sys
from onnxcam.cli.start import start
try:
    start()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def run(folder: Path, *words: str) -> tuple[str, set[str]]:
    """(what a command prints, the packages that it loads) in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, check=True, cwd=folder
    )
    return done.stdout, set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", [[], ["--json"], ["--raw"], ["--triton", "models"], ["--target", "top1"]], ids=str)
def test_a_warm_command_loads_no_onnx_and_prints_the_same(
    words: list[str], classifier_file: Path, tmp_path: Path
) -> None:
    command = ["compile", str(classifier_file), "--preset", "imagenet", *words]
    first, loaded = run(tmp_path, *command)
    assert {"onnx", "onnx_ir"} <= loaded
    (path,) = [path for path in tmp_path.rglob("*.onnx") if path != classifier_file]
    data = path.read_bytes()
    for again in ([], ["--overwrite"]):
        path.unlink(missing_ok=not again)
        second, loaded = run(tmp_path, *command, *again)
        assert second == first
        assert not loaded & NEVER
        assert path.read_bytes() == data


def test_what_a_rule_from_outside_makes_is_not_stored(
    classifier_file: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = compile(classifier_file, "gradient")
    key = ("Relu", 14)
    with monkeypatch.context() as patch:
        patch.setitem(VJP_RULES, key, replace(VJP_RULES[key], rule=lambda op, node, dy: dy))
        linear = compile(classifier_file, "gradient")
        assert linear.bytes != usual.bytes
    check_same(compile(classifier_file, "gradient"), usual)
    assert built == ["gradient", "gradient"]


def test_the_table_of_families_is_that_of_the_builders() -> None:
    assert {name: entry.family for name, entry in COMPILABLE.items()} == dict(FAMILIES)
    assert list(COMPILABLE) == list(FAMILIES)
    assert set(BATCH_METHODS) <= set(FAMILIES)
