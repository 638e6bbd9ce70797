"""Constants that are put together from a few numbers are the same to the bit."""

import numpy as np
import numpy.typing as npt
import onnx_ir
import onnxruntime
import pytest
from small_models import CLASSIFIER, filled

from onnxcam.compiler.compact_constants import compact_constants, compacted
from onnxcam.compiler.compiled import compile
from onnxcam.resampling import bilinear_matrix
from onnxcam.surgeon.builder import Builder, empty_model, publish
from onnxcam.surgeon.ir import to_proto

OUTER = np.multiply.outer(np.repeat([1, 0.5], 56), np.repeat([0.25, 2], 56)).astype(np.float32)
BAND = np.asarray(abs(np.arange(256) - np.arange(256)[:, None]) <= 2, np.float32)
"""Sums over five neighbours, as in the gradient of LRN."""


def stored(table: npt.NDArray[np.generic]) -> tuple[int, npt.NDArray[np.generic]]:
    """(bytes of the file that holds this table as its constant, what a runtime reads there)."""
    model = empty_model("table")
    b = Builder(model, "onnxcam/x")
    publish(
        model,
        b("Identity", b.constant(table, table.dtype), name="y"),
        onnx_ir.DataType.from_numpy(table.dtype),
        table.shape,
    )
    compact_constants(model, b)
    file = to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return len(file), session.run(None, {})[0]


@pytest.mark.parametrize(
    "table",
    [
        bilinear_matrix(64, 512), bilinear_matrix(64, 512).T.copy(), bilinear_matrix(300, 900).astype(np.float64),
        OUTER[None, None], np.eye(96, dtype=np.float32), BAND[:, :, None, None], np.arange(250), np.arange(-900, 900).reshape(2, 3, -1),
    ],
    ids=["matrix", "transpose", "wide", "product", "identity", "band", "bytes", "whole"],
)  # fmt: skip
def test_a_table_of_few_numbers_is_stored_in_a_fifth(table: npt.NDArray[np.generic]) -> None:
    size, again = stored(table)
    assert size < table.nbytes / 5 if table.dtype != np.int64 else size < table.nbytes / 3.5
    assert again.dtype == table.dtype
    assert again.tobytes() == table.tobytes()


@pytest.mark.parametrize("odd", [0, np.inf, np.nan])
def test_other_tables_stay(odd: float) -> None:
    table = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    table[3, 4] = odd
    size, again = stored(table)
    assert size > table.nbytes
    np.testing.assert_array_equal(again, table)


def with_negative_zero(table: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    table = table.copy()
    table[table == 0] = -0.0
    return table


@pytest.mark.parametrize(
    "table",
    [
        with_negative_zero(BAND), with_negative_zero(np.eye(96, dtype=np.float32)), -np.eye(96, dtype=np.float32),
        np.abs(np.eye(96, dtype=np.float32)) * np.float32(-3) + 0,
        np.multiply.outer(np.repeat([1, -1], 56), np.repeat([0, 2], 56)).astype(np.float32) + np.float32(0),
        with_negative_zero(np.multiply.outer(np.repeat([1, 0], 56), np.repeat([0.25, 2], 56)).astype(np.float32)),
    ],
    ids=["band", "identity", "negative", "without", "product", "product of -0"],
)  # fmt: skip
def test_zero_keeps_its_sign(table: npt.NDArray[np.generic]) -> None:
    assert stored(table)[1].tobytes() == table.tobytes()


def test_a_table_of_negative_numbers_is_stored_in_a_fifth() -> None:
    table = np.where(np.eye(96) > 0, np.float32(-3), np.float32(0))
    size, again = stored(table)
    assert size < table.nbytes / 5
    assert again.tobytes() == table.tobytes()


def test_whole_numbers_beyond_int32_stay() -> None:
    table = np.arange(200) * 2**40
    size, again = stored(table)
    assert size > table.nbytes
    np.testing.assert_array_equal(again, table)


def test_equal_constants_are_stored_once_and_those_of_the_model_stay() -> None:
    model = empty_model("shared")
    added, of_model = Builder(model, "onnxcam/x"), Builder(model, "y")
    parts = [b.constant([3, 1, 4], np.int64) for b in (added, added, of_model, of_model)]
    publish(model, added("Concat", *parts, axis=0, name="all"), onnx_ir.DataType.INT64, [12])
    compacted(model)
    assert len(model.graph.initializers) == 3
    session = onnxruntime.InferenceSession(to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {})[0].tolist() == [3, 1, 4] * 4


@pytest.mark.parametrize("method", ["gradient", "integrated-gradients"])
def test_the_gradient_of_a_resize_holds_no_matrix(method: str) -> None:
    resized = CLASSIFIER.replace("Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x", "Conv (large").replace(
        "{\n",
        '{\n  four = Constant <value_floats=[1.0, 1.0, 10.0, 10.0]> ()\n  large = Resize <mode="linear"> (x, , four)\n',
        1,
    )
    model = filled(resized)
    assert len(compile(model, method).bytes) <= len(model.SerializeToString()) + 40 * 1024
