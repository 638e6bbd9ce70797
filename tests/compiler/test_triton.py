"""The model repository of Triton: config.pbtxt, read by protobuf's own parser, against the file beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import files, onnxcam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from small_models import CLASSIFIER, PIXELS, filled

from onnxcam.compiler.compiled import Compiled, compile
from onnxcam.compiler.interface import Interface, Tensor
from onnxcam.compiler.triton import TYPES, model_config, model_name
from onnxcam.errors import CompileError, OptionError
from onnxcam.surgeon.metadata import COMPILED

FIELDS = descriptor_pb2.FieldDescriptorProto
ENUM = ["TYPE_INVALID", *"BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16".split()]
"""Triton's element types, by number."""
ONNX_TYPES = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
}
MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "Reshape": [("shape", FIELDS.TYPE_INT64, "repeated")],
    "Tensor": [
        ("name", FIELDS.TYPE_STRING, ""),
        ("data_type", FIELDS.TYPE_ENUM, "DataType"),
        ("dims", FIELDS.TYPE_INT64, "repeated"),
        ("reshape", FIELDS.TYPE_MESSAGE, "Reshape"),
    ],
    "Parameter": [("string_value", FIELDS.TYPE_STRING, "")],
    "Entry": [("key", FIELDS.TYPE_STRING, ""), ("value", FIELDS.TYPE_MESSAGE, "Parameter")],
    "ModelConfig": [
        ("name", FIELDS.TYPE_STRING, ""),
        ("backend", FIELDS.TYPE_STRING, ""),
        ("max_batch_size", FIELDS.TYPE_INT32, ""),
        ("input", FIELDS.TYPE_MESSAGE, "repeated Tensor"),
        ("output", FIELDS.TYPE_MESSAGE, "repeated Tensor"),
        ("parameters", FIELDS.TYPE_MESSAGE, "repeated Entry"),
    ],
}
"""The part of Triton's ModelConfig that the file uses: any other field is an error of the parser."""


def model_config_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="part_of_model_config.proto", package="part", syntax="proto3")
    types = file.enum_type.add(name="DataType")
    for number, name in enumerate(ENUM):
        types.value.add(name=name if number == 0 else f"TYPE_{name}", number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, words) in enumerate(fields, 1):
            label = FIELDS.LABEL_REPEATED if "repeated" in words else FIELDS.LABEL_OPTIONAL
            of = words.removeprefix("repeated").strip()
            message.field.add(
                name=field, number=number, type=kind, label=label, type_name=f".part.{of}" if of else None
            )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("part.ModelConfig"))


MODEL_CONFIG = model_config_class()


def read(folder: Path) -> tuple[Any, onnx.ModelProto]:
    """The configuration of a model's folder, and its file."""
    config = text_format.Parse((folder / "config.pbtxt").read_text("utf-8"), MODEL_CONFIG())
    return config, onnx.load(folder / "1" / "model.onnx")


def check(config: Any, model: onnx.ModelProto) -> None:
    """The configuration has the file's names, types and shapes, by Triton's rules of its batch axis."""
    for tensors, infos in ((config.input, model.graph.input), (config.output, model.graph.output)):
        assert [t.name for t in tensors] == [i.name for i in infos]
        for tensor, info in zip(tensors, infos, strict=True):
            kind = info.type.tensor_type
            assert ENUM[tensor.data_type] == ONNX_TYPES[kind.elem_type].removeprefix("TYPE_")
            dims = list(tensor.dims)
            assert dims, "Triton refuses an empty shape"
            inside = list(tensor.reshape.shape) if tensor.HasField("reshape") else dims
            assert np.prod(inside) == np.prod(dims), "a reshape keeps the numbers"
            whole = [-1, *inside] if config.max_batch_size > 0 else inside
            assert whole == [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]


def saved(compiled: Compiled, folder: Path, name: str | None = None) -> tuple[Any, onnx.ModelProto]:
    return read(compiled.save_triton(folder, name))


@pytest.mark.parametrize("method", ["grad-cam", "recipro-cam", "eigen-cam"])
def test_a_file_without_a_loop_takes_batches(method: str, classifier: onnx.ModelProto, tmp_path: Path) -> None:
    config, model = saved(compile(classifier, method), tmp_path)
    check(config, model)
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 8)
    image, target = config.input
    assert (list(image.dims), list(target.dims), list(target.reshape.shape)) == ([3, 16, 12], [1], [])
    assert target.HasField("reshape")


