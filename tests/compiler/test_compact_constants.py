"""Constants that are put together from a few numbers are the same to the bit."""

import numpy as np
import numpy.typing as npt
import onnx_ir
import onnxruntime
import pytest

from onnxcam.compiler.compact_constants import compact_constants
from onnxcam.resampling import bilinear_matrix
from onnxcam.surgeon.builder import Builder, empty_model, publish
from onnxcam.surgeon.ir import to_proto

OUTER = np.multiply.outer(np.repeat([1, 0.5], 56), np.repeat([0.25, 2], 56)).astype(np.float32)


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
        OUTER[None, None], np.eye(96, dtype=np.float32),
    ],
    ids=["matrix", "transpose", "wide", "product", "identity"],
)  # fmt: skip
def test_a_table_of_few_numbers_is_stored_in_a_fifth(table: npt.NDArray[np.generic]) -> None:
    size, again = stored(table)
    assert size < table.nbytes / 5
    assert again.dtype == table.dtype
    np.testing.assert_array_equal(again, table)


@pytest.mark.parametrize("odd", [0, np.inf, np.nan])
def test_other_tables_stay(odd: float) -> None:
    table = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    table[3, 4] = odd
    size, again = stored(table)
    assert size > table.nbytes
    np.testing.assert_array_equal(again, table)
