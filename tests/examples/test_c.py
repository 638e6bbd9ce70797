"""ONNX Runtime's C API, called as a C program calls it: the calls of examples/cpp/explain_ort.cpp through ctypes.

The headers of ONNX Runtime come with its releases and not with the wheel, whose library is the same. OrtApi is a struct
of functions to which releases append, so that the place of a function never changes.
"""

import ctypes
from collections.abc import Mapping
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hosts import METHODS, TARGETS, host_case

PLACES = {
    "GetErrorMessage": 2, "CreateEnv": 3, "CreateSession": 7, "Run": 9, "CreateSessionOptions": 10,
    "CreateTensorWithDataAsOrtValue": 49, "GetTensorMutableData": 51, "GetDimensionsCount": 61, "GetDimensions": 62,
    "GetTensorTypeAndShape": 65, "CreateCpuMemoryInfo": 69, "ReleaseEnv": 92, "ReleaseStatus": 93,
    "ReleaseMemoryInfo": 94, "ReleaseSession": 95, "ReleaseValue": 96, "ReleaseTensorTypeAndShapeInfo": 99,
    "ReleaseSessionOptions": 100,
}  # fmt: skip
"""Where the functions stand in OrtApi, since its first version."""
ELEMENTS = {"float32": 1, "uint8": 2, "int64": 7}
"""Numbers of ONNXTensorElementDataType."""
ARENA, DEFAULT_MEMORY, WARNING = 1, 0, 2
NAMES = ("libonnxruntime.so.*", "libonnxruntime.*.dylib")


class OrtApiBase(ctypes.Structure):
    _fields_ = (
        ("GetApi", ctypes.CFUNCTYPE(c_void_p, c_uint32)),
        ("GetVersionString", ctypes.CFUNCTYPE(c_char_p)),
    )


@pytest.fixture(scope="module")
def base() -> OrtApiBase:
    folder = Path(onnxruntime.__file__).parent / "capi"
    (library,) = (path for name in NAMES for path in folder.glob(name))
    get = ctypes.CDLL(str(library)).OrtGetApiBase
    get.restype = POINTER(OrtApiBase)
    return get().contents


class Api:
    """The functions of OrtApi, by name; what returns a status raises its message."""

    def __init__(self, base: OrtApiBase, version: int) -> None:
        address = base.GetApi(version)
        assert address
        self._table = ctypes.cast(address, POINTER(c_void_p))

    def _call(self, name: str, result: object, *arguments: object) -> object:
        kinds = [type(a) if isinstance(a, ctypes._SimpleCData) else c_void_p for a in arguments]
        return ctypes.CFUNCTYPE(result, *kinds)(self._table[PLACES[name]])(*arguments)

    def release(self, kind: str, pointer: c_void_p) -> None:
        self._call(f"Release{kind}", None, pointer)

    def run(self, name: str, *arguments: object) -> None:
        status = self._call(name, c_void_p, *arguments)
        if status is not None:
            message = self._call("GetErrorMessage", c_char_p, c_void_p(status))
            self.release("Status", c_void_p(status))
            raise RuntimeError(message)

    def made(self, name: str, *arguments: object) -> c_void_p:
        """What a function creates, which it gives back through its last argument."""
        pointer = c_void_p()
        self.run(name, *arguments, byref(pointer))
        assert pointer.value is not None
        return pointer


def tensor(api: Api, memory: c_void_p, array: np.ndarray) -> c_void_p:
    shape = (c_int64 * array.ndim)(*array.shape)
    data, kind = c_void_p(array.ctypes.data), c_int(ELEMENTS[array.dtype.name])
    size, axes = c_size_t(array.nbytes), c_size_t(array.ndim)
    return api.made("CreateTensorWithDataAsOrtValue", memory, data, size, shape, axes, kind)


def array_of(api: Api, value: c_void_p, dtype: str) -> np.ndarray:
    """A copy of a tensor's numbers."""
    described, axes = api.made("GetTensorTypeAndShape", value), c_size_t()
    api.run("GetDimensionsCount", described, byref(axes))
    shape = (c_int64 * axes.value)()
    api.run("GetDimensions", described, shape, axes)
    api.release("TensorTypeAndShapeInfo", described)
    data = api.made("GetTensorMutableData", value)
    count = int(np.prod(list(shape)))
    buffer = (ctypes.c_char * (count * np.dtype(dtype).itemsize)).from_address(int(data.value or 0))
    return np.frombuffer(bytes(buffer), dtype).reshape(list(shape))


def explained(api: Api, path: Path, feeds: Mapping[str, np.ndarray], outputs: Mapping[str, str]) -> list[np.ndarray]:
    """One run of a file. outputs: the element type of each output."""
    environment = api.made("CreateEnv", c_int(WARNING), c_char_p(b"explain"))
    options = api.made("CreateSessionOptions")
    session = api.made("CreateSession", environment, c_char_p(str(path).encode()), options)
    memory = api.made("CreateCpuMemoryInfo", c_int(ARENA), c_int(DEFAULT_MEMORY))
    values = [tensor(api, memory, array) for array in feeds.values()]
    names, ends = ((c_char_p * len(each))(*(n.encode() for n in each)) for each in (feeds, outputs))
    results = (c_void_p * len(outputs))()
    given = (c_void_p * len(values))(*(v.value for v in values))
    counts = c_size_t(len(values)), c_size_t(len(outputs))
    api.run("Run", session, c_void_p(), names, given, counts[0], ends, counts[1], results)
    arrays = [array_of(api, c_void_p(v), dtype) for v, dtype in zip(results, outputs.values(), strict=True)]
    for value in (*values, *map(c_void_p, results)):
        api.release("Value", value)
    for kind, pointer in (
        ("MemoryInfo", memory),
        ("Session", session),
        ("SessionOptions", options),
        ("Env", environment),
    ):
        api.release(kind, pointer)
    return arrays


def version(base: OrtApiBase) -> int:
    """Of the API: the second number of the release."""
    return int(base.GetVersionString().split(b".")[1])


def test_the_library_is_the_wheel_s_and_gives_its_version_of_the_api(base: OrtApiBase) -> None:
    assert base.GetVersionString().decode() == onnxruntime.__version__
    assert base.GetApi(version(base))
    assert base.GetApi(version(base) + 1) is None, "a version that is not known yet"


@pytest.mark.parametrize("raw", [False, True], ids=["image", "picture"])
@pytest.mark.parametrize("method", METHODS)
def test_a_program_in_c_gets_the_product_s_map(method: str, raw: bool, base: OrtApiBase, tmp_path: Path) -> None:
    case = host_case(method, raw=raw)
    path = case.compiled.save(tmp_path / "model.explained.onnx")
    outputs = {"saliency_map": "float32", "saliency_target": "int64"}
    for number, target in enumerate(TARGETS):
        feeds = {**case.feeds, "target": np.array([target], np.int64)}
        saliency, classes = explained(Api(base, version(base)), path, feeds, outputs)
        case.check(number, saliency[0], int(classes[0]), 1e-5)


def test_an_error_of_the_runtime_is_its_message(base: OrtApiBase, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="doesn't exist"):
        explained(Api(base, version(base)), tmp_path / "absent.onnx", {}, {})