@pytest.mark.parametrize(
    "options",
    [{"method": "score-cam"}, {"method": "grad-cam", "raw": True}, {"method": "score-cam", "raw": True, "target": 2}],
    ids=str,
)
def test_a_loop_and_a_picture_get_whole_shapes(
    options: dict[str, Any], classifier: onnx.ModelProto, tmp_path: Path
) -> None:
    config, model = saved(compile(classifier, **options), tmp_path)
    check(config, model)
    assert config.max_batch_size == 0
    if "raw" in options:
        assert list(config.input[0].dims) == [-1, -1, 3]
        assert ENUM[config.input[0].data_type] == "UINT8"


TWO_OUTPUTS = CLASSIFIER.replace("(float[N,5] logits)", "(float[N,5] logits, float[N,8] flat)")


@pytest.mark.parametrize(
    ("text", "batch"),
    [
        (PIXELS, 8),
        (TWO_OUTPUTS, 8),
        (CLASSIFIER.replace("float[N,5] logits", "float[M,5] logits"), 8),
        (TWO_OUTPUTS.replace("float[N,8] flat", "float[M,8] flat"), 0),
    ],
    ids=["bytes", "another-output", "scores-of-another-name", "an-output-of-another-name"],
)
def test_batches_need_an_entry_of_every_tensor_for_each_image(text: str, batch: int, tmp_path: Path) -> None:
    config, model = saved(compile(filled(text)), tmp_path)
    check(config, model)
    assert config.max_batch_size == batch


def test_an_axis_of_minus_1_is_free(tmp_path: Path) -> None:
    model = filled(CLASSIFIER)
    for info in (model.graph.input[0], model.graph.output[0]):
        info.type.tensor_type.shape.dim[0].dim_value = -1
    config, file = saved(compile(model), tmp_path)
    check(config, file)
    assert config.max_batch_size == 8


def test_the_parameters_hold_the_metadata(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    labels = ['a "quoted" name', "back\\slash", "größe", "line\nbreak", "e"]
    compiled = compile(classifier, labels=labels)
    config, model = saved(compiled, tmp_path, "größe")
    assert config.name == "größe"
    (parameter,) = config.parameters
    (metadata,) = (p.value for p in model.metadata_props if p.key == COMPILED)
    assert (parameter.key, json.loads(parameter.value.string_value)) == (COMPILED, json.loads(metadata))
    assert json.loads(parameter.value.string_value)["labels"] == labels


def test_no_control_character_stands_in_the_text(classifier: onnx.ModelProto) -> None:
    name = "".join(map(chr, range(1, 160))) + "\u202e\u2028größe"
    text = compile(classifier).triton_config(name)
    assert all(c.isprintable() for c in text.replace("\n", ""))
    assert text_format.Parse(text, MODEL_CONFIG()).name == name


def test_types_are_those_of_triton_and_others_are_refused(classifier: onnx.ModelProto) -> None:
    assert {t.removeprefix("TYPE_") for t in TYPES.values()} == set(ENUM[1:])
    compiled = compile(classifier)
    odd = Interface((Tensor("x", "complex64", (1,)),), (), None, None, "m", "t", "r")
    with pytest.raises(CompileError, match="no element type for 'x'"):
        model_config("odd", odd, compiled.record)


def test_names_are_folders(classifier: onnx.ModelProto, tmp_path: Path) -> None:
    assert model_name("some model.v2.onnx", "grad-cam++") == "some-model-v2-grad-cam++"
    compiled = compile(classifier)
    for name in ("a/b", "..", ""):
        with pytest.raises(OptionError, match="cannot be a folder"):
            compiled.save_triton(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_repository_alone(classifier_file: Path, tmp_path: Path) -> None:
    done = onnxcam("compile", classifier_file, "--triton", "repository", "--method", "grad-cam++", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "repository" / "tiny-grad-cam++"
    assert files(tmp_path) == {
        "tiny.onnx",
        *(str(folder.relative_to(tmp_path) / n) for n in ("config.pbtxt", "1/model.onnx")),
    }
    config, model = read(folder)
    check(config, model)
    assert config.name == "tiny-grad-cam++"
    assert model.metadata_props.pop().key == "onnxcam:inputs_sha256"
    assert (
        model.SerializeToString()
        == onnx.load_from_string(compile(classifier_file, "grad-cam++").bytes).SerializeToString()
    )


def test_the_command_refuses_two_places(classifier_file: Path, tmp_path: Path) -> None:
    done = onnxcam("compile", classifier_file, "--triton", "repository", "-o", "x.onnx", cwd=tmp_path)
    assert done.returncode == 1
    assert "leave out -o" in done.stderr
    assert files(tmp_path) == {"tiny.onnx"}
