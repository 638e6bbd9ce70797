"""What the operators of the interpreter share: a node, and the tables that they fill."""

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
    """One operator: opset is of the model, attributes are plain Python values."""

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
        operator = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        return NotImplementedError(f"{operator} of opset {self.opset}{what and f' with {what}'} (node {self.name!r})")


Operator = Callable[..., Any]
OPERATORS: dict[str, tuple[Operator, tuple[int, ...]]] = {}
"""By op_type: the function of the node and its inputs, absent ones None, and which inputs it wants as host arrays."""
HOST: dict[str, Operator] = {}
"""The same for operands that are all on the host. NotImplemented leaves the node to OPERATORS."""


def operator(*op_types: str, host: tuple[int, ...] = ()) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(op_types, (function, host)))
        return function

    return register


def on_host(*op_types: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        HOST.update(dict.fromkeys(op_types, function))
        return function

    return register
