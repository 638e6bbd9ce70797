"""External weights come from the model's own folder, links followed; a Hugging Face cache is the one exception."""

import os
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.surgeon.external_data import with_external_data
from onnxcam.surgeon.loading import read_model


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def weights_of(model: onnx.ModelProto | Path) -> dict[str, list[float]]:
    return {t.name: numpy_helper.to_array(t).reshape(-1).tolist() for t in read_model(model).proto.graph.initializer}


SECRET = b"\1\2\3\4" * 3000


def saved(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """The model in the folder, its weights in NAME_data."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(copy_of(model), folder / name, save_as_external_data=True, location=f"{name}_data", size_threshold=0)
    return folder / name


def changed(path: Path, **entries: str | None) -> Path:
    """The model with other entries of the external data of its first weight; None removes one."""
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    values = {e.key: e.value for e in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in values.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def hub_cache(model: onnx.ModelProto, root: Path, inner: str = "") -> Path:
    """As huggingface_hub lays a model out: snapshots/REV/... are links to blobs/HASH."""
    original = saved(model, root / "original")
    blobs, snapshot = root / "hub/models--a--b/blobs", root / "hub/models--a--b/snapshots/0123abc" / inner
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for place, name in enumerate(("model.onnx", "model.onnx_data")):
        (blobs / (str(place) * 20)).write_bytes((original.parent / name).read_bytes())
        (snapshot / name).symlink_to(os.path.relpath(blobs / (str(place) * 20), snapshot))
    return snapshot / "model.onnx"


@pytest.mark.parametrize("inner", ["", "onnx"])
def test_a_hugging_face_cache_opens(classifier: onnx.ModelProto, tmp_path: Path, inner: str) -> None:
    path = hub_cache(classifier, tmp_path, inner)
    assert weights_of(path) == weights_of(classifier)


def test_in_a_cache_only_the_models_own_blobs_are_read(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    path = hub_cache(classifier, tmp_path)
    weights = path.parent / "model.onnx_data"
    data = weights.read_bytes()
    other = tmp_path / "hub/models--c--d/blobs"
    deeper = tmp_path / "hub/models--a--b/blobs/deeper"
    for folder in (other, deeper, tmp_path / "blobs"):
        folder.mkdir(parents=True)
        (folder / "f").write_bytes(data)
        weights.unlink()
        weights.symlink_to(folder / "f")
        with pytest.raises(ModelError, match="outside the model's folder"):
            read_model(path)


def test_a_model_that_is_no_link_reads_no_blobs(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    path = hub_cache(classifier, tmp_path)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(path)


def test_beside_the_file_that_a_link_leads_to(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    path = saved(classifier, tmp_path / "real")
    (tmp_path / "link.onnx").symlink_to(path)
    assert weights_of(tmp_path / "link.onnx") == weights_of(path)


def test_a_link_within_the_folder_is_followed(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    path = saved(classifier, tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.onnx_data").rename(tmp_path / "sub" / "w")
    (tmp_path / "model.onnx_data").symlink_to("sub/w")
    assert weights_of(path) == weights_of(classifier)


@pytest.mark.parametrize(
    "location",
    ["../secret", "sub/../../secret", "{root}/secret", "..\\secret", "C:secret", "\\secret", "out", "out2/secret", "", ".", "..", "/"],
)  # fmt: skip
def test_nothing_outside_is_read(classifier: onnx.ModelProto, tmp_path: Path, location: str) -> None:
    path = saved(classifier, tmp_path / "inner")
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "inner" / "out").symlink_to("../secret")
    (tmp_path / "inner" / "out2").symlink_to("..")
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(changed(path, location=location.format(root=tmp_path), offset="0"))


@pytest.mark.parametrize("order", [("w.bin", "l.bin"), ("l.bin", "w.bin"), ("w.bin", "w.bin")])
def test_a_repeated_key_is_refused_wherever_it_leads(tmp_path: Path, order: tuple[str, str]) -> None:
    """onnx takes the last of two locations, and others the first."""
    (tmp_path / "secret.bin").write_bytes(SECRET)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "w.bin").write_bytes(bytes(4 * 3 * 4 * 9))
    (inner / "l.bin").symlink_to("../secret.bin")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,3,8,8] x) => (float[1,4] y) '
        "{ c = Conv(x, w) a = GlobalAveragePool(c) y = Flatten(a) }"
    )
    weight = TensorProto(name="w", dims=(4, 3, 3, 3), data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for location in order:
        weight.external_data.add(key="location", value=location)
    model.graph.initializer.append(weight)
    (inner / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="repeats a key"):
        read_model(inner / "m.onnx")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "-1"}, "offset of the external tensor .* is no number"),
        ({"offset": "1e3"}, "is no number"),
        ({"offset": "1" * 30}, "is no number"),
        ({"offset": "٣"}, "is no number"),
        ({"offset": "9" * 18}, "needs bytes 999,999,999,999,999,999 to"),
        ({"length": "4"}, "needs .* bytes and has 4"),
        ({"length": "0"}, "needs .* bytes and has 0"),
        ({"length": "-4"}, "is no number"),
        ({"location": None}, "outside"),
        ({"location": "*/_ORT_MEM_ADDR_/*"}, "missing"),
        ({"location": "n" * 5000}, "missing|cannot be read"),
        ({"location": "a\0b"}, "outside"),
    ],
)
def test_offsets_and_lengths_are_checked(
    classifier: onnx.ModelProto, tmp_path: Path, entries: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_model(changed(saved(classifier, tmp_path), **entries))
    assert len(str(caught.value)) < 700


def test_a_length_that_is_left_out_is_that_of_the_shape(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    path = changed(saved(classifier, tmp_path), length=None)
    assert weights_of(path) == weights_of(classifier)


def test_the_sum_of_all_weights_is_limited_before_anything_is_read(tmp_path: Path) -> None:
    """A thousand tensors that share the same megabyte would take a gigabyte."""
    (tmp_path / "w.bin").write_bytes(bytes(2**20))
    tensors = []
    for number in range(1000):
        tensor = TensorProto(name=f"w{number}", dims=(2**18,), data_type=1, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="w.bin")
        tensors.append(tensor)
    model = helper.make_model(helper.make_graph([], "g", [], [], tensors))
    with pytest.raises(ModelError, match="take 1,048,576,000 bytes, more than the limit"):
        with_external_data(model, "m", tmp_path / "m.onnx", most=2**29)


def test_sparse_files_of_weights_are_refused(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    path = saved(classifier, tmp_path)
    with open(tmp_path / "model.onnx_data", "r+b") as file:
        file.truncate(40 * 2**30)
    with pytest.raises(ModelError, match="claims 42,949,672,960 bytes but holds"):
        read_model(path)


@pytest.mark.skipif(os.name != "posix", reason="pipes by name")
def test_a_pipe_as_weights_is_refused(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    path = saved(classifier, tmp_path)
    (tmp_path / "model.onnx_data").unlink()
    os.mkfifo(tmp_path / "model.onnx_data")
    with pytest.raises(ModelError, match="a pipe"):
        read_model(path)


def test_no_tensor_of_a_model_keeps_external_data(tmp_path: Path) -> None:
    """Wherever protobuf has room for a tensor: what is left would be read by onnxruntime, from the working directory."""
    (tmp_path / "w.bin").write_bytes(bytes(400))
    base = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,3,8,8] x) => (float[1,4] y) <float[4,3,3,3] w> '
        "{ c = Conv(x, w) a = GlobalAveragePool(c) y = Flatten(a) }"
    )
    del base.graph.initializer[:]
    base.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, (4, 3, 3, 3), [0.0] * 108))

    def external(tensor: TensorProto, shape: tuple[int, ...], kind: int = 1) -> None:
        tensor.CopyFrom(TensorProto(name="e", dims=shape, data_type=kind, data_location=TensorProto.EXTERNAL))
        tensor.external_data.add(key="location", value="w.bin")

    places = {
        "weight": lambda m: m.graph.initializer.add(),
        "attribute": lambda m: m.graph.node.add(op_type="Constant", output=["k"]).attribute.add(name="value", type=4).t,
        "training": lambda m: m.training_info.add().initialization.initializer.add(),
    }
    for name, place in places.items():
        model = onnx.ModelProto()
        model.CopyFrom(base)
        external(place(model), (2, 2))
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        loaded = read_model(tmp_path / "m.onnx").proto
        assert b"w.bin" not in loaded.SerializeToString(), name
