"""Reading a model: from each kind of source, its weights in other files, what is refused, and each step once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_models import Make
from typer.testing import CliRunner

from onnxcam import Element, Explainer, opti_cam
from onnxcam.cli.main import app
from onnxcam.errors import ModelError
from onnxcam.network.export import rewrite
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.surgeon import checked_model, ir, loading
from onnxcam.surgeon.loading import read_model


def external(model: onnx.ModelProto, folder: Path, location: str = "weights.bin") -> Path:
    path = folder / "external.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if location != "weights.bin":
        moved = onnx.load(path, load_external_data=False)
        for tensor in moved.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(moved.SerializeToString())
    return path


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def test_path_bytes_and_proto_give_the_same_model(classifier: onnx.ModelProto, classifier_file: Path) -> None:
    from_path = read_model(classifier_file)
    from_bytes = read_model(classifier_file.read_bytes())
    assert from_path.proto == from_bytes.proto == read_model(classifier).proto
    assert from_path.sha256 == from_bytes.sha256
    assert from_path.opset == 17


@pytest.mark.parametrize("path", ["a\0b", "a\ud800"])
def test_a_path_that_no_file_can_have_is_a_model_error(path: str, classifier: onnx.ModelProto) -> None:
    for name in (path, Path(path)):
        with pytest.raises(ModelError, match="no such model file") as caught:
            read_model(name)
        str(caught.value).encode()  # can be printed
    with pytest.raises(ModelError, match="no such model file"):
        rewrite(path)
    with pytest.raises(ModelError, match="no such model file"):
        Explainer(classifier, opti_cam(), step=path, preset="imagenet", providers=["cpu"])


def test_an_error_without_a_message_is_named_by_its_type() -> None:
    assert ir.cause(RuntimeError("")) == ir.cause(RuntimeError(" \n")) == "RuntimeError"
    assert ir.cause(ValueError("\nfirst\nsecond")) == "first"
    chained = RuntimeError("outer")
    chained.__cause__ = ValueError()
    assert ir.cause(chained) == "ValueError"


def test_external_weights_are_read_from_the_models_folder(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    loaded = read_model(external(copy_of(classifier), tmp_path))
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in classifier.graph.initializer}
    for tensor in loaded.proto.graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), expected[tensor.name])


def test_missing_external_weights_are_named(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    path = external(copy_of(classifier), tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"'weights\.bin' is missing"):
        read_model(path)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "sub/../../weights.bin"])
def test_external_weights_outside_the_folder_are_refused(
    classifier: onnx.ModelProto, tmp_path: Path, location: str
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(external(copy_of(classifier), inner, location))


def test_external_weights_behind_a_link_out_of_the_folder_are_refused(
    classifier: onnx.ModelProto, tmp_path: Path
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = external(copy_of(classifier), inner)
    (inner / "weights.bin").rename(tmp_path / "weights.bin")
    (inner / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(path)


def test_external_weights_that_are_too_short_are_an_error(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    path = external(copy_of(classifier), tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"weights\.bin|not a valid"):
        read_model(path)


def test_bytes_with_external_weights_are_refused_with_a_hint_at_the_path(
    classifier: onnx.ModelProto, tmp_path: Path
) -> None:
    data = external(copy_of(classifier), tmp_path).read_bytes()
    with pytest.raises(ModelError, match="give the model's path"):
        read_model(data)


def explain_two_heads(path: Path) -> None:
    image = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)
    with Explainer(path, providers=["cpu"]) as explainer:
        explainer.explain(image, [1, Element((2,))])


def command(name: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        out = ["-o", str(path.with_suffix(".out.onnx"))] if name == "rewrite" else []
        result = CliRunner().invoke(app, [name, str(path), *out])
        assert result.exit_code == 0, result.output

    return run


USES: dict[str, Callable[[Path], object]] = {
    "explain two heads": explain_two_heads,
    "rewrite": rewrite,
    "onnxcam inspect": command("inspect"),
    "onnxcam rewrite": command("rewrite"),
}


def counted(calls: Counter[str], name: str, step: Callable[..., object]) -> Callable[..., object]:
    def run(*arguments: object) -> object:
        calls[name] += 1
        return step(*arguments)

    return run


@pytest.mark.parametrize("use", USES)
def test_a_file_is_read_parsed_and_converted_once(
    classifier_file: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    calls: Counter[str] = Counter()
    for module, name in (
        (loading, "read_bytes"),
        (checked_model, "parse"),
        (checked_model, "checked"),
        (ir, "from_proto"),
    ):
        monkeypatch.setattr(module, name, counted(calls, name, getattr(module, name)))
    USES[use](classifier_file)
    assert calls == {"read_bytes": 1, "parse": 1, "checked": 1, "from_proto": 1}


def test_a_model_that_was_read_is_not_read_again(classifier_file: Path) -> None:
    file = read_model(classifier_file)
    assert read_model(file) is file
    assert file.model is file.model


BRANCHES = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,8,6] x) => (float[N,8] logits)
<float[8,3,3,3] w, int64 trips = {3}>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
  f = Relu (c)
  top = ReduceMax <keepdims=0> (f)
  zero = Constant <value_float=0.0> ()
  some = Greater (top, zero)
  g = If <then_branch = yes () => (float[N,8,8,6] a) <float one = {1.0}> { a = Add (f, one) },
          else_branch = no () => (float[N,8,8,6] b) <float one = {2.0}> { b = Sub (f, one) }> (some)
  p = ReduceMean <axes=[2,3], keepdims=0> (g)
  logits = Loop <body = step (int64 i, bool go, float[N,8] v) => (bool on, float[N,8] w1)
    <float one = {0.5}> { w1 = Mul (v, one)
      on = Identity (go) }> (trips, , p)
}"""


