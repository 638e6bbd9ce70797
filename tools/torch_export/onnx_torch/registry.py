"""The node of a graph, and the tables of operators, which the files of operators fill."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
Value = Tensor | Array


@dataclass(frozen=True)
class Node:
    """One node. opset: the model's; attributes: plain Python values; dtype: the floating-point type to compute in."""

    op_type: str
    domain: str
    name: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    dtype: torch.dtype

    def get(self, attribute: str, default: Any = None) -> Any:
        return self.attributes.get(attribute, default)

    def unknown(self, what: str = "") -> NotImplementedError:
        """The error for an operator, or a form of one, that is not known."""
        operator = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        return NotImplementedError(f"{operator} of opset {self.opset}{what and f' with {what}'} (node {self.name!r})")


Operator = Callable[..., Any]
OPERATORS: dict[str, tuple[Operator, tuple[int, ...]]] = {}
"""By op_type: a function of the node and its inputs (None if absent), and the inputs that it takes as host arrays."""
HOST: dict[str, Operator] = {}
"""Functions for nodes whose inputs are all on the host. NotImplemented passes the node on to OPERATORS."""


def operator(*op_types: str, host: tuple[int, ...] = ()) -> Callable[[Operator], Operator]:
    """Registers a function in OPERATORS. host: the inputs that it takes as host arrays."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(op_types, (function, host)))
        return function

    return register


def on_host(*op_types: str) -> Callable[[Operator], Operator]:
    """Registers a function in HOST."""

    def register(function: Operator) -> Operator:
        HOST.update(dict.fromkeys(op_types, function))
        return function

    return register
