"""Every gradient rule, on the cases of cases_*.py: against finite differences, and in onnxruntime."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import onnx
import pytest
from cases_corners import BY_HAND
from cases_elementwise import CASES as ELEMENTWISE
from cases_foreign import CASES as FOREIGN
from cases_moving import CASES as MOVING
from cases_moving import DISPUTED
from cases_pooling import CASES as POOLING
from cases_products import CASES as PRODUCTS
from differentiated import Case, inner_product_error, runtime_error, runtime_slope_error

from onnxcam.surgeon.autodiff.rules.registry import VJP_RULES, ZERO_GRADIENT

CASES = {**ELEMENTWISE, **PRODUCTS, **POOLING, **MOVING, **FOREIGN}
LINEAR = frozenset(
    "Conv ConvTranspose AveragePool GlobalAveragePool ReduceMean ReduceSum Resize Pad Slice Gather DepthToSpace SpaceToDepth Tile Transpose Expand RoiAlign".split()
)
NOT_RUN = {
    "transposed-padding-as-long-as-a-stride": "onnxruntime refuses such an output_padding",
    "local-4": "onnxruntime takes odd sizes only",
    "celu": "the opset is newer than onnxruntime; as float in test_gradient_corners.py",
    "celu-alpha": "the opset is newer than onnxruntime",
    "space-to-depth-crd": "the opset is newer than onnxruntime",
}
SINGLE = 1e-4
"""Relative error of the gradient: float32 against float64 through a few operators."""


def each(cases: Mapping[str, Case]) -> list[Any]:
    return [pytest.param(case, id=name) for name, case in cases.items() if name not in NOT_RUN]


@pytest.mark.parametrize(
    ("case", "opset"),
    [pytest.param(case, opset, id=f"{name}-{opset}") for name, case in CASES.items() for opset in case.opsets()],
)
def test_a_rule_is_the_slope_transposed(case: Case, opset: int) -> None:
    assert inner_product_error(case.text(opset), case.draw(), check=case.check) <= case.tolerance


@pytest.mark.parametrize("case", each(CASES))
def test_onnxruntime_computes_the_same_gradient(case: Case) -> None:
    assert runtime_error(case) <= SINGLE


@pytest.mark.parametrize("case", each({n: c for n, c in CASES.items() if c.operators <= LINEAR} | DISPUTED))
def test_a_linear_rule_is_the_transpose_of_what_onnxruntime_computes(case: Case) -> None:
    assert runtime_slope_error(case) <= SINGLE


def test_every_rule_has_a_case() -> None:
    tested = {op for case in CASES.values() for op in case.operators} | BY_HAND
    untested = {op for op, _ in VJP_RULES} - tested
    assert untested == set(), f"add a case to CASES of tests/support/cases_*.py for {untested}"


def test_every_form_of_a_covered_operator_has_a_rule() -> None:
    newest = onnx.defs.onnx_opset_version()
    forms = {
        (op, onnx.defs.get_schema(op, opset).since_version)
        for op, _ in VJP_RULES for opset in range(18, newest + 1) if onnx.defs.has(op, opset, "")
    }  # fmt: skip
    missing = forms - set(VJP_RULES)
    assert missing == set(), f"add the version to since= of the rule in surgeon/autodiff/rules/: {missing}"


def test_the_extension_point_loads_the_table_so_that_a_later_rule_replaces_the_packages() -> None:
    script = """
from onnxcam.surgeon.autodiff.rules import gradient
from onnxcam.surgeon.autodiff.rules.registry import VJP_RULES
@gradient("Relu", since=(14,))
def relu(op, node, dy):
    return dy
import onnxcam.surgeon.autodiff.driver, onnxcam.explainer.explainer
assert VJP_RULES["Relu", 14].rule is relu
assert len(VJP_RULES) > 100
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_no_operator_has_both_a_rule_and_zero_gradient() -> None:
    assert {op for op, _ in VJP_RULES} & ZERO_GRADIENT == set()


@pytest.mark.parametrize("operator", sorted(ZERO_GRADIENT))
def test_the_list_of_zero_names_operators_that_exist(operator: str) -> None:
    assert onnx.defs.has(operator)