@pytest.mark.parametrize("text", [None, BRANCHES])
def test_opening_and_rewriting_leave_the_model_that_was_read_as_it_is(
    classifier: onnx.ModelProto, make: Make, text: str | None
) -> None:
    file = read_model(classifier if text is None else make(text, check=False))
    proto, graph = file.proto.SerializeToString(deterministic=True), ir.to_bytes(file.model)
    for _ in range(2):
        open_model(file, OpenOptions(providers=("cpu",))).network.close()
        rewrite(file)
    assert ir.to_bytes(file.model) == graph
    assert file.proto.SerializeToString(deterministic=True) == proto


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello, this is no model at all", "not an ONNX model"),
        (b"\x08\x00\x00\x00ORTM" + bytes(64), r"\.ort file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an ONNX model"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_the_reason(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_model(path)


def test_every_truncation_is_an_error(classifier: onnx.ModelProto) -> None:
    data = classifier.SerializeToString()
    for length in range(0, len(data) - 1, 37):
        with pytest.raises(ModelError):
            read_model(data[:length])


def test_missing_file_and_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        read_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(tmp_path)


def test_unknown_opset_is_named_with_the_newest_known(classifier: onnx.ModelProto) -> None:
    model = copy_of(classifier)
    model.opset_import[0].version = 999
    with pytest.raises(ModelError, match="opset 999 is newer"):
        read_model(model)


def test_an_opset_older_than_the_runtime_is_refused(classifier: onnx.ModelProto) -> None:
    model = copy_of(classifier)
    model.opset_import[0].version = 5
    with pytest.raises(ModelError, match="older than onnxruntime"):
        read_model(model)


def test_unknown_operators_and_domains_are_named(classifier: onnx.ModelProto) -> None:
    domain = copy_of(classifier)
    domain.graph.node[1].domain = "my.company"
    domain.opset_import.append(onnx.helper.make_opsetid("my.company", 1))
    with pytest.raises(ModelError, match=r"Relu of the unknown domain 'my\.company'"):
        read_model(domain)
    operator = copy_of(classifier)
    operator.graph.node[1].op_type = "Rellu"
    with pytest.raises(ModelError, match="Rellu"):
        read_model(operator)
